package embedded

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// busyJournal makes batches durable on goroutines of its own, out of order
// between lanes, and some of them not at all. It keeps what it made durable.
type busyJournal struct {
	failPercent int
	work        chan heldBatch
	workers     sync.WaitGroup

	mu      sync.Mutex
	states  map[presence.Key]presence.User
	changes map[presence.Key][]presence.Transition
	lanes   map[int]bool // those with a batch in flight
	faults  []string
}

func newBusyJournal(t testing.TB, failPercent int) *busyJournal {
	j := &busyJournal{
		failPercent: failPercent,
		work:        make(chan heldBatch, 1024),
		states:      map[presence.Key]presence.User{},
		changes:     map[presence.Key][]presence.Transition{},
		lanes:       map[int]bool{},
	}
	for i := range 3 {
		rng := rand.New(rand.NewPCG(1, uint64(i)))
		j.workers.Go(func() {
			for h := range j.work {
				h.done(j.write(h.batch, rng.IntN(100) < j.failPercent))
			}
		})
	}
	t.Cleanup(func() {
		close(j.work)
		j.workers.Wait()
		for _, f := range j.faults {
			t.Error(f)
		}
	})
	return j
}

func (j *busyJournal) Commit(b *Batch, done func(error)) {
	j.mu.Lock()
	if b.App == nil && j.lanes[b.Lane] {
		j.faults = append(j.faults, fmt.Sprintf("lane %d has two batches in flight", b.Lane))
	}
	j.lanes[b.Lane] = true
	j.mu.Unlock()
	j.work <- heldBatch{b, done}
}

func (j *busyJournal) write(b *Batch, fail bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lanes[b.Lane] = false
	if fail {
		return errDisk
	}
	for _, r := range b.Users {
		if was := j.states[r.Key]; r.User.Seq < was.Seq {
			j.faults = append(j.faults, fmt.Sprintf("%s: sequence %d is written after %d", r.Key.UserID, r.User.Seq, was.Seq))
		}
		j.states[r.Key] = r.User.Clone()
	}
	for _, t := range b.Transitions {
		j.changes[t.Key] = append(j.changes[t.Key], t)
	}
	return nil
}

// keptSink keeps all transitions by user.
type keptSink struct {
	mu      sync.Mutex
	changes map[presence.Key][]presence.Transition
}

func (s *keptSink) Transitions(ts []presence.Transition) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, t := range ts {
		s.changes[t.Key] = append(s.changes[t.Key], t)
	}
}

// Decision order is journal order: whatever many goroutines do, the journal
// gets each user's states in sequence order, its last state is that of the
// table, and its transitions are those that were told.
func TestDecisionOrderIsJournalOrder(t *testing.T) {
	for _, failPercent := range []int{0, 20} {
		t.Run(fmt.Sprintf("fail=%d%%", failPercent), func(t *testing.T) {
			const routines, each, users = 8, 400, 12
			j, sink := newBusyJournal(t, failPercent), &keptSink{changes: map[presence.Key][]presence.Transition{}}
			b := newBed(t, Options{Shards: 4, Journal: j, Sink: sink, Step: 8})
			var wg sync.WaitGroup
			var failed atomic.Int64
			for r := range routines {
				rng := rand.New(rand.NewPCG(2, uint64(r)))
				wg.Go(func() {
					for range each {
						failed.Add(int64(b.randomVisit(rng, users)))
					}
				})
			}
			wg.Wait()
			b.await("all is told", func() bool { return b.pending() == 0 })
			if (failed.Load() > 0) != (failPercent > 0) {
				t.Errorf("%d operations failed", failed.Load())
			}
			j.mu.Lock()
			defer j.mu.Unlock()
			for k, want := range j.states {
				var got presence.User
				if !b.table.Get(k, &got) || !reflect.DeepEqual(got, want) {
					t.Errorf("%s: the table has\n%+v, the journal\n%+v", k.UserID, got, want)
				}
			}
			if b.table.Len() != len(j.states) {
				t.Errorf("%d users in the table, %d in the journal", b.table.Len(), len(j.states))
			}
			if !reflect.DeepEqual(sink.changes, j.changes) {
				t.Error("the transitions told are not those in the journal")
			}
		})
	}
}

// randomVisit logs a random user in and does something about it, without
// waiting in between; it returns how many operations failed.
func (b *bed) randomVisit(rng *rand.Rand, users int) (failed int) {
	codes, issued := make(chan int, 2), 1
	count := func(code int) { codes <- code }
	user := fmt.Sprintf("u%d", rng.IntN(users))
	op := b.loginOp(user, fmt.Sprintf("d%d", rng.IntN(3)), presence.Platform(1+rng.IntN(presence.NumPlatforms)))
	op.Done = func(op *directory.LoginOp) { count(op.Code) }
	b.Login(op)
	switch rng.IntN(4) {
	case 0:
		l := b.leaveOp(op, directory.LeaveReason(1+rng.IntN(3)))
		l.Done = func(l *directory.LeaveOp) { count(l.Code) }
		issued++
		b.Leave(l)
	case 1:
		issued++
		b.Kick(&directory.KickOp{Key: key(user), NowMS: b.nowMS(), Done: func(k *directory.KickOp) { count(k.Code) }})
	case 2:
		issued++
		b.Accounts(&directory.AccountsOp{
			App: app, Action: directory.AccountsDelete, UserIDs: []string{user}, NowMS: b.nowMS(),
			Done: func(a *directory.AccountsOp) { count(a.Results[0]) },
		})
	}
	for range issued {
		select {
		case code := <-codes:
			if code == directory.CodeUnavailable {
				failed++
			}
		case <-time.After(15 * time.Second):
			b.Error("an operation was not answered")
			return failed
		}
	}
	return failed
}
