package engine

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/proxy"
	"github.com/rollcall-im/rollcall/internal/presence"
)

var (
	balancers   = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
	clientAddr  = netip.MustParseAddrPort("203.0.113.9:50123")
	clientAddr6 = netip.MustParseAddrPort("[2001:db8:1::9]:50123")
	serviceAddr = netip.MustParseAddrPort("198.51.100.1:7700")
)

func fromBalancers(o *Options) {
	o.Listeners = nativeAt("127.0.0.1:0")
	o.Listeners[0].ProxyNetworks = balancers
}

// proxied is a link that comes through a load balancer; send goes where the
// reactor's bytes would.
type proxied struct {
	*link
	t *transport
}

func (r *rig) openProxied() *proxied {
	r.tb.Helper()
	conn := &fakeConn{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:4711"))}
	t := newTransport(r.loop, conn, 0)
	if t == nil {
		r.tb.Fatal("taken for a plain link")
	}
	if ok, _ := t.open(0, r.core.Now()); !ok {
		r.tb.Fatal("the link was refused")
	}
	return &proxied{&link{rig: r, s: t.session, conn: conn}, t}
}

func (k *proxied) send(p ...byte) {
	if k.conn.closed {
		return
	}
	k.in = append(k.in, p...)
	n := 0
	switch to := k.conn.context.(type) {
	case *transport:
		n = to.data(k.in, k.core.Now())
	case *Session:
		n = k.loop.Data(to, k.in, k.core.Now())
	}
	k.in = slices.Delete(k.in, 0, n)
}

func (r *rig) count(name string) string {
	r.tb.Helper()
	var b bytes.Buffer
	if err := r.set.Write(&b); err != nil {
		r.tb.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if value, is := strings.CutPrefix(line, name+" "); is {
			return strings.TrimSpace(value)
		}
	}
	r.tb.Fatalf("there is no metric %s", name)
	return ""
}

func proxyHeader(version uint8, src, dst netip.AddrPort) []byte {
	return proxy.Append(nil, &proxy.Header{Version: version, Source: src, Destination: dst})
}

// The header may come in any pieces, and with the login behind it in one. The
// directory is told the client's address; when it has it the link is a plain one.
func TestProxyHeader(t *testing.T) {
	own := netip.MustParseAddrPort("192.0.2.1:4711")
	for _, c := range []struct {
		name   string
		header []byte
		addr   netip.AddrPort
		kind   string
	}{
		{"v1", proxyHeader(1, clientAddr, serviceAddr), clientAddr, "v1"},
		{"v1 IPv6", proxyHeader(1, clientAddr6, clientAddr6), clientAddr6, "v1"},
		{"v1 mapped", []byte("PROXY TCP6 ::ffff:203.0.113.9 ::1 50123 1\r\n"), clientAddr, "v1"},
		{"v1 UNKNOWN", proxyHeader(1, netip.AddrPort{}, netip.AddrPort{}), own, "v1"},
		{"v2", proxyHeader(2, clientAddr, serviceAddr), clientAddr, "v2"},
		{"v2 IPv6", proxyHeader(2, clientAddr6, clientAddr6), clientAddr6, "v2"},
		{"v2 UNSPEC", proxyHeader(2, netip.AddrPort{}, netip.AddrPort{}), own, "v2"},
		{"v2 LOCAL", proxy.Append(nil, &proxy.Header{Version: 2, Local: true}), own, "local"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, fromBalancers)
			login := loginFrame(activeLogin("alice", codec.Android, "d1"))
			for i, pieces := range [][][]byte{{slices.Concat(c.header, login)}, {c.header, login}, slices.Collect(slices.Chunk(slices.Concat(c.header, login), 1))} {
				k := r.openProxied()
				for _, p := range pieces {
					k.send(p...)
				}
				k.want(codec.TypeLoginOK, nil)
				if got := r.dir.logins[i].Link.Addr; got != c.addr {
					t.Errorf("the directory was told %v, want %v", got, c.addr)
				}
				if k.conn.context != k.s || k.s.conn != k.conn || k.t.addr != nil || k.conn.addr != nil {
					t.Errorf("the transport stays: %T, %v", k.conn.context, k.t.addr)
				}
				k.send(heartbeat...)
				k.want(codec.TypeHeartbeatOK, nil)
				k.fin()
				k.wantState("free")
			}
			if got := r.count(fmt.Sprintf("rollcall_proxy_headers_total{kind=%q}", c.kind)); got != "3" {
				t.Errorf("%s headers counted, want 3", got)
			}
		})
	}
}

// While the log is for debugging the end of a link names its client.
func TestProxyAddrStaysWhileDebugging(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, fromBalancers, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	k := r.openProxied()
	k.send(slices.Concat(proxyHeader(2, clientAddr, serviceAddr), loginFrame(activeLogin("alice", codec.Android, "d1")))...)
	k.want(codec.TypeLoginOK, nil)
	k.send(heartbeat...)
	k.want(codec.TypeHeartbeatOK, nil)
	k.t.closed(io.EOF, r.core.Now())
	k.wantState("free")
	if !strings.Contains(log.String(), "client="+clientAddr.String()) {
		t.Errorf("logged %s", log.String())
	}
}

// A link from elsewhere is never taken for a load balancer's, one from there
// never for a client's.
func TestProxyNetworks(t *testing.T) {
	lis := Listener{ProxyNetworks: balancers}
	for addr, want := range map[string]bool{
		"192.0.2.0:1": true, "192.0.2.255:1": true, "192.0.3.0:1": false, "[::ffff:192.0.2.7]:1": true, "[2001:db8::1%eth0]:1": true, "[2001:db9::1]:1": false, "127.0.0.1:1": false,
	} {
		if got := lis.expectsProxy(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
	if (&Listener{}).expectsProxy(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 1)}) {
		t.Error("a header is expected where no network is listed")
	}
	if lis.expectsProxy(nil) {
		t.Error("a header is expected of nobody")
	}
	r := newRig(t, fromBalancers)
	conn := &fakeConn{addr: net.TCPAddrFromAddrPort(clientAddr)}
	if newTransport(r.loop, conn, 0) != nil {
		t.Fatal("a client's own link got a transport")
	}
	s, _ := r.loop.Open(conn, 0, r.core.Now())
	k := &link{rig: r, s: s, conn: conn}
	k.send(proxyHeader(1, netip.MustParseAddrPort("10.0.0.1:1"), serviceAddr)...)
	k.wantRefused(codec.CodeBadVersion)
}

// What is no good header ends the link without a word, counted by its reason.
func TestProxyRefused(t *testing.T) {
	for name, c := range map[string]struct {
		sent   []byte
		reason proxy.Reason
	}{
		"a login":     {loginFrame(activeLogin("alice", codec.Android, "d1")), proxy.NoHeader},
		"a line":      {[]byte("PROXY TCP4 1.2.3.4 1.2.3.4 1 x"), proxy.BadLine},
		"a checksum":  {badChecksum(), proxy.BadChecksum},
		"no CRLF":     {append([]byte("PROXY UNKNOWN "), make([]byte, 93)...), proxy.BadLine},
		"2,065 bytes": {append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x00"), 8, 1), proxy.BadLength},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, fromBalancers)
			k := r.openProxied()
			for _, b := range c.sent {
				k.send(b)
			}
			k.wantNothing()
			k.wantState("free")
			if !k.conn.closed {
				t.Error("the link is open")
			}
			r.wantCloses(closeProxyHeader, 1)
			r.wantLog()
			if got := r.count(fmt.Sprintf("rollcall_proxy_refused_total{reason=%q}", c.reason)); got != "1" {
				t.Errorf("counted %s times as %v", got, c.reason)
			}
		})
	}
}

func badChecksum() []byte {
	h := proxy.AppendChecked(nil, &proxy.Header{Version: 2, Source: clientAddr, Destination: serviceAddr})
	h[len(h)-1]++
	return h
}

// A header that does not come in time ends the link without a word; bytes of it
// win no time.
func TestProxyTimeout(t *testing.T) {
	r := newRig(t, fromBalancers)
	silent, slow := r.openProxied(), r.openProxied()
	r.advance(r.core.o.FirstFrameTimeout - time.Second)
	slow.send([]byte("PROXY ")...)
	silent.wantState("new")
	slow.wantState("new")
	r.advance(2 * time.Second)
	for _, k := range []*proxied{silent, slow} {
		k.wantState("free")
		k.wantNothing()
	}
	r.wantCloses(closeProxyTimeout, 2)

	late := r.openProxied() // with a header the time runs on: the login is late
	r.advance(r.core.o.FirstFrameTimeout - time.Second)
	late.send(proxyHeader(1, clientAddr, serviceAddr)...)
	r.advance(2 * time.Second)
	late.wantRefused(codec.CodeLoginTimeout)
	r.wantCloses(closeFirstFrame, 1)
}

// A load balancer asks whether we are there: by connecting, or with LOCAL. Neither
// is a fault. An end within the header is one.
func TestProxyHealthCheck(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, fromBalancers, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&log, nil)) })
	k := r.openProxied()
	k.t.closed(io.EOF, r.core.Now())
	k.wantState("free")
	k = r.openProxied()
	k.send(proxy.Append(nil, &proxy.Header{Version: 2, Local: true})...)
	k.t.closed(io.EOF, r.core.Now())
	k.wantState("free")
	r.wantCloses(closeFIN, 2)
	const incomplete = `rollcall_proxy_refused_total{reason="incomplete"}`
	if got := r.count(incomplete); got != "0" || log.Len() > 0 {
		t.Errorf("%s counted, logged %q", got, log.String())
	}
	k = r.openProxied()
	k.send([]byte("PROX")...)
	k.t.closed(io.EOF, r.core.Now())
	k.wantState("free")
	if got := r.count(incomplete); got != "1" || log.Len() > 0 {
		t.Errorf("%s counted, logged %q", got, log.String())
	}
}

// A full node refuses a load balancer's link as any other: the client is told.
func TestProxyRefusedAtOpen(t *testing.T) {
	r := newRig(t, fromBalancers, func(o *Options) { o.MaxLinks = 1 })
	r.openProxied()
	conn := &fakeConn{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:4712"))}
	tr := newTransport(r.loop, conn, 0)
	ok, refusal := tr.open(0, r.core.Now())
	f, _, err := codec.Next(refusal, codec.MaxFrame)
	if ok || err != nil || f.Type != codec.TypeLoginRefused || conn.context != nil {
		t.Errorf("%v, %v, %v, %v", ok, f.Type, err, conn.context)
	}
}

// A node that stops tells who waits for its header too; what then comes is discarded.
func TestProxyDrain(t *testing.T) {
	r := newRig(t, fromBalancers)
	k := r.openProxied()
	r.core.Drain()
	r.run()
	k.wantRefused(codec.CodeServerDraining)
	k.send(slices.Concat(proxyHeader(1, clientAddr, serviceAddr), loginFrame(activeLogin("alice", codec.Android, "d1")))...)
	k.wantNothing()
	if len(k.in) > 0 {
		t.Errorf("%d bytes are held", len(k.in))
	}
	k.t.closed(io.EOF, r.core.Now())
	r.wantLog()
}

// The session of a transport may be over, and its slot another's, before the
// reactor has told the transport.
func TestProxyStaleTransport(t *testing.T) {
	r := newRig(t, fromBalancers)
	k := r.openProxied()
	k.send(proxyHeader(1, clientAddr, serviceAddr)...)
	r.loop.close(k.s, closeError)
	other := r.openProxied()
	if other.s != k.s {
		t.Fatal("the slot is not the same")
	}
	if n := k.t.data(heartbeat, r.core.Now()); n != len(heartbeat) {
		t.Errorf("%d bytes taken", n)
	}
	k.t.closed(io.EOF, r.core.Now())
	other.wantState("new")
	other.send(slices.Concat(proxyHeader(1, clientAddr, serviceAddr), loginFrame(activeLogin("alice", codec.Android, "d1")))...)
	other.want(codec.TypeLoginOK, nil)
}

// Over sockets: links of a load balancer at 127.0.0.2, and those of clients.
func TestProxyServer(t *testing.T) {
	s := startServer(t, func(o *Options) {
		o.Listeners[0].ProxyNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	})
	from := func(host string) *client {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}, Timeout: patience}
		conn, err := d.Dial("tcp", s.Addr("native"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		return &client{t: t, conn: conn.(*net.TCPConn)}
	}
	for i := range 8 { // on both loops
		user := fmt.Sprintf("u%d", i)
		c := from("127.0.0.2")
		for b := range slices.Chunk(proxyHeader(2, clientAddr, serviceAddr), 5) {
			c.send(b)
		}
		c.login(user)
		if got := s.dir.addrOf(user); got != clientAddr {
			t.Errorf("the directory was told %v", got)
		}
		if addr := s.connAddr(t, user); addr != nil {
			t.Errorf("the connection still holds %v", addr)
		}
		c.send(heartbeat)
		c.want(codec.TypeHeartbeatOK)
		c.send(logout)
		c.want(codec.TypeLogoutOK)
		c.wantEOF()
	}
	c := from("127.0.0.3")
	c.login("bob")
	if got, want := s.dir.addrOf("bob").String(), c.conn.LocalAddr().String(); got != want {
		t.Errorf("the directory was told %s, want %s", got, want)
	}
	_ = c.conn.Close()
	eventually(t, "bob left", func() bool { return s.dir.leftBy("bob") == presence.LeaveLinkClosed })

	c = from("127.0.0.3")
	c.send(proxyHeader(1, clientAddr, serviceAddr))
	c.want(codec.TypeLoginRefused)

	c = from("127.0.0.2")
	c.send([]byte("GET / HTTP/1.1\r\n"))
	if f, err := c.next(); err == nil {
		t.Errorf("got %v", f.Type)
	}
	eventually(t, "no links", func() bool { return s.Stats().Links["native"] == 0 })
}
