package shard

import (
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
)

// DefaultMaxNames is how many names a table keeps once each by default.
const DefaultMaxNames = 16384

// maxName is the longest string that is worth a place among the names.
const maxName = 64

// probes is how many places a name may take.
const probes = 16

// names keeps strings that many users share (SDK versions, models, listeners,
// zones) once each, and gives them numbers. It only grows, up to max: what finds
// no place is spelled out in the record, so a client that makes names up costs
// others nothing but the bytes. All operations are lock-free; lookups by number
// and of known names only load.
type names struct {
	// Immutable after init.
	max   int64
	slots []atomic.Pointer[string]

	// Atomic.
	n       atomic.Int64
	refused atomic.Int64
}

func (t *names) init(max int) {
	size := 64
	for size < 2*max {
		size *= 2
	}
	t.max, t.slots = int64(max), make([]atomic.Pointer[string], size)
}

// number returns the number of s, entering it if there is room.
func (t *names) number(s string) (n uint32, ok bool) {
	if len(s) > maxName {
		return 0, false
	}
	h := xxhash.Sum64String(s)
	for i := range uint64(probes) {
		at := (h + i) & uint64(len(t.slots)-1)
		p := t.slots[at].Load()
		if p == nil {
			if p = t.enter(at, s); p == nil {
				break
			}
		}
		if *p == s {
			return uint32(at), true
		}
	}
	t.refused.Add(1)
	return 0, false
}

// enter puts s into an empty place and returns whose the place is; nil if the table is full.
func (t *names) enter(at uint64, s string) *string {
	if t.n.Add(1) > t.max {
		t.n.Add(-1)
		return nil
	}
	own := string(append([]byte(nil), s...)) // s may lie in a larger string
	if !t.slots[at].CompareAndSwap(nil, &own) {
		t.n.Add(-1)
	}
	return t.slots[at].Load()
}

// name returns name number n. Its memory is its own.
func (t *names) name(n uint32) string { return *t.slots[n].Load() }
