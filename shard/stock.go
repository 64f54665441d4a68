package shard

import (
	"math/bits"
	"slices"
)

// grace is how many lines wait before they are used again. Readers do not need
// it to be right; it makes it rare that one has to look again.
const grace = 32

// stock is the lines of one shard, owned by its writer. New lines come from the
// first page that has some, so that the pages at the end run empty.
type stock struct {
	arena *arena
	grace int      // at most grace, less in tests
	pages []uint32 // that the shard holds
	avail []uint64 // a bit per page: it has free lines
	lines int      // in use or waiting

	wait   [grace]uint32 // retired lines, a ring
	oldest int
	waits  int
}

// take returns a line to write a record to.
func (s *stock) take() uint32 {
	s.lines++
	for i, w := range s.avail {
		if w != 0 {
			return s.takeFrom(i*64 + bits.TrailingZeros64(w))
		}
	}
	p := s.arena.alloc(0)
	pg := s.arena.page(p)
	pg.free, pg.pos = ^uint64(0), uint32(len(s.pages))
	s.pages = append(s.pages, p)
	if len(s.pages) > 64*len(s.avail) {
		s.avail = append(s.avail, 0)
	}
	s.setAvail(pg.pos, true)
	return s.takeFrom(int(pg.pos))
}

func (s *stock) takeFrom(pos int) uint32 {
	p := s.pages[pos]
	pg := s.arena.page(p)
	bit := bits.TrailingZeros64(pg.free)
	pg.free &= pg.free - 1
	if pg.free == 0 {
		s.setAvail(uint32(pos), false)
	}
	return p<<pageBits | uint32(bit)
}

func (s *stock) setAvail(pos uint32, on bool) {
	if on {
		s.avail[pos/64] |= 1 << (pos % 64)
	} else {
		s.avail[pos/64] &^= 1 << (pos % 64)
	}
}

// retire takes back a line that readers may still stand on.
func (s *stock) retire(n uint32) {
	if s.waits >= s.grace {
		s.put(s.wait[s.oldest])
		s.waits--
		s.oldest = (s.oldest + 1) % grace
	}
	s.wait[(s.oldest+s.waits)%grace] = n
	s.waits++
}

// drain ends the waiting of all lines: the shard is empty.
func (s *stock) drain() {
	for ; s.waits > 0; s.waits-- {
		s.put(s.wait[s.oldest])
		s.oldest = (s.oldest + 1) % grace
	}
	for s.lines == 0 && len(s.pages) > 0 {
		s.drop()
	}
}

// put makes a line free. Pages at the end without a line in use are given back,
// but for a page's worth of free lines.
func (s *stock) put(n uint32) {
	s.lines--
	pg := s.arena.page(n >> pageBits)
	pg.free |= 1 << (n % pageLines)
	s.setAvail(pg.pos, true)
	for ^pg.free == 0 && int(pg.pos) == len(s.pages)-1 && s.room() >= 2*pageLines {
		s.drop()
		pg = s.arena.page(s.pages[len(s.pages)-1])
	}
}

// room is the number of free lines.
func (s *stock) room() int { return len(s.pages)*pageLines - s.lines }

// drop gives the last page back.
func (s *stock) drop() {
	last := len(s.pages) - 1
	p := s.pages[last]
	s.setAvail(uint32(last), false)
	s.pages = s.pages[:last]
	s.avail = s.avail[:(last+63)/64]
	s.arena.release(p, 0)
}

// sparse reports whether the shard holds half as many pages again as its lines
// need with some room; then records are moved off the pages from number keep on.
func (s *stock) sparse() (keep uint32, yes bool) {
	need := s.lines/pageLines + s.lines/(4*pageLines) + 1
	return uint32(need), len(s.pages) > need+need/2+1
}

// sort orders the pages by number. New lines then come from the lowest, and the
// highest run empty: in all shards, so that whole chunks do.
func (s *stock) sort() {
	slices.Sort(s.pages)
	for pos, p := range s.pages {
		pg := s.arena.page(p)
		pg.pos = uint32(pos)
		s.setAvail(pg.pos, pg.free != 0)
	}
}

// pos is where the page of line n stands in the shard's list.
func (s *stock) pos(n uint32) uint32 { return s.arena.page(n >> pageBits).pos }
