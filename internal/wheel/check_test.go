package wheel

import (
	"strings"
	"testing"
)

// Check finds each kind of damage.
func TestCheckFindsDamage(t *testing.T) {
	for _, c := range []struct {
		name, want string
		damage     func(w *Wheel)
	}{
		{"none", "", func(*Wheel) {}},
		{"count", "Len is", func(w *Wheel) { w.n++ }},
		{"torn link", "does not point back", func(w *Wheel) { w.nodes[w.first].next = w.first + 2 }},
		{"wild link", "does not point back", func(w *Wheel) { w.nodes[w.first].next = 1 << 30 }},
		{"bit missing", "occupancy bit is false", func(w *Wheel) { w.occ[1] = 0 }},
		{"bit too many", "occupancy bit is true", func(w *Wheel) { w.occ[0] |= 1 << backlog }},
		{"lost timer", "linked", func(w *Wheel) { w.nodes[w.first+4] = node{next: w.first + 4, prev: w.first + 4} }},
		{"wrong slot", "due at tick", func(w *Wheel) { w.due[0]++ }},
		{"wrong upper slot", "due at tick", func(w *Wheel) { w.due[2] += 64 }},
		{"no due times", "without a due time", func(w *Wheel) { w.due = nil }},
		{"slot begun", "has begun", func(w *Wheel) { w.cur = 1000; w.due[0], w.due[1] = 0, 0 }},
		{"lists merged", "runs into node", func(w *Wheel) {
			s, o := w.levels[0].slot(10), w.levels[0].slot(20)
			w.nodes[s].prev, w.nodes[w.first].next = o, o
			w.nodes[o].prev, w.nodes[o].next = w.first, s
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := New(Options{TickMS: 1, Slots: 64})
			w.Grow(5)
			for id, due := range []int64{10, 20, 1000, 1 << 30} {
				w.Schedule(uint32(id), due)
			}
			c.damage(w)
			err := w.Check()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("Check: %v, want %q", err, c.want)
			}
		})
	}
}
