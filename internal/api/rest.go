package api

import (
	"github.com/valyala/fasthttp"
)

// rest is the REST API's own state.
type rest struct {
	s *Server
}

func newREST(s *Server) *rest { return &rest{s: s} }

// serveAPI answers a request on the REST listener.
func (s *Server) serveAPI(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("application/json")
	ctx.SetBodyString(`{"ActionStatus":"FAIL","ErrorInfo":"no such command","ErrorCode":60009}`)
}

// badHTTP answers what fasthttp could not read as a request.
func (s *Server) badHTTP(ctx *fasthttp.RequestCtx, _ error) {
	ctx.SetContentType("application/json")
	ctx.SetBodyString(`{"ActionStatus":"FAIL","ErrorInfo":"bad HTTP","ErrorCode":60002}`)
	linger(ctx.Conn())
}
