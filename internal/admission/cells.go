package admission

import "math/bits"

// A cell holds a tag, 16 bits of the address's hash, above its count. An address
// has two buckets to choose from and takes the one with more room: so hardly any
// address finds both full, even where three quarters of all cells are taken.

const (
	countBits = 16
	countMask = 1<<countBits - 1
)

// place is where an address's cell may be.
type place struct {
	tag    uint32 // as it stands in a cell
	first  [2]int // first cell of each bucket
	twice  bool   // the buckets are one
	absent bool   // there are no cells
}

// placeOf spreads the hash: the bits that choose the shard are the same for all of a shard's addresses.
func (g *Gate) placeOf(hash uint64) place {
	if g.buckets == 0 {
		return place{absent: true}
	}
	mixed := hash * 0x9e3779b97f4a7c15
	one := bits32(uint32(hash), g.buckets)
	two := bits32(uint32(mixed>>32), g.buckets)
	return place{
		tag:   uint32(hash>>32) << countBits,
		first: [2]int{int(one) * bucketCells, int(two) * bucketCells},
		twice: one == two,
	}
}

// bits32 maps 32 random bits to 0..n-1.
func bits32(x, n uint32) uint32 {
	hi, _ := bits.Mul64(uint64(x)<<32, uint64(n))
	return uint32(hi)
}

// findLocked returns the number of the address's cell, -1 if it has none, and
// where it may have one, -1 if both buckets are full.
func (s *shard) findLocked(p place) (cell, free int) {
	free = -1
	room := 0
	for i, first := range p.first {
		if i == 1 && p.twice {
			break
		}
		at, n := -1, 0
		for c, v := range s.cells[first : first+bucketCells] {
			switch {
			case v == 0:
				at = first + c
				n++
			case v&^countMask == p.tag:
				return first + c, -1
			}
		}
		if n > room {
			free, room = at, n
		}
	}
	return -1, free
}

// countLocked is how many links of the address are logged in.
func (g *Gate) countLocked(s *shard, hash uint64) int {
	p := g.placeOf(hash)
	if p.absent {
		return 0
	}
	if c, _ := s.findLocked(p); c >= 0 {
		return int(s.cells[c] & countMask)
	}
	return 0
}

// addLocked counts a link and returns its cell, -1 if there is no room.
func (g *Gate) addLocked(s *shard, hash uint64) int {
	p := g.placeOf(hash)
	if p.absent {
		return -1
	}
	c, free := s.findLocked(p)
	switch {
	case c >= 0 && s.cells[c]&countMask == countMask:
		return -1 // two addresses share the cell: neither can reach this alone
	case c >= 0:
		s.cells[c]++
		return c
	case free >= 0:
		s.cells[free] = p.tag | 1
		return free
	}
	return -1
}

// dropLocked counts a link less; the last one frees the cell.
func dropLocked(cell *uint32) {
	if *cell--; *cell&countMask == 0 {
		*cell = 0
	}
}
