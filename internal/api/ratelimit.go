package api

import (
	"maps"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// bucket is a token bucket that holds one second's worth, at least one call. It
// is kept as the time at which it will be full again (the "virtual scheduling"
// form of the generic cell rate algorithm, ITU-T I.371), which is one word: so
// callers need no lock. The zero value is full.
type bucket struct {
	fullNS atomic.Int64
}

// take takes a token if there is one. A clock that steps back earns nothing.
func (b *bucket) take(nowNS int64, perSecond float64) bool {
	each := min(1e9/perSecond, 1e17) // time to earn a token, at most three years
	room := int64((max(1, perSecond) - 1) * each)
	for {
		old := b.fullNS.Load()
		full := max(old, nowNS)
		// Emptier than empty: the clock went back, or the limit was raised.
		full = min(full, nowNS+room+int64(each))
		ok := full-nowNS <= room
		if ok {
			full += int64(each)
		}
		if full == old || b.fullNS.CompareAndSwap(old, full) {
			return ok
		}
	}
}

// rateLimits has a bucket per app and command. It grows with the apps that exist.
type rateLimits struct {
	apps atomic.Pointer[map[uint32]*appBuckets] // replaced, never written
}

type appBuckets [numBuckets]bucket

// take reports whether one more call of an existing app is within perSecond.
func (l *rateLimits) take(app uint32, index int, now time.Time, perSecond float64) bool {
	return l.of(app)[index].take(now.UnixNano(), perSecond)
}

// of returns the buckets of an app, full ones if it is new.
func (l *rateLimits) of(app uint32) *appBuckets {
	for {
		old := l.apps.Load()
		if old != nil {
			if a := (*old)[app]; a != nil {
				return a
			}
		}
		grown := make(map[uint32]*appBuckets)
		if old != nil {
			maps.Copy(grown, *old)
		}
		grown[app] = new(appBuckets)
		l.apps.CompareAndSwap(old, &grown)
	}
}

// A caller whose UserSig failed maxFailures times within failureWindow is locked
// out for lockout.
const (
	maxFailures   = 10
	failureWindow = time.Minute
	lockout       = time.Minute
)

// caller is who failed: only this triple is locked out, so that nobody can lock
// out another.
type caller struct {
	ip         netip.Addr
	app        uint32
	identifier string
}

type failureRecord struct {
	count  int
	first  time.Time
	locked time.Time // until then; zero = not locked
}

// failureTable remembers failed verifications of at most max callers. A new one
// takes the place of the one remembered longest, so a flood of invented callers
// costs no memory; it can shorten a lock-out, at the price of max failures.
type failureTable struct {
	max     int
	evicted *metrics.Counter
	size    atomic.Int64 // callers remembered; lets the usual case pass without the lock

	// Guarded by mu.
	mu      sync.Mutex
	records map[caller]*failureRecord
	order   []caller // ring of the keys of records, oldest at next once it is full
	next    int
}

func newFailureTable(limit int, m *metrics.Set) *failureTable {
	return &failureTable{
		max:     limit,
		evicted: m.Counter("rollcall_rest_failure_records_evicted_total"),
		records: make(map[caller]*failureRecord),
	}
}

// locked reports whether the caller must wait.
func (t *failureTable) locked(c caller, now time.Time) bool {
	if t.size.Load() == 0 {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.records[c]
	return r != nil && now.Before(r.locked)
}

// failed records a failure and reports whether it is the one that locks the
// caller out. It keeps a copy of c.identifier.
func (t *failureTable) failed(c caller, now time.Time) (locks bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.records[c]
	if r == nil {
		r = t.addLocked(c)
	}
	if r.count == 0 || now.Sub(r.first) >= failureWindow || now.Before(r.first) {
		*r = failureRecord{first: now}
	}
	if r.count++; r.count == maxFailures {
		*r = failureRecord{locked: now.Add(lockout)}
		return true
	}
	return false
}

func (t *failureTable) addLocked(c caller) *failureRecord {
	c.identifier = strings.Clone(c.identifier)
	if len(t.order) < t.max {
		t.order = append(t.order, c)
	} else {
		t.evicted.Inc()
		delete(t.records, t.order[t.next])
		t.order[t.next] = c
		t.next = (t.next + 1) % t.max
	}
	r := new(failureRecord)
	t.records[c] = r
	t.size.Store(int64(len(t.records)))
	return r
}
