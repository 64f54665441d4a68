package webhook

import (
	"slices"
	"testing"
	"time"
)

// receiverOf is a receiver that works on so many requests at once, each for
// as long, the others in a queue. It returns the windows of n answers.
func (p *pace) receiverOf(servers int, work time.Duration, n int, now time.Time) (windows []int, end time.Time) {
	free := make([]time.Time, servers)
	type flight struct{ began, ends time.Time }
	var flights []flight
	for len(windows) < n {
		for len(flights) < p.window {
			first := slices.IndexFunc(free, func(f time.Time) bool { return f.Equal(slices.MinFunc(free, time.Time.Compare)) })
			begins := now
			if free[first].After(now) {
				begins = free[first]
			}
			free[first] = begins.Add(work)
			flights = append(flights, flight{now, free[first]})
		}
		slices.SortStableFunc(flights, func(a, b flight) int { return a.ends.Compare(b.ends) })
		now = flights[0].ends
		p.good(flights[0].began, now)
		flights = flights[1:]
		windows = append(windows, p.window)
	}
	return windows, now
}

// TestPaceSettles: the window becomes a little more than the receiver works on
// at once and stays there; one that is never full gets all there is.
func TestPaceSettles(t *testing.T) {
	for _, c := range []struct{ servers, low, high int }{{1, 1, 10}, {4, 4, 14}, {10, 10, 18}, {20, 20, 28}, {64, 32, 32}} {
		p := newPace(32)
		windows, _ := p.receiverOf(c.servers, 10*time.Millisecond, 20_000, time.Unix(0, 0))
		var outside int
		for _, w := range windows[500:] {
			if w < c.low || w > c.high {
				outside++
			}
		}
		// Learning the floor anew halves the window for a moment.
		if outside > len(windows)/16 {
			t.Errorf("%d servers: the window was outside of %d to %d at %d of %d answers, last %d", c.servers, c.low, c.high, outside, len(windows), p.window)
		}
	}
}

// TestPaceFollows: a receiver that got more, or slower, is found out.
func TestPaceFollows(t *testing.T) {
	p := newPace(32)
	_, now := p.receiverOf(4, 10*time.Millisecond, 5000, time.Unix(0, 0))
	few := p.window
	_, now = p.receiverOf(20, 10*time.Millisecond, 500, now)
	if p.window < 20 || few > 14 {
		t.Errorf("a window of %d for 4 servers and of %d for 20", few, p.window)
	}
	_, now = p.receiverOf(20, 200*time.Millisecond, 2*relearn+500, now) // 20 times slower for good
	if p.window < 20 {
		t.Errorf("a window of %d for 20 slow servers", p.window)
	}
	p.receiverOf(2, 200*time.Millisecond, 2*relearn+500, now)
	if p.window > 12 {
		t.Errorf("a window of %d for 2 slow servers", p.window)
	}
}

// TestPaceHalvesOnce: the bad answers of one round halve the window once, and
// good ones to attempts from before say nothing.
func TestPaceHalvesOnce(t *testing.T) {
	p := pace{window: 32, max: 32}
	began := time.Unix(10, 0)
	for i := range 20 {
		p.bad(began, began.Add(time.Duration(i)*time.Millisecond))
		p.good(began, began.Add(time.Duration(i)*time.Millisecond))
	}
	if p.window != 16 {
		t.Errorf("a window of %d after one bad round, want 16", p.window)
	}
	for i := range 10 {
		at := began.Add(time.Duration(i+1) * time.Second)
		p.bad(at, at.Add(time.Millisecond))
	}
	if p.window != 1 {
		t.Errorf("a window of %d after ten bad rounds, want 1", p.window)
	}
}
