package embedded

import (
	"fmt"
	"runtime"

	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/shard"
)

// Check proves that the directory is consistent: the table with itself, tally
// and expiry index with the table, and that nothing pends where nothing is
// queued or in flight. It stops all lanes meanwhile: it is for tests and for
// operators in need. Not to be called from a Done, nor twice at once.
func (d *Directory) Check() error {
	for i := range d.lanes {
		for !d.lanes[i].busy.CompareAndSwap(false, true) {
			runtime.Gosched()
		}
	}
	defer func() {
		for i := range d.lanes {
			d.lanes[i].busy.Store(false)
			d.lanes[i].run()
		}
	}()
	if err := d.table.Check(); err != nil {
		return err
	}
	for i := range d.lanes {
		if err := d.lanes[i].check(); err != nil {
			return fmt.Errorf("lane %d: %w", i, err)
		}
	}
	if n, want := d.countFollowing(), d.following.Load(); n != want {
		return fmt.Errorf("%d links follow users, %d are counted", n, want)
	}
	return d.checkUsers()
}

// countFollowing counts anew who follows whom.
func (d *Directory) countFollowing() (n int64) {
	for i := range d.lanes {
		for _, all := range d.lanes[i].followers {
			n += int64(len(all))
		}
	}
	return n
}

// check proves what can be seen without the table.
func (l *lane) check() error {
	if err := l.expiry.check(); err != nil {
		return err
	}
	if l.open != nil && l.flight == nil {
		return fmt.Errorf("%d decisions wait for the landing of a batch, and none is in flight", len(l.open.decisions))
	}
	if l.flight == nil && len(l.overlay) > 0 {
		return fmt.Errorf("%d users are pending though no batch is", len(l.overlay))
	}
	if n := l.pending.Load(); n < 0 {
		return fmt.Errorf("%d decisions pend", n)
	}
	for k, dc := range l.overlay {
		if dc.key != k || !dc.changed || dc.doomed {
			return fmt.Errorf("user %q: its pending state is that of user %q (changed %t, doomed %t)", k.UserID, dc.key.UserID, dc.changed, dc.doomed)
		}
	}
	return nil
}

func (l *lane) atRest() bool {
	return l.flight == nil && l.open == nil && l.queue == nil && l.pushed.Load() == nil
}

// checkUsers compares tally and expiry index of each lane with the table.
func (d *Directory) checkUsers() (err error) {
	tallies, due := make([]tally, len(d.lanes)), make([]map[uint32]dueTag, len(d.lanes))
	var c shard.Cursor
	for done := false; !done && err == nil; {
		c, done = d.table.Scan(c, sweepStep, func(k presence.Key, u *presence.User) {
			l := d.laneOf(k)
			t := tallyOf(u)
			for i := range t {
				tallies[l.id][i] += t[i]
			}
			if at := earliestDue(u); at != noDue {
				if due[l.id] == nil {
					due[l.id] = map[uint32]dueTag{}
				}
				tag := d.table.TagOf(k)
				was := due[l.id][tag]
				if was.n == 0 || at < was.dueMS {
					was.dueMS = at
				}
				due[l.id][tag] = dueTag{was.n + 1, was.dueMS, was.pending || l.overlay[k] != nil}
			}
		})
	}
	for i := range d.lanes {
		if err != nil {
			return err
		}
		err = d.lanes[i].checkTotals(tallies[i], due[i])
	}
	return err
}

// dueTag is what the table says of a tag whose users expire.
type dueTag struct {
	n       uint32
	dueMS   int64
	pending bool // a decision on one of them is under way
}

func (l *lane) checkTotals(t tally, due map[uint32]dueTag) error {
	if got := l.tallyTotal.load(); got != t {
		return fmt.Errorf("lane %d: counted %v, the table has %v", l.id, got, t)
	}
	for tag, want := range due {
		s := l.expiry.tags.find(tag)
		switch {
		case s == nil || s.n != want.n:
			return fmt.Errorf("lane %d: %d users of tag %#x expire at %d, which the expiry index does not know (%+v)", l.id, want.n, tag, want.dueMS, s)
		case s.unit > unitOf(want.dueMS) && !want.pending:
			return fmt.Errorf("lane %d: a user of tag %#x expires at %d, the expiry index has it at %d", l.id, tag, want.dueMS, unitMS(s.unit))
		}
	}
	if got := l.expiry.tags.n; got != len(due) {
		return fmt.Errorf("lane %d: %d tags in the expiry index, %d in the table expire", l.id, got, len(due))
	}
	return nil
}
