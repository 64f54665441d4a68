package wheel

// Advance moves the time to nowMS and calls back up to budget timers that are
// due, roughly in the order of their times. What due returns is the time to call that timer
// again; 0 leaves the timer as due left it: idle, or as it rescheduled it.
// A time that is not after nowMS means the next tick, so Advance ends. due may
// schedule and cancel any timer and call Grow.
//
// visited counts what was taken from the backlog, timers moved down a level
// among it; more says that the backlog still holds some, for the next call. A
// nowMS before an earlier one does not move the time; the backlog is worked on.
// The work besides the budget is bounded by the number of slots.
func (w *Wheel) Advance(nowMS int64, budget int, due func(id uint32) (nextMS int64)) (visited int, more bool) {
	if next := nowMS/w.tickMS + 1; nowMS >= 0 && next > w.cur {
		w.pass(next)
	}
	for ; visited < budget && w.nodes[backlog].next != backlog; visited++ {
		w.visit(w.nodes[backlog].next, due)
	}
	return visited, w.nodes[backlog].next != backlog
}

// pass moves the time to tick next and the slots that it passes to the backlog.
// A slot above level 0 goes there when its first tick comes: its timers may be
// due in it, or later and then find their place by themselves.
func (w *Wheel) pass(next int64) {
	prev := w.cur
	w.cur = next
	w.passRing(&w.levels[0], prev, next)
	for l := 1; l < numLevels; l++ {
		lv := &w.levels[l]
		w.passRing(lv, prev>>lv.shift+1, next>>lv.shift+1)
	}
}

// passRing moves the slots from to to-1, in units of the level, to the backlog.
func (w *Wheel) passRing(l *level, from, to int64) {
	if from >= to {
		return
	}
	n := min(to-from, l.size)
	lo := from & (l.size - 1)
	end := min(lo+n, l.size)
	w.spliceAll(l.base+uint32(lo), l.base+uint32(end))
	w.spliceAll(l.base, l.base+uint32(lo+n-end))
}

// visit takes node i from the backlog: to its callback, or to a lower level if
// it is not due yet.
func (w *Wheel) visit(i uint32, due func(id uint32) int64) {
	w.unlink(i)
	id := i - w.first
	if w.due != nil && w.due[id] >= w.cur {
		w.place(i, w.due[id])
		return
	}
	w.n--
	if nextMS := due(id); nextMS != 0 {
		w.Schedule(id, nextMS)
	}
}
