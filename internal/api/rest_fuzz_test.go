package api

import (
	"encoding/json"
	"testing"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
)

// handler returns a server's REST handler without listeners, and the parameters
// of a good call.
func restHandler(tb testing.TB) (s *Server, params string) {
	tb.Helper()
	r := &restRig{t: tb, clock: clock.NewManual(testStart)}
	d, err := embedded.New(embedded.Options{Clock: r.clock, Shards: 64})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { d.Close() })
	r.dir = &meddler{Directory: d}
	r.addApp(testApp, func(a *directory.App) { a.Limits = directory.Limits{} })
	if s, err = New(Options{Directory: d, Clock: r.clock}); err != nil {
		tb.Fatal(err)
	}
	return s, r.params().Encode()
}

// serveREST runs one request through the handler.
func serveREST(s *Server, target string, body []byte) *fasthttp.RequestCtx {
	var ctx fasthttp.RequestCtx
	var req fasthttp.Request
	req.Header.SetMethod("POST")
	req.SetRequestURI(target)
	req.SetBodyRaw(body)
	ctx.Init(&req, nil, nil)
	s.serveAPI(&ctx)
	return &ctx
}

// checkFuzzed holds an answer to what every answer has.
func checkFuzzed(t *testing.T, s *Server, ctx *fasthttp.RequestCtx) {
	t.Helper()
	var a struct {
		ActionStatus, ErrorInfo *string
		ErrorCode               *int
	}
	if err := json.Unmarshal(ctx.Response.Body(), &a); err != nil {
		t.Fatalf("%q: %v", ctx.Response.Body(), err)
	}
	if ctx.Response.StatusCode() != 200 || a.ErrorCode == nil || a.ErrorInfo == nil || a.ActionStatus == nil ||
		(*a.ErrorCode == 0) != (*a.ActionStatus == "OK") || (*a.ErrorCode == 0) != (*a.ErrorInfo == "") {
		t.Fatalf("HTTP %d: %s", ctx.Response.StatusCode(), ctx.Response.Body())
	}
	if n := s.rest.panics.Get(); n != 0 {
		t.Fatalf("%d panics", n)
	}
}

// fuzzBody feeds bodies to one call.
func fuzzBody(f *testing.F, command string) {
	s, params := restHandler(f)
	for _, c := range describedCalls {
		if c.command == command {
			f.Add([]byte(c.body))
		}
	}
	for _, body := range badBodies[command] {
		f.Add([]byte(body))
	}
	f.Add([]byte(`{"To_Account":["\ud800","a"],"UserID":"\u0000"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		checkFuzzed(t, s, serveREST(s, "/v4/"+command+"?"+params, body))
	})
}

func FuzzQueryBody(f *testing.F)  { fuzzBody(f, queryCommand) }
func FuzzKickBody(f *testing.F)   { fuzzBody(f, kickCommand) }
func FuzzImportBody(f *testing.F) { fuzzBody(f, importCommand) }
func FuzzMultiBody(f *testing.F)  { fuzzBody(f, multiCommand) }
func FuzzCheckBody(f *testing.F)  { fuzzBody(f, checkCommand) }
func FuzzDeleteBody(f *testing.F) { fuzzBody(f, deleteCommand) }

// FuzzTarget feeds request targets.
func FuzzTarget(f *testing.F) {
	s, params := restHandler(f)
	for _, target := range []string{
		"/v4/openim/querystate?" + params, "/v4/openim/querystate", "/", "//", "/v4/", "/v4/%2f/x?sdkappid=1", "/v4/a/b?sdkappid=&identifier=%00&usersig=%ff",
		"/v4/openim/querystate?sdkappid=1400000000&identifier=administrator&usersig=eJw_", "*", "http://x/v4/openim/kick?sdkappid=99999999999",
	} {
		f.Add(target)
	}
	f.Fuzz(func(t *testing.T, target string) {
		s.rest.failures = newFailureTable(10, s.opts.Metrics)
		checkFuzzed(t, s, serveREST(s, target, []byte(`{"To_Account":["a"]}`)))
	})
}
