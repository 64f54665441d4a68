package webhook

import (
	"container/heap"
	"fmt"
	"sync"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// MemoryOptions bound a memory outbox. The zero value of each is its default.
type MemoryOptions struct {
	MaxEvents      int   // events of all apps; default 100,000
	MaxBytes       int64 // about what they take; default 64 MiB
	MaxDeadLetters int   // the oldest falls out; default 10,000
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
	if o.MaxEvents < 1 || o.MaxBytes < 1 || o.MaxDeadLetters < 1 {
		return fmt.Errorf("webhook outbox: bounds must be positive, got %d events, %d bytes, %d dead letters", o.MaxEvents, o.MaxBytes, o.MaxDeadLetters)
	}
	return nil
}

// Memory is an outbox that does not outlive the process.
//
// When it is full, an event of the app with the largest backlog gives way, so
// that an app whose receiver is dead pays for its own backlog and nobody
// else's. If that is the app that appends and the lane has an event waiting,
// the lane's oldest waiting event is dropped for the new one (newest state
// wins); else the app's oldest event gives way: dropped if its user has a newer
// one, a dead letter if not. Events that are out for an attempt never give way.
type Memory struct {
	// Immutable after NewMemory.
	o MemoryOptions

	// Guarded by mu.
	mu    sync.Mutex
	apps  map[uint32]*appQueue
	lanes map[presence.Key]*lane
	count int
	bytes int64
	full  bool
	dead  deadLetters
}

// appQueue is the backlog of one app.
type appQueue struct {
	id             uint32
	count          int
	oldest, newest *node // by order of Append
	runFirst       *lane
	runLast        *lane
	waiting        laneHeap
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

// Append implements Outbox. It never fails.
func (m *Memory) Append(events []Event, nowMS int64) (Shed, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var shed Shed
	for i := range events {
		m.appendLocked(&events[i], nowMS, &shed)
	}
	return shed, nil
}

func (m *Memory) appendLocked(e *Event, nowMS int64, shed *Shed) {
	l := m.laneLocked(e.Key)
	for m.overLocked(e) {
		if !m.makeRoomLocked(l, nowMS, shed) {
			m.dead.add(DeadLetter{Event: *e, Cause: CauseFull, DeadMS: nowMS})
			shed.Diverted++
			m.forgetLocked(l)
			break
		}
		l = m.laneLocked(e.Key) // making room may have forgotten the lane
	}
	if shed.any() {
		m.full = true
	}
	if !m.overLocked(e) {
		m.pushLocked(l, e)
	}
}

// overLocked reports whether e would not fit.
func (m *Memory) overLocked(e *Event) bool {
	return m.count+1 > m.o.MaxEvents || m.bytes+e.size() > m.o.MaxBytes
}

// makeRoomLocked removes one event for the sake of one to come in l. It fails
// if every event is out for an attempt.
func (m *Memory) makeRoomLocked(l *lane, nowMS int64, shed *Shed) bool {
	victim := m.largestLocked(l.app)
	if victim == l.app {
		if n := firstFree(l); n != nil {
			m.removeLocked(n)
			shed.Coalesced++
			return true
		}
	}
	n := oldestFree(victim)
	if n == nil {
		return false
	}
	if n.laneNext != nil {
		shed.Coalesced++
	} else {
		m.dead.add(DeadLetter{Event: n.event, Cause: CauseFull, DeadMS: nowMS})
		shed.Diverted++
	}
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

// firstFree returns the lane's oldest event that is not out.
func firstFree(l *lane) *node {
	if l.state == laneClaimed {
		return l.head.laneNext
	}
	return l.head
}

// oldestFree returns the app's oldest event that is not out. Those that are
// out are few: at most the in-flight bound of an endpoint.
func oldestFree(a *appQueue) *node {
	n := a.oldest
	for n != nil && n.claimed() {
		n = n.appNext
	}
	return n
}

// Claim implements Outbox.
func (m *Memory) Claim(app uint32, nowMS int64) (e Event, more, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.apps[app]
	if a == nil {
		return Event{}, false, false
	}
	for len(a.waiting) > 0 && a.waiting[0].nextMS <= nowMS {
		l := heap.Pop(&a.waiting).(*lane)
		a.pushRunnable(l)
	}
	l := a.runFirst
	if l == nil {
		return Event{}, false, false
	}
	a.dropRunnable(l)
	l.state = laneClaimed
	return l.head.event, a.runFirst != nil, true
}

// NextMS implements Outbox.
func (m *Memory) NextMS(app uint32) int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.apps[app]
	switch {
	case a == nil:
		return 0
	case a.runFirst != nil:
		return 1
	case len(a.waiting) > 0:
		return max(a.waiting[0].nextMS, 1)
	}
	return 0
}

// Ack implements Outbox.
func (m *Memory) Ack(e *Event) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := m.claimedLocked(e); n != nil {
		m.settleLocked(n)
	}
}

// Nack implements Outbox.
func (m *Memory) Nack(e *Event, nextMS int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.claimedLocked(e)
	if n == nil {
		return
	}
	n.event.Attempts++
	l := n.lane
	l.state, l.nextMS = laneWaiting, nextMS
	heap.Push(&l.app.waiting, l)
}

// Bury implements Outbox.
func (m *Memory) Bury(e *Event, cause string, nowMS int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.claimedLocked(e)
	if n == nil {
		return
	}
	m.dead.add(DeadLetter{Event: n.event, Cause: cause, DeadMS: nowMS})
	m.settleLocked(n)
}

// claimedLocked finds the event that the caller was handed by Claim.
func (m *Memory) claimedLocked(e *Event) *node {
	l := m.lanes[e.Key]
	if l == nil || l.state != laneClaimed || l.head.event.Seq != e.Seq || l.head.event.Epoch != e.Epoch {
		return nil
	}
	return l.head
}

// settleLocked removes the claimed head of a lane and lets the lane go on.
func (m *Memory) settleLocked(n *node) {
	l := n.lane
	m.removeLocked(n)
	if l.head != nil {
		l.app.pushRunnable(l)
	}
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

// DeadLetters implements Outbox.
func (m *Memory) DeadLetters(app uint32, max int) []DeadLetter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead.newest(app, max)
}

// Stats implements Outbox.
func (m *Memory) Stats() OutboxStats {
	m.mu.Lock()
	defer m.mu.Unlock()
	s := OutboxStats{
		Events: m.count, Bytes: m.bytes, Lanes: len(m.lanes), Full: m.full,
		DeadLetters: len(m.dead.ring), DeadLettersLost: m.dead.lost,
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

// pushLocked adds e to the end of its lane and of its app.
func (m *Memory) pushLocked(l *lane, e *Event) {
	a := l.app
	n := &node{event: *e, lane: l, appPrev: a.newest}
	if a.newest != nil {
		a.newest.appNext = n
	} else {
		a.oldest = n
	}
	a.newest = n
	if l.tail != nil {
		l.tail.laneNext = n
	} else {
		l.head = n
	}
	l.tail = n
	a.count++
	m.count++
	m.bytes += e.size()
	m.apps[a.id] = a
	m.lanes[l.key] = l
	if l.state == laneIdle {
		a.pushRunnable(l)
	}
}

// removeLocked takes n out of both its lists. A lane without events is
// forgotten, an app too.
func (m *Memory) removeLocked(n *node) {
	l, a := n.lane, n.lane.app
	wasClaimed := n.claimed()
	l.unlink(n)
	a.unlink(n)
	a.count--
	m.count--
	m.bytes -= n.event.size()
	if m.count <= m.o.MaxEvents*9/10 && m.bytes <= m.o.MaxBytes/10*9 {
		m.full = false
	}
	if wasClaimed {
		l.state = laneIdle
	}
	if l.head == nil {
		m.forgetLocked(l)
	}
}

func (m *Memory) forgetLocked(l *lane) {
	if l.head != nil {
		return
	}
	switch l.state {
	case laneRunnable:
		l.app.dropRunnable(l)
	case laneWaiting:
		heap.Remove(&l.app.waiting, l.heapIndex)
	}
	l.state = laneIdle
	delete(m.lanes, l.key)
	if l.app.count == 0 {
		delete(m.apps, l.app.id)
	}
}

// unlink takes n out of its lane. It is the head or the first that is not out,
// so the walk is at most one step.
func (l *lane) unlink(n *node) {
	var before *node
	for c := l.head; c != n; c = c.laneNext {
		before = c
	}
	if before == nil {
		l.head = n.laneNext
	} else {
		before.laneNext = n.laneNext
	}
	if l.tail == n {
		l.tail = before
	}
}

func (a *appQueue) unlink(n *node) {
	if n.appPrev != nil {
		n.appPrev.appNext = n.appNext
	} else {
		a.oldest = n.appNext
	}
	if n.appNext != nil {
		n.appNext.appPrev = n.appPrev
	} else {
		a.newest = n.appPrev
	}
	n.appPrev, n.appNext = nil, nil
}

func (a *appQueue) pushRunnable(l *lane) {
	l.state, l.prev, l.next = laneRunnable, a.runLast, nil
	if a.runLast != nil {
		a.runLast.next = l
	} else {
		a.runFirst = l
	}
	a.runLast = l
}

func (a *appQueue) dropRunnable(l *lane) {
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		a.runFirst = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		a.runLast = l.prev
	}
	l.prev, l.next, l.state = nil, nil, laneIdle
}
