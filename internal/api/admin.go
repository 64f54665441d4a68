package api

import "github.com/valyala/fasthttp"

// serveAdmin answers a request on the admin listener.
func (s *Server) serveAdmin(ctx *fasthttp.RequestCtx) {
	ctx.SetStatusCode(fasthttp.StatusNotFound)
}
