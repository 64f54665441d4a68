package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/proxy"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/wheel"
)

// Loop owns the links of one event loop. Its methods, but for those that say
// otherwise, are called from one goroutine at a time.
type Loop struct {
	// Immutable after NewCore and Attach.
	core   *Core
	driver atomic.Pointer[Driver] // set once, by Attach

	// Owned by the event loop.
	now       Instant
	running   bool // inside a call; a call inside it (Closed from Write) is part of it
	slab      slab
	wheel     *wheel.Wheel
	fx        effects
	asked     int                   // effects.asked, summed up over what TLS makes several calls of Data
	nobody    Session               // stands for a connection that is refused
	loginOK   codec.LoginOK         // for reuse
	mqtt      map[uint32]*mqttState // by slot: what is in progress on links that speak MQTT
	tally     tally
	tenants   tenants
	words     words
	parts     wsParts
	rng       *rand.Rand
	ready     *item        // taken from the queue, not worked off yet
	logins    []*loginCall // for reuse
	scratch   []byte
	leaves    leaves
	touched   int64 // keeps the reads of ahead from being optimized away
	newcomers newcomers
	trickles  map[uint32]trickle // by slot, while a frame is incomplete
	drainAt   int                // next slot to tell that the node stops; -1 = none
	// drainLinks is how many links there were when the node began to stop; 0 = it does not.
	drainLinks int
	turns      turns

	// Atomic.
	queue         queue
	awake         atomic.Bool // a call runs or Wake was called: nobody else need call it
	pendingLogins atomic.Int64
	changes       atomic.Int64 // changes in the queue
	changesLost   atomic.Bool  // an item that says so is in the queue
}

func newLoop(c *Core, index uint8, rng *rand.Rand) *Loop {
	l := &Loop{core: c, rng: rng, drainAt: -1, trickles: make(map[uint32]trickle)}
	l.wheel = wheel.New(wheel.Options{Ahead: l.ahead})
	l.slab = slab{loop: index, base: rng.Uint32() | 1, max: maxSlotsPerLoop, tracks: c.gate.Tracks(), both: c.gate.Both()}
	l.newcomers.on = c.o.MaxUnauthenticated < c.o.MaxLinks
	l.now = c.Now()
	l.turns.init(&c.o)
	l.wheel.Start(l.now.MonoMS)
	return l
}

// Attach names who drives the loop. Call it once, before the first link.
func (l *Loop) Attach(d Driver) { l.driver.Store(&d) }

// wake asks for a Run. A loop that is not driven yet has nothing to run for.
func (l *Loop) wake() {
	if d := l.driver.Load(); d != nil {
		(*d).Wake()
	}
}

// io is the driver, for a loop that has links.
func (l *Loop) io() Driver { return *l.driver.Load() }

// Open takes a new connection of the listener with that index in Options. Without
// room s is nil: refusal is to be sent if that can be done at once, then the
// connection is to be closed.
func (l *Loop) Open(c Conn, listener int, now Instant) (s *Session, refusal []byte) {
	outer := l.begin(now)
	s, refusal = l.open(c, listener)
	l.finish(outer)
	return s, refusal
}

func (l *Loop) open(c Conn, listener int) (*Session, []byte) {
	w := l.core.wireOf(listener)
	hold, no := l.mayOpen(c, l.core.o.Listeners[listener].Protocol)
	if no != notRefused {
		l.core.m.refused[no].Inc()
		return nil, l.refusal(w, no.code())
	}
	s, grown := l.slab.alloc()
	if grown {
		l.wheel.Grow(l.slab.slots())
	}
	l.core.m.accepts.Inc()
	s.conn, s.wire = c, w
	s.state = stateNew
	s.seen = moment(l.now.AfterMS)
	if t, ok := c.(*transport); ok && t.awaits {
		s.flags |= flagHeader
	}
	l.slab.setHold(s.id.Slot(), hold)
	l.newcomers.push(s.id, &l.slab)
	l.arm(s, l.core.o.FirstFrameTimeout)
	return s, nil
}

// addressed tells that the session's Conn has learned its client's address, from
// the PROXY header h. All other links have it when they open. What limits
// addresses may end the link.
func (l *Loop) addressed(s *Session, h *proxy.Header, now Instant) {
	outer := l.begin(now)
	s.flags &^= flagHeader
	l.core.m.proxied(h).Inc()
	l.located(s)
	l.finish(outer)
}

// headerRefused ends a link that does not begin with a good PROXY header. Nothing
// is said: who speaks there is unknown.
func (l *Loop) headerRefused(s *Session, err error, now Instant) {
	outer := l.begin(now)
	l.core.m.proxyRefusal(err).Inc()
	if l.debugs() {
		l.core.o.Logger.Debug("a load balancer's link does not begin as it must", "link", fmt.Sprintf("%x", uint64(s.id)), "error", err)
	}
	l.close(s, closeProxyHeader)
	l.finish(outer)
}

// refusal is what a connection is told that gets no session, in memory of its own:
// the scratch may be used again before it is sent.
func (l *Loop) refusal(w wire, code codec.Code) []byte {
	fx := l.effects()
	l.nobody = Session{wire: w}
	if code == codec.CodeServerDraining {
		fx.redirect = l.listener(&l.nobody).redirect
		l.nobody.sentAway(fx)
	} else {
		l.nobody.refused(code, "", fx)
	}
	return bytes.Clone(fx.out)
}

// Data takes what has arrived: p is all that is unread, what an earlier call left
// first. It returns how many bytes it took. It does not keep p.
func (l *Loop) Data(s *Session, p []byte, now Instant) int {
	outer := l.begin(now)
	if outer { // else TLS has read more than one record
		l.asked = 0
	}
	n := l.data(s, p)
	l.finish(outer)
	return n
}

func (l *Loop) data(s *Session, p []byte) (taken int) {
	switch s.state {
	case stateFree:
		return len(p)
	case stateDraining:
		l.tally.received += len(p) // what was held when the link ended is counted twice
		l.discard(s, len(p))
		return len(p)
	}
	was, fresh := l.incomplete(s), len(p)-s.held()
	if fresh > 0 {
		s.seen = moment(l.now.AfterMS) // any bytes are life
		l.tally.received += fresh
	}
	if !s.has(flagSkip) {
		s.hold(0)
	}
	fx := l.effects()
	fx.asked = l.asked
	if s.state == stateNew && l.now.MonoMS >= l.untilMS(s) {
		s.expired(fx)
	}
	began := false
	for fx.end == endNot && s.reads() && taken < len(p) {
		n := l.take(s, p[taken:], fx)
		if n == 0 {
			s.hold(len(p) - taken)
			break
		}
		taken += n
		began = began || !(s.has(flagSkip) || l.parts.unfinished(s))
		if !s.has(flagHeard) {
			l.heard(s)
		}
	}
	l.asked = fx.asked
	if !s.reads() || fx.end != endNot {
		taken = len(p)
		s.hold(0)
	} else {
		l.progress(s, fresh, was, began, fx)
	}
	l.apply(s, fx)
	return taken
}

// maxDiscarded bounds what a client may send behind the frame that ended its link:
// more than the rest of a message that was too long, which it could not know. One
// that sends on and on is not listening.
const maxDiscarded = 512 << 10

// discard takes n bytes of a client whose link has ended. They are read so that a
// RST, the kernel's answer to a close with unread bytes, does not destroy the last
// frame on its way; a client that sends on and on gets it.
func (l *Loop) discard(s *Session, n int) {
	if n += s.discarded(); n > maxDiscarded {
		l.core.m.drainsCut.Inc()
		l.close(s, 0) // why is counted
		return
	}
	s.setDiscarded(n)
}

// reads reports whether what the client sends still means something.
func (s *Session) reads() bool {
	return s.state == stateNew || s.state == stateDeciding || s.state == stateOnline
}

// take takes the first unit of p and returns the bytes that are done with, 0 if it
// must see more.
func (l *Loop) take(s *Session, p []byte, fx *effects) int {
	if s.has(flagSkip) {
		n := min(int(s.rest), len(p))
		s.skip(int(s.rest) - n)
		return n
	}
	return s.speaks().take(l, s, p, fx)
}

func (l *Loop) count(h header) {
	l.tally.frames++
	switch {
	case h.typ == codec.TypeHeartbeat:
		l.tally.heartbeats++
	case h.skippable():
		l.tally.skipped++
	}
}

// Closed tells of a connection that is gone: FIN, RST, any socket error. A nil
// err means that the reactor ends: the link is forgotten without a Leave.
func (l *Loop) Closed(s *Session, c Conn, err error, now Instant) {
	outer := l.begin(now)
	if s.state != stateFree && s.conn == c {
		l.lost(s, err)
	}
	l.finish(outer)
}

func (l *Loop) lost(s *Session, err error) {
	if s.state != stateDraining {
		l.ends(s, lostBy(err), 0)
	}
	if r := s.lost(); r != 0 && err != nil {
		l.leave(s, r)
	}
	l.free(s)
}

// Run works off what waits: answers of the Directory, due timers. It is to be
// called after Driver.Wake and at least every 250 ms; more asks for another call soon.
func (l *Loop) Run(now Instant) (more bool) {
	l.begin(now)
	l.leaves.retry(l)
	_, moreDue := l.wheel.Advance(now.MonoMS, l.core.o.Batch, l.due)
	l.takeTurns()
	moreItems := l.settle()
	moreLinks := l.drainStep()
	l.tally.flush(l.core.m)
	l.running = false
	return l.leaves.due(l.now) || moreDue || moreLinks || moreItems || l.moreTurns()
}

// begin opens a call. outer is false if the call came from inside another one.
func (l *Loop) begin(now Instant) (outer bool) {
	if l.running {
		return false
	}
	l.running = true
	l.now = now
	l.awake.Store(true)
	return true
}

// finish closes a call: what was posted meanwhile, by this call above all, takes
// effect now.
func (l *Loop) finish(outer bool) {
	if !outer {
		return
	}
	if l.settle() || l.drainAt >= 0 {
		l.wake()
	}
	l.askForTurns()
	l.running = false
}

// settle works off a batch of items. If it leaves some, awake stays set and the
// caller sees to it that Run is called. Else whoever posts the next one does.
func (l *Loop) settle() (more bool) {
	for budget := l.core.o.Batch; ; budget-- {
		if l.ready == nil {
			l.ready = l.queue.takeAll()
		}
		if l.ready == nil {
			l.awake.Store(false)
			// A post between takeAll and Store saw awake set and left it to us.
			if l.queue.empty() || !l.awake.CompareAndSwap(false, true) {
				return false
			}
			continue
		}
		if budget <= 0 {
			return true
		}
		it := l.ready
		l.ready, it.next = it.next, nil
		l.handle(it)
	}
}

// post hands an item to the loop. Any goroutine.
func (l *Loop) post(it *item) {
	l.queue.push(it)
	if l.awake.CompareAndSwap(false, true) {
		l.wake()
	}
}

func (l *Loop) handle(it *item) {
	switch {
	case it.login != nil:
		l.loginDone(it.login)
	case it.leave != nil:
		l.leaves.done(l, it.leave)
	case it.notice != nil:
		l.notice(it.notice)
	case it.tls != nil:
		it.tls.resume()
	case it.follow != nil:
		l.followDone(it.follow)
	case it.change != nil:
		l.change(it.change)
	case it.changesLost:
		l.loseChanges()
	case it.drain:
		l.drainAt, l.drainLinks = 0, l.slab.used
	}
}

// drainStep tells the next batch of links that the node stops.
func (l *Loop) drainStep() (more bool) {
	if l.drainAt < 0 {
		return false
	}
	end := min(l.drainAt+l.core.o.Batch, l.slab.slots())
	for ; l.drainAt < end; l.drainAt++ {
		if s := l.slab.at(uint32(l.drainAt)); s.state != stateFree {
			l.tellStop(s)
		}
	}
	if l.drainAt < l.slab.slots() {
		return true
	}
	l.drainAt = -1
	return false
}

func (l *Loop) tellStop(s *Session) {
	fx := l.effects()
	fx.redirect = l.listener(s).redirect
	s.nodeStops(fx)
	if s.has(flagNodeStop) && l.untilMS(s) > l.now.MonoMS+l.core.o.DrainTimeout.Milliseconds() {
		l.arm(s, l.core.o.DrainTimeout)
	}
	l.apply(s, fx)
}

// ahead reads what due will: the cache misses of the next sessions overlap.
func (l *Loop) ahead(slot uint32) {
	s := l.slab.at(slot)
	l.touched = int64(s.seen) + int64(s.state)
}

// due is the wheel's callback: the session's time may have come. It re-arms by
// the time it returns or, where the state changed, by arm.
func (l *Loop) due(slot uint32) (nextMS int64) {
	s := l.slab.at(slot)
	fx := l.effects()
	if l.unfinished(s) && s.reads() {
		if l.pressOn(s, fx); fx.end != endNot {
			l.apply(s, fx)
			return 0
		}
	}
	if s.state == stateOnline {
		return l.dueOnline(s, fx)
	}
	if s.state == stateDraining && !l.flush(s) {
		return 0
	}
	if l.now.MonoMS < l.untilMS(s) {
		return l.nextLook(s)
	}
	if s.state == stateDeciding && s.has(flagWaiting) { // for no longer than LoginQueueTime: the queue sees to it
		return l.now.MonoMS + l.core.o.LoginQueueTime.Milliseconds()
	}
	if s.state == stateDeciding {
		l.core.m.login(s.undecidedCode())
	}
	s.expired(fx)
	l.apply(s, fx)
	return 0
}

// dueOnline is due for a link that is logged in. Its timer stands where it was
// set; what came since moved seen only. A stalled loop may find links due whose
// bytes have arrived: those are not silent.
func (l *Loop) dueOnline(s *Session, fx *effects) (nextMS int64) {
	if s.sigEndS != 0 && l.now.WallMS >= s.sigEndMS() {
		s.fault(codec.CodeSigEnded, "", fx)
		l.apply(s, fx)
		return 0
	}
	if l.silentAt(s) <= l.now.MonoMS && l.io().Unread(s.conn) {
		s.seen = moment(l.now.AfterMS)
	}
	if l.silentAt(s) > l.now.MonoMS {
		return l.nextLook(s)
	}
	s.expired(fx)
	l.apply(s, fx)
	return 0
}

// sigCheckMS is how often the wall clock is compared with the end of a UserSig:
// it may be set forward, and the link must end at most 60 s late.
const sigCheckMS = 30_000

// nextVisit is when an online session is to be looked at.
func (l *Loop) nextVisit(s *Session) int64 {
	if s.sigEndS == 0 {
		return l.silentAt(s)
	}
	left := max(s.sigEndMS()-l.now.WallMS, 1)
	return min(l.silentAt(s), l.now.MonoMS+min(left, sigCheckMS))
}

// free ends the session. The slot waits for its next link.
func (l *Loop) free(s *Session) {
	l.wheel.Cancel(s.id.Slot())
	s.speaks().ended(l, s)
	if len(l.trickles) > 0 {
		delete(l.trickles, s.id.Slot())
	}
	l.giveBack(s)
	protocol := l.listener(s).Protocol
	l.slab.release(s)
	l.core.gone(protocol)
}

// effects returns the loop's scratch, cleared.
func (l *Loop) effects() *effects {
	l.clearEffects(&l.fx)
	return &l.fx
}

func (l *Loop) clearEffects(fx *effects) {
	*fx = effects{now: l.now, retryMS: l.retryMS(), out: fx.out[:0]}
}

// retryMS spreads the clients that are told to come back.
func (l *Loop) retryMS() uint32 {
	if l.drainLinks > 0 {
		return l.drainDelay()
	}
	o := &l.core.o
	return uint32(o.RetryAfter.Milliseconds()) + l.rng.Uint32N(uint32(o.RetrySpread.Milliseconds())+1)
}

// apply does what a rule wants: leave, send, end. Writing may find the link
// broken, which frees the session.
func (l *Loop) apply(s *Session, fx *effects) {
	id, leave, end, why := s.id, fx.leave, fx.end, fx.why
	if leave != 0 {
		l.leave(s, leave)
	}
	if end == endDrain {
		l.ends(s, why, fx.code)
	}
	if leave == presence.LeaveLogout && s.state == stateLeaving {
		l.arm(s, l.core.o.LeaveTimeout)
	}
	if len(fx.out) > 0 && !l.write(s, id, l.fitting(s, fx.out)) {
		return
	}
	switch end {
	case endDrain:
		if l.flush(s) {
			l.arm(s, l.core.o.DrainTimeout)
		}
	case endClose:
		l.close(s, why)
	}
}

// write sends p and reports whether the session is still there.
func (l *Loop) write(s *Session, id presence.LinkID, p []byte) bool {
	l.tally.sent += len(p)
	s.conn.Write(p) //nolint:errcheck // a broken link is told by Closed
	if s.id != id || s.state == stateFree {
		return false
	}
	return l.bounded(s)
}

// bounded ends a link whose client does not read what it is told, and reports
// whether the session is still there.
func (l *Loop) bounded(s *Session) bool {
	if s.state != stateDraining && s.conn.OutboundBuffered() > l.core.o.OutboundCap {
		if r := s.lost(); r != 0 {
			l.leave(s, r)
		}
		l.close(s, closeSlowReader)
		return false
	}
	return true
}

// ends counts the end of a link, once for each, when it is decided.
func (l *Loop) ends(s *Session, why closeReason, code codec.Code) {
	l.core.m.closes[why].Inc()
	if l.debugs() {
		l.core.o.Logger.Debug("link ends", "link", fmt.Sprintf("%x", uint64(s.id)), "reason", closeReasonNames[why], "code", uint32(code),
			"app", s.app, "user", s.user, "client", s.conn.RemoteAddr())
	}
}

// debugs reports whether the log takes what is for debugging.
func (l *Loop) debugs() bool {
	return l.core.o.Logger.Enabled(context.Background(), slog.LevelDebug)
}

// close ends the link at once.
func (l *Loop) close(s *Session, why closeReason) {
	if s.state != stateDraining {
		l.ends(s, why, 0)
	}
	c := s.conn
	l.free(s)
	l.io().Close(c)
}

// flush sends FIN as soon as all is written. gnet does not tell when that is, so
// due asks again. It reports whether the session is still there: a farewell may
// find the link broken.
func (l *Loop) flush(s *Session) bool {
	if s.has(flagFIN) || s.conn.OutboundBuffered() > 0 {
		return true
	}
	if !farewell(s.conn) {
		return s.state == stateDraining
	}
	s.flags |= flagFIN
	l.io().CloseWrite(s.conn)
	return true
}

// flushPollMS is how often a draining link is asked whether all is written.
const flushPollMS = 100

// pollAt is when a session whose state ends at untilMS is to be looked at.
func (l *Loop) pollAt(s *Session) int64 {
	if s.state == stateDraining && !s.has(flagFIN) {
		return min(l.untilMS(s), l.now.MonoMS+flushPollMS)
	}
	return l.untilMS(s)
}

// untilMS is when the session's state ends by itself, MonoMS; not for online.
func (l *Loop) untilMS(s *Session) int64 { return moment(s.until).near(l.now.MonoMS) }

// silentAt is when an online session has been silent for too long, MonoMS.
func (l *Loop) silentAt(s *Session) int64 { return s.seen.near(l.now.MonoMS) + int64(s.until) }

// arm sets when the session's state ends by itself.
func (l *Loop) arm(s *Session, d time.Duration) {
	s.until = uint32(l.now.MonoMS + d.Milliseconds())
	l.wheel.Schedule(s.id.Slot(), l.nextLook(s))
}

// check proves the loop's structures consistent.
func (l *Loop) check() error {
	if l.running {
		return errors.New("a call is running")
	}
	if err := l.slab.check(); err != nil {
		return err
	}
	if err := l.wheel.Check(); err != nil {
		return err
	}
	if err := l.parts.check(&l.slab); err != nil {
		return err
	}
	if l.wheel.Len() != l.slab.used {
		return fmt.Errorf("%d timers for %d links", l.wheel.Len(), l.slab.used)
	}
	return nil
}
