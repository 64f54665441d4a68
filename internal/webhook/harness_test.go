package webhook

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestMain(m *testing.M) {
	// fasthttp's own cleaner of idle connections sleeps out its last turn after
	// the last connection is gone; the others are of the receiver of the benchmarks.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*TCPDialer).tcpAddrsClean"))
}

// virtual runs f in a bubble of virtual time.
func virtual(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		// Of virtual time, also after a failure: fasthttp's cleaner takes its last turn.
		t.Cleanup(func() { time.Sleep(time.Minute) })
		f(t)
	})
}

// fakeNet is a network of pipes: it works inside a synctest bubble, where time is virtual.
type fakeNet struct {
	mu     sync.Mutex
	names  map[string][]netip.Addr
	hosts  map[netip.AddrPort]func(net.Conn)
	dialed []netip.AddrPort
	conns  []net.Conn
	wg     sync.WaitGroup
}

func newFakeNet() *fakeNet {
	return &fakeNet{names: map[string][]netip.Addr{}, hosts: map[netip.AddrPort]func(net.Conn){}}
}

func (f *fakeNet) network() Network { return Network{Resolve: f.resolve, Dial: f.dial} }

func (f *fakeNet) resolve(_ context.Context, host string) ([]netip.Addr, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if addrs := f.names[host]; addrs != nil {
		return addrs, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host}
}

func (f *fakeNet) dial(_ context.Context, addr netip.AddrPort) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dialed = append(f.dialed, addr)
	serve := f.hosts[addr]
	if serve == nil {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}
	here, there := net.Pipe()
	f.conns = append(f.conns, there)
	f.wg.Go(func() { serve(there) })
	return pipeConn{here}, nil
}

// pipeConn fails like a socket when it writes to one that was closed.
type pipeConn struct{ net.Conn }

// Write implements net.Conn.
func (c pipeConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, io.ErrClosedPipe) {
		err = syscall.EPIPE
	}
	return n, err
}

// SetWriteDeadline implements net.Conn. A socket takes one when the other side is gone.
func (c pipeConn) SetWriteDeadline(t time.Time) error {
	if err := c.Conn.SetWriteDeadline(t); !errors.Is(err, io.ErrClosedPipe) {
		return err
	}
	return nil
}

// listen makes serve answer connections to addr, named host.
func (f *fakeNet) listen(host, addr string, serve func(net.Conn)) {
	a := netip.MustParseAddrPort(addr)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.names[host] = []netip.Addr{a.Addr()}
	f.hosts[a] = serve
}

// handle makes an HTTP handler answer at addr.
func (f *fakeNet) handle(host, addr string, h http.HandlerFunc) {
	f.listen(host, addr, func(c net.Conn) { serveHTTP(c, h) })
}

func (f *fakeNet) dials() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.dialed)
}

func (f *fakeNet) close() {
	f.mu.Lock()
	for _, c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
}

// serveHTTP answers one connection after the other request until it ends.
func serveHTTP(c net.Conn, h http.HandlerFunc) {
	defer c.Close()
	in := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		req.Body = io.NopCloser(bytes.NewReader(body))
		w := &rawWriter{conn: c, header: http.Header{}, status: 200}
		h(w, req)
		if w.flush() != nil || w.broken {
			return
		}
	}
}

// rawWriter is a small http.ResponseWriter on a connection. A handler that wants
// to misbehave writes to conn and sets broken.
type rawWriter struct {
	conn   net.Conn
	header http.Header
	status int
	body   bytes.Buffer
	broken bool
}

func (w *rawWriter) Header() http.Header         { return w.header }
func (w *rawWriter) WriteHeader(status int)      { w.status = status }
func (w *rawWriter) Write(p []byte) (int, error) { return w.body.Write(p) }

func (w *rawWriter) flush() error {
	if w.broken {
		return nil
	}
	resp := http.Response{
		StatusCode: w.status, ProtoMajor: 1, ProtoMinor: 1, Header: w.header,
		Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()),
	}
	return resp.Write(w.conn)
}

const answerOK = `{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}`

func ok(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, answerOK) }

// apps is a changeable set of apps.
type apps struct {
	mu  sync.Mutex
	set map[uint32]*directory.App
}

func newApps() *apps { return &apps{set: map[uint32]*directory.App{}} }

func (a *apps) get(id uint32) *directory.App {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.set[id]
}

// put gives app id the URL, and changes the rest of its webhook settings with f if it is not nil.
func (a *apps) put(id uint32, url string, f func(*directory.Webhook)) *directory.App {
	app := directory.NewApp(id)
	app.Webhook.URL = url
	if f != nil {
		f(&app.Webhook)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.set[id] = app
	return app
}

// rig is a dispatcher on a fake network.
type rig struct {
	t    testing.TB
	net  *fakeNet
	apps *apps
	set  *metrics.Set
	d    *Dispatcher
}

func newRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	r := newIdleRig(t, change)
	r.d.Start()
	return r
}

// newIdleRig is a rig whose dispatcher is not started.
func newIdleRig(t testing.TB, change func(*Options)) *rig {
	t.Helper()
	r := &rig{t: t, net: newFakeNet(), apps: newApps(), set: metrics.NewSet()}
	o := Options{App: r.apps.get, Network: r.net.network(), Metrics: r.set, Epoch: 7}
	if change != nil {
		change(&o)
	}
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	r.d = d
	t.Cleanup(r.kill)
	return r
}

// stop closes all and checks the outbox.
func (r *rig) stop() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.d.Close(ctx); err != nil {
		r.t.Error(err)
	}
	r.net.close()
	if err := r.d.o.Outbox.Check(); err != nil {
		r.t.Error(err)
	}
	if s := r.d.Stats(); s.InFlight != 0 || s.Connections != 0 {
		r.t.Errorf("after Close: %d in flight, %d connections", s.InFlight, s.Connections)
	}
}

// kill ends what a failed test left running.
func (r *rig) kill() {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	r.d.Close(ctx)
	r.net.close()
}

func (r *rig) count(result string) uint64 {
	return r.set.Counter(`rollcall_webhook_events_total{result="` + result + `"}`).Get()
}

func (r *rig) attempts(o outcome) uint64 {
	return r.set.Counter(`rollcall_webhook_attempts_total{outcome="` + string(o) + `"}`).Get()
}

// login is a Login event of a user of app 1.
func login(app uint32, user string, seq uint64) presence.Transition {
	return presence.Transition{
		Key: presence.Key{App: app, UserID: user}, Seq: seq, EventSeq: seq, TimeMS: 1629883332497,
		Action: presence.ActionLogin, Reason: presence.ReasonRegister,
		Inst: presence.Instance{
			InstID: 5, Status: presence.Online, Device: presence.Device{Platform: presence.Android, ID: "d1"},
			Link: presence.Link{Addr: netip.MustParseAddrPort("192.0.2.7:4711")},
		},
	}
}
