package webhook

import (
	"cmp"
	"slices"
)

// deadLetters are the newest dead letters, by ID.
type deadLetters struct {
	max    int
	list   []*DeadLetter
	lastID uint64
	lost   uint64
}

// add gives l its ID and appends it; what had to fall out for it is returned.
func (d *deadLetters) add(l DeadLetter) (added, fallen *DeadLetter) {
	d.lastID++
	l.ID = d.lastID
	d.list = append(d.list, &l)
	if len(d.list) > d.max {
		fallen = d.list[0]
		d.list[0] = nil
		d.list = d.list[1:]
		d.lost++
	}
	return &l, fallen
}

// before returns up to max letters of app with an ID below before (0 = all), the
// newest first. The bodies are shared.
func (d *deadLetters) before(app uint32, before uint64, max int) []DeadLetter {
	end := len(d.list)
	if before != 0 {
		end, _ = d.find(before)
	}
	var out []DeadLetter
	for i := end - 1; i >= 0 && len(out) < max; i-- {
		if d.list[i].Event.Key.App == app {
			out = append(out, *d.list[i])
		}
	}
	return out
}

// pick returns the letters of app that ids names, or its oldest ones up to max, the oldest first.
func (d *deadLetters) pick(app uint32, ids []uint64, max int) []*DeadLetter {
	var out []*DeadLetter
	if ids == nil {
		for _, l := range d.list {
			if l.Event.Key.App == app && len(out) < max {
				out = append(out, l)
			}
		}
		return out
	}
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		if i, found := d.find(id); found && d.list[i].Event.Key.App == app && len(out) < max {
			out = append(out, d.list[i])
		}
	}
	return out
}

// remove takes l out of the list.
func (d *deadLetters) remove(l *DeadLetter) {
	if i, found := d.find(l.ID); found {
		d.list = slices.Delete(d.list, i, i+1)
	}
}

// removeAll takes letters, the oldest first, out of the list in one pass.
func (d *deadLetters) removeAll(letters []*DeadLetter) {
	d.list = slices.DeleteFunc(d.list, func(l *DeadLetter) bool {
		if len(letters) == 0 || letters[0] != l {
			return false
		}
		letters = letters[1:]
		return true
	})
}

func (d *deadLetters) find(id uint64) (int, bool) {
	return slices.BinarySearchFunc(d.list, id, func(l *DeadLetter, id uint64) int { return cmp.Compare(l.ID, id) })
}
