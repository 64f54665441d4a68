package embedded

import (
	"fmt"
	"math"
)

// expiryIndex orders the users of a lane by their next expiry. It names a user by
// the tag that the table has for it, 4 bytes, so that it holds no pointer and some
// 30 bytes per PushOnline user, where a key takes 80. Who has a tag is asked
// from the table when it is due.
//
// Several users may share a tag. So the index counts them, and keeps the earliest
// of their times: what is popped is looked at, and who is not due is set again.
//
// A heap of times and tags gives the earliest. An entry is never looked for in
// it: an entry whose time is not that of its tag any more is stale, and dropped
// when it comes up or when stale ones are the most.
//
// Times are in units of wakeGridMS, rounded up: never early, and late by less
// than one.
type expiryIndex struct {
	heap []uint64 // time << 32 | tag
	tags tagSet
}

const (
	// expiryBaseMS is time 0, in 2020; the last one is in 2054.
	expiryBaseMS = 1_600_000_000_000
	// notQueued is the time of a tag that the heap does not hold: its users are
	// being decided on.
	notQueued = math.MaxUint32
)

// unitOf is the first unit not before ms.
func unitOf(ms int64) uint32 {
	return uint32(min(max((ms-expiryBaseMS+wakeGridMS-1)/wakeGridMS, 0), notQueued-1))
}

func unitMS(unit uint32) int64 { return expiryBaseMS + int64(unit)*wakeGridMS }

// change follows a user whose next expiry changed: noDue is none, before and after.
func (x *expiryIndex) change(tag uint32, had bool, dueMS int64) {
	has := dueMS != noDue
	switch {
	case !had && has:
		x.tags.add(tag)
		x.queue(tag, dueMS)
	case had && !has:
		x.tags.drop(tag)
		x.compact()
	case had && has:
		if s := x.tags.find(tag); s != nil && s.n == 1 {
			s.unit = notQueued // alone, it may become later
		}
		x.queue(tag, dueMS)
	}
}

// queue makes a tag come up at dueMS at the latest.
func (x *expiryIndex) queue(tag uint32, dueMS int64) {
	s := x.tags.find(tag)
	if s == nil || s.unit <= unitOf(dueMS) {
		return
	}
	s.unit = unitOf(dueMS)
	x.heap = append(x.heap, uint64(s.unit)<<32|uint64(tag))
	x.up(len(x.heap) - 1)
	x.compact()
}

// next returns the earliest time, noDue if there is none.
func (x *expiryIndex) next() int64 {
	for len(x.heap) > 0 {
		if x.valid(x.heap[0]) {
			return unitMS(uint32(x.heap[0] >> 32))
		}
		x.removeFirst()
	}
	return noDue
}

func (x *expiryIndex) valid(e uint64) bool {
	s := x.tags.find(uint32(e))
	return s != nil && s.unit == uint32(e>>32)
}

// pop takes out a tag that is due at nowMS. Each of its users is to be changed
// or queued again.
func (x *expiryIndex) pop(nowMS int64) (tag uint32, ok bool) {
	if x.next() > nowMS {
		return 0, false
	}
	tag = uint32(x.heap[0])
	x.removeFirst()
	x.tags.find(tag).unit = notQueued
	return tag, true
}

func (x *expiryIndex) removeFirst() {
	last := len(x.heap) - 1
	x.heap[0] = x.heap[last]
	x.heap = x.heap[:last]
	x.down(0)
}

func (x *expiryIndex) up(at int) {
	for at > 0 {
		above := (at - 1) / 2
		if x.heap[above] <= x.heap[at] {
			return
		}
		x.heap[above], x.heap[at] = x.heap[at], x.heap[above]
		at = above
	}
}

func (x *expiryIndex) down(at int) {
	for {
		least := at
		for child := 2*at + 1; child <= 2*at+2 && child < len(x.heap); child++ {
			if x.heap[child] < x.heap[least] {
				least = child
			}
		}
		if least == at {
			return
		}
		x.heap[least], x.heap[at] = x.heap[at], x.heap[least]
		at = least
	}
}

// staleMost is how many stale entries are put up with beside as many as there
// are tags.
const staleMost = 64

// compact makes the heap anew when most of it is stale, or of room not used.
func (x *expiryIndex) compact() {
	if len(x.heap) <= 2*x.tags.n+staleMost && cap(x.heap) <= 8*x.tags.n+8*staleMost {
		return
	}
	heap := make([]uint64, 0, x.tags.n+x.tags.n/8)
	for i := range x.tags.slots {
		if s := &x.tags.slots[i]; s.n > 0 && s.unit != notQueued {
			heap = append(heap, uint64(s.unit)<<32|uint64(s.tag))
		}
	}
	x.heap = heap
	for at := len(heap)/2 - 1; at >= 0; at-- {
		x.down(at)
	}
}

// check proves the order, and that each tag that is queued comes up in time.
func (x *expiryIndex) check() error {
	queued := map[uint64]bool{}
	for at, e := range x.heap {
		queued[e] = true
		if up := x.heap[max(at-1, 0)/2]; at > 0 && up > e {
			return fmt.Errorf("expiry index: entry %#x stands below %#x", e, up)
		}
	}
	n := 0
	for i := range x.tags.slots {
		s := &x.tags.slots[i]
		if s.n == 0 {
			continue
		}
		n++
		if x.tags.find(s.tag) != s {
			return fmt.Errorf("expiry index: tag %#x cannot be found", s.tag)
		}
		if s.unit != notQueued && !queued[uint64(s.unit)<<32|uint64(s.tag)] {
			return fmt.Errorf("expiry index: tag %#x is due at %d and not in order", s.tag, unitMS(s.unit))
		}
	}
	if n != x.tags.n {
		return fmt.Errorf("expiry index: %d tags, %d counted", n, x.tags.n)
	}
	return nil
}

// tagSet holds the tags of users that expire: open addressing, 12 bytes a slot.
type tagSet struct {
	slots []tagSlot // a power of two, or none
	n     int       // tags
}

type tagSlot struct {
	tag  uint32
	unit uint32 // when it comes up, notQueued if it does not
	n    uint32 // users; 0 = the slot is free
}

const minTagSlots = 8

func (s *tagSet) home(tag uint32) int {
	return int(uint64(tag*0x9e3779b1) * uint64(len(s.slots)) >> 32)
}

// find returns the slot of a tag until the set changes; nil if there is none.
func (s *tagSet) find(tag uint32) *tagSlot {
	if len(s.slots) == 0 {
		return nil
	}
	for i := s.home(tag); ; i = (i + 1) & (len(s.slots) - 1) {
		switch slot := &s.slots[i]; {
		case slot.n == 0:
			return nil
		case slot.tag == tag:
			return slot
		}
	}
}

// add counts one more user of a tag.
func (s *tagSet) add(tag uint32) {
	if slot := s.find(tag); slot != nil {
		slot.n++
		return
	}
	if 4*(s.n+1) > 3*len(s.slots) {
		s.resize(max(minTagSlots, 2*len(s.slots)))
	}
	s.n++
	s.place(tagSlot{tag, notQueued, 1})
}

func (s *tagSet) place(t tagSlot) {
	i := s.home(t.tag)
	for s.slots[i].n != 0 {
		i = (i + 1) & (len(s.slots) - 1)
	}
	s.slots[i] = t
}

// drop counts one user less.
func (s *tagSet) drop(tag uint32) {
	slot := s.find(tag)
	if slot == nil {
		return
	}
	if slot.n--; slot.n > 0 {
		return
	}
	s.n--
	s.close(tag)
	if s.n == 0 {
		s.slots = nil
	} else if 8*s.n < len(s.slots) && len(s.slots) > minTagSlots {
		s.resize(len(s.slots) / 2)
	}
}

// close moves up what stands behind the slot that the tag has left, so that it
// is found without it.
func (s *tagSet) close(tag uint32) {
	mask := len(s.slots) - 1
	hole := s.home(tag)
	for s.slots[hole].n != 0 {
		hole = (hole + 1) & mask
	}
	for i := (hole + 1) & mask; s.slots[i].n != 0; i = (i + 1) & mask {
		if home := s.home(s.slots[i].tag); (i-home)&mask >= (i-hole)&mask {
			s.slots[hole], s.slots[i].n = s.slots[i], 0
			hole = i
		}
	}
}

func (s *tagSet) resize(size int) {
	old := s.slots
	s.slots = make([]tagSlot, size)
	for i := range old {
		if old[i].n != 0 {
			s.place(old[i])
		}
	}
}
