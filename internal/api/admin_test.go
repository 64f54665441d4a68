package api

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

func TestHealth(t *testing.T) {
	ready := errors.New("draining")
	r := newRig(t, func(o *Options) { o.Ready = func() error { return ready } })
	for _, c := range []struct {
		method, path string
		status       int
		text         string
	}{
		{"GET", "/livez", 200, "ok"},
		{"HEAD", "/livez", 200, ""},
		{"POST", "/livez", 405, "GET, HEAD"},
		{"GET", "/livez/", 404, ""},
		{"GET", "/readyz", 503, "draining"},
		{"GET", "/openapi.yaml", 200, "openapi: 3"},
		{"DELETE", "/openapi.yaml", 405, ""},
		{"GET", "/", 404, "NotFound"},
		{"GET", "/console/v1", 404, ""},
		{"GET", "/livez%2F", 404, ""},
	} {
		a := r.send(adminRequest{method: c.method, target: c.path, auth: "-", from: "203.0.113.9"})
		if a.status != c.status || !strings.Contains(a.body, c.text) {
			t.Errorf("%s %s: %d %q, want %d with %q", c.method, c.path, a.status, a.body, c.status, c.text)
		}
	}
	ready = nil
	if a := r.send(adminRequest{method: "GET", target: "/readyz", auth: "-"}); a.status != 200 {
		t.Errorf("ready: %d %s", a.status, a.body)
	}
}

// Metrics and profiles are open to this machine alone.
func TestInnerPages(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline"} {
		for _, c := range []struct {
			from, auth, header string
			status             int
		}{
			{"127.0.0.1", "-", "", 200},
			{"127.9.9.9", "-", "", 200},
			{"::1", "-", "", 200},
			{"::ffff:127.0.0.1", "-", "", 200},
			{"127.0.0.1", "-", "X-Forwarded-For: 203.0.113.9\r\n", 401},
			{"127.0.0.1", "-", "Forwarded: for=203.0.113.9\r\n", 401},
			{"10.0.0.1", "-", "", 401},
			{"203.0.113.9", "-", "", 401},
			{"203.0.113.9", "Bearer wrong", "", 401},
			{"203.0.113.9", "", "", 200},
		} {
			a := r.send(adminRequest{method: "GET", target: path, from: c.from, auth: c.auth, header: c.header})
			if a.status != c.status || len(a.body) == 0 {
				t.Errorf("%s from %s (%q %q): %d %.100q, want %d", path, c.from, c.auth, c.header, a.status, a.body, c.status)
			}
		}
	}
	if a := r.send(adminRequest{method: "POST", target: "/metrics"}); a.status != 405 {
		t.Errorf("POST /metrics: %d", a.status)
	}
	for _, seconds := range []string{"0", "-1", "60.5", "1e9", "NaN", "x"} {
		if a := r.send(adminRequest{method: "GET", target: "/debug/pprof/profile?seconds=" + seconds}); a.status != 400 {
			t.Errorf("profile of %s seconds: %d %s", seconds, a.status, a.body)
		}
	}
}

func TestMetricsText(t *testing.T) {
	m := metrics.NewSet()
	r := newRig(t, withMetrics(m))
	for _, reason := range []string{"missing", "wrong", "limited"} {
		if line := `rollcall_console_auth_failures_total{reason="` + reason + `"} 0`; !strings.Contains(r.send(adminRequest{method: "GET", target: "/metrics"}).body, line+"\n") {
			t.Errorf("before the first failure the metrics do not have %s", line)
		}
	}
	r.want(404, "GET", "/console/v1/apps/7", "")
	r.send(adminRequest{method: "GET", target: "/console/v1/nodes", auth: "-"})
	r.send(adminRequest{method: "GET", target: "/console/v1/nodes", auth: "Bearer nope"})
	a := r.send(adminRequest{method: "GET", target: "/metrics"})
	for _, line := range []string{
		`rollcall_console_requests_total{route="GET apps/{SDKAppID}",status="404"} 1`,
		`rollcall_console_requests_total{route="none",status="401"} 2`,
		`rollcall_console_auth_failures_total{reason="missing"} 1`,
		`rollcall_console_auth_failures_total{reason="wrong"} 1`,
	} {
		if !strings.Contains(a.body, line+"\n") {
			t.Errorf("metrics do not have %s", line)
		}
	}
}

func TestToken(t *testing.T) {
	r := newRig(t)
	for auth, status := range map[string]int{
		"":                             200,
		"bearer " + rigToken:           200,
		"-":                            401,
		"Bearer":                       401,
		"Bearer ":                      401,
		"Basic " + rigToken:            401,
		rigToken:                       401,
		"Bearer " + rigToken + "x":     401,
		"Bearer " + rigToken[1:]:       401,
		"Bearer " + rigToken + " ":     200, // fasthttp trims header values, as HTTP wants it
		"Bearer  " + rigToken:          401,
		"Bearer " + "A" + rigToken[1:]: 401,
	} {
		a := r.send(adminRequest{method: "GET", target: "/console/v1/nodes", auth: auth})
		if a.status != status {
			t.Errorf("%q: %d, want %d", auth, a.status, status)
		}
		if status == 401 && !strings.HasPrefix(string(a.header.Peek("WWW-Authenticate")), "Bearer") {
			t.Errorf("%q: no WWW-Authenticate", auth)
		}
		if status == 401 && !strings.Contains(a.body, `{"Error":{"Code":"Unauthorized"`) {
			t.Errorf("%q: body %s", auth, a.body)
		}
	}
}

// Who has no token does not learn what exists.
func TestTokenComesFirst(t *testing.T) {
	r := newRig(t)
	for _, path := range []string{"/console/v1/x", "/console/v1/apps/7", appPath(""), "/console/v1/%zz"} {
		if a := r.send(adminRequest{method: "PATCH", target: path, auth: "-"}); a.status != 401 {
			t.Errorf("%s: %d, want 401", path, a.status)
		}
	}
}

func TestWithoutTokenNobodyGetsIn(t *testing.T) {
	r := newRig(t)
	r.s.opts.AdminToken = ""
	for _, auth := range []string{"", "-", "Bearer", "Bearer ", "Bearer x"} {
		if a := r.send(adminRequest{method: "GET", target: "/console/v1/nodes", auth: auth}); a.status != 401 {
			t.Errorf("%q: %d, want 401", auth, a.status)
		}
	}
}

// After maxFailures wrong tokens an address is locked out, the right token
// included; others are not, and it ends.
func TestConsoleLockOut(t *testing.T) {
	for _, c := range []struct {
		name, from, same, other string
		dev                     bool
	}{
		{"IPv4", "203.0.113.9", "203.0.113.9", "203.0.113.10", false},
		{"IPv6 by /64", "2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1", false},
		{"dev", "127.0.0.1", "127.0.0.1", "127.0.0.2", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.Dev = c.dev })
			get := func(from, auth string) consoleAnswer {
				return r.send(adminRequest{method: "GET", target: "/console/v1/nodes", from: from, auth: auth})
			}
			for i := range maxFailures - 1 {
				if a := get(c.from, "Bearer wrong"); a.status != 401 {
					t.Fatalf("wrong token %d: %d", i+1, a.status)
				}
			}
			if a := get(c.same, ""); a.status != 200 {
				t.Fatalf("right token after %d wrong ones: %d", maxFailures-1, a.status)
			}
			get(c.same, "Bearer wrong")
			locked := 429
			if c.dev {
				locked = 200
			}
			for _, from := range []string{c.from, c.same} {
				if a := get(from, ""); a.status != locked || locked == 429 && string(a.header.Peek("Retry-After")) != "60" {
					t.Errorf("right token from %s after %d wrong ones: %d %s, want %d", from, maxFailures, a.status, a.body, locked)
				}
			}
			if a := get(c.other, ""); a.status != 200 {
				t.Errorf("another address: %d, want 200", a.status)
			}
			r.clock.Advance(lockout)
			if a := get(c.from, ""); a.status != 200 {
				t.Errorf("after the lock-out: %d, want 200", a.status)
			}
		})
	}
}

// A call without a token is no guess and locks nobody out.
func TestMissingTokenIsNoGuess(t *testing.T) {
	r := newRig(t)
	for range 2 * maxFailures {
		r.send(adminRequest{method: "GET", target: "/console/v1/nodes", auth: "-"})
	}
	r.want(200, "GET", "/console/v1/nodes", "")
}

// socketRig serves on a real port.
func socketRig(t *testing.T) (*rig, string) {
	r := newRig(t, func(o *Options) { o.ListenAdmin = "127.0.0.1:0" })
	if err := r.s.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.s.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return r, r.s.Addr("admin")
}

// exchange writes raw bytes and reads one answer.
func exchange(t *testing.T, addr, raw string) (int, string) {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	if _, err := io.WriteString(c, raw); err != nil {
		t.Fatal(err)
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	var b bytes.Buffer
	if _, err := b.ReadFrom(res.Body); err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, b.String()
}

func TestAdminOverSocket(t *testing.T) {
	_, addr := socketRig(t)
	auth := "Host: x\r\nAuthorization: Bearer " + rigToken + "\r\n"
	for _, c := range []struct {
		name, raw string
		status    int
		text      string
	}{
		{"good", "GET " + appPath("") + " HTTP/1.1\r\n" + auth + "\r\n", 200, `"SDKAppID":1400000000`},
		{"raw path", "GET " + appPath("/users/..%2f../.%2e") + " HTTP/1.1\r\n" + auth + "\r\n", 404, "nothing at this path"},
		{"raw UserID", "GET " + appPath("/users/..%2f..") + " HTTP/1.1\r\n" + auth + "\r\n", 404, `no user \"../..\"`},
		{"livez", "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 200, "ok"},
		{"pprof", "GET /debug/pprof/heap?debug=1 HTTP/1.1\r\nHost: x\r\n\r\n", 200, "heap profile"},
		{"body of the bound", "PUT " + appPath("/limits") + " HTTP/1.1\r\n" + auth + fmt.Sprintf("Content-Length: %d\r\n\r\n{%s}", maxConsoleBody, strings.Repeat(" ", maxConsoleBody-2)), 200, "CallsPerSecond"},
		{"body above the bound", "PUT " + appPath("/limits") + " HTTP/1.1\r\n" + auth + fmt.Sprintf("Content-Length: %d\r\n\r\n{%s}", maxConsoleBody+1, strings.Repeat(" ", maxConsoleBody-1)), 413, `"TooLarge"`},
		{"body announced too large", "PUT " + appPath("/limits") + " HTTP/1.1\r\n" + auth + "Content-Length: 99999999999\r\n\r\n", 413, `"TooLarge"`},
		{"no HTTP", "\x01\x02\x03 nonsense\r\n\r\n", 400, `"BadRequest"`},
		{"header too large", "GET /livez HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 2*readBufferSize) + "\r\n\r\n", 431, `"TooLarge"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			status, body := exchange(t, addr, c.raw)
			if status != c.status || !strings.Contains(body, c.text) {
				t.Errorf("%d %.200q, want %d with %q", status, body, c.status, c.text)
			}
		})
	}
}

// TestAdminPanic: a bug of ours costs its caller an error, not the node its links.
func TestAdminPanic(t *testing.T) {
	var (
		log    lockedBuffer
		broken atomic.Bool
	)
	broken.Store(true)
	s, m := startTCP(t, func(o *Options) {
		o.ListenAdmin, o.AdminToken = "127.0.0.1:0", rigToken
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		o.Nodes = func() []NodeInfo {
			if broken.Load() {
				panic("a bug")
			}
			return nil
		}
	})
	get := func() (status int, body string) {
		req, err := http.NewRequest("GET", "http://"+s.Addr("admin")+"/console/v1/nodes", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+rigToken)
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode, readAll(t, res)
	}
	defer http.DefaultClient.CloseIdleConnections()
	if status, body := get(); status != 500 || body != `{"Error":{"Code":"Internal","Text":"internal error"}}`+"\n" {
		t.Errorf("status %d: %s", status, body)
	}
	if n := m.Counter("rollcall_admin_panics_total").Get(); n != 1 || !strings.Contains(log.String(), "a bug") {
		t.Errorf("%d panics counted, logged %q", n, log.String())
	}
	broken.Store(false)
	if status, body := get(); status != 200 {
		t.Errorf("afterwards: status %d: %s", status, body)
	}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
