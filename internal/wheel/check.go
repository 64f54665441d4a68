package wheel

import "fmt"

// Check proves the structure consistent: every timer in exactly one list, links
// matching both ways, occupancy bits exact, timers above level 0 in the slot
// that their due time asks for. It visits everything; it is for tests and
// post-mortems.
func (w *Wheel) Check() error {
	seen, err := w.checkList(backlog, func(uint32) error { return nil })
	if err != nil {
		return err
	}
	for l := range w.levels {
		n, err := w.checkLevel(l)
		if err != nil {
			return err
		}
		seen += n
	}
	linked := 0
	for _, n := range w.nodes[w.first:] {
		if n.next != none {
			linked++
		}
	}
	if seen != w.n || linked != w.n {
		return fmt.Errorf("wheel: %d timers in lists, %d linked, Len is %d", seen, linked, w.n)
	}
	return nil
}

// checkLevel checks the slots of level l and returns how many timers they hold.
func (w *Wheel) checkLevel(l int) (int, error) {
	lv, seen := &w.levels[l], 0
	now := w.cur >> lv.shift
	for d := range lv.size {
		s := lv.slot(now + d)
		n, err := w.checkList(s, func(i uint32) error { return w.checkDue(i, l, now+d) })
		if err != nil {
			return 0, err
		}
		if l > 0 && d == 0 && n > 0 {
			return 0, fmt.Errorf("wheel: level %d holds %d timers whose slot has begun", l, n)
		}
		seen += n
	}
	return seen, nil
}

// checkDue checks that the timer at node i, which stands in slot c of level l,
// belongs there.
func (w *Wheel) checkDue(i uint32, l int, c int64) error {
	if w.due == nil {
		if l > 0 {
			return fmt.Errorf("wheel: timer %d in level %d without a due time", i-w.first, l)
		}
		return nil
	}
	lv, due := &w.levels[l], w.due[i-w.first]
	switch got := due >> lv.shift; {
	case got == c:
	case l == 0 && due == 0: // scheduled before due times were kept
	case l == numLevels-1 && got > c: // beyond the last level
	default:
		return fmt.Errorf("wheel: timer %d due at tick %d stands in level %d slot %d, time is %d", i-w.first, due, l, c, w.cur)
	}
	return nil
}

// checkList walks the list of sentinel s and returns its length.
func (w *Wheel) checkList(s uint32, timer func(i uint32) error) (int, error) {
	n := 0
	for i := s; ; n++ {
		next := w.nodes[i].next
		if int(next) >= len(w.nodes) || w.nodes[next].prev != i {
			return 0, fmt.Errorf("wheel: list %d: node %d has next %d, which does not point back", s, i, next)
		}
		if i = next; i == s {
			break
		}
		if i < w.first || n > w.n {
			return 0, fmt.Errorf("wheel: list %d runs into node %d after %d timers", s, i, n)
		}
		if err := timer(i); err != nil {
			return 0, err
		}
	}
	if bit := w.occ[s>>6]>>(s&63)&1 != 0; bit != (n > 0) {
		return 0, fmt.Errorf("wheel: list %d has %d timers, occupancy bit is %t", s, n, bit)
	}
	return n, nil
}
