package embedded

import (
	"sync"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Journal makes batches durable.
//
// Commit must not block. It calls done exactly once, on any goroutine, possibly
// before it returns; a nil error means that all of the batch outlives a crash
// as far as the journal promises, any other that the directory forgets it. The
// batch and all that it refers to are the journal's until it calls done, and
// not to be written.
//
// A lane has one batch in flight: the next is handed over after the done of the
// last, and holds nothing that was built on a failed one. So the order of Commit
// calls about a user is the order of the decisions, and no entry follows a hole.
type Journal interface {
	Commit(b *Batch, done func(error))
}

// Batch is what becomes durable together: decisions of one lane in the order in
// which they were taken, or one app.
type Batch struct {
	// Lane is the lane of the users; -1 for an app.
	Lane int
	// Users are the states after each decision that changed something: one user
	// may occur several times, the last one is its state.
	Users []UserRecord
	// Transitions are the changes that led there, for an outbox.
	Transitions []presence.Transition
	// App is new settings of an app.
	App *directory.App

	// Owned by the lane.
	decisions []*decision
	lane      *lane
	err       error

	phase    atomic.Int32
	settleFn func(error) // settle, bound once so that handing over allocates nothing
}

// UserRecord is all that is kept about one user.
type UserRecord struct {
	Key  presence.Key
	User *presence.User
}

// The phases of a batch, which catch a journal that calls done twice.
const (
	phaseOpen = iota
	phaseInFlight
	phaseSettled
)

// keptCap is the most elements that a recycled slice keeps room for.
const keptCap = 1024

var batches = sync.Pool{New: func() any { return new(Batch) }}

func newBatch(l *lane) *Batch {
	b := batches.Get().(*Batch)
	if b.settleFn == nil {
		b.settleFn = b.settle
	}
	b.lane, b.Lane = l, l.id
	return b
}

// settle is the done of the batch.
func (b *Batch) settle(err error) {
	if !b.phase.CompareAndSwap(phaseInFlight, phaseSettled) {
		panic("embedded: a journal called done twice for one batch")
	}
	l := b.lane
	b.err = err
	l.returned.Store(true)
	l.run()
}

// dropDoomed removes what the doomed decisions would have written.
func (b *Batch) dropDoomed() {
	transitions := b.Transitions
	users := b.Users[:0]
	b.Transitions = make([]presence.Transition, 0, len(transitions))
	for _, dc := range b.decisions {
		if dc.doomed || !dc.changed {
			continue
		}
		users = append(users, UserRecord{dc.key, &dc.user})
		from := len(b.Transitions)
		b.Transitions = append(b.Transitions, transitions[dc.from:dc.to]...)
		dc.from, dc.to = from, len(b.Transitions)
	}
	clear(b.Users[len(users):])
	b.Users = users
}

// recycle gives the batch back.
func (b *Batch) recycle() {
	clear(b.Transitions)
	clear(b.Users)
	clear(b.decisions)
	b.Users, b.decisions, b.Transitions = b.Users[:0], b.decisions[:0], b.Transitions[:0]
	if cap(b.Transitions) > keptCap {
		b.Transitions = nil
	}
	if cap(b.Users) > keptCap {
		b.Users, b.decisions = nil, nil
	}
	b.lane, b.err = nil, nil
	b.phase.Store(phaseOpen)
	batches.Put(b)
}

// memory is the journal of a directory that forgets all at its end.
type memory struct{}

// Commit implements Journal.
func (memory) Commit(_ *Batch, done func(error)) { done(nil) }
