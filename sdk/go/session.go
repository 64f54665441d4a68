package rollcall

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// ending says how a try or a link ended.
type ending struct {
	err        error
	final      bool          // Run returns err
	retryAfter time.Duration // the server asked for
	held       time.Duration // how long it was logged in; 0 = not at all
	follow     bool          // the server named another: no back-off
}

// session is one try: connect, log in, stay until the link ends.
func (c *Client) session(ctx context.Context) ending {
	c.tell(StatusChange{Status: Connecting, Addr: c.addr})
	// The UserSig first: the server does not wait long for the login.
	sig, err := c.opts.UserSig(ctx)
	if err != nil && !(c.resume && len(c.ticket) > 0) {
		return ending{err: fmt.Errorf("rollcall: no UserSig: %w", err)}
	}
	msg := c.opts.login(sig, nil, c.resume)
	if c.resume {
		msg.Ticket = c.ticket
	}
	if err := msg.Check(); err != nil {
		return ending{err: fmt.Errorf("rollcall: %w", err), final: true}
	}
	l, err := c.connect(ctx)
	if err != nil {
		c.addr = c.opts.Addr
		return ending{err: err}
	}
	defer l.close()
	ok, end := c.login(ctx, l, &msg)
	if ok == nil {
		return end
	}
	since := time.Now()
	c.welcome(ok, msg.Resume)
	end = c.stay(ctx, l, time.Duration(ok.HeartbeatIntervalMS)*time.Millisecond)
	end.held = max(time.Since(since), 1)
	return end
}

func (c *Client) connect(ctx context.Context) (*link, error) {
	dialCtx, cancel := context.WithTimeout(ctx, c.opts.DialTimeout)
	defer cancel()
	conn, err := c.opts.Dial(dialCtx, "tcp", c.addr)
	if err == nil && c.opts.TLSConfig != nil {
		conn, err = c.secure(dialCtx, conn)
	}
	if err != nil {
		return nil, fmt.Errorf("rollcall: cannot connect to %q: %w", c.addr, err)
	}
	return newLink(ctx, conn, c.opts.AnswerTimeout), nil
}

// secure does the TLS handshake on conn, which it closes if that fails.
func (c *Client) secure(ctx context.Context, conn net.Conn) (net.Conn, error) {
	config := c.opts.TLSConfig
	if config.ServerName == "" {
		host, _, err := net.SplitHostPort(c.addr)
		if err != nil { // of a redirect
			conn.Close()
			return nil, err
		}
		config = config.Clone()
		config.ServerName = host
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return secured, nil
}

// login sends the login and waits for the answer. ok is nil if it is not LoginOK.
func (c *Client) login(ctx context.Context, l *link, msg *codec.Login) (ok *codec.LoginOK, end ending) {
	timeout := time.NewTimer(c.opts.AnswerTimeout)
	defer timeout.Stop()
	l.write(codec.AppendLogin(nil, msg))
	for {
		select {
		case <-ctx.Done():
			return nil, ending{err: context.Cause(ctx)}
		case <-timeout.C:
			end := ending{err: fmt.Errorf("%w: login at %q", ErrNoAnswer, c.addr)}
			c.addr = c.opts.Addr
			return nil, end
		case e := <-l.events:
			if e.err == nil && e.frame.Type == codec.TypeLoginOK {
				ok = new(codec.LoginOK)
				if err := ok.Unmarshal(e.frame.Body); err != nil {
					return nil, broken(err)
				}
				return ok, ending{}
			}
			if end, ended := c.handle(e, msg.Resume); ended {
				if e.err != nil {
					c.addr = c.opts.Addr // whatever answers there, it is no server
				}
				return nil, end
			}
		}
	}
}

// welcome notes what the next login needs and tells the app of this one.
func (c *Client) welcome(ok *codec.LoginOK, resumed bool) {
	c.resume, c.redirects, c.ticket = true, 0, nil
	if len(ok.Ticket) <= codec.MaxTicket {
		c.ticket = ok.Ticket
	}
	c.tell(StatusChange{Status: Online, Addr: c.addr})
	if c.opts.OnLogin == nil {
		return
	}
	c.opts.OnLogin(Login{
		InstID: ok.InstID, Ticket: bytes.Clone(c.ticket), ServerTime: time.UnixMilli(ok.ServerTimeMS),
		HeartbeatInterval: milliseconds(ok.HeartbeatIntervalMS), SilenceTimeout: milliseconds(ok.SilenceTimeoutMS),
		Kicked: ok.Kicked, Resumed: resumed, TakenBack: ok.TakenBack,
	})
}

// Bounds of the heartbeat interval, whatever the server says.
const (
	minHeartbeat = time.Second
	maxHeartbeat = time.Hour
)

// stay heartbeats until the link ends.
func (c *Client) stay(ctx context.Context, l *link, interval time.Duration) ending {
	beat := time.NewTicker(min(max(interval, minHeartbeat), maxHeartbeat))
	defer beat.Stop()
	q := newQuestion(l, c.opts.AnswerTimeout)
	defer q.timeout.Stop()
	if c.wantsLogout() {
		q.ask(codec.TypeLogout)
	}
	for {
		logouts := c.logouts
		if c.wantsLogout() {
			logouts = nil // one at a time
		}
		select {
		case <-ctx.Done():
			return ending{err: context.Cause(ctx)}
		case <-q.timeout.C:
			return ending{err: fmt.Errorf("%w: %v", ErrNoAnswer, q.open)}
		case <-beat.C:
			q.ask(codec.TypeHeartbeat)
		case c.pending = <-logouts:
			q.ask(codec.TypeLogout)
		case e := <-l.events:
			if end, ended := c.handle(e, false); ended {
				return end
			}
			q.alive()
		}
	}
}

// question is what the server has not answered yet: nothing, a heartbeat, or
// the logout, which is the last thing a client says.
type question struct {
	link    *link
	limit   time.Duration
	timeout *time.Timer
	open    codec.Type // 0 = nothing
}

func newQuestion(l *link, limit time.Duration) *question {
	q := &question{link: l, limit: limit, timeout: time.NewTimer(limit)}
	q.timeout.Stop()
	return q
}

// ask sends a frame. Time runs from the first that is not answered.
func (q *question) ask(t codec.Type) {
	if q.open == codec.TypeLogout && t != codec.TypeLogout {
		return
	}
	if q.open != t {
		q.open = t
		q.timeout.Reset(q.limit)
	}
	q.link.write(codec.AppendEmpty(nil, t))
}

// alive notes that a frame came: any will do for a heartbeat.
func (q *question) alive() {
	if q.open == codec.TypeHeartbeat {
		q.open = 0
		q.timeout.Stop()
	}
}

// wantsLogout reports whether a logout is wanted that somebody still waits for.
func (c *Client) wantsLogout() bool { return c.pending != nil && c.pending.ctx.Err() == nil }

// handle takes what came from the server and reports whether that ends the link.
func (c *Client) handle(e event, resume bool) (end ending, ended bool) {
	if e.err != nil {
		return ending{err: e.err}, true
	}
	switch e.frame.Type {
	case codec.TypeHeartbeatOK:
		return ending{}, false
	case codec.TypeLoginRefused:
		return c.refused(e.frame.Body, resume), true
	case codec.TypeForcedOffline:
		return c.forced(e.frame.Body), true
	case codec.TypeRedirect:
		return c.redirected(e.frame.Body), true
	case codec.TypeLogoutOK:
		if c.pending != nil {
			return ending{final: true}, true
		}
	}
	if e.frame.Optional() {
		return ending{}, false
	}
	return broken(fmt.Errorf("unexpected frame %v", e.frame.Type)), true
}

func (c *Client) refused(body []byte, resume bool) ending {
	var m codec.LoginRefused
	if err := m.Unmarshal(body); err != nil {
		return broken(err)
	}
	if m.Code == codec.CodeKickedOffline && c.wantsLogout() {
		return ending{final: true} // there is no instance: what the logout was for
	}
	err := &RefusedError{Code: m.Code, Text: m.Text, MayReconnect: m.MayReconnect, RetryAfter: milliseconds(m.RetryAfterMS), Resume: resume}
	return ending{err: err, final: !m.MayReconnect, retryAfter: err.RetryAfter}
}

func (c *Client) forced(body []byte) ending {
	var m codec.ForcedOffline
	if err := m.Unmarshal(body); err != nil {
		return broken(err)
	}
	err := &ForcedOfflineError{
		Code: m.Code, Text: m.Text, ByPlatform: m.ByPlatform, ByDeviceModel: m.ByDeviceModel,
		Time: time.UnixMilli(m.TimeMS), MayReconnect: m.MayReconnect, RetryAfter: milliseconds(m.RetryAfterMS),
	}
	if c.opts.OnForcedOffline != nil {
		c.opts.OnForcedOffline(err)
	}
	return ending{err: err, final: !m.MayReconnect, retryAfter: err.RetryAfter}
}

func (c *Client) redirected(body []byte) ending {
	var m codec.Redirect
	if err := m.Unmarshal(body); err != nil {
		return broken(err)
	}
	end := ending{err: fmt.Errorf("rollcall: %q redirects to %q", c.addr, m.Address), retryAfter: milliseconds(m.RetryAfterMS)}
	if c.redirects++; c.redirects > maxRedirects {
		c.redirects, c.addr = 0, c.opts.Addr // out of the circle
		return end
	}
	if m.Address != "" {
		c.addr = m.Address
	}
	end.follow = true
	return end
}

// broken ends a link whose server does not keep to the protocol.
func broken(err error) ending { return ending{err: fmt.Errorf("%w: %w", ErrProtocol, err)} }
