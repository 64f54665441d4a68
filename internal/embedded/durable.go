package embedded

import (
	"encoding/binary"
	"fmt"
	"sync"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/store"
)

// Events is the part that an outbox has in commits. Neither method may wait, nor
// keep anything of ts.
type Events interface {
	// Record writes what the outbox keeps of ts into the commit that makes them
	// durable, in the order of the commits. If that succeeds, Options.Sink is told
	// of ts.
	Record(w store.Writer, ts []presence.Transition)
	// Forget says that the commit failed: ts never happened. It may not have been
	// recorded either.
	Forget(ts []presence.Transition)
}

// durable is the Journal on a store. One batch of a lane is one submission: the
// store groups those of many lanes.
type durable struct {
	// Immutable after openDurable.
	store  *store.Store
	clock  clock.Clock
	events Events // nil = none
	// epoch counts the runs of the node. A link lives in one of them.
	epoch uint64
	// alive are the last signs of life of earlier runs, by epoch, Unix milliseconds.
	alive map[uint64]int64

	values sync.Pool // *[]byte, to encode into

	// Guarded by mu.
	mu      sync.Mutex
	stamper clock.Timer
	grace   clock.Timer
	stopped bool
}

// keyBoot holds the epoch of the last run; aliveKey, followed by an epoch, the last
// sign of life in it.
var keyBoot = []byte{store.PrefixMeta, 'b', 'o', 'o', 't'}

var alivePrefix = []byte{store.PrefixMeta, 'a', 'l', 'i', 'v', 'e', '/'}

func aliveKey(epoch uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte(nil), alivePrefix...), epoch)
}

// openDurable begins a run: its epoch is durable when it returns, unless the
// store takes no writes. Then the epoch goes out with the first sign of life.
func openDurable(s *store.Store, c clock.Clock, events Events) (*durable, error) {
	j := &durable{store: s, clock: c, events: events, alive: map[uint64]int64{}}
	j.values.New = func() any { return new([]byte) }
	boot, ok, err := s.Get(keyBoot)
	if err != nil {
		return nil, err
	}
	if ok {
		if j.epoch, err = readNumber(boot); err != nil {
			return nil, err
		}
	}
	j.epoch++
	lower, upper := store.Bounds(alivePrefix...)
	var bad error
	err = s.Scan(lower, upper, func(k, v []byte) bool {
		var ms uint64
		if ms, bad = readNumber(v); bad != nil || len(k) != len(alivePrefix)+8 {
			bad = fmt.Errorf("key %q: %w", k, errRecord)
			return false
		}
		j.alive[binary.BigEndian.Uint64(k[len(alivePrefix):])] = int64(ms)
		return true
	})
	if err != nil || bad != nil {
		return nil, fmt.Errorf("cannot read the last signs of life: %w", firstOf(err, bad))
	}
	done := make(chan error, 1)
	s.Commit(j.stamp(), func(err error) { done <- err })
	<-done // a store that is read-only has said so; the node serves what it can
	return j, nil
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func number(n uint64) []byte { return binary.BigEndian.AppendUint64(nil, n) }

func readNumber(v []byte) (uint64, error) {
	if len(v) != 8 {
		return 0, fmt.Errorf("number %q: %w", v, errRecord)
	}
	return binary.BigEndian.Uint64(v), nil
}

// Commit implements Journal.
func (j *durable) Commit(b *Batch, done func(error)) {
	if b.App != nil {
		value, err := encodeApp(b.App)
		if err != nil {
			done(err)
			return
		}
		j.store.Commit(func(w store.Writer) { w.Set(appKey(b.App.SDKAppID), value) }, done)
		return
	}
	if j.events == nil || len(b.Transitions) == 0 {
		j.store.Commit(func(w store.Writer) { j.write(w, b) }, done)
		return
	}
	j.store.Commit(func(w store.Writer) {
		j.write(w, b)
		j.events.Record(w, b.Transitions)
	}, func(err error) {
		if err != nil {
			j.events.Forget(b.Transitions)
		}
		done(err)
	})
}

// write writes a batch of a lane. Of a user who occurs more than once the last
// state is what stays.
func (j *durable) write(w store.Writer, b *Batch) {
	room := j.values.Get().(*[]byte)
	defer j.values.Put(room)
	for i := range b.Users {
		r := &b.Users[i]
		buf := userKey((*room)[:0], r.Key)
		n := len(buf)
		buf = appendRecord(buf, j.epoch, r.User)
		w.Set(buf[:n], buf[n:])
		*room = buf
	}
}

// stamp returns what writes that this run is alive now.
func (j *durable) stamp() func(store.Writer) {
	now := uint64(j.clock.Now().UnixMilli())
	return func(w store.Writer) {
		w.Set(keyBoot, number(j.epoch))
		w.Set(aliveKey(j.epoch), number(now))
	}
}

// forgetRuns removes the signs of life of the runs before this one: no instance
// refers to them any more.
func (j *durable) forgetRuns(w store.Writer) {
	for epoch := range j.alive {
		if epoch < j.epoch {
			w.Delete(aliveKey(epoch))
		}
	}
}

// lost is when an instance's link was last known to be alive, if a run before
// this one held it.
func (j *durable) lost(epoch uint64, in *presence.Instance) int64 {
	return max(in.LoginMS, j.alive[epoch])
}

// beat writes a sign of life now and every aliveEvery from then on.
func (j *durable) beat() {
	j.store.Commit(j.stamp(), func(error) {}) // one that fails is made up for by the next
	j.mu.Lock()
	defer j.mu.Unlock()
	if !j.stopped {
		j.stamper = j.clock.AfterFunc(aliveEvery, j.beat)
	}
}

func (j *durable) stop() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.stopped = true
	for _, t := range []clock.Timer{j.stamper, j.grace} {
		if t != nil {
			t.Stop()
		}
	}
}

func (j *durable) setGrace(t clock.Timer) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.grace = t; j.stopped {
		t.Stop()
	}
}
