//go:build !race

// The race detector makes pools forget at random.

package embedded

import (
	"runtime/debug"
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// A login and its end allocate one object, the device id as the table gives it
// back, whether or not a sink is told of their transitions; a query allocates nothing.
func TestAllocations(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // a collection empties the pools
	for name, c := range map[string]struct {
		sink directory.TransitionSink
		want float64
	}{"no sink": {nil, 1}, "sink": {discard{}, 1}} {
		b := newBed(t, Options{Sink: discard{}})
		b.opts.Sink = c.sink
		in := b.loginOp("alice", "d1", presence.Android)
		in.Done = func(*directory.LoginOp) {}
		out := b.leaveOp(in, directory.LeaveLogout)
		out.Done = nil
		got := testing.AllocsPerRun(1000, func() {
			b.Login(in)
			b.Leave(out)
		})
		if in.Code != presence.CodeOK || !out.Changed || got > c.want {
			t.Errorf("%s: a login and its end allocate %v objects, want at most %v (code %d, changed %t)", name, got, c.want, in.Code, out.Changed)
		}
	}
	b := newBed(t, Options{})
	b.login("alice", "d1", presence.Android)
	op := &directory.QueryOp{App: app, UserIDs: []string{"alice", "nobody", "alice"}, Detail: true, Done: func(*directory.QueryOp) {}}
	if got := testing.AllocsPerRun(1000, func() { b.Query(op) }); got != 0 {
		t.Errorf("a query allocates %v objects", got)
	}
}
