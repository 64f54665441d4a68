package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
)

const (
	rigToken  = "a-token-for-tests"
	rigApp    = 1400000000
	rigSecret = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
)

// rig is a server's admin side on a real directory under a virtual clock.
// Requests go through fasthttp's parser into the handler, without a socket; each
// answer is held to openapi.yaml.
type rig struct {
	testing.TB
	s     *Server
	dir   *embedded.Directory
	clock *clock.Manual
	links uint32
	seen  map[string]bool // operations that answered well, "METHOD path"
}

func newRig(t testing.TB, set ...func(*Options)) *rig {
	t.Helper()
	r := &rig{TB: t, clock: clock.NewManual(time.UnixMilli(1_700_000_000_000)), seen: map[string]bool{}}
	var err error
	r.dir, err = embedded.New(embedded.Options{Clock: r.clock, Shards: 16})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.dir.Check(); err != nil {
			t.Error(err)
		}
		if err := r.dir.Close(); err != nil {
			t.Error(err)
		}
	})
	o := Options{Directory: r.dir, Clock: r.clock, AdminToken: rigToken}
	for _, f := range set {
		f(&o)
	}
	if r.s, err = New(o); err != nil {
		t.Fatal(err)
	}
	r.createApp(rigApp)
	return r
}

func (r *rig) createApp(id uint32) {
	r.Helper()
	r.want(201, "POST", "/console/v1/apps", fmt.Sprintf(`{"SDKAppID":%d,"Name":"demo","Secret":%q}`, id, rigSecret))
}

// login logs a device in and returns its instance.
func (r *rig) login(app uint32, user string, p presence.Platform, device string) presence.Instance {
	r.Helper()
	r.links++
	nowMS := r.clock.Now().UnixMilli()
	op := &directory.LoginOp{Key: presence.Key{App: app, UserID: user}, Login: presence.Login{
		Device: presence.Device{Platform: p, ID: device, SDKVersion: "1.2.3", Model: "model"},
		Cred:   presence.Credential{SigTimeS: nowMS / 1000},
		Link: presence.Link{Node: 3, ID: presence.MakeLinkID(1, r.links, 1), Protocol: presence.ProtocolNative, Listener: "native",
			Addr: netip.MustParseAddrPort("192.0.2.7:4711"), ConnectedMS: nowMS},
		NowMS: nowMS,
	}}
	done := make(chan struct{})
	op.Done = func(*directory.LoginOp) { close(done) }
	r.dir.Login(op)
	<-done
	if op.Code != presence.CodeOK {
		r.Fatalf("login of %q: code %d", user, op.Code)
	}
	return op.Decision.Inst
}

// drop loses an instance's link.
func (r *rig) drop(app uint32, user string, in presence.Instance) {
	done := make(chan struct{})
	r.dir.Leave(&directory.LeaveOp{
		Key: presence.Key{App: app, UserID: user}, Platform: in.Device.Platform, DeviceID: in.Device.ID,
		Node: in.Link.Node, Link: in.Link.ID, Reason: directory.LeaveLinkClosed, NowMS: r.clock.Now().UnixMilli(),
		Done: func(*directory.LeaveOp) { close(done) },
	})
	<-done
}

// consoleAnswer is a response.
type consoleAnswer struct {
	status int
	header *fasthttp.ResponseHeader
	body   string
}

// adminRequest is one call of the admin listener; the target is sent as it stands.
type adminRequest struct {
	method, target, body string
	auth                 string // "" = the right token, "-" = none
	from                 string // client address, "" = 127.0.0.1
	header               string // more header lines, each with its line break
	host                 string // header lines in place of "Host: x"
}

func (r *rig) send(q adminRequest) consoleAnswer {
	r.Helper()
	var ctx fasthttp.RequestCtx
	if err := r.parse(&ctx, q); err != nil {
		r.s.badAdminHTTP(&ctx, err)
	} else {
		r.s.serveAdmin(&ctx)
	}
	return consoleAnswer{ctx.Response.StatusCode(), &ctx.Response.Header, string(ctx.Response.Body())}
}

func (r *rig) parse(ctx *fasthttp.RequestCtx, q adminRequest) error {
	auth := "Authorization: Bearer " + rigToken + "\r\n"
	switch q.auth {
	case "":
	case "-":
		auth = ""
	default:
		auth = "Authorization: " + q.auth + "\r\n"
	}
	if q.from == "" {
		q.from = "127.0.0.1"
	}
	if q.host == "" {
		q.host = "Host: x"
	}
	raw := fmt.Sprintf("%s %s HTTP/1.1\r\n%s\r\n%s%sContent-Length: %d\r\n\r\n%s", q.method, q.target, q.host, auth, q.header, len(q.body), q.body)
	var req fasthttp.Request
	err := req.Read(bufio.NewReader(strings.NewReader(raw)))
	ctx.Init(&req, &net.TCPAddr{IP: net.ParseIP(q.from), Port: 1}, nil)
	return err
}

// call sends a console request and holds request and answer to openapi.yaml.
func (r *rig) call(method, path, body string) consoleAnswer {
	r.Helper()
	a := r.send(adminRequest{method: method, target: path, body: body})
	r.checkDocumented(method, path, body, a)
	return a
}

// want calls and fails on another status; the answer's JSON is returned.
func (r *rig) want(status int, method, path, body string) map[string]any {
	r.Helper()
	a := r.call(method, path, body)
	if a.status != status {
		r.Fatalf("%s %s %s: status %d, want %d: %s", method, path, body, a.status, status, a.body)
	}
	if a.body == "" {
		return nil
	}
	var v map[string]any
	if err := json.Unmarshal([]byte(a.body), &v); err != nil {
		r.Fatalf("%s %s: %q is no JSON object: %v", method, path, a.body, err)
	}
	return v
}

// app is the path of the rig's app with more behind it.
func appPath(more string) string { return fmt.Sprintf("/console/v1/apps/%d%s", rigApp, more) }

var document = sync.OnceValues(func() (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromData(openAPI)
})

// operation finds the documented operation of a request, nil if there is none.
func (r *rig) operation(method, path string) (*openapi3.Operation, string) {
	doc, err := document()
	if err != nil {
		r.Fatal(err)
	}
	t, err := parseTarget([]byte(path))
	if err != nil {
		return nil, ""
	}
	parts, err := t.parts(consolePrefix)
	if err != nil {
		return nil, ""
	}
	rt, err := findRoute(method, parts)
	if err != nil {
		return nil, ""
	}
	item := doc.Paths.Value(consolePrefix + rt.path)
	if item == nil || item.GetOperation(method) == nil {
		r.Errorf("%s %s is not in openapi.yaml", method, rt.path)
		return nil, ""
	}
	return item.GetOperation(method), method + " " + rt.path
}

func (r *rig) checkDocumented(method, path, body string, a consoleAnswer) {
	r.Helper()
	op, name := r.operation(method, path)
	if op == nil {
		return
	}
	if a.status < 300 {
		r.seen[name] = true
		r.checkBody("request of "+name, op.RequestBody, body)
	}
	ref := op.Responses.Status(a.status)
	if ref == nil {
		ref = op.Responses.Default()
	}
	media := ref.Value.Content.Get("application/json")
	if media == nil {
		if a.body != "" || a.status != 204 {
			r.Errorf("%s: answer %d %q is not documented", name, a.status, a.body)
		}
		return
	}
	if got := string(a.header.ContentType()); got != "application/json" {
		r.Errorf("%s: content type %q", name, got)
	}
	r.checkSchema("answer of "+name, media.Schema.Value, a.body)
}

func (r *rig) checkBody(what string, ref *openapi3.RequestBodyRef, body string) {
	r.Helper()
	if ref == nil {
		if body != "" {
			r.Errorf("%s: a body is not documented", what)
		}
		return
	}
	r.checkSchema(what, ref.Value.Content.Get("application/json").Schema.Value, body)
}

func (r *rig) checkSchema(what string, schema *openapi3.Schema, body string) {
	r.Helper()
	dec := json.NewDecoder(bytes.NewReader([]byte(body)))
	var v any
	if err := dec.Decode(&v); err != nil {
		r.Errorf("%s: %q is no JSON: %v", what, body, err)
		return
	}
	if err := schema.VisitJSON(v, openapi3.MultiErrors()); err != nil {
		r.Errorf("%s %s: %v", what, body, err)
	}
}

// quiet gives a Server options that count into their own set.
func withMetrics(m *metrics.Set) func(*Options) { return func(o *Options) { o.Metrics = m } }
