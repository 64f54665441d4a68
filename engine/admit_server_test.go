package engine

import (
	"fmt"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/admission"
)

// dialFrom connects from a loopback address of the test's choice.
func (s *server) dialFrom(t testing.TB, addr string) *client {
	t.Helper()
	d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 0))}
	conn, err := d.Dial("tcp", s.Addr(listenerNative))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &client{t: t, conn: conn.(*net.TCPConn)}
}

// door tells what becomes of a connection that says nothing: how it is refused,
// 0 if it is let in.
func (s *server) door(t testing.TB, addr string) codec.Code {
	t.Helper()
	before := s.core.m.accepts.Get()
	c := s.dialFrom(t, addr)
	ended := make(chan codec.Code, 1)
	go func() {
		var m codec.LoginRefused
		if f, err := c.next(); err != nil || f.Type != codec.TypeLoginRefused || m.Unmarshal(f.Body) != nil {
			return
		}
		ended <- m.Code
	}()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		select {
		case code := <-ended:
			return code
		default:
		}
		if s.core.m.accepts.Get() > before {
			return 0
		}
	}
	t.Fatal("neither let in nor refused")
	return 0
}

// A flood from one address takes what is the address's, and nothing more: others
// log in as if it were not there.
func TestFloodFromOneAddress(t *testing.T) {
	const flood = 200
	for _, c := range []struct {
		name   string
		limits admission.Limits
		in     int
		why    admission.Refusal
	}{
		{"links", admission.Limits{Links: 10}, 10, admission.IPLinks},
		{"unauthenticated", admission.Limits{Pending: 10}, 10, admission.IPPending},
		{"rate", admission.Limits{Rate: 0.001, Burst: 10}, 10, admission.IPRate},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t, func(o *Options) {
				o.MaxLinks, o.PerIP = 300, c.limits
				o.FirstFrameTimeout, o.LoginTimeout = time.Hour, time.Hour // the flood's links stay
			})
			in := 0
			for i := range flood {
				switch code := s.door(t, "127.0.0.2"); code {
				case 0:
					in++
				case codec.CodeAddressLimited:
				default:
					t.Fatalf("refused with %v", code)
				}
				if i%50 == 0 {
					s.dialFrom(t, "127.0.0.3").login(fmt.Sprintf("u%d", i))
				}
			}
			if in != c.in {
				t.Errorf("%d of the flood were let in, want %d", in, c.in)
			}
			if n := s.core.m.refused[addressReason(c.why)].Get(); n != uint64(flood-in) {
				t.Errorf("%d refusals for %v counted, want %d", n, c.why, flood-in)
			}
		})
	}
}

// Silent connections from many addresses, each within its own limits, want all
// that links without a login may have. Who is logged in is not touched, and who logs in
// gets in while they keep coming: at once if each address has a share, else
// because the oldest of them give way.
func TestFloodFromManyAddresses(t *testing.T) {
	const most = 60
	for _, c := range []struct {
		name   string
		limits admission.Limits
		share  bool
	}{{"shares", admission.Limits{Pending: most / 4}, true}, {"no shares", admission.Limits{Links: 20}, false}} {
		t.Run(c.name, func(t *testing.T) {
			s := startServer(t, func(o *Options) {
				o.MaxLinks, o.MaxUnauthenticated, o.PerIP = 300, most, c.limits
				o.FirstFrameTimeout, o.LoginTimeout = time.Hour, time.Hour
			})
			first := s.dial(t)
			first.login("first")
			stop := s.floodFrom(t, 40)
			refused := func() (n uint64) {
				for _, r := range s.core.m.refused[1:] {
					n += r.Get()
				}
				return n
			}
			eventually(t, "the flood is refused, or its oldest give way", func() bool {
				return refused()+s.core.m.closes[closeCrowdedOut].Get() > 10
			})
			for i := range 20 {
				user := fmt.Sprintf("u%d", i)
				if c.share {
					s.dialFrom(t, "127.0.0.3").login(user)
				} else {
					eventually(t, user+" logs in", func() bool { return s.dialFrom(t, "127.0.0.3").tryLogin(user) })
				}
			}
			first.send(heartbeat)
			first.want(codec.TypeHeartbeatOK)
			stop()
			if n := s.core.Unauthenticated(); n > most {
				t.Errorf("%d links without a login, %d are allowed", n, most)
			}
			if gave := s.core.m.closes[closeCrowdedOut].Get(); (gave == 0) != c.share {
				t.Errorf("%d links gave way", gave)
			}
		})
	}
}

// floodFrom opens connections that say nothing from n addresses until stop is called.
func (s *server) floodFrom(t *testing.T, n int) (stop func()) {
	ended, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		pace := time.NewTicker(2 * time.Millisecond) // what a busy machine takes on beside the test
		defer pace.Stop()
		for i := 0; ; i++ {
			select {
			case <-ended:
				return
			case <-pace.C:
			}
			from := netip.AddrFrom4([4]byte{127, 0, 1, byte(1 + i%n)})
			d := net.Dialer{Timeout: patience, LocalAddr: net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, 0))}
			if conn, err := d.Dial("tcp", s.Addr(listenerNative)); err == nil {
				t.Cleanup(func() { _ = conn.Close() })
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(ended); <-done })
	t.Cleanup(stop)
	return stop
}

// With one loop or several, an address has exactly the links it may.
func TestAddressLimitOverLoops(t *testing.T) {
	const links, dialers = 25, 4
	s := startServer(t, func(o *Options) { o.PerIP = admission.Limits{Links: links} })
	var wg sync.WaitGroup
	var mu sync.Mutex
	in := 0
	for d := range dialers {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range links {
				c := s.dialFrom(t, "127.0.0.2")
				if c.tryLogin(fmt.Sprintf("u%d.%d", d, i)) {
					mu.Lock()
					in++
					mu.Unlock()
				}
			}
		}()
	}
	wg.Wait()
	if in != links {
		t.Errorf("%d links of one address, want %d", in, links)
	}
}
