package api

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"net"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// rest is the REST API's own state.
type rest struct {
	rates    rateLimits
	failures *failureTable
	sigs     *sigCache
	recent   recentSigs
	panics   *metrics.Counter
	badHTTP  *metrics.Counter
	calls    map[*command]*callMetrics // the nil command is no command
}

// callMetrics are what is counted about one command.
type callMetrics struct {
	served  map[int]*metrics.Counter // by code; -1 any other
	ok      *metrics.Counter         // served[0]
	seconds *metrics.Histogram       // nil for no command
}

func newREST(s *Server) *rest {
	m := s.opts.Metrics
	r := &rest{
		failures: newFailureTable(s.opts.MaxFailures, m),
		sigs:     newSigCache(s.opts.MaxSigs, m),
		recent:   recentSigs{seed: maphash.MakeSeed()},
		panics:   m.Counter("rollcall_rest_panics_total"),
		badHTTP:  m.Counter("rollcall_http_bad_requests_total"),
		calls:    map[*command]*callMetrics{nil: newCallMetrics(m, "none")},
	}
	for _, cmd := range commands {
		r.calls[cmd] = newCallMetrics(m, cmd.name)
		r.calls[cmd].seconds = m.Histogram(fmt.Sprintf("rollcall_rest_call_seconds{command=%q}", cmd.name))
	}
	return r
}

func newCallMetrics(m *metrics.Set, command string) *callMetrics {
	name := func(code string) string {
		return fmt.Sprintf("rollcall_rest_calls_total{command=%q,code=%q}", command, code)
	}
	counters := map[int]*metrics.Counter{-1: m.Counter(name("other"))}
	for _, code := range restCodes {
		counters[code] = m.Counter(name(strconv.Itoa(code)))
	}
	return &callMetrics{served: counters, ok: counters[presence.CodeOK]}
}

// count counts an answer and how long it took.
func (c *callMetrics) count(code int, took time.Duration) {
	if code == presence.CodeOK {
		c.ok.Inc()
	} else if n := c.served[code]; n != nil {
		n.Inc()
	} else {
		c.served[-1].Inc()
	}
	if c.seconds != nil {
		c.seconds.Update(took.Seconds())
	}
}

// restCall is one request on its way through the checks. It lives as long as the
// request; what it hands to the directory is memory of its own.
type restCall struct {
	s          *Server
	ctx        *fasthttp.RequestCtx
	cmd        *command // nil until it is known
	params     callParams
	encoded    bool // params.sig may have escapes
	app        *directory.App
	ip         netip.Addr
	identifier string // known with the app
	now        time.Time
}

var restCalls = sync.Pool{New: func() any { return new(restCall) }}

// serveAPI answers a request on the REST listener, always with HTTP 200, but
// OPTIONS with 204.
func (s *Server) serveAPI(ctx *fasthttp.RequestCtx) {
	setCORS(ctx)
	setAnswerHeaders(ctx)
	switch {
	case ctx.IsOptions():
		ctx.SetStatusCode(fasthttp.StatusNoContent)
		return
	case ctx.IsGet() && string(ctx.Path()) == openAPIPath:
		serveOpenAPI(ctx)
		return
	}
	ctx.SetContentType("application/json")
	c := restCalls.Get().(*restCall)
	*c = restCall{s: s, ctx: ctx, now: s.clock.Now()}
	b, code := c.guarded(ctx.Response.SwapBody(nil)[:0])
	ctx.Response.SwapBody(b)
	s.rest.calls[c.cmd].count(code, s.clock.Now().Sub(c.now))
	*c = restCall{}
	restCalls.Put(c)
}

// The headers of every answer, in canonical form.
var corsHeaders = [3][2][]byte{
	{[]byte("Access-Control-Allow-Origin"), []byte("*")},
	{[]byte("Access-Control-Allow-Headers"), []byte("X-Requested-With")},
	{[]byte("Access-Control-Allow-Methods"), []byte("POST")},
}

func setCORS(ctx *fasthttp.RequestCtx) {
	for i := range corsHeaders {
		ctx.Response.Header.SetCanonical(corsHeaders[i][0], corsHeaders[i][1])
	}
}

// guarded answers the call. A panic, which is a bug of ours, costs its caller an
// internal error and not the node all its links.
func (c *restCall) guarded(b []byte) (out []byte, code int) {
	defer func() {
		if p := recover(); p != nil {
			c.s.rest.panics.Inc()
			c.leaveBody() // the directory may still have an op
			c.s.log.Error("panic in a REST call", "panic", p, "stack", string(debug.Stack()))
			out, code = fail(nil, codeInternal, "internal error")
		}
	}()
	return c.answer(b)
}

// answer appends the response. The order of the checks is part of the contract:
// URL and command, parameters, app, UserSig, administrator, rate, body.
func (c *restCall) answer(b []byte) ([]byte, int) {
	for _, check := range []func(*restCall) (int, string){
		(*restCall).checkURL, (*restCall).checkParameters, (*restCall).checkApp, (*restCall).checkIdentity, (*restCall).checkRate,
	} {
		if code, text := check(c); code != 0 {
			return fail(b, code, text)
		}
	}
	return c.cmd.serve(c, b)
}

var restPrefix = []byte("/v4/")

func (c *restCall) checkURL() (int, string) {
	if !c.ctx.IsPost() {
		return codeBadHTTP, fmt.Sprintf("method %q is not POST", brief(c.ctx.Method()))
	}
	path := c.ctx.Path()
	if name, ok := bytes.CutPrefix(path, restPrefix); ok {
		if c.cmd = commands[string(name)]; c.cmd != nil {
			return 0, ""
		}
	}
	rest, ok := strings.CutPrefix(string(path), "/v4/")
	if !ok || strings.Count(rest, "/") != 1 || rest[0] == '/' || rest[len(rest)-1] == '/' {
		return codeBadHTTP, fmt.Sprintf("path %q is not /v4/<service>/<command>", brief(path))
	}
	if c.cmd = commands[rest]; c.cmd == nil {
		return codeNoCommand, fmt.Sprintf("there is no command %q", brief([]byte(rest)))
	}
	return 0, ""
}

func (c *restCall) checkParameters() (int, string) {
	c.scanParams()
	id := c.params.app
	if len(id) == 0 {
		return codeNoSDKAppID, "parameter sdkappid is missing"
	}
	for _, d := range id {
		if d-'0' > 9 {
			return codeNoSDKAppID, fmt.Sprintf("parameter sdkappid %q is not a number", brief(id))
		}
	}
	identifier := c.params.identifier
	switch {
	case len(identifier) == 0:
		return codeNoIdentifier, "parameter identifier is missing"
	case !presence.ValidUserID(identifier):
		return codeNoIdentifier, fmt.Sprintf("parameter identifier %q is not a valid UserID", brief(identifier))
	}
	return 0, ""
}

// scanParams finds the parameters of the call.
func (c *restCall) scanParams() {
	if c.encoded = scanParams(c.ctx.URI().QueryString(), &c.params); c.encoded {
		return
	}
	args := c.ctx.QueryArgs()
	c.params = callParams{app: args.Peek("sdkappid"), identifier: args.Peek("identifier"), sig: args.Peek("usersig")}
}

// checkApp finds the app. That it has no key and that the caller's address is
// not allowed are faults of this stage too.
func (c *restCall) checkApp() (int, string) {
	text := c.params.app
	if id, err := strconv.ParseUint(string(text), 10, 32); err == nil {
		c.app = c.s.dir.App(uint32(id))
	}
	c.ip = remoteIP(c.ctx)
	switch {
	case c.app == nil:
		return codeUnknownApp, fmt.Sprintf("there is no app with sdkappid %s", brief(text))
	case !allowedIP(c.app, c.ip):
		c.s.audit.refused("REST caller's address is not allowed", "app", c.app.SDKAppID, "remote", c.ip.String())
		return codeForbiddenIP, fmt.Sprintf("address %s may not call the API of sdkappid %d", c.ip, c.app.SDKAppID)
	case len(c.app.Keys) == 0:
		return codeNoKey, fmt.Sprintf("the app with sdkappid %d has no key", c.app.SDKAppID)
	}
	c.identifier = nameOf(c.app, c.params.identifier)
	return 0, ""
}

// nameOf returns identifier in memory of its own: the app's, if it is an administrator.
func nameOf(app *directory.App, identifier []byte) string {
	for _, a := range app.Administrators {
		if a == string(identifier) {
			return a
		}
	}
	return string(identifier)
}

func allowedIP(app *directory.App, ip netip.Addr) bool {
	if len(app.AllowedIPs) == 0 {
		return true
	}
	for _, p := range app.AllowedIPs {
		if p.Contains(ip) {
			return true
		}
	}
	return false
}

// checkIdentity verifies the UserSig, then that its owner is an administrator.
func (c *restCall) checkIdentity() (int, string) {
	if code, text := c.authenticate(); code != 0 {
		return code, text
	}
	if !c.app.IsAdministrator(c.identifier) {
		c.s.audit.refused("REST caller is no administrator", "app", c.app.SDKAppID, "identifier", c.identifier, "remote", c.ip.String())
		return c.cmd.service.needsAdmin, fmt.Sprintf("identifier %q is not an administrator of sdkappid %d", c.identifier, c.app.SDKAppID)
	}
	return 0, ""
}

func (c *restCall) checkRate() (int, string) {
	perSecond := c.app.Limits.CallsPerSecond
	if c.cmd.batch {
		perSecond = c.app.Limits.BatchCallsPerSecond
	}
	if c.s.opts.Dev || perSecond <= 0 || c.s.rest.rates.take(c.app.SDKAppID, c.cmd.bucket, c.now, perSecond) {
		return 0, ""
	}
	return codeOverRate, fmt.Sprintf("command %s of sdkappid %d is over its limit of %g calls a second", c.cmd.name, c.app.SDKAppID, perSecond)
}

// scanCopy is scanBody on a copy of the body, which what is scanned aliases: it
// outlives the request.
func (c *restCall) scanCopy(member func(sc *jsonScanner, name string) error) (int, string) {
	return c.scanBody(string(c.ctx.PostBody()), member)
}

// scanBody reads the body, which must be a JSON object. member must consume each
// value and says what it found by other means than its error.
func (c *restCall) scanBody(body string, member func(sc *jsonScanner, name string) error) (int, string) {
	err := scanObject(body, member)
	switch {
	case err == nil:
		return 0, ""
	case c.cmd.service.jsonText != "":
		return c.cmd.service.badJSON, c.cmd.service.jsonText
	}
	return c.cmd.service.badJSON, fmt.Sprintf("the body is %v: %q", err, brief(c.ctx.PostBody()))
}

// await waits until done has a value, at most Options.CallTimeout. False: the
// directory still owns the op, which must be left alone.
func (s *Server) await(done <-chan struct{}) bool {
	select {
	case <-done:
		return true
	default:
	}
	late := make(chan struct{})
	timer := s.clock.AfterFunc(s.opts.CallTimeout, func() { close(late) })
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-late:
		return false
	}
}

// timedOut answers that the directory did not.
func (c *restCall) timedOut(b []byte) ([]byte, int) {
	return fail(b, c.cmd.service.timeout, fmt.Sprintf("%s was not answered within %v, retry", c.cmd.name, c.s.opts.CallTimeout))
}

// failOp answers a code of the directory about what.
func (c *restCall) failOp(b []byte, code int, what string) ([]byte, int) {
	switch code {
	case presence.CodeAccountNotExist:
		return fail(b, code, fmt.Sprintf("account %s does not exist", what))
	case directory.CodeUnavailable:
		return fail(b, code, fmt.Sprintf("%s cannot be done for %s now, retry", c.cmd.name, what))
	case directory.CodeUnknownApp:
		return fail(b, code, fmt.Sprintf("there is no app with sdkappid %d", c.app.SDKAppID))
	}
	if code < 0 { // internal to presence
		code = codeInternal
	}
	return fail(b, code, fmt.Sprintf("%s of %s failed", c.cmd.name, what))
}

// restOK appends the answer of a call that has nothing to tell.
func restOK(b []byte) ([]byte, int) { return append(appendOK(b), '}'), 0 }

// appendOK appends a successful envelope that is still open.
func appendOK(b []byte) []byte {
	return append(b, `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0`...)
}

// fail appends the answer of a failed call.
func fail(b []byte, code int, text string) ([]byte, int) {
	return append(appendFail(b, code, text), '}'), code
}

// appendFail appends a failed envelope that is still open.
func appendFail(b []byte, code int, text string) []byte {
	b = append(b, `{"ActionStatus":"FAIL","ErrorInfo":`...)
	b = appendString(b, text)
	b = append(b, `,"ErrorCode":`...)
	return strconv.AppendInt(b, int64(code), 10)
}

// brief cuts what a caller wrote to a length that fits into an error text.
func brief(b []byte) []byte {
	const maxBrief = 64
	return b[:min(len(b), maxBrief)]
}

// badHTTP answers what fasthttp could not read as a request. The connection is
// closed after it; unread input must not destroy the answer.
func (s *Server) badHTTP(ctx *fasthttp.RequestCtx, err error) {
	s.rest.badHTTP.Inc()
	setCORS(ctx)
	setAnswerHeaders(ctx)
	ctx.SetContentType("application/json")
	linger(ctx.Conn())
	text := "the HTTP request cannot be read"
	switch {
	case errors.As(err, new(*fasthttp.ErrSmallBuffer)):
		text = fmt.Sprintf("the request line and headers have more than %d bytes", readBufferSize)
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		text = fmt.Sprintf("the body has more than %d bytes", s.opts.MaxBody)
	case isTimeout(err):
		text = fmt.Sprintf("the request was not complete within %v", s.opts.ReadTimeout)
	}
	b, _ := fail(nil, codeBadHTTP, text)
	ctx.SetBody(b)
}

func isTimeout(err error) bool {
	if err == nil {
		return false
	}
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}
