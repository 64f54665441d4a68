package webhook

import (
	"sync"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// recorded is the events that are part of a commit under way. There are no more
// than the commits hold.
type recorded struct {
	// Atomic.
	count atomic.Int64

	// Guarded by mu.
	mu sync.Mutex
	m  map[presence.Key][]recordedEvent
}

// recordedEvent is an event with its position in the log of its app, 0 if it is
// not logged. One that is not to be sent is only logged.
type recordedEvent struct {
	event    Event
	position uint64
	send     bool
}

// Record writes the events among ts to w: it is called for each commit of
// decisions, with its transitions, in the order of the commits. When the commit
// has taken effect, Transitions must be called with them; when it has failed,
// Forget. It waits for nothing. With an outbox that is not Durable it does nothing.
func (d *Dispatcher) Record(w Writer, ts []presence.Transition) {
	if d.durable == nil {
		return
	}
	var all []recordedEvent
	var nowMS int64
	for i := range ts {
		settings := d.wanted(&ts[i])
		if settings == nil {
			continue
		}
		if nowMS == 0 {
			nowMS = d.nowMS()
		}
		r := recordedEvent{event: newEvent(&ts[i], d.o.Epoch, nowMS), send: settings.URL != ""}
		r.event.Newest = settings.Coalesce
		if r.send {
			d.durable.Record(w, []Event{r.event})
		} else {
			d.meters.count(resultNoURL, 1)
		}
		all = append(all, r)
	}
	if len(all) > 0 {
		d.log.record(w, all)
		d.recorded.add(all)
	}
}

// Forget takes back what Record was told of a commit that failed.
func (d *Dispatcher) Forget(ts []presence.Transition) {
	for _, r := range d.recorded.take(ts) {
		d.log.reveal(&r)
	}
}

// reveal returns the events among ts that Record has written.
func (d *Dispatcher) reveal(ts []presence.Transition) []Event {
	var events []Event
	for _, r := range d.recorded.take(ts) {
		d.log.reveal(&r)
		if r.send {
			events = append(events, r.event)
		}
	}
	return events
}

func (r *recorded) add(all []recordedEvent) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.m == nil {
		r.m = make(map[presence.Key][]recordedEvent)
	}
	for i := range all {
		k := all[i].event.Key
		r.m[k] = append(r.m[k], all[i])
	}
	r.count.Add(int64(len(all)))
}

// take removes and returns the events of ts. Nothing is under way when it takes no lock.
func (r *recorded) take(ts []presence.Transition) (all []recordedEvent) {
	if r.count.Load() == 0 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range ts {
		if ts[i].EventSeq == 0 {
			continue
		}
		list := r.m[ts[i].Key]
		for j := range list {
			if list[j].event.Seq == ts[i].EventSeq {
				all = append(all, list[j])
				r.dropLocked(ts[i].Key, list, j)
				break
			}
		}
	}
	r.count.Add(-int64(len(all)))
	return all
}

func (r *recorded) dropLocked(k presence.Key, list []recordedEvent, i int) {
	if len(list) == 1 {
		delete(r.m, k)
		return
	}
	copy(list[i:], list[i+1:])
	list[len(list)-1] = recordedEvent{}
	r.m[k] = list[:len(list)-1]
}
