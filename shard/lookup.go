package shard

import (
	"math/bits"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// group is how many ids of a batch are in flight together: enough to keep the
// memory busy, few enough to stay in the first cache.
const group = 32

// Summary is what queries ask about a user.
type Summary struct {
	Registered   bool
	Status       presence.Status
	Seq          uint64
	LastSeenMS   int64
	CustomStatus string
	Instances    []InstanceSummary // in order of login time, then InstID
}

// InstanceSummary is what queries ask about an instance.
type InstanceSummary struct {
	InstID   uint32
	Platform presence.Platform
	Status   presence.Status
}

// scratch is the memory of one Lookup or Scan.
type scratch struct {
	user    presence.User
	summary Summary
	stream  []byte
	text    []byte
	aims    [group]aimed
	batch   []record
	w       words
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// Lookup visits the users ids of an app, in order; u is nil for an unknown one.
// All of u, its strings too, is lent: it must not be used after visit returned.
func (t *Table) Lookup(app uint32, ids []string, visit func(i int, u *presence.User)) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	for base := 0; base < len(ids); base += group {
		part := ids[base:min(base+group, len(ids))]
		t.ahead(s, app, part)
		for i := range part {
			t.touchMore(&s.aims[i])
		}
		for i := range part {
			visit(base+i, t.lookUser(s, &s.aims[i]))
			t.spoil(s)
		}
	}
	runtime.KeepAlive(t)
}

// LookupStatus is Lookup for what queries ask. It reads one line per user who
// has one instance and no custom status, or none.
func (t *Table) LookupStatus(app uint32, ids []string, visit func(i int, u *Summary)) {
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	for base := 0; base < len(ids); base += group {
		part := ids[base:min(base+group, len(ids))]
		t.ahead(s, app, part)
		for i := range part {
			visit(base+i, t.lookSummary(s, &s.aims[i]))
			t.spoil(s)
		}
	}
	runtime.KeepAlive(t)
}

// GetStatus copies what queries ask about k into dst, whose Instances it
// reuses. If k is unknown it returns false and leaves dst alone.
func (t *Table) GetStatus(k presence.Key, dst *Summary) bool {
	var (
		p probe
		w words
	)
	if !t.aim(&p, k.App, k.UserID) {
		return false
	}
	found := t.find(&p, &w)
	if found && w.brief() {
		w.summary(dst)
	} else if found {
		found = t.getLong(&p, &w, dst)
	}
	runtime.KeepAlive(t)
	return found
}

// getLong is GetStatus for a record that is not brief.
func (t *Table) getLong(p *probe, w *words, dst *Summary) bool {
	var room [192]byte
	stream, found := t.load(p, w, room[:0])
	if found {
		r := reader{b: stream, names: &t.names}
		r.summary(w, dst)
	}
	return found
}

// aimed is an id of a batch: what is looked for, and where it probably is.
type aimed struct {
	probe
	good   bool // it is a UserID
	x      index
	bucket *line          // where it belongs
	slot   *atomic.Uint64 // nil: nowhere near
}

// ahead hashes a group of ids, then touches all their buckets, then the records
// that these lead to: the cache misses of all ids overlap.
func (t *Table) ahead(s *scratch, app uint32, ids []string) {
	for i, id := range ids {
		a := &s.aims[i]
		if a.good = t.aim(&a.probe, app, id); a.good {
			a.x = index(t.indexes[a.shard].Load())
			a.bucket = t.bucket(a.x, a.x.home(a.tag))
			touch(a.bucket)
		}
	}
	for i := range ids {
		a := &s.aims[i]
		if a.slot = nil; a.good {
			if a.slot = t.guess(a); a.slot != nil {
				touch(t.arena.line(uint32(a.slot.Load())))
			}
		}
	}
}

// guess returns the place that probably leads to the user's record.
func (t *Table) guess(a *aimed) *atomic.Uint64 {
	b := a.bucket
	m := match(b, a.tag)
	if m == 0 {
		if b[0].Load() == 0 {
			return nil
		}
		b = t.bucket(a.x, a.x.home(a.tag)+1)
		if m = match(b, a.tag); m == 0 {
			return nil
		}
	}
	return &b[bits.TrailingZeros(m)&7]
}

// findAimed is find, which begins where the user probably is.
func (t *Table) findAimed(a *aimed, w *words) (found bool) {
	if !a.good {
		return false
	}
	if a.slot != nil {
		if found, sure := t.compare(a.x, &a.probe, a.slot, w); found && sure && t.current(a.shard, a.x) {
			return true
		}
	}
	return t.find(&a.probe, w)
}

// touchMore touches the second line of a user's record, where its head is here.
func (t *Table) touchMore(a *aimed) {
	if a.slot == nil {
		return
	}
	l := t.arena.line(uint32(a.slot.Load()))
	if n := uint32(l[wordLink].Load() >> 32); n != 0 {
		touch(t.arena.line(n))
	}
}

// loadAimed is load for a batch, into the scratch.
func (t *Table) loadAimed(s *scratch, a *aimed) (stream []byte, found bool) {
	if !t.findAimed(a, &s.w) {
		return nil, false
	}
	stream, whole := t.rest(&s.w, s.stream[:0])
	if !whole {
		if stream, found = t.load(&a.probe, &s.w, s.stream[:0]); !found {
			return nil, false
		}
	}
	s.stream, s.text = stream, s.text[:0]
	return stream, true
}

func (t *Table) lookUser(s *scratch, a *aimed) *presence.User {
	stream, found := t.loadAimed(s, a)
	if !found {
		return nil
	}
	r := reader{b: stream, names: &t.names, text: &s.text}
	r.user(&s.w, &s.user)
	return &s.user
}

func (t *Table) lookSummary(s *scratch, a *aimed) *Summary {
	if !t.findAimed(a, &s.w) {
		return nil
	}
	if s.w.brief() {
		s.w.summary(&s.summary)
		return &s.summary
	}
	stream, found := t.loadAimed(s, a)
	if !found {
		return nil
	}
	r := reader{b: stream, names: &t.names, text: &s.text}
	r.summary(&s.w, &s.summary)
	return &s.summary
}

// brief reports whether the fixed words say all that queries ask.
func (w *words) brief() bool {
	return w[wordHead]>>bitCustom&3 == 0 && w.instances() <= 1
}

// summary fills u with what a brief record says, reusing its Instances.
func (w *words) summary(u *Summary) {
	u.Registered, u.Seq, u.LastSeenMS, u.Status = w.bit(bitRegistered), w.seq(), w.lastSeenMS(), w.userStatus()
	u.CustomStatus = ""
	n := w.instances()
	if cap(u.Instances) < n {
		u.Instances = make([]InstanceSummary, n)
	}
	if u.Instances = u.Instances[:n]; n > 0 {
		u.Instances[0] = InstanceSummary{w.instID(), w.platform(), w.status()}
	}
}

// summary fills u, reusing its Instances.
func (r *reader) summary(w *words, u *Summary) {
	u.Registered, u.Seq, u.LastSeenMS, u.Status = w.bit(bitRegistered), w.seq(), w.lastSeenMS(), w.userStatus()
	n := w.instances()
	first := InstanceSummary{w.instID(), w.platform(), w.status()}
	if w.bit(bitWide) {
		u.Seq, u.LastSeenMS, u.Status = r.uint(), r.int(), presence.Status(r.byte())
		if n > 0 {
			first = InstanceSummary{uint32(r.uint()), presence.Platform(r.byte()), presence.Status(r.byte())}
		}
	}
	if n == manyInstances {
		n = int(r.uint())
	}
	u.Instances = u.Instances[:0]
	for i := range n {
		in := first
		if i > 0 {
			in.Platform, in.Status, in.InstID = r.other()
		}
		u.Instances = append(u.Instances, in)
	}
	old := u.CustomStatus
	u.CustomStatus = ""
	if w.bit(bitCustom) {
		u.CustomStatus = r.string(r.bytes(int(r.uint())), old)
	}
}

// spoil overwrites what was lent, in tests.
func (t *Table) spoil(s *scratch) {
	if !t.poison {
		return
	}
	for i := range s.text {
		s.text[i] = 0xdd
	}
	for i := range s.user.Instances {
		s.user.Instances[i] = presence.Instance{InstID: spoiled, Status: 0xdd, LoginMS: -spoiled}
	}
	in := s.user.Instances[:0]
	s.user = presence.User{Seq: spoiled, EventSeq: spoiled, LastInstID: spoiled, LastSeenMS: -spoiled, CustomStatus: "used after the visit", Instances: in}
	s.summary = Summary{Seq: spoiled, LastSeenMS: -spoiled, CustomStatus: "used after the visit", Instances: s.summary.Instances[:0]}
}

// spoiled is a number that no test takes for a good one.
const spoiled = 0xdeaddead
