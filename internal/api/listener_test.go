package api

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// scripted is a listener that answers Accept from a script.
type scripted struct {
	steps  chan any // error or net.Conn
	closed chan struct{}
	once   sync.Once
}

func newScripted(steps ...any) *scripted {
	s := &scripted{steps: make(chan any, len(steps)), closed: make(chan struct{})}
	for _, step := range steps {
		s.steps <- step
	}
	return s
}

func (s *scripted) Accept() (net.Conn, error) {
	select {
	case step := <-s.steps:
		if err, ok := step.(error); ok {
			return nil, err
		}
		return step.(net.Conn), nil
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *scripted) Close() error   { s.once.Do(func() { close(s.closed) }); return nil }
func (s *scripted) Addr() net.Addr { return &net.TCPAddr{} }

// TestAcceptSurvivesErrors: what would end fasthttp's loop is waited out and counted.
func TestAcceptSurvivesErrors(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	emfile := &net.OpError{Op: "accept", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
	m := metrics.NewSet()
	l := newListener(newScripted(emfile, errors.New("some other error"), io.EOF, b), "x", 1, 0, m)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	if got := m.Counter(`rollcall_http_accept_errors_total{listener="x"}`).Get(); got != 3 {
		t.Errorf("%d errors counted", got)
	}
	// Close must end Accept while it waits after an error, too.
	for _, steps := range [][]any{nil, {emfile, emfile, emfile, emfile, emfile, emfile, emfile, emfile, emfile, emfile}} {
		l = newListener(newScripted(steps...), "x", 1, 0, metrics.NewSet())
		ended := make(chan error)
		go func() { _, err := l.Accept(); ended <- err }()
		l.Close()
		l.Close()
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
}

// TestMaxConns: one connection more than allowed is closed, and only that one.
func TestMaxConns(t *testing.T) {
	const limit = 3
	for name, change := range map[string]func(*Options){
		"max_conns":        func(o *Options) { o.MaxConns = limit },
		"max_conns_per_ip": func(o *Options) { o.MaxConnsPerIP = limit },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRESTRig(t, func(o *Options, a *directory.App) { change(o) })
			refused := r.metrics.Counter(`rollcall_http_refused_total{listener="api",reason="` + name + `"}`)
			var open []net.Conn
			for i := range limit + 1 {
				c := r.dial()
				if i < limit {
					talk(t, c)
					open = append(open, c)
					if refused.Get() != 0 {
						t.Fatalf("connection %d was refused", i+1)
					}
					continue
				}
				if _, err := c.Read(make([]byte, 1)); err == nil || refused.Get() != 1 {
					t.Errorf("connection %d: %v, %d refused", i+1, err, refused.Get())
				}
			}
			for _, c := range open {
				talk(t, c)
			}
			if name == "max_conns_per_ip" {
				r.mem.from("192.0.2.9")
				c := r.dial()
				talk(t, c)
				c.Close()
				r.mem.from("192.0.2.1")
			}
			open[0].Close()
			await(t, func() bool { return r.server.https[0].ln.open() == limit-1 })
			c := r.dial()
			talk(t, c)
			for _, c := range append(open[1:], c) {
				c.Close()
			}
			await(t, func() bool { return r.server.https[0].ln.open() == 0 })
			if l := r.server.https[0].ln; len(l.perIP) != 0 {
				t.Errorf("addresses stay counted: %v", l.perIP)
			}
		})
	}
}

func (r *restRig) dial() net.Conn {
	r.t.Helper()
	c, err := r.mem.Dial()
	if err != nil {
		r.t.Fatal(err)
	}
	return c
}

// talk makes one keep-alive request on c.
func talk(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := io.WriteString(c, "OPTIONS / HTTP/1.1\r\nHost: r\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "OPTIONS"})
	if err != nil {
		t.Fatal(err)
	}
	if res.StatusCode != 204 {
		t.Fatalf("status %d", res.StatusCode)
	}
}

// await waits for a condition.
func await(t *testing.T, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatal("condition not met in time")
		}
		time.Sleep(time.Millisecond)
	}
}

// TestFilesExhausted takes every open file of the process while a client waits
// to be accepted: connections live on, and the client is served once there are
// files again.
func TestFilesExhausted(t *testing.T) {
	s, m := startTCP(t, nil)
	alive := dialTCP(t, s.Addr("api"))
	talk(t, alive)

	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	low := limit
	low.Cur = 256
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low); err != nil {
		t.Fatal(err)
	}
	var fillers []*os.File
	free := func() {
		for _, f := range fillers {
			f.Close()
		}
		fillers = nil
	}
	defer func() {
		free()
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
			t.Error(err)
		}
	}()
	for {
		f, err := os.Open(os.DevNull)
		if err != nil {
			break
		}
		fillers = append(fillers, f)
	}
	last := len(fillers) - 1
	fillers[last].Close() // room for the client's end, none for the server's
	fillers = fillers[:last]
	waiting := dialTCP(t, s.Addr("api"))
	errs := m.Counter(`rollcall_http_accept_errors_total{listener="api"}`)
	await(t, func() bool { return errs.Get() > 0 })
	talk(t, alive)
	free()
	talk(t, waiting)
	talk(t, alive)
	waiting.Close()
	alive.Close()
}

// startTCP starts a server on real loopback listeners.
func startTCP(t testing.TB, change func(*Options)) (*Server, *metrics.Set) {
	t.Helper()
	r := &restRig{t: t}
	m := metrics.NewSet()
	o := Options{Directory: newTestDirectory(r), Metrics: m, ListenAPI: "127.0.0.1:0"}
	if change != nil {
		change(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	return s, m
}

func dialTCP(t *testing.T, addr string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// exchangeRaw sends raw bytes and returns the answer. If the server closes, it
// must take in the rest of the input and then end the connection without a reset.
func exchangeRaw(t *testing.T, addr, raw string) restAnswer {
	t.Helper()
	c := dialTCP(t, addr)
	defer c.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.WriteString(c, raw)
		sent <- err
	}()
	br := bufio.NewReader(c)
	res, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatalf("no answer to %.60q: %v", raw, err)
	}
	a := restAnswer{raw: readAll(t, res), status: res.StatusCode, header: res.Header}
	checkEnvelope(t, &a)
	if err := <-sent; err != nil {
		t.Errorf("%.60q: could not be sent: %v", raw, err)
	}
	if res.Close {
		if err := c.CloseWrite(); err != nil {
			t.Errorf("%.60q: %v", raw, err)
		}
		if _, err := br.ReadByte(); err != io.EOF {
			t.Errorf("%.60q: after the answer: %v", raw, err)
		}
	}
	return a
}

// TestBadHTTP: what is no HTTP, too long or too slow gets an answer, not a reset.
func TestBadHTTP(t *testing.T) {
	const maxBody = 4096
	s, m := startTCP(t, func(o *Options) { o.MaxBody = maxBody })
	post := func(n int) string {
		return "POST /v4/openim/querystate HTTP/1.1\r\nHost: r\r\nContent-Length: " + itoa(n) + "\r\n\r\n" + strings.Repeat("x", n)
	}
	for name, tt := range map[string]struct {
		raw  string
		code int
		says string
	}{
		"one byte below the limit": {post(maxBody - 1), 60012, ""},
		"at the limit":             {post(maxBody), 60012, ""},
		"one byte above":           {post(maxBody + 1), 60002, "4096"},
		"far above":                {post(1 << 20), 60002, "4096"},
		"chunked above":            {"POST / HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\n2000\r\n" + strings.Repeat("x", 0x2000) + "\r\n0\r\n\r\n", 60002, "4096"},
		"broken chunk":             {"POST / HTTP/1.1\r\nHost: r\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", 60002, ""},
		"no HTTP":                  {"hello\r\n\r\n", 60002, ""},
		"TLS on the plain port":    {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 60002, ""},
		"header without end":       {"POST / HTTP/1.1\r\nX: " + strings.Repeat("y", 2*readBufferSize), 60002, itoa(readBufferSize)},
		"negative length":          {"POST / HTTP/1.1\r\nHost: r\r\nContent-Length: -1\r\n\r\n{}", 60002, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := exchangeRaw(t, s.Addr("api"), tt.raw)
			if a.ErrorCode != tt.code || !strings.Contains(a.ErrorInfo, tt.says) {
				t.Errorf("%d %q, want %d with %q", a.ErrorCode, a.ErrorInfo, tt.code, tt.says)
			}
		})
	}
	if got := m.Counter("rollcall_http_bad_requests_total").Get(); got != 8 {
		t.Errorf("%d bad requests counted", got)
	}
}

// TestSlowRequest: one that does not become whole in time is answered, too.
func TestSlowRequest(t *testing.T) {
	s, _ := startTCP(t, func(o *Options) { o.ReadTimeout = 200 * time.Millisecond })
	a := exchangeRaw(t, s.Addr("api"), "POST / HTTP/1.1\r\nHost: r\r\nContent-Length: 10\r\n\r\n{}").want(t, 60002)
	if !strings.Contains(a.ErrorInfo, "200ms") {
		t.Errorf("%q", a.ErrorInfo)
	}
}

// TestLongURL: a UserSig of full length, however it is escaped, fits beside the
// headers of a chatty client; so does one of common length beside a long random.
func TestLongURL(t *testing.T) {
	s, _ := startTCP(t, nil)
	sig := func(n int) string {
		const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-"
		return url.QueryEscape(strings.Repeat(alphabet, n/len(alphabet)))
	}
	for name, tt := range map[string]struct{ usersig, random, headers string }{
		"longest UserSig": {sig(usersig.MaxSize), "4294967295", "X-Chatty: " + strings.Repeat("h", 4096) + "\r\n"},
		"long random":     {sig(2048), strings.Repeat("9", 8000), ""},
	} {
		t.Run(name, func(t *testing.T) {
			target := "/v4/openim/querystate?sdkappid=" + itoa(testApp) + "&identifier=a&usersig=" + tt.usersig + "&random=" + tt.random
			a := exchangeRaw(t, s.Addr("api"), "POST "+target+" HTTP/1.1\r\nHost: r\r\nContent-Length: 2\r\n"+tt.headers+"\r\n{}").want(t, 70003)
			if !strings.Contains(a.ErrorInfo, "zlib") {
				t.Errorf("%q: it was not the content that was refused", a.ErrorInfo)
			}
		})
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// TestSendBuffer: the kernel holds little for a caller that does not read.
func TestSendBuffer(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := newListener(tcp, "test", 1, 0, metrics.NewSet())
	defer l.Close()
	c, err := net.Dial("tcp", tcp.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer got.Close()
	raw, err := got.(*conn).Conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var size int
	if errs := errors.Join(raw.Control(func(fd uintptr) {
		size, err = syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF)
	}), err); errs != nil || size > 2*sendBuffer { // the kernel doubles it, for its own needs
		t.Errorf("a send buffer of %d, %v", size, errs)
	}
}
