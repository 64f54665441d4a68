package webhook

import (
	"encoding/binary"
	"sync"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Writer takes the changes of one commit. It copies what it is given.
type Writer interface {
	Set(key, value []byte)
	Delete(key []byte)
}

// Storage is the ordered map on disk that a Durable outbox and a log of events
// live in. Keys that begin with 'o', 'd' and 'e' are theirs. Safe for concurrent use.
type Storage interface {
	// Commit makes the changes that write makes durable, all or none, and then
	// calls done once, on any goroutine, possibly before it returns. It does not
	// wait for the disk. Commits take effect in the order of the calls.
	Commit(write func(Writer), done func(error))
	// Scan visits what lower <= key < upper holds in order of the keys, as it is
	// now, until visit returns false. Key and value are valid during the visit.
	Scan(lower, upper []byte, visit func(key, value []byte) bool) error
}

// The kinds of keys.
//
//	o app(4) len(1) UserID seq(8)   an event that waits, or is a dead letter
//	d app(4) id(8)                  a dead letter: what the o key holds, and why
//	e 0 app(4)                      where the log of an app ends
//	e 1 app(4) position(8)          an event of the log
const (
	kindOutbox byte = 'o'
	kindDead   byte = 'd'
	kindLog    byte = 'e'

	logEnd, logEntry byte = 0, 1
)

func outboxKey(k presence.Key, seq uint64) []byte {
	b := make([]byte, 0, 14+len(k.UserID))
	b = append(b, kindOutbox)
	b = binary.BigEndian.AppendUint32(b, k.App)
	b = append(b, byte(len(k.UserID)))
	b = append(b, k.UserID...)
	return binary.BigEndian.AppendUint64(b, seq)
}

func deadKey(app uint32, id uint64) []byte {
	b := binary.BigEndian.AppendUint32([]byte{kindDead}, app)
	return binary.BigEndian.AppendUint64(b, id)
}

// after is the smallest key above key.
func after(key []byte) []byte { return append(key[:len(key):len(key)], 0) }

// retryCommit is how long what could not be committed waits for its next try.
const retryCommit = time.Second

// keeper has the store follow the lanes. What it is told under the outbox's lock
// goes to the store in that order, in one commit at a time: while one is under
// way, the next is filled. Nobody waits for it: what is lost with the process is
// a settlement, so an event comes again, with the same id. A commit that fails
// is made again: the number of its changes is bounded by that of the events and
// dead letters there are. Methods of a nil keeper do nothing.
type keeper struct {
	// Immutable.
	outbox  *Memory
	storage Storage
	clock   clock.Clock

	// Guarded by outbox.mu.
	changes  []change
	busy     bool // a commit is under way
	inCommit bool // the goroutine that makes it will look again
	failures uint64
	retry    clock.Timer
	closed   bool
	idle     sync.Cond // signalled when a commit has ended; on outbox.mu
}

// change is a Set, or with a nil value a Delete.
type change struct{ key, value []byte }

func (k *keeper) dirty() bool { return k != nil && !k.busy && len(k.changes) > 0 }

func (k *keeper) put(key, value []byte) {
	if k != nil {
		k.changes = append(k.changes, change{key, value})
	}
}

func (k *keeper) putEvent(e *Event) {
	if k != nil {
		k.put(outboxKey(e.Key, e.Seq), appendEvent(nil, e))
	}
}

func (k *keeper) dropEvent(e *Event) {
	if k != nil {
		k.put(outboxKey(e.Key, e.Seq), nil)
	}
}

func (k *keeper) addLetter(l *DeadLetter) {
	if k != nil {
		k.put(deadKey(l.Event.Key.App, l.ID), appendLetter(nil, l))
	}
}

func (k *keeper) dropLetter(l *DeadLetter) {
	if k != nil {
		k.put(deadKey(l.Event.Key.App, l.ID), nil)
	}
}

// flush hands the changes to the store until there are none or a commit is
// under way, whose end calls it again.
func (k *keeper) flush() {
	for {
		changes := k.begin()
		if changes == nil {
			return
		}
		k.storage.Commit(func(w Writer) { writeAll(w, changes) }, func(err error) { k.settle(changes, err) })
		k.outbox.mu.Lock()
		k.inCommit = false
		k.idle.Broadcast()
		k.outbox.mu.Unlock()
	}
}

func (k *keeper) begin() []change {
	k.outbox.mu.Lock()
	defer k.outbox.mu.Unlock()
	if !k.dirty() || k.inCommit || k.retry != nil || k.closed {
		return nil
	}
	changes := k.changes
	k.changes, k.busy, k.inCommit = nil, true, true
	return changes
}

func writeAll(w Writer, changes []change) {
	for _, c := range changes {
		if c.value == nil {
			w.Delete(c.key)
		} else {
			w.Set(c.key, c.value)
		}
	}
}

// settle ends a commit.
func (k *keeper) settle(changes []change, err error) {
	k.outbox.mu.Lock()
	k.busy = false
	if err != nil {
		k.failures++
		k.changes = append(changes, k.changes...)
		if !k.closed {
			k.retry = k.clock.AfterFunc(retryCommit, k.again)
		}
	}
	idle := !k.inCommit
	k.idle.Broadcast()
	k.outbox.mu.Unlock()
	if err == nil && idle {
		k.flush()
	}
}

func (k *keeper) again() {
	k.outbox.mu.Lock()
	k.retry = nil
	k.outbox.mu.Unlock()
	k.flush()
}

// close waits until all is written, but no longer than limit and not for a
// store that refuses it. The store is not called any more when it returns,
// unless limit is over.
func (k *keeper) close(limit time.Duration) {
	late := false
	timer := time.AfterFunc(limit, func() {
		k.outbox.mu.Lock()
		defer k.outbox.mu.Unlock()
		late = true
		k.idle.Broadcast()
	})
	defer timer.Stop()
	k.outbox.mu.Lock()
	defer k.outbox.mu.Unlock()
	for !late && (k.busy || k.inCommit || len(k.changes) > 0 && k.retry == nil) {
		k.idle.Wait()
	}
	k.closed = true
	if k.retry != nil {
		k.retry.Stop()
	}
}
