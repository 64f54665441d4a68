// Package clock is the one source of time: the system's, or a virtual one that
// tests advance by hand.
package clock

import (
	"sort"
	"sync"
	"time"
)

// Clock tells the time and runs functions later.
type Clock interface {
	// Now returns the current time; its monotonic part, if any, never steps.
	Now() time.Time
	// AfterFunc runs f once, d from now, on a goroutine of its own (System) or
	// inside Advance (Manual). Stop reports whether it prevented the call.
	AfterFunc(d time.Duration, f func()) Timer
}

// Timer is a pending call.
type Timer interface{ Stop() bool }

// System is the machine's clock.
type System struct{}

// Now implements Clock.
func (System) Now() time.Time { return time.Now() }

// AfterFunc implements Clock.
func (System) AfterFunc(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }

// Manual is a virtual clock. It stands still until Advance. Safe for concurrent use.
type Manual struct {
	mu     sync.Mutex
	now    time.Time
	serial uint64
	timers []*manualTimer
}

type manualTimer struct {
	c      *Manual
	at     time.Time
	serial uint64
	f      func()
}

// NewManual returns a virtual clock that stands at start.
func NewManual(start time.Time) *Manual { return &Manual{now: start} }

// Now implements Clock.
func (m *Manual) Now() time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.now
}

// AfterFunc implements Clock.
func (m *Manual) AfterFunc(d time.Duration, f func()) Timer {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.serial++
	t := &manualTimer{c: m, at: m.now.Add(d), serial: m.serial, f: f}
	m.timers = append(m.timers, t)
	return t
}

// Stop implements Timer.
func (t *manualTimer) Stop() bool {
	t.c.mu.Lock()
	defer t.c.mu.Unlock()
	for i, o := range t.c.timers {
		if o == t {
			t.c.timers = append(t.c.timers[:i], t.c.timers[i+1:]...)
			return true
		}
	}
	return false
}

// Advance moves the clock by d and runs, on the caller's goroutine and in order
// of their times, the calls that come due; the clock stands at each one's time
// while it runs.
func (m *Manual) Advance(d time.Duration) {
	m.mu.Lock()
	end := m.now.Add(d)
	for {
		t := m.nextLocked(end)
		if t == nil {
			break
		}
		if t.at.After(m.now) {
			m.now = t.at
		}
		m.mu.Unlock()
		t.f()
		m.mu.Lock()
	}
	m.now = end
	m.mu.Unlock()
}

// nextLocked removes and returns the earliest timer due at or before end.
func (m *Manual) nextLocked(end time.Time) *manualTimer {
	sort.Slice(m.timers, func(i, j int) bool {
		a, b := m.timers[i], m.timers[j]
		if a.at.Equal(b.at) {
			return a.serial < b.serial
		}
		return a.at.Before(b.at)
	})
	if len(m.timers) == 0 || m.timers[0].at.After(end) {
		return nil
	}
	t := m.timers[0]
	m.timers = m.timers[1:]
	return t
}
