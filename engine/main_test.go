package engine

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(filesEnv) != "" {
		os.Exit(serveWithFewFiles())
	}
	goleak.VerifyTestMain(m, leakOptions...)
}
