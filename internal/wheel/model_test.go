package wheel

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

// model is the wheel as a map: timer to the first tick at which it may fire.
type model struct {
	t      *rapid.T
	w      *Wheel
	tickMS int64
	cur    int64 // first tick not passed
	due    map[uint32]int64
}

func (m *model) schedule(id uint32, dueMS int64) {
	m.w.Schedule(id, dueMS)
	m.note(id, dueMS)
}

func (m *model) note(id uint32, dueMS int64) {
	tick := max(dueMS, 0) / m.tickMS
	if dueMS > 0 && dueMS%m.tickMS != 0 {
		tick++
	}
	m.due[id] = max(tick, m.cur)
}

func (m *model) cancel(id uint32) {
	m.w.Cancel(id)
	delete(m.due, id)
}

// passed counts the timers that are due.
func (m *model) passed() (n int) {
	for _, d := range m.due {
		if d < m.cur {
			n++
		}
	}
	return n
}

// advance compares one Advance with the model; act is done by its callbacks.
func (m *model) advance(nowMS int64, budget int, act func(id uint32) int64) {
	if nowMS >= 0 {
		m.cur = max(m.cur, nowMS/m.tickMS+1)
	}
	calls := 0
	visited, more := m.w.Advance(nowMS, budget, func(id uint32) int64 {
		calls++
		d, ok := m.due[id]
		if !ok {
			m.t.Fatalf("timer %d fired and was not scheduled", id)
		}
		if d >= m.cur {
			m.t.Fatalf("timer %d fired in tick %d, due in %d", id, m.cur-1, d)
		}
		delete(m.due, id)
		next := act(id)
		if next != 0 {
			m.note(id, next)
		}
		return next
	})
	switch {
	case visited > max(budget, 0) || calls > visited:
		m.t.Fatalf("budget %d: visited %d, called %d", budget, visited, calls)
	case more && visited < budget:
		m.t.Fatalf("stopped after %d of %d with more to do", visited, budget)
	case !more && m.passed() > 0:
		m.t.Fatalf("%d due timers were not called", m.passed())
	}
}

// distances reach every level, its edges, and beyond the last one.
var distances = rapid.Custom(func(t *rapid.T) int64 {
	edge := rapid.SampledFrom([]int64{1, 64, 64 << 6, 64 << 12, 64 << 18, 64 << 20}).Draw(t, "edge")
	switch rapid.IntRange(0, 3).Draw(t, "kind") {
	case 0:
		return rapid.Int64Range(0, 200).Draw(t, "near")
	case 1:
		return edge*rapid.Int64Range(1, 65).Draw(t, "turns") + rapid.Int64Range(-2, 2).Draw(t, "off")
	case 2:
		return rapid.Int64Range(0, edge*64).Draw(t, "far")
	}
	return rapid.SampledFrom([]int64{-1, -64, -100_000, math.MinInt32}).Draw(t, "past")
})

// TestModel replays random schedules, cancels, advances with all kinds of
// jumps and budgets, and callbacks that do all of it themselves.
func TestModel(t *testing.T) {
	const ids = 40
	anyID := rapid.Uint32Range(0, ids-1)
	rapid.Check(t, func(t *rapid.T) {
		tickMS := rapid.SampledFrom([]int64{1, 3, 128}).Draw(t, "tickMS")
		now := rapid.SampledFrom([]int64{0, 1, 63, 64*64*tickMS - 1, 1_780_000_000_000}).Draw(t, "start")
		slots := rapid.SampledFrom([]int{64, 256}).Draw(t, "slots") // one word of occupancy, several
		m := &model{t: t, w: New(Options{TickMS: tickMS, Slots: slots}), tickMS: tickMS, due: map[uint32]int64{}}
		m.w.Grow(ids)
		m.w.Start(now)
		m.cur = now/tickMS + 1
		at := func(label string) int64 {
			return now + distances.Draw(t, label)*tickMS + rapid.Int64Range(0, tickMS-1).Draw(t, "ms")
		}
		act := func(uint32) int64 {
			switch rapid.IntRange(0, 5).Draw(t, "act") {
			case 0:
				m.schedule(anyID.Draw(t, "id"), at("due"))
			case 1:
				m.cancel(anyID.Draw(t, "id"))
			case 2, 3:
				return at("rearm")
			}
			return 0
		}
		t.Repeat(map[string]func(*rapid.T){
			"schedule": func(t *rapid.T) { m.schedule(anyID.Draw(t, "id"), at("due")) },
			"cancel":   func(t *rapid.T) { m.cancel(anyID.Draw(t, "id")) },
			"advance": func(t *rapid.T) {
				now = max(now+distances.Draw(t, "step")*tickMS, 0)
				m.advance(now, rapid.SampledFrom([]int{0, 1, 2, 5, 1000}).Draw(t, "budget"), act)
			},
			"advance to a timer": func(t *rapid.T) {
				for id := range uint32(ids) {
					if d, ok := m.due[id]; ok && d >= m.cur {
						now = d*tickMS + rapid.Int64Range(-1, 0).Draw(t, "off")
						m.advance(now, 1000, act)
						return
					}
				}
			},
			"": func(t *rapid.T) {
				if err := m.w.Check(); err != nil {
					t.Fatal(err)
				}
				if m.w.Len() != len(m.due) {
					t.Fatalf("Len is %d, model has %d", m.w.Len(), len(m.due))
				}
				for id := range uint32(ids) {
					if _, ok := m.due[id]; ok != m.w.Scheduled(id) {
						t.Fatalf("timer %d: Scheduled is %t", id, m.w.Scheduled(id))
					}
				}
			},
		})
	})
}
