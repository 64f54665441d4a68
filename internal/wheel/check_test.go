package wheel

import (
	"strings"
	"testing"
)

// Check finds each kind of damage. Timers 0 and 1 are in level 0, 2 in level 1,
// 3 beyond the last; 5 to 94 fill three chunks of one slot.
func TestCheckFindsDamage(t *testing.T) {
	const many = 5 + 90
	chunkOf := func(w *Wheel, id uint32) *chunk { return w.chunk(w.pos(id).chunk()) }
	for _, c := range []struct {
		name, want string
		damage     func(w *Wheel)
	}{
		{"none", "", func(*Wheel) {}},
		{"count", "Len is", func(w *Wheel) { w.n++ }},
		{"lost timer", "have a position", func(w *Wheel) { *w.pos(4) = makePos(1, 1) }},
		{"wrong position", "whose position is another", func(w *Wheel) { *w.pos(0)++ }},
		{"wild id", "whose position is another", func(w *Wheel) { chunkOf(w, 0).set(0, MaxIDs-1) }},
		{"wild chunk", "which is not its", func(w *Wheel) { chunkOf(w, 0).next = 1 << 20 }},
		{"torn ring", "which is not its", func(w *Wheel) { chunkOf(w, 5).next = none }},
		{"chunk of another", "which is not its", func(w *Wheel) { chunkOf(w, 5).next = w.pos(0).chunk() }},
		{"chunk skipped", "have a position", func(w *Wheel) { chunkOf(w, 5).next = w.pos(many - 1).chunk() }},
		{"empty chunk", "has ids from", func(w *Wheel) { chunkOf(w, 0).first++ }},
		{"gap in front", "has ids from", func(w *Wheel) { chunkOf(w, 5+chunkLen).first++ }},
		{"gap at end", "has ids from", func(w *Wheel) { chunkOf(w, 5).end-- }},
		{"chunk too full", "has ids from", func(w *Wheel) { chunkOf(w, 5).end++ }},
		{"bit missing", "occupied false", func(w *Wheel) { w.occ[1] = 0 }},
		{"bit too many", "occupied true", func(w *Wheel) { w.occ.set(aside) }},
		{"late and empty", "late true", func(w *Wheel) { w.late.set(aside) }},
		{"late uncounted", "are counted", func(w *Wheel) { w.late.set(w.levels[0].slot(10)) }},
		{"no slot", "no slot", func(w *Wheel) { w.occ.set(2); w.push(2, 4) }},
		{"wrong upper slot", "due at tick", func(w *Wheel) { w.due[0][2] += 64 }},
		{"no due times", "without a due time", func(w *Wheel) { w.due = nil }},
		{"slot begun", "has begun", func(w *Wheel) { w.cur = 1000 }},
		{"lost chunk", "free, there are", func(w *Wheel) { w.free = w.chunk(w.free).next }},
		{"free chunk with a queue", "belongs to queue", func(w *Wheel) { w.chunk(w.free).queue = 77 }},
		{"free ring", "free, there are", func(w *Wheel) { w.chunk(w.free).next = w.free }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := New(Options{TickMS: 1, Slots: 64})
			w.Grow(many)
			for id, due := range []int64{10, 20, 1000, 1 << 30} {
				w.Schedule(uint32(id), due)
			}
			for id := uint32(5); id < many; id++ {
				w.Schedule(id, 30)
			}
			c.damage(w)
			err := w.Check()
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("Check: %v, want %q", err, c.want)
			}
		})
	}
}
