package rollcall

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"time"
)

// Client keeps one device of one user logged in, while Run runs. Its methods are
// safe for concurrent use.
type Client struct {
	// Immutable after New.
	opts    Options
	closing context.Context // done after Close
	stop    context.CancelFunc
	logouts chan *logout
	ended   chan struct{} // closed when Run has ended

	// Atomic.
	started atomic.Bool

	// Owned by Run.
	addr      string // where the next try goes: Options.Addr or where a redirect points
	redirects int    // in a row, without a login or back-off
	resume    bool   // the next login is a resume
	ticket    []byte
	pending   *logout // wanted, not yet answered
	result    error   // what Run returns; may be read when ended is closed
}

// logout is a wish to log out; the one who wants it waits until ctx is done.
type logout struct{ ctx context.Context }

// maxRedirects is how many redirects in a row are followed without back-off.
const maxRedirects = 3

// New checks the options and returns a client. Nothing happens before Run.
func New(o Options) (*Client, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	c := &Client{
		opts: o, logouts: make(chan *logout), ended: make(chan struct{}),
		addr: o.Addr, resume: o.Resume || len(o.Ticket) > 0, ticket: bytes.Clone(o.Ticket),
	}
	c.closing, c.stop = context.WithCancel(context.Background())
	return c, nil
}

// Run logs in and stays logged in until there is a reason not to: see the
// package documentation for what it returns. It may be called once.
func (c *Client) Run(ctx context.Context) error {
	if !c.started.CompareAndSwap(false, true) {
		return errors.New("rollcall: Run called twice")
	}
	defer close(c.ended)
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(c.closing, func() { cancel(ErrClosed) })()
	c.result = c.run(ctx)
	c.tell(StatusChange{Status: Ended, Err: c.result})
	return c.result
}

// Close ends Run and drops the link without a logout. It does not wait for Run.
// It may be called at any time and again.
func (c *Client) Close() error {
	c.stop()
	return nil
}

// Logout logs the device out and ends Run with nil. It returns nil when the
// server has answered. Without a link it waits for one; when the link is lost
// before the answer it tries again on the next. If ctx ends first Run goes on,
// and the logout may or may not have happened; if Run ends otherwise Logout
// returns what Run returned.
func (c *Client) Logout(ctx context.Context) error {
	select {
	case c.logouts <- &logout{ctx}:
	case <-c.ended:
		return c.result
	case <-c.closing.Done():
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	select {
	case <-c.ended:
		return c.result
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run tries until one try is the last.
func (c *Client) run(ctx context.Context) error {
	b := backoff{min: c.opts.BackoffMin, max: c.opts.BackoffMax, jitter: c.opts.Jitter}
	for {
		end := c.session(ctx)
		if end.final {
			return end.err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		wait := end.retryAfter + c.spread(&b, end)
		c.tell(StatusChange{Status: Waiting, Err: end.err, Wait: wait})
		if !sleep(ctx, wait) {
			return context.Cause(ctx)
		}
	}
}

// spread is how long to wait besides what the server asked for. Who is
// redirected at login goes there at once; those who leave one server together
// do not arrive at the next together.
func (c *Client) spread(b *backoff, end ending) time.Duration {
	if !end.follow {
		return b.next(end.held)
	}
	if end.held > 0 {
		return c.opts.Jitter(b.min)
	}
	return 0
}

// sleep reports whether d passed before ctx ended.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (c *Client) tell(s StatusChange) {
	if c.opts.OnStatus != nil {
		c.opts.OnStatus(s)
	}
}
