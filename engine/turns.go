package engine

import (
	"math"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/storm"
)

// turns is where a loop's logins wait for their turn. A login goes through at once,
// uncopied, as long as
//
//   - the loop has not taken a slice of them since its last Run: what it takes in
//     one go, the heartbeats and kicks behind it must wait for;
//   - fewer are with the Directory than its latency allows (storm.Limit);
//   - the node's LoginRate, if there is one, is not used up;
//   - nobody waits already.
//
// Else a copy waits: nothing is verified of a login that may yet be shed. Run takes
// a slice of those that wait and asks for another Run, so that the reactor shows
// the loop its other events in between. Who waits too long, or gives way in a full
// queue to one that is newer, is told to come back, and when (storm.Booking).
type turns struct {
	limit   *storm.Limit
	queue   *storm.Queue[*loginRequest]
	slice   int  // logins that may yet be taken before the next Run
	asked   bool // Run was asked for
	late    bool // more have waited too long than a Run sheds
	idle    []*loginRequest
	fx      effects // of those who are shed while the loop's own are in use
	meter   storm.Meter
	booking storm.Booking

	// LoginRate as a bucket.
	perMS    float64 // 0 = no such bound
	tokens   float64
	filledMS int64

	// Atomic, for the gauges.
	seenWaiting, seenLimit atomic.Int64
	seenRate               atomic.Uint64 // bits of a float64
}

// loginRequest is a login that waits; what its message holds lies in buf.
type loginRequest struct {
	link presence.LinkID
	m    codec.Login
	buf  []byte
}

func (t *turns) init(o *Options) {
	t.limit = storm.NewLimit(storm.LimitOptions{Ceiling: o.MaxPendingLogins})
	t.queue = storm.NewQueue[*loginRequest](storm.QueueOptions{
		Max: o.MaxWaitingLogins, MaxBytes: o.MaxWaitingLogins * meanRequest, WaitMS: o.LoginQueueTime.Milliseconds(),
	})
	t.slice = o.LoginSlice
	t.perMS = o.LoginRate / 1000 / float64(o.Loops)
}

// meanRequest is the room that a full queue has for each login, in bytes. One has
// about 400, at most codec.MaxFrameBeforeLogin.
const meanRequest = 1024

// open reports whether another login may be taken now.
func (t *turns) open(nowMS int64) bool { return t.slice > 0 && t.free(nowMS) }

// free reports whether another login may be taken in the next slice.
func (t *turns) free(nowMS int64) bool { return t.limit.Free() && t.rated(nowMS) }

// rateBurstMS is how much of LoginRate may be saved up: what a loop is owed that
// had nothing to do between two ticks, and some delay.
const rateBurstMS = 200

// rated reports whether LoginRate allows another login.
func (t *turns) rated(nowMS int64) bool {
	if t.perMS == 0 {
		return true
	}
	if past := nowMS - t.filledMS; past > 0 {
		t.tokens = min(t.tokens+float64(past)*t.perMS, max(rateBurstMS*t.perMS, 1))
		t.filledMS = nowMS
	}
	return t.tokens >= 1
}

// take counts a login that is taken.
func (t *turns) take() {
	t.slice--
	if t.perMS > 0 {
		t.tokens--
	}
}

// login takes the login, which it does not keep: at once, or when its turn comes.
func (l *Loop) login(s *Session, m *codec.Login, fx *effects) {
	no := checkFields(m)
	switch {
	case no.code != 0:
		l.refuseLogin(s, no, fx)
	case l.turns.queue.Len() == 0 && l.turns.open(l.now.MonoMS):
		l.turn(s, m, fx)
	default:
		l.await(s, m)
	}
}

// turn is what a login may have waited for: it is verified and decided.
func (l *Loop) turn(s *Session, m *codec.Login, fx *effects) {
	l.turns.take()
	if no := l.tryLogin(s, m); no.code != 0 {
		l.refuseLogin(s, no, fx)
	}
}

// await has a login wait. Where there is no room the oldest gives way: it is the
// most likely to have been given up.
func (l *Loop) await(s *Session, m *codec.Login) {
	t := &l.turns
	r := t.request(s.id, m)
	for !t.queue.Fits(len(r.buf)) {
		old, _ := t.queue.Oldest()
		l.shed(old, l.core.m.shedFull)
	}
	t.queue.Push(r, len(r.buf), l.now.MonoMS)
	l.heard(s)
	s.state = stateDeciding
	s.flags |= flagWaiting
	l.askForTurns()
}

// askForTurns sees to it that Run is called if somebody's turn has come.
func (l *Loop) askForTurns() {
	t := &l.turns
	if t.queue.Len() > 0 && !t.asked && t.free(l.now.MonoMS) {
		t.asked = true
		l.wake()
	}
}

// takeTurns takes a slice of the logins that wait, and sheds those that have
// waited for too long. It runs in Run.
func (l *Loop) takeTurns() {
	t := &l.turns
	t.asked, t.slice = false, l.core.o.LoginSlice
	t.late = true
	for range l.core.o.Batch {
		var r *loginRequest
		if r, t.late = t.queue.Late(l.now.MonoMS); !t.late {
			break
		}
		l.shed(r, l.core.m.shedLate)
	}
	for t.queue.Len() > 0 && t.open(l.now.MonoMS) {
		r, _ := t.queue.Next(l.now.MonoMS)
		if s := l.waiting(r); s != nil {
			s.flags &^= flagWaiting
			fx := l.effects()
			l.turn(s, &r.m, fx)
			l.apply(s, fx)
		}
		t.recycle(r)
	}
	if t.queue.Len() == 0 {
		t.slice = l.core.o.LoginSlice
	}
	t.seenWaiting.Store(int64(t.queue.Len()))
	t.seenLimit.Store(int64(t.limit.Limit()))
	t.seenRate.Store(math.Float64bits(l.loginRate()))
}

// moreTurns reports whether Run is to be called again soon for those that wait.
func (l *Loop) moreTurns() bool {
	t := &l.turns
	return t.queue.Len() > 0 && (t.late || t.free(l.now.MonoMS))
}

// waiting returns the session of a login that waits, nil if it has ended meanwhile.
func (l *Loop) waiting(r *loginRequest) *Session {
	s := l.slab.get(r.link)
	if s == nil || !s.has(flagWaiting) || s.state != stateDeciding {
		return nil
	}
	return s
}

// shed sends a login away that waits. It may run while l.fx is in use.
func (l *Loop) shed(r *loginRequest, count *metrics.Counter) {
	if s := l.waiting(r); s != nil {
		count.Inc()
		fx := &l.turns.fx
		l.clearEffects(fx)
		fx.retryMS = l.comeBack()
		l.refuseLogin(s, refusal{code: codec.CodeOverloaded}, fx)
		l.apply(s, fx)
	}
	l.turns.recycle(r)
}

// comeBack books when a client that is sent away comes back.
func (l *Loop) comeBack() (delayMS uint32) {
	return uint32(l.turns.booking.Next(l.now.MonoMS, l.spareRate(), l.core.o.delay(), l.rng.Float64()))
}

// leastLoginRate is what a loop is taken to be able to do before it has shown more.
const leastLoginRate = 1000

// loginRate is how many logins a second the loop can decide: LoginRate, or what it
// has shown of late.
func (l *Loop) loginRate() float64 {
	if set := 1000 * l.turns.perMS; set > 0 {
		return set
	}
	return max(l.turns.meter.Best(l.now.MonoMS), leastLoginRate)
}

// spareRate is what of that the normal load leaves.
func (l *Loop) spareRate() float64 {
	return storm.Spare(l.loginRate(), l.turns.meter.Normal(l.now.MonoMS))
}

// delay bounds what a client is told to wait for.
func (o *Options) delay() storm.Delay {
	return storm.Delay{LeastMS: o.RetryAfter.Milliseconds(), MostMS: o.RetryMost.Milliseconds()}
}

// drainDelay is what a client is told that the node sends away because it stops:
// all who are here come back within the time that their logins take, and in no less
// than the usual spread.
func (l *Loop) drainDelay() uint32 {
	rate := l.spareRate()
	n := max(l.drainLinks, int(rate*l.core.o.RetrySpread.Seconds()))
	return uint32(storm.Spread(n, rate, l.core.o.delay(), l.rng.Float64()))
}

// Of the requests that are over, so many are kept for reuse, with buffers of up to
// so many bytes: a storm must not leave its memory behind.
const (
	keptRequests = 64
	keptRequest  = 1024
)

// request returns a copy of m that waits.
func (t *turns) request(link presence.LinkID, m *codec.Login) *loginRequest {
	var r *loginRequest
	if n := len(t.idle); n > 0 {
		r, t.idle = t.idle[n-1], t.idle[:n-1]
	} else {
		r = new(loginRequest)
	}
	r.link, r.m = link, *m
	need := 0
	for _, f := range r.fields() {
		need += len(*f)
	}
	if cap(r.buf) < need {
		r.buf = make([]byte, 0, max(need, keptRequest/2))
	}
	r.buf = r.buf[:0]
	for _, f := range r.fields() {
		from := len(r.buf)
		r.buf = append(r.buf, *f...)
		*f = r.buf[from:len(r.buf):len(r.buf)]
	}
	return r
}

// fields are the members of the message that alias what the client has sent.
func (r *loginRequest) fields() [6]*[]byte {
	m := &r.m
	return [...]*[]byte{&m.UserID, &m.UserSig, &m.DeviceID, &m.SDKVersion, &m.DeviceModel, &m.Ticket}
}

func (t *turns) recycle(r *loginRequest) {
	if len(t.idle) >= keptRequests || cap(r.buf) > keptRequest {
		return
	}
	r.m = codec.Login{}
	t.idle = append(t.idle, r)
}
