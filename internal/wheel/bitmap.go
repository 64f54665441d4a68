package wheel

import "math/bits"

// bitmap is a set of queues.
type bitmap []uint64

func (b bitmap) has(q uint32) bool { return b[q>>6]>>(q&63)&1 != 0 }

func (b bitmap) set(q uint32) { b[q>>6] |= 1 << (q & 63) }

// clear removes q and reports whether it was there.
func (b bitmap) clear(q uint32) bool {
	had := b.has(q)
	b[q>>6] &^= 1 << (q & 63)
	return had
}

// addRange adds what src has of the queues lo to hi-1, and returns how many were new.
func (b bitmap) addRange(src bitmap, lo, hi uint32) (added int) {
	for lo < hi {
		end := min(hi, (lo|63)+1)
		mask := ^uint64(0) << (lo & 63) & (^uint64(0) >> (-end & 63))
		fresh := src[lo>>6] & mask &^ b[lo>>6]
		b[lo>>6] |= fresh
		added += bits.OnesCount64(fresh)
		lo = end
	}
	return added
}

// next returns the first queue of the set from lo to hi-1, none if there is none.
func (b bitmap) next(lo, hi uint32) uint32 {
	for lo < hi {
		if word := b[lo>>6] >> (lo & 63); word != 0 {
			if lo += uint32(bits.TrailingZeros64(word)); lo < hi {
				return lo
			}
			return none
		}
		lo = (lo | 63) + 1
	}
	return none
}
