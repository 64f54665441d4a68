// Package wheel is a hierarchical timing wheel for very many timers that seldom
// fire: the silence time-outs of a million links, the deadlines of their logins.
//
// The obvious ways are too dear. A Go timer per link costs 130 bytes and 365 ns
// per refresh, and when a million of them fire together, a goroutine each. A
// heap costs O(log n) per refresh. A wheel of list nodes costs an object per
// timer, which the collector walks.
//
// Here a timer is a small number that the caller chose, such as a session's
// slot; it costs 8 bytes and no object. Lists run through one array by index;
// each slot of the wheel is a sentinel node in the same array, so linking and
// unlinking have no special cases. Schedule and Cancel are O(1) and touch two
// neighbours. A heartbeat should touch nothing at all: let it store when the
// link was last heard, and let the callback of Advance answer the new deadline
// when the old one comes due.
//
// Level 0 has a slot per tick and covers, with the defaults, 16384 ticks of
// 128 ms = 2097 s. So every silence time-out there is (400 s; up to 1,200 s
// for a long MQTT keep alive) lies in level 0, is never moved, and needs no
// due time: the slot says it. Later deadlines go to three coarser levels of 64
// slots, and over them in turn if they are beyond the last. Only a wheel that
// was ever asked for one keeps due times, at 8 bytes more per timer.
//
// Invariants:
//   - A timer is called back only when Advance was given a time at or after
//     its due time, and in the first Advance that is a tick or more after it,
//     as far as the budgets go.
//   - Timers whose slots the time has passed stand in the backlog and nowhere
//     else. It is a queue: what a budget leaves there is served before what
//     comes due later, so nothing starves.
//   - A slot's occupancy bit is set exactly if its list is not empty. So a jump
//     of the clock over hours costs one scan of the bitmaps.
package wheel

import "fmt"

// Defaults of Options.
const (
	DefaultTickMS = 128
	DefaultSlots  = 16384
)

const (
	upperBits   = 6 // a level above 0 has 64 slots: one word of occupancy
	upperLevels = 3
	numLevels   = 1 + upperLevels
	maxSlots    = 1 << 24

	// Indices of nodes: none, the backlog's sentinel, from firstSlot on the
	// slots' sentinels level by level (each level begins a bitmap word), then
	// the timers.
	none      = 0
	backlog   = 1
	firstSlot = 64
)

// Options configure a Wheel. The zero value is the default.
type Options struct {
	// TickMS is the resolution in milliseconds: a timer fires up to one tick
	// late. Default 128, well within the second that a time-out may be late.
	TickMS int64
	// Slots is the number of ticks that level 0 covers, a power of two from 64
	// to 16777216. Default 16384. A slot costs 8 bytes.
	Slots int
}

// validate fills in the defaults. It panics on values that make no wheel.
func (o *Options) validate() {
	if o.TickMS == 0 {
		o.TickMS = DefaultTickMS
	}
	if o.Slots == 0 {
		o.Slots = DefaultSlots
	}
	if o.TickMS < 0 {
		panic(fmt.Sprintf("wheel: TickMS is %d, want at least 1", o.TickMS))
	}
	if o.Slots < 64 || o.Slots > maxSlots || o.Slots&(o.Slots-1) != 0 {
		panic(fmt.Sprintf("wheel: Slots is %d, want a power of two from 64 to %d", o.Slots, maxSlots))
	}
}

// Wheel is a timing wheel. Timers are named by ids below what Grow was given;
// other ids panic. It is not safe for concurrent use: one event loop owns it.
type Wheel struct {
	// Immutable after New.
	tickMS int64
	levels [numLevels]level
	first  uint32 // node of timer 0

	// Owned by the event loop.
	nodes []node
	occ   []uint64 // a bit per sentinel: its list is not empty
	cur   int64    // the first tick that has not passed yet
	n     int      // timers scheduled

	// due holds the due ticks once a timer went above level 0; nil before. A
	// timer in level 0 or in the backlog may have any value up to its true one.
	due []int64
}

// level is a ring of slots, each 1<<shift ticks wide.
type level struct {
	base  uint32 // node of slot 0
	shift uint8
	size  int64 // slots, a power of two
}

// New returns an empty wheel without ids whose time is 0. It panics if o is not valid.
func New(o Options) *Wheel {
	o.validate()
	w := &Wheel{tickMS: o.TickMS}
	base, shift, size := uint32(firstSlot), uint8(0), int64(o.Slots)
	for l := range w.levels {
		w.levels[l] = level{base: base, shift: shift, size: size}
		base += uint32(size)
		for s := int64(1); s < size; s <<= 1 {
			shift++
		}
		size = 1 << upperBits
	}
	w.first = base
	w.nodes = make([]node, base)
	w.occ = make([]uint64, base>>6)
	for i := range w.nodes {
		w.nodes[i] = node{next: uint32(i), prev: uint32(i)}
	}
	return w
}

// Start sets the time of an empty wheel, in Unix milliseconds. Without it the
// wheel works, but takes its first timers for far ones and keeps their due times.
func (w *Wheel) Start(nowMS int64) {
	if w.n != 0 {
		panic(fmt.Sprintf("wheel: Start with %d timers scheduled", w.n))
	}
	w.cur = max(nowMS, 0)/w.tickMS + 1
}

// Grow makes the ids 0 to n-1 usable. A smaller n than before changes nothing.
func (w *Wheel) Grow(n int) {
	if n < 0 || int64(n)+int64(w.first) > 1<<32 {
		panic(fmt.Sprintf("wheel: cannot grow to %d timers", n))
	}
	if more := int(w.first) + n - len(w.nodes); more > 0 {
		w.nodes = append(w.nodes, make([]node, more)...)
		if w.due != nil {
			w.due = append(w.due, make([]int64, more)...)
		}
	}
}

// Schedule calls id back at dueMS, and no longer when it was to be called
// before. A time that has passed means the next tick.
func (w *Wheel) Schedule(id uint32, dueMS int64) {
	i := w.node(id)
	if w.nodes[i].next != none {
		w.unlink(i)
	} else {
		w.n++
	}
	w.place(i, max(w.ceilTick(dueMS), w.cur))
}

// Cancel makes sure that id is not called back. It need not be scheduled.
func (w *Wheel) Cancel(id uint32) {
	i := w.node(id)
	if w.nodes[i].next == none {
		return
	}
	w.unlink(i)
	w.n--
}

// Scheduled reports whether id is to be called back.
func (w *Wheel) Scheduled(id uint32) bool { return w.nodes[w.node(id)].next != none }

// Len is the number of timers scheduled.
func (w *Wheel) Len() int { return w.n }

// node returns the node of a timer. Ids that do not fit beside the sentinels
// must not wrap around into them.
func (w *Wheel) node(id uint32) uint32 {
	i := id + w.first
	if i < id {
		panic(fmt.Sprintf("wheel: id %d out of range", id))
	}
	return i
}

// ceilTick is the first tick that begins at or after ms: rounding up is what
// keeps a timer from firing early.
func (w *Wheel) ceilTick(ms int64) int64 {
	t := ms / w.tickMS
	if ms%w.tickMS > 0 {
		t++
	}
	return t
}

// place links node i, which is in no list, into the slot for tick due >= cur.
func (w *Wheel) place(i uint32, due int64) {
	l0 := &w.levels[0]
	if due-w.cur < l0.size {
		if w.due != nil {
			w.due[i-w.first] = due
		}
		w.link(i, l0.slot(due))
		return
	}
	w.keepDue(i, due)
	for l := 1; l < numLevels; l++ {
		lv := &w.levels[l]
		if due>>lv.shift-w.cur>>lv.shift < lv.size {
			w.link(i, lv.slot(due>>lv.shift))
			return
		}
	}
	// Beyond the last level: as far as it goes, and on from there.
	top := &w.levels[numLevels-1]
	w.link(i, top.slot(w.cur>>top.shift+top.size-1))
}

// keepDue notes the due tick of a timer that its slot does not tell.
func (w *Wheel) keepDue(i uint32, due int64) {
	if w.due == nil {
		w.due = make([]int64, len(w.nodes)-int(w.first))
	}
	w.due[i-w.first] = due
}

// slot is the sentinel of the slot for a tick in units of the level.
func (l *level) slot(c int64) uint32 { return l.base + uint32(c&(l.size-1)) }
