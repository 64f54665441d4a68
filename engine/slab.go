package engine

import (
	"fmt"

	"github.com/rollcall-im/rollcall/internal/admission"
	"github.com/rollcall-im/rollcall/internal/presence"
)

const chunkSize = 256

// slab holds a loop's sessions at fixed addresses. A slot that is used again
// gets the next generation, so that a LinkID never names a second link. The
// first generation is random: a link id that the store remembers from an earlier
// run of this node must name nothing either.
type slab struct {
	loop   uint8
	base   uint32 // first generation
	max    int    // slots, a multiple of chunkSize; maxSlotsPerLoop but in tests
	chunks []*[chunkSize]Session
	// What each slot's link holds of the limits of its address, only where there
	// are such limits; nets where an address and its /64 are both counted.
	tracks, both bool
	holds, nets  []*[chunkSize]uint32
	free         []uint32 // slots, last freed first
	used         int
}

// full reports whether alloc would find no slot.
func (b *slab) full() bool { return len(b.free) == 0 && b.slots() >= b.max }

// alloc returns an unused session with a fresh id, nil if all slots that the
// LinkID has room for are taken. grown tells that slots were added.
func (b *slab) alloc() (s *Session, grown bool) {
	if len(b.free) == 0 {
		if b.slots() >= b.max {
			return nil, false
		}
		b.grow()
		grown = true
	}
	slot := b.free[len(b.free)-1]
	b.free = b.free[:len(b.free)-1]
	b.used++
	return b.at(slot), grown
}

func (b *slab) grow() {
	first := uint32(b.slots())
	chunk := new([chunkSize]Session)
	b.chunks = append(b.chunks, chunk)
	if b.tracks {
		b.holds = append(b.holds, new([chunkSize]uint32))
	}
	if b.both {
		b.nets = append(b.nets, new([chunkSize]uint32))
	}
	for i := chunkSize - 1; i >= 0; i-- {
		chunk[i].id = presence.MakeLinkID(b.loop, first+uint32(i), b.base)
		b.free = append(b.free, first+uint32(i))
	}
}

// release makes the session's slot usable again under the next generation. A
// slot whose generations are all used up is not used again.
func (b *slab) release(s *Session) {
	slot, gen := s.id.Slot(), s.id.Gen()+1
	if gen == 0 {
		gen = 1
	}
	*s = Session{id: presence.MakeLinkID(b.loop, slot, gen)}
	b.used--
	if gen != b.base {
		b.free = append(b.free, slot)
	}
}

// get returns the live session that id names, nil if there is none (any more).
func (b *slab) get(id presence.LinkID) *Session {
	if int(id.Slot()) >= b.slots() {
		return nil
	}
	s := b.at(id.Slot())
	if s.id != id || s.state == stateFree {
		return nil
	}
	return s
}

func (b *slab) slots() int { return len(b.chunks) * chunkSize }

func (b *slab) at(slot uint32) *Session { return &b.chunks[slot/chunkSize][slot%chunkSize] }

// hold is what the slot's link holds.
func (b *slab) hold(slot uint32) (h admission.Hold) {
	if b.tracks {
		h.First = b.holds[slot/chunkSize][slot%chunkSize]
	}
	if b.both {
		h.Net = b.nets[slot/chunkSize][slot%chunkSize]
	}
	return h
}

func (b *slab) setHold(slot uint32, h admission.Hold) {
	if b.tracks {
		b.holds[slot/chunkSize][slot%chunkSize] = h.First
	}
	if b.both {
		b.nets[slot/chunkSize][slot%chunkSize] = h.Net
	}
}

// held adds up what links hold and returns how many of them are not logged in.
func (b *slab) held(sum *admission.Counts) (unauthenticated int) {
	for slot := range uint32(b.slots()) {
		h := b.hold(slot)
		sum.Add(h)
		if s := b.at(slot); s.state != stateFree && !s.has(flagAuthenticated) {
			unauthenticated++
		}
	}
	return unauthenticated
}

// check proves the slab consistent: every slot is either live or free once.
func (b *slab) check() error {
	free := make(map[uint32]bool, len(b.free))
	for _, slot := range b.free {
		if free[slot] {
			return fmt.Errorf("slab: slot %d is free twice", slot)
		}
		free[slot] = true
	}
	live := 0
	for i := range uint32(b.slots()) {
		s := b.at(i)
		if s.id.Slot() != i || s.id.Loop() != b.loop || s.id.Gen() == 0 {
			return fmt.Errorf("slab: slot %d has the id %x", i, uint64(s.id))
		}
		if s.state != stateFree {
			live++
		}
		if s.state != stateFree && free[i] {
			return fmt.Errorf("slab: slot %d is free and %v", i, s.state)
		}
	}
	if live != b.used {
		return fmt.Errorf("slab: %d sessions are live, %d are counted", live, b.used)
	}
	return nil
}
