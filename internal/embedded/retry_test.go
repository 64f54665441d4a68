package embedded

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/directory/directorytest"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// fickleJournal fails commits while it is bad. It gets well by itself after so
// many that only an endless loop asks for them, so that a test of one ends.
type fickleJournal struct {
	bad     atomic.Bool
	commits atomic.Int64
	onFail  func() // nil = nothing
}

const endless = 20_000

func (j *fickleJournal) Commit(_ *Batch, done func(error)) {
	n := j.commits.Add(1)
	if !j.bad.Load() || n > endless {
		done(nil)
		return
	}
	if j.onFail != nil {
		j.onFail()
	}
	done(errDisk)
}

// pushOnline makes n users PushOnline and waits until their lanes are idle.
func (b *bed) pushOnline(n int) {
	b.Helper()
	for i := range n {
		b.leave(b.login(fmt.Sprintf("u%d", i), "d1", presence.Android), directory.LeaveLinkClosed)
	}
	b.awaitIdle()
	if got := b.tallied(instancesPushOnline); got != int64(n) {
		b.Fatalf("%d instances are PushOnline, want %d", got, n)
	}
}

func (b *bed) awaitIdle() {
	b.Helper()
	b.await("all lanes are idle", func() bool {
		for i := range b.lanes {
			if l := &b.lanes[i]; l.ready() || l.busy.Load() {
				return false
			}
		}
		return b.pending() == 0
	})
}

// While the journal fails, each grid point tries one step of those who are due;
// once it is well, the next one expires all.
func TestFailingJournalIsNotAskedWithoutEnd(t *testing.T) {
	const users, step = 50, 8
	j := &fickleJournal{}
	b := newBed(t, Options{Journal: j, Step: step, MaxPending: 100_000})
	b.pushOnline(users)
	j.bad.Store(true)
	b.clock.Advance(7*24*time.Hour - time.Minute)
	before := j.commits.Load()
	for tick := range int64(480) { // two minutes in grid steps: the users come due within
		b.clock.Advance(wakeGridMS * time.Millisecond)
		b.awaitIdle()
		if n := j.commits.Load() - before; n > tick+1 {
			t.Fatalf("after grid point %d: the journal was asked %d times", tick+1, n)
		}
	}
	if j.commits.Load() == before {
		t.Fatal("the journal was not asked at all")
	}
	if err := b.Check(); err != nil {
		t.Fatal(err)
	}
	j.bad.Store(false)
	b.clock.Advance(wakeGridMS * time.Millisecond)
	b.await("all are expired", func() bool { return b.tallied(instancesPushOnline) == 0 })
	if n := b.counter("rollcall_push_expired_total"); n != users {
		t.Fatalf("%d expiries counted", n)
	}
}

// hastyClock is, while it is hasty, one grid point on whenever it is looked at.
type hastyClock struct {
	steppedClock
	hasty atomic.Bool
}

func (c *hastyClock) Now() time.Time {
	if c.hasty.Load() {
		c.step.Add(int64(wakeGridMS * time.Millisecond))
	}
	return c.steppedClock.Now()
}

// On a machine so slow that a failure is over only after the next grid point, a
// lane always finds a due user whom it may try. Close ends that.
func TestCloseEndsExpiriesThatFail(t *testing.T) {
	c := &hastyClock{steppedClock: steppedClock{Manual: clock.NewManual(directorytest.Start)}}
	j := &fickleJournal{}
	b := newBed(t, Options{Journal: j, Clock: c, Step: 8, MaxPending: 100_000})
	b.pushOnline(50)
	ended := make(chan error, 1)
	var once sync.Once
	j.onFail = func() {
		once.Do(func() { go func() { ended <- b.Close() }() })
		for !b.closed.Load() {
			runtime.Gosched()
		}
	}
	j.bad.Store(true)
	c.Manual.Advance(7*24*time.Hour - time.Minute)
	before := j.commits.Load()
	c.hasty.Store(true)
	c.Manual.Advance(2 * time.Minute)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	b.awaitIdle()
	if n := j.commits.Load() - before; n == 0 || n > 2 { // the failed batch and the one that was open meanwhile
		t.Errorf("a closing directory asked the journal %d times", n)
	}
	if n := b.tallied(instancesPushOnline); n != 50 {
		t.Errorf("%d instances are PushOnline, want 50", n)
	}
}
