package engine

import (
	"encoding/binary"
	"fmt"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// The rules of a session. Each function takes what happened and changes the
// session's state; what must be done about it is noted in effects, and Loop.apply
// does it. Nothing here reads a clock, a socket or the Directory.

// end is what becomes of the link.
type end uint8

const (
	endNot   end = iota
	endDrain     // send, half-close, discard what comes in, close within DrainTimeout
	endClose     // close at once
)

// effects is what a rule wants done, in this order: leave, send, end.
type effects struct {
	now     Instant
	retryMS uint32 // what to tell a client that may try again

	redirect string // where to send those who must go because the node stops, "" = nowhere

	asked int // what the client wanted answered in this call of Data: heartbeats, pings, requests

	out   []byte               // what to send, in the dialect of the session
	leave presence.LeaveReason // 0 = none
	end   end
	why   closeReason // with end
	code  codec.Code  // what the client was told with it, for the log
}

// header is what the rules look at in a frame behind the first.
type header struct {
	typ      codec.Type
	optional bool
	body     int // bytes
}

// headerOf reads the header that codec.Next has found good.
func headerOf(p []byte) header {
	return header{codec.Type(p[0]), codec.Frame{Flags: p[1] & 0xf}.Optional(), int(binary.BigEndian.Uint16(p[2:]))}
}

// skippable reports whether the type is none that clients send, and may be skipped.
func (h header) skippable() bool {
	return h.optional && h.typ != codec.TypeLogin && h.typ != codec.TypeHeartbeat && h.typ != codec.TypeLogout
}

// firstFrame takes the first frame of the client and reports whether it is a Login.
func (s *Session) firstFrame(t codec.Type, fx *effects) bool {
	if t != codec.TypeLogin {
		s.fault(codec.CodeNotLoggedIn, fmt.Sprintf("the first frame must be Login, not %v", t), fx)
		return false
	}
	return true
}

// laterFrame takes any other frame of the client.
func (s *Session) laterFrame(h header, maxPipelined int, fx *effects) {
	switch {
	case s.has(flagLogout): // nothing counts any more
	case h.body > 0 && (h.typ == codec.TypeHeartbeat || h.typ == codec.TypeLogout):
		s.fault(codec.CodeMalformedBody, fmt.Sprintf("%v with a body of %d bytes, it has none", h.typ, h.body), fx)
	case s.state == stateDeciding:
		s.earlyFrame(h, maxPipelined, fx)
	case s.state == stateOnline:
		s.onlineFrame(h, maxPipelined, fx)
	}
}

// asks counts what is to be answered and reports whether it is: a client that sends
// without end, at best without reading, must not keep the loop busy with answers.
func (s *Session) asks(maxPipelined int, fx *effects) bool {
	if fx.asked++; fx.asked <= maxPipelined {
		return true
	}
	s.fault(codec.CodeUnexpectedFrame, fmt.Sprintf("more than %d heartbeats, pings or requests at once", maxPipelined), fx)
	return false
}

// earlyFrame takes a frame that the client sent before it had its login answer.
// Heartbeats need no more memory than a count: nothing but a Logout, after which
// nothing counts, can stand between them.
func (s *Session) earlyFrame(h header, maxPipelined int, fx *effects) {
	switch {
	case h.typ == codec.TypeHeartbeat && int(s.beats) >= maxPipelined:
		s.fault(codec.CodeUnexpectedFrame, fmt.Sprintf("more than %d heartbeats before the login was answered", maxPipelined), fx)
	case h.typ == codec.TypeHeartbeat:
		s.beats++
	case h.typ == codec.TypeLogout:
		s.flags |= flagLogout
	case !h.skippable():
		s.fault(codec.CodeUnexpectedFrame, fmt.Sprintf("%v is not allowed while the login is being decided", h.typ), fx)
	}
}

func (s *Session) onlineFrame(h header, maxPipelined int, fx *effects) {
	switch {
	case h.typ == codec.TypeHeartbeat:
		if s.asks(maxPipelined, fx) {
			fx.out = s.speaks().heartbeatOK(fx.out, s)
		}
	case h.typ == codec.TypeLogout:
		s.logout(fx)
	case !h.skippable():
		s.fault(codec.CodeUnexpectedFrame, fmt.Sprintf("%v is not allowed after the login", h.typ), fx)
	}
}

// logout ends the instance; the answer comes when the Directory has it.
func (s *Session) logout(fx *effects) {
	s.state = stateLeaving
	fx.leave = presence.LeaveLogout
}

// fault closes the link for something that the client did wrong.
func (s *Session) fault(code codec.Code, text string, fx *effects) {
	s.tell(code, text, fx)
	s.drain(faultReason(code), fx)
}

// tell appends the frame that ends a link in the session's state.
func (s *Session) tell(code codec.Code, text string, fx *effects) {
	if s.state == stateOnline {
		s.forced(&codec.ForcedOffline{Code: code, Text: text}, fx)
		return
	}
	s.refused(code, text, fx)
}

// drain ends the link after what is to be sent, with a Leave if it stands, or may
// come to stand, for an instance.
func (s *Session) drain(why closeReason, fx *effects) {
	fx.leave = s.leaveReason(presence.LeaveLinkClosed)
	s.drainGone(why, fx)
}

// drainGone is drain without a Leave: the link has no instance, or keeps it.
func (s *Session) drainGone(why closeReason, fx *effects) {
	s.state = stateDraining
	s.hold(0) // no flagSkip
	s.setDiscarded(0)
	fx.end, fx.why = endDrain, why
}

// leaveReason tells how the end of the link ends its instance, r unless the
// client had logged out already; 0 if there is none to end.
func (s *Session) leaveReason(r presence.LeaveReason) presence.LeaveReason {
	switch s.state {
	case stateOnline:
		return r
	case stateDeciding:
		if s.has(flagWaiting) {
			return 0 // the Directory does not know of it
		}
		if s.has(flagLogout) {
			return presence.LeaveLogout
		}
		return r
	}
	return 0
}

// lost tells what a link that the client or the network ended leaves to be done.
func (s *Session) lost() presence.LeaveReason { return s.leaveReason(presence.LeaveLinkClosed) }

// decided says yes to the login: ok is sent, then what waited for it takes place in order.
func (s *Session) decided(ok *codec.LoginOK, fx *effects) {
	s.state = stateOnline
	fx.out = s.speaks().loginOK(fx.out, s, ok)
	for ; s.beats > 0; s.beats-- {
		fx.out = s.speaks().heartbeatOK(fx.out, s)
	}
	switch {
	case s.has(flagLogout):
		s.logout(fx)
	case s.has(flagNodeStop):
		s.nodeStops(fx)
	}
}

// refuse says no to the login; nothing was changed by it.
func (s *Session) refuse(code codec.Code, text string, fx *effects) {
	s.state = stateNew // the Directory keeps nothing of it
	s.refused(code, text, fx)
	s.drain(closeRefused, fx)
}

// left is the Directory's answer to a logout.
func (s *Session) left(fx *effects) {
	fx.out = s.speaks().logoutOK(fx.out, s)
	s.drainGone(closeLogout, fx)
}

// forcedOffline tells the client that its instance is gone.
func (s *Session) forcedOffline(m *codec.ForcedOffline, why closeReason, fx *effects) {
	s.forced(m, fx)
	s.drainGone(why, fx)
}

// nodeStops tells the client that the server goes down. The instance stays as it
// is: a stop is no disconnect.
func (s *Session) nodeStops(fx *effects) {
	switch {
	case s.state == stateDeciding && !s.has(flagWaiting):
		s.flags |= flagNodeStop
	case s.state == stateNew || s.state == stateDeciding || s.state == stateOnline:
		s.sentAway(fx)
		s.drainGone(closeDraining, fx)
	}
}

// sentAway tells the client that the node stops and, if there is one, of another.
func (s *Session) sentAway(fx *effects) {
	switch {
	case fx.redirect != "":
		fx.code = codec.CodeServerDraining
		fx.out = s.speaks().redirect(fx.out, s, &codec.Redirect{Address: fx.redirect, RetryAfterMS: fx.retryMS})
	case s.state == stateOnline:
		s.forced(&codec.ForcedOffline{Code: codec.CodeServerDraining}, fx)
	default:
		s.refused(codec.CodeServerDraining, "", fx)
	}
}

// expired takes the end of the time that the state may last. In online it is
// the silence time-out.
func (s *Session) expired(fx *effects) {
	switch s.state {
	case stateNew:
		s.noLogin(fx)
	case stateDeciding:
		s.undecided(fx)
	case stateOnline:
		fx.leave = presence.LeaveTimeOut
		fx.end, fx.why = endClose, closeSilent
	case stateLeaving:
		fx.end, fx.why = endClose, closeLeaveTimeout
	case stateDraining:
		fx.end = endClose
	}
}

// noLogin gives up waiting for the Login. Who owes a PROXY header is not spoken to.
func (s *Session) noLogin(fx *effects) {
	if s.has(flagHeader) {
		fx.end, fx.why = endClose, closeProxyTimeout
		return
	}
	s.fault(codec.CodeLoginTimeout, "", fx)
	if !s.has(flagHeard) {
		fx.why = closeFirstFrame
	}
}

// undecided gives up waiting for the Directory. Should it say yes later, the
// Leave follows its Login; but if the node stops, a stop is no disconnect.
func (s *Session) undecided(fx *effects) {
	code := s.undecidedCode()
	s.refused(code, "", fx)
	if code == codec.CodeServerDraining {
		s.drainGone(closeDraining, fx)
		return
	}
	s.drain(closeDecideTimeout, fx)
}

// undecidedCode is what a client is told whose login was not decided in time.
func (s *Session) undecidedCode() codec.Code {
	if s.has(flagNodeStop) {
		return codec.CodeServerDraining
	}
	return codec.CodeUnavailable
}

// sigEndMS is when the link must end with its UserSig, WallMS.
func (s *Session) sigEndMS() int64 { return int64(s.sigEndS) * 1000 }

// refused says no to the login, or to the link before it; an empty text is the code's own.
func (s *Session) refused(code codec.Code, text string, fx *effects) {
	fx.code = code
	m := codec.LoginRefused{Code: code, Text: text}
	m.Text, m.MayReconnect = codeTerms(code, text)
	if m.MayReconnect {
		m.RetryAfterMS = fx.retryMS
	}
	fx.out = s.speaks().loginRefused(fx.out, s, &m)
}

// forced says m with what the code's row and the time add to it.
func (s *Session) forced(m *codec.ForcedOffline, fx *effects) {
	fx.code = m.Code
	m.Text, m.MayReconnect = codeTerms(m.Code, m.Text)
	if m.MayReconnect {
		m.RetryAfterMS = fx.retryMS
	}
	if m.TimeMS == 0 {
		m.TimeMS = fx.now.WallMS
	}
	fx.out = s.speaks().forcedOffline(fx.out, s, m)
}

// codeTerms returns what the code table says about code: its text unless there
// is a better one, and whether the client may reconnect by itself.
func codeTerms(code codec.Code, text string) (string, bool) {
	info, _ := code.Info()
	if text == "" {
		text = info.Text
	}
	return text, info.Reconnect
}
