package main

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

func TestWorthTrimming(t *testing.T) {
	const live = 1 << 30
	quiet, enough := uint64(quietBase+live/quietShare), uint64(trimBase+live/trimShare)
	for _, c := range []struct {
		name           string
		since, trimmed uint64 // bytes allocated in the period, and since the last trim
		want           bool
	}{
		{"nothing happened", 0, 0, false},
		{"quiet, one byte too few", 0, enough, false},
		{"quiet, enough", 0, enough + 1, true},
		{"just quiet", quiet, enough + 1, true},
		{"one byte too busy", quiet + 1, enough + 1, false},
	} {
		now := heapReading{allocated: 1 << 40, live: live}
		before, trimmed := heapReading{allocated: now.allocated - c.since}, heapReading{allocated: now.allocated - c.trimmed}
		if got := worthTrimming(trimmed, before, now); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

// A storm is followed by one trim, not one for each quiet period.
func TestMemoryKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var allocated, trims atomic.Int64
		k := &memoryKeeper{stop: make(chan struct{}), done: make(chan struct{})}
		go k.run(func() heapReading { return heapReading{allocated: uint64(allocated.Load())} }, func() { trims.Add(1) })
		defer k.close()
		synctest.Wait() // it has taken its first reading
		pass := func(bytes int64) {
			allocated.Add(bytes)
			time.Sleep(quietPeriod)
			synctest.Wait()
		}
		for range 3 {
			pass(64 << 20)
		}
		if n := trims.Load(); n != 0 {
			t.Fatalf("%d trims during the storm", n)
		}
		for range 10 {
			pass(100)
		}
		if n := trims.Load(); n != 1 {
			t.Fatalf("%d trims after the storm", n)
		}
	})
}

func TestReadHeap(t *testing.T) {
	before := readHeap()
	room := make([]byte, 1<<20)
	if after := readHeap(); after.allocated-before.allocated < uint64(len(room)) {
		t.Fatalf("1 MiB allocated: %+v, then %+v", before, after)
	}
}
