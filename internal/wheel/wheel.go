// Package wheel is a hierarchical timing wheel for very many timers that seldom
// fire: the silence time-outs of a million links, the deadlines of their logins.
//
// The obvious ways are too dear. A Go timer per link costs 130 bytes and 365 ns
// per refresh, and when a million of them fire together, a goroutine each. A
// heap costs O(log n) per refresh. A wheel of list nodes costs an object per
// timer, which the collector walks.
//
// Here a timer is a small number that the caller chose, such as a session's
// slot. It costs 4 bytes for where it stands and, while it is scheduled, 3 to
// stand there: the timers of a slot are ids side by side in chunks of two cache
// lines. Schedule and Cancel are O(1). A heartbeat should touch nothing at all:
// let it store when the link was last heard, and let the callback of Advance
// answer the new deadline when the old one comes due.
//
// Two simpler shapes were tried. A doubly linked list through the timers (8
// bytes) walks memory one miss after the other: more than twice the time of a
// visit, five times that of an expiry when all are due. A list linked one way with
// lazy removal cannot move a timer to an earlier slot, and that is what every new
// link does that gets the slot of one that was closed; entries left behind instead
// would grow with the rate of logins.
//
// Level 0 has a slot per tick and covers, with the defaults, 16384 ticks of
// 128 ms = 2097 s. So every silence time-out there is (400 s; up to 1,200 s
// for a long MQTT keep alive) lies in level 0, is never moved, and needs no
// due time: the slot says it. Later deadlines go to three coarser levels of 64
// slots, and over them in turn if they are beyond the last. Only those have
// their due times kept, at 8 bytes per timer, 4096 timers at a time.
//
// Invariants:
//   - A timer is called back only when Advance was given a time at or after
//     its due time, and in the first Advance that is a tick or more after it,
//     as far as the budgets go.
//   - A slot that the time has passed is late until it is empty, and late slots
//     take no timers: a level 0 slot never mixes two ticks. A timer whose slot is
//     late, a turn of the wheel before its time, waits aside.
//   - Late slots are served in the order of time, so nothing starves.
//   - A slot's occupancy bit is set exactly if it holds timers. So a jump
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

	// MaxIDs bounds the ids of a wheel: 24 bits, as many as a loop has slots.
	MaxIDs = 1 << 24

	// Numbers of queues: none, the timers that wait aside, and from firstSlot on
	// the slots level by level; each level begins a bitmap word. None also stands
	// for no chunk.
	none      = 0
	aside     = 1
	firstSlot = 64
)

// Options configure a Wheel. The zero value is the default.
type Options struct {
	// TickMS is the resolution in milliseconds: a timer fires up to one tick
	// late. Default 128, well within the second that a time-out may be late.
	TickMS int64
	// Slots is the number of ticks that level 0 covers, a power of two from 64
	// to 16777216. Default 16384. A slot costs 4 bytes, its timers up to two chunks
	// of 128 bytes that are not full.
	Slots int
	// Ahead is told, shortly before due is called for some timers, which those are,
	// so that the caller can read what due will need: a million of them do not fit
	// the caches, and misses that are under way together cost a fraction each. It
	// is a hint: due may then be called for others too, or not for these. It must
	// not call the wheel. May be nil.
	Ahead func(id uint32)
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
	ahead  func(id uint32)

	// Owned by the event loop.
	cur        int64 // the first tick that has not passed yet
	n          int   // timers scheduled
	ids        uint32
	positions  []*posSeg
	last       []uint32 // the last chunk of each queue
	occ        bitmap   // the queues that are not empty
	late       bitmap   // of those, the ones whose time has come
	lateQueues int
	at         uint32 // the level 0 slot from which on late ones are looked for
	chunks     []*chunkSeg
	free       uint32 // chunks, last freed first
	touched    pos    // keeps the reads of touch from being optimized away

	// due holds the due ticks of timers above level 0 or aside; nil, as its
	// segments are, before there was one. Other timers may have any value.
	due []*dueSeg
}

// level is a ring of slots, each 1<<shift ticks wide.
type level struct {
	base  uint32 // queue of slot 0
	shift uint8
	size  int64 // slots, a power of two
}

// New returns an empty wheel without ids whose time is 0. It panics if o is not valid.
func New(o Options) *Wheel {
	o.validate()
	w := &Wheel{tickMS: o.TickMS, ahead: o.Ahead}
	base, shift, size := uint32(firstSlot), uint8(0), int64(o.Slots)
	for l := range w.levels {
		w.levels[l] = level{base: base, shift: shift, size: size}
		base += uint32(size)
		for s := int64(1); s < size; s <<= 1 {
			shift++
		}
		size = 1 << upperBits
	}
	w.last = make([]uint32, base)
	w.occ, w.late = make(bitmap, base>>6), make(bitmap, base>>6)
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
	if n < 0 || n > MaxIDs {
		panic(fmt.Sprintf("wheel: cannot grow to %d timers", n))
	}
	w.ids = max(w.ids, uint32(n))
	for len(w.positions)<<posBits < n {
		w.positions = append(w.positions, new(posSeg))
		if w.due != nil {
			w.due = append(w.due, nil)
		}
	}
}

// Schedule calls id back at dueMS, and no longer when it was to be called
// before. A time that has passed means the next tick.
func (w *Wheel) Schedule(id uint32, dueMS int64) {
	if p := w.timer(id); *p != 0 {
		w.remove(id, p)
	} else {
		w.n++
	}
	w.place(id, max(w.ceilTick(dueMS), w.cur))
}

// Cancel makes sure that id is not called back. It need not be scheduled.
func (w *Wheel) Cancel(id uint32) {
	if p := w.timer(id); *p != 0 {
		w.remove(id, p)
		w.n--
	}
}

// Scheduled reports whether id is to be called back.
func (w *Wheel) Scheduled(id uint32) bool { return *w.timer(id) != 0 }

// Len is the number of timers scheduled.
func (w *Wheel) Len() int { return w.n }

// timer returns where the timer stands.
func (w *Wheel) timer(id uint32) *pos {
	if id >= w.ids {
		panic(fmt.Sprintf("wheel: id %d out of range, there are %d", id, w.ids))
	}
	return w.pos(id)
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

// place puts timer id, which is in no queue, into the slot for tick due >= cur.
func (w *Wheel) place(id uint32, due int64) {
	q := w.slotFor(due)
	if w.late.has(q) {
		q = aside
	}
	if !w.inLevel0(q) {
		w.keepDue(id, due)
	}
	w.push(q, id)
}

// slotFor is the slot for tick due >= cur.
func (w *Wheel) slotFor(due int64) uint32 {
	if l0 := &w.levels[0]; due-w.cur < l0.size {
		return l0.slot(due)
	}
	for l := 1; l < numLevels; l++ {
		lv := &w.levels[l]
		if due>>lv.shift-w.cur>>lv.shift < lv.size {
			return lv.slot(due >> lv.shift)
		}
	}
	// Beyond the last level: as far as it goes, and on from there.
	top := &w.levels[numLevels-1]
	return top.slot(w.cur>>top.shift + top.size - 1)
}

// inLevel0 reports whether queue q is a slot of level 0, which tells the due tick.
func (w *Wheel) inLevel0(q uint32) bool {
	l0 := &w.levels[0]
	return q-l0.base < uint32(l0.size)
}

// keepDue notes the due tick of a timer that its slot does not tell.
func (w *Wheel) keepDue(id uint32, due int64) {
	if w.due == nil {
		w.due = make([]*dueSeg, len(w.positions))
	}
	s := &w.due[id>>posBits]
	if *s == nil {
		*s = new(dueSeg)
	}
	(*s)[id&(segIDs-1)] = due
}

// dueOf is what keepDue noted.
func (w *Wheel) dueOf(id uint32) int64 { return w.due[id>>posBits][id&(segIDs-1)] }

func (w *Wheel) numQueues() uint32 { return uint32(len(w.last)) }

// slot is the queue of the slot for a tick in units of the level.
func (l *level) slot(c int64) uint32 { return l.base + uint32(c&(l.size-1)) }
