package engine

import (
	"net"
	"net/netip"

	"github.com/rollcall-im/rollcall/codec/proxy"
)

// transport is what stands between the reactor's connection and a session where
// bytes mean something before the client's first:
//
//	reactor -> PROXY header, if the listener has one from this address -> TLS, if the listener has it (tls.go) -> session
//
// A plain link has none: the reactor's context of its connection is the *Session.
// Of any other it is the *transport, which is the session's Conn. A transport that
// has nothing left to do leaves: from then on the link is a plain one and costs
// no more. All its fields are of the event loop.
type transport struct {
	loop    *Loop
	raw     rawConn
	session *Session // nil until the loop has let the link in
	tls     *secure  // whose transport this is; nil without TLS

	awaits bool     // the PROXY header is to come
	begun  bool     // some of it has come
	addr   net.Addr // the client's; nil while it is to come, or forgotten
}

// rawConn is the reactor's connection as a transport needs it; gnet.Conn satisfies it.
type rawConn interface {
	Conn
	// SetContext says whom the reactor gives what the connection receives: a *transport or *Session.
	SetContext(context any)
}

// newTransport returns what the link of a new connection needs, nil for a plain one.
func newTransport(l *Loop, raw rawConn, listener int) *transport {
	awaits, server := l.core.o.Listeners[listener].expectsProxy(raw.RemoteAddr()), l.core.secure[listener]
	switch {
	case server != nil:
		x := &secure{transport: transport{loop: l, raw: raw, awaits: awaits}}
		if !awaits {
			x.addr = raw.RemoteAddr()
		}
		x.tls, x.link = x, server.Link(x)
		return &x.transport
	case awaits:
		return &transport{loop: l, raw: raw, awaits: true}
	}
	return nil
}

// expectsProxy reports whether links from a must begin with a PROXY header. From
// any other address none is looked for, so that nobody names himself another.
func (lis *Listener) expectsProxy(a net.Addr) bool {
	return len(lis.ProxyNetworks) > 0 && within(lis.ProxyNetworks, addrPort(a).Addr())
}

// rawOf is the reactor's connection behind c.
func rawOf(c Conn) Conn {
	if t, ok := c.(*transport); ok {
		return t.raw
	}
	return c
}

// open is Loop.Open for the transport's link.
func (t *transport) open(listener int, now Instant) (ok bool, refusal []byte) {
	s, refusal := t.loop.Open(t, listener, now)
	if s == nil {
		if t.tls != nil {
			refusal = nil // it could be said in the clear only
		}
		return false, refusal
	}
	t.session = s
	t.raw.SetContext(t)
	return true, nil
}

// Write implements Conn. A refusal may be said before the header has come: it
// goes back the way it will come.
func (t *transport) Write(p []byte) (int, error) {
	if t.tls != nil {
		t.tls.link.Write(p)
		return len(p), nil
	}
	return t.raw.Write(p)
}

// OutboundBuffered implements Conn.
func (t *transport) OutboundBuffered() int { return t.raw.OutboundBuffered() }

// RemoteAddr implements Conn.
func (t *transport) RemoteAddr() net.Addr { return t.addr }

// data is Loop.Data for what the connection received.
func (t *transport) data(p []byte, now Instant) (taken int) {
	if t.session.conn != t {
		return len(p) // the session is over
	}
	if t.awaits && t.session.state == stateNew {
		n, more := t.header(p, now)
		if !more {
			return n
		}
		taken, p = n, p[n:]
	}
	if t.tls != nil {
		return taken + t.tls.data(p, now)
	}
	return taken + t.loop.Data(t.session, p, now)
}

// header takes the PROXY header. It returns the bytes that are done with and
// whether those behind are to be looked at.
func (t *transport) header(p []byte, now Instant) (taken int, more bool) {
	h, n, err := proxy.Next(p)
	if err != nil {
		t.loop.headerRefused(t.session, err, now)
		return len(p), false
	}
	if n == 0 {
		t.begun = true
		return 0, false
	}
	t.awaits, t.addr = false, t.raw.RemoteAddr() // LOCAL, UNKNOWN: the link's own (2.1, 2.2)
	if h.Source.IsValid() {
		t.addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(h.Source.Addr().Unmap(), h.Source.Port()))
	}
	t.loop.addressed(t.session, &h, now)
	return n, t.session.conn == t && n < len(p)
}

// closed is Loop.Closed for the end of the connection. One that ends before the
// first byte of its header is a load balancer's health check, and no fault.
func (t *transport) closed(err error, now Instant) {
	if t.awaits && t.begun && t.session.conn == t && err != nil {
		t.loop.core.m.proxyIncomplete.Inc()
	}
	if t.tls != nil {
		t.tls.closed()
	}
	t.loop.Closed(t.session, t, err, now)
}

// farewell says goodbye where TLS wants it, before a FIN. It reports whether all
// is sent and the connection stands.
func farewell(c Conn) (sent bool) {
	t, ok := c.(*transport)
	return !ok || t.tls == nil || t.tls.farewell()
}

// beforeClose is called before the connection behind c is closed.
func beforeClose(c Conn) {
	if t, ok := c.(*transport); ok && t.tls != nil {
		t.tls.closing()
	}
}

// forgetAddr lets go of the client's address, and with it, but for TLS, of the last
// thing that the transport was for.
func (t *transport) forgetAddr() {
	t.addr = nil
	if t.tls != nil {
		return
	}
	t.session.conn = t.raw
	t.raw.SetContext(t.session)
}
