package api

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// TestAnswerHeaders: every answer of both listeners tells browsers to make
// nothing of it, errors and what is no request included.
func TestAnswerHeaders(t *testing.T) {
	r := newRig(t)
	admin, rest := r.s.newAdminFast(), r.s.newRESTFast()
	for name, tt := range map[string]struct {
		fast *fasthttp.Server
		in   string
	}{
		"health":         {admin, "GET /livez HTTP/1.1\r\nHost: x\r\n\r\n"},
		"description":    {admin, "GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"},
		"metrics":        {admin, "GET /metrics HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + rigToken + "\r\n\r\n"},
		"profiles":       {admin, "GET /debug/pprof/ HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + rigToken + "\r\n\r\n"},
		"a profile":      {admin, "GET /debug/pprof/cmdline HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + rigToken + "\r\n\r\n"},
		"no token":       {admin, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"},
		"console":        {admin, "GET /console/v1/apps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + rigToken + "\r\n\r\n"},
		"nothing":        {admin, "GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n"},
		"TRACE":          {admin, "TRACE /livez HTTP/1.1\r\nHost: x\r\nX-Secret: 1\r\n\r\n"},
		"no request":     {admin, "\x00\r\n\r\n"},
		"call":           {rest, "POST /v4/openim/querystate HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"},
		"call's options": {rest, "OPTIONS /v4/openim/querystate HTTP/1.1\r\nHost: x\r\n\r\n"},
		"no call":        {rest, "\x00\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			answers := playTape(t, tt.fast, []byte(tt.in))
			if len(answers) != 1 {
				t.Fatalf("%d answers", len(answers))
			}
			want := map[string]string{"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Strict-Transport-Security": ""}
			if tt.fast == admin {
				want["Referrer-Policy"] = "no-referrer"
				csp := answers[0].Header.Get("Content-Security-Policy")
				for _, part := range []string{"default-src 'none'", "frame-ancestors 'none'", "base-uri 'none'", "object-src 'none'"} {
					if !strings.Contains(csp, part) {
						t.Errorf("Content-Security-Policy %q lacks %s", csp, part)
					}
				}
			}
			body, _ := io.ReadAll(answers[0].Body)
			if bytes.Contains(body, []byte("X-Secret")) {
				t.Errorf("the request comes back: %q", body)
			}
			if len(body) > 0 && answers[0].Header.Get("Content-Type") == "" {
				t.Errorf("%q has no content type", body)
			}
			for header, value := range want {
				if got := answers[0].Header.Values(header); strings.Join(got, "|") != value {
					t.Errorf("%s is %q, want %q", header, got, value)
				}
			}
			if len(answers[0].Cookies()) > 0 || answers[0].Header.Get("Server") != "" {
				t.Errorf("headers %v", answers[0].Header)
			}
		})
	}
}

// TestOverTLSOnly: who asked over TLS is told to keep to it.
func TestOverTLSOnly(t *testing.T) {
	cert, key, pool := makeCertificate(t)
	r := newRig(t, func(o *Options) {
		o.ListenAPITLS, o.ListenAdminTLS, o.Certificate = "127.0.0.1:0", "127.0.0.1:0", certificateIn(t, cert, key)
	})
	if err := r.s.Start(); err != nil {
		t.Fatal(err)
	}
	defer r.s.Shutdown(t.Context())
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	for name, path := range map[string]string{"api-tls": "/openapi.yaml", "admin-tls": "/livez"} {
		res, err := client.Get("https://" + r.s.Addr(name) + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if got := res.Header.Get("Strict-Transport-Security"); got != "max-age=31536000; includeSubDomains" || res.StatusCode != http.StatusOK {
			t.Errorf("%s: status %d, Strict-Transport-Security %q", name, res.StatusCode, got)
		}
	}
}

// TestOldTLS: what is older than TLS 1.2, or has no forward secrecy, is not
// spoken; the newest is what both sides choose.
func TestOldTLS(t *testing.T) {
	cert, key, pool := makeCertificate(t)
	r := newRig(t, func(o *Options) {
		o.ListenAPITLS, o.ListenAdminTLS, o.Certificate = "127.0.0.1:0", "127.0.0.1:0", certificateIn(t, cert, key)
	})
	if err := r.s.Start(); err != nil {
		t.Fatal(err)
	}
	defer r.s.Shutdown(t.Context())
	for _, name := range []string{"api-tls", "admin-tls"} {
		dial := func(c *tls.Config) (uint16, error) {
			c.RootCAs = pool
			conn, err := tls.Dial("tcp", r.s.Addr(name), c)
			if err != nil {
				return 0, err
			}
			defer conn.Close()
			return conn.ConnectionState().Version, nil
		}
		if v, err := dial(&tls.Config{}); v != tls.VersionTLS13 {
			t.Errorf("%s: version %x, %v, want 1.3", name, v, err)
		}
		if v, err := dial(&tls.Config{MaxVersion: tls.VersionTLS12}); v != tls.VersionTLS12 {
			t.Errorf("%s: version %x, %v, want 1.2", name, v, err)
		}
		if v, err := dial(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}); err == nil {
			t.Errorf("%s speaks version %x", name, v)
		}
		if v, err := dial(&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA}}); err == nil {
			t.Errorf("%s speaks version %x without forward secrecy", name, v)
		}
	}
}

// TestFromThisMachine: what is open to the machine itself is not open to a
// browser on it that a page from elsewhere has sent there.
func TestFromThisMachine(t *testing.T) {
	r := newRig(t)
	for lines, want := range map[string]int{
		"Host: 127.0.0.1:7781": 200, "Host: [::1]:7781": 200, "Host: localhost:7781": 200, "Host: node-3:7781": 200, "Host: a.localhost": 200,
		"Host: evil.example": 401, "Host: evil.example:7781": 401, "Host: evil.example.": 401, "Host: 127.0.0.1.evil.example": 401,
		"Host: localhost\r\nSec-Fetch-Site: cross-site": 401, "Host: localhost\r\nSec-Fetch-Site: same-site": 401,
		"Host: localhost\r\nSec-Fetch-Site: none": 200, "Host: localhost\r\nX-Forwarded-For: 192.0.2.1": 401, "Host: localhost\r\nForwarded: for=192.0.2.1": 401,
	} {
		for _, page := range []string{"/metrics", "/debug/pprof/goroutine"} {
			if a := r.send(adminRequest{method: "GET", target: page, auth: "-", host: lines}); a.status != want {
				t.Errorf("%s with %q: status %d, want %d", page, lines, a.status, want)
			}
		}
	}
}

// The token of dev mode is public: a page whose name was led to this machine gets
// no further with it. A token that is secret is enough, whatever the name.
func TestDevConsoleAgainstRebinding(t *testing.T) {
	for _, dev := range []bool{true, false} {
		r := newRig(t, func(o *Options) { o.Dev = dev })
		for host, want := range map[string]int{
			"127.0.0.1:7781": 200, "[::1]:7781": 200, "localhost:7781": 200, "rollcall:7781": 200,
			"evil.example": 403, "evil.example:7781": 403, "127.0.0.1.evil.example": 403,
		} {
			if !dev {
				want = 200
			}
			if a := r.send(adminRequest{method: "GET", target: "/console/v1/apps", host: "Host: " + host}); a.status != want {
				t.Errorf("dev %t, Host %s: status %d, want %d", dev, host, a.status, want)
			}
		}
	}
}

// TestAudit: who is refused is in the log, with address and name and without
// what was offered as proof; a flood is cut and counted.
func TestAudit(t *testing.T) {
	var log bytes.Buffer
	m := metrics.NewSet()
	r := newRig(t, withMetrics(m), func(o *Options) { o.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	lines := func() []string { return strings.Split(strings.TrimSpace(log.String()), "\n") }
	log.Reset()
	for range maxFailures {
		r.send(adminRequest{method: "GET", target: "/console/v1/apps", auth: "Bearer guess-of-a-token", from: "192.0.2.9"})
	}
	got := lines()
	if len(got) != maxFailures+1 || !strings.Contains(got[0], `"msg":"wrong admin token","remote":"192.0.2.9"`) || !strings.Contains(got[maxFailures], "locked out") {
		t.Errorf("log of %d wrong tokens:\n%s", maxFailures, log.String())
	}
	for i := range 5 * auditPerSecond {
		r.send(adminRequest{method: "GET", target: "/console/v1/apps", auth: "Bearer guess-of-a-token", from: fmt.Sprintf("192.0.2.%d", 10+i)})
	}
	if got, dropped := len(lines()), m.Counter("rollcall_http_audit_dropped_total").Get(); got != auditPerSecond || dropped != uint64(maxFailures+1+5*auditPerSecond-auditPerSecond) {
		t.Errorf("%d lines and %d dropped, want %d lines", got, dropped, auditPerSecond)
	}
	r.clock.Advance(time.Second)
	log.Reset()
	r.want(200, "PUT", appPath("/limits"), `{"CallsPerSecond":7}`)
	if got := log.String(); !strings.Contains(got, `"msg":"console call","route":"PUT apps/{SDKAppID}/limits","path":"/console/v1/apps/1400000000/limits","status":200,"remote":"127.0.0.1"`) {
		t.Errorf("log of a change: %s", got)
	}
	log.Reset()
	serveREST(r.s, fmt.Sprintf("/v4/openim/querystate?sdkappid=%d&identifier=administrator&usersig=guess-of-a-token", rigApp), nil)
	if got := log.String(); !strings.Contains(got, `"msg":"REST caller's UserSig is refused","app":1400000000,"identifier":"administrator","code":70003`) {
		t.Errorf("log of a bad UserSig: %s", got)
	}
	if strings.Contains(log.String(), "guess-of-a-token") {
		t.Errorf("a secret is in the log: %s", log.String())
	}
}

// TestInternalErrorTellsNothing: what went wrong inside is in the log, and the caller learns that it did.
func TestInternalErrorTellsNothing(t *testing.T) {
	var log bytes.Buffer
	r := newRig(t, func(o *Options) { o.Logger = slog.New(slog.NewJSONHandler(&log, nil)) })
	r.s.dir = &failingDirectory{r.s.dir}
	a := r.send(adminRequest{method: "PUT", target: appPath("/limits"), body: "{}"})
	if a.status != 500 || strings.Contains(a.body, "secret") || !strings.Contains(a.body, "Internal") {
		t.Errorf("status %d: %s", a.status, a.body)
	}
	if !strings.Contains(log.String(), `"msg":"console call failed","route":"PUT apps/{SDKAppID}/limits","err":"a secret of the inside"`) {
		t.Errorf("the log: %s", log.String())
	}
}

// failingDirectory fails updates for a reason that is no caller's business.
type failingDirectory struct{ directory.Directory }

func (d *failingDirectory) UpdateApp(op *directory.UpdateAppOp) {
	op.Err = errors.New("a secret of the inside")
	op.Done(op)
}
