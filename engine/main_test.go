package engine

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if os.Getenv(filesEnv) != "" {
		os.Exit(serveWithFewFiles())
	}
	if kind := os.Getenv(limitServerEnv); kind != "" {
		if err := serveLimit(kind); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m, leakOptions...)
}
