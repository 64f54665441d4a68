package api

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
)

// tape is a connection of a stranger who has sent everything and half-closed.
type tape struct {
	in  *bytes.Reader
	out bytes.Buffer

	once   sync.Once
	closed chan struct{}
}

func newTape(in []byte) *tape { return &tape{in: bytes.NewReader(in), closed: make(chan struct{})} }

func (c *tape) Read(p []byte) (int, error)  { return c.in.Read(p) }
func (c *tape) Write(p []byte) (int, error) { return c.out.Write(p) }
func (c *tape) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}
func (c *tape) LocalAddr() net.Addr              { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7781} }
func (c *tape) RemoteAddr() net.Addr             { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711} }
func (c *tape) SetDeadline(time.Time) error      { return nil }
func (c *tape) SetReadDeadline(time.Time) error  { return nil }
func (c *tape) SetWriteDeadline(time.Time) error { return nil }

// playTape gives fast a connection with these bytes and returns the answers.
func playTape(t *testing.T, fast *fasthttp.Server, in []byte) []*http.Response {
	t.Helper()
	c := newTape(in)
	_ = fast.ServeConn(c) // its error is the client's fault
	answers, err := readAnswers(c.out.Bytes())
	if err != nil {
		t.Fatalf("%q was answered by what is no HTTP: %v\n%q", in, err, c.out.Bytes())
	}
	return answers
}

// readAnswers takes apart what a server wrote. That HEAD has no body cannot be
// seen from the answer, so the first one may end the list.
func readAnswers(out []byte) ([]*http.Response, error) {
	var all []*http.Response
	for r := bufio.NewReader(bytes.NewReader(out)); ; {
		if _, err := r.Peek(1); err != nil {
			return all, nil
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			if len(all) > 0 {
				return all, nil
			}
			return nil, err
		}
		body, err := io.ReadAll(res.Body)
		res.Body = io.NopCloser(bytes.NewReader(body))
		all = append(all, res)
		if err != nil {
			return all, nil
		}
	}
}

// httpSeeds are request streams that have fooled servers: where one message ends
// is what smugglers want proxies and servers to disagree on.
var httpSeeds = []string{
	"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /v4/openim/querystate?sdkappid=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST /v4/a/b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 30\r\n\r\n{}GET /smuggled HTTP/1.1\r\n\r\n",
	"POST /v4/a/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;a=\"\r\n\"\r\n{\r\n1\r\n}\r\n0\r\nX: y\r\n\r\n",
	"POST /v4/a/b HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
	"GET /console/v1/apps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer\r\n wrong\r\n\r\n",
	"GET / HTTP/1.1\nHost: x\n\n",
	"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n\r\n",
	"PUT /console/v1/apps/1/policy HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n{\"a\":",
	"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
	"TRACE / HTTP/1.1\r\nHost: x\r\n\r\n",
	"GET http://[::1/ HTTP/1.1\r\nHost: \x00\r\n\r\n",
}

// FuzzHTTP plays byte streams to both listeners. Whatever they hold, what comes
// back is HTTP, nobody without the token gets into the console, and nothing panics.
func FuzzHTTP(f *testing.F) {
	r := newRig(f)
	fasts := map[string]*fasthttp.Server{"api": r.s.newRESTFast(), "admin": r.s.newAdminFast()}
	for _, seed := range httpSeeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		r.TB = t
		if bytes.Contains(in, []byte(rigToken)) {
			t.Skip("it knows the token")
		}
		for name, fast := range fasts {
			for _, res := range playTape(t, fast, in) {
				if name == "admin" && (res.StatusCode >= 500 || res.StatusCode != 100 && res.Header.Get("X-Content-Type-Options") != "nosniff") {
					t.Errorf("%q is answered with %d and %v", in, res.StatusCode, res.Header)
				}
			}
		}
		if p := r.s.rest.panics.Get() + r.s.adminPanics.Get(); p != 0 {
			t.Fatalf("%q: %d panics", in, p)
		}
		for _, route := range routes {
			name := fmt.Sprintf("rollcall_console_requests_total{route=%q,status=\"200\"}", route.method+" "+route.path)
			if r.s.opts.Metrics.Counter(name).Get() != 0 && route.method != "POST" {
				t.Fatalf("%q got into %s %s without the token", in, route.method, route.path)
			}
		}
	})
}

// FuzzConsoleBody feeds bodies to every console call that has one.
func FuzzConsoleBody(f *testing.F) {
	r := newRig(f)
	var withBody []route
	for _, rt := range routes {
		if rt.body {
			withBody = append(withBody, rt)
		}
	}
	for i, body := range []string{
		`{"SDKAppID":7,"Name":"n","Administrators":["a"]}`, `{"Name":"x","AllowedIPs":["10.0.0.0/8","::1"]}`, `{"URL":"http://h/","Token":"t"}`,
		`{"Web":{"HeartbeatMS":1000,"SilenceMS":3000}}`, `{"CallsPerSecond":1e308}`, `{"Secret":"0123456789abcdef"}`, `{"Administrators":[null]}`,
		`{"All":true}`, `{"InstID":2147483648}`, `{"Dir":"../x"}`, `{"a":1,"a":2}`, "{\"\xff\":\"\\ud800\"}", strings.Repeat("[", 100), `{"Name":1,`, ``,
	} {
		f.Add(uint8(i), []byte(body))
	}
	path := strings.NewReplacer("{SDKAppID}", fmt.Sprint(rigApp), "{UserID}", "alice", "{KeyID}", "1")
	f.Fuzz(func(t *testing.T, n uint8, body []byte) {
		r.TB = t
		rt := withBody[int(n)%len(withBody)]
		target := consolePrefix + path.Replace(rt.path)
		a := r.send(adminRequest{method: rt.method, target: target, body: string(body)})
		if a.status < 200 || a.status >= 500 && a.status != 503 {
			t.Errorf("%s %s %q: status %d: %s", rt.method, target, body, a.status, a.body)
		}
		if a.status < 300 {
			r.checkDocumented(rt.method, target, string(body), a)
		}
		if app := r.dir.App(rigApp); app == nil || app.Validate() != nil {
			t.Errorf("after %s %s %q the app is %+v", rt.method, target, body, app)
		}
	})
}
