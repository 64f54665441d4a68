package engine

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/admission"
	"github.com/rollcall-im/rollcall/internal/directory"
)

// from opens a link of an address; "" is one that is not known yet.
func (r *rig) from(addr string) (*link, *codec.LoginRefused) {
	r.tb.Helper()
	conn := &fakeConn{}
	if addr != "" {
		conn.addr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(addr), 4711))
	}
	s, refusal := r.loop.Open(conn, 0, r.core.Now())
	k := &link{rig: r, s: s, conn: conn}
	if s != nil {
		return k, nil
	}
	conn.out = refusal
	var no codec.LoginRefused
	k.want(codec.TypeLoginRefused, &no)
	k.wantNothing()
	return nil, &no
}

func (r *rig) mustOpen(addr string) *link {
	r.tb.Helper()
	k, no := r.from(addr)
	if no != nil {
		r.tb.Fatalf("%s was refused: %v", addr, no.Code)
	}
	return k
}

// wantClosedDoor checks that a link is refused, how it is told, and that it is counted.
func (r *rig) wantClosedDoor(addr string, why refusedReason, code codec.Code) {
	r.tb.Helper()
	links, before := r.core.Links(), r.core.m.refused[why].Get()
	k, no := r.from(addr)
	if k != nil {
		r.tb.Fatalf("%s was let in, want a refusal for %s", addr, refusedReasonNames[why])
	}
	if no.Code != code || !no.MayReconnect || no.RetryAfterMS < 1000 || no.RetryAfterMS > 10_000 {
		r.tb.Fatalf("%s was told %+v, want %v with a time to wait", addr, no, code)
	}
	if n := r.core.m.refused[why].Get() - before; n != 1 || r.core.Links() != links {
		r.tb.Fatalf("%s: %d refusals for %s counted, %d links more", addr, n, refusedReasonNames[why], r.core.Links()-links)
	}
}

const someIP, otherIP = "192.0.2.1", "192.0.2.2"

// Each limit refuses the link beyond it, with its reason, and nobody else.
func TestRefusedReasons(t *testing.T) {
	two := admission.Limits{Rate: 1, Burst: 2}
	for _, c := range []struct {
		name   string
		o      func(*Options)
		fill   []string // let in
		login  bool     // and logged in
		refuse string
		why    refusedReason
		code   codec.Code
		other  string // is let in nevertheless
	}{
		{"rate", func(o *Options) { o.AcceptRate = 2 }, []string{someIP, otherIP}, false, "192.0.2.9", refusedRate, codec.CodeOverloaded, ""},
		{"full", func(o *Options) { o.MaxLinks = 2 }, []string{someIP, otherIP}, true, "192.0.2.9", refusedFull, codec.CodeServerFull, ""},
		{"unauthenticated", func(o *Options) { o.MaxUnauthenticated = 2 }, []string{someIP, otherIP}, false, "192.0.2.9", refusedUnauthenticated, codec.CodeOverloaded, ""},
		{"ip_rate", func(o *Options) { o.PerIP = two }, []string{someIP, someIP}, true, someIP, addressReason(admission.IPRate), codec.CodeAddressLimited, otherIP},
		{"ip_links", func(o *Options) { o.PerIP.Links = 2 }, []string{someIP, someIP}, true, someIP, addressReason(admission.IPLinks), codec.CodeAddressLimited, otherIP},
		{"ip_unauthenticated", func(o *Options) { o.PerIP.Pending = 2 }, []string{someIP, someIP}, false, someIP, addressReason(admission.IPPending), codec.CodeAddressLimited, otherIP},
		{"net64_rate", func(o *Options) { o.PerNet64 = two }, []string{"2001:db8::1", "2001:db8::2"}, true, "2001:db8::3", addressReason(admission.NetRate), codec.CodeAddressLimited, "2001:db8:0:1::1"},
		{"net64_links", func(o *Options) { o.PerNet64.Links = 2 }, []string{"2001:db8::1", "2001:db8::2"}, true, "2001:db8::3", addressReason(admission.NetLinks), codec.CodeAddressLimited, "2001:db8:0:1::1"},
		{"net64_unauthenticated", func(o *Options) { o.PerNet64.Pending = 2 }, []string{"2001:db8::1", "2001:db8::2"}, false, "2001:db8::3", addressReason(admission.NetPending), codec.CodeAddressLimited, "2001:db8:0:1::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := refusedReasonNames[c.why]; got != c.name {
				t.Fatalf("the reason is called %q", got)
			}
			r := newRig(t, c.o)
			for i, a := range c.fill {
				k := r.mustOpen(a)
				if c.login {
					k.login(fmt.Sprintf("u%d", i), codec.Android, "d1")
				}
			}
			r.wantClosedDoor(c.refuse, c.why, c.code)
			r.wantClosedDoor(c.refuse, c.why, c.code)
			if c.other != "" {
				r.mustOpen(c.other)
			}
		})
	}
}

func addressReason(r admission.Refusal) refusedReason { return addressRefusalBase + refusedReason(r) }

// Addresses of an unlimited network are not counted, and limit no others.
func TestUnlimitedNetworks(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.PerIP, o.PerNet64 = admission.Limits{Links: 1}, admission.Limits{Links: 1}
		o.UnlimitedNetworks = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("2001:db8::/48")}
	})
	for range 5 {
		r.mustOpen(someIP)
		r.mustOpen("2001:db8::1")
	}
	for _, addr := range []string{otherIP, "2001:db8:1::1"} {
		r.mustOpen(addr)
		if k, _ := r.from(addr); k != nil {
			t.Fatalf("%s is limited and was let in twice", addr)
		}
	}
}

// A rate that is used up comes back with time.
func TestRateRecovers(t *testing.T) {
	r := newRig(t, func(o *Options) { o.AcceptRate = 2; o.PerIP = admission.Limits{Rate: 1, Burst: 1} })
	r.mustOpen(someIP)
	for range 10 { // no address uses up the node's rate by being refused
		r.wantClosedDoor(someIP, addressReason(admission.IPRate), codec.CodeAddressLimited)
	}
	r.mustOpen(otherIP)
	r.wantClosedDoor("192.0.2.3", refusedRate, codec.CodeOverloaded) // two were let in within this second
	r.clk.Advance(500 * time.Millisecond)
	r.mustOpen("192.0.2.4")
	r.clk.Advance(500 * time.Millisecond)
	r.mustOpen(someIP)
}

// While memory is full new links are refused; those that are there go on.
func TestMemoryFull(t *testing.T) {
	r := newRig(t)
	k := r.open()
	r.core.SetMemoryFull(true)
	r.wantClosedDoor(otherIP, refusedMemory, codec.CodeServerFull)
	k.login("alice", codec.Android, "d1")
	r.core.SetMemoryFull(false)
	r.mustOpen(otherIP)
}

// However a link ends, what it held comes back, once: with room for one link of
// an address, the next one gets in each time, and one more never.
func TestHoldsGivenBack(t *testing.T) {
	for name, end := range map[string]func(r *rig, k *link){
		"closed before the login": func(r *rig, k *link) { k.fin() },
		"first frame too late":    func(r *rig, k *link) { r.advance(7 * time.Second) },
		"refused login": func(r *rig, k *link) {
			m := activeLogin("alice", codec.Android, "d1")
			m.UserSig = []byte("x")
			k.send(loginFrame(m)...)
			k.fin()
		},
		"closed while deciding": func(r *rig, k *link) {
			r.dir.hold = true
			k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
			k.fin()
			r.dir.release()
			r.run()
		},
		"decided too late": func(r *rig, k *link) {
			r.dir.hold = true
			k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
			r.advance(12 * time.Second)
		},
		"closed when online": func(r *rig, k *link) { k.login("alice", codec.Android, "d1"); k.fin() },
		"logout": func(r *rig, k *link) {
			k.login("alice", codec.Android, "d1")
			k.send(logout...)
			k.fin()
		},
		"kicked": func(r *rig, k *link) {
			k.login("alice", codec.Android, "d1")
			r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseREST}})
			r.run()
			r.advance(2 * time.Second)
		},
		"silent": func(r *rig, k *link) { k.login("alice", codec.Web, "d1"); r.advance(62 * time.Second) },
		"slow reader": func(r *rig, k *link) {
			k.login("alice", codec.Web, "d1")
			k.conn.stuck = true
			k.send(bytes.Repeat(heartbeat, 17)...) // 68 of 64 bytes
		},
		"slow sender": func(r *rig, k *link) {
			k.login("alice", codec.Web, "d1")
			k.send(heartbeat[:1]...)
			r.advance(12 * time.Second)
		},
		"the reactor ends": func(r *rig, k *link) { r.loop.Closed(k.s, k.conn, nil, r.core.Now()) },
		"closed twice":     func(r *rig, k *link) { k.fin(); k.fin() },
	} {
		t.Run(name, func(t *testing.T) {
			for _, addr := range []string{someIP, "2001:db8::1"} {
				r := newRig(t, func(o *Options) {
					o.PerIP, o.PerNet64 = admission.Limits{Links: 1, Pending: 1}, admission.Limits{Links: 2}
					o.MaxUnauthenticated, o.OutboundCap = 1, 64
				})
				for range 3 {
					r.dir.hold = false
					k := r.mustOpen(addr)
					end(r, k)
					k.wantState("free")
					if c := r.core.gate.Counts(); c.Pending+c.LoggedIn != 0 || r.core.Unauthenticated() != 0 {
						t.Fatalf("%s: %+v and %d unauthenticated are left", addr, c, r.core.Unauthenticated())
					}
				}
			}
		})
	}
}

// A link that cannot have a place anywhere has taken none elsewhere.
func TestRefusedHoldsNothing(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.MaxLinks, o.MaxUnauthenticated, o.PerIP = 2, 1, admission.Limits{Links: 5}
	})
	r.mustOpen(someIP)
	for range 10 {
		r.wantClosedDoor(someIP, refusedUnauthenticated, codec.CodeOverloaded)
	}
	if err := r.core.Check(); err != nil {
		t.Fatal(err)
	}
}

// Under a flood of links that say nothing the oldest give way, after half a second;
// clients that log in are never in the way.
func TestCrowdOut(t *testing.T) {
	const most = 3
	r := newRig(t, func(o *Options) { o.MaxUnauthenticated = most })
	var silent []*link
	for range most {
		silent = append(silent, r.open())
		r.clk.Advance(100 * time.Millisecond)
	}
	r.clk.Advance(199 * time.Millisecond) // the oldest is 499 ms old
	r.wantClosedDoor(otherIP, refusedUnauthenticated, codec.CodeOverloaded)
	r.clk.Advance(time.Millisecond)
	k := r.mustOpen(otherIP)
	if no := silent[0].wantRefused(codec.CodeOverloaded); !no.MayReconnect {
		t.Fatalf("%+v", no)
	}
	if !silent[0].conn.closed {
		t.Fatal("who gave way is not closed")
	}
	r.wantCloses(closeCrowdedOut, 1)
	r.wantClosedDoor(otherIP, refusedUnauthenticated, codec.CodeOverloaded) // the next is 400 ms old
	for i := range 100 {
		k.login(fmt.Sprintf("u%d", i), codec.Android, "d1")
		k = r.mustOpen(otherIP)
	}
	k.fin()
	for _, s := range silent[1:] {
		s.wantState("new")
	}
}

// Where addresses have a share of the places for links without a login, silent
// ones of many addresses leave room: nobody gives way, and who comes new gets in.
func TestRoomForStrangers(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxUnauthenticated, o.PerIP.Pending = 60, 15 })
	for i := range 400 {
		r.from(fmt.Sprintf("198.51.100.%d", i%40))
	}
	if n := r.core.Unauthenticated(); n < 40 || n >= 60 {
		t.Fatalf("40 addresses have %d of 60 places", n)
	}
	for i := range 100 {
		r.mustOpen(otherIP).login(fmt.Sprintf("u%d", i), codec.Android, "d1")
	}
	for range 4 { // known now: its share does not depend on the room
		r.mustOpen(otherIP)
	}
	r.wantCloses(closeCrowdedOut, 0)
}

// Who is being decided, or has his last frame, counts as unauthenticated and does not give way.
func TestCrowdOutSparesLogins(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxUnauthenticated = 2 })
	r.dir.hold = true
	a, b := r.open(), r.open()
	a.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
	b.send(heartbeat...) // refused, and has a second to read that
	b.wantState("draining")
	r.clk.Advance(600 * time.Millisecond)
	r.wantClosedDoor(otherIP, refusedUnauthenticated, codec.CodeOverloaded)
	r.clk.Advance(10 * time.Second)
	r.wantClosedDoor(otherIP, refusedUnauthenticated, codec.CodeOverloaded)
	r.run()
	a.wantState("draining")
	r.dir.release()
	r.run()
}

// The list of those who wait keeps no more than twice as many as ever wait at once.
func TestNewcomersBounded(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxUnauthenticated = 100 })
	r.open() // the oldest, in front of all the others
	for i := range 5000 {
		k := r.mustOpen(otherIP)
		if i%2 == 0 {
			k.login("alice", codec.Android, "d1")
		}
		k.fin()
	}
	if n := cap(r.loop.newcomers.ids); n > 8 {
		t.Fatalf("the list has room for %d, two waited at once", n)
	}
	for range 99 {
		r.mustOpen(otherIP)
	}
	if n := cap(r.loop.newcomers.ids); n > 400 {
		t.Fatalf("the list has room for %d, 100 wait", n)
	}
	r.clk.Advance(2 * time.Second)
	for range 1000 {
		r.mustOpen(otherIP)
		r.clk.Advance(50 * time.Millisecond)
	}
	if n := cap(r.loop.newcomers.ids); n > 400 {
		t.Fatalf("the list has room for %d, 100 wait", n)
	}
}

// Behind a load balancer its clients are counted, each by its own address, once
// that is known; the balancer's own address is not.
func TestLimitsBehindProxy(t *testing.T) {
	r := newRig(t, fromBalancers, func(o *Options) { o.PerIP.Links, o.AcceptRate = 1, 4 })
	from := func(addr string) *proxied {
		k := r.openProxied()
		k.send(proxyHeader(2, netip.MustParseAddrPort(addr+":50123"), serviceAddr)...)
		return k
	}
	a := from("203.0.113.1")
	a.wantState("new")
	b := from("203.0.113.1")
	b.wantRefused(codec.CodeAddressLimited)
	b.wantState("free")
	if !b.conn.closed {
		t.Fatal("not closed")
	}
	r.wantCloses(closeAddressLimited, 1)
	if n := r.core.m.refused[addressReason(admission.IPLinks)].Get(); n != 1 {
		t.Fatalf("%d refusals counted", n)
	}
	from("203.0.113.2").wantState("new")

	a.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
	a.want(codec.TypeLoginOK, nil)
	from("203.0.113.1").wantState("free") // its address is forgotten, its place is not
	a.fin()
	from("203.0.113.1").wantState("new")
	for range 10 { // as many as the node lets in a second: those refused took nothing of that
		from("203.0.113.1").wantState("free")
	}
	from("203.0.113.3").wantState("new")
	if s, _ := r.loop.Open(&fakeConn{}, 0, r.core.Now()); s != nil {
		t.Fatal("a fifth link in a second was let in")
	}
}

// BenchmarkOpen is a link from accept to close without a word, with all limits on.
func BenchmarkOpen(b *testing.B) {
	for _, c := range []struct {
		name   string
		change func(*Options)
	}{
		{"unlimited", func(*Options) {}},
		{"limited", func(o *Options) {
			o.AcceptRate, o.MaxUnauthenticated = 1e6, 200
			o.PerIP = admission.Limits{Rate: 1e6, Burst: 1e6, Links: 100, Pending: 50}
			o.PerNet64 = o.PerIP
		}},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, c.change)
			conn := &fakeConn{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(someIP + ":4711"))}
			b.ReportAllocs()
			for b.Loop() {
				r.clk.Advance(time.Millisecond)
				s, _ := r.loop.Open(conn, 0, r.core.Now())
				r.loop.Closed(s, conn, errFIN, r.core.Now())
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		r := newRig(b, func(o *Options) { o.PerIP = admission.Limits{Rate: 0.001} })
		conn := &fakeConn{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(someIP + ":4711"))}
		r.loop.Open(conn, 0, r.core.Now())
		b.ReportAllocs()
		for b.Loop() {
			if s, _ := r.loop.Open(conn, 0, r.core.Now()); s != nil {
				b.Fatal("let in")
			}
		}
	})
}
