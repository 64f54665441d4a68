package storm

import (
	"container/heap"
	"math/rand/v2"
	"testing"
)

// server is a directory that commits in groups: a group takes baseMS and eachUS for
// every call in it, and holds what has come until it began.
type server struct {
	baseMS, eachUS float64
}

// outcome of a simulated run.
type outcome struct {
	perSecond float64 // calls answered
	meanMS    float64 // their latency
	least     int     // the lowest and highest limit
	most      int
}

// simulate offers perSecond calls for durationMS, those beyond the limit are dropped.
func simulate(l *Limit, s server, fromMS, durationMS int64, perSecond float64, rng *rand.Rand) outcome {
	type call struct{ f Flight }
	var waiting, group []call
	var groupEnd float64
	o := outcome{least: l.Limit(), most: l.Limit()}
	var answered, sum float64
	due := 0.0
	for now := fromMS; now < fromMS+durationMS; now++ {
		if len(group) > 0 && float64(now) >= groupEnd {
			for _, c := range group {
				answered++
				sum += float64(now - c.f.begunMS)
				l.End(now, c.f, true)
			}
			group = nil
		}
		for due += perSecond / 1000 * 2 * rng.Float64(); due >= 1; due-- {
			if l.Free() {
				waiting = append(waiting, call{l.Begin(now)})
			}
		}
		if len(group) == 0 && len(waiting) > 0 {
			group, waiting = waiting, nil
			groupEnd = float64(now) + s.baseMS + s.eachUS*float64(len(group))/1000
		}
		o.least, o.most = min(o.least, l.Limit()), max(o.most, l.Limit())
	}
	for _, c := range append(group, waiting...) { // let go of what is under way, unseen
		l.End(c.f.begunMS, Flight{begunMS: -1 << 62}, true)
	}
	o.perSecond, o.meanMS = answered*1000/float64(durationMS), sum/max(answered, 1)
	return o
}

// Offered three times what the directory can do, nearly all of its rate is used and
// no call waits much longer than the target: for fast and slow directories, and
// after one has become slower or faster.
func TestLimitFindsTheDirectorysRate(t *testing.T) {
	for _, s := range []server{
		{baseMS: 1, eachUS: 20}, {baseMS: 5, eachUS: 20}, {baseMS: 5, eachUS: 100},
		{baseMS: 20, eachUS: 50}, {baseMS: 60, eachUS: 200}, {baseMS: 2, eachUS: 1000},
	} {
		rng := rand.New(rand.NewPCG(1, 2))
		l := NewLimit(LimitOptions{})
		rate := 1e6 / s.eachUS // of ever larger groups
		simulate(l, s, 0, 20_000, rate/10, rng)
		got := simulate(l, s, 20_000, 40_000, 3*rate, rng)
		got = simulate(l, s, 60_000, 20_000, 3*rate, rng)
		// What groups of the target's length allow.
		target := max(100, 3*s.baseMS)
		can := rate * (target/2 - s.baseMS) / (target / 2)
		if got.perSecond < 0.9*can || got.meanMS > 1.5*target {
			t.Errorf("%+v: %.0f/s of %.0f, mean %.0f ms, target %.0f (limit %d)", s, got.perSecond, can, got.meanMS, target, l.Limit())
		}
		slow := s
		slow.eachUS *= 10
		simulate(l, slow, 80_000, 20_000, 3*rate, rng)
		if got := simulate(l, slow, 100_000, 20_000, 3*rate, rng); got.meanMS > 2*max(target, s.baseMS+16*slow.eachUS/1000) { // the floor is 16
			t.Errorf("%+v, ten times slower: mean %.0f ms, limit %d", s, got.meanMS, l.Limit())
		}
		simulate(l, s, 120_000, 20_000, 3*rate, rng)
		if got := simulate(l, s, 140_000, 20_000, 3*rate, rng); got.perSecond < 0.9*can {
			t.Errorf("%+v, fast again: %.0f/s of %.0f, limit %d", s, got.perSecond, can, l.Limit())
		}
	}
}

// A directory that answers at once is never held back.
func TestLimitLetsAFastDirectoryBe(t *testing.T) {
	l := NewLimit(LimitOptions{Start: 64})
	for now := range int64(10_000) {
		for range 50 {
			if !l.Free() {
				t.Fatalf("at %d ms: %d under way, limit %d", now, l.InFlight(), l.Limit())
			}
			l.End(now, l.Begin(now), true)
		}
	}
	if l.Limit() < 64 {
		t.Errorf("limit %d, want at least what it began with", l.Limit())
	}
}

// A limit that is not used does not grow: the answers say nothing about a higher one.
func TestLimitGrowsOnlyWithUse(t *testing.T) {
	l := NewLimit(LimitOptions{Start: 100})
	for now := range int64(100_000) {
		l.End(now, l.Begin(now), true)
	}
	if l.Limit() != 100 {
		t.Errorf("limit %d, want 100", l.Limit())
	}
}

// A directory that refuses most calls gets fewer.
func TestLimitShrinksByFailures(t *testing.T) {
	l := NewLimit(LimitOptions{})
	for now := range int64(20_000) {
		l.End(now, l.Begin(now), now%10 == 0)
	}
	if l.Limit() != 16 {
		t.Errorf("limit %d, want the floor", l.Limit())
	}
}

// flights are calls that end at random times.
type flights []struct {
	endMS int64
	f     Flight
}

func (h flights) Len() int           { return len(h) }
func (h flights) Less(i, j int) bool { return h[i].endMS < h[j].endMS }
func (h flights) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *flights) Push(x any)        { *h = append(*h, x.(flights)[0]) }
func (h *flights) Pop() any {
	old := *h
	last := old[len(old)-1:]
	*h = old[:len(old)-1]
	return last
}

// Whatever comes, the limit stays within its bounds and the count is right.
func TestLimitStaysWithinItsBounds(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 7))
		o := LimitOptions{Floor: 1 + rng.IntN(20), Ceiling: 20 + rng.IntN(1000), Start: 1 + rng.IntN(2000)}
		l := NewLimit(o)
		var under flights
		slow := int64(1)
		for now := range int64(20_000) {
			if rng.IntN(1000) == 0 {
				slow = 1 + rng.Int64N(3000)
			}
			for len(under) > 0 && under[0].endMS <= now {
				done := heap.Pop(&under).(flights)[0]
				l.End(now, done.f, rng.IntN(10) > 0)
			}
			for range rng.IntN(4) {
				if l.Free() || rng.IntN(100) == 0 { // a call that is repeated does not ask
					heap.Push(&under, flights{{now + rng.Int64N(slow), l.Begin(now)}})
				}
			}
			if l.Limit() < o.Floor || l.Limit() > o.Ceiling || l.InFlight() != len(under) {
				t.Fatalf("seed %d, %d ms: limit %d of %d to %d, %d under way, counted %d", seed, now, l.Limit(), o.Floor, o.Ceiling, len(under), l.InFlight())
			}
		}
	}
}
