package rollcall

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// tlsServer is the server's side of TLS links.
type tlsServer struct {
	config *tls.Config
	roots  *x509.CertPool
	names  []string // that clients asked for
}

// newTLSServer has a certificate for the names.
func newTLSServer(t *testing.T, names ...string) *tlsServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: names, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0), // a bubble's time begins in 2000
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := &tlsServer{roots: x509.NewCertPool()}
	s.roots.AddCert(cert)
	s.config = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	s.config.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		s.names = append(s.names, hello.ServerName)
		return nil, nil
	}
	return s
}

// accept waits for the client to connect and speaks TLS with it.
func (s *tlsServer) accept(fx *fixture) *peer {
	fx.t.Helper()
	p := fx.accept()
	b := newBuffered(p.conn)
	fx.t.Cleanup(func() { b.Close() })
	p.conn = tls.Server(b, s.config)
	return p
}

// buffered is a pipe that may be written to while nobody reads: in the TLS
// handshake both sides write at once.
type buffered struct {
	net.Conn
	out  chan []byte
	quit chan struct{} // closed by Close
	once sync.Once
}

func newBuffered(c net.Conn) *buffered {
	b := &buffered{Conn: c, out: make(chan []byte, 64), quit: make(chan struct{})}
	go b.copy()
	return b
}

func (b *buffered) copy() {
	for {
		select {
		case p := <-b.out:
			b.Conn.Write(p)
		case <-b.quit:
			return
		}
	}
}

func (b *buffered) Write(p []byte) (int, error) {
	b.out <- bytes.Clone(p)
	return len(p), nil
}

// SetWriteDeadline does nothing: crypto/tls sets it to now behind its last write.
func (b *buffered) SetWriteDeadline(time.Time) error { return nil }

func (b *buffered) Close() error {
	synctest.Wait() // until what can be written is
	b.once.Do(func() { close(b.quit) })
	return b.Conn.Close()
}

func TestTLS(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		s := newTLSServer(t, "a", "b")
		given := &tls.Config{RootCAs: s.roots}
		fx.opts.TLSConfig = given
		fx.begin(t.Context())
		p := s.accept(fx)
		p.wantLogin(false, "")
		p.ok()
		p.expect(codec.TypeHeartbeat)
		p.send(codec.AppendEmpty(nil, codec.TypeHeartbeatOK))
		p.send(codec.AppendRedirect(nil, &codec.Redirect{Address: "b:1"}))
		p.gone()
		p = s.accept(fx)
		p.wantLogin(true, "t1")
		p.ok()
		synctest.Wait()
		p.conn.Close()
		p = s.accept(fx)
		p.wantLogin(true, "t1")
		if !p.conn.(*tls.Conn).ConnectionState().DidResume {
			t.Error("the same server again, and TLS was not resumed")
		}
		if want := []string{"a", "b", "b"}; !slices.Equal(s.names, want) {
			t.Errorf("asked for certificates of %q, want %q", s.names, want)
		}
		if given.ServerName != "" || given.ClientSessionCache != nil {
			t.Error("the app's own TLSConfig was changed")
		}
		p.send(codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeKickedREST}))
		p.conn.(*tls.Conn).CloseWrite()
		var forced *ForcedOfflineError
		if err := fx.wait(); !errors.As(err, &forced) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// The app's own name for the server counts, wherever the client connects.
func TestTLSServerName(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		s := newTLSServer(t, "presence.example")
		fx.opts.TLSConfig = &tls.Config{RootCAs: s.roots, ServerName: "presence.example"}
		fx.begin(t.Context())
		p := s.accept(fx)
		p.wantLogin(false, "")
		p.send(codec.AppendRedirect(nil, &codec.Redirect{Address: "b:1"}))
		p.gone()
		s.accept(fx).wantLogin(false, "")
		if want := []string{"presence.example", "presence.example"}; !slices.Equal(s.names, want) {
			t.Errorf("asked for certificates of %q, want %q", s.names, want)
		}
	})
}

// Who cannot show a good certificate never sees the UserSig, and is tried again.
func TestTLSWrongServer(t *testing.T) {
	good := newTLSServer(t, "a")
	for name, s := range map[string]*tlsServer{"another name": newTLSServer(t, "c"), "another authority": newTLSServer(t, "a")} {
		run(t, func(t *testing.T, fx *fixture) {
			roots := s.roots
			if name == "another authority" {
				roots = good.roots
			}
			fx.opts.TLSConfig = &tls.Config{RootCAs: roots}
			fx.begin(t.Context())
			p := s.accept(fx)
			if b, err := io.ReadAll(p.conn); err == nil || len(b) > 0 {
				t.Errorf("%s: the client sent %d bytes, %v", name, len(b), err)
			}
			s.accept(fx)
			fx.wantElapsed(time.Second)
			if err := fx.saw().statuses[1].Err; err == nil || !strings.Contains(err.Error(), `cannot connect to "a:7700"`) || !strings.Contains(err.Error(), "x509") {
				t.Errorf("%s: waiting because of %v", name, err)
			}
		})
	}
}

// A server that says nothing to the ClientHello is given up like one that does not accept.
func TestTLSNoAnswer(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.opts.TLSConfig = &tls.Config{}
		fx.begin(t.Context())
		p := fx.accept()
		io.Copy(io.Discard, p.conn)
		fx.wantElapsed(DefaultDialTimeout)
		fx.accept()
		fx.client.Close() // while the handshake goes on
		if err := fx.wait(); err != ErrClosed {
			t.Errorf("Run returned %v", err)
		}
	})
}
