// Package admission decides which new links a node takes, by their address: how
// many a second, how many that are not logged in yet, how many at all. It knows
// no sockets and no clock; the engine asks it and obeys.
//
// # What is counted, and where
//
// A Gate is split into shards by a keyed hash of the address, each with a lock,
// so that loops seldom meet. A shard has two tables of fixed size:
//
//   - entries, one for each address seen of late: the bucket of its accept rate
//     and how many of its links are not logged in. An entry with such links is
//     never given away; any other may be, the fullest bucket first, so that an
//     attacker with many addresses costs no memory, and mostly loses what had
//     recovered by itself anyway.
//   - cells, one for each address with links that are logged in: 16 bits of the
//     hash and a count of 16 bits. That is all that remains of an address while
//     its links are idle, 4 bytes, and a link keeps only the number of its cell.
//
// So a Hold, what a link has taken from its address, is first the number of an
// entry and from the login on that of a cell; whichever it is, Release gives it
// back without knowing the address.
//
// # Errors that are possible
//
// Two addresses whose hashes agree in what a cell keeps share it: of an address
// that is full, a stranger meets one in 2^16 of those in the same bucket. Where
// both buckets of an address are full of others, or all entries of its set belong to
// addresses with links, its links go uncounted (Counts.Untracked). The hash is
// keyed and its key secret: nobody can aim at either.
//
// IPv6 addresses count alone and as part of their /64, which is what one
// customer has: whoever has one address of it has them all. Where the limits of an address
// cannot strike before those of its /64, only the /64 is counted.
package admission

import (
	"fmt"
	"math"
	"math/bits"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Limits are those of one address or of one /64. 0 is unlimited.
type Limits struct {
	// Rate is how many links a second are let in, over time; Burst, at least 1, how many at once.
	Rate, Burst float64
	// Links is how many may be open at once, up to MaxLimit.
	Links int
	// Pending is how many of them may be without a login. Of an address that has none
	// with one, it is scaled by the room there is: see Gate.Admit.
	Pending int
}

// MaxLimit is the largest Limits.Links: what a cell can count.
const MaxLimit = math.MaxUint16

// limited reports whether there is anything to count.
func (l Limits) limited() bool { return l.Rate > 0 || l.Links > 0 || l.Pending > 0 }

// strikesBefore reports whether l can refuse a link of an address whose /64 has o
// and would still take it.
func (l Limits) strikesBefore(o Limits) bool {
	less := func(a, b int) bool { return a > 0 && (b == 0 || a < b) }
	return less(l.Links, o.Links) || less(l.Pending, o.Pending) ||
		l.Rate > 0 && (o.Rate == 0 || l.Rate < o.Rate || max(l.Burst, 1) < max(o.Burst, 1))
}

// Options configure a Gate. The zero value limits nothing.
type Options struct {
	IP  Limits // of one address, IPv4 or IPv6
	Net Limits // of one IPv6 /64
	// Addresses is how many are remembered at least, besides those with links that are
	// logged in; each takes 24 bytes. Default 65,536, 64 to 1<<24.
	Addresses int
	// MaxLinks is how many links there can be, up to 1<<28. It sizes the cells, 5.3 bytes
	// for each. Default 65,536.
	MaxLinks int
	// Key makes the hash secret: it must be random where attackers are about.
	Key [2]uint64
}

// Refusal is why a link is not taken.
type Refusal uint8

// The refusals. Each names the limit and whose it is.
const (
	Admitted   Refusal = iota
	IPRate             // too many accepts of the address
	IPLinks            // too many links of the address
	IPPending          // too many of them not logged in
	NetRate            // the same of the /64
	NetLinks           //
	NetPending         //
	NumRefusals
)

var refusalNames = [NumRefusals]string{
	Admitted: "admitted",
	IPRate:   "ip_rate", IPLinks: "ip_links", IPPending: "ip_unauthenticated",
	NetRate: "net64_rate", NetLinks: "net64_links", NetPending: "net64_unauthenticated",
}

// String is the refusal's name in metrics.
func (r Refusal) String() string { return refusalNames[r] }

// Hold is what a link has taken from its address and, in Net, from its /64 where
// both are counted. 0 is nothing. Each Hold goes back once, by Release.
type Hold struct{ First, Net uint32 }

// cellBit tells the number of a cell from that of an entry.
const cellBit = 1 << 31

// Gate counts links by address. Any goroutine may use it.
type Gate struct {
	// Immutable after New.
	levels  [numLevels]level
	v4, v6  []uint8 // the levels that links of the family count at
	key     [2]uint64
	shards  []shard
	lead    int // bits of the hash that choose the shard
	setMask uint32
	buckets uint32 // of cells, per shard

	// Atomic.
	forgotten atomic.Uint64
	untracked atomic.Uint64
}

// The levels at which a link is counted.
const (
	levelIP = iota
	levelNet
	numLevels
)

// level is one of them with its limits.
type level struct {
	Limits
	rate    Rate
	refused Refusal // that of the rate; those of links and pending follow
}

const (
	ways        = 8  // entries in a set
	bucketCells = 16 // cells in a bucket: a cache line
	maxShards   = 64
	// linksPerShard keeps shards large enough that chance fills them alike.
	linksPerShard = 1024
)

// shard is the part of a Gate that one lock guards.
type shard struct {
	mu sync.Mutex
	// Guarded by mu.
	entries []entry
	cells   []uint32 // 16 bits of the hash, 16 bits of count; 0 = free

	_ [64]byte // the next shard's lock is in another cache line
}

// entry is an address that was seen of late.
type entry struct {
	hash    uint64 // 0 = unused
	fullNS  int64  // when the bucket of its rate is full again
	pending uint32 // links without a login
	loginAt uint16 // when a link of it logged in last, by minuteish; with known
	known   bool
	level   uint8
}

// minuteish is a clock of 4.3 s ticks that begins anew after 78 hours. Who was known
// then is for a minute taken for known now, which does no harm.
func minuteish(nowNS int64) uint16 { return uint16(nowNS >> 32) }

// knownTicks is for how long after a login an address is no stranger: a minute.
const knownTicks = 14

// stranger reports whether none of the address's links is logged in, or was of late.
func (e *entry) stranger(loggedIn int, nowNS int64) bool {
	return loggedIn == 0 && !(e.known && minuteish(nowNS)-e.loginAt <= knownTicks)
}

// New returns a gate that has let in nobody.
func New(o Options) (*Gate, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	g := &Gate{key: o.Key}
	g.levels[levelIP] = level{o.IP, PerSecond(o.IP.Rate, o.IP.Burst), IPRate}
	g.levels[levelNet] = level{o.Net, PerSecond(o.Net.Rate, o.Net.Burst), NetRate}
	if o.IP.limited() {
		g.v4 = []uint8{levelIP}
	}
	if o.IP.limited() && (!o.Net.limited() || o.IP.strikesBefore(o.Net)) {
		g.v6 = append(g.v6, levelIP)
	}
	if o.Net.limited() {
		g.v6 = append(g.v6, levelNet)
	}
	if g.Tracks() {
		g.size(o)
	}
	return g, nil
}

func (o *Options) validate() error {
	if o.Addresses == 0 {
		o.Addresses = 1 << 16
	}
	if o.MaxLinks == 0 {
		o.MaxLinks = 1 << 16
	}
	if o.Addresses < 64 || o.Addresses > 1<<24 {
		return fmt.Errorf("admission: Addresses is %d, want 64 to %d", o.Addresses, 1<<24)
	}
	if o.MaxLinks < 1 || o.MaxLinks > 1<<28 {
		return fmt.Errorf("admission: MaxLinks is %d, want 1 to %d", o.MaxLinks, 1<<28)
	}
	for _, l := range []struct {
		name string
		Limits
	}{{"IP", o.IP}, {"Net", o.Net}} {
		switch {
		case !(l.Rate >= 0 && l.Rate <= MaxRate) || !(l.Burst >= 0 && l.Burst <= MaxBurst):
			return fmt.Errorf("admission: %s.Rate is %v with a Burst of %v, want 0 to %v and 0 to %v", l.name, l.Rate, l.Burst, MaxRate, MaxBurst)
		case l.Links < 0 || l.Links > MaxLimit:
			return fmt.Errorf("admission: %s.Links is %d, want 0 to %d", l.name, l.Links, MaxLimit)
		case l.Pending < 0 || l.Pending > math.MaxInt32:
			return fmt.Errorf("admission: %s.Pending is %d, want 0 to %d", l.name, l.Pending, math.MaxInt32)
		}
	}
	return nil
}

// size makes the tables.
func (g *Gate) size(o Options) {
	n := 1
	for n < maxShards && n*linksPerShard < o.MaxLinks && n*2*ways <= o.Addresses {
		n *= 2
	}
	g.lead = bits.TrailingZeros(uint(n))
	sets := 1
	for sets*ways*n < o.Addresses {
		sets *= 2
	}
	g.setMask = uint32(sets - 1)
	if o.IP.Links > 0 || o.Net.Links > 0 || o.IP.Pending > 0 || o.Net.Pending > 0 {
		// Two thirds to three quarters full at most, so that one of an address's two buckets has room.
		g.buckets = uint32((o.MaxLinks*4/3*max(len(g.v4), len(g.v6)) + n*bucketCells - 1) / (n * bucketCells))
	}
	g.shards = make([]shard, n)
	for i := range g.shards {
		g.shards[i].entries = make([]entry, sets*ways)
		g.shards[i].cells = make([]uint32, g.buckets*bucketCells)
	}
}

// Tracks reports whether any address is limited; if not, every Hold is empty.
func (g *Gate) Tracks() bool { return len(g.v4)+len(g.v6) > 0 }

// Both reports whether a Hold may have a Net part.
func (g *Gate) Both() bool { return len(g.v6) > 1 }

// AllRoom as the room of Admit: all places are free.
const AllRoom = 1 << 10

// Admit asks for a link of addr; nowNS is a clock that does not step. An address
// that is unknown, the zero Addr, is let in uncounted.
//
// room is how much of the places for links without a login is free, in parts of
// AllRoom. An address none of whose links is logged in, or was within a minute, may have as many without
// as Pending times that, but at least one: the less room there is, the less
// may a stranger take of it. So n addresses that take what they can get leave a share
// of 1/(1+n*a) free, where a is Pending's share of all places: they fill it up only if they
// are nearly as many as there are places. (Choudhury and Hahne, "Dynamic queue
// length thresholds for shared-memory packet switches", 1998.) An address with
// such links, a NAT with good clients behind it, has all of Pending.
func (g *Gate) Admit(addr netip.Addr, nowNS int64, room int) (Hold, Refusal) {
	var h Hold
	if !g.Tracks() || !addr.IsValid() {
		return h, Admitted
	}
	addr = addr.Unmap()
	levels := g.v6
	if addr.Is4() {
		levels = g.v4
	}
	hi, lo := words(addr)
	for i, lv := range levels {
		key := lo
		if lv == levelNet {
			key = 0
		}
		n, no := g.admit(lv, g.hash(hi, key, lv), nowNS, room)
		switch {
		case no != Admitted:
			g.Release(h)
			return Hold{}, no
		case i == 0:
			h.First = n
		default:
			h.Net = n
		}
	}
	return h, Admitted
}

// admit takes a link in at one level and returns the number of its entry, 0 if there is none.
func (g *Gate) admit(lv uint8, hash uint64, nowNS int64, room int) (uint32, Refusal) {
	l := &g.levels[lv]
	at := g.shardOf(hash)
	s := &g.shards[at]
	s.mu.Lock()
	defer s.mu.Unlock()
	e, n := g.entryLocked(s, hash, lv, nowNS)
	if e == nil {
		g.untracked.Add(1)
		return 0, Admitted
	}
	full, ok := l.rate.take(e.fullNS, nowNS)
	if !ok {
		return 0, l.refused
	}
	// From here on the token is spent: whoever runs against a cap runs against the rate next.
	e.fullNS = full
	loggedIn, most := g.countLocked(s, hash), l.Pending
	if l.Links > 0 && int(e.pending)+loggedIn >= l.Links {
		return 0, l.refused + 1
	}
	if e.stranger(loggedIn, nowNS) {
		most = max((l.Pending*room+AllRoom-1)/AllRoom, 1)
	}
	if l.Pending > 0 && int(e.pending) >= most {
		return 0, l.refused + 2
	}
	e.pending++
	return uint32(at*len(s.entries)+n) + 1, Admitted
}

// entryLocked returns the entry of an address and its number in the shard, a new
// one if need be; nil if all places are taken by addresses with links.
func (g *Gate) entryLocked(s *shard, hash uint64, lv uint8, nowNS int64) (*entry, int) {
	first := int(uint32(hash)&g.setMask) * ways
	set := s.entries[first : first+ways]
	victim := -1
	for i := range set {
		e := &set[i]
		if e.hash == hash {
			return e, first + i
		}
		if e.pending == 0 && (victim < 0 || e.fullNS < set[victim].fullNS) {
			victim = i
		}
	}
	if victim < 0 {
		return nil, 0
	}
	e := &set[victim]
	if e.fullNS > nowNS {
		g.forgotten.Add(1)
	}
	*e = entry{hash: hash, level: lv}
	return e, first + victim
}

// LoggedIn tells that the link of h is logged in, and returns what it holds from now on.
func (g *Gate) LoggedIn(h Hold, nowNS int64) Hold {
	return Hold{g.loggedIn(h.First, nowNS), g.loggedIn(h.Net, nowNS)}
}

func (g *Gate) loggedIn(n uint32, nowNS int64) uint32 {
	if n == 0 || n&cellBit != 0 {
		return n
	}
	s, at, e := g.entryOf(n)
	s.mu.Lock()
	defer s.mu.Unlock()
	e.pending--
	e.known, e.loginAt = true, minuteish(nowNS)
	if l := &g.levels[e.level]; l.Links == 0 && l.Pending == 0 {
		return 0
	}
	c := g.addLocked(s, e.hash)
	if c < 0 {
		g.untracked.Add(1)
		return 0
	}
	return uint32(at*len(s.cells)+c) | cellBit
}

// entryOf finds the entry that a hold's number names. A shard's entries never move.
func (g *Gate) entryOf(n uint32) (s *shard, at int, e *entry) {
	per := len(g.shards[0].entries)
	at = int(n-1) / per
	s = &g.shards[at]
	return s, at, &s.entries[int(n-1)%per]
}

// Release gives back what a link holds: it is gone.
func (g *Gate) Release(h Hold) {
	g.release(h.First)
	g.release(h.Net)
}

func (g *Gate) release(n uint32) {
	switch {
	case n == 0:
	case n&cellBit != 0:
		c, per := int(n&^cellBit), len(g.shards[0].cells)
		s := &g.shards[c/per]
		s.mu.Lock()
		dropLocked(&s.cells[c%per])
		s.mu.Unlock()
	default:
		s, _, e := g.entryOf(n)
		s.mu.Lock()
		e.pending--
		s.mu.Unlock()
	}
}

// Counts are how much a Gate holds and what it could not.
type Counts struct {
	Pending   int    // holds of links without a login
	LoggedIn  int    // holds of links with one
	Forgotten uint64 // addresses that gave way before their rate had recovered, ever
	Untracked uint64 // holds that there was no room for, ever
}

// Counts adds up the tables: for tests and post-mortems.
func (g *Gate) Counts() (c Counts) {
	c.Forgotten, c.Untracked = g.Lost()
	for i := range g.shards {
		s := &g.shards[i]
		s.mu.Lock()
		for j := range s.entries {
			c.Pending += int(s.entries[j].pending)
		}
		for _, cell := range s.cells {
			c.LoggedIn += int(cell & countMask)
		}
		s.mu.Unlock()
	}
	return c
}

// Add counts what a link holds, to be compared with Gate.Counts.
func (c *Counts) Add(h Hold) {
	for _, n := range [...]uint32{h.First, h.Net} {
		switch {
		case n == 0:
		case n&cellBit != 0:
			c.LoggedIn++
		default:
			c.Pending++
		}
	}
}

// Lost returns Counts.Forgotten and Counts.Untracked.
func (g *Gate) Lost() (forgotten, untracked uint64) { return g.forgotten.Load(), g.untracked.Load() }
