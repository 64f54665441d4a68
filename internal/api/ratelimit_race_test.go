package api

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestRateConcurrently: callers at one moment get a second's worth between them.
func TestRateConcurrently(t *testing.T) {
	var l rateLimits
	var got [3]atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 500 {
				for app := range got {
					if l.take(uint32(app), 0, testStart, 1000) {
						got[app].Add(1)
					}
				}
			}
		})
	}
	wg.Wait()
	for app := range got {
		if n := got[app].Load(); n != 1000 {
			t.Errorf("app %d: %d calls of 1000", app, n)
		}
	}
	if l.take(0, 0, testStart.Add(time.Millisecond-1), 1000) || !l.take(0, 0, testStart.Add(time.Millisecond), 1000) {
		t.Error("a call is earned in a millisecond, and not before")
	}
}

// TestBucketClockBack: after a step back of the clock a bucket is empty, not shut
// until the clock is where it was.
func TestBucketClockBack(t *testing.T) {
	var b bucket
	at := testStart.UnixNano()
	if !b.take(at, 2) {
		t.Fatal("not full at first")
	}
	back := at - int64(time.Hour)
	if b.take(back, 2) || b.take(back+int64(time.Second/2)-1, 2) || !b.take(back+int64(time.Second/2), 2) {
		t.Error("want the next call half a second after the step")
	}
}
