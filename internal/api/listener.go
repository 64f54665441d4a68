package api

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// Bounds of a listener that need no setting.
const (
	minAcceptPause = 5 * time.Millisecond
	maxAcceptPause = time.Second
	maxLinger      = time.Second // how long a closed connection's input is drained
	maxLingerBytes = 8 << 20
	// So much of it is read at a time, with a pause: enough that a client soon is through with a body that is too
	// long, and too little for a crowd that sends nothing else to keep the processor busy.
	lingerStep  = 64 << 10
	lingerPause = 5 * time.Millisecond // not more: timers are late, and it is to be done within maxLinger
	// sendBuffer is what the kernel may hold for a caller that does not read; by itself
	// it takes up to 4 MB. The answer about 500 users has some 60 KiB.
	sendBuffer = 128 << 10
)

// listener makes a net.Listener fit for fasthttp, which ends for good at the
// first error of Accept: errors such as EMFILE are waited out here. It also
// bounds the open connections, in all and per address, and closes those above
// the bound at once, so that a flood costs no goroutine and no file.
type listener struct {
	net.Listener
	maxConns, maxPerIP int
	acceptErrors       *metrics.Counter
	refusedFull        *metrics.Counter
	refusedPerIP       *metrics.Counter

	closing chan struct{} // closed by Close

	// Guarded by mu.
	mu     sync.Mutex
	conns  map[*conn]struct{}
	perIP  map[netip.Addr]int // only with maxPerIP > 0
	closed bool
}

func newListener(ln net.Listener, name string, maxConns, maxPerIP int, m *metrics.Set) *listener {
	l := &listener{
		Listener:     ln,
		maxConns:     maxConns,
		maxPerIP:     maxPerIP,
		acceptErrors: m.Counter(fmt.Sprintf("rollcall_http_accept_errors_total{listener=%q}", name)),
		refusedFull:  m.Counter(fmt.Sprintf("rollcall_http_refused_total{listener=%q,reason=%q}", name, "max_conns")),
		refusedPerIP: m.Counter(fmt.Sprintf("rollcall_http_refused_total{listener=%q,reason=%q}", name, "max_conns_per_ip")),
		closing:      make(chan struct{}),
		conns:        make(map[*conn]struct{}),
		perIP:        make(map[netip.Addr]int),
	}
	m.Gauge(fmt.Sprintf("rollcall_http_connections{listener=%q}", name), func() float64 { return float64(l.open()) })
	return l
}

// Accept returns the next connection within the bounds; its error is
// net.ErrClosed, after Close, and no other.
func (l *listener) Accept() (net.Conn, error) {
	pause := minAcceptPause
	for {
		raw, err := l.Listener.Accept()
		switch {
		case err == nil:
			pause = minAcceptPause
			if c := l.admit(raw); c != nil {
				if tcp, ok := raw.(*net.TCPConn); ok {
					_ = tcp.SetWriteBuffer(sendBuffer) // without it all goes on as before
				}
				return c, nil
			}
			_ = raw.Close()
		case l.isClosed():
			return nil, net.ErrClosed
		default:
			l.acceptErrors.Inc()
			if !l.wait(pause) {
				return nil, net.ErrClosed
			}
			pause = min(2*pause, maxAcceptPause)
		}
	}
}

// wait pauses before the next try; false if the listener was closed meanwhile.
func (l *listener) wait(d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-l.closing:
		return false
	case <-t.C:
		return true
	}
}

// admit returns the tracked connection, nil if there is no room for it.
func (l *listener) admit(raw net.Conn) *conn {
	c := &conn{Conn: raw, l: l, ip: addrOf(raw)}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil
	case len(l.conns) >= l.maxConns:
		l.refusedFull.Inc()
		return nil
	case l.maxPerIP > 0 && l.perIP[c.ip] >= l.maxPerIP:
		l.refusedPerIP.Inc()
		return nil
	}
	l.conns[c] = struct{}{}
	if l.maxPerIP > 0 {
		l.perIP[c.ip]++
	}
	return c
}

func (l *listener) forget(c *conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conns, c)
	if l.maxPerIP == 0 {
		return
	}
	if l.perIP[c.ip]--; l.perIP[c.ip] <= 0 {
		delete(l.perIP, c.ip)
	}
}

func (l *listener) open() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.conns)
}

func (l *listener) isClosed() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// Close ends Accept; connections live on. It may be called twice.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil
	}
	l.closed = true
	close(l.closing)
	return l.Listener.Close()
}

// cut closes the sockets of all connections, or only of those that never sent
// a byte. Their goroutines find out and forget them.
func (l *listener) cut(silentOnly bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.conns {
		if !silentOnly || !c.heard.Load() {
			_ = c.Conn.Close()
		}
	}
}

// conn is a connection that its listener counts.
type conn struct {
	net.Conn
	l  *listener
	ip netip.Addr

	read, write deadline

	// Atomic.
	heard   atomic.Bool // a byte arrived
	lingers atomic.Bool // Close drains unread input first
	gone    atomic.Bool // Close was called
}

// Close implements net.Conn. A socket closed with unread input sends RST, which
// can destroy the answer on its way to the client; after linger, Close therefore
// half-closes and drains first, for at most maxLinger and maxLingerBytes.
func (c *conn) Close() error {
	if c.gone.Swap(true) {
		return net.ErrClosed
	}
	defer c.l.forget(c)
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok && c.lingers.Load() && half.CloseWrite() == nil {
		if c.Conn.SetReadDeadline(time.Now().Add(maxLinger)) == nil {
			c.drain()
		}
	}
	return c.Conn.Close()
}

// drain discards what comes, until the read deadline.
func (c *conn) drain() {
	for range maxLingerBytes / lingerStep {
		if _, err := io.CopyN(io.Discard, c.Conn, lingerStep); err != nil {
			return
		}
		time.Sleep(lingerPause)
	}
}

// linger makes the connection under c drain its input when it is closed.
func linger(c net.Conn) {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	if own, ok := c.(*conn); ok {
		own.lingers.Store(true)
	}
}

// addrOf returns the client's address, unmapped; the zero Addr if it has none.
func addrOf(c net.Conn) netip.Addr {
	if tcp, ok := c.RemoteAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

var _ net.Listener = (*listener)(nil)
