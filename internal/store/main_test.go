package store

import (
	"testing"

	"go.uber.org/goleak"
)

// An Open of Pebble's that fails leaves one goroutine of its compaction scheduler
// behind. The store tries again rarely enough.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/cockroachdb/pebble/v2.(*ConcurrencyLimitScheduler).periodicGranter"))
}
