package tlslink

import (
	"bytes"
	"crypto/tls"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// FuzzGarbage feeds a link what is no TLS, or almost, cut as the input says. It
// must not panic, not wait for ever, not keep more than it may, and must leave no
// goroutine.
func FuzzGarbage(f *testing.F) {
	f.Add(byte(3), helloWire(300, 100))
	f.Add(byte(0), []byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(byte(1), []byte{22, 3, 1, 0, 5, 1, 0, 0, 1, 0, 21, 3, 1, 0, 2, 1, 0})
	f.Fuzz(func(t *testing.T, cut byte, p []byte) {
		synctest.Test(t, func(t *testing.T) {
			r := newRig(t, echoServer(t, "ecdsa"))
			r.cut = int(cut)
			_, _ = clientConn{r}.Write(p)
			synctest.Wait()
			time.Sleep(5 * time.Second) // a handshake that waits ends
			synctest.Wait()
			r.do(func() {
				if n := len(r.unread); r.ended == nil && n > maxHelloWire {
					t.Errorf("%d bytes are kept before a ClientHello", n)
				}
				if r.link.Up() {
					t.Error("garbage made a handshake")
				}
			})
			r.stop()
		})
	})
}

// FuzzDamage lets a real client talk over a wire that cuts as it likes and damages
// bytes at the places that the input names: each pair of bytes is how far on, and
// what to change. What the loop is given is a prefix of what the client said.
func FuzzDamage(f *testing.F) {
	f.Add(false, byte(1), []byte(nil))
	f.Add(true, byte(0), []byte{200, 0, 200, 0, 200, 1})
	f.Add(true, byte(9), []byte{4, 255})
	f.Add(false, byte(50), []byte{250, 0, 250, 0, 60, 8})
	f.Fuzz(func(t *testing.T, is13 bool, cut byte, damage []byte) {
		synctest.Test(t, func(t *testing.T) {
			version := uint16(tls.VersionTLS12)
			if is13 {
				version = tls.VersionTLS13
			}
			r := newRig(t, echoServer(t, "ecdsa"))
			r.cut = int(cut)
			said := bytes.Repeat([]byte("all's well "), 200)
			wire := &damagedConn{clientConn: clientConn{r}, damage: damage}
			done := make(chan error, 1)
			go func() { done <- talk(tls.Client(wire, clientConfig(version)), said) }()
			synctest.Wait()
			time.Sleep(5 * time.Second)
			synctest.Wait()
			_ = clientConn{r}.Close() // the wire ends: the client stops waiting
			if err := <-done; err != nil && !wire.damaged {
				t.Errorf("a sound wire: %v", err)
			}
			r.do(func() {
				if !bytes.HasPrefix(said, r.got) {
					t.Errorf("the loop was given %d bytes that the client did not say", len(r.got))
				}
			})
			r.stop()
		})
	})
}

// talk says p in pieces and wants it back.
func talk(c *tls.Conn, p []byte) error {
	for rest := p; len(rest) > 0; {
		n := min(len(rest), 700)
		if _, err := c.Write(rest[:n]); err != nil {
			return err
		}
		if _, err := io.ReadFull(c, make([]byte, n)); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// damagedConn changes bytes of what the client sends.
type damagedConn struct {
	clientConn
	damage  []byte
	pos, at int // bytes sent; where the next damage is
	damaged bool
}

func (d *damagedConn) Write(p []byte) (int, error) {
	p = bytes.Clone(p)
	for len(d.damage) >= 2 && d.at+int(d.damage[0]) < d.pos+len(p) {
		d.at += int(d.damage[0])
		if d.at >= d.pos {
			p[d.at-d.pos] ^= d.damage[1]
			d.damaged = d.damaged || d.damage[1] != 0
		}
		d.damage = d.damage[2:]
	}
	d.pos += len(p)
	return d.clientConn.Write(p)
}
