package webhook

import "github.com/rollcall-im/rollcall/internal/presence"

// lane is the events of one user, oldest first. Guarded by the mutex of its outbox.
type lane struct {
	key        presence.Key
	app        *appQueue
	head, tail *node
	state      laneState
	nextMS     int64  // laneWaiting: when it becomes runnable
	heapIndex  int    // laneWaiting: place in app.waiting
	prev, next *lane  // laneRunnable: neighbours in app.runnable
	batch      *batch // what its events that are out belong to; nil if they are alone
}

type laneState uint8

const (
	laneIdle     laneState = iota // has no event; about to be forgotten
	laneRunnable                  // in app.runnable
	laneClaimed                   // its first events are out; in no list
	laneWaiting                   // in app.waiting
	laneHeld                      // its batch waits, led by another lane
)

// batch is the lanes whose first events make one request together. All of them
// are claimed; while the batch waits for its next attempt, the first one waits
// for all. A lane alone needs none.
type batch struct{ lanes []*lane }

// node is one event in two lists: its lane's and its app's, both by age.
type node struct {
	event            Event
	out              bool // part of a request that is not settled: must not give way
	spilled          bool // the body is in the store only
	lane             *lane
	laneNext         *node
	appPrev, appNext *node
}

// size is what the event takes of the memory.
func (n *node) size() int64 { return n.event.size() }

// members are the lanes of the request that l is part of.
func (l *lane) members() []*lane {
	if l.batch != nil {
		return l.batch.lanes
	}
	return []*lane{l}
}

// firstFree returns the lane's oldest event that is not out. Those that are out
// are the first ones, no more than a request holds.
func firstFree(l *lane) *node {
	n := l.head
	for n != nil && n.out {
		n = n.laneNext
	}
	return n
}

// unlink takes n out of its lane. It is the head or the first that is not out.
func (l *lane) unlink(n *node) {
	var before *node
	for c := l.head; c != n; c = c.laneNext {
		before = c
	}
	if before == nil {
		l.head = n.laneNext
	} else {
		before.laneNext = n.laneNext
	}
	if l.tail == n {
		l.tail = before
	}
}

// insert puts n at its place by Seq among the events that are not out: the end,
// but for one that is replayed.
func (l *lane) insert(n *node) {
	if l.tail == nil || l.tail.event.Seq < n.event.Seq {
		if l.tail != nil {
			l.tail.laneNext = n
		} else {
			l.head = n
		}
		l.tail = n
		return
	}
	var before *node
	after := l.head
	for after != nil && (after.out || after.event.Seq < n.event.Seq) {
		before, after = after, after.laneNext
	}
	n.laneNext = after
	if before == nil {
		l.head = n
	} else {
		before.laneNext = n
	}
	if after == nil {
		l.tail = n
	}
}

// appQueue is the backlog of one app.
type appQueue struct {
	id             uint32
	count          int
	oldest, newest *node // by order of Append
	runFirst       *lane
	runLast        *lane
	waiting        laneHeap
}

// oldestFree returns the app's oldest event that is not out. Those that are out
// are few: at most the in-flight bound of an endpoint, times the events of a request.
func oldestFree(a *appQueue) *node {
	n := a.oldest
	for n != nil && n.out {
		n = n.appNext
	}
	return n
}

func (a *appQueue) link(n *node) {
	n.appPrev = a.newest
	if a.newest != nil {
		a.newest.appNext = n
	} else {
		a.oldest = n
	}
	a.newest = n
	a.count++
}

func (a *appQueue) unlink(n *node) {
	if n.appPrev != nil {
		n.appPrev.appNext = n.appNext
	} else {
		a.oldest = n.appNext
	}
	if n.appNext != nil {
		n.appNext.appPrev = n.appPrev
	} else {
		a.newest = n.appPrev
	}
	n.appPrev, n.appNext = nil, nil
	a.count--
}

func (a *appQueue) pushRunnable(l *lane) {
	l.state, l.prev, l.next = laneRunnable, a.runLast, nil
	if a.runLast != nil {
		a.runLast.next = l
	} else {
		a.runFirst = l
	}
	a.runLast = l
}

func (a *appQueue) dropRunnable(l *lane) {
	if l.prev != nil {
		l.prev.next = l.next
	} else {
		a.runFirst = l.next
	}
	if l.next != nil {
		l.next.prev = l.prev
	} else {
		a.runLast = l.prev
	}
	l.prev, l.next, l.state = nil, nil, laneIdle
}

// laneHeap orders waiting lanes by the time at which they become runnable.
type laneHeap []*lane

func (h laneHeap) Len() int           { return len(h) }
func (h laneHeap) Less(i, j int) bool { return h[i].nextMS < h[j].nextMS }
func (h laneHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].heapIndex, h[j].heapIndex = i, j
}

// Push implements heap.Interface.
func (h *laneHeap) Push(x any) {
	l := x.(*lane)
	l.heapIndex = len(*h)
	*h = append(*h, l)
}

// Pop implements heap.Interface.
func (h *laneHeap) Pop() any {
	old := *h
	l := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return l
}
