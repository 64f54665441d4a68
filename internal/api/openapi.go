package api

import (
	_ "embed"

	"github.com/valyala/fasthttp"
)

const openAPIPath = "/openapi.yaml"

// openAPI describes both listeners; tests hold real requests and responses to it.
//
//go:embed openapi.yaml
var openAPI []byte

// serveOpenAPI answers with the description of the API.
func serveOpenAPI(ctx *fasthttp.RequestCtx) {
	ctx.SetContentType("application/yaml")
	ctx.SetBody(openAPI)
}
