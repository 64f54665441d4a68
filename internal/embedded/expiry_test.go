package embedded

import (
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/directory/directorytest"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// The index against a plain map.
func TestExpiryIndex(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var x expiryIndex
		model := map[presence.Key]int64{}
		for step := range 2000 {
			k := key(fmt.Sprintf("u%d", rng.IntN(60)))
			switch rng.IntN(5) {
			case 0:
				x.set(k, noDue)
				delete(model, k)
			case 1:
				now := rng.Int64N(1000)
				got, due := x.pop(now)
				if want := earliest(model); due != (want <= now) || due && model[got] != want {
					t.Fatalf("seed %d, step %d: pop(%d) = %q (due %d), %t; the earliest is %d", seed, step, now, got.UserID, model[got], due, want)
				}
				delete(model, got)
			default:
				model[k] = rng.Int64N(1000)
				x.set(k, model[k])
			}
			if err := x.check(); err != nil {
				t.Fatalf("seed %d, step %d: %v", seed, step, err)
			}
			if x.next() != earliest(model) || len(x.heap) != len(model) {
				t.Fatalf("seed %d, step %d: next %d of %d, want %d of %d", seed, step, x.next(), len(x.heap), earliest(model), len(model))
			}
		}
	}
}

func earliest(model map[presence.Key]int64) int64 {
	due := int64(noDue)
	for _, d := range model {
		due = min(due, d)
	}
	return due
}

// steppedClock is a virtual clock whose wall time can be set.
type steppedClock struct {
	*clock.Manual
	step atomic.Int64 // nanoseconds
}

func (c *steppedClock) Now() time.Time { return c.Manual.Now().Add(time.Duration(c.step.Load())) }

// A step of the wall clock, or a machine that slept, is noticed within 30 s,
// and nothing expires before its time by that clock.
func TestExpiryAndClockSteps(t *testing.T) {
	c := &steppedClock{Manual: clock.NewManual(directorytest.Start)}
	b := newBed(t, Options{Clock: c})
	const day = 24 * time.Hour
	b.leave(b.login("alice", "d1", presence.Android), directory.LeaveTimeOut)
	c.step.Store(int64(-day))
	c.Advance(7 * day)
	b.mustBe("alice", "PushOnline")
	c.step.Store(int64(-time.Second))
	c.Advance(500 * time.Millisecond)
	b.mustBe("alice", "PushOnline")
	c.step.Store(int64(day))
	c.Advance(30 * time.Second)
	b.mustBe("alice", "Offline")
}

// The timer runs only while something can expire.
func TestNoTimerWithoutNeed(t *testing.T) {
	b := newBed(t, Options{Shards: 4})
	if b.expirer.wakeMS != noDue {
		t.Fatal("a timer runs from the start")
	}
	op := b.login("alice", "d1", presence.Android)
	if b.expirer.wakeMS != noDue {
		t.Fatal("a timer runs for an Online user")
	}
	b.leave(op, directory.LeaveTimeOut)
	if b.expirer.wakeMS == noDue {
		t.Fatal("no timer runs for a PushOnline user")
	}
	b.kick("alice")
	b.clock.Advance(7*24*time.Hour + time.Minute)
	if b.expirer.wakeMS != noDue || b.expirer.dueMS.Load() != noDue {
		t.Fatal("a timer runs for nobody")
	}
	// It starts again, for what is due before all that was known, too.
	b.leave(b.login("bob", "d1", presence.Android), directory.LeaveTimeOut)
	b.update(&directory.UpdateAppOp{SDKAppID: app, Mutate: func(a *directory.App) error { a.Timeouts.PushRetentionMS = 1000; return nil }})
	b.leave(b.login("carol", "d1", presence.Android), directory.LeaveTimeOut)
	b.clock.Advance(time.Second)
	b.mustBe("carol", "Offline")
	b.mustBe("bob", "PushOnline")
}

// Mass expiry is worked off in steps, each user once.
func TestMassExpiryInSteps(t *testing.T) {
	const users = 3000
	b := newBed(t, Options{Shards: 2, Step: 64, MaxPending: users})
	for i := range users {
		b.leave(b.login(fmt.Sprintf("u%d", i), "d1", presence.IPad), directory.LeaveTimeOut)
	}
	b.await("all are gone", func() bool { return b.pending() == 0 })
	b.clock.Advance(7*24*time.Hour + time.Second)
	b.await("all are expired", func() bool { return b.tallied(instancesPushOnline) == 0 && b.pending() == 0 })
	if n := b.counter("rollcall_push_expired_total"); n != users {
		t.Fatalf("%d expiries counted", n)
	}
	if n := b.counter(`rollcall_decisions_total{kind="expire",result="unchanged"}`); n != 0 {
		t.Fatalf("%d users were looked at in vain", n)
	}
}
