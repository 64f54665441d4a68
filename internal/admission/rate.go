package admission

import (
	"math"
	"sync/atomic"
)

// Bounds of rates.
const (
	MaxRate  = 1e6 // a second
	MaxBurst = 1e7
)

// Rate is a limit on how often something may happen. The zero value is none.
type Rate struct {
	eachNS int64 // time to earn a token; 0 = unlimited
	roomNS int64 // how much of it may be owed: that of all tokens of the burst but one
}

// PerSecond is a rate of n a second with burst at once, at least 1; an n of 0 is
// unlimited. Bounds are MaxRate and MaxBurst.
func PerSecond(n, burst float64) Rate {
	if n <= 0 {
		return Rate{}
	}
	// The slowest rate is one in three years; a clock of 292 years holds what is owed.
	each := math.Ceil(min(1e9/n, 1e17))
	return Rate{eachNS: int64(each), roomNS: int64(min((max(burst, 1)-1)*each, 1e18))}
}

// take takes a token of a bucket that will be full at full, if there is one, and
// returns when it will be full then. A bucket is kept as this one time (the
// "virtual scheduling" form of the generic cell rate algorithm, ITU-T I.371). A
// clock that steps back earns nothing.
func (r Rate) take(full, now int64) (int64, bool) {
	full = min(max(full, now), now+r.roomNS+r.eachNS) // emptier than empty: the clock went back
	if full-now > r.roomNS {
		return full, false
	}
	return full + r.eachNS, true
}

// Bucket is a bucket that any goroutine may take from. The zero value is full.
type Bucket struct{ fullNS atomic.Int64 }

// Return gives a token back that was taken for nothing.
func (b *Bucket) Return(r Rate) { b.fullNS.Add(-r.eachNS) }

// Take takes a token if there is one.
func (b *Bucket) Take(r Rate, nowNS int64) bool {
	if r == (Rate{}) {
		return true
	}
	for {
		old := b.fullNS.Load()
		full, ok := r.take(old, nowNS)
		if full == old || b.fullNS.CompareAndSwap(old, full) {
			return ok
		}
	}
}
