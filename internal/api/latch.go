package api

import "sync/atomic"

// latch is what a caller waits on for the end of an op. The usual case, an op
// that is done before the call that issued it returns, costs two atomic
// operations and neither a channel nor a timer. Reset it before each use; after
// one that timed out it must not be used again.
type latch struct {
	state atomic.Uint32
	late  chan struct{} // has a value when the op was done after somebody began to wait
}

// States of a latch.
const (
	latchShut    = iota // issued
	latchAwaited        // the caller waits on late
	latchOpen           // done
)

func newLatch() latch { return latch{late: make(chan struct{}, 1)} }

// reset is called by the caller before the op is issued.
func (l *latch) reset() { l.state.Store(latchShut) }

// open is called once when the op is done, on any goroutine. It does not block.
func (l *latch) open() {
	if l.state.Swap(latchOpen) == latchAwaited {
		l.late <- struct{}{}
	}
}

// isOpen reports whether the op is done; if not, open will send on late.
func (l *latch) isOpen() bool {
	return l.state.Load() == latchOpen || !l.state.CompareAndSwap(latchShut, latchAwaited)
}

// awaitLatch waits until l is open, at most Options.CallTimeout. False: the
// directory still owns the op, which must be left alone.
func (s *Server) awaitLatch(l *latch) bool { return l.isOpen() || s.await(l.late) }
