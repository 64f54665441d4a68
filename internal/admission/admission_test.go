package admission

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

var testKey = [2]uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}

const second = int64(1e9)

func newGate(tb testing.TB, o Options) *Gate {
	tb.Helper()
	o.Key = testKey
	g, err := New(o)
	if err != nil {
		tb.Fatal(err)
	}
	return g
}

// ip is address number i of 10.0.0.0/8.
func ip(i int) netip.Addr {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], 10<<24|uint32(i))
	return netip.AddrFrom4(b)
}

// ip6 is address host of the /64 number net.
func ip6(net, host int) netip.Addr {
	var b [16]byte
	binary.BigEndian.PutUint64(b[:], 0x20010db8<<32|uint64(net))
	binary.BigEndian.PutUint64(b[8:], uint64(host))
	return netip.AddrFrom16(b)
}

func wantCounts(tb testing.TB, g *Gate, pending, loggedIn int) {
	tb.Helper()
	if c := g.Counts(); c.Pending != pending || c.LoggedIn != loggedIn {
		tb.Fatalf("%+v, want %d pending and %d logged in", c, pending, loggedIn)
	}
}

// mustAdmit lets a link in.
func mustAdmit(tb testing.TB, g *Gate, a netip.Addr, nowNS int64) Hold {
	tb.Helper()
	h, no := g.Admit(a, nowNS, AllRoom)
	if no != Admitted {
		tb.Fatalf("%v: %v", a, no)
	}
	return h
}

func mustRefuse(tb testing.TB, g *Gate, a netip.Addr, nowNS int64, want Refusal) {
	tb.Helper()
	if h, no := g.Admit(a, nowNS, AllRoom); no != want || h != (Hold{}) {
		tb.Fatalf("%v: %v and holds %+v, want %v", a, no, h, want)
	}
}

// The caps, at N-1, N and N+1, of each family and level.
func TestCaps(t *testing.T) {
	v4 := func(i int) netip.Addr { return ip(1) }
	mapped := func(i int) netip.Addr { return netip.AddrFrom16(ip(1).As16()) }
	same6 := func(i int) netip.Addr { return ip6(1, 1) }
	net6 := func(i int) netip.Addr { return ip6(1, i) }
	for _, c := range []struct {
		name   string
		o      Options
		addr   func(i int) netip.Addr
		login  bool
		n      int // let in
		refuse Refusal
	}{
		{"IPv4 pending", Options{IP: Limits{Pending: 3}}, v4, false, 3, IPPending},
		{"IPv4 links", Options{IP: Limits{Links: 3}}, v4, false, 3, IPLinks},
		{"IPv4 logged in", Options{IP: Limits{Links: 3, Pending: 1}}, v4, true, 3, IPLinks},
		{"IPv4 burst", Options{IP: Limits{Rate: 1, Burst: 3}}, v4, false, 3, IPRate},
		{"IPv4 knows no /64", Options{Net: Limits{Links: 1, Rate: 1, Pending: 1}}, v4, false, 50, Admitted},
		{"mapped", Options{IP: Limits{Links: 3}, Net: Limits{Links: 1}}, mapped, false, 3, IPLinks},
		{"IPv6 alone", Options{IP: Limits{Links: 3}}, same6, true, 3, IPLinks},
		{"IPv6 others", Options{IP: Limits{Links: 3}}, net6, true, 50, Admitted},
		{"IPv6 alone before its /64", Options{IP: Limits{Links: 3}, Net: Limits{Links: 5}}, same6, true, 3, IPLinks},
		{"/64", Options{IP: Limits{Links: 3}, Net: Limits{Links: 5}}, net6, true, 5, NetLinks},
		{"/64 before its IPv6", Options{IP: Limits{Links: 9}, Net: Limits{Links: 5}}, same6, true, 5, NetLinks},
		{"/64 pending", Options{IP: Limits{Pending: 4}, Net: Limits{Pending: 4}}, net6, false, 4, NetPending},
		{"/64 burst", Options{Net: Limits{Rate: 1, Burst: 4}}, net6, false, 4, NetRate},
		{"no limits", Options{}, v4, true, 50, Admitted},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newGate(t, c.o)
			var holds []Hold
			for i := range c.n {
				h := mustAdmit(t, g, c.addr(i), 0)
				if c.login {
					h = g.LoggedIn(h, 0)
				}
				holds = append(holds, h)
			}
			if c.refuse == Admitted {
				return
			}
			for range 3 {
				mustRefuse(t, g, c.addr(len(holds)), 0, c.refuse)
			}
			if c.refuse != IPRate && c.refuse != NetRate {
				g.Release(holds[0])
				holds[0] = mustAdmit(t, g, c.addr(0), 0)
				mustRefuse(t, g, c.addr(len(holds)), 0, c.refuse)
			}
			for _, h := range holds {
				g.Release(h)
			}
			wantCounts(t, g, 0, 0)
			mustAdmit(t, g, c.addr(0), 1000*second)
		})
	}
}

// One address at its limits is nobody else's business.
func TestOthersUnharmed(t *testing.T) {
	g := newGate(t, Options{IP: Limits{Rate: 1, Burst: 1, Links: 1, Pending: 1}, Net: Limits{Rate: 1, Burst: 1, Links: 1, Pending: 1}})
	mustAdmit(t, g, ip(1), 0)
	mustAdmit(t, g, ip6(1, 1), 0)
	for range 100 {
		mustRefuse(t, g, ip(1), 0, IPRate)
		mustRefuse(t, g, ip6(1, 2), 0, NetRate)
	}
	mustAdmit(t, g, ip(2), 0)
	mustAdmit(t, g, ip6(2, 1), 0)
}

// What a /64 refuses, the address gets back.
func TestRefusedByNetHoldsNothing(t *testing.T) {
	g := newGate(t, Options{IP: Limits{Links: 2}, Net: Limits{Links: 3}})
	for i := range 3 {
		mustAdmit(t, g, ip6(1, i), 0)
	}
	for range 5 {
		mustRefuse(t, g, ip6(1, 9), 0, NetLinks)
	}
	wantCounts(t, g, 6, 0)
}

// However many strangers take what they can get, fewer than there are places: who
// comes new finds one. An address with a link that is logged in has its full share.
func TestRoomForStrangers(t *testing.T) {
	const places, share = 4000, 1000
	for _, n := range []int{1, 3, 100, 1000, 3000} {
		g := newGate(t, Options{IP: Limits{Pending: share}, Net: Limits{Pending: share}})
		good := []Hold{g.LoggedIn(mustAdmit(t, g, ip(1<<20), 0), 0)}
		taken := 0
		take := func(a netip.Addr) bool {
			if _, no := g.Admit(a, 0, (places-taken)*AllRoom/places); no != Admitted {
				return false
			}
			taken++
			return true
		}
		for more := true; more; {
			more = false
			for i := range n {
				more = take(ip(i)) || more
			}
		}
		if taken > places-1 {
			t.Fatalf("%d strangers took all %d places", n, places)
		}
		if n == 1 && taken < share/2 {
			t.Errorf("one stranger got %d places, its share of all is %d", taken, share)
		}
		if !take(ip6(n, 1)) {
			t.Errorf("%d strangers have %d of %d places, and a new one was refused", n, taken, places)
		}
		for len(good) < share {
			good = append(good, mustAdmit(t, g, ip(1<<20), 0)) // were it room's, it would be refused
		}
	}
}

// An address is no stranger for a minute after its last link with a login has gone.
func TestKnownForAMinute(t *testing.T) {
	g := newGate(t, Options{IP: Limits{Pending: 100}})
	start := int64(1_700_000_000) * second
	g.Release(g.LoggedIn(mustAdmit(t, g, ip(1), start), start))
	full := func(a netip.Addr, now int64) bool {
		h, no := g.Admit(a, now, 0)
		h2, no2 := g.Admit(a, now, 0) // a stranger has one at most
		g.Release(h)
		g.Release(h2)
		return no == Admitted && no2 == Admitted
	}
	if full(ip(2), start) {
		t.Fatal("a stranger is not told from who is known")
	}
	if !full(ip(1), start+55*second) {
		t.Fatal("forgotten after 55 s")
	}
	if full(ip(1), start+70*second) {
		t.Fatal("known after 70 s")
	}
	wantCounts(t, g, 0, 0)
}

// A login moves a link from one table to the other and changes no sum.
func TestLoginKeepsTheCount(t *testing.T) {
	g := newGate(t, Options{IP: Limits{Links: 4}})
	a, b := mustAdmit(t, g, ip(1), 0), mustAdmit(t, g, ip(1), 0)
	wantCounts(t, g, 2, 0)
	a = g.LoggedIn(a, 0)
	wantCounts(t, g, 1, 1)
	if again := g.LoggedIn(a, 0); again != a {
		t.Fatalf("a second login moved the hold from %+v to %+v", a, again)
	}
	c, d := mustAdmit(t, g, ip(1), 0), mustAdmit(t, g, ip(1), 0)
	mustRefuse(t, g, ip(1), 0, IPLinks)
	for _, h := range []Hold{a, b, c, g.LoggedIn(d, 0)} {
		g.Release(h)
	}
	wantCounts(t, g, 0, 0)
}

// An address is forgotten when nothing stands in the way, the fullest bucket
// first; one with links never is.
func TestEviction(t *testing.T) {
	g := newGate(t, Options{IP: Limits{Rate: 1, Burst: 10, Pending: 1}, Addresses: 64})
	held := mustAdmit(t, g, ip(0), 0)
	for i := 1; i <= 10_000; i++ {
		g.Release(mustAdmit(t, g, ip(i), 0))
	}
	c := g.Counts()
	if c.Forgotten < 10_000-64 || c.Pending != 1 {
		t.Fatalf("%+v", c)
	}
	if c.Untracked != 0 {
		t.Fatalf("%+v: links went uncounted though places were free", c)
	}
	mustRefuse(t, g, ip(0), 0, IPPending) // still known
	g.Release(held)
	wantCounts(t, g, 0, 0)
	before := c.Forgotten
	for i := range 10_000 { // each is full again when the next comes
		g.Release(mustAdmit(t, g, ip(i), int64(i+100)*1000*second))
	}
	if f := g.Counts().Forgotten; f > before+64 {
		t.Fatalf("%d addresses counted as forgotten early that had recovered", f-before)
	}
}

// More addresses with links than there is room for: they go uncounted, are let
// in, and give nothing back that they did not take.
func TestEntriesFull(t *testing.T) {
	const n = 1000
	g := newGate(t, Options{IP: Limits{Pending: 1, Links: 2}, Addresses: 64})
	var holds []Hold
	for i := range n {
		holds = append(holds, mustAdmit(t, g, ip(i), 0))
	}
	c := g.Counts()
	if c.Pending != 64 || c.Untracked != n-64 {
		t.Fatalf("%+v, want 64 of %d counted", c, n)
	}
	for _, h := range holds {
		g.Release(g.LoggedIn(h, 0))
	}
	wantCounts(t, g, 0, 0)
}

// A node that is full of links, each from an address of its own, counts them all
// but for one in some thousands.
func TestCellsHoldMaxLinks(t *testing.T) {
	for _, n := range []int{100, 3000, 20_000, 300_000} {
		g := newGate(t, Options{IP: Limits{Links: 1}, MaxLinks: n})
		var holds []Hold
		for i := range n {
			h, no := g.Admit(ip(i), 0, AllRoom)
			if no != Admitted {
				// Two of n addresses whose hashes agree; 2^-16 of those in two buckets.
				if no != IPLinks {
					t.Fatal(no)
				}
				continue
			}
			holds = append(holds, g.LoggedIn(h, 0))
		}
		if refused := n - len(holds); refused > n/1000+1 {
			t.Errorf("%d links: %d were taken for one of another address", n, refused)
		}
		if _, untracked := g.Lost(); untracked > uint64(n/1000) {
			t.Errorf("%d links: no room for %d", n, untracked)
		}
		for _, h := range holds {
			g.Release(h)
		}
		wantCounts(t, g, 0, 0)
	}
}

func TestOptionsBounds(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{}, ""},
		{Options{Addresses: 63}, "Addresses is 63"},
		{Options{Addresses: 1<<24 + 1}, "Addresses is"},
		{Options{MaxLinks: -1}, "MaxLinks is -1"},
		{Options{IP: Limits{Links: MaxLimit}}, ""},
		{Options{IP: Limits{Links: MaxLimit + 1}}, "IP.Links is 65536"},
		{Options{Net: Limits{Pending: -1}}, "Net.Pending is -1"},
		{Options{Net: Limits{Rate: MaxRate + 1}}, "Net.Rate is"},
		{Options{IP: Limits{Rate: 1, Burst: -1}}, "IP.Rate is 1 with a Burst of -1"},
	} {
		_, err := New(c.o)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

func TestUnknownAddress(t *testing.T) {
	g := newGate(t, Options{IP: Limits{Links: 1}})
	for range 3 {
		if h := mustAdmit(t, g, netip.Addr{}, 0); h != (Hold{}) {
			t.Fatalf("holds %+v", h)
		}
	}
}

// Of two zones of a link-local address one is meant: the network card tells
// strangers apart, not the limits.
func TestZone(t *testing.T) {
	g := newGate(t, Options{IP: Limits{Links: 1}})
	mustAdmit(t, g, netip.MustParseAddr("fe80::1%eth0"), 0)
	mustRefuse(t, g, netip.MustParseAddr("fe80::1%eth1"), 0, IPLinks)
}

func TestRefusalNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range NumRefusals {
		if r.String() == "" || seen[r.String()] {
			t.Errorf("refusal %d is %q", r, r)
		}
		seen[r.String()] = true
	}
}

// The vector of the paper's appendix: key 00..0f, message 00..0e.
func TestSipHash(t *testing.T) {
	if got := sip(testKey, []uint64{0x0706050403020100, 0x0f0e0d0c0b0a0908}); got != 0xa129ca6149be45e5 {
		t.Fatalf("%x", got)
	}
}

// Loops share a gate. No address ever has more links than it may, whoever asks
// for them, and all counts come back.
func TestConcurrent(t *testing.T) {
	const loops, addresses, links, rounds = 4, 5, 7, 3000
	g := newGate(t, Options{IP: Limits{Links: links, Pending: 3}, Net: Limits{Links: links + 3, Pending: 5}})
	var open [addresses]atomic.Int64
	var most atomic.Int64
	var wg sync.WaitGroup
	for loop := range loops {
		wg.Add(1)
		go func() {
			defer wg.Done()
			type link struct {
				h    Hold
				addr int
			}
			var held []link
			for i := range rounds {
				a := (i*7 + loop) % addresses
				if h, no := g.Admit(ip6(a/2, a), 0, AllRoom); no == Admitted {
					most.Store(max(most.Load(), open[a].Add(1)))
					held = append(held, link{h, a})
				}
				if i%3 == 0 && len(held) > 0 {
					held[i%len(held)].h = g.LoggedIn(held[i%len(held)].h, 0)
				}
				if n := len(held); n > 0 && i%2 == 0 {
					k := held[i%n]
					held[i%n] = held[n-1]
					held = held[:n-1]
					open[k.addr].Add(-1)
					g.Release(k.h)
				}
			}
			for _, k := range held {
				open[k.addr].Add(-1)
				g.Release(k.h)
			}
		}()
	}
	wg.Wait()
	if m := most.Load(); m > links {
		t.Errorf("an address had %d links, %d are allowed", m, links)
	}
	wantCounts(t, g, 0, 0)
}

func TestNoAllocations(t *testing.T) {
	g := newGate(t, Options{IP: Limits{Rate: 1e6, Burst: 1e6, Links: 3}, Net: Limits{Rate: 1e6, Burst: 1e7, Links: 5}})
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		h, _ := g.Admit(ip6(i, i), int64(i), AllRoom)
		g.Release(g.LoggedIn(h, 0))
		h, _ = g.Admit(ip(i), int64(i), AllRoom)
		g.Release(g.LoggedIn(h, 0))
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkGate is what a link pays from accept to close: admitted, logged in, released.
func BenchmarkGate(b *testing.B) {
	limits := Limits{Rate: 1e6, Burst: 1e7, Links: 4096, Pending: 1000}
	for _, c := range []struct {
		name string
		o    Options
		addr func(i int) netip.Addr
	}{
		{"off", Options{}, ip},
		{"IPv4/1", Options{IP: limits}, func(int) netip.Addr { return ip(1) }},
		{"IPv4/1M", Options{IP: limits, MaxLinks: 1_000_000}, func(i int) netip.Addr { return ip(i * 7919 % 1_000_000) }},
		{"IPv6net/1M", Options{IP: limits, Net: limits, MaxLinks: 1_000_000}, func(i int) netip.Addr { return ip6(i*7919%1_000_000, 1) }},
		{"IPv6both/1M", Options{IP: Limits{Links: 10}, Net: limits, MaxLinks: 1_000_000}, func(i int) netip.Addr { return ip6(i*7919%1_000_000, i) }},
	} {
		b.Run(c.name, func(b *testing.B) {
			g := newGate(b, c.o)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				h, _ := g.Admit(c.addr(i), int64(i), AllRoom)
				g.Release(g.LoggedIn(h, 0))
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		g := newGate(b, Options{IP: Limits{Rate: 1}})
		b.ReportAllocs()
		for b.Loop() {
			g.Admit(ip(1), 0, AllRoom)
		}
	})
	b.Run("parallel/1M", func(b *testing.B) {
		g := newGate(b, Options{IP: limits, MaxLinks: 1_000_000})
		var next atomic.Int64
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			i := int(next.Add(500_000))
			for pb.Next() {
				i++
				h, _ := g.Admit(ip(i*7919%1_000_000), int64(i), AllRoom)
				g.Release(g.LoggedIn(h, 0))
			}
		})
	})
}

// BenchmarkMemory tells the bytes of a gate per address of what it is sized for.
func BenchmarkMemory(b *testing.B) {
	for _, n := range []int{20_000, 1_000_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var g *Gate
			for b.Loop() {
				g = newGate(b, Options{IP: Limits{Links: 1, Rate: 1}, MaxLinks: n})
			}
			cells, entries := 0, 0
			for i := range g.shards {
				cells += len(g.shards[i].cells) * 4
				entries += len(g.shards[i].entries) * 24
			}
			b.ReportMetric(float64(cells)/float64(n), "cell-B/link")
			b.ReportMetric(float64(entries), "entry-B")
		})
	}
}
