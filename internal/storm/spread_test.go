package storm

import (
	"math"
	"math/rand/v2"
	"testing"
)

// 20,000 clients who are sent away within a second come back at the booked rate:
// no second sees many more, the last comes when n/rate says.
func TestBookingSpreadsAStorm(t *testing.T) {
	const n, rate = 20_000, 1000
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, 1))
		var b Booking
		d := Delay{LeastMS: 1000, MostMS: 300_000}
		var perSecond [40]int
		for i := range n {
			now := int64(5_000_000 + i*1000/n)
			back := now + b.Next(now, rate, d, rng.Float64()) - 5_000_000
			if back < now-5_000_000+d.LeastMS {
				t.Fatalf("seed %d: client %d is told to wait %d ms", seed, i, back)
			}
			perSecond[back/1000]++
		}
		last := 0
		for s, k := range perSecond {
			if k > rate*6/5 {
				t.Errorf("seed %d: %d come back in second %d, want about %d", seed, k, s, rate)
			}
			if s >= 2 && s < 19 && k < rate*4/5 {
				t.Errorf("seed %d: only %d come back in second %d, want about %d", seed, k, s, rate)
			}
			if k > 0 {
				last = s
			}
		}
		if last < 20 || last > 24 {
			t.Errorf("seed %d: the last come back in second %d, want about 21", seed, last)
		}
	}
}

// Places that lie in the past are not given away: after a quiet time the row begins anew.
func TestBookingForgetsThePast(t *testing.T) {
	var b Booking
	d := Delay{LeastMS: 1000, MostMS: 60_000}
	for range 100 {
		b.Next(1000, 10, d, 0.5)
	}
	if got := b.Next(1000, 10, d, 0.5); got != 1000+101*100 {
		t.Errorf("the 101st is told %d ms", got)
	}
	if got := b.Next(1_000_000, 10, d, 0.5); got != 1100 {
		t.Errorf("much later the first is told %d ms", got)
	}
}

// A full row answers within its later half, and no rate breaks the bounds.
func TestDelaysKeepTheirBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	d := Delay{LeastMS: 500, MostMS: 20_000}
	for _, rate := range []float64{0, 1e-9, 0.5, 10, 1e6, math.Inf(1)} {
		var b Booking
		var low, high int64 = math.MaxInt64, 0
		for i := range 20_000 {
			got := b.Next(1000, rate, d, rng.Float64())
			if got < d.LeastMS || got > d.MostMS {
				t.Fatalf("rate %v: %d ms, want %d to %d", rate, got, d.LeastMS, d.MostMS)
			}
			if i > 20 { // the row is full
				low, high = min(low, got), max(high, got)
			}
			for _, n := range []int{0, 1, 1000, 1 << 30} {
				if got := Spread(n, rate, d, rng.Float64()); got < d.LeastMS || got > d.MostMS {
					t.Fatalf("%d at %v: %d ms, want %d to %d", n, rate, got, d.LeastMS, d.MostMS)
				}
			}
		}
		if rate < 1 && (low < d.MostMS/2 || high < d.MostMS*9/10) {
			t.Errorf("rate %v: from %d to %d ms, want the later half of %d", rate, low, high, d.MostMS)
		}
	}
}

// A drain of n links spreads them evenly over n/rate, no sooner than the least.
func TestSpreadIsEven(t *testing.T) {
	const n, rate = 50_000, 2000
	rng := rand.New(rand.NewPCG(9, 1))
	d := Delay{LeastMS: 1000, MostMS: 300_000}
	var perSecond [26]int
	for range n {
		got := Spread(n, rate, d, rng.Float64())
		if got < 1000 || got > 26_000 {
			t.Fatalf("%d ms, want 1 s to 26 s", got)
		}
		perSecond[min(got/1000, 25)]++
	}
	for s, k := range perSecond[1:] {
		if k < rate*9/10 || k > rate*11/10 {
			t.Errorf("%d come back in second %d, want about %d", k, s+1, rate)
		}
	}
	if got := Spread(1, rate, d, 1); got > 1001 {
		t.Errorf("a single client is told %d ms", got)
	}
}

func TestMeter(t *testing.T) {
	var m Meter
	start := int64(1_700_000_000_000)
	for s := range int64(900) {
		for i := range int64(500) {
			m.Add(start + s*1000 + 2*i)
		}
	}
	now := start + 900*1000
	if best, normal := m.Best(now), m.Normal(now); best != 500 || normal < 450 || normal > 500 {
		t.Errorf("after 15 minutes at 500/s: best %.0f, normal %.0f", best, normal)
	}
	for i := range 4000 {
		m.Add(now + int64(i)/4)
	}
	if best, normal := m.Best(now+1000), m.Normal(now+1000); best != 4000 || normal > 520 {
		t.Errorf("after one second at 4,000/s: best %.0f, normal %.0f", best, normal)
	}
	if best := m.Best(now + 601_000); best < 1300 || best > 1600 {
		t.Errorf("ten minutes later: best %.0f, want 4,000/e", best)
	}
	if got := Spare(1000, 300); got != 700 {
		t.Errorf("spare %v, want 700", got)
	}
	if got := Spare(1000, 990); got != 100 {
		t.Errorf("spare %v, want a tenth", got)
	}
}
