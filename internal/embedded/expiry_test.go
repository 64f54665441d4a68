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

// The index against a plain map of users, of whom many share a tag.
func TestExpiryIndex(t *testing.T) {
	for seed := range uint64(12) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var x expiryIndex
		users := 20 + rng.IntN(2000)
		tags := 1 + rng.IntN(users)
		tag := func(user int) uint32 { return uint32(user%tags) * 0x9e3779b1 }
		due := map[int]int64{} // by user
		now := int64(expiryBaseMS)
		for step := range 4000 {
			user, at := rng.IntN(users), now+rng.Int64N(100_000)
			_, had := due[user]
			switch {
			case rng.IntN(6) == 0:
				now += rng.Int64N(2000)
				popDue(t, &x, now, due, tag, users)
			case step/500%2 == 1 || rng.IntN(3) == 0: // every other while the users go
				x.change(tag(user), had, noDue)
				delete(due, user)
			default:
				x.change(tag(user), had, at)
				due[user] = at
			}
			if step%50 == 0 {
				checkIndex(t, &x, due, tag)
			}
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
		for user := range users {
			_, had := due[user]
			x.change(tag(user), had, noDue)
		}
		if len(x.heap) > 2*staleMost || x.tags.slots != nil || cap(x.heap) > 16*staleMost {
			t.Errorf("seed %d: an empty index holds %d entries with room for %d, %d slots", seed, len(x.heap), cap(x.heap), len(x.tags.slots))
		}
	}
}

// popDue takes out all that is due; each user must come up in time, and none before.
func popDue(t *testing.T, x *expiryIndex, now int64, due map[int]int64, tag func(int) uint32, users int) {
	t.Helper()
	for {
		got, ok := x.pop(now)
		if !ok {
			break
		}
		for user := range users {
			at, has := due[user]
			switch {
			case !has || tag(user) != got:
			case at <= now:
				x.change(got, true, noDue)
				delete(due, user)
			default:
				x.queue(got, at)
			}
		}
	}
	for user, at := range due {
		if unitMS(unitOf(at)) <= now {
			t.Errorf("user %d, due at %d, did not come up at %d", user, at, now)
		}
	}
}

// checkIndex proves the index sound, and that it says when to look next.
func checkIndex(t *testing.T, x *expiryIndex, due map[int]int64, tag func(int) uint32) {
	t.Helper()
	if err := x.check(); err != nil {
		t.Error(err)
	}
	earliest, tags := int64(noDue), map[uint32]bool{}
	for user, at := range due {
		earliest = min(earliest, unitMS(unitOf(at)))
		tags[tag(user)] = true
	}
	if got := x.next(); got > earliest || (got == noDue) != (earliest == noDue) {
		t.Errorf("next %d, the earliest user is due at %d", got, earliest)
	}
	if x.tags.n != len(tags) || len(x.heap) > 2*len(tags)+staleMost || len(x.tags.slots) > 16*max(len(tags), 1) {
		t.Errorf("%d tags, want %d; %d entries, %d slots", x.tags.n, len(tags), len(x.heap), len(x.tags.slots))
	}
}

func TestExpiryUnits(t *testing.T) {
	for ms, want := range map[int64]int64{
		expiryBaseMS: expiryBaseMS, expiryBaseMS + 1: expiryBaseMS + 250, expiryBaseMS + 250: expiryBaseMS + 250,
		0: expiryBaseMS, -1 << 60: expiryBaseMS, 1 << 60: unitMS(notQueued - 1),
	} {
		if got := unitMS(unitOf(ms)); got != want {
			t.Errorf("%d comes up at %d, want %d", ms, got, want)
		}
	}
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
