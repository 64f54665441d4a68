package tlslink

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"math/big"
	"net"
	"sync"
	"testing"
	"time"
)

// rig is one link with its event loop and its client's connection, all in memory.
// Run it in a synctest bubble: what is left over there hangs the test.
type rig struct {
	t    testing.TB
	link *Link
	cut  int // the wire gives the server this many bytes at once; 0: as they were sent

	onPlain func(p []byte) // the loop's goroutine; default: echo

	// Owned by the loop's goroutine.
	unread []byte
	got    []byte
	ended  error // of Feed or Resume

	// Guarded by mu.
	mu       sync.Mutex
	turn     *sync.Cond
	calls    []func()
	stopped  bool
	toClient []byte
	sent     []byte // all that was ever sent to the client
	fin      bool   // nothing more goes to the client
	closed   bool   // the client closed
}

func newRig(t testing.TB, s *Server) *rig {
	r := &rig{t: t}
	r.turn = sync.NewCond(&r.mu)
	r.onPlain = func(p []byte) { r.link.Write(p) }
	r.link = s.Link(r)
	go r.loop()
	return r
}

// loop is the event loop.
func (r *rig) loop() {
	for {
		r.mu.Lock()
		for len(r.calls) == 0 && !r.stopped {
			r.turn.Wait()
		}
		if r.stopped {
			r.mu.Unlock()
			return
		}
		f := r.calls[0]
		r.calls = r.calls[1:]
		r.mu.Unlock()
		f()
	}
}

// do runs f on the loop and waits for it.
func (r *rig) do(f func()) {
	done := make(chan struct{})
	r.post(func() { f(); close(done) })
	<-done
}

func (r *rig) post(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, f)
	r.turn.Broadcast()
}

// stop ends loop and client.
func (r *rig) stop() {
	r.do(r.link.Drop)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped, r.fin = true, true
	r.turn.Broadcast()
}

// arrive shows the link what came from the wire.
func (r *rig) arrive(p []byte) {
	if r.ended != nil {
		return
	}
	r.unread = append(r.unread, p...)
	n, err := r.link.Feed(r.unread)
	r.unread = r.unread[n:]
	r.note(err)
}

func (r *rig) note(err error) {
	if err == nil || r.ended != nil {
		return
	}
	r.ended = err
	r.mu.Lock()
	defer r.mu.Unlock()
	r.fin = true
	r.turn.Broadcast()
}

// Send implements Owner.
func (r *rig) Send(p []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.toClient = append(r.toClient, p...)
	r.sent = append(r.sent, p...)
	r.turn.Broadcast()
}

// Plain implements Owner.
func (r *rig) Plain(p []byte) {
	r.got = append(r.got, p...)
	r.onPlain(p)
}

// Wake implements Owner.
func (r *rig) Wake() { r.post(func() { r.note(r.link.Resume()) }) }

// clientConn is the client's end of the wire.
type clientConn struct{ *rig }

func (c clientConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.toClient) == 0 && !c.fin && !c.closed {
		c.turn.Wait()
	}
	if len(c.toClient) == 0 {
		return 0, io.EOF
	}
	n := copy(p, c.toClient)
	c.toClient = c.toClient[n:]
	return n, nil
}

func (c clientConn) Write(p []byte) (int, error) {
	for rest := bytes.Clone(p); len(rest) > 0; {
		n := len(rest)
		if c.cut > 0 {
			n = min(n, c.cut)
		}
		part := rest[:n]
		c.post(func() { c.arrive(part) })
		rest = rest[n:]
	}
	return len(p), nil
}

func (c clientConn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.turn.Broadcast()
	return nil
}

func (clientConn) LocalAddr() net.Addr              { return nil }
func (clientConn) RemoteAddr() net.Addr             { return nil }
func (clientConn) SetDeadline(time.Time) error      { return nil }
func (clientConn) SetReadDeadline(time.Time) error  { return nil }
func (clientConn) SetWriteDeadline(time.Time) error { return nil }

// client returns a TLS client of the rig.
func (r *rig) client(c *tls.Config) *tls.Conn { return tls.Client(clientConn{r}, c) }

// clientConfig trusts the certificates of this test.
func clientConfig(version uint16) *tls.Config {
	return &tls.Config{RootCAs: roots(), ServerName: "rollcall.test", MinVersion: version, MaxVersion: version}
}

// mustPool returns a pool, and lets the test fail if it is not empty at the end.
func mustPool(t testing.TB, o Options) *Pool {
	t.Helper()
	p, err := NewPool(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// echoServer is a server with the certificate of a kind of key.
func echoServer(t testing.TB, kind string) *Server {
	return mustPool(t, Options{}).Server(Config(certificate(kind)))
}

func certificate(kind string) Certificate {
	c := certs()[kind]
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c, nil }
}

var certs = sync.OnceValue(func() map[string]*tls.Certificate {
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		panic(err)
	}
	return map[string]*tls.Certificate{"ecdsa": selfSigned(ec, &ec.PublicKey), "rsa": selfSigned(rs, &rs.PublicKey)}
})

// selfSigned is valid in every year that a test's clock may show.
func selfSigned(key crypto.Signer, public any) *tls.Certificate {
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rollcall.test"}, DNSNames: []string{"rollcall.test"},
		NotBefore: time.Unix(0, 0), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, public, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

var roots = sync.OnceValue(func() *x509.CertPool {
	pool := x509.NewCertPool()
	for _, c := range certs() {
		pool.AddCert(c.Leaf)
	}
	return pool
})
