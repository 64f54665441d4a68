package tlslink

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

var versions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// A client of either version with either kind of certificate gets its bytes back,
// however the wire cuts its own, and a farewell after its farewell.
func TestEcho(t *testing.T) {
	for name, version := range versions {
		for _, kind := range []string{"ecdsa", "rsa"} {
			for _, cut := range []int{0, 1, 7, 1000} {
				t.Run(fmt.Sprintf("%s %s cut %d", name, kind, cut), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { echo(t, echoServer(t, kind), version, cut) })
				})
			}
		}
	}
}

func echo(t *testing.T, s *Server, version uint16, cut int) {
	r := newRig(t, s)
	r.cut = cut
	defer r.stop()
	c := r.client(clientConfig(version))
	for _, size := range []int{1, 100, 16384, 40000} {
		want := bytes.Repeat([]byte{byte(size), 1, 2}, size)[:size]
		if _, err := c.Write(want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, size)
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back wrong: %v", size, err)
		}
	}
	if got := c.ConnectionState().Version; got != version {
		t.Errorf("version %x, want %x", got, version)
	}
	// Half-close: the client says that nothing more comes, and reads on.
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		t.Errorf("after the end came %d bytes, %v; want a clean end", len(rest), err)
	}
	r.do(func() {
		if r.ended != io.EOF {
			t.Errorf("the link ended with %v, want EOF", r.ended)
		}
		if n := len(r.unread); n > 0 {
			t.Errorf("%d bytes are left", n)
		}
	})
}

// The server's farewell is seen as one, and the client may go on sending.
func TestCloseNotify(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, echoServer(t, "ecdsa"))
				defer r.stop()
				c := r.client(clientConfig(version))
				if err := c.Handshake(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait() // the last of the handshake arrives
				r.do(func() {
					r.link.Write([]byte("bye"))
					r.link.CloseNotify()
					r.link.CloseNotify() // said once
					r.link.Write([]byte("never sent"))
				})
				sent := len(r.sent)
				if got, err := io.ReadAll(c); err != nil || string(got) != "bye" {
					t.Errorf("read %q, %v; want bye and a clean end", got, err)
				}
				if _, err := c.Write([]byte("more")); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				r.do(func() {
					if string(r.got) != "more" || r.ended != nil {
						t.Errorf("after our end came %q, %v", r.got, r.ended)
					}
				})
				if len(r.sent) != sent {
					t.Error("something was sent behind the farewell")
				}
			})
		})
	}
}

// A returning client resumes, with either version, and is counted so.
func TestResumption(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := metrics.NewSet()
				s := mustPool(t, Options{Metrics: set}).Server(Config(certificate("ecdsa")))
				config := clientConfig(version)
				config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
				for i := range 3 {
					r := newRig(t, s)
					c := r.client(config)
					if _, err := c.Write([]byte("x")); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
						t.Fatal(err)
					}
					if got := c.ConnectionState().DidResume; got != (i > 0) {
						t.Errorf("link %d: resumed is %v", i, got)
					}
					r.stop()
				}
				for kind, want := range map[string]uint64{"full": 1, "resumed": 2} {
					if got := set.Counter(`rollcall_tls_handshakes_total{version="` + name + `",kind="` + kind + `"}`).Get(); got != want {
						t.Errorf("%s handshakes: counted %d, want %d", kind, got, want)
					}
				}
			})
		})
	}
}

// A client that wants another protocol (ALPN) or too old a version is told no.
func TestRefusedHandshake(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*tls.Config)
		want   string
	}{
		{"version", func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "remote error: tls: protocol version not supported"},
		{"alpn", func(c *tls.Config) { c.NextProtos = []string{"h2"} }, "remote error: tls: no application protocol"},
		{"suite", func(c *tls.Config) { c.CipherSuites = []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA} }, "remote error: tls: handshake failure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				set := metrics.NewSet()
				r := newRig(t, mustPool(t, Options{Metrics: set}).Server(Config(certificate("ecdsa"), "rollcall")))
				defer r.stop()
				config := clientConfig(tls.VersionTLS12)
				tt.change(config)
				if err := r.client(config).Handshake(); err == nil || err.Error() != tt.want {
					t.Errorf("the client was told %v, want %s", err, tt.want)
				}
				r.do(func() {
					if r.ended == nil || r.link.Up() {
						t.Error("the link did not end")
					}
				})
				if got := set.Counter(`rollcall_tls_failures_total{reason="protocol"}`).Get(); got != 1 {
					t.Errorf("counted %d failures, want 1", got)
				}
			})
		})
	}
}

// What is no TLS is refused at once, and counted.
func TestNotTLS(t *testing.T) {
	for _, tt := range []struct {
		name, bytes string
		want        error
		reason      string
	}{
		{"http", "GET / HTTP/1.1\r\n", ErrNotTLS, "not_tls"},
		{"one byte", "\x80", ErrNotTLS, "not_tls"},
		{"server hello", "\x16\x03\x01\x00\x04\x02\x00\x00\x00", ErrNotTLS, "not_tls"},
		{"huge", "\x16\x03\x01\x00\x05\x01\x01\x00\x00\x00", ErrHelloSize, "hello_size"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			set := metrics.NewSet()
			l := mustPool(t, Options{Metrics: set}).Server(Config(certificate("ecdsa"))).Link(nil)
			n, err := l.Feed([]byte(tt.bytes))
			if !errors.Is(err, tt.want) || n != len(tt.bytes) {
				t.Errorf("%d, %v; want %v", n, err, tt.want)
			}
			if got := set.Counter(`rollcall_tls_failures_total{reason="` + tt.reason + `"}`).Get(); got != 1 {
				t.Errorf("counted %d, want 1", got)
			}
			l.Drop()
			l.Write([]byte("nobody is there"))
			l.CloseNotify()
			if n, err := l.Feed([]byte("more")); n != 4 || err != nil {
				t.Errorf("an ended link answers %d, %v", n, err)
			}
		})
	}
}

// Data that comes together with the last of the handshake, even a part of a
// record, is not lost.
func TestDataBehindHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echoServer(t, "ecdsa"))
		defer r.stop()
		hold := &holdConn{clientConn: clientConn{r}}
		c := tls.Client(hold, clientConfig(tls.VersionTLS13))
		hold.after = 1 // what follows the ClientHello is held back
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		for _, s := range []string{"first", "second"} {
			if _, err := c.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		most := len(hold.held) - 3
		_, _ = hold.clientConn.Write(hold.held[:most])
		synctest.Wait()
		r.do(func() {
			if string(r.got) != "first" || len(r.link.rest) == 0 {
				t.Errorf("got %q, %d bytes rest", r.got, len(r.link.rest))
			}
		})
		_, _ = hold.clientConn.Write(hold.held[most:])
		synctest.Wait()
		r.do(func() {
			if string(r.got) != "firstsecond" || r.link.rest != nil {
				t.Errorf("got %q, %d bytes rest", r.got, len(r.link.rest))
			}
		})
	})
}

// What ends the link may come together with the last of the handshake: a farewell,
// a record that is no good, data that its owner ends it for.
func TestEndBehindHandshake(t *testing.T) {
	for name, tt := range map[string]struct {
		behind func(t *testing.T, c *tls.Conn, hold *holdConn)
		plain  func(r *rig, p []byte)
		want   error // nil: the owner ended it
	}{
		"farewell": {want: io.EOF, behind: func(t *testing.T, c *tls.Conn, _ *holdConn) {
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
		}},
		"forged": {want: errRecord, behind: func(_ *testing.T, _ *tls.Conn, hold *holdConn) {
			hold.held = append(hold.held, append([]byte{23, 3, 3, 0, 30}, make([]byte, 30)...)...)
		}},
		"dropped": {
			behind: func(t *testing.T, c *tls.Conn, _ *holdConn) {
				for range 2 {
					if _, err := c.Write([]byte("a")); err != nil {
						t.Fatal(err)
					}
				}
			},
			plain: func(r *rig, _ []byte) { r.link.Drop() },
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, echoServer(t, "ecdsa"))
				defer r.stop()
				if tt.plain != nil {
					r.onPlain = func(p []byte) { tt.plain(r, p) }
				}
				hold := &holdConn{clientConn: clientConn{r}}
				c := tls.Client(hold, clientConfig(tls.VersionTLS13))
				hold.after = 1 // what follows the ClientHello is held back
				if err := c.Handshake(); err != nil {
					t.Fatal(err)
				}
				tt.behind(t, c, hold)
				_, _ = hold.clientConn.Write(append(hold.held, 23, 3, 3)) // and one that is not whole
				synctest.Wait()
				r.do(func() {
					if !errors.Is(r.ended, tt.want) || r.link.Up() || r.link.rest != nil {
						t.Errorf("ended with %v, want %v; up %v, %d bytes rest", r.ended, tt.want, r.link.Up(), len(r.link.rest))
					}
				})
			})
		})
	}
}

// holdConn passes on `after` writes and keeps what follows.
type holdConn struct {
	clientConn
	after int
	held  []byte
}

func (h *holdConn) Write(p []byte) (int, error) {
	if h.after > 0 {
		h.after--
		return h.clientConn.Write(p)
	}
	h.held = append(h.held, p...)
	return len(p), nil
}

// clientHello is the first flight of a client.
func clientHello(t testing.TB) []byte {
	t.Helper()
	r := newRig(t, echoServer(t, "ecdsa"))
	hold := &holdConn{clientConn: clientConn{r}}
	go func() { _ = tls.Client(hold, clientConfig(tls.VersionTLS13)).Handshake() }()
	synctest.Wait()
	r.stop()
	synctest.Wait()
	return hold.held
}
