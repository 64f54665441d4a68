package api

// The console API: what an operator may see and change, as JSON below
// /console/v1/. openapi.yaml describes every route of this file's table; a test
// holds the two to each other.
//
// Metrics, for docs/metrics.md:
//
//	rollcall_console_requests_total{route,status}    counter  calls by method, path pattern and HTTP status
//	rollcall_console_auth_failures_total{reason}     counter  refused tokens. reason: missing, wrong, limited (too many wrong ones from this address)

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Bounds of the console.
const (
	maxConsoleBody = 64 << 10    // bytes
	maxSweepWait   = time.Minute // for a dry run or an enforced policy
	maxAppsPage    = 1000
)

// route is one call: a method, a path below /console/v1/ and who answers.
type route struct {
	method string
	path   string // "{...}" takes any part
	query  []string
	body   bool // it has one
	handle func(*consoleCall) (reply, error)
}

var routes = []route{
	{"GET", "apps", []string{"limit", "after"}, false, (*consoleCall).listApps},
	{"POST", "apps", nil, true, (*consoleCall).createApp},
	{"GET", "apps/{SDKAppID}", nil, false, (*consoleCall).getApp},
	{"PATCH", "apps/{SDKAppID}", nil, true, (*consoleCall).patchApp},
	{"GET", "apps/{SDKAppID}/policy", nil, false, (*consoleCall).getPolicy},
	{"PUT", "apps/{SDKAppID}/policy", nil, true, (*consoleCall).putPolicy},
	{"POST", "apps/{SDKAppID}/policy/dry-run", nil, true, (*consoleCall).dryRun},
	{"GET", "apps/{SDKAppID}/webhook", nil, false, (*consoleCall).getWebhook},
	{"PUT", "apps/{SDKAppID}/webhook", nil, true, (*consoleCall).putWebhook},
	{"GET", "apps/{SDKAppID}/webhook/dead-letters", []string{"limit", "after"}, false, (*consoleCall).listDeadLetters},
	{"POST", "apps/{SDKAppID}/webhook/dead-letters/replay", nil, true, (*consoleCall).replayDeadLetters},
	{"POST", "apps/{SDKAppID}/webhook/dead-letters/skip", nil, true, (*consoleCall).skipDeadLetters},
	{"GET", "apps/{SDKAppID}/events", []string{"limit", "after"}, false, (*consoleCall).listEvents},
	{"GET", "apps/{SDKAppID}/timeouts", nil, false, (*consoleCall).getTimeouts},
	{"PUT", "apps/{SDKAppID}/timeouts", nil, true, (*consoleCall).putTimeouts},
	{"GET", "apps/{SDKAppID}/limits", nil, false, (*consoleCall).getLimits},
	{"PUT", "apps/{SDKAppID}/limits", nil, true, (*consoleCall).putLimits},
	{"GET", "apps/{SDKAppID}/keys", nil, false, (*consoleCall).listKeys},
	{"POST", "apps/{SDKAppID}/keys", nil, true, (*consoleCall).addKey},
	{"DELETE", "apps/{SDKAppID}/keys/{KeyID}", nil, false, (*consoleCall).retireKey},
	{"GET", "apps/{SDKAppID}/administrators", nil, false, (*consoleCall).getAdministrators},
	{"PUT", "apps/{SDKAppID}/administrators", nil, true, (*consoleCall).putAdministrators},
	{"GET", "apps/{SDKAppID}/users", []string{"status", "limit", "after"}, false, (*consoleCall).listUsers},
	{"GET", "apps/{SDKAppID}/users/{UserID}", nil, false, (*consoleCall).getUser},
	{"POST", "apps/{SDKAppID}/users/{UserID}/kick", nil, true, (*consoleCall).kickUser},
	{"GET", "nodes", nil, false, (*consoleCall).listNodes},
	{"POST", "store/backup", nil, true, (*consoleCall).backupStore},
}

// consoleCall is one console request. Nothing in it refers to the connection's buffers,
// so that an op may outlive it.
type consoleCall struct {
	s      *Server
	body   []byte
	app    uint32
	userID string
	keyID  uint32
	params map[string]string
}

// reply is a good answer. The zero value is 204, no content.
type reply struct {
	status   int
	location string
	body     any
}

func ok(body any) reply { return reply{status: fasthttp.StatusOK, body: body} }

// serveConsole answers a console request. Who has no token learns nothing of
// what exists.
func (s *Server) serveConsole(ctx *fasthttp.RequestCtx, t target) {
	name := "none"
	r, err := s.dispatch(ctx, t, &name)
	switch {
	case err != nil:
		if f := asFault(err); f.code == "Internal" {
			s.log.Error("console call failed", "route", name, "err", err)
		}
		writeFault(ctx, err)
	case r.body == nil:
		ctx.SetStatusCode(fasthttp.StatusNoContent)
	default:
		if r.location != "" {
			ctx.Response.Header.Set("Location", r.location)
		}
		writeJSON(ctx, r.status, r.body)
	}
	s.account(ctx, name)
}

// account counts a call, and logs it if it may have changed something.
func (s *Server) account(ctx *fasthttp.RequestCtx, name string) {
	status := ctx.Response.StatusCode()
	s.opts.Metrics.Counter(fmt.Sprintf("rollcall_console_requests_total{route=%q,status=\"%d\"}", name, status)).Inc()
	if status < 300 && !ctx.IsGet() && !ctx.IsHead() {
		s.log.Info("console call", "route", name, "path", string(ctx.Request.Header.RequestURI()), "status", status, "remote", remoteIP(ctx).String())
	}
}

// dispatch finds the route, whose name it sets, and runs it.
func (s *Server) dispatch(ctx *fasthttp.RequestCtx, t target, name *string) (reply, error) {
	if err := s.authorize(ctx); err != nil {
		return reply{}, err
	}
	parts, err := t.parts(consolePrefix)
	if err != nil {
		return reply{}, err
	}
	r, err := findRoute(string(ctx.Method()), parts)
	if err != nil {
		return reply{}, err
	}
	*name = r.method + " " + r.path
	c := &consoleCall{s: s}
	if err := c.setParts(r, parts); err != nil {
		return reply{}, err
	}
	if c.params, err = t.params(r.query); err != nil {
		return reply{}, err
	}
	if err := c.setBody(r, ctx.PostBody()); err != nil {
		return reply{}, err
	}
	return r.handle(c)
}

// findRoute returns the route of a path; HEAD takes that of GET.
func findRoute(method string, parts []string) (*route, error) {
	if method == fasthttp.MethodHead {
		method = fasthttp.MethodGet
	}
	var allow []string
	for i := range routes {
		r := &routes[i]
		if !r.matches(parts) {
			continue
		}
		if r.method == method {
			return r, nil
		}
		allow = append(allow, r.method)
	}
	if len(allow) == 0 {
		return nil, notFound("the console has nothing at this path")
	}
	return nil, methodNotAllowed(strings.Join(allow, ", "))
}

func (r *route) matches(parts []string) bool {
	pattern := strings.Split(r.path, "/")
	return slices.EqualFunc(pattern, parts, func(want, part string) bool {
		return want == part || want[0] == '{'
	})
}

// setParts takes the variables out of the path.
func (c *consoleCall) setParts(r *route, parts []string) (err error) {
	for i, want := range strings.Split(r.path, "/") {
		switch want {
		case "{SDKAppID}":
			c.app, err = parseID("SDKAppID", parts[i])
		case "{KeyID}":
			c.keyID, err = parseID("KeyID", parts[i])
		case "{UserID}":
			if c.userID = parts[i]; !presence.ValidUserID(c.userID) {
				err = badRequest("UserID %q: want 1 to %d printable ASCII characters", c.userID, presence.MaxUserID)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parseID reads a number from 1 to 2^32-1 as it is written, without sign or leading zeros.
func parseID(name, text string) (uint32, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n == 0 || strconv.FormatUint(n, 10) != text {
		return 0, badRequest("%s %q: want a number from 1 to 4294967295", name, text)
	}
	return uint32(n), nil
}

// setBody takes a copy of the body, if the route has one.
func (c *consoleCall) setBody(r *route, body []byte) error {
	switch {
	case len(body) > maxConsoleBody:
		return tooLarge(maxConsoleBody)
	case r.body:
		c.body = slices.Clone(body)
	case len(body) > 0:
		return badRequest("this call has no body, got %d bytes", len(body))
	}
	return nil
}

// limit returns the query parameter limit.
func (c *consoleCall) limit(def, most int) (int, error) {
	text, given := c.params["limit"]
	if !given {
		return def, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, badRequest("limit %q: want a number from 1 to %d", text, most)
	}
	return n, nil
}

// await runs start and waits until it calls done. The operation belongs to the
// directory until then; after a fault nothing of it may be touched.
func (c *consoleCall) await(wait time.Duration, start func(done func())) error {
	done, late := make(chan struct{}), make(chan struct{})
	timer := c.s.clock.AfterFunc(wait, func() { close(late) })
	defer timer.Stop()
	start(func() { close(done) })
	select {
	case <-done:
		return nil
	case <-late:
		return unavailable("no answer within %v; what was asked may still happen", wait)
	}
}

// settings returns the app that the path names.
func (c *consoleCall) settings() (*directory.App, error) {
	app := c.s.dir.App(c.app)
	if app == nil {
		return nil, notFound("SDKAppID %d does not exist", c.app)
	}
	return app, nil
}

// update changes the app that the path names. Of two updates at once the later
// one works on the outcome of the earlier; where both set the same, it wins.
// mutate may run more than once, and after the call has timed out.
func (c *consoleCall) update(mutate func(*directory.App) error) (*directory.App, error) {
	op := &directory.UpdateAppOp{SDKAppID: c.app, Mutate: mutate}
	return c.run(op, c.s.opts.CallTimeout)
}

// run has the directory make an update and waits for it.
func (c *consoleCall) run(op *directory.UpdateAppOp, wait time.Duration) (*directory.App, error) {
	mutate := op.Mutate
	op.NowMS = c.nowMS()
	op.Mutate = func(a *directory.App) error {
		if err := mutate(a); err != nil {
			return err
		}
		if err := a.Validate(); err != nil {
			return invalid("%s", err)
		}
		return nil
	}
	err := c.await(wait, func(done func()) {
		op.Done = func(*directory.UpdateAppOp) { done() }
		c.s.dir.UpdateApp(op)
	})
	if err != nil {
		return nil, err
	}
	return op.App, op.Err
}

func (c *consoleCall) nowMS() int64 { return c.s.clock.Now().UnixMilli() }
