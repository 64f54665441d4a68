package engine

import (
	"fmt"
	"net/http"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/ws"
)

// The sub-protocols of WebSocket.
const (
	wsNativeName = "rollcall.v1"
	wsJSONName   = "rollcall.json.v1"
)

var wsProtocols = []string{wsNativeName, wsJSONName}

// wsHandshake is the dialect of a WebSocket link that has not finished its opening
// handshake: what it is told are HTTP answers.
type wsHandshake struct{}

func (wsHandshake) take(l *Loop, s *Session, p []byte, fx *effects) int {
	n, fault := ws.HeadEnd(p)
	if fault != nil {
		l.refuseHandshake(s, fault, fx)
		return len(p)
	}
	if n == 0 {
		return 0
	}
	out, hs, fault := ws.Upgrade(fx.out, p[:n], wsProtocols)
	if fault != nil {
		l.refuseHandshake(s, fault, fx)
		return len(p)
	}
	fx.out = out
	l.core.m.upgrade(http.StatusSwitchingProtocols)
	if hs.Origin != "" {
		l.parts.of(s).origin = hs.Origin
	}
	s.setDialect(speaksWSNative)
	if hs.Protocol == wsJSONName {
		s.setDialect(speaksWSJSON)
	}
	return n
}

// refuseHandshake answers a request that is none for us.
func (l *Loop) refuseHandshake(s *Session, f *ws.Fault, fx *effects) {
	l.core.m.upgrade(f.Status)
	fx.out = ws.AppendFault(fx.out, f, 0)
	s.drainGone(closeProtocol, fx)
}

// loginRefused is for links that end before the handshake did: no room, a stop,
// too slow.
func (wsHandshake) loginRefused(dst []byte, _ *Session, m *codec.LoginRefused) []byte {
	f := ws.Fault{Status: http.StatusForbidden, Text: m.Text}
	switch {
	case m.Code == codec.CodeLoginTimeout, m.Code == codec.CodeSlowSender:
		f.Status, m.RetryAfterMS = http.StatusRequestTimeout, 0
	case m.Code == codec.CodeAddressLimited:
		f.Status = http.StatusTooManyRequests
	case m.MayReconnect:
		f.Status = http.StatusServiceUnavailable
	}
	return ws.AppendFault(dst, &f, (m.RetryAfterMS+999)/1000)
}

// redirect cannot be said in a way that WebSocket clients follow: they come back.
func (d wsHandshake) redirect(dst []byte, s *Session, m *codec.Redirect) []byte {
	info, _ := codec.CodeServerDraining.Info()
	return d.loginRefused(dst, s, &codec.LoginRefused{Code: info.Code, Text: info.Text, MayReconnect: true, RetryAfterMS: m.RetryAfterMS})
}

// Nothing of this is said before a login.
func (wsHandshake) loginOK(dst []byte, _ *Session, _ *codec.LoginOK) []byte             { return dst }
func (wsHandshake) forcedOffline(dst []byte, _ *Session, _ *codec.ForcedOffline) []byte { return dst }
func (wsHandshake) heartbeatOK(dst []byte, _ *Session) []byte                           { return dst }
func (wsHandshake) logoutOK(dst []byte, _ *Session) []byte                              { return dst }

func (wsHandshake) ended(*Loop, *Session) {}

// wsNative is the sub-protocol rollcall.v1: a frame of codec in each binary message.
type wsNative struct{}

func (d wsNative) take(l *Loop, s *Session, p []byte, fx *effects) int {
	return l.takeWS(s, p, ws.Binary, d, fx)
}

func (wsNative) message(l *Loop, s *Session, p []byte, fx *effects) {
	f, n, err := codec.Next(p, codec.MaxFrame)
	switch {
	case err != nil:
		l.malformed(s, err, fx)
	case n != len(p) || n == 0: // an empty message, too
		s.fault(codec.CodeMalformedFrame, fmt.Sprintf("a message of %d bytes that is not one frame", len(p)), fx)
	case s.state == stateNew:
		l.tally.frames++
		l.firstFrame(s, f, fx)
	default:
		h := headerOf(p)
		l.count(h)
		s.laterFrame(h, l.core.o.MaxPipelined, fx)
	}
}

// inBinary makes a message of the frame that is appended to dst behind start. No
// frame makes no message.
func inBinary(dst []byte, start int) []byte {
	if len(dst) == start {
		return dst
	}
	return ws.Wrap(dst, start, ws.Binary)
}

func (wsNative) loginOK(dst []byte, _ *Session, m *codec.LoginOK) []byte {
	return inBinary(codec.AppendLoginOK(dst, m), len(dst))
}

func (wsNative) loginRefused(dst []byte, _ *Session, m *codec.LoginRefused) []byte {
	return appendCodeClose(inBinary(codec.AppendLoginRefused(dst, m), len(dst)), m.Code)
}

func (wsNative) forcedOffline(dst []byte, _ *Session, m *codec.ForcedOffline) []byte {
	return appendCodeClose(inBinary(codec.AppendForcedOffline(dst, m), len(dst)), m.Code)
}

func (wsNative) redirect(dst []byte, _ *Session, m *codec.Redirect) []byte {
	return appendRedirectClose(inBinary(codec.AppendRedirect(dst, m), len(dst)))
}

func (wsNative) heartbeatOK(dst []byte, _ *Session) []byte {
	return inBinary(codec.AppendEmpty(dst, codec.TypeHeartbeatOK), len(dst))
}

func (wsNative) logoutOK(dst []byte, _ *Session) []byte {
	return appendLogoutClose(inBinary(codec.AppendEmpty(dst, codec.TypeLogoutOK), len(dst)))
}

func (wsNative) ended(l *Loop, s *Session) { l.parts.drop(s) }

// appendCodeClose appends the Close frame behind a last message that has a code.
func appendCodeClose(dst []byte, c codec.Code) []byte {
	info, ok := c.Info()
	if !ok {
		info.WSClose = ws.CloseInternal
	}
	return ws.AppendClose(dst, info.WSClose, c.String())
}

func appendRedirectClose(dst []byte) []byte {
	return ws.AppendClose(dst, ws.CloseGoingAway, codec.TypeRedirect.String())
}

func appendLogoutClose(dst []byte) []byte {
	return ws.AppendClose(dst, ws.CloseNormal, codec.TypeLogoutOK.String())
}

// messenger takes the messages of a sub-protocol.
type messenger interface {
	message(l *Loop, s *Session, p []byte, fx *effects)
}

// takeWS takes a control frame, a message, or a part of one.
func (l *Loop) takeWS(s *Session, p []byte, kind ws.Op, d messenger, fx *effects) int {
	limit := codec.MaxFrameBeforeLogin
	if s.state == stateOnline {
		limit = codec.MaxFrame
	}
	r := l.parts.reader(s)
	m, n, err := r.Take(p, ws.Limit{From: ws.FromClient, Max: limit})
	switch {
	case err != nil:
		s.fault(wsFault(err.Code), err.Text, fx)
	case n == 0: // keep has nothing to do but to count
	case m.Op == ws.Close:
		s.closeFrame(m.Payload, fx)
	case m.Op == ws.Ping: // section 5.5.2: the same payload
		if start := len(fx.out); s.asks(l.core.o.MaxPipelined, fx) {
			fx.out = ws.Wrap(append(fx.out, m.Payload...), start, ws.Pong)
		}
	case m.Op == kind:
		d.message(l, s, m.Payload, fx)
	case m.Op == ws.Text, m.Op == ws.Binary:
		s.fault(codec.CodeUnsupportedData, "", fx)
	}
	if fx.end != endNot {
		l.parts.forget(s)
		return len(p)
	}
	if !l.parts.keep(s, r, l.core.o.MaxPartialBytes) {
		l.core.m.partialsFull.Inc()
		s.fault(codec.CodeOverloaded, "too many messages are on their way in pieces", fx)
		l.parts.drop(s)
		return len(p)
	}
	return n
}

// wsFault is the code of our table for what the framing found, by the Close code
// that RFC 6455 has for it.
func wsFault(closeCode uint16) codec.Code {
	switch closeCode {
	case ws.CloseTooBig:
		return codec.CodeFrameTooLarge
	case ws.CloseBadPayload:
		return codec.CodeMalformedBody
	}
	return codec.CodeMalformedFrame
}

// closeFrame takes the client's Close: the link is closed, which is no logout. It
// is answered with the same code, section 5.5.1.
func (s *Session) closeFrame(payload []byte, fx *effects) {
	code, _, err := ws.ParseClose(payload)
	if err != nil {
		s.fault(wsFault(err.Code), err.Text, fx)
		return
	}
	fx.out = ws.AppendClose(fx.out, code, "")
	s.drain(closeFIN, fx)
}
