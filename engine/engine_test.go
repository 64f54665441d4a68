package engine

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// patience bounds waits for what must happen; nothing is measured by it.
const patience = 20 * time.Second

// safeDirectory makes a fakeDirectory usable from several loops. Ops are
// answered on other goroutines.
type safeDirectory struct {
	*fakeDirectory
	mu        sync.Mutex
	watcher   directory.Watcher
	links     map[string]presence.LinkID
	addrs     map[string]netip.AddrPort
	listeners map[string]string
	left      map[string]presence.LeaveReason
	queue     chan func()
}

func newSafeDirectory(tb testing.TB) *safeDirectory {
	d := &safeDirectory{
		fakeDirectory: newFakeDirectory(),
		links:         make(map[string]presence.LinkID),
		addrs:         make(map[string]netip.AddrPort),
		listeners:     make(map[string]string),
		left:          make(map[string]presence.LeaveReason),
		queue:         make(chan func(), 10_000),
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for f := range d.queue {
			f()
		}
	}()
	tb.Cleanup(func() { close(d.queue); <-done })
	return d
}

func (d *safeDirectory) Login(op *directory.LoginOp) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.links[op.Key.UserID] = op.Login.Link.ID
	d.addrs[op.Key.UserID] = op.Login.Link.Addr
	d.listeners[op.Key.UserID] = op.Login.Link.Listener
	d.queue <- func() { d.answerLogin(op) }
}

func (d *safeDirectory) Leave(op *directory.LeaveOp) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.left[op.Key.UserID] = op.Reason
	d.queue <- func() { d.answerLeave(op) }
}

func (d *safeDirectory) Watch(_ uint32, w directory.Watcher) func() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.watcher = w
	return func() {}
}

func (d *safeDirectory) linkOf(user string) presence.LinkID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.links[user]
}

// listenerOf is where the user's last login came in.
func (d *safeDirectory) listenerOf(user string) string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.listeners[user]
}

func (d *safeDirectory) addrOf(user string) netip.AddrPort {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.addrs[user]
}

func (d *safeDirectory) leftBy(user string) presence.LeaveReason {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.left[user]
}

type server struct {
	*Engine
	dir *safeDirectory
	set *metrics.Set
}

func startServer(t testing.TB, change ...func(*Options)) *server {
	t.Helper()
	s := &server{dir: newSafeDirectory(t), set: metrics.NewSet()}
	o := Options{Listeners: nativeAt("127.0.0.1:0"), Loops: 2, MaxLinks: 100, FileReserve: 64, Directory: s.dir, Metrics: s.set, Logger: slog.New(slog.DiscardHandler)}
	for _, f := range change {
		f(&o)
	}
	e, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	s.Engine = e
	t.Cleanup(s.stop(t))
	return s
}

func (s *server) stop(t testing.TB) func() {
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		if err := s.core.Check(); err != nil {
			t.Error(err)
		}
		select {
		case err := <-s.Stopped():
			t.Errorf("Stopped: %v", err)
		default:
		}
	}
}

// client is a raw client with a read buffer.
type client struct {
	t    testing.TB
	conn *net.TCPConn
	tls  *tls.Conn // on conn; nil without TLS
	buf  []byte
}

func (s *server) dial(t testing.TB) *client {
	t.Helper()
	return dialAddr(t, s.Addr("native"))
}

func dialAddr(t testing.TB, addr string) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &client{t: t, conn: conn.(*net.TCPConn)}
}

func (c *client) stream() net.Conn {
	if c.tls != nil {
		return c.tls
	}
	return c.conn
}

func (c *client) send(p []byte) {
	c.t.Helper()
	if _, err := c.stream().Write(p); err != nil {
		c.t.Fatal(err)
	}
}

// next reads a frame; io.EOF at a clean end.
func (c *client) next() (codec.Frame, error) {
	for {
		f, n, err := codec.Next(c.buf, codec.MaxFrame)
		if err != nil {
			return f, err
		}
		if n > 0 {
			c.buf = c.buf[n:]
			return f, nil
		}
		p := make([]byte, 4096)
		n, err = c.stream().Read(p)
		c.buf = append(c.buf, p[:n]...)
		if err != nil && n == 0 {
			return f, err
		}
	}
}

func (c *client) want(t codec.Type) codec.Frame {
	c.t.Helper()
	f, err := c.next()
	if err != nil || f.Type != t {
		c.t.Fatalf("got %v %q, %v; want %v", f.Type, f.Body, err, t)
	}
	return f
}

func (c *client) wantEOF() {
	c.t.Helper()
	if f, err := c.next(); err != io.EOF {
		c.t.Fatalf("got %v, %v; want the end", f.Type, err)
	}
}

func (c *client) login(user string) {
	c.t.Helper()
	m := activeLogin(user, codec.Android, "d1")
	m.UserSig = signAt(user, time.Now(), time.Hour)
	c.send(loginFrame(m))
	c.want(codec.TypeLoginOK)
}

func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestServe(t *testing.T) {
	s := startServer(t)
	c := s.dial(t)
	c.login("alice")
	c.send(heartbeat)
	c.want(codec.TypeHeartbeatOK)
	if got := s.dir.linkOf("alice"); got == 0 {
		t.Fatal("no link")
	}
	if st := s.Stats(); st.Links["native"] != 1 || st.Loops != 2 {
		t.Fatalf("%+v", st)
	}
	c.send(logout)
	c.want(codec.TypeLogoutOK)
	c.wantEOF()
	_ = c.conn.Close()
	eventually(t, "no links", func() bool { return s.Stats().Links["native"] == 0 })
	if r := s.dir.leftBy("alice"); r != presence.LeaveLogout {
		t.Fatalf("left by %v", r)
	}
}

// With one listener per loop the kernel deals connections out by their hash.
func TestLinksSpreadOverLoops(t *testing.T) {
	s := startServer(t)
	perLoop := make(map[uint8]int)
	for i := range 64 {
		user := fmt.Sprintf("u%d", i)
		s.dial(t).login(user)
		perLoop[s.dir.linkOf(user).Loop()]++
	}
	// All on one side has a chance of 2^-63.
	if len(perLoop) != 2 {
		t.Fatalf("links per loop: %v", perLoop)
	}
}

// A second server on the port is refused, whatever address of ours it names, and
// the first one does not notice.
func TestAddressInUse(t *testing.T) {
	s := startServer(t)
	_, port, _ := net.SplitHostPort(s.Addr("native"))
	for _, addr := range []string{s.Addr("native"), ":" + port, "0.0.0.0:" + port, "localhost:" + port} {
		e, err := New(Options{Listeners: nativeAt(addr), Loops: 2, MaxLinks: 10, FileReserve: 64, Directory: newSafeDirectory(t)})
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Start(); !errors.Is(err, syscall.EADDRINUSE) || !strings.Contains(err.Error(), port) {
			t.Fatalf("%s: %v", addr, err)
		}
		if err := e.Shutdown(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 16 { // they would meet the other server half of the time
		s.dial(t).login(fmt.Sprintf("u%d", i))
	}
}

// Any user of the machine can hold the lock for a port. That delays a start and
// is logged; whether the address is free, the probe says.
func TestForeignBindLock(t *testing.T) {
	free := freePort(t)
	lock, err := net.Listen("unix", fmt.Sprintf("@rollcall-bind-%d", free.Port()))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	start := func() (*Engine, *bytes.Buffer, error) {
		var log bytes.Buffer
		e, err := New(Options{
			Listeners: nativeAt(free.String()), Loops: 1, MaxLinks: 10, FileReserve: 64,
			Directory: newSafeDirectory(t), Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		err = e.Start()
		t.Cleanup(func() { _ = e.Shutdown(context.Background()) })
		return e, &log, err
	}
	e, log, err := start()
	if err != nil || e.Addr(listenerNative) != free.String() {
		t.Fatalf("the start was blocked: %v", err)
	}
	if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), fmt.Sprint("port=", free.Port())) {
		t.Errorf("logged %q", log)
	}
	if _, _, err := start(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a second server on %s: %v", free, err)
	}
}

// Two that start at the same moment: one of them gets the port.
func TestAddressRace(t *testing.T) {
	free := freePort(t)
	const n = 4
	started := make(chan *Engine, n)
	failed := make(chan error, n)
	for range n {
		e, err := New(Options{Listeners: nativeAt(free.String()), Loops: 1, MaxLinks: 10, FileReserve: 64, Directory: newSafeDirectory(t)})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if err := e.Start(); err != nil {
				failed <- err
				return
			}
			started <- e
		}()
	}
	for range n - 1 {
		if err := <-failed; !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatal(err)
		}
	}
	if err := (<-started).Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestStartTwice(t *testing.T) {
	s := startServer(t)
	if err := s.Start(); !errors.Is(err, ErrStarted) {
		t.Fatal(err)
	}
}

func TestNoListener(t *testing.T) {
	s := startServer(t, func(o *Options) { o.Listeners = nativeAt(Off) })
	if a := s.Addr("native"); a != "" {
		t.Fatalf("address %q", a)
	}
}

// The links of all listeners are dealt out to the same loops, and say where they
// came in.
func TestListeners(t *testing.T) {
	s := startServer(t, func(o *Options) {
		o.Listeners = []Listener{{Name: "a", Address: "127.0.0.1:0"}, {Name: "off", Address: Off}, {Name: "b", Address: "127.0.0.2:0"}}
	})
	if a := s.Addr("off"); a != "" {
		t.Fatalf("the listener that is off has the address %q", a)
	}
	for i := range 16 {
		for _, name := range []string{"a", "b"} {
			user := fmt.Sprintf("%s%d", name, i)
			dialAddr(t, s.Addr(name)).login(user)
			if got := s.dir.listenerOf(user); got != name {
				t.Fatalf("%s came in by %q", user, got)
			}
		}
	}
	if st := s.Stats(); st.Links["native"] != 32 || len(st.Links) != 1 {
		t.Fatalf("%+v", st)
	}
}

// One address that is taken keeps all from being served.
func TestListenerTaken(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free := freePort(t)
	e, err := New(Options{
		Listeners: []Listener{{Name: "a", Address: free.String()}, {Name: "b", Address: taken.Addr().String()}},
		Loops:     1, MaxLinks: 10, FileReserve: 64, Directory: newSafeDirectory(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Fatalf("start: %v", err)
	}
	if c, err := net.Dial("tcp4", free.String()); err == nil {
		_ = c.Close()
		t.Fatal("the address that was free is served")
	}
}

func TestIPv6(t *testing.T) {
	if ln, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here")
	} else {
		_ = ln.Close()
	}
	s := startServer(t, func(o *Options) { o.Listeners = nativeAt("[::1]:0") })
	if !strings.HasPrefix(s.Addr("native"), "[::1]:") {
		t.Fatalf("address %q", s.Addr("native"))
	}
	c := s.dial(t)
	c.login("alice")
}

// The notice arrives although the client keeps sending: a close with unread
// input would send RST, which can destroy it.
func TestNoticeArrivesBeforeClose(t *testing.T) {
	s := startServer(t)
	for i := range 20 {
		user := fmt.Sprintf("u%d", i)
		c := s.dial(t)
		c.login(user)
		garbage := codec.AppendHeader(nil, 40, codec.FlagOptional, 1<<15)
		garbage = append(garbage, make([]byte, 1<<15)...)
		done := make(chan struct{})
		go func() {
			defer close(done)
			for range 30 {
				if _, err := c.conn.Write(garbage); err != nil {
					return
				}
			}
		}()
		s.dir.watcher.ForcedOffline([]directory.Notice{{Link: s.dir.linkOf(user), Cause: directory.CauseREST, TimeMS: 1}})
		f := c.want(codec.TypeForcedOffline)
		var m codec.ForcedOffline
		if err := m.Unmarshal(f.Body); err != nil || m.Code != codec.CodeKickedREST {
			t.Fatalf("%+v %v", m, err)
		}
		c.wantEOF()
		<-done
		_ = c.conn.Close()
		if r := s.dir.leftBy(user); r != 0 {
			t.Fatalf("%s was kicked and then left by %v", user, r)
		}
	}
}

// A client that does not close after the notice is closed.
func TestDrainTimeoutOnSocket(t *testing.T) {
	s := startServer(t, func(o *Options) { o.DrainTimeout = 50 * time.Millisecond })
	c := s.dial(t)
	c.login("alice")
	s.dir.watcher.ForcedOffline([]directory.Notice{{Link: s.dir.linkOf("alice"), Cause: directory.CauseREST}})
	c.want(codec.TypeForcedOffline)
	c.wantEOF()
	eventually(t, "no links", func() bool { return s.Stats().Links["native"] == 0 })
}

// A killed process's RST and a FIN are noticed at once.
func TestLostLinks(t *testing.T) {
	s := startServer(t)
	for _, c := range []struct {
		user   string
		linger int
		reason closeReason
	}{{"rst", 0, closeReset}, {"fin", -1, closeFIN}} {
		k := s.dial(t)
		k.login(c.user)
		if err := k.conn.SetLinger(c.linger); err != nil {
			t.Fatal(err)
		}
		_ = k.conn.Close()
		eventually(t, c.user+" leaves", func() bool { return s.dir.leftBy(c.user) == presence.LeaveLinkClosed })
		if n := s.core.m.closes[c.reason].Get(); n != 1 {
			t.Fatalf("%d closes for %s", n, closeReasonNames[c.reason])
		}
	}
}

// A link that falls silent ends in real time too.
func TestSilenceOnSocket(t *testing.T) {
	s := startServer(t, func(o *Options) {
		app := o.Directory.(*safeDirectory).apps[testApp]
		app.Timeouts.Mobile = directory.ClassTimeouts{HeartbeatMS: 100, SilenceMS: 300}
	})
	c := s.dial(t)
	c.login("alice")
	c.send(heartbeat)
	c.want(codec.TypeHeartbeatOK)
	c.wantEOF()
	eventually(t, "alice leaves", func() bool { return s.dir.leftBy("alice") == presence.LeaveTimeOut })
}

// What Unread answers: bytes count, a FIN does not.
func TestUnread(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck
	c := dialAddr(t, ln.Addr().String())
	srv, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Close() //nolint:errcheck
	raw, err := srv.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	is := func() (yes bool) {
		if err := raw.Control(func(fd uintptr) { yes = unread(int(fd)) }); err != nil {
			t.Fatal(err)
		}
		return yes
	}
	if is() {
		t.Fatal("unread bytes at the start")
	}
	c.send([]byte{1})
	eventually(t, "the byte is seen", is)
	if err := c.conn.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if n, err := io.ReadFull(srv, make([]byte, 1)); n != 1 || err != nil {
		t.Fatal(err)
	}
	if n, err := srv.Read(make([]byte, 1)); n != 0 || err != io.EOF {
		t.Fatal(n, err)
	}
	if is() {
		t.Fatal("a FIN counts as bytes")
	}
}

// A client that sends and does not read is closed when too much waits for it.
func TestSlowReaderOnSocket(t *testing.T) {
	s := startServer(t, func(o *Options) { o.OutboundCap, o.MaxPipelined = 4096, math.MaxUint16 }) // or so many at once would be its fault
	c := s.dial(t)
	c.login("alice")
	_ = c.conn.SetReadBuffer(1)
	beats := make([]byte, 0, 1<<16)
	for len(beats) < 1<<16 {
		beats = append(beats, heartbeat...)
	}
	for {
		if _, err := c.conn.Write(beats); err != nil {
			break
		}
	}
	eventually(t, "alice leaves", func() bool { return s.dir.leftBy("alice") == presence.LeaveLinkClosed })
	if n := s.core.m.closes[closeSlowReader].Get(); n != 1 {
		t.Fatalf("%d closes for slow_reader", n)
	}
}

// The link beyond MaxLinks is closed at accept; the others live on.
func TestMaxLinksOnSocket(t *testing.T) {
	s := startServer(t, func(o *Options) { o.MaxLinks = 3 })
	var in []*client
	for i := range 3 {
		c := s.dial(t)
		c.login(fmt.Sprintf("u%d", i))
		in = append(in, c)
	}
	out := s.dial(t)
	var m codec.LoginRefused
	if f := out.want(codec.TypeLoginRefused); m.Unmarshal(f.Body) != nil || m.Code != codec.CodeServerFull || !m.MayReconnect {
		t.Fatalf("%+v", m)
	}
	out.wantEOF()
	for _, c := range in {
		c.send(heartbeat)
		c.want(codec.TypeHeartbeatOK)
	}
	_ = in[0].conn.Close()
	eventually(t, "a place is free", func() bool { return s.Stats().Links["native"] == 2 })
	s.dial(t).login("u4")
}

// Shutdown tells every client, lets go of the port, and leaves nobody.
func TestShutdown(t *testing.T) {
	s := startServer(t)
	var clients []*client
	for i := range 20 {
		c := s.dial(t)
		c.login(fmt.Sprintf("u%d", i))
		clients = append(clients, c)
	}
	idle := s.dial(t)
	eventually(t, "21 links", func() bool { return s.Stats().Links["native"] == 21 })
	done := make(chan error, 1)
	go func() { done <- s.Shutdown(context.Background()) }()
	for _, c := range clients {
		var m codec.ForcedOffline
		if f := c.want(codec.TypeForcedOffline); m.Unmarshal(f.Body) != nil || m.Code != codec.CodeServerDraining || !m.MayReconnect || m.RetryAfterMS == 0 {
			t.Fatalf("%+v", m)
		}
		c.wantEOF()
		_ = c.conn.Close()
	}
	idle.want(codec.TypeLoginRefused)
	idle.wantEOF()
	_ = idle.conn.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if _, err := net.Dial("tcp", s.Addr("native")); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Fatalf("dial after the stop: %v", err)
	}
	for i := range 20 {
		if r := s.dir.leftBy(fmt.Sprintf("u%d", i)); r != 0 {
			t.Fatalf("u%d left by %v: a stop is no disconnect", i, r)
		}
	}
	if err := s.Shutdown(context.Background()); err != nil { // idempotent
		t.Fatal(err)
	}
}

// A Shutdown whose time is up cuts off who is left.
func TestShutdownOutOfTime(t *testing.T) {
	s := startServer(t, func(o *Options) { o.DrainTimeout = time.Hour })
	c := s.dial(t)
	c.login("alice")
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = c.next()
		cancel()
	}()
	if err := s.Shutdown(ctx); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "1 links") {
		t.Fatal(err)
	}
	if n := s.core.Links(); n != 0 {
		t.Fatalf("%d links", n)
	}
	if r := s.dir.leftBy("alice"); r != 0 {
		t.Fatalf("left by %v", r)
	}
}

// If gnet ends by itself, Stopped says so and no Leave is issued.
func TestStoppedUnexpectedly(t *testing.T) {
	dir := newSafeDirectory(t)
	e, err := New(Options{Listeners: nativeAt("127.0.0.1:0"), Loops: 2, MaxLinks: 10, FileReserve: 64, Directory: dir})
	if err != nil {
		t.Fatal(err)
	}
	if err := e.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{Engine: e, dir: dir}
	c := s.dial(t)
	c.login("alice")
	e.reactor.stop()
	select {
	case err := <-e.Stopped():
		if err == nil {
			t.Fatal("no error")
		}
	case <-time.After(patience):
		t.Fatal("Stopped says nothing")
	}
	if _, err := c.next(); err == nil {
		t.Fatal("the link lives on")
	}
	if r := dir.leftBy("alice"); r != 0 {
		t.Fatalf("left by %v", r)
	}
	if err := e.Shutdown(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// freePort is an address on which nobody listens.
func freePort(t *testing.T) netip.AddrPort {
	t.Helper()
	free, err := probe([]netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:0")})
	if err != nil {
		t.Fatal(err)
	}
	return free[0]
}
