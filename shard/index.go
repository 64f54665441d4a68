package shard

import "sync/atomic"

// minBucketBits is the size of an empty shard's index.
const minBucketBits = 2

// index finds the first record of each bucket of a shard. The buckets divide the
// shard's hashes into equal ranges, in order. Only the current index is stored
// to; one that was replaced stays as it was for the readers that are inside.
type index struct {
	// Immutable.
	lead  uint8 // bits of the hash that chose the shard
	shift uint8 // 64 less the bits that choose the bucket
	// Atomic: the first record in each bucket, nil if it is empty.
	buckets []atomic.Pointer[record]
}

func newIndex(lead, bits uint8) *index {
	return &index{lead: lead, shift: 64 - bits, buckets: make([]atomic.Pointer[record], 1<<bits)}
}

// bucket is the bucket of hash h.
func (x *index) bucket(h uint64) int { return int(h << x.lead >> x.shift) }

// first is the first record in the bucket of hash h, nil if there is none.
func (x *index) first(h uint64) *record { return x.buckets[x.bucket(h)].Load() }

// within returns r if it lies in bucket b, else nil.
func (x *index) within(r *record, b int) *record {
	if r != nil && x.bucket(r.hash) == b {
		return r
	}
	return nil
}

// step is a point in a write. Readers may find the table in the state before each.
type step uint8

const (
	stepIndex step = iota // before a bucket's first record is stored
	stepNext              // before a record's next pointer is stored
	stepPrev              // readers see the change, the writer's own links are not yet right
	stepSwap              // before a new index is stored
	stepDone              // after it
	numSteps
)

// at runs the test's hook.
func (t *Table) at(s step) {
	if t.hook != nil {
		t.hook(s)
	}
}

// locate returns the user's record, or nil and the record before which it belongs
// (nil: at the end of the list).
func (s *shard) locate(h uint64, app uint32, id string) (at, next *record) {
	x := s.index.Load()
	b := x.bucket(h)
	r := x.buckets[b].Load()
	for ; r != nil; r = r.next.Load() {
		switch c := r.compare(h, app, id); {
		case c == 0:
			return r, nil
		case c > 0:
			return nil, r
		}
	}
	// The bucket is empty, or its chain was the last and ran to the end of the list.
	for b++; b < len(x.buckets); b++ {
		if r := x.buckets[b].Load(); r != nil {
			return nil, r
		}
	}
	return nil, nil
}

// insert links r in before next; nil is the end of the list.
func (t *Table) insert(s *shard, r, next *record) {
	prev := s.last
	if next != nil {
		prev = next.prev
	}
	r.prev = prev
	r.next.Store(next)
	x := s.index.Load()
	b := x.bucket(r.hash)
	if x.within(prev, b) == nil {
		t.setFirst(x, b, r)
	}
	t.setNext(prev, r)
	s.setPrev(next, r)
}

// replace puts r in the place of old, the same user's record.
func (t *Table) replace(s *shard, old, r *record) {
	prev, next := old.prev, old.next.Load()
	r.prev = prev
	r.next.Store(next)
	x := s.index.Load()
	b := x.bucket(r.hash)
	if x.within(prev, b) == nil {
		t.setFirst(x, b, r)
	}
	t.setNext(prev, r)
	t.at(stepPrev)
	s.setPrev(next, r)
	old.prev = nil // readers may hold old for a while: it must not hold others
}

// remove unlinks r. Its next pointer stays, for the readers that stand on it.
func (t *Table) remove(s *shard, r *record) {
	prev, next := r.prev, r.next.Load()
	x := s.index.Load()
	b := x.bucket(r.hash)
	if x.within(prev, b) == nil {
		t.setFirst(x, b, x.within(next, b))
	}
	t.setNext(prev, next)
	t.at(stepPrev)
	s.setPrev(next, prev)
	r.prev = nil
}

func (t *Table) setFirst(x *index, b int, r *record) {
	t.at(stepIndex)
	x.buckets[b].Store(r)
}

func (t *Table) setNext(prev, r *record) {
	if prev != nil {
		t.at(stepNext)
		prev.next.Store(r)
	}
}

// setPrev makes prev the record before next; nil is the end of the list.
func (s *shard) setPrev(next, prev *record) {
	if next != nil {
		next.prev = prev
	} else {
		s.last = prev
	}
}

// resize doubles the index when there are more users than buckets, and halves
// it when there are less than a quarter as many.
func (t *Table) resize(s *shard) {
	x, n := s.index.Load(), int(s.n.Load())
	var y *index
	switch {
	case n > len(x.buckets):
		y = x.doubled()
	case n < len(x.buckets)/4 && len(x.buckets) > 1<<minBucketBits:
		y = x.halved()
	default:
		return
	}
	t.at(stepSwap)
	s.index.Store(y)
	t.at(stepDone)
}

// doubled splits each bucket in two. The chain of a bucket is in order: its
// second half begins at the first record that lies there.
func (x *index) doubled() *index {
	y := newIndex(x.lead, 64-x.shift+1)
	for b := range x.buckets {
		r := x.buckets[b].Load()
		if r == nil {
			continue
		}
		y.buckets[2*b].Store(y.within(r, 2*b))
		for y.within(r, 2*b) != nil {
			r = r.next.Load()
		}
		y.buckets[2*b+1].Store(y.within(r, 2*b+1))
	}
	return y
}

// halved joins each pair of buckets.
func (x *index) halved() *index {
	y := newIndex(x.lead, 64-x.shift-1)
	for b := range y.buckets {
		r := x.buckets[2*b].Load()
		if r == nil {
			r = x.buckets[2*b+1].Load()
		}
		y.buckets[b].Store(r)
	}
	return y
}
