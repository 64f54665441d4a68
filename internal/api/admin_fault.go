package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// fault is an error answer of the admin listener: {"Error":{"Code","Text"}}.
type fault struct {
	status     int
	code       string // a word of openapi.yaml's Error.Code
	text       string
	allow      string        // with 405
	retryAfter time.Duration // with 429 and 503
}

// Error implements error.
func (f *fault) Error() string { return f.text }

func newFault(status int, code, format string, args ...any) *fault {
	return &fault{status: status, code: code, text: fmt.Sprintf(format, args...)}
}

func badRequest(format string, args ...any) *fault {
	return newFault(fasthttp.StatusBadRequest, "BadRequest", format, args...)
}

func notFound(format string, args ...any) *fault {
	return newFault(fasthttp.StatusNotFound, "NotFound", format, args...)
}

func conflict(format string, args ...any) *fault {
	return newFault(fasthttp.StatusConflict, "Conflict", format, args...)
}

// invalid is for a request that is well formed and asks for what is out of bounds.
func invalid(format string, args ...any) *fault {
	return newFault(fasthttp.StatusUnprocessableEntity, "Invalid", format, args...)
}

func methodNotAllowed(allow string) *fault {
	f := newFault(fasthttp.StatusMethodNotAllowed, "MethodNotAllowed", "this path takes %s", allow)
	f.allow = allow
	return f
}

func tooLarge(limit int) *fault {
	return newFault(fasthttp.StatusRequestEntityTooLarge, "TooLarge", "the body must have at most %d bytes", limit)
}

func unavailable(format string, args ...any) *fault {
	f := newFault(fasthttp.StatusServiceUnavailable, "Unavailable", format, args...)
	f.retryAfter = 2 * time.Second
	return f
}

// codeFault translates a directory's code about what the call names.
func codeFault(code int, text string) error {
	switch code {
	case presence.CodeOK:
		return nil
	case directory.CodeUnknownApp, presence.CodeAccountNotExist, presence.CodeInstanceNotExist:
		return notFound("%s", text)
	case directory.CodeBadRequest:
		return invalid("%s", text)
	case directory.CodeConflict:
		return conflict("%s", text)
	}
	return unavailable("%s (code %d)", text, code)
}

// asFault returns err as an error answer. What is no fault yet is our own, and
// its text is for the log: serveConsole writes it there.
func asFault(err error) *fault {
	var f *fault
	if errors.As(err, &f) {
		return f
	}
	var d *directory.Error
	if errors.As(err, &d) {
		return asFault(codeFault(d.Code, d.Text))
	}
	return newFault(fasthttp.StatusInternalServerError, "Internal", "internal error")
}

// writeFault answers with an error.
func writeFault(ctx *fasthttp.RequestCtx, err error) {
	f := asFault(err)
	h := &ctx.Response.Header
	switch {
	case f.status == fasthttp.StatusUnauthorized:
		h.Set("WWW-Authenticate", `Bearer realm="rollcall console"`)
	case f.allow != "":
		h.Set("Allow", f.allow)
	case f.retryAfter > 0:
		seconds := (f.retryAfter + time.Second - 1) / time.Second
		h.Set("Retry-After", strconv.FormatInt(int64(seconds), 10))
	}
	type errorView struct{ Code, Text string }
	writeJSON(ctx, f.status, struct{ Error errorView }{errorView{f.code, f.text}})
}

// writeJSON answers with v, which always marshals.
func writeJSON(ctx *fasthttp.RequestCtx, status int, v any) {
	ctx.SetStatusCode(status)
	ctx.SetContentType("application/json")
	ctx.Response.ResetBody()
	enc := json.NewEncoder(ctx.Response.BodyWriter())
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		ctx.Error("cannot encode the answer", fasthttp.StatusInternalServerError)
	}
}

// badAdminHTTP answers what fasthttp could not read as a request.
func (s *Server) badAdminHTTP(ctx *fasthttp.RequestCtx, err error) {
	setPageHeaders(ctx)
	var small *fasthttp.ErrSmallBuffer
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		writeFault(ctx, tooLarge(maxConsoleBody))
	case errors.As(err, &small):
		writeFault(ctx, newFault(fasthttp.StatusRequestHeaderFieldsTooLarge, "TooLarge", "the request's header is too large"))
	default:
		writeFault(ctx, badRequest("this is no HTTP request, or it did not arrive in time"))
	}
	linger(ctx.Conn())
}
