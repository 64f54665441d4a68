package storm

import (
	"math/rand/v2"
	"slices"
	"testing"
)

func TestQueueTurnsRoundWhenOverrun(t *testing.T) {
	q := NewQueue[int](QueueOptions{WaitMS: 1000})
	for i := range 5 {
		q.Push(i, 1, int64(10*i))
	}
	next := func(now int64, want int, overrun bool) {
		t.Helper()
		if v, ok := q.Next(now); !ok || v != want || q.Overrun() != overrun {
			t.Fatalf("at %d ms: got %d, %v, overrun %v; want %d, overrun %v", now, v, ok, q.Overrun(), want, overrun)
		}
	}
	next(100, 0, false) // 100 ms old: the last moment of calm
	next(110, 1, false)
	next(121, 4, true) // 2 is 101 ms old
	q.Push(5, 1, 130)
	next(130, 5, true)
	next(130, 3, true)  // 2 and 3 are left, the wait is over, but it was never empty
	next(130, 2, false) // empty now
	if _, ok := q.Next(130); ok {
		t.Fatal("an empty queue gave something")
	}
	q.Push(6, 1, 140)
	q.Push(7, 1, 141)
	next(150, 6, false)
}

func TestQueueLate(t *testing.T) {
	q := NewQueue[int](QueueOptions{WaitMS: 1000})
	q.Push(1, 1, 0)
	q.Push(2, 1, 500)
	q.Push(3, 1, 900)
	if v, ok := q.Late(999); ok {
		t.Fatalf("%d is late after 999 ms", v)
	}
	if v, ok := q.Late(1000); !ok || v != 1 || !q.Overrun() {
		t.Fatalf("got %d, %v, overrun %v", v, ok, q.Overrun())
	}
	if v, ok := q.Late(1499); ok {
		t.Fatalf("%d is late after 999 ms", v)
	}
	if v, _ := q.Next(1499); v != 3 {
		t.Fatalf("got %d, want the newest", v)
	}
}

func TestQueueBounds(t *testing.T) {
	q := NewQueue[int](QueueOptions{Max: 3, MaxBytes: 100})
	for i := range 3 {
		if !q.Fits(10) {
			t.Fatalf("no room for entry %d of 3", i+1)
		}
		q.Push(i, 10, 0)
	}
	if q.Fits(0) {
		t.Fatal("room for a fourth of 3")
	}
	q.Oldest()
	if !q.Fits(80) || q.Fits(81) {
		t.Fatal("20 of 100 bytes are taken")
	}
	q.Oldest()
	q.Oldest()
	if !q.Fits(1000) {
		t.Fatal("an empty queue takes one of any size: else it could never be taken")
	}
}

// The queue against a slice.
func TestQueueModel(t *testing.T) {
	type item struct {
		id    int
		atMS  int64
		bytes int
	}
	for seed := range uint64(30) {
		rng := rand.New(rand.NewPCG(seed, 3))
		o := QueueOptions{Max: 1 + rng.IntN(3000), MaxBytes: 1 + rng.IntN(100_000), WaitMS: 1000}
		q := NewQueue[int](o)
		var model []item
		overrun := false
		check := func(what string, v int, ok bool, at int) {
			t.Helper()
			if ok != (at >= 0) || ok && model[at].id != v {
				t.Fatalf("seed %d: %s gave %d, %v; want place %d of %v", seed, what, v, ok, at, model)
			}
			if ok {
				model = slices.Delete(model, at, at+1)
			}
			overrun = overrun && len(model) > 0
		}
		rush := 1
		for now := range int64(5000) {
			if rng.IntN(500) == 0 {
				rush = 1 + rng.IntN(6)
			}
			for range rng.IntN(rush + 1) {
				size, sum := rng.IntN(300), 0
				for _, m := range model {
					sum += m.bytes
				}
				fits := len(model) < o.Max && (len(model) == 0 || sum+size <= o.MaxBytes)
				if q.Fits(size) != fits {
					t.Fatalf("seed %d: Fits(%d) is %v with %d entries of %d bytes", seed, size, !fits, len(model), sum)
				}
				if fits {
					id := rng.IntN(1 << 30)
					q.Push(id, size, now)
					model = append(model, item{id, now, size})
				}
			}
			for len(model) > 0 && now-model[0].atMS >= 1000 {
				overrun = true
				v, ok := q.Late(now)
				check("Late", v, ok, 0)
			}
			if v, ok := q.Late(now); ok {
				t.Fatalf("seed %d: Late gave %d", seed, v)
			}
			for range rng.IntN(3) {
				at := len(model) - 1
				if at >= 0 {
					overrun = overrun || now-model[0].atMS > 100
					if !overrun {
						at = 0
					}
				}
				v, ok := q.Next(now)
				check("Next", v, ok, at)
			}
			if q.Len() != len(model) || q.Overrun() != overrun {
				t.Fatalf("seed %d: %d wait, overrun %v; want %d, %v", seed, q.Len(), q.Overrun(), len(model), overrun)
			}
		}
	}
}
