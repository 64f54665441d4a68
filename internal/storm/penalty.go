package storm

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
)

// PenaltyOptions set a Penalties. The zero value of each but the two thresholds is its default.
type PenaltyOptions struct {
	// UserFailures of one user from one address, IPFailures of one address, within
	// WindowMS: then it is not listened to for BaseMS, twice as long each time it
	// goes on, up to MostMS. A threshold of 0 turns its part off.
	UserFailures, IPFailures int
	WindowMS                 int64 // default 60,000
	BaseMS                   int64 // default 1,000
	MostMS                   int64 // default 300,000
	Max                      int   // entries, rounded up to a power of two from 1,024; default 65,536, of 32 bytes each
}

func (o *PenaltyOptions) setDefaults() {
	orDefault(&o.WindowMS, 60_000)
	orDefault(&o.BaseMS, 1000)
	orDefault(&o.MostMS, 300_000)
	orDefault(&o.Max, 1<<16)
}

// Penalties remembers who failed to prove who they are, by address and by (app,
// user, address), in memory of a fixed size that is taken at the first failure.
//
// The user's part counts per address for a reason: a count per user alone would
// let any stranger lock a user out by failing in their name. An address is an IPv4
// address or an IPv6 /64; many users may share one (carrier NAT), so its threshold
// is much higher, and each success takes a failure back.
//
// It is a set-associative table: an entry lies in one of the places that its key's
// hash names. If all are taken, one that says nothing any more gives way, else the
// one that says least. Safe for concurrent use.
type Penalties struct {
	// Immutable after NewPenalties.
	o    PenaltyOptions
	key  [32]byte // of the hash: nobody can aim at another's place
	sets int      // per shard

	shards  [penaltyShards]penaltyShard
	entries atomic.Int64 // in use; 0 spares a success its look-up
	evicted atomic.Uint64
}

const (
	penaltyShards = 16
	penaltyWays   = 8
)

type penaltyShard struct {
	mu     sync.Mutex
	places []penalty // nil until the first failure
	_      [32]byte  // two shards never share a cache line
}

// penalty is what is known of one key. The zero value is an unused place.
type penalty struct {
	tag      uint64
	begunMS  int64 // of the window
	untilMS  int64 // not listened to before
	failures uint32
	level    uint8 // penalties so far
}

// Origin is who logs in from where.
type Origin struct{ user, ip uint64 }

// NewPenalties returns a table without entries.
func NewPenalties(o PenaltyOptions) *Penalties {
	o.setDefaults()
	p := &Penalties{o: o, sets: 1}
	for penaltyShards*penaltyWays*p.sets < max(o.Max, 1024) {
		p.sets *= 2
	}
	_, _ = rand.Read(p.key[:]) // never fails
	return p
}

// Entries is how many keys something is known of.
func (p *Penalties) Entries() int { return int(p.entries.Load()) }

// Evicted is how many keys were forgotten for want of room.
func (p *Penalties) Evicted() uint64 { return p.evicted.Load() }

// Idle reports that nobody has failed of late: there is nothing to look up.
func (p *Penalties) Idle() bool { return p.entries.Load() == 0 }

// Origin returns what stands for the user of an app at an address.
func (p *Penalties) Origin(app uint32, user string, addr netip.Addr) Origin {
	addr = addr.Unmap()
	bits := 32
	if addr.Is6() {
		bits = 64
	}
	var from [16]byte
	if prefix, err := addr.WithZone("").Prefix(bits); err == nil && addr.IsValid() {
		from = prefix.Addr().As16()
	}
	var room [128]byte
	b := append(room[:0], p.key[:]...)
	b = append(b, from[:]...)
	ip := sha256.Sum256(b)
	b = binary.BigEndian.AppendUint32(b, app)
	b = append(b, user...)
	who := sha256.Sum256(b)
	return Origin{user: binary.BigEndian.Uint64(who[:]) | 1, ip: binary.BigEndian.Uint64(ip[:]) | 1}
}

// Barred tells how long nobody listens to the origin; 0 = it may try.
func (p *Penalties) Barred(o Origin, nowMS int64) (user, ip int64) {
	return p.left(o.user, p.o.UserFailures, nowMS), p.left(o.ip, p.o.IPFailures, nowMS)
}

func (p *Penalties) left(tag uint64, threshold int, nowMS int64) int64 {
	if threshold == 0 || p.Idle() {
		return 0
	}
	s, set := p.lock(tag)
	defer s.mu.Unlock()
	if e := find(set, tag); e != nil {
		return max(e.untilMS-nowMS, 0)
	}
	return 0
}

// Failed notes a failure. authentic says that the credential was the server's own
// and is only too old: then it was no guess, and counts against the user alone.
func (p *Penalties) Failed(o Origin, authentic bool, nowMS int64) {
	p.failed(o.user, p.o.UserFailures, nowMS)
	if !authentic {
		p.failed(o.ip, p.o.IPFailures, nowMS)
	}
}

func (p *Penalties) failed(tag uint64, threshold int, nowMS int64) {
	if threshold == 0 {
		return
	}
	s, set := p.lock(tag)
	defer s.mu.Unlock()
	if set == nil {
		s.places = make([]penalty, p.sets*penaltyWays)
		set = s.set(tag, p.sets)
	}
	e := find(set, tag)
	if e == nil {
		e = p.place(set, nowMS)
		*e = penalty{tag: tag, begunMS: nowMS}
	}
	p.count(e, threshold, nowMS)
}

// count adds a failure to e.
func (p *Penalties) count(e *penalty, threshold int, nowMS int64) {
	if p.spent(e, nowMS) {
		*e = penalty{tag: e.tag, begunMS: nowMS}
	} else if nowMS-e.begunMS >= p.o.WindowMS {
		e.begunMS, e.failures = nowMS, 0
	}
	e.failures++
	if e.level > 0 { // one that was warned goes on: a quarter is enough
		threshold = max(1, threshold/4)
	}
	if int(e.failures) < threshold {
		return
	}
	e.untilMS = nowMS + min(p.o.BaseMS<<min(e.level, 30), p.o.MostMS)
	e.level = min(e.level+1, 30)
	e.begunMS, e.failures = nowMS, 0
}

// spent reports whether e says nothing any more.
func (p *Penalties) spent(e *penalty, nowMS int64) bool {
	return nowMS >= max(e.begunMS, e.untilMS)+p.o.WindowMS
}

// place finds room for a new entry.
func (p *Penalties) place(set []penalty, nowMS int64) *penalty {
	least := &set[0]
	for i := range set {
		e := &set[i]
		if e.tag == 0 {
			p.entries.Add(1)
			return e
		}
		if p.spent(e, nowMS) {
			return e
		}
		if e.level < least.level || e.level == least.level && e.failures < least.failures {
			least = e
		}
	}
	p.evicted.Add(1)
	return least
}

// Passed notes a success: the user's failures are forgiven, and one of the address.
func (p *Penalties) Passed(o Origin, nowMS int64) {
	if p.Idle() {
		return
	}
	p.passed(o.user, true, nowMS)
	p.passed(o.ip, false, nowMS)
}

func (p *Penalties) passed(tag uint64, all bool, nowMS int64) {
	s, set := p.lock(tag)
	defer s.mu.Unlock()
	e := find(set, tag)
	if e == nil {
		return
	}
	if e.failures > 0 {
		e.failures--
	} else if e.level > 0 {
		e.level--
	}
	if all || e.failures == 0 && e.level == 0 || p.spent(e, nowMS) {
		*e = penalty{}
		p.entries.Add(-1)
	}
}

// lock locks the shard of a tag; set is nil if the shard has no memory yet.
func (p *Penalties) lock(tag uint64) (s *penaltyShard, set []penalty) {
	s = &p.shards[tag>>60]
	s.mu.Lock()
	if s.places == nil {
		return s, nil
	}
	return s, s.set(tag, p.sets)
}

func (s *penaltyShard) set(tag uint64, sets int) []penalty {
	i := int(tag>>1) & (sets - 1) * penaltyWays
	return s.places[i : i+penaltyWays]
}

func find(set []penalty, tag uint64) *penalty {
	for i := range set {
		if set[i].tag == tag {
			return &set[i]
		}
	}
	return nil
}
