package webhook

import (
	"container/heap"
	"slices"
)

// Claim implements Outbox.
func (m *Memory) Claim(app uint32, nowMS int64, max int) (events []Event, more bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.apps[app]
	if a == nil {
		return nil, false
	}
	for len(a.waiting) > 0 && a.waiting[0].nextMS <= nowMS {
		a.pushRunnable(heap.Pop(&a.waiting).(*lane))
	}
	l := a.runFirst
	if l == nil {
		return nil, false
	}
	if l.head.out && m.outOf(l) > max {
		m.dissolveLocked(l)
	}
	if l.head.out { // a batch that failed goes out as it was
		a.dropRunnable(l)
		for _, member := range l.members() {
			member.state = laneClaimed
		}
	} else {
		m.gatherLocked(a, max)
	}
	return m.eventsOut(l), a.runFirst != nil
}

// gatherLocked claims the events of one request, of the first runnable lanes. A
// batch that failed is not added to.
func (m *Memory) gatherLocked(a *appQueue, max int) {
	var members []*lane
	for max > 0 && a.runFirst != nil && !a.runFirst.head.out {
		l := a.runFirst
		a.dropRunnable(l)
		l.state = laneClaimed
		for n := l.head; n != nil && max > 0; n = n.laneNext {
			n.out = true
			max--
		}
		members = append(members, l)
	}
	if len(members) > 1 {
		b := &batch{lanes: members}
		for _, l := range members {
			l.batch = b
		}
	}
}

// outOf counts the events of the request that l is part of.
func (m *Memory) outOf(l *lane) (count int) {
	for _, member := range l.members() {
		for n := member.head; n != nil && n.out; n = n.laneNext {
			count++
		}
	}
	return count
}

// eventsOut lists them: lane by lane, each in order.
func (m *Memory) eventsOut(l *lane) []Event {
	events := make([]Event, 0, m.outOf(l))
	for _, member := range l.members() {
		for n := member.head; n != nil && n.out; n = n.laneNext {
			events = append(events, n.event)
		}
	}
	return events
}

// dissolveLocked lets the lanes of a batch that waits go their own ways: the app
// wants smaller ones now. l, which is runnable, leads it.
func (m *Memory) dissolveLocked(l *lane) {
	for _, member := range slices.Clone(l.members()) {
		for n := member.head; n != nil && n.out; n = n.laneNext {
			n.out = false
		}
		member.batch = nil
		if member != l {
			member.app.pushRunnable(member)
		}
	}
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
func (m *Memory) Ack(batch []Event) {
	m.settle(batch, func(n *node) { m.keep.dropEvent(&n.event) })
}

// Bury implements Outbox.
func (m *Memory) Bury(batch []Event, cause string, nowMS int64) {
	m.settle(batch, func(n *node) { m.buryLocked(&n.event, cause, nowMS) })
}

// settle removes claimed events, of which each is the first of its lane when its
// turn comes. A lane of which none is out any more goes on.
func (m *Memory) settle(batch []Event, remove func(*node)) {
	m.mu.Lock()
	defer m.unlock()
	for i := range batch {
		n := m.claimedLocked(&batch[i])
		if n == nil {
			continue
		}
		l := n.lane
		remove(n)
		m.removeLocked(n)
		if l.head == nil || !l.head.out {
			m.releaseLocked(l)
		}
	}
}

// releaseLocked takes l out of its batch and lets it go on.
func (m *Memory) releaseLocked(l *lane) {
	if b := l.batch; b != nil {
		b.lanes = slices.DeleteFunc(b.lanes, func(o *lane) bool { return o == l })
		l.batch = nil
	}
	l.state = laneIdle
	if l.head != nil {
		l.app.pushRunnable(l)
	}
}

// Nack implements Outbox. An event that was alone may give way while it waits; a
// batch stays as it is.
func (m *Memory) Nack(batch []Event, nextMS int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var leader *lane
	for i := range batch {
		n := m.claimedLocked(&batch[i])
		if leader == nil && n != nil {
			leader = n.lane.members()[0]
		}
	}
	if leader == nil {
		return
	}
	alone := m.outOf(leader) == 1
	for _, l := range leader.members() {
		l.state = laneHeld
		for n := l.head; n != nil && n.out; n = n.laneNext {
			n.event.Attempts++
			n.out = !alone
		}
	}
	leader.state, leader.nextMS = laneWaiting, nextMS
	heap.Push(&leader.app.waiting, leader)
}

// claimedLocked finds the event that the caller was handed by Claim: the first of its lane.
func (m *Memory) claimedLocked(e *Event) *node {
	l := m.lanes[e.Key]
	if l == nil || l.state != laneClaimed || !l.head.out || l.head.event.Seq != e.Seq || l.head.event.Epoch != e.Epoch {
		return nil
	}
	return l.head
}

// DeadLetters implements Outbox.
func (m *Memory) DeadLetters(app uint32, before uint64, max int) []DeadLetter {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.dead.before(app, before, max)
}

// Replay implements Outbox.
func (m *Memory) Replay(app uint32, ids []uint64, max int, nowMS int64) (n int, err error) {
	m.mu.Lock()
	defer m.unlock()
	for _, l := range m.dead.pick(app, ids, max) {
		if !m.replayLocked(l, l.Event.Body, nowMS) {
			return n, ErrFull
		}
		n++
	}
	return n, nil
}

// replayLocked moves l back to its lane. It fails if there is no room.
func (m *Memory) replayLocked(l *DeadLetter, body []byte, nowMS int64) bool {
	e := l.Event
	e.Body, e.QueuedMS, e.Attempts, e.Replayed = body, nowMS, 0, true
	if m.overLocked(&e) {
		return false
	}
	m.dead.remove(l)
	m.keep.dropLetter(l)
	m.keep.putEvent(&e)
	m.pushLocked(m.laneLocked(e.Key), &e)
	return true
}

// Skip implements Outbox.
func (m *Memory) Skip(app uint32, ids []uint64, max int) int {
	m.mu.Lock()
	defer m.unlock()
	letters := m.dead.pick(app, ids, max)
	m.dead.removeAll(letters)
	for _, l := range letters {
		m.keep.dropLetter(l)
		m.keep.dropEvent(&l.Event)
	}
	return len(letters)
}
