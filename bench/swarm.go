package bench

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/codec"
)

// swarm drives many client links on one goroutine over epoll: a link costs a
// small struct and a timer entry, no goroutine, no buffer.
//
// A scenario steers it by its hooks, which run on the swarm's goroutine.
type swarm struct {
	// Immutable after newSwarm.
	o         *Options
	pop       *population
	faults    *faults
	target    unix.SockaddrInet4
	tongue    tongue
	shaker    *shaker       // nil without TLS
	local     bool          // the target is on this machine: links come from many addresses
	beatEvery time.Duration // at most this long between heartbeats; 0 = what the server says
	epoll     int
	begin     time.Time
	// loggedIn is called when LoginOK came; ended when a link is closed, for
	// whatever reason; step at each turn: it opens what is due and returns when
	// it wants the next turn, or done.
	loggedIn func(l *link)
	ended    func(l *link, clean bool)
	step     func(now time.Duration) (next time.Duration, done bool)
	// notice is called when the server forces a link offline; true if that was wished for.
	notice func(l *link, m *codec.ForcedOffline) bool
	// turnedAway is called when a login is refused, pardon when a link fails; true if
	// that was to be expected: then it is no fault.
	turnedAway func(l *link, m *codec.LoginRefused) bool
	pardon     func(l *link, kind Fault) bool
	frames     map[int][]byte // Login frames made ahead, by user

	// Owned by run.
	links  []link
	used   int      // links[used:] have never been opened, and take no memory
	free   []uint32 // closed links
	timers timers
	buf    []byte
	out    []byte

	// Owned by run; others may read them after run has ended.
	login, logout, beat *hdrhistogram.Histogram
	lastLogin           time.Duration
	outstanding         int  // heartbeats to be answered
	quiet               bool // send no more heartbeats
	mute                bool // the first heartbeat comes after a whole interval; beatNow ends it

	// Atomic.
	opened, online, loginsOK, beatsSent, beatsOK atomic.Uint64
}

type linkState uint8

const (
	linkClosed linkState = iota
	linkConnecting
	linkShaking  // connected, the TLS handshake is under way elsewhere
	linkDoomed   // was to be closed while shaking
	linkGreeting // what opens the protocol was sent, the login comes when it is answered
	linkLoggingIn
	linkOnline
	linkBeating // online, with a heartbeat to be answered
	linkLeaving // Logout sent
	linkLeft    // LogoutOK or an expected notice came, the close is to come
	linkSilent  // sends nothing any more, the server is to close it
)

// link is one client. Times count from swarm.begin.
type link struct {
	index    uint32
	fd       int32
	user     int
	state    linkState
	dueSet   bool          // has an entry in timers, at entry
	intended time.Duration // when the login was due by the offered rate, later the last heartbeat
	due      time.Duration // when something must have happened, or is to be done
	entry    time.Duration
	sent     time.Duration // when the last frame went out
	interval time.Duration // of heartbeats
	silence  time.Duration // after which the server takes the link for dead
	tls      *tlsEnd       // nil without TLS
	rest     []byte        // of a frame that is not whole yet
	crossing bool          // linkLeaving, linkSilent: a heartbeat's answer may still come
}

// newSwarm returns a swarm with room for n links at once, for which checkFiles has seen to files.
func newSwarm(o *Options, pop *population, f *faults, n int) (*swarm, error) {
	a, err := netip.ParseAddrPort(o.Target)
	if err != nil {
		return nil, fmt.Errorf("target %q: %w", o.Target, err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("cannot make an epoll: %w", err)
	}
	s := &swarm{
		o: o, pop: pop, faults: f, epoll: epoll, begin: time.Now(),
		target: unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}, local: a.Addr().IsLoopback(),
		tongue: newTongue(o.Protocol, o.Target), links: make([]link, n), buf: make([]byte, 64<<10),
		login: newHistogram(), logout: newHistogram(), beat: newHistogram(),
		loggedIn: func(*link) {}, ended: func(*link, bool) {},
		notice:     func(*link, *codec.ForcedOffline) bool { return false },
		turnedAway: func(*link, *codec.LoginRefused) bool { return false },
		pardon:     func(*link, Fault) bool { return false },
	}
	if o.TLS == nil {
		return s, nil
	}
	if s.shaker, err = newShaker(o, n); err != nil {
		return nil, err
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: shakerEvent}
	if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, s.shaker.wake, &e); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	return s, nil
}

// shakerEvent stands in epoll's events for the shaker, where links have their index.
const shakerEvent = -1

// spareFiles is what the process needs besides links.
const spareFiles = 100

// checkFiles raises the soft limit of open files if need be.
func checkFiles(n int) error {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return fmt.Errorf("cannot read the limit of open files: %w", err)
	}
	want := uint64(n + spareFiles)
	if want > lim.Max {
		return fmt.Errorf("%d links need %d open files, this process may have %d", n, want, lim.Max)
	}
	if want > lim.Cur {
		lim.Cur = lim.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			return fmt.Errorf("cannot raise the limit of open files to %d: %w", lim.Max, err)
		}
	}
	return nil
}

func (s *swarm) now() time.Duration { return time.Since(s.begin) }

// run turns until step says done. It does not close links; kill does.
func (s *swarm) run() error {
	events := make([]unix.EpollEvent, 512)
	for {
		next, done := s.step(s.now())
		if done {
			return nil
		}
		n, err := unix.EpollWait(s.epoll, events, s.wait(next))
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		for i := range max(n, 0) {
			if events[i].Fd == shakerEvent {
				s.collect()
				continue
			}
			s.ready(&s.links[events[i].Fd], events[i].Events)
		}
		s.expire()
	}
}

// maxWait bounds a turn's sleep, so that step soon sees what others ask for.
const maxWait = 20 * time.Millisecond

// wait is how long the next turn may sleep, in whole milliseconds rounded up.
func (s *swarm) wait(next time.Duration) int {
	now := s.now()
	if at, ok := s.timers.first(); ok {
		next = min(next, at)
	}
	d := min(next-now, maxWait)
	if d <= 0 {
		return 0
	}
	return int((d + time.Millisecond - 1) / time.Millisecond)
}

// open starts the login of user, which was due at intended. It reports false if
// there is no room for another link.
func (s *swarm) open(user int, intended time.Duration) bool {
	l := s.unused()
	if l == nil {
		return false
	}
	l.user, l.intended, l.state = user, intended, linkConnecting
	s.opened.Add(1)
	s.at(l, s.now()+s.o.AnswerTimeout)
	if err := s.connect(l); err != nil {
		kind := FaultConnect
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.EADDRNOTAVAIL) {
			kind = FaultLocal
		}
		s.fail(l, kind, "%v%s", err, hint(err))
	}
	return true
}

// hint says what to look at when nobody listens.
func hint(err error) string {
	if errors.Is(err, unix.ECONNREFUSED) {
		return "; is the server running?"
	}
	return ""
}

// unused returns a link that is not in use, nil if there is none.
func (s *swarm) unused() *link {
	if n := len(s.free); n > 0 {
		l := &s.links[s.free[n-1]]
		s.free = s.free[:n-1]
		return l
	}
	if s.used == len(s.links) {
		return nil
	}
	l := &s.links[s.used]
	l.index, l.fd = uint32(s.used), -1
	s.used++
	return l
}

// connect opens the link's socket. Edge-triggered epoll with both directions
// takes one call per link: writable says that it is connected.
func (s *swarm) connect(l *link) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	l.fd = int32(fd)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if s.local {
		// The kernel picks the port at connect, when it knows both ends.
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
		src := source(int(l.index) / s.o.PerSource)
		if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: src}); err != nil {
			return fmt.Errorf("bind to %v: %w", netip.AddrFrom4(src), err)
		}
	}
	if err := unix.Connect(fd, &s.target); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(l.index)}
	if err := unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// source is the i-th source address: 127.1.0.1, 127.1.0.2 and so on.
func source(i int) [4]byte {
	return [4]byte{127, byte(1 + i/(250*250)), byte(i / 250 % 250), byte(1 + i%250)}
}

// ready handles what epoll told of a link.
func (s *swarm) ready(l *link, events uint32) {
	if l.state == linkConnecting && events&(unix.EPOLLOUT|unix.EPOLLERR|unix.EPOLLHUP) != 0 {
		if !s.connected(l) {
			return
		}
	}
	if l.state != linkClosed && !l.shaking() && events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.read(l)
	}
}

// shaking reports whether the link's socket is in use elsewhere.
func (l *link) shaking() bool { return l.state == linkShaking || l.state == linkDoomed }

// connected begins TLS, or says the first words; false if the connection failed.
func (s *swarm) connected(l *link) bool {
	if code, err := unix.GetsockoptInt(int(l.fd), unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
		err := unix.Errno(code)
		s.fail(l, FaultConnect, "connect: %v%s", err, hint(err))
		return false
	}
	if s.shaker != nil {
		l.state, l.tls = linkShaking, s.shaker.begin(l.index, int(l.fd))
		return true
	}
	return s.hello(l)
}

// collect takes over the links whose handshakes have ended.
func (s *swarm) collect() {
	var count [8]byte
	_, _ = unix.Read(s.shaker.wake, count[:])
	for {
		select {
		case e := <-s.shaker.done:
			s.shaken(&s.links[e.index], e.err)
		default:
			return
		}
	}
}

// shaken goes on behind the handshake. What epoll told meanwhile is made up for.
func (s *swarm) shaken(l *link, err error) {
	doomed := l.state == linkDoomed
	l.state = linkConnecting
	switch {
	case doomed:
		s.close(l, false)
	case err != nil:
		s.fail(l, FaultConnect, "TLS handshake: %v", err)
	case s.hello(l):
		s.read(l)
	}
}

// hello greets or sends the login; false if the connection failed.
func (s *swarm) hello(l *link) bool {
	if s.out = s.tongue.greet(s.out[:0], l.index); len(s.out) > 0 {
		l.state = linkGreeting
		return s.send(l, s.out)
	}
	return s.sendLogin(l)
}

// sendLogin sends the login; false if the connection failed.
func (s *swarm) sendLogin(l *link) bool {
	frame := s.frames[l.user]
	if frame == nil {
		var m codec.Login
		s.pop.login(l.user, &m)
		s.out = s.tongue.login(s.out[:0], &m)
		frame = s.out
	}
	l.state, l.sent = linkLoggingIn, s.now()
	return s.send(l, frame)
}

// send writes p, which always fits into an empty socket buffer.
func (s *swarm) send(l *link, p []byte) bool {
	n, err := s.write(l, p)
	if err == nil && n == len(p) {
		return true
	}
	if err == nil {
		err = fmt.Errorf("%d of %d bytes", n, len(p))
	}
	s.fail(l, FaultClosed, "write: %v", err)
	return false
}

func (s *swarm) write(l *link, p []byte) (int, error) {
	if l.tls != nil {
		return l.tls.conn.Write(p)
	}
	return unix.Write(int(l.fd), p)
}

// receive reads into buf; EAGAIN if there is nothing.
func (s *swarm) receive(l *link) (int, error) {
	if l.tls != nil {
		return l.tls.receive(s.buf)
	}
	return unix.Read(int(l.fd), s.buf)
}

// read takes in all there is and handles each whole frame.
func (s *swarm) read(l *link) {
	for {
		n, err := s.receive(l)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			s.gone(l, err.Error())
			return
		case n == 0:
			s.gone(l, "end of stream")
			return
		}
		if !s.take(l, s.buf[:n]) {
			return
		}
	}
}

// gone handles the server's end of the link.
func (s *swarm) gone(l *link, how string) {
	switch {
	case l.state == linkLeft, l.state == linkSilent:
		s.close(l, true)
	case l.state == linkLeaving && s.tongue.silentLogout():
		record(s.logout, s.now()-l.sent)
		s.close(l, true)
	case l.state == linkConnecting:
		s.fail(l, FaultConnect, "%s", how)
	default:
		s.fail(l, FaultClosed, "user %q: %s", s.pop.userID(l.user), how)
	}
}

// fail counts what went wrong with a link and closes it.
func (s *swarm) fail(l *link, kind Fault, format string, args ...any) {
	if !s.pardon(l, kind) {
		s.faults.add(kind, format, args...)
	}
	s.close(l, false)
}

// leave takes the link out of those that are online, into state. It reports
// whether a heartbeat was on its way.
func (s *swarm) leave(l *link, state linkState) (beating bool) {
	beating = l.state == linkBeating
	if beating {
		s.outstanding--
	}
	if beating || l.state == linkOnline {
		s.online.Add(^uint64(0))
	}
	l.state = state
	return beating
}

// live reports whether the link is logged in and nobody has begun to end it.
func (l *link) live() bool { return l.state == linkOnline || l.state == linkBeating }

func (s *swarm) close(l *link, clean bool) {
	if l.shaking() {
		_ = unix.Shutdown(int(l.fd), unix.SHUT_RDWR)
		l.state = linkDoomed
		return
	}
	s.leave(l, linkClosed)
	if l.fd >= 0 {
		unix.Close(int(l.fd))
	}
	l.fd, l.tls, l.rest, l.due = -1, nil, nil, 0
	s.free = append(s.free, l.index)
	s.ended(l, clean)
}

// reset makes the close of the link's socket an RST.
func (l *link) reset() {
	_ = unix.SetsockoptLinger(int(l.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1, Linger: 0})
}

// kill ends every link by RST, as a crash of the client's machine would. It is
// called after run, and closes the epoll.
func (s *swarm) kill() (killed int) {
	if s.shaker != nil {
		for i := range s.links[:s.used] {
			if l := &s.links[i]; l.shaking() {
				_ = unix.Shutdown(int(l.fd), unix.SHUT_RDWR)
			}
		}
		s.shaker.stop()
	}
	for i := range s.links[:s.used] {
		l := &s.links[i]
		if l.state == linkClosed {
			continue
		}
		l.reset()
		unix.Close(int(l.fd))
		l.state, l.fd = linkClosed, -1
		killed++
	}
	unix.Close(s.epoll)
	return killed
}
