package rollcall

import "time"

// backoff is exponential with full jitter: clients that lost the same server
// come back spread over the whole interval.
type backoff struct {
	min, max time.Duration
	jitter   func(time.Duration) time.Duration
	tries    int // in a row, without a login that held
}

// next returns how long to wait before the next try. A link that was logged in
// for the longest back-off starts the row anew; one that was not may be part of
// the trouble.
func (b *backoff) next(held time.Duration) time.Duration {
	if held >= b.max {
		b.tries = 0
	}
	ceiling := b.max
	if b.tries < 62 && b.min <= b.max>>b.tries {
		ceiling = b.min << b.tries
	}
	b.tries++
	return b.jitter(ceiling)
}
