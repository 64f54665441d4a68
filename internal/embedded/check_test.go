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
	alice, due := b.table.TagOf(key("alice")), b.nowMS()+7*24*3600*1000
	var heap []uint64
	if err := b.Check(); err != nil {
		t.Fatalf("with a batch in flight: %v", err)
	}
	for name, c := range map[string]struct {
		plant, undo func()
		want        string
	}{
		"tally":           {func() { l.tallyTotal[usersOnline].Add(1) }, func() { l.tallyTotal[usersOnline].Add(-1) }, "counted"},
		"expiry lost":     {func() { l.expiry.change(alice, true, noDue) }, func() { l.expiry.change(alice, false, due) }, "does not know"},
		"expiry late":     {func() { l.expiry.change(alice, true, due+5000) }, func() { l.expiry.change(alice, true, due) }, "the expiry index has it at"},
		"expiry twice":    {func() { l.expiry.change(alice, false, due) }, func() { l.expiry.change(alice, true, noDue) }, "does not know"},
		"expiry too much": {func() { l.expiry.change(alice+1, false, due) }, func() { l.expiry.change(alice+1, true, noDue) }, "tags in the expiry index"},
		"expiry order":    {func() { l.expiry.heap = append(l.expiry.heap, 0) }, func() { l.expiry.heap = l.expiry.heap[:len(l.expiry.heap)-1] }, "stands below"},
		"expiry unqueued": {func() { heap, l.expiry.heap = l.expiry.heap, nil }, func() { l.expiry.heap = heap }, "not in order"},
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
