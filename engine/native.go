package engine

import (
	"errors"

	"github.com/rollcall-im/rollcall/codec"
)

// native is the dialect of codec's frames.
type native struct{}

func (native) take(l *Loop, s *Session, p []byte, fx *effects) int {
	limit := codec.MaxFrameBeforeLogin
	if s.state == stateOnline {
		limit = codec.MaxFrame
	}
	f, n, err := codec.Next(p, limit)
	switch {
	case err != nil:
		l.malformed(s, err, fx)
		return len(p)
	case s.state != stateNew:
		return l.laterFrame(s, p, fx)
	case n > 0:
		l.tally.frames++
		l.firstFrame(s, f, fx)
	}
	return n
}

func (l *Loop) firstFrame(s *Session, f codec.Frame, fx *effects) {
	if !s.firstFrame(f.Type, fx) {
		return
	}
	var m codec.Login
	if err := m.Unmarshal(f.Body); err != nil {
		s.fault(codec.CodeMalformedBody, err.Error(), fx)
		return
	}
	l.login(s, &m, fx)
}

// laterFrame takes a frame behind the first: its header is enough, so that a link
// that is logged in never holds more than that.
func (l *Loop) laterFrame(s *Session, p []byte, fx *effects) int {
	if len(p) < codec.HeaderSize {
		return 0
	}
	h := headerOf(p)
	l.count(h)
	s.laterFrame(h, l.core.o.MaxPipelined, fx)
	n := min(codec.HeaderSize+h.body, len(p))
	s.skip(codec.HeaderSize + h.body - n)
	return n
}

func (l *Loop) malformed(s *Session, err error, fx *effects) {
	code := codec.CodeMalformedFrame
	var fe *codec.FrameError
	if errors.As(err, &fe) {
		code = fe.Code
	}
	s.fault(code, err.Error(), fx)
}

func (native) loginOK(dst []byte, _ *Session, m *codec.LoginOK) []byte {
	return codec.AppendLoginOK(dst, m)
}

func (native) loginRefused(dst []byte, _ *Session, m *codec.LoginRefused) []byte {
	return codec.AppendLoginRefused(dst, m)
}

func (native) forcedOffline(dst []byte, _ *Session, m *codec.ForcedOffline) []byte {
	return codec.AppendForcedOffline(dst, m)
}

func (native) redirect(dst []byte, _ *Session, m *codec.Redirect) []byte {
	return codec.AppendRedirect(dst, m)
}

func (native) heartbeatOK(dst []byte, _ *Session) []byte {
	return codec.AppendEmpty(dst, codec.TypeHeartbeatOK)
}

func (native) logoutOK(dst []byte, _ *Session) []byte {
	return codec.AppendEmpty(dst, codec.TypeLogoutOK)
}

func (native) ended(*Loop, *Session) {}
