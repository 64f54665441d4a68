package webhook

import (
	"context"
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// An app without a webhook URL pays for none: nothing is rendered, nothing allocated.
func TestNobodyListensCostsNothing(t *testing.T) {
	app := directory.NewApp(1400000000)
	d, err := New(Options{App: func(uint32) *directory.App { return app }})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close(context.Background()) })
	ts := []presence.Transition{{Key: presence.Key{App: app.SDKAppID, UserID: "alice"}, Seq: 1, EventSeq: 1, Action: presence.ActionLogin}}
	if n := testing.AllocsPerRun(1000, func() { d.Transitions(ts) }); n != 0 {
		t.Fatalf("%v allocations for a transition that nobody is told of", n)
	}
	if n := d.o.Outbox.Stats().Events; n != 0 {
		t.Fatalf("%d events wait", n)
	}
}
