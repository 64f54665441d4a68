package engine

import (
	"errors"
	"fmt"
	"io"

	"github.com/rollcall-im/rollcall/internal/tlslink"
)

// secure is the TLS of a transport. It owns the transport's tlslink.Link: gives it
// what comes, and the session what that means. An idle link holds nothing but this
// and the state of TLS.
type secure struct {
	transport
	link *tlslink.Link

	unread int    // bytes that link left with the reactor: less than a record
	plain  []byte // what the session left of what the client said: less than a frame
	gone   bool   // the reactor's connection is closed: its file may be another's
}

// errTLS is why a link ends whose TLS is broken; rollcall_tls_failures_total says how.
var errTLS = errors.New("engine: TLS")

// data is Loop.Data for what the connection received.
func (x *secure) data(p []byte, now Instant) (taken int) {
	l := x.loop
	outer := l.begin(now)
	taken = x.take(p)
	l.finish(outer)
	return taken
}

func (x *secure) take(p []byte) (taken int) {
	s, fresh := x.session, len(p)-x.unread
	x.loop.asked = 0
	if fresh > 0 {
		s.seen = moment(x.loop.now.AfterMS) // any bytes are life
	}
	if s.state == stateDraining {
		x.loop.discard(s, len(p))
		return len(p)
	}
	if !s.reads() {
		return len(p) // nothing that it says counts, nor is it answered
	}
	held := x.link.Held()
	taken, err := x.link.Feed(p)
	x.unread = len(p) - taken
	if x.settle(err) {
		x.loop.recordProgress(s, fresh, x.link.Held() < held+taken)
	}
	return taken
}

// resume takes over what the handshake's goroutine did.
func (x *secure) resume() {
	if x.ended() {
		x.link.Drop()
		return
	}
	x.loop.asked = 0
	err := x.link.Resume()
	if x.link.Up() && !x.ended() && !x.session.has(flagHeard) {
		x.loop.heard(x.session) // as good as a first frame: no silent client gets that far
	}
	if x.settle(err) {
		x.loop.recordProgress(x.session, 0, true)
	}
}

// ended reports whether the session is over, or another's.
func (x *secure) ended() bool { return x.gone || x.session == nil || x.session.conn != &x.transport }

// settle ends the session if TLS has ended: with a farewell it is as after a FIN,
// else the link is lost. It bounds what TLS says by itself, as an answer to each
// KeyUpdate, to a client that does not read. It reports whether the session goes on.
func (x *secure) settle(err error) (on bool) {
	l := x.loop
	switch {
	case x.ended():
		return false
	case err == nil:
		return l.bounded(x.session)
	case err != io.EOF:
		err = fmt.Errorf("%w: %w", errTLS, err)
	}
	l.lost(x.session, err)
	l.io().Close(&x.transport)
	return false
}

// Send implements tlslink.Owner.
func (x *secure) Send(p []byte) {
	if !x.gone {
		x.raw.Write(p) //nolint:errcheck // a broken link is told by Closed
	}
}

// Plain implements tlslink.Owner.
func (x *secure) Plain(p []byte) {
	if x.ended() {
		return
	}
	if len(x.plain) > 0 {
		p = append(x.plain, p...)
	}
	n := x.loop.Data(x.session, p, x.loop.now)
	x.plain = nil
	if n < len(p) && !x.ended() {
		x.plain = append([]byte(nil), p[n:]...) // p is lent, or has room for a record
	}
}

// Wake implements tlslink.Owner.
func (x *secure) Wake() { x.loop.post(&item{tls: x}) }

// farewell tells the client that nothing more comes. It reports whether that is
// sent; else it waits, or the connection broke.
func (x *secure) farewell() (sent bool) {
	x.link.CloseNotify()
	return !x.gone && x.raw.OutboundBuffered() == 0
}

// closing is called before the connection is closed.
func (x *secure) closing() {
	if !x.gone && x.raw.OutboundBuffered() == 0 {
		x.link.CloseNotify()
	}
	x.link.Drop()
}

// closed is called when the connection is closed.
func (x *secure) closed() {
	x.gone, x.plain = true, nil
	x.link.Drop()
}
