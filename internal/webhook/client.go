package webhook

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// Bounds on what a receiver may make us read and keep.
const (
	maxResponseBody   = 64 << 10
	maxResponseHeader = 8 << 10
	// idleConn is shorter than what common HTTP servers allow, so that the
	// receiver seldom closes a connection just as we use it.
	idleConn = 4 * time.Second
	connAge  = 10 * time.Minute // a name that now points elsewhere is noticed by then
)

// Network is how receivers are reached. The zero value is the machine's.
type Network struct {
	// Resolve looks up the addresses of a host name.
	Resolve func(ctx context.Context, host string) ([]netip.Addr, error)
	// Dial connects to exactly this address. No name is looked up between the
	// check of an address and its dial.
	Dial func(ctx context.Context, addr netip.AddrPort) (net.Conn, error)
	// TLS is the base for https; nil means the system's roots.
	TLS *tls.Config
}

func (n *Network) setDefaults(resolverSockets int) {
	if n.Resolve == nil {
		resolver := newResolver(resolverSockets, new(net.Dialer).DialContext)
		n.Resolve = func(ctx context.Context, host string) ([]netip.Addr, error) {
			return resolver.LookupNetIP(ctx, "ip", host)
		}
	}
	if n.Dial == nil {
		n.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", addr.String())
		}
	}
	if n.TLS == nil {
		n.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
	}
}

// client sends attempts to one URL.
type client struct {
	life   context.Context // of the Dispatcher: fasthttp gives a dial none
	url    string
	target *target
	reach  reach
	net    *Network
	conns  *connSet
	trim   func() // closes idle connections to make room for a dial
	host   *fasthttp.HostClient

	// Atomic.
	retired atomic.Bool // the app has another URL now
}

// newClient returns a client for url with up to maxConns connections.
func newClient(life context.Context, url string, r reach, n *Network, conns *connSet, maxConns int, trim func()) (*client, error) {
	t, err := r.checkURL(url)
	if err != nil {
		return nil, err
	}
	c := &client{life: life, url: url, target: t, reach: r, net: n, conns: conns, trim: trim}
	c.host = &fasthttp.HostClient{
		Addr:                      t.addr,
		IsTLS:                     t.tls,
		TLSConfig:                 n.TLS,
		DialTimeout:               c.dial,
		MaxConns:                  maxConns,
		MaxIdleConnDuration:       idleConn,
		ConnPoolStrategy:          fasthttp.LIFO, // what is not needed any more falls idle
		MaxConnDuration:           connAge,
		ReadBufferSize:            maxResponseHeader,
		NoDefaultUserAgentHeader:  true,
		DisablePathNormalizing:    true,
		StreamResponseBody:        true,
		SecureErrorLogMessage:     true,
		MaxIdemponentCallAttempts: 2,
		RetryIfErr:                retryStale,
	}
	return c, nil
}

// retryStale allows one more try at once if the receiver had closed an idle
// connection before we used it: nothing of an answer came, so it read nothing
// or died reading. A repeat carries the same webhook-id.
func retryStale(_ *fasthttp.Request, _ int, err error) (resetTimeout, retry bool) {
	return false, errors.Is(err, io.EOF) || errors.Is(err, syscall.EPIPE)
}

// dial connects to the first address of the host that answers. Each address is
// checked after it was resolved and dialled as it is: a name cannot change in between.
func (c *client) dial(_ string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(c.life, timeout)
	defer cancel()
	addrs, err := c.resolve(ctx)
	if err != nil {
		return nil, err
	}
	for _, ip := range addrs {
		if err = c.reach.check(ip); err != nil {
			continue
		}
		var conn net.Conn
		if conn, err = c.connect(ctx, netip.AddrPortFrom(ip.Unmap(), c.target.port)); err == nil {
			return c.secure(ctx, conn)
		}
	}
	return nil, err
}

// connect dials within the bound on connections.
func (c *client) connect(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
	if err := c.makeRoom(ctx); err != nil {
		return nil, err
	}
	conn, err := c.net.Dial(ctx, addr)
	if err != nil {
		c.conns.cancel()
		return nil, err
	}
	return c.conns.add(conn), nil
}

// makeRoom takes a place for a connection. There is always one to be had, but
// for the moment in which a connection changes hands: no more attempts run than
// half the bound, so the other half is idle.
func (c *client) makeRoom(ctx context.Context) error {
	for !c.conns.reserve() {
		c.trim()
		if c.conns.reserve() {
			return nil
		}
		select {
		case <-time.After(time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// closeIfRetired closes idle connections that nobody will use. It follows each
// attempt, which may have begun before the URL changed.
func (c *client) closeIfRetired() {
	if c.retired.Load() {
		c.host.CloseIdleConnections()
	}
}

func (c *client) resolve(ctx context.Context) ([]netip.Addr, error) {
	if ip, err := netip.ParseAddr(c.target.host); err == nil {
		return []netip.Addr{ip}, nil
	}
	addrs, err := c.net.Resolve(ctx, c.target.host)
	if err == nil && len(addrs) == 0 {
		err = fmt.Errorf("host %q has no address", c.target.host)
	}
	return addrs, err
}

// secure does the TLS handshake, if there is one, within the attempt's time.
func (c *client) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	if !c.target.tls {
		return conn, nil
	}
	cfg := c.net.TLS.Clone()
	if cfg.ServerName == "" {
		cfg.ServerName = c.target.host
	}
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return &quietTLS{Conn: secured, raw: conn}, nil
}

// quietTLS closes without a farewell: writing one may take seconds if the
// receiver does not read, and the answer's length has told that it was whole.
type quietTLS struct {
	*tls.Conn
	raw net.Conn
}

// Close implements net.Conn.
func (c *quietTLS) Close() error { return c.raw.Close() }

// post makes one attempt at a batch at the time now.
func (c *client) post(batch []Event, w *directory.Webhook, now time.Time) result {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	c.fill(req, batch, w, now.Unix())
	if err := c.host.DoTimeout(req, resp, time.Duration(w.TimeoutMS)*time.Millisecond); err != nil {
		return result{outcome: classify(err)}
	}
	defer func() { _ = resp.CloseBodyStream() }()
	return judge(resp, w.StatusOnly, now)
}

// fill writes the attempt into req.
func (c *client) fill(req *fasthttp.Request, batch []Event, w *directory.Webhook, nowS int64) {
	id, body := requestID(batch, w), requestBody(batch, w)
	h := &req.Header
	h.DisableNormalizing()
	h.SetMethod(fasthttp.MethodPost)
	h.SetContentType("application/json")
	req.SetRequestURI(requestURL(c.target, batch, w, nowS))
	h.Set("webhook-id", id)
	h.Set("webhook-timestamp", strconv.FormatInt(nowS, 10))
	if w.Token != "" {
		h.Set("webhook-signature", Signature(w.Token, id, nowS, body))
	}
	req.SetBodyRaw(body)
}

// judge reads the answer as far as it counts.
func judge(resp *fasthttp.Response, statusOnly bool, now time.Time) result {
	r := result{status: resp.StatusCode()}
	r.outcome = judgeStatus(r.status)
	if r.outcome != outcomeOK {
		r.retryAfter = parseRetryAfter(resp.Header.Peek(fasthttp.HeaderRetryAfter), now)
		return r
	}
	if statusOnly {
		drainSmall(resp)
		return r
	}
	body, err := readBody(resp)
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		r.outcome = outcomeTooLarge
	case err != nil:
		r.outcome = classify(err)
	default:
		r.outcome = judgeBody(body)
	}
	return r
}

// readBody reads the body up to its bound.
func readBody(resp *fasthttp.Response) ([]byte, error) {
	var buf bytes.Buffer
	n, err := io.Copy(&buf, io.LimitReader(resp.BodyStream(), maxResponseBody+1))
	if n > maxResponseBody {
		return nil, fasthttp.ErrBodyTooLarge
	}
	return buf.Bytes(), err
}

// drainSmall reads a body that nobody looks at if that keeps the connection
// usable at little cost. What comes of it does not matter.
func drainSmall(resp *fasthttp.Response) {
	if n := resp.Header.ContentLength(); n >= 0 && n <= maxResponseHeader {
		_, _ = io.Copy(io.Discard, resp.BodyStream())
	}
}

// classify names the error of an attempt.
func classify(err error) outcome {
	var timeout interface{ Timeout() bool }
	var op *net.OpError
	var dns *net.DNSError
	switch {
	case errors.Is(err, ErrAddressRefused):
		return outcomeRefused
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return outcomeTimeout
	case errors.As(err, &dns), errors.As(err, &op) && op.Op == "dial":
		return outcomeConnect
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.ErrClosedPipe),
		errors.Is(err, net.ErrClosed), errors.Is(err, fasthttp.ErrConnectionClosed),
		errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return outcomeClosed
	}
	return outcomeConnect
}
