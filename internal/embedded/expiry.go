package embedded

import (
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// noDue is the due time of what never expires.
const noDue = math.MaxInt64

// earliestDue is when the user's first PushOnline instance expires, else noDue.
func earliestDue(u *presence.User) int64 {
	due := int64(noDue)
	for i := range u.Instances {
		if in := &u.Instances[i]; in.Status == presence.PushOnline {
			due = min(due, in.PushUntilMS)
		}
	}
	return due
}

// expiryIndex orders users by their next expiry: a binary heap of slots. A user
// has at most one entry, however often its phone comes and goes.
type expiryIndex struct {
	slots []expirySlot
	free  []uint32
	heap  []uint32 // slots by due time
	ids   map[presence.Key]uint32
}

type expirySlot struct {
	key   presence.Key
	dueMS int64
	at    int // index in heap
}

// set makes the user expire at dueMS, or not at all.
func (x *expiryIndex) set(k presence.Key, dueMS int64) {
	id, known := x.ids[k]
	switch {
	case dueMS == noDue && known:
		x.remove(id)
	case dueMS == noDue:
	case known:
		x.slots[id].dueMS = dueMS
		x.fix(x.slots[id].at)
	default:
		x.add(k, dueMS)
	}
}

func (x *expiryIndex) add(k presence.Key, dueMS int64) {
	var id uint32
	if n := len(x.free); n > 0 {
		id, x.free = x.free[n-1], x.free[:n-1]
	} else {
		id = uint32(len(x.slots))
		x.slots = append(x.slots, expirySlot{})
	}
	if x.ids == nil {
		x.ids = make(map[presence.Key]uint32)
	}
	x.ids[k] = id
	x.slots[id] = expirySlot{key: k, dueMS: dueMS, at: len(x.heap)}
	x.heap = append(x.heap, id)
	x.fix(len(x.heap) - 1)
}

func (x *expiryIndex) remove(id uint32) {
	at, last := x.slots[id].at, len(x.heap)-1
	x.swap(at, last)
	x.heap = x.heap[:last]
	if at < last {
		x.fix(at)
	}
	delete(x.ids, x.slots[id].key)
	x.slots[id] = expirySlot{}
	x.free = append(x.free, id)
}

// pop takes out a user who is due at nowMS.
func (x *expiryIndex) pop(nowMS int64) (presence.Key, bool) {
	if x.next() > nowMS {
		return presence.Key{}, false
	}
	id := x.heap[0]
	k := x.slots[id].key
	x.remove(id)
	return k, true
}

// next is the earliest due time.
func (x *expiryIndex) next() int64 {
	if len(x.heap) == 0 {
		return noDue
	}
	return x.slots[x.heap[0]].dueMS
}

func (x *expiryIndex) due(at int) int64 { return x.slots[x.heap[at]].dueMS }

func (x *expiryIndex) swap(i, j int) {
	x.heap[i], x.heap[j] = x.heap[j], x.heap[i]
	x.slots[x.heap[i]].at = i
	x.slots[x.heap[j]].at = j
}

// fix restores the order after the due time at one place changed.
func (x *expiryIndex) fix(at int) {
	for up := (at - 1) / 2; at > 0 && x.due(at) < x.due(up); up = (at - 1) / 2 {
		x.swap(at, up)
		at = up
	}
	for {
		least := at
		for child := 2*at + 1; child <= 2*at+2 && child < len(x.heap); child++ {
			if x.due(child) < x.due(least) {
				least = child
			}
		}
		if least == at {
			return
		}
		x.swap(at, least)
		at = least
	}
}

// check proves order and references.
func (x *expiryIndex) check() error {
	if len(x.heap) != len(x.ids) || len(x.heap)+len(x.free) != len(x.slots) {
		return fmt.Errorf("expiry index: %d in order, %d by user, %d free of %d slots", len(x.heap), len(x.ids), len(x.free), len(x.slots))
	}
	for at, id := range x.heap {
		s := &x.slots[id]
		if s.at != at || x.ids[s.key] != id {
			return fmt.Errorf("expiry index: user %q is at %d, its slot %d says %d", s.key.UserID, at, id, s.at)
		}
		if up := (at - 1) / 2; at > 0 && x.due(up) > s.dueMS {
			return fmt.Errorf("expiry index: user %q due at %d stands below one due at %d", s.key.UserID, s.dueMS, x.due(up))
		}
	}
	return nil
}

// decideDue takes expiry decisions for up to max users who are due. They leave
// the index now; their commits, or failures, set them anew.
func (l *lane) decideDue(max int) (n int) {
	if max <= 0 || !l.expireAsk.Load() {
		return 0
	}
	now := l.d.nowMS()
	for ; n < max; n++ {
		k, due := l.expiry.pop(now)
		if !due {
			l.expireAsk.Store(false)
			break
		}
		l.pending.Add(1)
		l.decide(newDecision(kindExpire, k, expiration{}, now))
	}
	l.publishDue()
	return n
}

// restoreDue sets the user's expiry to that of its committed state.
func (l *lane) restoreDue(k presence.Key) {
	if l.d.table.Get(k, &l.scratch) {
		l.expiry.set(k, earliestDue(&l.scratch))
	} else {
		l.expiry.set(k, noDue)
	}
}

// publishDue tells the timer when the lane's next expiry is.
func (l *lane) publishDue() {
	if due := l.expiry.next(); due != l.nextDueMS.Load() {
		l.nextDueMS.Store(due)
		l.d.expirer.wakeBy(due)
	}
}

// expiration is the action on a user whose PushOnline retention ended.
type expiration struct{}

func (expiration) decide(dc *decision, app *tenant, out []presence.Transition) (bool, []presence.Transition) {
	n, out := dc.user.Expire(dc.key, app.rules(), dc.nowMS, out)
	return n > 0, out
}

func (expiration) tell() {}

func (expiration) fail(*Directory) {}

const (
	// wakeGridMS is the grid on which the timer runs: what is due together is
	// worked off together, at most this much late.
	wakeGridMS = 250
	// wakeMostMS bounds a sleep, so that a step of the wall clock or a suspended
	// machine is noticed.
	wakeMostMS = 30_000
)

// expirer is the one timer behind the expiry of all lanes. It runs only while
// something can expire.
type expirer struct {
	d *Directory // immutable

	// dueMS is no later than what any lane has due; noDue if nothing is. Written
	// under mu.
	dueMS atomic.Int64

	// Guarded by mu, which is held for the setting of the timer only.
	mu      sync.Mutex
	timer   clock.Timer
	wakeMS  int64 // when the timer runs; noDue if it does not
	stopped bool
}

func (e *expirer) init(d *Directory) {
	e.d, e.wakeMS = d, noDue
	e.dueMS.Store(noDue)
}

// wakeBy makes the timer run when dueMS has come. The lane has published dueMS
// before: either this call sees that a wake began and sets the timer, or that
// wake sees the lane's.
func (e *expirer) wakeBy(dueMS int64) {
	if dueMS >= e.dueMS.Load() {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.dueMS.Store(min(dueMS, e.dueMS.Load()))
	e.setLocked()
}

// setLocked sets the timer for dueMS unless it runs before. Never early: the
// grid is rounded up. Always later than now: a due user whose commit fails is
// tried again at the next grid point.
func (e *expirer) setLocked() {
	now := e.d.nowMS()
	wake := now + wakeMostMS
	if due := e.dueMS.Load(); due < wake {
		wake = (max(due, now+1) + wakeGridMS - 1) / wakeGridMS * wakeGridMS
	}
	if e.stopped || wake >= e.wakeMS {
		return
	}
	if e.timer != nil {
		e.timer.Stop()
	}
	e.wakeMS = wake
	e.timer = e.d.opts.Clock.AfterFunc(time.Duration(wake-now)*time.Millisecond, e.wake)
}

// wake is the timer: it asks the lanes that have something due.
func (e *expirer) wake() {
	if !e.begin() {
		return
	}
	now, next := e.d.nowMS(), int64(noDue)
	for i := range e.d.lanes {
		l := &e.d.lanes[i]
		if l.nextDueMS.Load() <= now {
			l.expireAsk.Store(true)
			l.run()
		}
		next = min(next, l.nextDueMS.Load())
	}
	e.wakeBy(next)
}

// begin reports whether something is due; if not, it sets the timer again.
func (e *expirer) begin() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.wakeMS = noDue
	if e.stopped {
		return false
	}
	if e.d.nowMS() < e.dueMS.Load() {
		e.setLocked()
		return false
	}
	e.dueMS.Store(noDue)
	return true
}

func (e *expirer) stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stopped = true
	if e.timer != nil {
		e.timer.Stop()
	}
}
