package webhook

import (
	"container/heap"
	"fmt"
	"sync"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// MemoryOptions bound an outbox. The zero value of each is its default.
type MemoryOptions struct {
	MaxEvents      int        // events of all apps; default 100,000
	MaxBytes       int64      // about what they take in memory; default 64 MiB
	MaxDeadLetters int        // the oldest falls out; default 10,000
	Full           FullPolicy // default FullCoalesce
}

func (o *MemoryOptions) validate() error {
	if o.MaxEvents == 0 {
		o.MaxEvents = 100_000
	}
	if o.MaxBytes == 0 {
		o.MaxBytes = 64 << 20
	}
	if o.MaxDeadLetters == 0 {
		o.MaxDeadLetters = 10_000
	}
	if o.Full == "" {
		o.Full = FullCoalesce
	}
	if o.MaxEvents < 1 || o.MaxBytes < 1 || o.MaxDeadLetters < 1 {
		return fmt.Errorf("webhook outbox: bounds must be positive, got %d events, %d bytes, %d dead letters", o.MaxEvents, o.MaxBytes, o.MaxDeadLetters)
	}
	if o.Full != FullCoalesce && o.Full != FullDeadLetters && o.Full != FullBlock {
		return fmt.Errorf("webhook outbox: there is no policy %q for a full one", o.Full)
	}
	return nil
}

// Memory is an outbox that does not outlive the process, and the lanes of one that does.
//
// When it is full, an event of the app with the largest backlog gives way, so
// that an app whose receiver is dead pays for its own backlog and nobody
// else's. With FullCoalesce, if that is the app that appends and the lane has
// an event waiting, the lane's oldest waiting event is dropped for the new one
// (newest state wins); else the app's oldest event gives way: dropped if its
// user has a newer one, a dead letter if not. Events that are out for an
// attempt never give way.
type Memory struct {
	// Immutable after NewMemory.
	o    MemoryOptions
	keep *keeper // of a Durable; nil forgets

	// Guarded by mu.
	mu    sync.Mutex
	apps  map[uint32]*appQueue
	lanes map[presence.Key]*lane
	count int
	bytes int64
	full  bool
	dead  deadLetters
}

// NewMemory returns an empty outbox.
func NewMemory(o MemoryOptions) (*Memory, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Memory{
		o:     o,
		apps:  make(map[uint32]*appQueue),
		lanes: make(map[presence.Key]*lane),
		dead:  deadLetters{max: o.MaxDeadLetters},
	}, nil
}

// unlock ends a change, and has the store follow it.
func (m *Memory) unlock() {
	dirty := m.keep.dirty()
	m.mu.Unlock()
	if dirty {
		m.keep.flush()
	}
}

// Append implements Outbox. It never fails.
func (m *Memory) Append(events []Event, nowMS int64) (Shed, error) {
	m.mu.Lock()
	defer m.unlock()
	var shed Shed
	for i := range events {
		m.appendLocked(&events[i], nowMS, &shed)
	}
	return shed, nil
}

func (m *Memory) appendLocked(e *Event, nowMS int64, shed *Shed) {
	l := m.laneLocked(e.Key)
	if e.Newest && m.mergeLocked(l, e, shed) {
		return
	}
	over := m.overLocked(e)
	for m.o.Full != FullBlock && m.overLocked(e) {
		if !m.makeRoomLocked(l, nowMS, shed) {
			m.buryLocked(e, CauseFull, nowMS)
			shed.Diverted++
			m.full = true
			m.forgetLocked(l)
			return
		}
		l = m.laneLocked(e.Key) // making room may have forgotten the lane
	}
	m.full = m.full || over
	m.pushLocked(l, e)
}

// mergeLocked puts e in the place of all events of its lane that are not out,
// if there is one. It keeps the wait that its lane is in.
func (m *Memory) mergeLocked(l *lane, e *Event, shed *Shed) bool {
	n := l.tail
	if n == nil || n.out || m.keep == nil && m.bytes-n.size()+e.size() > m.o.MaxBytes {
		return false
	}
	e.Attempts = firstFree(l).event.Attempts
	for f := firstFree(l); f != n; f = firstFree(l) {
		m.dropLocked(f)
		shed.Merged++
	}
	m.keep.dropEvent(&n.event)
	m.bytes -= n.size()
	n.event = *e
	m.holdLocked(n)
	l.app.unlink(n)
	l.app.link(n)
	shed.Merged++
	return true
}

// overLocked reports whether e would not fit. A store has room for the bodies
// that memory has not.
func (m *Memory) overLocked(e *Event) bool {
	return m.count+1 > m.o.MaxEvents || m.keep == nil && m.bytes+e.size() > m.o.MaxBytes
}

// makeRoomLocked removes one event for the sake of one to come in l. It fails
// if every event is out for an attempt.
func (m *Memory) makeRoomLocked(l *lane, nowMS int64, shed *Shed) bool {
	victim := m.largestLocked(l.app)
	if victim == l.app && m.o.Full == FullCoalesce {
		if n := firstFree(l); n != nil {
			m.dropLocked(n)
			shed.Coalesced++
			return true
		}
	}
	return m.giveWayLocked(victim, nowMS, shed)
}

// giveWayLocked removes the oldest event of victim. It fails if all are out for an attempt.
func (m *Memory) giveWayLocked(victim *appQueue, nowMS int64, shed *Shed) bool {
	n := oldestFree(victim)
	if n == nil {
		return false
	}
	if n.laneNext != nil && m.o.Full == FullCoalesce {
		shed.Coalesced++
		m.dropLocked(n)
		return true
	}
	shed.Diverted++
	m.buryLocked(&n.event, CauseFull, nowMS)
	m.removeLocked(n)
	return true
}

// maxLook bounds the apps that are looked at to find the one that gives way.
const maxLook = 64

// largestLocked returns the app with the most events among those that have one
// to give; home, the app that appends, counts with the event to come. With very
// many apps it is the largest of some, taken by chance: the largest backlogs
// are soon found, and an append costs no more than that.
func (m *Memory) largestLocked(home *appQueue) *appQueue {
	best, most, looked := home, 0, 0
	if oldestFree(home) != nil {
		most = home.count + 1
	}
	for _, a := range m.apps {
		if looked++; looked > maxLook {
			break
		}
		if a.count > most && oldestFree(a) != nil {
			best, most = a, a.count
		}
	}
	return best
}

// Hurry implements Outbox.
func (m *Memory) Hurry(app uint32) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.apps[app]
	if a == nil {
		return
	}
	for _, l := range a.waiting {
		l.state = laneIdle
		a.pushRunnable(l)
	}
	a.waiting = nil
}

// Apps implements Outbox.
func (m *Memory) Apps() []uint32 {
	m.mu.Lock()
	defer m.mu.Unlock()
	ids := make([]uint32, 0, len(m.apps))
	for id := range m.apps {
		ids = append(ids, id)
	}
	return ids
}

// Blocked implements Outbox. While the outbox is full, the apps that hold more
// than their share of it wait; at twice its bound, all.
func (m *Memory) Blocked(app uint32) bool {
	if m.o.Full != FullBlock {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.apps[app]
	switch {
	case !m.full:
		return false
	case m.count/2 >= m.o.MaxEvents:
		return true
	}
	return a != nil && a.count*len(m.apps) >= m.count
}

// Stats implements Outbox.
func (m *Memory) Stats() OutboxStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := OutboxStats{
		Events: m.count, Bytes: m.bytes, Lanes: len(m.lanes), Full: m.full,
		DeadLetters: len(m.dead.list), DeadLettersLost: m.dead.lost,
	}
	for _, a := range m.apps {
		if q := a.oldest.event.QueuedMS; s.OldestMS == 0 || q < s.OldestMS {
			s.OldestMS = q
		}
	}
	return s
}

// laneLocked returns the user's lane, made if need be. One without events is
// in no list of its app and not yet known to the outbox.
func (m *Memory) laneLocked(k presence.Key) *lane {
	if l := m.lanes[k]; l != nil {
		return l
	}
	a := m.apps[k.App]
	if a == nil {
		a = &appQueue{id: k.App}
	}
	return &lane{key: k, app: a}
}

// pushLocked adds e to its lane and to the end of its app.
func (m *Memory) pushLocked(l *lane, e *Event) {
	n := &node{event: *e, lane: l}
	n.event.Key = l.key // one copy of the UserID
	m.holdLocked(n)
	l.app.link(n)
	l.insert(n)
	m.count++
	m.apps[l.app.id] = l.app
	m.lanes[l.key] = l
	if l.state == laneIdle {
		l.app.pushRunnable(l)
	}
}

// holdLocked counts the memory of n. Where there is a store, the bodies for
// which there is no room stay there.
func (m *Memory) holdLocked(n *node) {
	n.spilled = false
	if m.keep != nil && m.bytes+n.size() > m.o.MaxBytes {
		n.event.Body, n.spilled = nil, true
	}
	m.bytes += n.size()
}

// dropLocked forgets n for good.
func (m *Memory) dropLocked(n *node) {
	m.keep.dropEvent(&n.event)
	m.removeLocked(n)
}

// buryLocked makes e a dead letter.
func (m *Memory) buryLocked(e *Event, cause string, nowMS int64) {
	l := DeadLetter{Event: *e, Cause: cause, DeadMS: nowMS}
	if m.keep != nil {
		l.Event.Body = nil // it stays where it is in the store
	}
	added, fallen := m.dead.add(l)
	m.keep.addLetter(added)
	if fallen != nil {
		m.keep.dropLetter(fallen)
		m.keep.dropEvent(&fallen.Event)
	}
}

// removeLocked takes n out of both its lists. A lane without events is
// forgotten, an app too.
func (m *Memory) removeLocked(n *node) {
	l := n.lane
	l.unlink(n)
	l.app.unlink(n)
	m.count--
	m.bytes -= n.size()
	if m.count <= m.o.MaxEvents*9/10 && (m.keep != nil || m.bytes <= m.o.MaxBytes/10*9) {
		m.full = false
	}
	if l.head == nil {
		m.forgetLocked(l)
	}
}

func (m *Memory) forgetLocked(l *lane) {
	if l.head != nil {
		return
	}
	m.parkLocked(l)
	delete(m.lanes, l.key)
	if l.app.count == 0 {
		delete(m.apps, l.app.id)
	}
}

// parkLocked takes l out of the list that it is in.
func (m *Memory) parkLocked(l *lane) {
	switch l.state {
	case laneRunnable:
		l.app.dropRunnable(l)
	case laneWaiting:
		heap.Remove(&l.app.waiting, l.heapIndex)
	}
	l.state = laneIdle
}
