package api

import (
	"crypto/sha256"
	"crypto/subtle"
	"net/netip"
	"strings"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// authorize looks at the bearer token. An address that sent maxFailures wrong
// ones is locked out for a while, right tokens included: else guessing would go
// on unhindered.
//
// In dev mode everybody knows the token, so it says nothing about a browser's page
// that has led its own name to this machine (DNS rebinding): those have no access.
func (s *Server) authorize(ctx *fasthttp.RequestCtx) error {
	if s.opts.Dev && !isLocalName(string(ctx.Request.Header.Host())) {
		return newFault(fasthttp.StatusForbidden, "Forbidden", "in dev mode the console is for this machine: Host must be an address or a name without dots")
	}
	from, now := caller{ip: site(remoteIP(ctx))}, s.clock.Now()
	if !s.opts.Dev && s.wrongTokens.locked(from, now) {
		s.countAuthFailure("limited")
		f := newFault(fasthttp.StatusTooManyRequests, "TooManyFailures", "this address sent %d wrong tokens, it may try again in %v", maxFailures, lockout)
		f.retryAfter = lockout
		return f
	}
	scheme, token, _ := strings.Cut(string(ctx.Request.Header.Peek("Authorization")), " ")
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		s.countAuthFailure("missing")
		return unauthorized("this needs the header Authorization: Bearer <token>")
	}
	if !s.isAdminToken(token) {
		s.countAuthFailure("wrong")
		s.audit.refused("wrong admin token", "remote", remoteIP(ctx).String())
		if s.wrongTokens.failed(from, now) {
			s.audit.refused("address is locked out of the admin listener", "for", lockout.String(), "remote", from.ip.String())
		}
		return unauthorized("the bearer token is not the console's")
	}
	return nil
}

func unauthorized(text string) *fault {
	return newFault(fasthttp.StatusUnauthorized, "Unauthorized", "%s", text)
}

// isAdminToken takes the same time for every wrong token, whatever its length.
func (s *Server) isAdminToken(token string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(s.opts.AdminToken))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1 && s.opts.AdminToken != ""
}

func (s *Server) countAuthFailure(reason string) { s.authFailures(reason).Inc() }

func (s *Server) authFailures(reason string) *metrics.Counter {
	return s.opts.Metrics.Counter(`rollcall_console_auth_failures_total{reason="` + reason + `"}`)
}

// site is what counts as one address: of IPv6 the /64, which is what one caller has.
func site(ip netip.Addr) netip.Addr {
	if ip.Is4() {
		return ip
	}
	p, err := ip.Prefix(64)
	if err != nil {
		return netip.Addr{}
	}
	return p.Addr()
}
