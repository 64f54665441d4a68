package embedded

import (
	"runtime"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// lane takes all decisions about the users of one shard of the table.
//
// The obvious way is a mutex around "read the user, apply the rules, write the
// journal, store, answer". It makes event loops wait for each other and for the
// disk, and a Done that calls back deadlocks.
//
// Instead (flat combining): callers push decisions into a mailbox without a
// lock, and whoever finds the lane idle works it off for all; the others go on
// at once. The state of the lane has one owner at a time, so it needs no locks,
// and the same ownership serialises what comes back from the journal.
//
//	pushed -> queue -> decided into the open batch -> in flight -> told
//
// Invariants:
//   - Decisions are taken in the order in which they were pushed, and told in
//     that order. One goroutine's pushes keep their order, so a Leave never
//     overtakes its Login.
//   - A decision sees the newest state: that of the overlay if the user has one
//     pending, else the table's. The overlay holds the users changed by
//     decisions not yet committed, and for each the latest of them.
//   - One batch is in flight, the next is being filled meanwhile (group commit).
//     Whoever lets go of the lane leaves no open batch unless one is in flight:
//     its landing is what brings an owner back.
//     So when a commit fails, all that was built on it is still in our hands and
//     is dropped before the journal has seen any of it.
//   - A decision is told after the commit of all before it: an answer that rests
//     on a pending state ("refused, because ...") waits until that is durable.
//   - Table, tally and expiry index are those of the committed states.
//
// Tried and rejected: answering decisions that change nothing at once. It saves
// a stale Leave the wait for the disk, but answers of one user could overtake
// each other.
type lane struct {
	// Immutable after init.
	d  *Directory
	id int

	// Atomic.
	pushed     atomic.Pointer[decision] // the mailbox, newest first
	busy       atomic.Bool              // somebody owns the lane
	returned   atomic.Bool              // the batch in flight is settled
	expireAsk  atomic.Bool              // the timer says that something is due
	pending    atomic.Int64             // decisions taken in and not yet told
	nextDueMS  atomic.Int64             // noDue or the earliest expiry
	tallyTotal sharedTally

	// Owned by whoever set busy.
	queue   *decision // taken from the mailbox, oldest first
	overlay map[presence.Key]*decision
	open    *Batch // being filled; nil if empty
	flight  *Batch // at the journal; nil if none
	expiry  expiryIndex
	retryMS int64 // no expiry is decided before: the journal failed; 0 = it never did
	notices []addressed
	// followers are the links that are told of the changes of users.
	followers map[presence.Key][]follower
	scratch   presence.User
}

func (l *lane) init(d *Directory, id int) {
	l.d, l.id = d, id
	l.nextDueMS.Store(noDue)
}

// submit hands a decision to its lane. It is false, and nobody is told, if the
// lane holds as much as it may (unless always) or the directory is closed.
func (d *Directory) submit(dc *decision, always bool) bool {
	l := d.laneOf(dc.key)
	if n := l.pending.Add(1); d.closed.Load() || !always && n > int64(d.opts.MaxPending) {
		l.pending.Add(-1)
		d.counters.shed[dc.kind].Inc()
		dc.recycle()
		return false
	}
	l.push(dc)
	l.run()
	return true
}

func (l *lane) push(dc *decision) {
	for {
		dc.next = l.pushed.Load()
		if l.pushed.CompareAndSwap(dc.next, dc) {
			return
		}
	}
}

// ready reports whether an idle lane has something to do.
func (l *lane) ready() bool {
	return l.pushed.Load() != nil || l.returned.Load() || l.expireAsk.Load()
}

// run works the lane off if nobody else does. What is pushed while another owns
// it is seen by that owner: it looks again after it let go.
func (l *lane) run() {
	for l.ready() && l.busy.CompareAndSwap(false, true) {
		if l.work() {
			if l.d.background(l.goOn) {
				return // the lane stays busy: the goroutine owns it
			}
			l.workAll()
		}
		l.busy.Store(false)
	}
}

// goOn is run on a goroutine, which takes over from a caller that did its step.
func (l *lane) goOn() {
	l.workAll()
	l.busy.Store(false)
	l.run()
}

func (l *lane) workAll() {
	for l.work() {
		runtime.Gosched()
	}
}

// work takes and tells decisions until there is nothing to do, or a step of
// them is done and there is more.
func (l *lane) work() (more bool) {
	for budget := l.d.opts.Step; budget > 0; {
		l.land()
		budget -= l.decideQueued(budget)
		budget -= l.decideDue(budget)
		l.ship()
		if l.queue == nil && !l.ready() {
			return false
		}
	}
	return true
}

// decideQueued takes up to max decisions and returns their number.
func (l *lane) decideQueued(max int) (n int) {
	for ; n < max; n++ {
		if l.queue == nil {
			l.queue = l.take()
		}
		dc := l.queue
		if dc == nil {
			break
		}
		l.queue, dc.next = dc.next, nil
		l.decide(dc)
	}
	return n
}

// take empties the mailbox and returns what was in it, oldest first.
func (l *lane) take() *decision {
	var oldest *decision
	for dc := l.pushed.Swap(nil); dc != nil; {
		dc.next, oldest, dc = oldest, dc, dc.next
	}
	return oldest
}

// decide applies the rules to the user's newest state and puts the outcome into
// the open batch.
func (l *lane) decide(dc *decision) {
	if l.open == nil {
		l.open = newBatch(l)
	}
	b := l.open
	if newest := l.overlay[dc.key]; newest != nil {
		copyUser(&dc.user, &newest.user)
	} else if !l.d.table.Get(dc.key, &dc.user) {
		dc.user = presence.User{Instances: dc.user.Instances[:0]}
	}
	before := tallyOf(&dc.user)
	dc.hadDue = earliestDue(&dc.user) != noDue
	dc.from = len(b.Transitions)
	dc.changed, b.Transitions = dc.act.decide(dc, l.d.apps.tenant(dc.key.App), b.Transitions)
	dc.to = len(b.Transitions)
	b.decisions = append(b.decisions, dc)
	if !dc.changed {
		return
	}
	dc.delta = tallyOf(&dc.user).minus(before)
	dc.dueMS = earliestDue(&dc.user)
	if l.overlay == nil {
		l.overlay = make(map[presence.Key]*decision)
	}
	l.overlay[dc.key] = dc
	b.Users = append(b.Users, UserRecord{dc.key, &dc.user})
}

// ship hands the open batch to the journal, unless one is under way. A batch
// that changed nothing has nothing to make durable: it is told.
func (l *lane) ship() {
	if l.open == nil || l.flight != nil {
		return
	}
	b := l.open
	l.open = nil
	if len(b.Users) == 0 {
		l.tell(b)
		b.recycle()
		return
	}
	l.flight = b
	b.phase.Store(phaseInFlight)
	l.d.opts.Journal.Commit(b, b.settleFn)
}

// land ends the flight of a batch that the journal is done with.
func (l *lane) land() {
	if !l.returned.Load() {
		return
	}
	b := l.flight
	l.flight = nil
	l.returned.Store(false)
	if b.err != nil {
		l.forget(b)
	} else {
		l.commit(b)
	}
	l.publishDue() // before anybody is told: the timer may be asked from then on
	l.tell(b)
	b.recycle()
}

// commit makes the batch visible to readers and hands out its transitions.
func (l *lane) commit(b *Batch) {
	for _, dc := range b.decisions {
		if !dc.changed || dc.doomed {
			continue
		}
		l.d.table.Put(dc.key, &dc.user)
		if l.overlay[dc.key] == dc {
			delete(l.overlay, dc.key)
		}
		l.tallyTotal.add(dc.delta)
		if dc.hadDue || dc.dueMS != noDue {
			l.expiry.change(l.d.table.TagOf(dc.key), dc.hadDue, dc.dueMS)
		}
	}
	if sink := l.d.opts.Sink; sink != nil && len(b.Transitions) > 0 {
		sink.Transitions(b.Transitions)
	}
}

// forget dooms the decisions of a failed batch and all later ones that were
// built on its states. None of those has been handed over yet.
func (l *lane) forget(b *Batch) {
	l.d.commitFailed(b.err)
	l.retryMS = gridAfter(l.d.nowMS())
	lost := make(map[presence.Key]struct{}, len(b.Users))
	for _, r := range b.Users {
		if _, done := lost[r.Key]; !done {
			lost[r.Key] = struct{}{}
			delete(l.overlay, r.Key)
			l.restoreDue(r.Key)
		}
	}
	doom(b, lost)
	if l.open != nil {
		doom(l.open, lost)
		l.open.dropDoomed()
	}
}

func doom(b *Batch, lost map[presence.Key]struct{}) {
	for _, dc := range b.decisions {
		if _, is := lost[dc.key]; is {
			dc.doomed = true
		}
	}
}

// tell answers the decisions of a batch in order. The notices about links that
// one pushed out precede its own answer, and follow the answers of the logins
// of those links, which came earlier.
func (l *lane) tell(b *Batch) {
	for _, dc := range b.decisions {
		l.pending.Add(-1)
		l.d.counters.told(dc)
		act := dc.act
		if dc.doomed {
			dc.recycle()
			act.fail(l.d)
			continue
		}
		if dc.changed {
			l.notify(dc)
			l.changed(dc, b)
		}
		dc.recycle()
		act.tell()
	}
}

// notify gives the watchers of the nodes concerned the notices of a decision.
func (l *lane) notify(dc *decision) {
	if r := dc.replaced; r.ID != 0 {
		l.notices = append(l.notices, addressed{r.Node, directory.Notice{
			Link: r.ID, Cause: directory.CauseReplaced, TimeMS: dc.nowMS,
		}})
	}
	for i := range dc.kicked {
		if in := &dc.kicked[i]; in.Status == presence.Online && in.Link.ID != 0 {
			l.notices = append(l.notices, addressed{in.Link.Node, directory.Notice{
				Link: in.Link.ID, Cause: dc.cause, By: dc.by, TimeMS: dc.nowMS,
			}})
		}
	}
	if len(l.notices) > 0 {
		l.d.watchers.notify(l.notices)
		clear(l.notices)
		l.notices = l.notices[:0]
	}
}
