package engine

import (
	"bytes"
	"encoding/binary"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/ws"
	"github.com/rollcall-im/rollcall/internal/admission"
	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

var (
	limitLinks   = flag.Int("limit.links", 2000, "links of BenchmarkLink and BenchmarkStorm")
	limitRate    = flag.Float64("limit.rate", 0, "logins offered per second; 0: 512 outstanding at any time")
	limitLoops   = flag.Int("limit.loops", 1, "event loops of the servers")
	limitProcs   = flag.Int("limit.procs", 2, "GOMAXPROCS of the servers")
	limitProfile = flag.String("limit.profile", "", "directory for the CPU and heap profiles of the servers")
)

// limitWindow is how many logins are outstanding at once.
const limitWindow = 512

// limitClient opens many links from one thread and counts answers. It is the
// same for every server, so that what differs is the server's.
type limitClient struct {
	tb     testing.TB
	epoll  int
	server unix.SockaddrInet4
	source unix.SockaddrInet4
	hello  []byte // what comes before the login and is answered by HTTP; nil = nothing
	logins [][]byte
	beat   []byte
	fds    []int
	events []unix.EpollEvent
	buf    []byte
}

func newLimitClient(tb testing.TB, s *limitServer, n int) *limitClient {
	tb.Helper()
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { unix.Close(epoll) })
	ap := netip.MustParseAddrPort(s.addr)
	c := &limitClient{
		tb: tb, epoll: epoll, fds: make([]int, n), events: make([]unix.EpollEvent, limitWindow), buf: make([]byte, 4096),
		server: unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()},
	}
	speak := limitSpeech(s.kind)
	c.hello, c.beat = speak.hello, speak.beat
	for i := range n {
		c.logins = append(c.logins, speak.login(limitLogin(tb, i)))
	}
	return c
}

// speech is how a client speaks to a kind of server.
type speech struct {
	hello, beat []byte
	login       func(*codec.Login) []byte
}

func limitSpeech(kind string) speech {
	if kind != "ws" && kind != "wsjson" {
		return speech{beat: heartbeat, login: loginFrame}
	}
	k, protocol := wsLink{json: kind == "wsjson"}, wsNativeName
	if k.json {
		protocol = wsJSONName
	}
	return speech{
		hello: ws.AppendRequest(nil, &ws.Request{Host: "rollcall.example.com", Protocols: []string{protocol}, Origin: "https://chat.example.com"}),
		beat:  wsFrame(k.kind(), true, string(k.empty(codec.TypeHeartbeat))),
		login: func(m *codec.Login) []byte { return wsFrame(k.kind(), true, string(k.loginBytes(m))) },
	}
}

// limitLogin is a login as it comes from a real client: a user id of 16 bytes, a
// device id of 36, some hundred versions and models.
func limitLogin(tb testing.TB, i int) *codec.Login {
	user := fmt.Sprintf("user-%011d", i)
	sig, err := usersig.Sign(testSecret, testApp, user, time.Now().Unix(), 86400, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return &codec.Login{
		SDKAppID: testApp, UserID: []byte(user), UserSig: []byte(sig), Platform: codec.Platforms()[i%len(codec.Platforms())],
		DeviceID:   fmt.Appendf(nil, "%08x-0000-4000-8000-%012x", uint32(i)*2654435761, i),
		SDKVersion: fmt.Appendf(nil, "8.%d.%d", i%7, i%31), DeviceModel: fmt.Appendf(nil, "Model %c-%d", 'A'+i%2, i%199),
	}
}

// nextSource takes a fresh loopback address, so that ports in TIME_WAIT are in
// nobody's way.
var nextSource = uint32(os.Getpid()) << 6

func (c *limitClient) newSource() {
	nextSource++
	binary.BigEndian.PutUint32(c.source.Addr[:], 127<<24|(nextSource%(1<<23)|1<<23))
}

func (c *limitClient) check(err error) {
	if err != nil {
		c.tb.Helper()
		c.tb.Fatal(err)
	}
}

// open connects link i and sends its login.
func (c *limitClient) open(i int) {
	c.connect(i)
	if c.hello != nil {
		c.send(i, c.hello) // loggedIn goes on
		return
	}
	c.send(i, c.logins[i])
}

func (c *limitClient) connect(i int) {
	if i%10_000 == 0 || c.source.Addr[0] == 0 {
		c.newSource()
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	c.check(err)
	c.check(unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1))
	c.check(unix.Bind(fd, &c.source))
	c.check(unix.Connect(fd, &c.server))
	c.fds[i] = fd
	c.check(unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd), Pad: int32(i)}))
}

func (c *limitClient) send(i int, p []byte) {
	_, err := unix.Write(c.fds[i], p)
	c.check(err)
}

// answers waits for answers, shows each to f and returns how many f counts.
func (c *limitClient) answers(f func(i int, p []byte) (counts bool)) (counted int) {
	n, err := unix.EpollWait(c.epoll, c.events, 10_000)
	if err == unix.EINTR {
		return 0
	}
	c.check(err)
	if n == 0 {
		c.tb.Fatal("the server does not answer")
	}
	for _, ev := range c.events[:n] {
		got, err := unix.Read(int(ev.Fd), c.buf)
		c.check(err)
		if got == 0 {
			c.tb.Fatalf("the server closed link %d", ev.Pad)
		}
		if f(int(ev.Pad), c.buf[:got]) {
			counted++
		}
	}
	return counted
}

// pace waits until the n-th start since began is due, or something has arrived.
// It reports whether it is.
func (c *limitClient) pace(began time.Time, n int) bool {
	if *limitRate == 0 {
		return true
	}
	left := time.Until(began.Add(time.Duration(float64(n) / *limitRate * float64(time.Second))))
	if left <= 0 {
		return true
	}
	set := []unix.PollFd{{Fd: int32(c.epoll), Events: unix.POLLIN}}
	wait := unix.NsecToTimespec(left.Nanoseconds())
	_, _ = unix.Ppoll(set, &wait, nil)
	return set[0].Revents == 0
}

// rounds has every link start something, a window of them at a time, and waits
// for one answer to each.
func (c *limitClient) rounds(n int, start func(i int), answered func(i int, p []byte) bool) {
	began := time.Now()
	for begun, done := 0, 0; done < n; {
		for ; begun < n && begun-done < limitWindow && c.pace(began, begun); begun++ {
			start(begun)
		}
		if done < begun {
			done += c.answers(answered)
		}
	}
}

// loggedIn takes the answer to a login, or to the handshake before it.
func (c *limitClient) loggedIn(i int, p []byte) bool {
	switch {
	case c.hello != nil && bytes.HasPrefix(p, []byte("HTTP/1.1 101 ")):
		c.send(i, c.logins[i])
		return false
	case c.hello != nil && (bytes.Contains(p, []byte(`{"Type":"LoginOK"`)) || p[2] == byte(codec.TypeLoginOK)):
	case c.hello == nil && (p[0] == byte(codec.TypeLoginOK) || p[0] == 0):
	default:
		c.tb.Fatalf("the login was answered by %x", p)
	}
	return true
}

// any counts every answer.
func (c *limitClient) any(int, []byte) bool { return true }

func (c *limitClient) close(i int) { unix.Close(c.fds[i]) }

// login opens links from to to, and leaves them open.
func (c *limitClient) login(from, to int) {
	c.rounds(to-from, func(i int) { c.open(from + i) }, c.loggedIn)
}

// storm has n links connect, log in and go.
func (c *limitClient) storm(n int) {
	c.rounds(n, c.open, func(i int, p []byte) bool {
		if !c.loggedIn(i, p) {
			return false
		}
		c.close(i)
		return true
	})
}

// limitKinds are the servers side by side.
var limitKinds = []string{"bare", "rollcall", "ws", "wsjson"}

// BenchmarkLink holds limit.links links and reports what one costs the server:
// CPU time to accept and log in, for a heartbeat and at the end (FIN), and bytes
// while it is idle, as the slope between a quarter of the links and all of them.
//
//	go test ./engine -run '^$' -bench 'Link|Storm' -limit.links 18000 -count 3
func BenchmarkLink(b *testing.B) {
	for _, kind := range limitKinds {
		b.Run(kind, func(b *testing.B) {
			n := *limitLinks
			for range b.N {
				b.StopTimer()
				s := startLimitServer(b, kind)
				c := newLimitClient(b, s, n)
				b.StartTimer()
				measureLinks(b, s, c, n)
				s.stop()
			}
		})
	}
}

func measureLinks(b *testing.B, s *limitServer, c *limitClient, n int) {
	s.profile(b, "link", func() {
		c.login(0, n/4)
		low := s.memory()
		began := s.cpu()
		c.login(n/4, n)
		s.report(b, began, n-n/4, "us/login")
		full := s.memory()
		links := float64(n - n/4)
		b.ReportMetric(float64(full.anon-low.anon)/links, "RssAnon-B/link")
		b.ReportMetric(float64(full.heap-low.heap)/links, "heap-B/link")
		b.ReportMetric(float64(full.objects-low.objects)/links, "objects/link")
		if *limitProfile != "" {
			s.ask(fmt.Sprintf("profile %s/%s.heap", *limitProfile, s.kind))
		}
		began = s.cpu()
		c.rounds(n, func(i int) { c.send(i, c.beat) }, c.any)
		s.report(b, began, n, "us/beat")
		began = s.cpu()
		for i := range n {
			c.close(i)
		}
		s.gone()
		s.report(b, began, n, "us/close")
	})
}

// BenchmarkStorm has limit.links clients connect, log in and go, 512 at a time,
// and reports the server's CPU time for one.
func BenchmarkStorm(b *testing.B) {
	for _, kind := range limitKinds {
		b.Run(kind, func(b *testing.B) {
			n := *limitLinks
			s := startLimitServer(b, kind)
			c := newLimitClient(b, s, n)
			c.storm(n / 10)
			s.gone()
			s.profile(b, "storm", func() {
				began := s.cpu()
				for b.Loop() {
					c.storm(n)
				}
				s.gone()
				s.report(b, began, n*b.N, "us/link")
			})
			s.stop()
		})
	}
}

// profile runs f under the server's CPU profiler if that was asked for.
func (s *limitServer) profile(b *testing.B, name string, f func()) {
	if *limitProfile == "" {
		f()
		return
	}
	s.ask(fmt.Sprintf("cpu %s/%s-%s.cpu", *limitProfile, name, s.kind))
	f()
	s.ask("cpu")
}

func (s *limitServer) report(b *testing.B, began time.Duration, n int, unit string) {
	b.ReportMetric(float64((s.cpu()-began).Nanoseconds())/1000/float64(n), unit)
}

// BenchmarkLinkLife is a link's life but for sockets: accept, Login, decision by
// the embedded directory, LoginOK; then the end of the link and its decision.
func BenchmarkLinkLife(b *testing.B) {
	life := linkLife(b, 20_000)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		life(i)
	}
}

// linkLife returns a function that lets link i live. So many users take turns.
func linkLife(tb testing.TB, users int) func(i int) {
	r := newRig(tb, func(o *Options) {
		o.Directory, o.Clock = limitDirectory(tb), clock.System{}
		o.AcceptRate, o.MaxUnauthenticated = 1e6, o.MaxLinks/5
		o.PerIP = admission.Limits{Rate: 1e6, Burst: 1e6, Links: 100, Pending: 100}
	})
	r.loop.Attach(&quietDriver{})
	frames := make([][]byte, users)
	for i := range frames {
		frames[i] = loginFrame(limitLogin(tb, i))
	}
	c := &quietConn{fakeConn{addr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 12345}}}
	return func(i int) {
		now := r.core.Now()
		s, _ := r.loop.Open(c, 0, now)
		r.loop.Data(s, frames[i%len(frames)], now)
		r.takesTurn(s)
		if s.state != stateOnline {
			tb.Fatal(s.State())
		}
		r.loop.Closed(s, c, errFIN, now)
	}
}

// A link's life allocates its names, which the directory may keep, and what the
// directory does: nothing that grows with what stands around it.
func TestLinkLifeAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("under the race detector sync.Pool drops at random")
	}
	life := linkLife(t, 1000)
	i := 0
	for ; i < 2000; i++ {
		life(i)
	}
	if n := testing.AllocsPerRun(5000, func() { life(i); i++ }); n > 4 {
		t.Errorf("%v allocations from accept to close, want at most 4: UserID, device id, table", n)
	}
}

// An idle link holds no buffer, however its frames came: halves of frames wait in
// one of gnet's, of a KiB at least, which must go back when the rest is there.
func TestIdleLinkHoldsNoBuffer(t *testing.T) {
	for _, kind := range []string{"rollcall", "ws", "wsjson"} {
		t.Run(kind, func(t *testing.T) { testHoldsNoBuffer(t, kind) })
	}
}

func testHoldsNoBuffer(t *testing.T, kind string) {
	const n = 300
	s := startLimitServer(t, kind)
	c := newLimitClient(t, s, 3*n)
	t.Cleanup(func() {
		for _, fd := range c.fds {
			unix.Close(fd)
		}
	})
	c.login(0, n) // what is held once, by the first
	begin := s.memory()
	c.login(n, 2*n)
	whole := s.memory()
	bytes := 3 * n * len(c.hello)
	for _, p := range c.logins[:2*n] {
		bytes += len(p)
	}
	halves := func(frame func(i int) []byte) {
		for i := range n {
			half := frame(i)[:len(frame(i))/2]
			bytes += len(half)
			c.send(2*n+i, half)
		}
		s.await("received", bytes)
		for i := range n {
			rest := frame(i)[len(frame(i))/2:]
			bytes += len(rest)
			c.send(2*n+i, rest)
		}
		for left := n; left > 0; {
			left -= c.answers(c.any)
		}
	}
	for i := range n {
		c.connect(2*n + i)
	}
	if c.hello != nil {
		c.rounds(n, func(i int) { c.send(2*n+i, c.hello) }, c.any)
	}
	halves(func(i int) []byte { return c.logins[2*n+i] })
	halves(func(int) []byte { return c.beat })
	more := s.memory().heap - whole.heap - (whole.heap - begin.heap)
	if perLink := more / n; perLink > 512 {
		t.Errorf("a link whose frames came in halves holds %d bytes more than one whose came whole", perLink)
	}
}

// An idle WebSocket link costs at most 100 B more than a native one.
func TestIdleWebSocketCosts(t *testing.T) {
	const n = 1500
	perLink := make(map[string]int64)
	for _, kind := range []string{"rollcall", "ws", "wsjson"} {
		s := startLimitServer(t, kind)
		c := newLimitClient(t, s, 2*n)
		c.login(0, n) // tables that grow in steps
		low := s.memory()
		c.login(n, 2*n)
		perLink[kind] = (s.memory().heap - low.heap) / n
		for i := range c.fds {
			c.close(i)
		}
		s.stop()
	}
	for _, kind := range []string{"ws", "wsjson"} {
		if more := perLink[kind] - perLink["rollcall"]; more > 100 {
			t.Errorf("%s: %d bytes a link, %d more than a native one", kind, perLink[kind], more)
		}
	}
}

// BenchmarkAdmit is what the cap on links (MaxLinks) costs a link.
func BenchmarkAdmit(b *testing.B) {
	r := newRig(b)
	for b.Loop() {
		if !r.core.admit(presence.ProtocolNative) {
			b.Fatal("full")
		}
		r.core.gone(presence.ProtocolNative)
	}
}
