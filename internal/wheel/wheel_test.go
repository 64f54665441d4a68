package wheel

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "1000"); err != nil { // a check costs 0.1 ms; the command line wins
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

const noBudget = math.MaxInt

// newWheel returns a wheel with n ids whose structure is checked when the test ends.
func newWheel(tb testing.TB, o Options, n int, nowMS int64) *Wheel {
	w := New(o)
	w.Grow(n)
	w.Start(nowMS)
	tb.Cleanup(func() { check(tb, w) })
	return w
}

func check(tb testing.TB, w *Wheel) {
	tb.Helper()
	if err := w.Check(); err != nil {
		tb.Fatal(err)
	}
}

// fired advances without a budget and returns who was called, in order.
func fired(w *Wheel, nowMS int64) (ids []uint32) {
	w.Advance(nowMS, noBudget, func(id uint32) int64 { ids = append(ids, id); return 0 })
	return ids
}

func wantFired(t *testing.T, w *Wheel, nowMS int64, want ...uint32) {
	t.Helper()
	if got := fired(w, nowMS); !slices.Equal(got, want) {
		t.Fatalf("at %d ms: fired %v, want %v", nowMS, got, want)
	}
}

// A timer fires in the tick after its due time at the latest, and never before it.
func TestDueTimes(t *testing.T) {
	const start, tick = 1_000_000, 100
	for _, c := range []struct {
		name         string
		due          int64
		last, firing int64 // the last time without, the first time with the call
	}{
		{"on a tick", start + 500, start + 499, start + 500},
		{"just after a tick", start + 501, start + 599, start + 600},
		{"just before a tick", start + 599, start + 599, start + 600},
		{"now", start, start + 99, start + 100},
		{"in the past", start - 1, start + 99, start + 100},
		{"long past", 0, start + 99, start + 100},
		{"before 1970", math.MinInt64, start + 99, start + 100},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWheel(t, Options{TickMS: tick, Slots: 64}, 1, start)
			w.Schedule(0, c.due)
			check(t, w)
			wantFired(t, w, c.last)
			wantFired(t, w, c.firing, 0)
			wantFired(t, w, c.firing+1_000_000)
		})
	}
}

// Around every boundary at which a level is turned to or cascades, timers due
// there and beside it fire exactly on time: when the time goes there in one
// jump, tick by tick around the boundaries, or with a budget of one.
func TestCascadeBoundaries(t *testing.T) {
	const slots = 64
	var marks []int64 // times and distances to combine
	for _, edge := range []int64{1, slots, slots << 6, slots << 12, slots << 18} {
		for _, k := range []int64{1, 2, 63, 64, 65} {
			marks = append(marks, edge*k-1, edge*k, edge*k+1)
		}
	}
	slices.Sort(marks)
	marks = slices.Compact(marks)
	for _, start := range marks {
		for _, dist := range marks {
			due := start + dist
			jump := []int64{due - 1}
			steps := between(marks, start, due)
			if err := firesAt(start, due, jump); err != nil {
				t.Fatalf("jump: %v", err)
			}
			if err := firesAt(start, due, steps); err != nil {
				t.Fatalf("steps %v: %v", steps, err)
			}
		}
	}
}

// between returns those of the times, and those at the same distances from
// start, that lie after start and before due; due-1 last.
func between(times []int64, start, due int64) (in []int64) {
	for _, m := range times {
		for _, at := range []int64{m, start + m} {
			if start < at && at < due {
				in = append(in, at)
			}
		}
	}
	slices.Sort(in)
	return append(slices.Compact(in), due-1)
}

// firesAt checks that a timer fires at due and at none of the times before.
func firesAt(start, due int64, before []int64) error {
	w := New(Options{TickMS: 1, Slots: 64})
	w.Grow(2)
	w.Start(start)
	w.Schedule(1, due)
	due = max(due, start+1)
	for _, at := range before {
		if got := fired(w, at); got != nil && at < due {
			return fmt.Errorf("start %d, due %d: fired at %d", start, due, at)
		}
		if err := w.Check(); err != nil {
			return fmt.Errorf("start %d, due %d, at %d: %w", start, due, at, err)
		}
	}
	if got := fired(w, due); !slices.Equal(got, []uint32{1}) {
		return fmt.Errorf("start %d, due %d: fired %v then", start, due, got)
	}
	return w.Check()
}

// A due time beyond the range of the top level is still exact: 64 slots of 2^18
// ticks reach 2^24 ticks; these are several turns of it away.
func TestBeyondLastLevel(t *testing.T) {
	const far = 5<<24 + 12345
	w := newWheel(t, Options{TickMS: 1, Slots: 64}, 2, 0)
	w.Schedule(0, far)
	w.Schedule(1, math.MaxInt64)
	for at := int64(0); at < far; at += 1 << 16 {
		wantFired(t, w, at)
		check(t, w)
	}
	wantFired(t, w, far-1)
	wantFired(t, w, far, 0)
	wantFired(t, w, 1<<60)
	if w.Len() != 1 {
		t.Fatalf("Len is %d, want the timer that is due at the end of time", w.Len())
	}
}

func TestClockBackwards(t *testing.T) {
	w := newWheel(t, Options{TickMS: 10, Slots: 64}, 4, 10_000)
	w.Schedule(0, 10_500)
	w.Schedule(1, 10_500)
	w.Advance(11_000, 1, func(uint32) int64 { return 0 }) // leaves timer 1
	w.Schedule(2, 5_100)                                  // past for a wheel that has seen 11,000
	w.Schedule(3, 11_500)
	wantFired(t, w, 5_000, 1) // the backlog is worked on
	wantFired(t, w, -5_000)
	wantFired(t, w, 11_009)
	wantFired(t, w, 11_010, 2)
	wantFired(t, w, 11_499)
	wantFired(t, w, 11_500, 3)
}

// A jump over hours visits timers, not ticks: it ends, and the budget is spent on timers only.
func TestJumpForward(t *testing.T) {
	w := newWheel(t, Options{TickMS: 1}, 3, 0)
	const century = 100 * 365 * 24 * 3600 * 1000
	w.Schedule(0, 5)
	w.Schedule(1, century/2)
	w.Schedule(2, 2*century)
	visited, more := w.Advance(century, 3, func(uint32) int64 { return 0 })
	if visited > 3 || more || w.Len() != 1 {
		t.Fatalf("visited %d, more %t, Len %d; want at most 3 visits that leave timer 2", visited, more, w.Len())
	}
}

// Whatever a budget leaves is called by the next calls, in order, before timers that came due later.
func TestBudget(t *testing.T) {
	const n = 10
	for _, budget := range []int{-1, 0, 1, n - 1, n, n + 1} {
		w := newWheel(t, Options{TickMS: 1, Slots: 64}, n+1, 0)
		for id := range uint32(n) {
			w.Schedule(id, 5)
		}
		var got []uint32
		due := func(id uint32) int64 { got = append(got, id); return 0 }
		visited, more := w.Advance(5, budget, due)
		want := min(max(budget, 0), n)
		if visited != want || len(got) != want || more != (want < n) {
			t.Fatalf("budget %d: visited %d, called %d, more %t", budget, visited, len(got), more)
		}
		check(t, w)
		w.Schedule(n, 6)
		for more := true; more; {
			_, more = w.Advance(6, 1, due)
		}
		if !slices.Equal(got, []uint32{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, n}) {
			t.Fatalf("budget %d: called %v", budget, got)
		}
	}
}

// A callback that asks for a time that has passed is served in the next tick:
// neither twice in one Advance nor never.
func TestRearmInThePast(t *testing.T) {
	w := newWheel(t, Options{TickMS: 10, Slots: 64}, 1, 0)
	w.Schedule(0, 10)
	calls := 0
	for now := int64(0); now <= 1000; now += 10 {
		w.Advance(now, noBudget, func(uint32) int64 { calls++; return 1 })
	}
	if calls != 100 {
		t.Fatalf("called %d times in 100 ticks", calls)
	}
	w.Advance(100_000, noBudget, func(uint32) int64 { calls++; return 1 })
	if calls != 101 {
		t.Fatalf("a jump over many ticks called %d times, want once", calls-100)
	}
}

// What a callback does to other timers and to its own takes effect at once.
func TestCallbackActs(t *testing.T) {
	w := newWheel(t, Options{TickMS: 1, Slots: 64}, 6, 0)
	for id := range uint32(5) {
		w.Schedule(id, 5)
	}
	var got []uint32
	w.Advance(5, noBudget, func(id uint32) int64 {
		got = append(got, id)
		if w.Scheduled(id) {
			t.Errorf("timer %d is still scheduled in its own call", id)
		}
		switch id {
		case 0:
			w.Cancel(1)        // due in this very Advance
			w.Schedule(2, 100) // the same, put off
			w.Grow(100)
			w.Schedule(99, 0) // new, past: next tick
		case 3:
			w.Schedule(3, 50) // itself, then 0 is returned: stays
		case 4:
			w.Schedule(4, 50)
			return 60 // the returned time wins
		}
		return 0
	})
	if !slices.Equal(got, []uint32{0, 3, 4}) {
		t.Fatalf("called %v, want [0 3 4]", got)
	}
	check(t, w)
	wantFired(t, w, 6, 99)
	wantFired(t, w, 50, 3)
	wantFired(t, w, 60, 4)
	wantFired(t, w, 100, 2)
}

// Ahead names who is called next, within the budget, before any of them is called.
func TestAhead(t *testing.T) {
	const n = 3*chunkLen + 1
	ahead := map[uint32]bool{}
	w := newWheel(t, Options{TickMS: 1, Slots: 64, Ahead: func(id uint32) { ahead[id] = true }}, n, 0)
	for id := range uint32(n) {
		w.Schedule(id, int64(id%2)+5)
	}
	calls := 0
	due := func(id uint32) int64 {
		if calls++; !ahead[id] {
			t.Fatalf("timer %d, call %d, was not announced", id, calls)
		}
		return 0
	}
	w.Advance(4, noBudget, due)
	w.Advance(10, 0, due)
	if len(ahead) != 0 {
		t.Fatalf("%d timers announced, none may be called", len(ahead))
	}
	w.Advance(10, chunkLen+3, due)
	if calls != chunkLen+3 || len(ahead) != calls {
		t.Fatalf("%d timers announced, %d called", len(ahead), calls)
	}
	w.Advance(10, noBudget, due)
	if calls != n {
		t.Fatalf("%d timers called, want %d", calls, n)
	}
}

func TestCancel(t *testing.T) {
	w := newWheel(t, Options{TickMS: 1, Slots: 64}, 3, 0)
	w.Cancel(0) // never scheduled
	for id := range uint32(3) {
		w.Schedule(id, 5)
	}
	w.Cancel(1)
	w.Cancel(1)
	if w.Len() != 2 || w.Scheduled(1) || !w.Scheduled(0) {
		t.Fatalf("Len %d, timer 1 scheduled: %t", w.Len(), w.Scheduled(1))
	}
	wantFired(t, w, 10, 0, 2)
	w.Cancel(0) // fired
	if w.Len() != 0 {
		t.Fatalf("Len is %d after all fired", w.Len())
	}
}

// Due times are kept only from the first far timer on; those scheduled before
// it and moved after it keep their times.
func TestDueTimesKeptLate(t *testing.T) {
	w := newWheel(t, Options{TickMS: 1, Slots: 64}, 4, 0)
	w.Schedule(0, 10)
	w.Schedule(1, 20)
	if w.due != nil {
		t.Fatal("near timers made the wheel keep due times")
	}
	w.Schedule(2, 1000)
	check(t, w)
	w.Schedule(2, 30) // its old due time must not hold it back
	w.Schedule(1, 2000)
	w.Grow(10)
	w.Schedule(9, 3000)
	check(t, w)
	wantFired(t, w, 10, 0)
	wantFired(t, w, 30, 2)
	wantFired(t, w, 1999)
	wantFired(t, w, 2000, 1)
	wantFired(t, w, 3000, 9)
}

// Without Start the wheel is slower, not wrong.
func TestNoStart(t *testing.T) {
	w := New(Options{})
	w.Grow(1)
	const now = 1_780_000_000_000
	w.Schedule(0, now)
	wantFired(t, w, now-DefaultTickMS)
	wantFired(t, w, now+DefaultTickMS, 0)
	check(t, w)
}

func TestPanics(t *testing.T) {
	w := newWheel(t, Options{Slots: 64}, 2, 0)
	w.Schedule(1, 100)
	for _, c := range []struct {
		want string
		f    func()
	}{
		{"TickMS is -1", func() { New(Options{TickMS: -1}) }},
		{"Slots is 32", func() { New(Options{Slots: 32}) }},
		{"Slots is 63", func() { New(Options{Slots: 63}) }},
		{"Slots is 65", func() { New(Options{Slots: 65}) }},
		{"Slots is 33554432", func() { New(Options{Slots: 2 * maxSlots}) }},
		{"Start with 1 timers", func() { w.Start(1) }},
		{"cannot grow to -1", func() { w.Grow(-1) }},
		{"cannot grow to 16777217", func() { w.Grow(MaxIDs + 1) }},
		{"id 2 out of range, there are 2", func() { w.Schedule(2, 0) }},
		{"id 2 out of range", func() { w.Cancel(2) }},
		{"id 2 out of range", func() { w.Scheduled(2) }},
		{"id 4294967295 out of range", func() { w.Schedule(math.MaxUint32, 0) }},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, c.want) {
					t.Errorf("panic %q, want %q", got, c.want)
				}
			}()
			c.f()
		}()
	}
}

func TestGrowKeepsTimers(t *testing.T) {
	w := newWheel(t, Options{TickMS: 1, Slots: 64}, 2, 0)
	w.Schedule(0, 10)
	w.Schedule(1, 10)
	w.Grow(1) // no shrinking
	w.Grow(10_000)
	w.Schedule(9_999, 10)
	wantFired(t, w, 10, 0, 1, 9_999)
}

// With the ids grown, nothing allocates.
func TestNoAllocation(t *testing.T) {
	const n = 1000
	w := newWheel(t, Options{TickMS: 1, Slots: 64, Ahead: func(uint32) {}}, n, 0)
	w.Schedule(0, 1<<40) // due times are kept from here on
	now := int64(0)
	due := func(id uint32) int64 { return now + int64(id) }
	allocs := testing.AllocsPerRun(100, func() {
		for id := range uint32(n) {
			w.Schedule(id, now+int64(id)*7)
			if id%3 == 0 {
				w.Cancel(id)
			}
		}
		now += 37
		w.Advance(now, 500, due)
	})
	if allocs != 0 {
		t.Fatalf("%v allocations per round, want 0", allocs)
	}
}

// A chunk is two cache lines, and a timer costs what the package says.
func TestLayout(t *testing.T) {
	if s := unsafe.Sizeof(chunk{}); s != 128 {
		t.Errorf("a chunk is %d bytes, want 128", s)
	}
	if chunkLen > 1<<indexBits || MaxIDs > 1<<(32-indexBits) {
		t.Error("a position has no room for every chunk and index")
	}
}

// However timers are moved and cancelled, the wheel holds on to no more chunks
// than full ones for the most timers there were, and two per slot.
func TestChunksBounded(t *testing.T) {
	const n, slots = 1 << 14, 64
	w := newWheel(t, Options{TickMS: 1, Slots: slots}, n, 0)
	rng := rand.New(rand.NewPCG(1, 2))
	now := int64(0)
	for range 20 {
		for range n {
			id := rng.Uint32N(n)
			if rng.IntN(4) == 0 {
				w.Cancel(id)
			} else {
				w.Schedule(id, now+rng.Int64N(slots))
			}
		}
		now += 10
		w.Advance(now, n/8, func(uint32) int64 { return now + rng.Int64N(slots) })
		check(t, w)
	}
	if got, most := len(w.chunks)*segChunks, n/chunkLen+2*int(w.numQueues())+segChunks; got > most {
		t.Fatalf("%d chunks for %d timers, want at most %d", got, n, most)
	}
}

// Timers that are due a turn after slots that are still late do not mix with
// those: they fire in their own tick, and the late ones do not wait for them.
func TestTurnBehind(t *testing.T) {
	const slots = 64
	w := newWheel(t, Options{TickMS: 1, Slots: slots}, 2*slots, 0)
	for id := range uint32(slots) {
		w.Schedule(id, int64(id)+1)
	}
	due := map[uint32]int64{}
	now := int64(slots - 1) // one slot has not passed
	late := 0
	fire := func(id uint32) int64 {
		if id < slots {
			late++
		} else if due[id] > now {
			t.Errorf("timer %d fired at %d, due at %d", id, now, due[id])
		}
		delete(due, id)
		return 0
	}
	if visited, more := w.Advance(now, 1, fire); visited != 1 || !more {
		t.Fatalf("visited %d, more %t", visited, more)
	}
	for id := uint32(slots); id < 2*slots; id++ {
		due[id] = now + 1 + int64(id-slots)
		w.Schedule(id, due[id])
		check(t, w)
	}
	if !w.occ.has(aside) {
		t.Fatal("no timer waits aside")
	}
	w.Advance(now, 1, fire)
	check(t, w)
	for ; now < 2*slots; now++ {
		w.Advance(now, noBudget, fire)
		check(t, w)
		for id, d := range due {
			if d <= now {
				t.Fatalf("timer %d due at %d did not fire at %d", id, d, now)
			}
		}
	}
	if late != slots || len(due) != 0 {
		t.Fatalf("%d late timers fired, want %d; %d others left", late, slots, len(due))
	}
}

// A million timers of links that come, beat and go cost at most 8 bytes each,
// everything included.
func TestBytesPerTimer(t *testing.T) {
	w := New(Options{})
	w.Grow(million)
	rng := rand.New(rand.NewPCG(1, 2))
	now := int64(0)
	random := func() int64 { return now + timeoutMS - rng.Int64N(120_000) }
	for id := range uint32(million) {
		w.Schedule(id, rng.Int64N(timeoutMS))
	}
	for now < 2*timeoutMS {
		now += 10 * DefaultTickMS
		w.Advance(now, noBudget, func(uint32) int64 { return random() })
		for range 1000 { // a link goes, another gets its slot
			id := rng.Uint32N(million)
			w.Schedule(id, now+10_000)
			w.Schedule(id, random())
		}
	}
	check(t, w)
	size := uintptr(len(w.positions))*unsafe.Sizeof(posSeg{}) + uintptr(len(w.chunks))*unsafe.Sizeof(chunkSeg{}) +
		uintptr(len(w.last))*4 + uintptr(len(w.occ)+len(w.late))*8 + uintptr(cap(w.positions)+cap(w.chunks))*8
	if w.due != nil {
		t.Error("near timers made the wheel keep due times")
	}
	if perTimer := float64(size) / million; perTimer > 8 {
		t.Errorf("%.2f bytes per timer, want at most 8", perTimer)
	} else {
		t.Logf("%.2f bytes per timer", perTimer)
	}
}
