package bench

import "time"

// timers is a heap of (time, link). Each link has at most one entry; when it
// comes up early because the link's time was moved back, it goes in again.
type timers struct {
	heap []timer
}

type timer struct {
	at   time.Duration
	link uint32
}

func (t *timers) first() (time.Duration, bool) {
	if len(t.heap) == 0 {
		return 0, false
	}
	return t.heap[0].at, true
}

func (t *timers) push(e timer) {
	t.heap = append(t.heap, e)
	h := t.heap
	for i := len(h) - 1; i > 0; {
		up := (i - 1) / 2
		if h[up].at <= h[i].at {
			return
		}
		h[up], h[i] = h[i], h[up]
		i = up
	}
}

// pop removes and returns the earliest entry; there must be one.
func (t *timers) pop() timer {
	h := t.heap
	top, last := h[0], len(h)-1
	h[0] = h[last]
	h = h[:last]
	t.heap = h
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(h) {
			return top
		}
		if child+1 < len(h) && h[child+1].at < h[child].at {
			child++
		}
		if h[i].at <= h[child].at {
			return top
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}

// at sets when the link's time comes. An entry that is later than that is left
// in the heap and found to be of no use.
func (s *swarm) at(l *link, due time.Duration) {
	earlier := due < l.entry
	l.due = due
	if !l.dueSet || earlier {
		l.dueSet, l.entry = true, due
		s.timers.push(timer{due, l.index})
	}
}

// expire does what is due. An entry counts only if it is the link's own newest one.
func (s *swarm) expire() {
	now := s.now()
	for {
		at, ok := s.timers.first()
		if !ok || at > now {
			return
		}
		e := s.timers.pop()
		l := &s.links[e.link]
		if !l.dueSet || e.at != l.entry {
			continue
		}
		l.dueSet = false
		switch {
		case l.state == linkClosed:
		case l.due > now:
			s.at(l, l.due)
		default:
			s.overdue(l)
		}
	}
}
