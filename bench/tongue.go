package bench

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/rollcall-im/rollcall/codec"
)

// Protocol is what links speak, by the names of the flags.
type Protocol string

// The protocols.
const (
	Native Protocol = "native"
	WS     Protocol = "ws"      // WebSocket, native frames in binary messages
	WSJSON Protocol = "ws-json" // WebSocket, JSON in text messages
	MQTT   Protocol = "mqtt"    // MQTT 5.0
)

// Protocols lists all.
func Protocols() []Protocol { return []Protocol{Native, WS, WSJSON, MQTT} }

// ParseProtocol returns the protocol of that name.
func ParseProtocol(name string) (Protocol, error) {
	if p := Protocol(name); slices.Contains(Protocols(), p) {
		return p, nil
	}
	var names []string
	for _, p := range Protocols() {
		names = append(names, string(p))
	}
	return "", fmt.Errorf("there is no protocol %q; there are %s", name, strings.Join(names, ", "))
}

// defaultTarget is where a server listens for the protocol if it was told nothing.
func (p Protocol) defaultTarget(secure bool) string {
	ports := map[Protocol][2]int{Native: {7700, 8700}, WS: {7701, 8701}, WSJSON: {7701, 8701}, MQTT: {1883, 8883}}[p]
	if secure {
		return fmt.Sprintf("127.0.0.1:%d", ports[1])
	}
	return fmt.Sprintf("127.0.0.1:%d", ports[0])
}

// tongue is a protocol as a client speaks it. What the server says is turned into
// native frames, whatever it looked like on the wire, so that all that a scenario
// checks is checked alike. One goroutine uses it.
type tongue interface {
	// greet appends what link n sends before its login; nothing if that comes first.
	greet(dst []byte, n uint32) []byte
	// greeted takes the answer to it, and returns its length, 0 if it is not all there.
	greeted(p []byte, n uint32) (int, error)
	login(dst []byte, m *codec.Login) []byte
	heartbeat(dst []byte) []byte
	logout(dst []byte) []byte
	// next takes the first message of p.
	next(p []byte) (heard, error)
	// silentLogout reports whether the server answers a logout by closing the link alone.
	silentLogout() bool
}

// heard is a message of the server.
type heard struct {
	frame codec.Frame // good until the next call; type 0: it means nothing to the link
	n     int         // bytes; 0: it is not all there
	reply []byte      // to be sent at once; may be empty
}

func newTongue(p Protocol, host string) tongue {
	switch p {
	case WS:
		return &wsTongue{host: host}
	case WSJSON:
		return &wsTongue{host: host, json: true}
	case MQTT:
		return &mqttTongue{}
	}
	return nativeTongue{}
}

// nativeTongue is the protocol of codec's frames.
type nativeTongue struct{}

func (nativeTongue) greet(dst []byte, _ uint32) []byte       { return dst }
func (nativeTongue) greeted([]byte, uint32) (int, error)     { return 0, nil }
func (nativeTongue) login(dst []byte, m *codec.Login) []byte { return codec.AppendLogin(dst, m) }
func (nativeTongue) silentLogout() bool                      { return false }

func (nativeTongue) heartbeat(dst []byte) []byte {
	return codec.AppendEmpty(dst, codec.TypeHeartbeat)
}

func (nativeTongue) logout(dst []byte) []byte { return codec.AppendEmpty(dst, codec.TypeLogout) }

func (nativeTongue) next(p []byte) (heard, error) {
	f, n, err := codec.Next(p, codec.MaxFrame)
	return heard{frame: f, n: n}, err
}

// frameOf is the frame that a native encoder has appended to dst.
func frameOf(dst []byte) codec.Frame {
	f, _, _ := codec.Next(dst, codec.MaxFrame)
	return f
}

// LogIn logs a client in over c, which may be any connection, and returns when the
// server has said yes. It blocks; deadlines are c's.
func LogIn(c net.Conn, p Protocol, m *codec.Login) error {
	s := newTongue(p, c.RemoteAddr().String())
	in := &stream{conn: c}
	if hello := s.greet(nil, 0); len(hello) > 0 {
		if _, err := c.Write(hello); err != nil {
			return err
		}
		if err := in.until(func(p []byte) (int, error) { return s.greeted(p, 0) }); err != nil {
			return err
		}
	}
	if _, err := c.Write(s.login(nil, m)); err != nil {
		return err
	}
	return in.until(func(p []byte) (int, error) {
		h, err := s.next(p)
		if err != nil || h.n == 0 || h.frame.Type == codec.TypeLoginOK {
			return h.n, err
		}
		return h.n, refusedBy(h.frame)
	})
}

// refusedBy makes an error of the frame that came instead of LoginOK.
func refusedBy(f codec.Frame) error {
	if f.Type != codec.TypeLoginRefused {
		return fmt.Errorf("the login was answered with %v", f.Type)
	}
	var m codec.LoginRefused
	err := m.Unmarshal(f.Body)
	return errors.Join(fmt.Errorf("the login was refused: %d %s", m.Code, m.Text), err)
}

// stream reads units from a connection.
type stream struct {
	conn net.Conn
	buf  []byte
}

// until reads until take has taken a unit.
func (s *stream) until(take func(p []byte) (int, error)) error {
	chunk := make([]byte, 4096)
	for {
		n, err := take(s.buf)
		if err != nil {
			return err
		}
		if n > 0 {
			s.buf = s.buf[n:]
			return nil
		}
		k, err := s.conn.Read(chunk)
		if err != nil {
			return err
		}
		s.buf = append(s.buf, chunk[:k]...)
	}
}
