package webhook

import (
	"context"
	"net"
	"sync"
)

// FilesPerAttempt is how many files, all of them sockets, a Dispatcher keeps
// open at most for each of the MaxInFlight attempts that may run at once: so
// many of the open-file limit must be left to it. A few more are open for a
// moment when the resolver reads its configuration or a first TLS connection
// the certificates.
const FilesPerAttempt = connsPerAttempt + resolverSocketsPerAttempt

const (
	connsPerAttempt           = 2 // one that the attempt uses or dials, one that is idle
	resolverSocketsPerAttempt = 2 // one asks for IPv4 addresses, one for IPv6 addresses
)

// connSet knows every connection, so that their number is bounded and Close can end them.
type connSet struct {
	// Immutable after newConnSet.
	max int

	// Guarded by mu.
	mu      sync.Mutex
	open    map[*trackedConn]struct{}
	dialing int
	closed  bool
}

// trackedConn leaves its set when it has been closed.
type trackedConn struct {
	net.Conn
	set *connSet
}

func newConnSet(max int) *connSet { return &connSet{max: max, open: make(map[*trackedConn]struct{})} }

// reserve takes a place for a connection if one is free. The caller must follow
// with add or cancel.
func (s *connSet) reserve() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open)+s.dialing >= s.max {
		return false
	}
	s.dialing++
	return true
}

// cancel gives a reserved place back.
func (s *connSet) cancel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dialing--
}

// add puts a connection in the place reserved for it.
func (s *connSet) add(c net.Conn) net.Conn {
	t := &trackedConn{Conn: c, set: s}
	s.mu.Lock()
	s.dialing--
	s.open[t] = struct{}{}
	closed := s.closed
	s.mu.Unlock()
	if closed {
		t.Close() // the attempt that asked for it fails at its first write
	}
	return t
}

// Close implements net.Conn.
func (t *trackedConn) Close() error {
	err := t.Conn.Close()
	t.set.mu.Lock()
	defer t.set.mu.Unlock()
	delete(t.set.open, t)
	return err
}

func (s *connSet) len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.open)
}

// closeAll closes every connection and every later one.
func (s *connSet) closeAll() {
	s.mu.Lock()
	open := make([]*trackedConn, 0, len(s.open))
	for t := range s.open {
		open = append(open, t)
	}
	s.closed = true
	s.mu.Unlock()
	for _, t := range open {
		t.Close()
	}
}

// newResolver returns a resolver that has at most maxSockets sockets open. It is
// Go's own: the C library's cannot be bounded.
func newResolver(maxSockets int, dial func(ctx context.Context, network, addr string) (net.Conn, error)) *net.Resolver {
	places := make(chan struct{}, maxSockets)
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		select {
		case places <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		c, err := dial(ctx, network, addr)
		if err != nil {
			<-places
			return nil, err
		}
		return newResolverConn(ctx, c, func() { <-places }), nil
	}}
}

// resolverConn gives its place back when it is closed, and is closed when
// nobody waits for its answer any more: by itself the resolver would wait on.
type resolverConn struct {
	net.Conn
	done func()
}

func newResolverConn(ctx context.Context, c net.Conn, free func()) net.Conn {
	stop := context.AfterFunc(ctx, func() { c.Close() })
	rc := resolverConn{Conn: c, done: sync.OnceFunc(func() { stop(); free() })}
	if p, ok := c.(net.PacketConn); ok {
		return &resolverPacketConn{resolverConn: rc, packets: p}
	}
	return &rc
}

// Close implements net.Conn.
func (c *resolverConn) Close() error {
	defer c.done()
	return c.Conn.Close()
}

// resolverPacketConn is a net.PacketConn too: by that the resolver knows a
// datagram socket.
type resolverPacketConn struct {
	resolverConn
	packets net.PacketConn
}

// ReadFrom implements net.PacketConn.
func (c *resolverPacketConn) ReadFrom(p []byte) (int, net.Addr, error) { return c.packets.ReadFrom(p) }

// WriteTo implements net.PacketConn.
func (c *resolverPacketConn) WriteTo(p []byte, a net.Addr) (int, error) {
	return c.packets.WriteTo(p, a)
}
