package engine

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"io"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/proxy"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/tlslink"
)

// testCert is of "localhost".
var testCert = sync.OnceValue(func() *tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"localhost"}, NotAfter: time.Now().AddDate(1, 0, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
})

func serverTLS() *tls.Config {
	return tlslink.Config(func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return testCert(), nil })
}

func clientTLS(version uint16) *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(testCert().Leaf)
	return &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: version, MaxVersion: version}
}

// withTLS adds native-tls and one behind a load balancer to the native listener.
func withTLS(o *Options) {
	o.Listeners = append(o.Listeners,
		Listener{Name: "native-tls", Address: "127.0.0.1:0", TLS: serverTLS()},
		Listener{Name: "balanced", Address: "127.0.0.1:0", TLS: serverTLS(), ProxyNetworks: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}})
}

var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

// tlsClient is a client over TLS that remembers what came on the wire.
type tlsClient struct {
	*client
	*tls.Conn
	wire *wireLog
}

// wireLog is a connection that keeps what is read from it, and writes byte by byte.
type wireLog struct {
	net.Conn
	read  []byte
	bytes bool
}

func (w *wireLog) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	w.read = append(w.read, p[:n]...)
	return n, err
}

func (w *wireLog) Write(p []byte) (int, error) {
	if !w.bytes {
		return w.Conn.Write(p)
	}
	for i := range p {
		if _, err := w.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

func (s *server) dialTLS(t testing.TB, listener string, c *tls.Config) *tlsClient {
	t.Helper()
	k := dialAddr(t, s.Addr(listener))
	w := &wireLog{Conn: k.conn}
	conn := tls.Client(w, c)
	k.tls = conn
	return &tlsClient{k, conn, w}
}

// wantFarewell wants a close-notify as the last record before the end. Its type
// shows in TLS 1.2, its length in 1.3.
func (k *tlsClient) wantFarewell() {
	k.t.Helper()
	k.wantEOF()
	var last []byte
	for p := k.wire.read; len(p) >= 5; {
		n := 5 + int(binary.BigEndian.Uint16(p[3:]))
		if len(p) < n {
			k.t.Fatalf("the wire ends within a record: %x", p)
		}
		last, p = p[:n], p[n:]
	}
	const alert, sealedAlert = 21, 2 + 1 + 16
	if is13 := k.ConnectionState().Version == tls.VersionTLS13; is13 && len(last) != 5+sealedAlert || !is13 && last[0] != alert {
		k.t.Errorf("the last record is no farewell: %x", last)
	}
}

// A TLS link logs in, beats, is told why it ends and bidden farewell; directly
// and through a load balancer, which tells its address in the clear.
func TestTLSLink(t *testing.T) {
	s := startServer(t, withTLS)
	for name, version := range tlsVersions {
		for _, listener := range []string{"native-tls", "balanced"} {
			t.Run(name+" "+listener, func(t *testing.T) {
				user := listener + name
				k := s.dialTLS(t, listener, clientTLS(version))
				want := addrPort(k.conn.LocalAddr())
				if listener == "balanced" {
					want = clientAddr
					if _, err := k.conn.Write(proxy.Append(nil, &proxy.Header{Version: 2, Source: clientAddr, Destination: serviceAddr})); err != nil {
						t.Fatal(err)
					}
				}
				k.login(user)
				if got := s.dir.addrOf(user); got != want {
					t.Errorf("the directory was told %v, want %v", got, want)
				}
				if got := s.dir.listenerOf(user); got != listener {
					t.Errorf("the directory was told of listener %q", got)
				}
				if addr := s.connAddr(t, user); addr != nil {
					t.Errorf("the connection still holds %v", addr)
				}
				k.send(heartbeat)
				k.want(codec.TypeHeartbeatOK)
				s.kick(user)
				k.want(codec.TypeForcedOffline)
				k.wantFarewell()
			})
		}
	}
}

func (s *server) kick(user string) {
	s.core.ForcedOffline(noticesOf(s.dir.linkOf(user)))
}

// A client that sends byte by byte, its ClientHello too, is served; and one that
// resumes its session.
func TestTLSByteByByte(t *testing.T) {
	s := startServer(t, withTLS)
	config := clientTLS(tls.VersionTLS13)
	config.ClientSessionCache = tls.NewLRUClientSessionCache(1)
	for i := range 2 {
		k := s.dialTLS(t, "native-tls", config)
		k.wire.bytes = true
		k.login("alice")
		if got := k.ConnectionState().DidResume; got != (i == 1) {
			t.Errorf("link %d: resumed is %v", i, got)
		}
		k.send(logout)
		k.want(codec.TypeLogoutOK)
		k.wantFarewell()
	}
	for _, kind := range []string{"full", "resumed"} {
		if got := s.set.Counter(`rollcall_tls_handshakes_total{version="1.3",kind="` + kind + `"}`).Get(); got != 1 {
			t.Errorf("%s handshakes: counted %d", kind, got)
		}
	}
}

// However a client ends, its link does: with a farewell, whose answer is one;
// without; in the midst of a record.
func TestTLSClientEnds(t *testing.T) {
	s := startServer(t, withTLS)
	for name, end := range map[string]func(k *tlsClient) error{
		"farewell": func(k *tlsClient) error { return k.CloseWrite() },
		"fin":      func(k *tlsClient) error { return k.conn.CloseWrite() },
		"truncated": func(k *tlsClient) error {
			_, err := k.conn.Write([]byte{23, 3, 3, 0, 30, 1})
			_ = k.conn.CloseWrite()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			fin := s.set.Counter(`rollcall_closes_total{reason="fin"}`)
			before := fin.Get()
			k := s.dialTLS(t, "native-tls", clientTLS(tls.VersionTLS13))
			k.login(name)
			if err := end(k); err != nil {
				t.Fatal(err)
			}
			eventually(t, "the link to end", func() bool { return s.dir.leftBy(name) == presence.LeaveLinkClosed })
			if fin.Get() != before+1 {
				t.Error("not counted as closed by the client")
			}
			if name == "farewell" {
				k.wantFarewell()
			}
		})
	}
}

// A client may leave in the same breath in which it ends the handshake.
func TestTLSClientEndsAtOnce(t *testing.T) {
	for name, end := range map[string]struct {
		do     func(k *secured)
		reason closeReason
	}{
		"farewell": {func(k *secured) { _ = k.client.CloseWrite() }, closeFIN},
		"fault":    {func(k *secured) { _, _ = k.client.Write(heartbeat) }, closeProtocol},
	} {
		t.Run(name, func(t *testing.T) {
			k := secureRig(t).openSecured()
			go func() {
				if k.client.Handshake() == nil {
					end.do(k)
				}
			}()
			k.greet()
			k.arrive(slices.Concat(<-k.said, <-k.said)) // Finished, and the end
			k.turn(func() bool { return k.s.state == stateFree || k.s.state == stateDraining })
			k.wantCloses(end.reason, 1)
			k.advance(2 * time.Second)
			if k.s.state != stateFree || !k.conn.closed {
				t.Errorf("%v, closed %v", k.s.state, k.conn.closed)
			}
		})
	}
}

// What TLS refuses ends the link, is answered by an alert where there is TLS, and counted.
func TestTLSRefused(t *testing.T) {
	s := startServer(t, withTLS)
	for i, tt := range []struct {
		name, reason string
		do           func(k *tlsClient)
	}{
		{"plain", "not_tls", func(k *tlsClient) { _, _ = k.conn.Write(heartbeat) }},
		{"version", "protocol", func(k *tlsClient) {
			if err := k.Handshake(); err == nil || err.Error() != "remote error: tls: protocol version not supported" {
				t.Errorf("told %v", err)
			}
		}},
		{"forged", "record", func(k *tlsClient) {
			k.login("bob")
			_, _ = k.conn.Write([]byte{23, 3, 3, 0, 20, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0})
			if _, err := k.next(); err == nil || err.Error() != "remote error: tls: bad record MAC" {
				t.Errorf("told %v", err)
			}
		}},
	} {
		config := clientTLS(tls.VersionTLS13)
		if tt.name == "version" {
			config.MinVersion, config.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
		}
		k := s.dialTLS(t, "native-tls", config)
		tt.do(k)
		if _, err := io.Copy(io.Discard, k.conn); err != nil {
			t.Logf("%s: the end of the connection: %v", tt.name, err) // RST if we had not read all
		}
		eventually(t, "the count of "+tt.name, func() bool {
			return s.set.Counter(`rollcall_tls_failures_total{reason="`+tt.reason+`"}`).Get() == 1 &&
				s.set.Counter(`rollcall_closes_total{reason="tls"}`).Get() == uint64(i+1)
		})
	}
}

// Who is refused a link is told nothing where TLS is spoken: it could be said in
// the clear only.
func TestTLSRefusedAtAccept(t *testing.T) {
	s := startServer(t, withTLS, func(o *Options) { o.MaxLinks = 1 })
	s.dialTLS(t, "native-tls", clientTLS(tls.VersionTLS13)).login("alice")
	k := dialAddr(t, s.Addr("native-tls"))
	if said, _ := io.ReadAll(k.conn); len(said) > 0 { // however it ends
		t.Errorf("told %q in the clear", said)
	}
	if n := s.set.Counter(`rollcall_refused_total{reason="full"}`).Get(); n != 1 {
		t.Errorf("%d refusals counted", n)
	}
}

// A stop in the midst of handshakes leaves nothing behind: main_test looks for goroutines.
func TestTLSShutdown(t *testing.T) {
	s := startServer(t, withTLS)
	up := s.dialTLS(t, "native-tls", clientTLS(tls.VersionTLS13))
	up.login("alice")
	half := s.dialTLS(t, "native-tls", clientTLS(tls.VersionTLS13))
	go func() { _ = half.Handshake() }()
	none := s.dialTLS(t, "native-tls", clientTLS(tls.VersionTLS13))
	eventually(t, "three links", func() bool { return s.Stats().Links["native"] == 3 })
	s.core.Drain()
	up.want(codec.TypeForcedOffline)
	up.wantFarewell()
	if _, err := io.Copy(io.Discard, none.conn); err != nil {
		t.Error(err)
	}
}

// secured is a TLS link of a rig. Its client's TLS runs on another goroutine.
type secured struct {
	*link
	x      *secure
	sent   int         // of conn.out, to the client
	client *tls.Conn   // reads what turn passes on
	tell   chan []byte // to the client, on the wire
	said   chan []byte // by the client
	wake   turnDriver
}

// turnDriver is for loops that others wake.
type turnDriver struct {
	*fakeDriver
	asked chan struct{}
}

func (d turnDriver) Wake() {
	select {
	case d.asked <- struct{}{}:
	default:
	}
}

func (r *rig) openSecured() *secured {
	r.tb.Helper()
	conn := &fakeConn{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:4711"))}
	k := &secured{tell: make(chan []byte, 100), said: make(chan []byte, 100), wake: turnDriver{r.drv, make(chan struct{}, 1)}}
	r.loop.Attach(k.wake)
	t := newTransport(r.loop, conn, 0)
	if ok, _ := t.open(0, r.core.Now()); !ok || t.tls == nil {
		r.tb.Fatal("the link was refused, or has no TLS")
	}
	k.link, k.x = &link{rig: r, s: t.session, conn: conn}, t.tls
	theirs, ours := net.Pipe()
	k.client = tls.Client(theirs, clientTLS(tls.VersionTLS13))
	go func() {
		for {
			p := make([]byte, 4096)
			n, err := ours.Read(p)
			if err != nil {
				close(k.said)
				return
			}
			k.said <- p[:n]
		}
	}()
	go func() {
		for p := range k.tell {
			_, _ = ours.Write(p) // fails at the end, if the client does not read
		}
	}()
	r.tb.Cleanup(func() { close(k.tell) })
	r.tb.Cleanup(func() {
		_, _ = theirs.Close(), ours.Close()
		for range k.said {
		}
	}) //nolint:revive // until it ends
	return k
}

// turn passes on what waits on both sides, until done says so.
func (k *secured) turn(done func() bool) {
	for k.run(); !done(); k.run() {
		for ; k.sent < len(k.conn.out) && !k.conn.stuck; k.sent = len(k.conn.out) {
			k.tell <- slices.Clone(k.conn.out[k.sent:])
		}
		select {
		case p := <-k.said:
			k.arrive(p)
		case <-k.wake.asked:
		}
	}
}

// greet lets the server answer the ClientHello, and the client hear that.
func (k *secured) greet() {
	k.arrive(<-k.said) // the ClientHello
	for len(k.conn.out) == 0 {
		<-k.wake.asked
		k.run()
	}
	k.tell <- slices.Clone(k.conn.out)
	k.sent = len(k.conn.out)
}

func (k *secured) arrive(p []byte) {
	k.in = append(k.in, p...)
	n := k.x.transport.data(k.in, k.core.Now())
	k.in = k.in[n:]
}

// secureRig is a rig whose listener has TLS.
func secureRig(t *testing.T) *rig {
	return newRig(t, func(o *Options) {
		o.Listeners = []Listener{{Name: "native-tls", Address: "127.0.0.1:0", TLS: serverTLS()}}
	})
}

func (k *secured) logIn() {
	go func() { _, _ = k.client.Write(loginFrame(activeLogin("alice", codec.Android, "d1"))) }()
	k.turn(func() bool { return k.s.state == stateOnline })
}

// The time for the first frame counts from accept and covers the handshake. Nothing
// is said in the clear.
func TestTLSLoginTimeout(t *testing.T) {
	r := secureRig(t)
	for _, hello := range [][]byte{nil, {22, 3, 1}} {
		k := r.openSecured()
		k.advance(2 * time.Second)
		k.arrive(hello)
		k.advance(3*time.Second - tickInterval)
		if k.s.state != stateNew {
			t.Fatal("ended early")
		}
		k.advance(5 * tickInterval) // the wheel has its own tick
		if k.s.state != stateDraining || !k.conn.fin || len(k.conn.out) > 0 {
			t.Errorf("%v, FIN %v, said %q", k.s.state, k.conn.fin, k.conn.out)
		}
		k.advance(2 * time.Second)
	}
	if got := r.count(`rollcall_closes_total{reason="first_frame_timeout"}`); got != "2" {
		t.Errorf("counted %s", got)
	}
}

// A handshake that is done is as good as a first frame: what is left of the time
// for the login counts.
func TestTLSLoginTimeoutWhenUp(t *testing.T) {
	k := secureRig(t).openSecured()
	k.advance(4 * time.Second)
	go func() { _ = k.client.Handshake() }()
	k.turn(k.x.link.Up)
	k.advance(6*time.Second - tickInterval)
	if k.s.state != stateNew {
		t.Fatal("ended early")
	}
	said := len(k.conn.out)
	k.advance(5 * tickInterval)
	if k.s.state != stateDraining || !k.conn.fin || len(k.conn.out) == said {
		t.Errorf("%v, FIN %v, %d bytes said", k.s.state, k.conn.fin, len(k.conn.out)-said)
	}
	if got := k.count(`rollcall_closes_total{reason="login_timeout"}`); got != "1" {
		t.Errorf("counted %s", got)
	}
}

// A record that has begun must go on, as a frame must.
func TestTLSSlowSender(t *testing.T) {
	k := secureRig(t).openSecured()
	k.logIn()
	k.arrive([]byte{23, 3, 3, 0x40, 0})
	for range 9 {
		k.advance(time.Second)
		k.arrive(make([]byte, 80))
	}
	k.advance(2 * time.Second) // 720 of 640 bytes: another window
	if k.s.state != stateOnline {
		t.Fatalf("%v though it went on", k.s.state)
	}
	k.arrive(make([]byte, 600))
	k.advance(10 * time.Second)
	if k.s.state != stateDraining && k.s.state != stateFree {
		t.Errorf("%v", k.s.state)
	}
	if got := k.count(`rollcall_closes_total{reason="slow_sender"}`); got != "1" {
		t.Errorf("counted %s", got)
	}
}

// say has the client send p in a record.
func (k *secured) say(p []byte) {
	sent := make(chan struct{})
	go func() { _, _ = k.client.Write(p); close(sent) }()
	k.arrive(<-k.said)
	<-sent
}

// A frame that does not go on is not helped by records that are whole: a byte in each.
func TestTLSSlowSenderInRecords(t *testing.T) {
	k := secureRig(t).openSecured()
	k.logIn()
	k.say(codec.AppendHeader(nil, 40, codec.FlagOptional, 1000))
	for range 9 {
		k.advance(time.Second)
		k.say([]byte{0})
	}
	if k.s.state != stateOnline {
		t.Fatalf("%v within the window", k.s.state)
	}
	k.advance(1500 * time.Millisecond)
	if k.s.state == stateOnline {
		t.Errorf("%v", k.s.state)
	}
	if got := k.count(`rollcall_closes_total{reason="slow_sender"}`); got != "1" {
		t.Errorf("counted %s", got)
	}
}

// Nor is a record that came together with the end of the handshake, in part.
func TestTLSSlowSenderBehindHandshake(t *testing.T) {
	k := secureRig(t).openSecured()
	go func() {
		if k.client.Handshake() == nil {
			_, _ = k.client.Write(loginFrame(activeLogin("alice", codec.Android, "d1")))
		}
	}()
	k.greet()
	last := slices.Concat(<-k.said, <-k.said, []byte{23, 3, 3, 0x40, 0}) // Finished, login, and a record that begins
	k.arrive(last)
	k.turn(func() bool { return k.s.state == stateOnline })
	for range 9 {
		k.advance(time.Second)
		k.arrive([]byte{0})
	}
	k.advance(1500 * time.Millisecond)
	if got := k.count(`rollcall_closes_total{reason="slow_sender"}`); k.s.state == stateOnline || got != "1" {
		t.Errorf("%v, counted %s", k.s.state, got)
	}
}

// What a handshake has to say once its link has ended does not reach the next link
// of the slot: a slow sender is not given another window for it.
func TestTLSLateHandshake(t *testing.T) {
	r := secureRig(t)
	dead := r.openSecured()
	go func() { _ = dead.client.Handshake() }()
	dead.arrive(<-dead.said) // the ClientHello
	dead.x.transport.closed(io.ErrUnexpectedEOF, r.core.Now())
	k := r.openSecured()
	if k.s != dead.s {
		t.Fatal("the slot was not taken again")
	}
	k.logIn()
	k.arrive([]byte{23, 3, 3, 0x40, 0})
	k.advance(9 * time.Second)
	dead.x.Wake()
	k.run()
	k.advance(1500 * time.Millisecond)
	if got := r.count(`rollcall_closes_total{reason="slow_sender"}`); k.s.state == stateOnline || got != "1" {
		t.Errorf("%v, counted %s", k.s.state, got)
	}
}

// Nor may a client over TLS send on and on after its link's end.
func TestTLSSendsOnAfterTheEnd(t *testing.T) {
	k := secureRig(t).openSecured()
	k.logIn()
	k.core.ForcedOffline(noticesOf(k.s.id))
	k.run()
	k.arrive(make([]byte, maxDiscarded))
	if k.s.state != stateDraining {
		t.Fatalf("%v", k.s.state)
	}
	k.arrive(make([]byte, 1))
	if got := k.count("rollcall_drains_cut_total"); k.s.state != stateFree || !k.conn.closed || got != "1" {
		t.Errorf("%v, closed %v, %s cut", k.s.state, k.conn.closed, got)
	}
}

// Any bytes of the wire are life, those of a record that is not complete too.
func TestTLSBytesAreLife(t *testing.T) {
	k := secureRig(t).openSecured()
	k.logIn()
	silence := 400 * time.Second
	k.core.o.MinProgress = -1
	for _, b := range []byte{23, 3, 3, 0, 30} {
		k.advance(silence - time.Second)
		k.arrive([]byte{b})
	}
	k.advance(silence - time.Second)
	if k.s.state != stateOnline || len(k.in) != 5 {
		t.Errorf("%v, %d bytes held", k.s.state, len(k.in))
	}
	k.advance(2 * time.Second)
	if k.s.state != stateFree || !k.conn.closed {
		t.Errorf("%v after the silence", k.s.state)
	}
}

// The farewell waits until the client has read what was said before, and FIN waits for it.
func TestTLSFarewellWaits(t *testing.T) {
	k := secureRig(t).openSecured()
	k.logIn()
	k.conn.stuck = true
	k.core.ForcedOffline(noticesOf(k.s.id))
	k.run()
	said := len(k.conn.out)
	k.advance(300 * time.Millisecond)
	if k.conn.fin || len(k.conn.out) != said {
		t.Error("said goodbye while something waits to be sent")
	}
	k.conn.buffered = 0
	k.advance(200 * time.Millisecond) // the farewell is written, and waits in its turn
	if k.conn.fin || len(k.conn.out) == said {
		t.Errorf("FIN is %v, %d bytes were said", k.conn.fin, len(k.conn.out)-said)
	}
	said = len(k.conn.out)
	k.conn.buffered = 0
	k.advance(200 * time.Millisecond)
	if !k.conn.fin || len(k.conn.out) != said {
		t.Errorf("FIN is %v, %d bytes were said behind the farewell", k.conn.fin, len(k.conn.out)-said)
	}
}

// A farewell that finds the connection broken ends the link, once.
func TestTLSFarewellBreaks(t *testing.T) {
	k := secureRig(t).openSecured()
	k.logIn()
	writes := 0
	k.conn.onWrite = func() {
		if writes++; writes == 2 {
			k.x.transport.closed(io.ErrUnexpectedEOF, k.core.Now())
		}
	}
	k.core.ForcedOffline(noticesOf(k.s.id))
	k.run()
	if writes != 2 || k.s.state != stateFree || k.conn.fin || k.conn.closed {
		t.Errorf("%d writes, %v, FIN %v, closed %v", writes, k.s.state, k.conn.fin, k.conn.closed)
	}
	k.advance(5 * time.Second)
}

// What TLS says by itself counts towards the bound of what waits for the client.
func TestTLSSlowReader(t *testing.T) {
	k := secureRig(t).openSecured()
	k.logIn()
	k.conn.buffered = 64<<10 + 1
	k.arrive([]byte{23})
	if k.s.state != stateFree || !k.conn.closed {
		t.Errorf("%v, closed %v", k.s.state, k.conn.closed)
	}
	if got := k.count(`rollcall_closes_total{reason="slow_reader"}`); got != "1" {
		t.Errorf("counted %s", got)
	}
}

// A frame in several records, several frames in one.
func TestTLSFrames(t *testing.T) {
	k := secureRig(t).openSecured()
	login := loginFrame(activeLogin("alice", codec.Android, "d1"))
	go func() {
		for _, p := range [][]byte{login[:1], login[1:50], append(append([]byte(nil), login[50:]...), append(heartbeat, heartbeat[:1]...)...), heartbeat[1:]} {
			_, _ = k.client.Write(p)
		}
	}()
	k.turn(func() bool { return k.s.state == stateOnline && k.count("rollcall_heartbeats_total") == "2" })
	if k.x.plain != nil {
		t.Errorf("%q is left", k.x.plain)
	}
}

func noticesOf(id presence.LinkID) []directory.Notice {
	return []directory.Notice{{Link: id, Cause: directory.CauseREST}}
}
