package bench

import (
	"crypto/tls"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// secured is the TLS of a link: crypto/tls over the link's socket. The swarm's
// goroutine reads the socket and hands on what came. The handshake has a
// goroutine of its own, which waits for it; then the swarm reads and writes by
// itself, and a read that finds nothing is told so by a temporary error.
type secured struct {
	// Immutable after secure.
	conn *tls.Conn
	fd   int
	done func() // called by the handshake's goroutine when it is over

	// Guarded by mu.
	mu   sync.Mutex
	come *sync.Cond
	in   []byte
	end  bool  // nothing more will come
	up   bool  // the handshake is over
	err  error // and failed
}

// secure begins the handshake of a link that is connected.
func (s *swarm) secure(l *link) {
	t := &secured{fd: int(l.fd)}
	t.come = sync.NewCond(&t.mu)
	t.conn = tls.Client(t, s.o.TLS)
	index := l.index
	t.done = func() { s.wake(index, t) }
	l.tls = t
	go t.handshake()
}

func (t *secured) handshake() {
	err := t.conn.Handshake()
	t.mu.Lock()
	t.up, t.err = true, err
	t.mu.Unlock()
	t.done()
}

// feed takes what the socket gave.
func (t *secured) feed(p []byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.in = append(t.in, p...)
	t.come.Signal()
}

// stop ends a handshake that waits.
func (t *secured) stop() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end = true
	t.come.Signal()
}

func (t *secured) state() (up bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.up, t.err
}

// Read implements net.Conn.
func (t *secured) Read(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.in) == 0 && !t.end && !t.up {
		t.come.Wait()
	}
	switch {
	case len(t.in) == 0 && t.end:
		return 0, net.ErrClosed
	case len(t.in) == 0:
		return 0, notYet{}
	}
	n := copy(p, t.in)
	if t.in = t.in[n:]; len(t.in) == 0 {
		t.in = nil
	}
	return n, nil
}

// Write implements net.Conn. What a client says fits into an empty socket buffer.
// Once stop was called the socket's number may be another link's.
func (t *secured) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.end {
		return 0, net.ErrClosed
	}
	n, err := unix.Write(t.fd, p)
	if err == nil && n < len(p) {
		err = unix.EAGAIN
	}
	return max(n, 0), err
}

// notYet is a net.Error after which a tls.Conn goes on.
type notYet struct{}

func (notYet) Error() string   { return "nothing came yet" }
func (notYet) Timeout() bool   { return true }
func (notYet) Temporary() bool { return true }

func (t *secured) Close() error                     { return nil }
func (t *secured) LocalAddr() net.Addr              { return nil }
func (t *secured) RemoteAddr() net.Addr             { return nil }
func (t *secured) SetDeadline(time.Time) error      { return nil }
func (t *secured) SetReadDeadline(time.Time) error  { return nil }
func (t *secured) SetWriteDeadline(time.Time) error { return nil }

// finished is a link whose handshake is over; the link may have ended meanwhile.
type finished struct {
	index uint32
	tls   *secured
}

// wakeups are the handshakes that are over, and how the swarm learns of them.
type wakeups struct {
	eventfd int

	// Guarded by mu.
	mu     sync.Mutex
	over   []finished
	closed bool
}

// close ends the wakeups; handshakes may end later.
func (w *wakeups) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	unix.Close(w.eventfd)
}

// wakeIndex is the eventfd among the links of the epoll.
const wakeIndex = -1

// listenWakeups makes the swarm's epoll tell of handshakes.
func (s *swarm) listenWakeups() (err error) {
	if s.wakeups.eventfd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return err
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: wakeIndex}
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, s.wakeups.eventfd, &e)
}

// wake hands a finished handshake to the swarm. Any goroutine.
func (s *swarm) wake(index uint32, t *secured) {
	s.wakeups.mu.Lock()
	defer s.wakeups.mu.Unlock()
	if s.wakeups.closed {
		return
	}
	s.wakeups.over = append(s.wakeups.over, finished{index, t})
	_, _ = unix.Write(s.wakeups.eventfd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// shaken logs the links in whose handshakes are over.
func (s *swarm) shaken() {
	var count [8]byte
	_, _ = unix.Read(s.wakeups.eventfd, count[:])
	s.wakeups.mu.Lock()
	over := s.wakeups.over
	s.wakeups.over = nil
	s.wakeups.mu.Unlock()
	for _, f := range over {
		l := &s.links[f.index]
		if l.tls != f.tls {
			continue // it has ended
		}
		if _, err := f.tls.state(); err != nil {
			s.fail(l, FaultConnect, "TLS: %v", err)
			continue
		}
		if s.sayLogin(l) {
			s.readTLS(l)
		}
	}
}

// readTLS takes in what TLS has understood; false if the link has ended.
func (s *swarm) readTLS(l *link) bool {
	if up, _ := l.tls.state(); !up {
		return true
	}
	for {
		n, err := l.tls.conn.Read(s.plain)
		if n > 0 && !s.take(l, s.plain[:n]) {
			return false
		}
		if _, wait := err.(notYet); wait { //nolint:errorlint // tls.Conn gives it as it is
			return true
		}
		if err != nil {
			s.gone(l, "TLS: "+err.Error())
			return false
		}
	}
}
