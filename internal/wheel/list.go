package wheel

import "math/bits"

// node is a timer or the sentinel of a list: circular, doubly linked by index,
// so that a timer can leave its list without a search. A timer with next ==
// none is in no list; fresh zeroed memory is a timer not scheduled.
type node struct{ next, prev uint32 }

// link appends node i to the list of sentinel s.
func (w *Wheel) link(i, s uint32) {
	head := &w.nodes[s]
	last := head.prev
	w.nodes[i] = node{next: s, prev: last}
	w.nodes[last].next = i
	head.prev = i
	w.occ[s>>6] |= 1 << (s & 63)
}

// unlink takes node i out of its list, and marks the list empty if it now is.
func (w *Wheel) unlink(i uint32) {
	n := w.nodes[i]
	w.nodes[n.prev].next = n.next
	w.nodes[n.next].prev = n.prev
	w.nodes[i] = node{}
	if n.next == n.prev && n.next < w.first {
		w.occ[n.next>>6] &^= 1 << (n.next & 63)
	}
}

// splice appends the whole list of sentinel s, which is not empty, to the backlog.
func (w *Wheel) splice(s uint32) {
	from, to := w.nodes[s], &w.nodes[backlog]
	w.nodes[to.prev].next = from.next
	w.nodes[from.next].prev = to.prev
	w.nodes[from.prev].next = backlog
	to.prev = from.prev
	w.nodes[s] = node{next: s, prev: s}
	w.occ[s>>6] &^= 1 << (s & 63)
	w.occ[backlog>>6] |= 1 << (backlog & 63)
}

// spliceAll splices the lists of the sentinels lo to hi-1 that are not empty, in order.
func (w *Wheel) spliceAll(lo, hi uint32) {
	for s := lo; s < hi; s++ {
		word := w.occ[s>>6] >> (s & 63)
		if word == 0 {
			s |= 63
			continue
		}
		s += uint32(bits.TrailingZeros64(word))
		if s < hi {
			w.splice(s)
		}
	}
}
