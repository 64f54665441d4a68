package enginetest

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// The permanent pool that gnet starts at import.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
		goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"))
}
