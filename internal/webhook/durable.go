package webhook

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Durable is an outbox that a crash leaves what it was. An event is written by
// the commit of the decision that caused it (Record), and becomes visible by
// Append when that commit has taken effect. What settles an event is written
// soon after: a crash in between repeats it, with its id.
//
// The lanes are in memory, 190 to 370 bytes an event (BenchmarkBacklog); so are the bodies, up to
// MaxBytes: of a larger backlog they stay in the store, and are read when their
// lane's turn comes. How often an event was tried is not kept: a restart tries all at once.
type Durable struct {
	*Memory

	// Atomic.
	unreadable atomic.Uint64 // bodies that the store could not give
}

// NewDurable returns the outbox that storage holds. It fails if that cannot be read.
func NewDurable(o MemoryOptions, storage Storage, c clock.Clock) (*Durable, error) {
	m, err := NewMemory(o)
	if err != nil {
		return nil, err
	}
	m.keep = &keeper{outbox: m, storage: storage, clock: c, idle: sync.Cond{L: &m.mu}}
	d := &Durable{Memory: m}
	if err := d.load(c.Now().UnixMilli()); err != nil {
		return nil, err
	}
	m.keep.flush() // what gave way because the bounds are smaller now
	return d, nil
}

// Record writes events, which Append will get unless the commit of w fails.
func (d *Durable) Record(w Writer, events []Event) {
	var value []byte
	for i := range events {
		value = appendEvent(value[:0], &events[i])
		w.Set(outboxKey(events[i].Key, events[i].Seq), value)
	}
}

// eventName names an event within the store.
type eventName struct {
	key presence.Key
	seq uint64
}

// load fills the lanes with what an earlier life left behind.
func (d *Durable) load(nowMS int64) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	letters, err := d.loadLetters()
	if err != nil {
		return err
	}
	var ages []loaded
	var fault error
	err = d.keep.storage.Scan([]byte{kindOutbox}, []byte{kindOutbox + 1}, func(key, value []byte) bool {
		var e Event
		if e, fault = decodeEvent(value); fault != nil || !slices.Equal(key, outboxKey(e.Key, e.Seq)) {
			fault = cmp.Or(fault, fmt.Errorf("%w: key %x holds event %d of %q", ErrCorrupt, key, e.Seq, e.Key.UserID))
			return false
		}
		if l := letters[eventName{e.Key, e.Seq}]; l != nil {
			e.Body = nil
			l.Event = e
			return true
		}
		ages = append(ages, d.loadEventLocked(&e))
		return true
	})
	if err = cmp.Or(err, fault); err != nil {
		return fmt.Errorf("cannot read the webhook outbox: %w", err)
	}
	d.sortByAgeLocked(ages)
	d.loadDeadLocked(letters)
	d.shrinkLocked(nowMS)
	return nil
}

func (d *Durable) loadLetters() (map[eventName]*DeadLetter, error) {
	letters := make(map[eventName]*DeadLetter)
	var fault error
	err := d.keep.storage.Scan([]byte{kindDead}, []byte{kindDead + 1}, func(key, value []byte) bool {
		var l DeadLetter
		if l, fault = decodeLetter(key, value); fault == nil {
			letters[eventName{l.Event.Key, l.Event.Seq}] = &l
		}
		return fault == nil
	})
	if err = cmp.Or(err, fault); err != nil {
		return nil, fmt.Errorf("cannot read the webhook dead letters: %w", err)
	}
	return letters, nil
}

// loaded is an event with the age that it has in its app's list. A clock that
// was set back must not turn a lane's order round.
type loaded struct {
	n     *node
	ageMS int64
}

func (d *Durable) loadEventLocked(e *Event) loaded {
	l := d.laneLocked(e.Key)
	d.pushLocked(l, e)
	return loaded{l.tail, e.QueuedMS}
}

// sortByAgeLocked puts the lists of the apps into the order of age.
func (d *Durable) sortByAgeLocked(all []loaded) {
	for i := 1; i < len(all); i++ {
		if all[i].n.lane == all[i-1].n.lane {
			all[i].ageMS = max(all[i].ageMS, all[i-1].ageMS)
		}
	}
	slices.SortStableFunc(all, func(a, b loaded) int { return cmp.Compare(a.ageMS, b.ageMS) })
	for _, a := range all {
		queue := a.n.lane.app
		queue.unlink(a.n)
		queue.link(a.n)
	}
}

// loadDeadLocked lists the dead letters. One whose event is gone is forgotten.
func (d *Durable) loadDeadLocked(letters map[eventName]*DeadLetter) {
	for _, l := range letters {
		d.dead.lastID = max(d.dead.lastID, l.ID)
		if l.Event.Epoch == 0 {
			d.keep.dropLetter(l)
			continue
		}
		d.dead.list = append(d.dead.list, l)
	}
	slices.SortFunc(d.dead.list, func(a, b *DeadLetter) int { return cmp.Compare(a.ID, b.ID) })
	for len(d.dead.list) > d.o.MaxDeadLetters {
		l := d.dead.list[0]
		d.dead.list = d.dead.list[1:]
		d.dead.lost++
		d.keep.dropLetter(l)
		d.keep.dropEvent(&l.Event)
	}
}

// shrinkLocked makes what is loaded fit bounds that are smaller now.
func (d *Durable) shrinkLocked(nowMS int64) {
	var shed Shed
	for d.count > d.o.MaxEvents && d.o.Full != FullBlock {
		var home appQueue // nobody's
		d.giveWayLocked(d.largestLocked(&home), nowMS, &shed)
	}
	d.full = d.count >= d.o.MaxEvents
}

// Claim implements Outbox. A body that the store cannot give makes its lane wait.
func (d *Durable) Claim(app uint32, nowMS int64, max int) (batch []Event, more bool) {
	batch, more = d.Memory.Claim(app, nowMS, max)
	if err := d.fill(batch); err != nil {
		d.unreadable.Add(1)
		d.Memory.Nack(batch, nowMS+retryCommit.Milliseconds())
		return nil, false
	}
	return batch, more
}

// fill reads the bodies that are in the store only.
func (d *Durable) fill(batch []Event) (err error) {
	for i := range batch {
		if batch[i].Body == nil {
			if batch[i].Body, err = d.body(&batch[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *Durable) body(e *Event) (body []byte, err error) {
	key, found := outboxKey(e.Key, e.Seq), false
	scanErr := d.keep.storage.Scan(key, after(key), func(_, value []byte) bool {
		var stored Event
		stored, err = decodeEvent(value)
		body, found = stored.Body, true
		return false
	})
	switch {
	case scanErr != nil:
		return nil, scanErr
	case err == nil && !found:
		return nil, fmt.Errorf("%w: event %d of %q is not there", ErrCorrupt, e.Seq, e.Key.UserID)
	}
	return body, err
}

// DeadLetters implements Outbox. One whose body cannot be read has none.
func (d *Durable) DeadLetters(app uint32, before uint64, max int) []DeadLetter {
	letters := d.Memory.DeadLetters(app, before, max)
	for i := range letters {
		var err error
		if letters[i].Event.Body, err = d.body(&letters[i].Event); err != nil {
			d.unreadable.Add(1)
		}
	}
	return letters
}

// Replay implements Outbox.
func (d *Durable) Replay(app uint32, ids []uint64, max int, nowMS int64) (n int, err error) {
	d.mu.Lock()
	letters := slices.Clone(d.dead.pick(app, ids, max))
	d.mu.Unlock()
	for _, l := range letters {
		body, err := d.body(&l.Event)
		if err != nil {
			return n, fmt.Errorf("cannot replay dead letter %d: %w", l.ID, err)
		}
		replayed, err := d.replay(l, body, nowMS)
		if err != nil {
			return n, err
		}
		n += replayed
	}
	return n, nil
}

// replay moves l back to its lane, unless another call took it meanwhile.
func (d *Durable) replay(l *DeadLetter, body []byte, nowMS int64) (int, error) {
	d.mu.Lock()
	defer d.unlock()
	if _, found := d.dead.find(l.ID); !found {
		return 0, nil
	}
	if !d.replayLocked(l, body, nowMS) {
		return 0, ErrFull
	}
	return 1, nil
}

// Stats implements Outbox.
func (d *Durable) Stats() OutboxStats {
	s := d.Memory.Stats()
	d.mu.Lock()
	defer d.mu.Unlock()
	s.StoreFailures = d.keep.failures + d.unreadable.Load()
	return s
}

// Close waits for at most limit until what was settled is written. The store can
// be closed then.
func (d *Durable) Close(limit time.Duration) { d.keep.close(limit) }
