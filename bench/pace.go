package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// pace is an open-loop schedule that several workers share: each takes the next
// request that is due, whether or not those before it were answered.
type pace struct {
	rate  float64
	begin time.Time
	limit int // requests in all
	next  atomic.Int64
	begun atomic.Int64 // of them, those that have been made
}

// missed is how many requests were not made, after run.
func (p *pace) missed() int { return p.limit - int(p.begun.Load()) }

// run lets workers call do with the number of the request and the time at which
// it was due, until limit requests have been made or ctx ends.
func (p *pace) run(ctx context.Context, workers int, do func(i int, due time.Time)) {
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(p.next.Add(1) - 1)
				if i >= p.limit {
					return
				}
				due := p.begin.Add(dueAt(i, p.rate))
				if wait := time.Until(due); wait > 0 && !pause(ctx, wait) || ctx.Err() != nil {
					return
				}
				p.begun.Add(1)
				do(i, due)
			}
		})
	}
	wg.Wait()
}

// tally is a histogram that several goroutines add to.
type tally struct {
	mu sync.Mutex
	h  *hdrhistogram.Histogram
}

func newTally() *tally { return &tally{h: newHistogram()} }

func (t *tally) add(d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	record(t.h, d)
}

func (t *tally) latency() Latency {
	t.mu.Lock()
	defer t.mu.Unlock()
	return latencyOf(t.h)
}
