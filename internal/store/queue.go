package store

import (
	"sync"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// submission is one Commit.
type submission struct {
	write func(Writer)
	done  func(error)
}

// Commit makes what write writes durable, all or nothing, and calls done: with
// nil when that is so, else with an error, and then the store holds nothing of
// it. write is called once, later, on the committer's goroutine, and not at all
// if the submission fails before; it must not wait for anything.
//
// Commits become durable, and are told, in the order of the calls. Commit does
// not wait. A submission that is refused at once is told before it returns.
func (s *Store) Commit(write func(Writer), done func(error)) {
	err := s.queue.put(submission{write, done})
	if err == nil {
		return
	}
	counter := s.meters.closed
	switch err {
	case ErrReadOnly:
		err, counter = s.readOnly(), s.meters.readOnly
	case ErrBusy:
		counter = s.meters.busy
	}
	counter.Inc()
	done(err)
}

// queue holds what waits for the committer.
type queue struct {
	s *Store // immutable

	// Guarded by mu.
	mu       sync.Mutex
	cond     sync.Cond // the committer's: something that it waits for may have come
	waiting  []submission
	idle     bool // the committer waits for a first submission
	inFlight int  // groups between write and acknowledgement
	late     bool // GroupDelay is over
	closed   bool
	handle   *handle // whose committer is served; another one's ends
}

func (q *queue) init(s *Store) {
	q.s = s
	q.cond.L = &q.mu
}

func (q *queue) len() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting)
}

// put takes a submission in. A store that fails refuses first and empties the
// queue then: looked at under mu, what comes too late for that is refused.
func (q *queue) put(sub submission) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	switch {
	case q.closed:
		return ErrClosed
	case q.s.refuse.Load():
		return ErrReadOnly
	case len(q.waiting) >= q.s.opts.MaxQueued:
		return ErrBusy
	}
	q.waiting = append(q.waiting, sub)
	if q.idle || len(q.waiting) == q.s.opts.MaxGroup {
		q.cond.Broadcast()
	}
	return nil
}

// maxInFlight bounds the groups between write and acknowledgement. Two would
// do to keep the disk busy; a third hides the committer's own pauses.
const maxInFlight = 3

// next waits for a group and takes it. While no other group is under way it takes
// what there is at once; else it lets the group fill until that one is done, or
// GroupDelay is over. It is nil when h is not to go on.
func (q *queue) next(h *handle) []submission {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.waiting) == 0 || q.inFlight >= maxInFlight {
		if q.handle != h || q.closed && len(q.waiting) == 0 {
			return nil
		}
		q.idle = q.inFlight < maxInFlight
		q.cond.Wait()
		q.idle = false
	}
	if q.inFlight > 0 && len(q.waiting) < q.s.opts.MaxGroup && !q.closed {
		q.fillLocked()
	}
	if q.handle != h {
		return nil
	}
	n := min(len(q.waiting), q.s.opts.MaxGroup)
	group := make([]submission, n)
	copy(group, q.waiting)
	left := copy(q.waiting, q.waiting[n:])
	clear(q.waiting[left:])
	q.waiting = q.waiting[:left]
	q.inFlight++
	return group
}

func (q *queue) fillLocked() {
	q.late = false
	timer := q.s.opts.Clock.AfterFunc(q.s.opts.GroupDelay, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		q.late = true
		q.cond.Broadcast()
	})
	defer timer.Stop()
	for begun := q.handle; !q.late && q.inFlight > 0 && len(q.waiting) < q.s.opts.MaxGroup && !q.closed && q.handle == begun; {
		q.cond.Wait()
	}
}

// landed says that a group of h is acknowledged.
func (q *queue) landed(h *handle) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.handle == h {
		q.inFlight--
		q.cond.Broadcast()
	}
}

// serve makes the queue that of h's committer; nil: of nobody's.
func (q *queue) serve(h *handle) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.handle, q.inFlight = h, 0
	q.cond.Broadcast()
}

// fail refuses all that waits.
func (q *queue) fail(err error, counter *metrics.Counter) {
	q.mu.Lock()
	waiting := q.waiting
	q.waiting = nil
	q.mu.Unlock()
	counter.Add(len(waiting))
	for _, sub := range waiting {
		sub.done(err)
	}
}

// close takes no more submissions; the committer ends when none is left.
func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.cond.Broadcast()
}
