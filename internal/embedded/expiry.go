package embedded

import (
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

// decideDue takes expiry decisions for about max users who are due. They leave
// the order now; their commits, or failures, set them anew. Nobody waits for an
// expiry: a directory that closes takes none, so that its lanes come to rest,
// and a journal that failed is not asked again before the next grid point.
func (l *lane) decideDue(max int) (n int) {
	if max <= 0 || !l.expireAsk.Load() {
		return 0
	}
	now := l.d.nowMS()
	if now < l.retryMS || l.d.closed.Load() {
		l.expireAsk.Store(false)
		return 0
	}
	for ; n < max; n++ {
		tag, due := l.expiry.pop(now)
		if !due {
			l.expireAsk.Store(false)
			break
		}
		for _, k := range l.dueUsers(tag, now) {
			l.pending.Add(1)
			l.decide(newDecision(kindExpire, k, expiration{}, now))
		}
	}
	l.publishDue()
	return n
}

// dueUsers returns the users of a tag who are due, and sets the others again.
func (l *lane) dueUsers(tag uint32, now int64) (due []presence.Key) {
	l.d.table.Tagged(l.id, tag, func(k presence.Key, u *presence.User) {
		switch at := earliestDue(u); {
		case at <= now:
			due = append(due, k)
		case at != noDue:
			l.expiry.queue(tag, at)
		}
	})
	return due
}

// restoreDue sets the user's expiry to that of its committed state.
func (l *lane) restoreDue(k presence.Key) {
	if l.d.table.Get(k, &l.scratch) {
		if due := earliestDue(&l.scratch); due != noDue {
			l.expiry.queue(l.d.table.TagOf(k), due)
		}
	}
}

// publishDue tells the timer when the lane's next expiry is to be decided.
func (l *lane) publishDue() {
	due := max(l.expiry.next(), l.retryMS) // noDue stays noDue: nothing is later
	if due != l.nextDueMS.Load() {
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

// gridAfter is the first point of the timer's grid after nowMS.
func gridAfter(nowMS int64) int64 { return (nowMS/wakeGridMS + 1) * wakeGridMS }

// setLocked sets the timer for dueMS unless it runs before. Never early: the
// grid is rounded up. Always later than now: a due user whose commit fails is
// tried again at the next grid point.
func (e *expirer) setLocked() {
	now := e.d.nowMS()
	wake := now + wakeMostMS
	if due := e.dueMS.Load(); due < wake {
		wake = gridAfter(max(due-1, now))
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
	defer e.d.jobs.Done()
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

// begin reports whether something is due, and a job was started to see to it; if
// nothing is, it sets the timer again.
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
	if !e.d.startJob() {
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
