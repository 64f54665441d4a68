package api

import (
	"bytes"
	"net"
	"net/http/pprof"
	"net/netip"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fasthttp/fasthttpadaptor"
	"github.com/valyala/fasthttp/pprofhandler"
)

// maxProfile is the longest CPU profile or trace that pprof may record.
const maxProfile = time.Minute

const (
	consolePrefix = "/console/v1/"
	pprofPrefix   = "/debug/pprof/"
	textPlain     = "text/plain; charset=utf-8"
)

// newAdminFast returns a fasthttp server for an admin listener.
func (s *Server) newAdminFast() *fasthttp.Server {
	f := s.newFast(s.guardedAdmin)
	f.ErrorHandler = s.badAdminHTTP
	f.MaxRequestBodySize = min(f.MaxRequestBodySize, maxConsoleBody)
	return f
}

// guardedAdmin answers a request on the admin listener. A panic, which is a bug
// of ours, costs its caller an internal error and not the node all its links.
func (s *Server) guardedAdmin(ctx *fasthttp.RequestCtx) {
	defer func() {
		if p := recover(); p != nil {
			s.adminPanics.Inc()
			s.log.Error("panic in a call of the admin listener", "panic", p, "stack", string(debug.Stack()))
			ctx.Response.Reset()
			setPageHeaders(ctx)
			writeFault(ctx, newFault(fasthttp.StatusInternalServerError, "Internal", "internal error"))
		}
	}()
	s.serveAdmin(ctx)
}

// serveAdmin answers a request on the admin listener. Health is open to
// everybody; metrics and profiles are open to the machine itself and want the
// token from elsewhere; the console always wants it.
func (s *Server) serveAdmin(ctx *fasthttp.RequestCtx) {
	setPageHeaders(ctx)
	t, err := parseTarget(ctx.Request.Header.RequestURI())
	if err != nil {
		writeFault(ctx, err)
		return
	}
	switch {
	case strings.HasPrefix(t.path, consolePrefix):
		s.serveConsole(ctx, t)
	case t.path == "/livez":
		s.serveOpen(ctx, func() { s.serveLive(ctx) })
	case t.path == "/readyz":
		s.serveOpen(ctx, func() { s.serveReady(ctx) })
	case t.path == openAPIPath:
		s.serveOpen(ctx, func() { serveOpenAPI(ctx) })
	case t.path == "/metrics":
		s.serveInner(ctx, func() { s.serveMetrics(ctx) })
	case s.opts.Demo != nil && t.path+"/" == demoPrefix:
		ctx.SetStatusCode(fasthttp.StatusMovedPermanently)
		ctx.Response.Header.Set("Location", demoPrefix)
	case s.opts.Demo != nil && strings.HasPrefix(t.path, demoPrefix):
		s.serveOpen(ctx, func() { s.serveDemo(ctx, t) })
	case strings.HasPrefix(t.path, pprofPrefix):
		s.serveInner(ctx, func() { servePprof(ctx) })
	default:
		writeFault(ctx, notFound("there is nothing at this path"))
	}
}

// serveOpen answers a page that anybody may read.
func (s *Server) serveOpen(ctx *fasthttp.RequestCtx, page func()) {
	if !ctx.IsGet() && !ctx.IsHead() {
		writeFault(ctx, methodNotAllowed("GET, HEAD"))
		return
	}
	page()
}

// serveInner answers a page that callers from elsewhere need the token for.
func (s *Server) serveInner(ctx *fasthttp.RequestCtx, page func()) {
	if !fromThisMachine(ctx) {
		if err := s.authorize(ctx); err != nil {
			writeFault(ctx, err)
			return
		}
	}
	s.serveOpen(ctx, page)
}

// fromThisMachine reports whether a program on this machine asks for itself. A
// proxy that forwards for others says so, and so does a browser that asks for a
// page from elsewhere, unless that page's own name was led to this machine (DNS
// rebinding): then the name in Host is a public one.
func fromThisMachine(ctx *fasthttp.RequestCtx) bool {
	h := &ctx.Request.Header
	if !remoteIP(ctx).IsLoopback() || len(h.Peek("Forwarded")) > 0 || len(h.Peek("X-Forwarded-For")) > 0 || !isLocalName(string(h.Host())) {
		return false
	}
	switch string(h.Peek("Sec-Fetch-Site")) {
	case "", "none", "same-origin": // no browser, or what somebody typed there
		return true
	}
	return false
}

// isLocalName reports whether a Host is no name of the public DNS, whose names
// have a dot: an address, a bare name, or one below localhost.
func isLocalName(host string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	if _, err := netip.ParseAddr(strings.Trim(name, "[]")); err == nil {
		return true
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	return !strings.Contains(name, ".") || strings.HasSuffix(name, ".localhost")
}

func remoteIP(ctx *fasthttp.RequestCtx) netip.Addr {
	if tcp, ok := ctx.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// serveLive says that the process lives, and what is wrong with it that a
// restart would not mend.
func (s *Server) serveLive(ctx *fasthttp.RequestCtx) {
	text := "ok"
	if more := s.opts.Live(); more != "" {
		text += ", " + more
	}
	writeText(ctx, fasthttp.StatusOK, text)
}

func (s *Server) serveReady(ctx *fasthttp.RequestCtx) {
	if err := s.opts.Ready(); err != nil {
		writeText(ctx, fasthttp.StatusServiceUnavailable, "not ready: "+err.Error())
		return
	}
	writeText(ctx, fasthttp.StatusOK, "ok")
}

func (s *Server) serveMetrics(ctx *fasthttp.RequestCtx) {
	var b bytes.Buffer
	if err := s.opts.Metrics.Write(&b); err != nil {
		s.log.Error("metrics", "error", err)
		writeText(ctx, fasthttp.StatusInternalServerError, "cannot write metrics")
		return
	}
	ctx.SetContentType("text/plain; version=0.0.4; charset=utf-8")
	ctx.SetBody(b.Bytes())
}

// servePprof answers one of Go's profiles; how long it records is bounded.
func servePprof(ctx *fasthttp.RequestCtx) {
	if v := ctx.QueryArgs().Peek("seconds"); len(v) > 0 {
		n, err := strconv.ParseFloat(string(v), 64)
		if err != nil || !(n > 0 && n <= maxProfile.Seconds()) {
			writeFault(ctx, badRequest("seconds %q: want a number up to %v", v, maxProfile.Seconds()))
			return
		}
	}
	ctx.Response.Header.Del("X-Content-Type-Options") // its pages add their own
	if string(ctx.Path()) == pprofPrefix {
		pprofIndex(ctx) // PprofHandler answers 404 to its own index
		return
	}
	pprofhandler.PprofHandler(ctx)
}

var pprofIndex = fasthttpadaptor.NewFastHTTPHandlerFunc(pprof.Index)

func writeText(ctx *fasthttp.RequestCtx, status int, text string) {
	ctx.SetStatusCode(status)
	ctx.SetContentType(textPlain)
	ctx.SetBodyString(text + "\n")
}
