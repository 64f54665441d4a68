package wheel

// Advance moves the time to nowMS and calls back up to budget timers that are
// due, roughly in the order of their times. What due returns is the time to call that timer
// again; 0 leaves the timer as due left it: idle, or as it rescheduled it.
// A time that is not after nowMS means the next tick, so Advance ends. due may
// schedule and cancel any timer and call Grow.
//
// visited counts what was taken from late queues, timers moved down a level
// among it; more says that such queues are left, for the next call. A
// nowMS before an earlier one does not move the time; late queues are worked on.
// The work besides the budget is bounded by the number of slots.
func (w *Wheel) Advance(nowMS int64, budget int, due func(id uint32) (nextMS int64)) (visited int, more bool) {
	if next := nowMS/w.tickMS + 1; nowMS >= 0 && next > w.cur {
		w.pass(next)
	}
	for q := w.serve(); q != none; q = w.serve() {
		for ahead := 0; w.late.has(q); visited++ {
			if visited >= budget {
				return visited, true
			}
			if ahead == 0 {
				ahead = w.touch(q, budget-visited)
			}
			ahead--
			w.visit(q, due)
		}
	}
	return visited, false
}

// pass moves the time to tick next and marks the slots that it passes late.
// A slot above level 0 is late when its first tick comes: its timers may be
// due in it, or later and then find their place by themselves.
func (w *Wheel) pass(next int64) {
	prev := w.cur
	w.cur = next
	if w.lateQueues == 0 {
		w.at = w.levels[0].slot(prev)
	}
	w.passRing(&w.levels[0], prev, next)
	for l := 1; l < numLevels; l++ {
		lv := &w.levels[l]
		w.passRing(lv, prev>>lv.shift+1, next>>lv.shift+1)
	}
}

// passRing marks the slots from to to-1, in units of the level, late if they hold timers.
func (w *Wheel) passRing(l *level, from, to int64) {
	if from >= to {
		return
	}
	n := min(to-from, l.size)
	lo := from & (l.size - 1)
	end := min(lo+n, l.size)
	w.lateQueues += w.late.addRange(w.occ, l.base+uint32(lo), l.base+uint32(end))
	w.lateQueues += w.late.addRange(w.occ, l.base, l.base+uint32(lo+n-end))
}

// serve returns the late queue to take timers from, none if there is none.
// Upper levels go first: what they hold may be due later than all of level 0,
// and must get there in time. Level 0 follows in the order of its ring. The
// aside queue comes when nothing else is late: then its timers find a place
// without returning to it.
func (w *Wheel) serve() uint32 {
	if w.lateQueues == 0 {
		if !w.occ.has(aside) {
			return none
		}
		w.late.set(aside)
		w.lateQueues++
		return aside
	}
	l0 := &w.levels[0]
	end := l0.base + uint32(l0.size)
	for _, r := range [...][2]uint32{{end, w.numQueues()}, {w.at, end}, {l0.base, w.at}} {
		if q := w.late.next(r[0], r[1]); q != none {
			if q < end {
				w.at = q
			}
			return q
		}
	}
	return aside
}

// touch announces the first timers of queue q, at most the given number, and
// reads their positions, so that the cache misses overlap. It returns how many:
// the next that many visits find them there.
func (w *Wheel) touch(q uint32, most int) int {
	c := w.chunk(w.chunk(w.last[q]).next)
	n := min(int(c.end-c.first), most)
	end := c.first + uint8(n)
	var sum pos
	for k := c.first; k < end; k++ { // short, so that all of them are under way
		sum += *w.pos(c.id(k))
	}
	w.touched = sum
	if w.ahead != nil {
		for k := c.first; k < end; k++ {
			w.ahead(c.id(k))
		}
	}
	return n
}

// visit takes the first timer of late queue q: to its callback, or to a lower
// level if it is not due yet.
func (w *Wheel) visit(q uint32, due func(id uint32) int64) {
	id := w.pop(q)
	p := w.pos(id)
	*p = 0
	if !w.inLevel0(q) {
		if at := w.dueOf(id); at >= w.cur {
			w.place(id, at)
			return
		}
	}
	w.n--
	if nextMS := due(id); nextMS != 0 {
		w.Schedule(id, nextMS)
	}
}
