package admission

import (
	"sync"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"
)

func TestRate(t *testing.T) {
	for _, c := range []struct {
		name     string
		n, burst float64
		atMS     []int64
		ok       []bool
	}{
		{"one a second", 1, 1, []int64{0, 0, 999, 1000, 1500, 2000}, []bool{true, false, false, true, false, true}},
		{"burst", 10, 3, []int64{0, 0, 0, 0, 99, 100, 100, 400, 400, 400, 400}, []bool{true, true, true, false, false, true, false, true, true, true, false}},
		{"never more than the burst", 10, 2, []int64{1e6, 1e6, 1e6, 9e6, 9e6, 9e6}, []bool{true, true, false, true, true, false}},
		{"less than one a second", 0.1, 0, []int64{0, 9999, 10_000, 19_999}, []bool{true, false, true, false}},
		{"unlimited", 0, 5, []int64{0, 0, 0, 0, 0, 0}, []bool{true, true, true, true, true, true}},
		{"back in time", 1, 1, []int64{10_000, 5000, 5999, 6000}, []bool{true, false, false, true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := PerSecond(c.n, c.burst)
			var b Bucket
			for i, ms := range c.atMS {
				if ok := b.Take(r, ms*1e6); ok != c.ok[i] {
					t.Fatalf("take %d, at %d ms: %v", i, ms, ok)
				}
			}
		})
	}
}

// bucketModel is the bucket as one thinks of it: tokens that drip in.
type bucketModel struct{ credit, lastNS int64 }

func (m *bucketModel) take(r Rate, nowNS int64) bool {
	if r.eachNS == 0 {
		return true
	}
	m.credit = min(m.credit+nowNS-m.lastNS, r.roomNS+r.eachNS)
	m.lastNS = nowNS
	if m.credit < r.eachNS {
		return false
	}
	m.credit -= r.eachNS
	return true
}

func TestRateIsTokenBucket(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := PerSecond(rapid.Float64Range(0.001, MaxRate).Draw(t, "rate"), rapid.Float64Range(0, 100).Draw(t, "burst"))
		var b Bucket
		m := bucketModel{credit: r.roomNS + r.eachNS}
		now := int64(0)
		for range rapid.IntRange(1, 200).Draw(t, "takes") {
			now += rapid.Int64Range(0, 3*r.eachNS).Draw(t, "wait")
			if got, want := b.Take(r, now), m.take(r, now); got != want {
				t.Fatalf("at %d: %v, want %v", now, got, want)
			}
		}
	})
}

// However many take at once, no token is given twice.
func TestBucketConcurrent(t *testing.T) {
	const burst = 1000
	r := PerSecond(1, burst)
	var b Bucket
	var got atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for range burst {
				if b.Take(r, 0) {
					got.Add(1)
				}
			}
		}()
	}
	wg.Wait()
	if got.Load() != burst {
		t.Fatalf("%d tokens of %d", got.Load(), burst)
	}
}

// A token that was given back can be taken again; a full bucket gets no fuller.
func TestBucketReturn(t *testing.T) {
	r := PerSecond(1, 2)
	var b Bucket
	b.Return(r)
	for range 5 {
		for n := range 3 {
			if got := b.Take(r, second); got != (n < 2) {
				t.Fatalf("token %d: %t, want two of them", n+1, got)
			}
		}
		b.Return(r)
		if !b.Take(r, second) || b.Take(r, second) {
			t.Fatal("want the one that was given back")
		}
		b.Return(r)
		b.Return(r)
	}
	if !b.Take(Rate{}, 0) {
		t.Fatal("no rate refuses")
	}
	b.Return(Rate{})
}

func TestCeiling(t *testing.T) {
	c := NewCeiling(1000)
	for i, s := range []struct {
		used int64
		full bool
	}{{0, false}, {999, false}, {1000, true}, {999, true}, {950, true}, {949, false}, {999, false}, {5000, true}, {0, false}} {
		if got := c.Full(s.used); got != s.full {
			t.Fatalf("step %d, %d bytes: %v", i, s.used, got)
		}
	}
	off := NewCeiling(0)
	if off.Full(1 << 60) {
		t.Fatal("no ceiling is reached")
	}
}

func BenchmarkBucket(b *testing.B) {
	r := PerSecond(1e6, 1e7)
	var k Bucket
	now := int64(0)
	for b.Loop() {
		now += 1000
		k.Take(r, now)
	}
}
