package engine

import (
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// item is something that another goroutine hands to a loop. Exactly one of its
// fields besides next is set.
type item struct {
	next        *item
	login       *loginCall
	leave       *leaveCall
	notice      *directory.Notice
	follow      *followCall
	tls         *secure // its handshake has something to send, or is over
	change      *directory.Change
	changesLost bool // more changes than may wait came: the links that follow are to be ended
	drain       bool // the node stops: tell every link
}

// queue carries items from any goroutine to the loop that owns it, in order. A
// producer pushes onto a stack with one compare-and-swap; the loop takes all of
// it with one swap and turns it round. It needs no bound of its own: every link
// has at most one login, one leave, one notice, one follow and three turns of a
// handshake on the way, changes are counted (Loop.postChange), and a node stops
// once.
type queue struct {
	head atomic.Pointer[item]
}

func (q *queue) push(it *item) {
	for {
		it.next = q.head.Load()
		if q.head.CompareAndSwap(it.next, it) {
			return
		}
	}
}

func (q *queue) empty() bool { return q.head.Load() == nil }

// takeAll empties the queue; the items are linked in the order of their pushes.
func (q *queue) takeAll() *item {
	var first *item
	for it := q.head.Swap(nil); it != nil; {
		next := it.next
		it.next = first
		first, it = it, next
	}
	return first
}
