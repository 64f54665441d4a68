package engine

import (
	"fmt"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/jsonmsg"
	"github.com/rollcall-im/rollcall/codec/ws"
)

// wsJSON is the sub-protocol rollcall.json.v1: a JSON object in each text message.
type wsJSON struct{}

func (d wsJSON) take(l *Loop, s *Session, p []byte, fx *effects) int {
	return l.takeWS(s, p, ws.Text, d, fx)
}

func (wsJSON) message(l *Loop, s *Session, p []byte, fx *effects) {
	m, err := jsonmsg.Parse(p)
	if err != nil {
		s.fault(codec.CodeMalformedBody, err.Error(), fx)
		return
	}
	if s.state == stateNew {
		l.tally.frames++
		l.firstJSON(s, &m, fx)
		return
	}
	h := header{typ: m.Type, optional: m.Optional}
	l.count(h)
	if m.Type == 0 && !m.Optional && !s.has(flagLogout) {
		s.fault(codec.CodeUnexpectedFrame, fmt.Sprintf("there is no message of Type %q", brief(m.Name)), fx)
		return
	}
	s.laterFrame(h, l.core.o.MaxPipelined, fx)
}

// firstJSON takes the first message of the client.
func (l *Loop) firstJSON(s *Session, m *jsonmsg.Message, fx *effects) {
	if m.Type != codec.TypeLogin {
		s.fault(codec.CodeNotLoggedIn, fmt.Sprintf("the first message must be Login, not %q", brief(m.Name)), fx)
		return
	}
	var login codec.Login
	if err := m.Login(&login); err != nil {
		s.fault(codec.CodeMalformedBody, err.Error(), fx)
		return
	}
	l.login(s, &login, fx)
}

// inText makes a message of what is appended to dst behind start.
func inText(dst []byte, start int) []byte { return ws.Wrap(dst, start, ws.Text) }

func (wsJSON) loginOK(dst []byte, _ *Session, m *codec.LoginOK) []byte {
	return inText(jsonmsg.AppendLoginOK(dst, m), len(dst))
}

func (wsJSON) loginRefused(dst []byte, _ *Session, m *codec.LoginRefused) []byte {
	return appendCodeClose(inText(jsonmsg.AppendLoginRefused(dst, m), len(dst)), m.Code)
}

func (wsJSON) forcedOffline(dst []byte, _ *Session, m *codec.ForcedOffline) []byte {
	return appendCodeClose(inText(jsonmsg.AppendForcedOffline(dst, m), len(dst)), m.Code)
}

func (wsJSON) redirect(dst []byte, _ *Session, m *codec.Redirect) []byte {
	return appendRedirectClose(inText(jsonmsg.AppendRedirect(dst, m), len(dst)))
}

func (wsJSON) heartbeatOK(dst []byte, _ *Session) []byte {
	return inText(jsonmsg.AppendEmpty(dst, codec.TypeHeartbeatOK), len(dst))
}

func (wsJSON) logoutOK(dst []byte, _ *Session) []byte {
	return appendLogoutClose(inText(jsonmsg.AppendEmpty(dst, codec.TypeLogoutOK), len(dst)))
}

func (wsJSON) ended(l *Loop, s *Session) { l.parts.drop(s) }
