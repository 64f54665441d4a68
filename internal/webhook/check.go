package webhook

import (
	"errors"
	"fmt"
	"slices"
)

// Check implements Outbox.
func (m *Memory) Check() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var count int
	var bytes int64
	for id, a := range m.apps {
		n, b, err := a.check()
		if err != nil {
			return fmt.Errorf("outbox of app %d: %w", id, err)
		}
		count += n
		bytes += b
	}
	if count != m.count || bytes != m.bytes {
		return fmt.Errorf("outbox counts %d events of %d bytes, has %d of %d", m.count, m.bytes, count, bytes)
	}
	if m.o.Full != FullBlock && count > m.o.MaxEvents || m.keep == nil && bytes > m.o.MaxBytes || len(m.dead.list) > m.o.MaxDeadLetters {
		return fmt.Errorf("outbox has %d events, %d bytes, %d dead letters, more than its bounds %+v", count, bytes, len(m.dead.list), m.o)
	}
	return m.checkLanesLocked(count)
}

// check walks the app's list by age and counts it.
func (a *appQueue) check() (count int, bytes int64, err error) {
	var prev *node
	for n := a.oldest; n != nil; prev, n = n, n.appNext {
		if n.appPrev != prev {
			return 0, 0, fmt.Errorf("broken list at event %d of %q", n.event.Seq, n.event.Key.UserID)
		}
		count++
		bytes += n.size()
	}
	if a.newest != prev || count != a.count || count == 0 {
		return 0, 0, fmt.Errorf("counts %d events, has %d", a.count, count)
	}
	return count, bytes, nil
}

// checkLanesLocked proves that each lane is where its state says, and that lanes hold count events.
func (m *Memory) checkLanesLocked(count int) error {
	runnable := make(map[*lane]bool)
	for _, a := range m.apps {
		for l := a.runFirst; l != nil; l = l.next {
			runnable[l] = true
		}
	}
	for k, l := range m.lanes {
		n, err := l.check()
		if err != nil {
			return fmt.Errorf("lane %v: %w", k, err)
		}
		count -= n
		if m.apps[k.App] != l.app {
			return fmt.Errorf("lane %v is in an app that is forgotten", k)
		}
		waits := l.state == laneWaiting
		if runnable[l] != (l.state == laneRunnable) || waits && l.app.waiting[l.heapIndex] != l {
			return fmt.Errorf("lane %v is not in the list of its state %d", k, l.state)
		}
	}
	if count != 0 {
		return fmt.Errorf("lanes hold %d events fewer than the apps", count)
	}
	return nil
}

// check proves that the lane's events are in order and counts them.
func (l *lane) check() (count int, err error) {
	var seq uint64
	allOut := true
	for n := l.head; n != nil; n = n.laneNext {
		if n.lane != l || n.event.Seq <= seq && !n.event.Replayed {
			return 0, fmt.Errorf("event %d after event %d", n.event.Seq, seq)
		}
		if n.out && !allOut {
			return 0, fmt.Errorf("event %d is out before an older one", n.event.Seq)
		}
		allOut = n.out
		if n.laneNext == nil && l.tail != n {
			return 0, fmt.Errorf("tail is not the last event, %d", n.event.Seq)
		}
		seq = n.event.Seq
		count++
	}
	if count == 0 || l.state == laneIdle || (l.state == laneClaimed || l.state == laneHeld) && !l.head.out {
		return 0, fmt.Errorf("kept with %d events in state %d", count, l.state)
	}
	if l.batch != nil && !slices.Contains(l.batch.lanes, l) || l.state == laneHeld && l.batch == nil {
		return 0, errors.New("not part of its batch")
	}
	return count, nil
}
