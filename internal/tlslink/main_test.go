package tlslink

import (
	"testing"

	"go.uber.org/goleak"
)

var raceEnabled bool

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
