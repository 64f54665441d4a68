package attack

import (
	"crypto/tls"
	"io"
	"net"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// Attacks on a TLS listener.

// recorder is a connection that keeps what is written and answers nothing.
type recorder struct {
	net.Conn
	wrote []byte
}

func (r *recorder) Write(p []byte) (int, error)      { r.wrote = append(r.wrote, p...); return len(p), nil }
func (r *recorder) Read([]byte) (int, error)         { return 0, io.EOF }
func (r *recorder) SetDeadline(time.Time) error      { return nil }
func (r *recorder) SetReadDeadline(time.Time) error  { return nil }
func (r *recorder) SetWriteDeadline(time.Time) error { return nil }
func (r *recorder) Close() error                     { return nil }

// strangers take any certificate: they do not come to talk.
var strangers = &tls.Config{InsecureSkipVerify: true} //nolint:gosec

// clientHello is the first flight of a handshake.
func clientHello() []byte {
	r := new(recorder)
	_ = tls.Client(r, strangers).Handshake() // it ends at the answer that does not come
	return r.wrote
}

func tlsSlowHellos(a *Assault) {
	hello := clientHello()
	a.eachSlowly(a.size, func(i int) {
		c := a.dial(i, a.target.NativeTLS)
		if c == nil {
			return
		}
		defer a.closes(c)()
		a.trickle(c, hello, slowly)
	})
}

// tlsHellos makes the server compute the answer to a hello and leaves. Two in three send nothing more and wait.
func tlsHellos(a *Assault) {
	hello := clientHello()
	a.each(a.size, func(i int) {
		c := a.dial(i, a.target.NativeTLS)
		if c == nil {
			return
		}
		defer a.closes(c)()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(hello); err != nil {
			return
		}
		if n, _ := c.Read(make([]byte, 4096)); n > 0 {
			a.count("hellos answered")
		}
		if i%3 > 0 {
			a.stillOpen(c, 2*time.Second)
		}
	})
}

// tlsGarbage sends what is no TLS, or breaks off in the middle of it, or speaks it wrongly after a good handshake.
func tlsGarbage(a *Assault) {
	hello := clientHello()
	a.each(a.size, func(i int) {
		c := a.dial(i, a.target.NativeTLS)
		if c == nil {
			return
		}
		defer a.closes(c)()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		switch i % 4 {
		case 0: // a record that is longer than any may be
			a.ask(c, []byte{0x16, 3, 1, 0xff, 0xff, 1, 2, 3}, 10*time.Second)
		case 1: // half a hello
			a.ask(c, hello[:len(hello)/2], 10*time.Second)
		case 2: // a native login in the clear
			a.ask(c, a.loginFrame(i, nil), 10*time.Second)
		default: // a record in the clear after the handshake
			t := tls.Client(c, strangers)
			if t.Handshake() == nil {
				a.ask(c, codec.AppendEmpty(nil, codec.TypeHeartbeat), 10*time.Second)
			}
		}
		a.count("streams")
	})
}
