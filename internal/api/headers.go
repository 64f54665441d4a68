package api

import "github.com/valyala/fasthttp"

// What answers tell browsers, which no program of an operator or backend needs:
// a page that gets hold of one of our addresses shall make nothing of it. In
// canonical form. The numbers are requirements of OWASP ASVS 5.0; docs/security.md
// has them all.
var (
	// everyAnswer goes with each answer of each listener.
	everyAnswer = [][2][]byte{
		{[]byte("X-Content-Type-Options"), []byte("nosniff")}, // 3.4.4
		{[]byte("Cache-Control"), []byte("no-store")},         // 14.3.2
	}
	// pageAnswer goes with what a browser can open: the admin listener's answers, all of them.
	pageAnswer = [][2][]byte{
		// 3.4.3, 3.4.6. pprof's index has its style inline.
		{[]byte("Content-Security-Policy"), []byte("default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; object-src 'none'; form-action 'none'; frame-ancestors 'none'")},
		{[]byte("Referrer-Policy"), []byte("no-referrer")}, // 3.4.5
	}
	// tlsAnswer goes with what was asked over TLS: a browser shall not ask in the clear any more, 3.4.1.
	tlsAnswer = [2][]byte{[]byte("Strict-Transport-Security"), []byte("max-age=31536000; includeSubDomains")}
)

// setAnswerHeaders sets what goes with each answer.
func setAnswerHeaders(ctx *fasthttp.RequestCtx) {
	h := &ctx.Response.Header
	for i := range everyAnswer {
		h.SetCanonical(everyAnswer[i][0], everyAnswer[i][1])
	}
	if ctx.IsTLS() {
		h.SetCanonical(tlsAnswer[0], tlsAnswer[1])
	}
}

// setPageHeaders is setAnswerHeaders for the admin listener. A page that needs
// more than the policy allows sets its own afterwards.
func setPageHeaders(ctx *fasthttp.RequestCtx) {
	setAnswerHeaders(ctx)
	for i := range pageAnswer {
		ctx.Response.Header.SetCanonical(pageAnswer[i][0], pageAnswer[i][1])
	}
}
