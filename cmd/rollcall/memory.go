package main

import (
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The memory policy, with its reasons in docs/decisions/0003-memory.md: little
// headroom while links come and go, none when they stand still.

// gcPercent is the garbage allowed beside what is live. A link is few objects
// and a login leaves hardly any garbage, so collections are cheap and rare; the
// headroom of Go's default, as much as is live, is what would cost. GOGC in the
// environment overrides it.
const gcPercent = 50

const (
	// quietPeriod is how long next to nothing must have been allocated before
	// memory is given back.
	quietPeriod = 5 * time.Second
	// quietBase is what a quiet period may allocate on top of a share of what is
	// live: scrapes and probes go on.
	quietBase  = 4 << 20
	quietShare = 16
	// trimBase and trimShare say how much must have been allocated since the last
	// time: no more than that can be given back.
	trimBase  = 8 << 20
	trimShare = 8
)

// heapReading is the heap at one moment, in bytes.
type heapReading struct {
	allocated uint64 // ever
	live      uint64 // left by the last collection
}

// worthTrimming reports whether the time from before to now was quiet after
// enough had been allocated since the last trim.
func worthTrimming(trimmed, before, now heapReading) bool {
	return now.allocated-before.allocated <= quietBase+now.live/quietShare &&
		now.allocated-trimmed.allocated > trimBase+now.live/trimShare
}

func readHeap() heapReading {
	s := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	metrics.Read(s)
	return heapReading{allocated: s[0].Value.Uint64(), live: s[1].Value.Uint64()}
}

// memoryKeeper gives memory back to the kernel after storms.
type memoryKeeper struct {
	stop, done chan struct{}
}

func keepMemory(getenv func(string) (string, bool)) *memoryKeeper {
	if _, set := getenv("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	k := &memoryKeeper{stop: make(chan struct{}), done: make(chan struct{})}
	go k.run(readHeap, debug.FreeOSMemory)
	return k
}

func (k *memoryKeeper) run(read func() heapReading, trim func()) {
	defer close(k.done)
	tick := time.NewTicker(quietPeriod)
	defer tick.Stop()
	trimmed := heapReading{}
	before := read()
	for {
		select {
		case <-k.stop:
			return
		case <-tick.C:
		}
		now := read()
		if worthTrimming(trimmed, before, now) {
			trim()
			trimmed = now
		}
		before = now
	}
}

// close ends the keeper.
func (k *memoryKeeper) close() {
	close(k.stop)
	<-k.done
}
