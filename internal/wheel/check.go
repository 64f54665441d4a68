package wheel

import "fmt"

// Check proves the structure consistent: every timer in exactly one queue, where
// its position says; queues well-formed, bitmaps exact, no chunk lost; timers
// above level 0 and aside in the slot that their due time asks for. It visits
// everything; it is for tests and post-mortems.
func (w *Wheel) Check() error {
	seen, chunks, late := 0, 0, 0
	for q := range w.numQueues() {
		t, c, err := w.checkQueue(q)
		if err != nil {
			return err
		}
		seen, chunks = seen+t, chunks+c
		if w.late.has(q) {
			late++
		}
	}
	if late != w.lateQueues {
		return fmt.Errorf("wheel: %d queues are late, %d are counted", late, w.lateQueues)
	}
	if placed := w.countPlaced(); seen != w.n || placed != w.n {
		return fmt.Errorf("wheel: %d timers in queues, %d have a position, Len is %d", seen, placed, w.n)
	}
	return w.checkFree(chunks)
}

// checkQueue checks queue q and counts its timers and chunks.
func (w *Wheel) checkQueue(q uint32) (timers, chunks int, err error) {
	last := w.last[q]
	if occ := w.occ.has(q); occ != (last != none) || w.late.has(q) && !occ {
		return 0, 0, fmt.Errorf("wheel: queue %d: last chunk is %d, occupied %t, late %t", q, last, occ, w.late.has(q))
	}
	for i := last; i != none; {
		i = w.chunk(i).next
		if i == none || int(i>>chunkBits) >= len(w.chunks) || w.chunk(i).queue != q {
			return 0, 0, fmt.Errorf("wheel: queue %d runs into chunk %d, which is not its", q, i)
		}
		c := w.chunk(i)
		if c.first >= c.end || c.end > chunkLen || chunks > 0 && c.first != 0 || i != last && c.end != chunkLen {
			return 0, 0, fmt.Errorf("wheel: queue %d: chunk %d, its number %d, has ids from %d to %d", q, i, chunks, c.first, c.end)
		}
		if err := w.checkChunk(i, q); err != nil {
			return 0, 0, err
		}
		timers += int(c.end - c.first)
		if chunks++; i == last {
			break
		}
	}
	return timers, chunks, nil
}

// checkChunk checks the timers of chunk i in queue q.
func (w *Wheel) checkChunk(i, q uint32) error {
	c := w.chunk(i)
	for k := c.first; k < c.end; k++ {
		id := c.id(k)
		if id >= w.ids || *w.pos(id) != makePos(i, k) {
			return fmt.Errorf("wheel: queue %d: chunk %d has timer %d at %d, whose position is another", q, i, id, k)
		}
		if err := w.checkDue(id, q); err != nil {
			return err
		}
	}
	return nil
}

// checkDue checks that a timer of queue q belongs there.
func (w *Wheel) checkDue(id, q uint32) error {
	if q < firstSlot && q != aside {
		return fmt.Errorf("wheel: timer %d in queue %d, which is no slot", id, q)
	}
	if w.inLevel0(q) {
		return nil
	}
	if w.due == nil || w.due[id>>posBits] == nil {
		return fmt.Errorf("wheel: timer %d in queue %d without a due time", id, q)
	}
	if q == aside || w.late.has(q) {
		return nil
	}
	l := numLevels - 1
	for q < w.levels[l].base {
		l--
	}
	lv, due := &w.levels[l], w.dueOf(id)
	now := w.cur >> lv.shift
	c := now + (int64(q-lv.base)-now)&(lv.size-1) // what the slot stands for
	if c == now {
		return fmt.Errorf("wheel: timer %d in queue %d of level %d, whose time has begun", id, q, l)
	}
	if got := due >> lv.shift; got != c && (l < numLevels-1 || got < c) {
		return fmt.Errorf("wheel: timer %d due at tick %d stands in level %d slot %d, time is %d", id, due, l, c, w.cur)
	}
	return nil
}

// countPlaced counts the timers that have a position.
func (w *Wheel) countPlaced() (n int) {
	for id := range w.ids {
		if *w.pos(id) != 0 {
			n++
		}
	}
	return n
}

// checkFree checks that the chunks that are not used are free.
func (w *Wheel) checkFree(used int) error {
	all := max(len(w.chunks)<<chunkBits-1, 0) // but chunk 0
	free := 0
	for i := w.free; i != none && free <= all; free++ {
		if c := w.chunk(i); c.queue != none {
			return fmt.Errorf("wheel: free chunk %d belongs to queue %d", i, c.queue)
		}
		i = w.chunk(i).next
	}
	if used+free != all {
		return fmt.Errorf("wheel: %d chunks used and %d free, there are %d", used, free, all)
	}
	return nil
}
