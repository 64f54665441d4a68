package main

import (
	"log/slog"
	"maps"
	"slices"
	"time"
)

// Refused connections are counted, not logged: a flood would fill the disk. But who has no dashboard yet must
// not look for the reason in vain, so the log tells from time to time how many there were.

const (
	refusalsLook   = 5 * time.Second // between two looks at the counters
	refusalsPeriod = time.Minute     // at least, between two lines
)

// refusalWatch logs the connections that limits refuse (docs/limits.md).
type refusalWatch struct {
	// Immutable after newRefusalWatch.
	counts     func() map[string]uint64 // refused so far, by reason
	log        *slog.Logger
	stop, done chan struct{}

	// Owned by the goroutine.
	told map[string]uint64
	at   time.Time // of the last line
}

func newRefusalWatch(counts func() map[string]uint64, log *slog.Logger) *refusalWatch {
	return &refusalWatch{counts: counts, log: log, stop: make(chan struct{}), done: make(chan struct{})}
}

func (w *refusalWatch) run() {
	defer close(w.done)
	tick := time.NewTicker(refusalsLook)
	defer tick.Stop()
	for {
		select {
		case <-w.stop:
			return
		case now := <-tick.C:
			w.step(now)
		}
	}
}

// step logs what is new, if the last line is long enough ago.
func (w *refusalWatch) step(now time.Time) {
	if (w.at.IsZero() || now.Sub(w.at) >= refusalsPeriod) && w.tell() {
		w.at = now
	}
}

// tell logs how many were refused since the last line, by reason, and reports whether there were any.
func (w *refusalWatch) tell() bool {
	counts := w.counts()
	var more []any
	for _, reason := range slices.Sorted(maps.Keys(counts)) {
		if n := counts[reason] - w.told[reason]; n > 0 {
			more = append(more, reason, n)
		}
	}
	w.told = counts
	if more == nil {
		return false
	}
	w.log.Warn("links were refused by limits (docs/limits.md)", more...)
	return true
}

// close ends the watch and logs what it has not told yet.
func (w *refusalWatch) close() {
	close(w.stop)
	<-w.done
	w.tell()
}
