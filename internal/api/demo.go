package api

import (
	"embed"
	"io/fs"
	"net/url"
	"path"
	"strings"

	"github.com/valyala/fasthttp"
)

// demoPrefix is where the demo page lies on the admin listener. It is a client
// of the SDK in sdk/js: a person logs in from several tabs and sees one force the
// other offline.
const demoPrefix = "/demo/"

// demoFiles has the page; demo/sdk is what sdk/js builds (make demo), and a test
// there holds the two together.
//
//go:embed demo
var demoFiles embed.FS

// Demo is what the demo page needs to know. Whoever reaches the admin listener
// can read it: it is for an app whose key is public.
type Demo struct {
	SDKAppID      uint32 `json:"SDKAppID"`
	Key           string `json:"Key"`           // signs UserSigs, in the page
	Administrator string `json:"Administrator"` // asks the REST API
	WS            string `json:"WS"`            // URL of the WebSocket listener, "" = there is none
	API           string `json:"API"`           // URL of the REST API, "" = there is none
}

var demoTypes = map[string]string{
	".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8",
	".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml",
}

// serveDemo answers what lies below demoPrefix.
func (s *Server) serveDemo(ctx *fasthttp.RequestCtx, t target) {
	d := s.opts.Demo()
	h := &ctx.Response.Header
	h.Set("Content-Security-Policy", d.policy())
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	name := strings.TrimPrefix(t.path, demoPrefix)
	switch name {
	case "":
		name = "index.html"
	case "config.json":
		writeJSON(ctx, fasthttp.StatusOK, d)
		return
	}
	kind := demoTypes[path.Ext(name)]
	body, err := fs.ReadFile(demoFiles, "demo/"+name) // which refuses names with dots for folders
	if kind == "" || err != nil {
		writeFault(ctx, notFound("there is nothing at this path"))
		return
	}
	ctx.SetContentType(kind)
	ctx.SetBody(body)
}

// policy is the page's Content-Security-Policy: its own files, and connections to
// this server's listeners.
func (d Demo) policy() string {
	connect := "connect-src 'self'"
	for _, raw := range []string{d.WS, d.API} {
		if u, err := url.Parse(raw); err == nil && u.Host != "" {
			connect += " " + u.Scheme + "://" + u.Host
		}
	}
	return "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; " + connect +
		"; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
}
