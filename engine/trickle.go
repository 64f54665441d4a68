package engine

import (
	"fmt"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// A frame that has begun must go on: a client that sends a byte now and then
// would hold what has come of it, and its link, for as long as it likes. While a
// frame is incomplete the link has an entry in its loop's trickles; no idle link has.

// progressWindow is how long a slow network may take before it must have
// delivered MinProgress on average.
const progressWindow = 10 * time.Second

// trickle is an incomplete frame under watch.
type trickle struct {
	untilMS int64 // end of the window, MonoMS
	need    int   // bytes still to come until then; at most 0: enough has
}

// incomplete reports whether a frame, or a WebSocket message in pieces, has begun
// and not ended.
func (l *Loop) incomplete(s *Session) bool { return s.rest > 0 || l.parts.unfinished(s) }

// progress looks at what a call of Data left: fresh bytes came; began tells that
// the incomplete frame, if there is one, is a new one.
func (l *Loop) progress(s *Session, fresh int, was, began bool, fx *effects) {
	slot := s.id.Slot()
	switch {
	case l.core.o.MinProgress < 0 || !l.incomplete(s) && !was:
	case !l.incomplete(s):
		delete(l.trickles, slot)
	case !was || began:
		l.trickles[slot] = l.newTrickle()
		l.wheel.Schedule(slot, l.nextLook(s))
	default:
		t := l.trickles[slot]
		t.need -= fresh
		l.trickles[slot] = t
		l.pressOn(s, fx)
	}
}

// recordProgress is progress for TLS, after fresh bytes of the wire: a record too
// must go on. began tells that one was complete since; a frame that is not is none the
// more complete for it, and progress has looked at that.
func (l *Loop) recordProgress(s *Session, fresh int, began bool) {
	slot := s.id.Slot()
	switch t, watched := l.trickles[slot]; {
	case l.core.o.MinProgress < 0 || !s.reads():
	case !l.unfinished(s):
		if watched {
			delete(l.trickles, slot)
		}
	case !watched || began && !l.incomplete(s):
		l.trickles[slot] = l.newTrickle()
		l.wheel.Schedule(slot, l.nextLook(s))
	case began:
	default:
		t.need -= fresh
		l.trickles[slot] = t
		fx := l.effects()
		l.pressOn(s, fx)
		l.apply(s, fx)
	}
}

// unfinished reports whether the client began something that is not complete: a
// frame or, below it, a record of TLS.
func (l *Loop) unfinished(s *Session) bool {
	if l.incomplete(s) {
		return true
	}
	t, ok := s.conn.(*transport)
	return ok && t.tls != nil && (t.tls.unread > 0 || t.tls.link.Held() > 0)
}

func (l *Loop) newTrickle() trickle {
	return trickle{l.now.MonoMS + progressWindow.Milliseconds(), l.core.o.MinProgress * int(progressWindow/time.Second)}
}

// pressOn ends a link whose incomplete frame has not grown enough, at the end of
// a window. A stalled loop may find that bytes have come which it was not shown:
// they get another window.
func (l *Loop) pressOn(s *Session, fx *effects) {
	slot := s.id.Slot()
	t, watched := l.trickles[slot]
	switch {
	case !watched || l.now.MonoMS < t.untilMS:
	case t.need <= 0 || l.io().Unread(s.conn):
		l.trickles[slot] = l.newTrickle()
	default:
		s.fault(codec.CodeSlowSender, fmt.Sprintf("less than %d bytes a second of a frame that has begun", l.core.o.MinProgress), fx)
	}
}

// nextLook is when the session is to be looked at, whatever for.
func (l *Loop) nextLook(s *Session) int64 {
	at := l.pollAt(s)
	if s.state == stateOnline {
		at = l.nextVisit(s)
	}
	if t, watched := l.trickles[s.id.Slot()]; watched && s.reads() && l.unfinished(s) {
		at = min(at, t.untilMS)
	}
	return at
}
