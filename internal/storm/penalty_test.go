package storm

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

const t0 = int64(1_700_000_000_000)

func barred(p *Penalties, o Origin, now int64) int64 {
	user, ip := p.Barred(o, now)
	return max(user, ip)
}

func TestPenaltyGrows(t *testing.T) {
	p := NewPenalties(PenaltyOptions{UserFailures: 8})
	o := p.Origin(1, "alice", addr("192.0.2.1"))
	now := t0
	for range 7 {
		p.Failed(o, false, now)
	}
	if got := barred(p, o, now); got != 0 {
		t.Fatalf("barred for %d ms after 7 of 8 failures", got)
	}
	p.Failed(o, false, now)
	for i, want := range []int64{1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 128_000, 256_000, 300_000, 300_000} {
		if got := barred(p, o, now); got != want {
			t.Fatalf("penalty %d lasts %d ms, want %d", i, got, want)
		}
		if got := barred(p, o, now+want-1); got != 1 {
			t.Fatalf("penalty %d: %d ms left before its last", i, got)
		}
		now += want
		if got := barred(p, o, now); got != 0 {
			t.Fatalf("penalty %d: %d ms left behind its end", i, got)
		}
		p.Failed(o, false, now) // two more, a quarter of the threshold
		if got := barred(p, o, now); got != 0 {
			t.Fatalf("one failure behind penalty %d bars for %d ms", i, got)
		}
		p.Failed(o, false, now)
	}
}

// Failures that lie far apart never add up, and a penalty is forgotten in time.
func TestPenaltyWindow(t *testing.T) {
	p := NewPenalties(PenaltyOptions{UserFailures: 3, WindowMS: 10_000})
	o := p.Origin(1, "alice", addr("192.0.2.1"))
	for i := range int64(100) {
		if p.Failed(o, false, t0+i*5000); barred(p, o, t0+i*5000) != 0 {
			t.Fatalf("barred at failure %d, two in each window", i)
		}
	}
	now := t0 + 10_000_000
	for range 3 {
		p.Failed(o, false, now)
	}
	now += barred(p, o, now) + 10_000
	for range 2 {
		p.Failed(o, false, now)
	}
	if got := barred(p, o, now); got != 0 {
		t.Fatalf("barred for %d ms by what was forgotten", got)
	}
	if p.Failed(o, false, now); barred(p, o, now) != 1000 {
		t.Fatalf("barred for %d ms, want the first penalty again", barred(p, o, now))
	}
}

// Who may be barred by whose failures.
func TestPenaltyOrigins(t *testing.T) {
	o := PenaltyOptions{UserFailures: 5, IPFailures: 100}
	for _, c := range []struct {
		name           string
		app            uint32
		user, address  string
		byUser, bySome bool // barred by five failures of alice; by a hundred of many users
	}{
		{"the same", 1, "alice", "192.0.2.1", true, true},
		{"alice elsewhere", 1, "alice", "192.0.2.2", false, false},
		{"another user there", 1, "bob", "192.0.2.1", false, true},
		{"another app there", 2, "alice", "192.0.2.1", false, true},
		{"the same in IPv6 clothes", 1, "alice", "::ffff:192.0.2.1", true, true},
	} {
		p := NewPenalties(o)
		who := p.Origin(c.app, c.user, addr(c.address))
		for range 5 {
			p.Failed(p.Origin(1, "alice", addr("192.0.2.1")), false, t0)
		}
		if got := barred(p, who, t0) > 0; got != c.byUser {
			t.Errorf("%s: barred %v by five failures of alice", c.name, got)
		}
		p = NewPenalties(o)
		who = p.Origin(c.app, c.user, addr(c.address))
		for i := range 100 {
			p.Failed(p.Origin(1, fmt.Sprint("user", i), addr("192.0.2.1")), false, t0)
		}
		if got := barred(p, who, t0) > 0; got != c.bySome {
			t.Errorf("%s: barred %v by a hundred failures of others", c.name, got)
		}
	}
	p := NewPenalties(o)
	for range 5 {
		p.Failed(p.Origin(1, "alice", addr("2001:db8:1:2::1")), false, t0)
	}
	if barred(p, p.Origin(1, "alice", addr("2001:db8:1:2:ffff::9")), t0) == 0 {
		t.Error("another address of the same /64 is not barred")
	}
	if barred(p, p.Origin(1, "alice", addr("2001:db8:1:3::1")), t0) != 0 {
		t.Error("another /64 is barred")
	}
}

// An expired UserSig is no guess: it never counts against the address.
func TestPenaltyOfTheExpired(t *testing.T) {
	p := NewPenalties(PenaltyOptions{UserFailures: 5, IPFailures: 10})
	for i := range 1000 {
		p.Failed(p.Origin(1, fmt.Sprint("user", i%500), addr("192.0.2.1")), true, t0)
	}
	if got := barred(p, p.Origin(1, "bob", addr("192.0.2.1")), t0); got != 0 {
		t.Errorf("barred for %d ms", got)
	}
}

// A carrier's address, where some always fail and more succeed, is never barred.
func TestPenaltyForgives(t *testing.T) {
	p := NewPenalties(PenaltyOptions{UserFailures: 5, IPFailures: 100})
	nat := addr("192.0.2.1")
	for i := range int64(20_000) {
		now := t0 + i
		p.Failed(p.Origin(1, fmt.Sprint("bad", i), nat), false, now)
		p.Passed(p.Origin(1, fmt.Sprint("good", i), nat), now)
		if barred(p, p.Origin(1, "bob", nat), now) != 0 {
			t.Fatalf("barred at login %d", i)
		}
	}
	// A user's own failures are forgiven at once.
	o := p.Origin(1, "alice", addr("192.0.2.9"))
	for range 4 {
		p.Failed(o, false, t0)
	}
	p.Passed(o, t0)
	if p.Failed(o, false, t0); barred(p, o, t0) != 0 {
		t.Error("barred by failures that were forgiven")
	}
}

func TestPenaltyOff(t *testing.T) {
	p := NewPenalties(PenaltyOptions{})
	o := p.Origin(1, "alice", addr("192.0.2.1"))
	for range 10_000 {
		p.Failed(o, false, t0)
	}
	if barred(p, o, t0) != 0 || p.Entries() != 0 || !p.Idle() {
		t.Errorf("barred %d, %d entries", barred(p, o, t0), p.Entries())
	}
}

// The table never holds more than it was made for, says how many it forgot, and
// keeps those who failed most.
func TestPenaltyIsBounded(t *testing.T) {
	p := NewPenalties(PenaltyOptions{UserFailures: 5, IPFailures: 5, Max: 1024})
	bad := p.Origin(1, "mallory", addr("198.51.100.1"))
	for range 5 {
		p.Failed(bad, false, t0)
	}
	for i := range 20_000 {
		p.Failed(p.Origin(1, fmt.Sprint(i), netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})), false, t0)
	}
	if p.Entries() > 1024 || p.Entries() < 900 || p.Evicted() < 30_000 {
		t.Errorf("%d entries, %d evicted", p.Entries(), p.Evicted())
	}
	if barred(p, bad, t0) == 0 {
		t.Error("who was barred gave way to those who failed once")
	}
	before := p.Evicted()
	later := t0 + 1_000_000
	for i := range 100 {
		p.Failed(p.Origin(1, fmt.Sprint("late", i), netip.AddrFrom4([4]byte{11, 0, byte(i >> 8), byte(i)})), false, later)
	}
	if got := p.Evicted() - before; got > 10 {
		t.Errorf("%d evicted while nearly all entries say nothing any more", got)
	}
}

// It takes no memory until somebody fails, and empties when all is forgiven.
func TestPenaltyIdles(t *testing.T) {
	p := NewPenalties(PenaltyOptions{UserFailures: 5, IPFailures: 5})
	o := p.Origin(1, "alice", addr("192.0.2.1"))
	p.Passed(o, t0)
	barred(p, o, t0)
	for i := range p.shards {
		if p.shards[i].places != nil {
			t.Fatal("memory is taken before the first failure")
		}
	}
	p.Failed(o, false, t0)
	if p.Idle() || p.Entries() != 2 {
		t.Fatalf("%d entries after one failure, want the user's and the address's", p.Entries())
	}
	p.Passed(o, t0)
	if !p.Idle() {
		t.Errorf("%d entries after all was forgiven", p.Entries())
	}
}

func TestPenaltiesTogether(t *testing.T) {
	p := NewPenalties(PenaltyOptions{UserFailures: 5, IPFailures: 50, Max: 1024})
	var all sync.WaitGroup
	for g := range 4 {
		all.Go(func() {
			for i := range 5000 {
				o := p.Origin(1, fmt.Sprint(i%100), netip.AddrFrom4([4]byte{10, 0, byte(g), byte(i)}))
				p.Failed(o, i%2 == 0, t0+int64(i))
				p.Barred(o, t0+int64(i))
				if i%3 == 0 {
					p.Passed(o, t0+int64(i))
				}
			}
		})
	}
	all.Wait()
	used := 0
	for i := range p.shards {
		for _, e := range p.shards[i].places {
			if e.tag != 0 {
				used++
			}
		}
	}
	if used != p.Entries() {
		t.Errorf("%d places are in use, %d are counted", used, p.Entries())
	}
}

func BenchmarkPenaltyBarred(b *testing.B) {
	p := NewPenalties(PenaltyOptions{UserFailures: 5, IPFailures: 100})
	p.Failed(p.Origin(1, "mallory", addr("198.51.100.1")), false, t0)
	a := addr("192.0.2.1")
	b.ReportAllocs()
	for b.Loop() {
		p.Barred(p.Origin(1, "alice", a), t0)
	}
}
