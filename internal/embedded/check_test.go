package embedded

import (
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Check finds what is planted.
func TestCheckCanFail(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{})
	b.leave(b.login("alice", "d1", presence.Android), directory.LeaveTimeOut)
	b.login("bob", "d1", presence.Android)
	b.opts.Journal = j
	b.login("carol", "d1", presence.Android)
	l := &b.lanes[0]
	if err := b.Check(); err != nil {
		t.Fatalf("with a batch in flight: %v", err)
	}
	for name, c := range map[string]struct {
		plant, undo func()
		want        string
	}{
		"tally":           {func() { l.tallyTotal[usersOnline].Add(1) }, func() { l.tallyTotal[usersOnline].Add(-1) }, "counted"},
		"expiry lost":     {func() { l.expiry.set(key("alice"), noDue) }, func() { l.restoreDue(key("alice")) }, "expires at"},
		"expiry wrong":    {func() { l.expiry.set(key("alice"), 5) }, func() { l.restoreDue(key("alice")) }, "expires at"},
		"expiry too much": {func() { l.expiry.set(key("bob"), 5) }, func() { l.restoreDue(key("bob")) }, "in the expiry index"},
		"expiry order":    {func() { l.expiry.slots[l.expiry.heap[0]].at = 1 }, func() { l.expiry.slots[l.expiry.heap[0]].at = 0 }, "its slot"},
		"orphan":          {func() { l.open = &Batch{} }, func() { l.open = nil }, "none is in flight"},
		"overlay":         {func() { l.overlay[key("dave")] = l.overlay[key("carol")] }, func() { delete(l.overlay, key("dave")) }, "pending state"},
		"pending":         {func() { l.pending.Add(-9) }, func() { l.pending.Add(9) }, "pend"},
	} {
		flight := l.flight
		if name == "orphan" {
			l.flight = nil
		}
		c.plant()
		if err := b.Check(); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
		c.undo()
		l.flight = flight
	}
	j.settle(t, nil)
}
