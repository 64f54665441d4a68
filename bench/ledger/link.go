package ledger

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// link is a device's connection. It has no reader of its own: between its
// answers the server says nothing but a last word, and that waits in the socket.
type link struct {
	conn net.Conn
	p    *process // it was made to
	id   uint32   // InstID, once logged in
	buf  []byte
}

func dial(p *process, timeout time.Duration) (*link, error) {
	conn, err := net.DialTimeout("tcp", p.native, timeout)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSent, err)
	}
	return &link{conn: conn, p: p}, nil
}

// ask sends b and returns the next frame.
func (l *link) ask(b []byte, timeout time.Duration) (codec.Frame, error) {
	if _, err := l.conn.Write(b); err != nil {
		// The server's last word may wait in the socket all the same.
		f, readErr := l.frame(timeout)
		if readErr != nil {
			return f, errors.Join(err, readErr)
		}
		return f, nil
	}
	return l.frame(timeout)
}

// frame reads the next frame that is not optional. Its body is its own.
func (l *link) frame(timeout time.Duration) (codec.Frame, error) {
	_ = l.conn.SetReadDeadline(time.Now().Add(timeout))
	chunk := make([]byte, 1024)
	for {
		f, n, err := codec.Next(l.buf, codec.MaxFrame)
		if err != nil {
			return f, err
		}
		if n > 0 {
			f.Body = bytes.Clone(f.Body)
			l.buf = l.buf[n:]
			if _, known := f.Type.Info(); known || !f.Optional() {
				return f, nil
			}
			continue
		}
		n, err = l.conn.Read(chunk)
		l.buf = append(l.buf, chunk[:n]...)
		if err != nil && n == 0 {
			return f, err
		}
	}
}

// notice reads the server's last word: a ForcedOffline with its code, then the end.
func (l *link) notice(timeout time.Duration) (codec.Code, error) {
	f, err := l.frame(timeout)
	if err != nil {
		return 0, err
	}
	if f.Type != codec.TypeForcedOffline {
		return 0, fmt.Errorf("got %v in place of ForcedOffline", f.Type)
	}
	var m codec.ForcedOffline
	if err := m.Unmarshal(f.Body); err != nil {
		return 0, err
	}
	_, err = l.frame(timeout)
	var late net.Error
	if err == nil || errors.As(err, &late) && late.Timeout() {
		return m.Code, fmt.Errorf("the link goes on after ForcedOffline %v", m.Code)
	}
	return m.Code, nil
}

// reset closes the link by RST.
func (l *link) reset() {
	if t, ok := l.conn.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	l.conn.Close()
}
