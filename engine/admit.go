package engine

import (
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/admission"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Who may have a link. What limits the node is asked when a connection is
// accepted, what limits an address as soon as it is known: then too, but behind a
// proxy by addressed. A connection that is refused gets no session: one small
// write that does not wait, and it is closed. It was accepted all the same, as
// gnet accepts by itself; to keep a flood from that is the kernel's part.

// refusedReason is why a connection was not let in: the label of rollcall_refused_total.
type refusedReason uint8

const (
	notRefused refusedReason = iota
	refusedDraining
	refusedSlots
	refusedMemory
	refusedRate
	refusedFull
	refusedUnauthenticated
	refusedAddress     // and on: admission.Refusal, from its first on
	numRefusedReasons  = refusedAddress + refusedReason(admission.NumRefusals) - 1
	addressRefusalBase = refusedAddress - 1
)

var refusedReasonNames = func() (names [numRefusedReasons]string) {
	names = [numRefusedReasons]string{
		refusedDraining:        "draining",
		refusedSlots:           "slots",
		refusedMemory:          "memory",
		refusedRate:            "rate",
		refusedFull:            "full",
		refusedUnauthenticated: "unauthenticated",
	}
	for r := admission.Admitted + 1; r < admission.NumRefusals; r++ {
		names[addressRefusalBase+refusedReason(r)] = r.String()
	}
	return names
}()

// code is what the client is told.
func (r refusedReason) code() codec.Code {
	switch {
	case r >= refusedAddress:
		return codec.CodeAddressLimited
	case r == refusedDraining:
		return codec.CodeServerDraining
	case r == refusedRate, r == refusedUnauthenticated:
		return codec.CodeOverloaded
	}
	return codec.CodeServerFull
}

// mayOpen takes a place for the link of c wherever places are counted, or none.
// What limits an address stands before what all share, the node's rate and places:
// a flood from one address must not use up what is everybody's.
func (l *Loop) mayOpen(c Conn, p presence.Protocol) (admission.Hold, refusedReason) {
	core := l.core
	switch {
	case core.stopping.Load():
		return admission.Hold{}, refusedDraining
	case l.slab.full():
		return admission.Hold{}, refusedSlots
	case core.memoryFull.Load():
		return admission.Hold{}, refusedMemory
	}
	hold, no := l.admitAddress(c)
	if no == notRefused {
		no = l.takePlace(p)
	}
	if no != notRefused {
		core.gate.Release(hold)
		return admission.Hold{}, no
	}
	return hold, notRefused
}

// takePlace takes one of the node's places.
func (l *Loop) takePlace(p presence.Protocol) refusedReason {
	core := l.core
	if !core.accepts.Take(core.acceptRate, l.nowNS()) {
		return refusedRate
	}
	if !core.admit(p) {
		return refusedFull
	}
	if !l.takeUnauthenticated() {
		core.gone(p)
		return refusedUnauthenticated
	}
	return notRefused
}

// nowNS is the time as token buckets count it.
func (l *Loop) nowNS() int64 { return l.now.MonoMS * 1e6 }

// admitAddress asks what limits the client's address; one that is not known yet passes.
func (l *Loop) admitAddress(c Conn) (admission.Hold, refusedReason) {
	if !l.core.gate.Tracks() {
		return admission.Hold{}, notRefused
	}
	ip := addrPort(c.RemoteAddr()).Addr()
	if within(l.core.o.UnlimitedNetworks, ip) {
		return admission.Hold{}, notRefused
	}
	hold, no := l.core.gate.Admit(ip, l.nowNS(), l.core.room())
	if no != admission.Admitted {
		return hold, addressRefusalBase + refusedReason(no)
	}
	return hold, notRefused
}

// located asks what limits the client's address, which was not known when the
// link was opened. If that says no the link is closed.
func (l *Loop) located(s *Session) {
	hold, no := l.admitAddress(s.conn)
	l.slab.setHold(s.id.Slot(), hold)
	if no == notRefused {
		return
	}
	l.core.m.refused[no].Inc()
	l.core.accepts.Return(l.core.acceptRate) // as for an address that is known at accept
	fx := l.effects()
	s.refused(no.code(), "", fx)
	fx.end, fx.why = endClose, closeAddressLimited
	l.apply(s, fx)
}

// takeUnauthenticated takes a place among the links without a login. If all are
// taken, the one of this loop that has waited longest gives way: under a flood of
// silent links a client that logs in at once still gets in, while refusing the
// newcomers would refuse it with them.
func (l *Loop) takeUnauthenticated() bool {
	c := l.core
	if c.unauthenticated.Add(1) <= int64(c.o.MaxUnauthenticated) || l.crowdOut() {
		return true
	}
	c.unauthenticated.Add(-1)
	return false
}

// room is how much of the places for links without a login is free, as the gate wants it.
func (c *Core) room() int {
	most := int64(c.o.MaxUnauthenticated)
	return int(max(most-c.unauthenticated.Load(), 0) * admission.AllRoom / most)
}

// crowdOutAge is how long a link has for its login even if others want its
// place: some round trips of a slow network.
const crowdOutAge = 500 * time.Millisecond

// crowdOut closes the loop's oldest link without a login and reports whether there was one.
func (l *Loop) crowdOut() bool {
	s := l.newcomers.oldest(&l.slab)
	if s == nil || l.now.MonoMS-l.acceptedMS(s) < crowdOutAge.Milliseconds() {
		return false
	}
	fx := l.effects()
	s.refused(codec.CodeOverloaded, "", fx)
	fx.end, fx.why = endClose, closeCrowdedOut
	l.apply(s, fx)
	return true
}

// acceptedMS is when a link without a login was accepted, MonoMS: until still is
// the deadline of its first frame or of its login.
func (l *Loop) acceptedMS(s *Session) int64 {
	if s.has(flagHeard) {
		return l.untilMS(s) - l.core.o.LoginTimeout.Milliseconds()
	}
	return l.untilMS(s) - l.core.o.FirstFrameTimeout.Milliseconds()
}

// heard notes that the first frame is complete. What is left of the time for the login counts from now on.
func (l *Loop) heard(s *Session) {
	if s.state == stateNew {
		left := l.acceptedMS(s) + l.core.o.LoginTimeout.Milliseconds() - l.now.MonoMS
		l.arm(s, time.Duration(left)*time.Millisecond)
	}
	s.flags |= flagHeard
}

// authenticated notes that the link is logged in: it no longer counts among those that are not.
func (l *Loop) authenticated(s *Session) {
	s.flags |= flagAuthenticated
	l.core.unauthenticated.Add(-1)
	if l.slab.tracks {
		l.slab.setHold(s.id.Slot(), l.core.gate.LoggedIn(l.slab.hold(s.id.Slot()), l.nowNS()))
	}
}

// giveBack returns what the link took by mayOpen and located.
func (l *Loop) giveBack(s *Session) {
	if !s.has(flagAuthenticated) {
		l.core.unauthenticated.Add(-1)
	}
	if l.slab.tracks {
		l.core.gate.Release(l.slab.hold(s.id.Slot()))
		l.slab.setHold(s.id.Slot(), admission.Hold{})
	}
}

// newcomers are a loop's links without a login, oldest first. Those that have
// logged in or are gone stay in it until they are in the way.
type newcomers struct {
	on   bool // only where unauthenticated links are capped
	ids  []presence.LinkID
	head int
}

// push adds the newest. Before the list grows it drops who does not belong in it:
// so its
// room stays below four times the links that ever waited at once.
func (n *newcomers) push(id presence.LinkID, b *slab) {
	if !n.on {
		return
	}
	if len(n.ids) == cap(n.ids) {
		kept := n.ids[:0]
		for _, id := range n.ids[n.head:] {
			if waits(b.get(id)) {
				kept = append(kept, id)
			}
		}
		n.ids, n.head = kept, 0
		if len(kept) > cap(kept)/2 {
			n.ids = append(make([]presence.LinkID, 0, 2*cap(kept)), kept...)
		}
	}
	n.ids = append(n.ids, id)
}

// oldest is the one that has waited longest, nil if none waits.
func (n *newcomers) oldest(b *slab) *Session {
	for ; n.head < len(n.ids); n.head++ {
		if s := b.get(n.ids[n.head]); waits(s) {
			return s
		}
	}
	n.ids, n.head = n.ids[:0], 0
	return nil
}

func waits(s *Session) bool { return s != nil && s.state == stateNew }
