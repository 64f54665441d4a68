package bench

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// TLS of a swarm's links. crypto/tls cannot leave off in the middle of a
// handshake, so those run on a few goroutines, which wait for the server in them;
// once it is done a link is back on the swarm's goroutine, where reading leaves
// off when there is nothing to read.

// handshakers is how many handshakes are under way at once.
const handshakers = 16

// shaker does the handshakes of a swarm.
type shaker struct {
	config  *tls.Config
	timeout time.Duration
	work    chan *tlsEnd
	done    chan *tlsEnd
	wake    int // eventfd that says that done has something
	wg      sync.WaitGroup
}

// tlsEnd is a link's end of TLS.
type tlsEnd struct {
	index uint32
	raw   *fdConn
	conn  *tls.Conn
	err   error // of the handshake
}

// newShaker prepares the handshakes of up to n links at once.
func newShaker(o *Options, n int) (*shaker, error) {
	wake, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("cannot make an eventfd: %w", err)
	}
	config := o.TLS.Clone()
	if config.ServerName == "" {
		if a, err := netip.ParseAddrPort(o.Target); err == nil {
			config.ServerName = a.Addr().String()
		}
	}
	s := &shaker{config: config, timeout: o.AnswerTimeout, work: make(chan *tlsEnd, n), done: make(chan *tlsEnd, n), wake: wake}
	for range handshakers {
		s.wg.Go(s.run)
	}
	return s, nil
}

func (s *shaker) run() {
	for e := range s.work {
		e.err = e.conn.Handshake()
		e.raw.deadline = time.Time{}
		s.done <- e
		_, _ = unix.Write(s.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	}
}

// begin takes a connected socket.
func (s *shaker) begin(index uint32, fd int) *tlsEnd {
	raw := &fdConn{fd: fd, deadline: time.Now().Add(s.timeout)}
	e := &tlsEnd{index: index, raw: raw, conn: tls.Client(raw, s.config)}
	s.work <- e
	return e
}

// stop waits for the handshakes that are under way; their sockets have been shut down.
func (s *shaker) stop() {
	close(s.work)
	s.wg.Wait()
	unix.Close(s.wake)
}

// receive reads into buf what the server has said; EAGAIN if there is nothing more.
func (e *tlsEnd) receive(buf []byte) (int, error) {
	n, err := e.conn.Read(buf)
	switch {
	case n > 0:
		return n, nil
	case errors.Is(err, errAgain):
		return 0, unix.EAGAIN
	case errors.Is(err, io.EOF):
		return 0, nil
	}
	return 0, err
}

// fdConn is a socket that does not block as a net.Conn. With a deadline it waits
// until then for what it cannot do at once; without one reading says errAgain.
type fdConn struct {
	fd       int
	deadline time.Time
}

// errAgain is what crypto/tls takes for no end: it may be asked again.
var errAgain net.Error = again{}

type again struct{}

func (again) Error() string   { return "nothing to read" }
func (again) Timeout() bool   { return true }
func (again) Temporary() bool { return true }

func (c *fdConn) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(c.fd, p)
		switch {
		case err == nil && n == 0:
			return 0, io.EOF
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EAGAIN):
			return 0, err
		case c.deadline.IsZero():
			return 0, errAgain
		default:
			if err := c.await(unix.POLLIN); err != nil {
				return 0, err
			}
		}
	}
}

// Write waits where it must: records of a link's few bytes fit into an empty socket buffer.
func (c *fdConn) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		n, err := unix.Write(c.fd, p[done:])
		switch {
		case err == nil:
			done += n
		case errors.Is(err, unix.EINTR):
		case !errors.Is(err, unix.EAGAIN) || c.deadline.IsZero():
			return done, err
		default:
			if err := c.await(unix.POLLOUT); err != nil {
				return done, err
			}
		}
	}
	return len(p), nil
}

// await waits until the socket is ready or the deadline is over.
func (c *fdConn) await(events int16) error {
	left := time.Until(c.deadline)
	if left <= 0 {
		return fmt.Errorf("not done in time")
	}
	_, err := unix.Poll([]unix.PollFd{{Fd: int32(c.fd), Events: events}}, int(left.Milliseconds())+1)
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	return err
}

// What crypto/tls does not need of a net.Conn.

func (c *fdConn) Close() error                     { return nil }
func (c *fdConn) LocalAddr() net.Addr              { return nil }
func (c *fdConn) RemoteAddr() net.Addr             { return nil }
func (c *fdConn) SetDeadline(time.Time) error      { return nil }
func (c *fdConn) SetReadDeadline(time.Time) error  { return nil }
func (c *fdConn) SetWriteDeadline(time.Time) error { return nil }
