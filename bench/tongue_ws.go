package bench

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/jsonmsg"
	"github.com/rollcall-im/rollcall/codec/ws"
)

// The sub-protocols of WebSocket.
const (
	subNative = "rollcall.v1"
	subJSON   = "rollcall.json.v1"
)

// wsTongue is WebSocket with either sub-protocol.
type wsTongue struct {
	host string
	json bool
	out  []byte // a message as a native frame, or a pong
}

func (s *wsTongue) request(n uint32) *ws.Request {
	r := &ws.Request{Host: s.host, Protocols: []string{s.protocol()}}
	binary.BigEndian.PutUint32(r.Nonce[:], n) // need not be hard to guess: nothing caches between us
	return r
}

func (s *wsTongue) protocol() string {
	if s.json {
		return subJSON
	}
	return subNative
}

func (s *wsTongue) greet(dst []byte, n uint32) []byte { return ws.AppendRequest(dst, s.request(n)) }

func (s *wsTongue) greeted(p []byte, n uint32) (int, error) {
	protocol, size, err := s.request(n).CheckAnswer(p)
	if err == nil && size > 0 && protocol != s.protocol() {
		err = fmt.Errorf("the server chose the sub-protocol %q, want %q", protocol, s.protocol())
	}
	return size, err
}

func (s *wsTongue) login(dst []byte, m *codec.Login) []byte {
	start := len(dst)
	if s.json {
		dst = jsonmsg.AppendLogin(dst, m)
	} else {
		dst = codec.AppendLogin(dst, m)
	}
	return s.masked(dst, start)
}

func (s *wsTongue) heartbeat(dst []byte) []byte { return s.empty(dst, codec.TypeHeartbeat) }
func (s *wsTongue) logout(dst []byte) []byte    { return s.empty(dst, codec.TypeLogout) }
func (s *wsTongue) silentLogout() bool          { return false }

func (s *wsTongue) empty(dst []byte, t codec.Type) []byte {
	start := len(dst)
	if s.json {
		dst = jsonmsg.AppendEmpty(dst, t)
	} else {
		dst = codec.AppendEmpty(dst, t)
	}
	return s.masked(dst, start)
}

// masked makes a message of dst[start:].
func (s *wsTongue) masked(dst []byte, start int) []byte {
	op := ws.Binary
	if s.json {
		op = ws.Text
	}
	return ws.Mask(dst, start, op, true, newMask())
}

func newMask() (mask [4]byte) {
	binary.NativeEndian.PutUint32(mask[:], rand.Uint32())
	return mask
}

func (s *wsTongue) next(p []byte) (heard, error) {
	h, size, fault := ws.NextHeader(p, ws.FromServer, codec.MaxFrame)
	if fault != nil {
		return heard{}, fault
	}
	if size == 0 || len(p) < size+h.Length {
		return heard{}, nil
	}
	payload, n := p[size:size+h.Length], size+h.Length
	switch {
	case h.Op == ws.Ping:
		s.out = ws.Mask(append(s.out[:0], payload...), 0, ws.Pong, true, newMask())
		return heard{n: n, reply: s.out}, nil
	case h.Op.Control():
		return heard{n: n}, nil
	case !h.Fin:
		return heard{}, fmt.Errorf("a message in fragments: the server has no reason to")
	case s.json != (h.Op == ws.Text):
		return heard{}, fmt.Errorf("a message of opcode %d in %s", h.Op, s.protocol())
	}
	f, err := s.message(payload)
	return heard{frame: f, n: n}, err
}

// message is a message's payload as a native frame.
func (s *wsTongue) message(payload []byte) (codec.Frame, error) {
	if s.json {
		return s.fromJSON(payload)
	}
	f, n, err := codec.Next(payload, codec.MaxFrame)
	if err == nil && n != len(payload) {
		err = fmt.Errorf("a message of %d bytes holds a frame of %d", len(payload), n)
	}
	return f, err
}

func (s *wsTongue) fromJSON(payload []byte) (codec.Frame, error) {
	m, err := jsonmsg.Parse(payload)
	if err != nil {
		return codec.Frame{}, err
	}
	s.out = s.out[:0]
	switch m.Type {
	case codec.TypeLoginOK:
		var ok codec.LoginOK
		err = m.LoginOK(&ok)
		s.out = codec.AppendLoginOK(s.out, &ok)
	case codec.TypeLoginRefused:
		var r codec.LoginRefused
		err = m.LoginRefused(&r)
		s.out = codec.AppendLoginRefused(s.out, &r)
	case codec.TypeForcedOffline:
		var f codec.ForcedOffline
		err = m.ForcedOffline(&f)
		s.out = codec.AppendForcedOffline(s.out, &f)
	case codec.TypeRedirect:
		var r codec.Redirect
		err = m.Redirect(&r)
		s.out = codec.AppendRedirect(s.out, &r)
	default:
		s.out = codec.AppendEmpty(s.out, m.Type)
	}
	if err != nil {
		return codec.Frame{}, err
	}
	return frameOf(s.out), nil
}
