// Package shard is the presence table: who is where, for very many users, read
// from everywhere all the time.
//
// The obvious algorithm is a map of pointers under a read-write lock, in shards.
// Its readers write to the lock's cache line, wait while a writer is stopped
// inside and behind a growing map; each hit follows pointers through three or
// four cold lines, and the collector follows all of them too: seconds of its
// time per cycle with 10 million users.
//
// # Structure
//
// Everything that readers see lies in lines of 64 bytes, in memory that the
// collector does not scan: mapped, in huge pages once the table is large. A
// shard has an index, an array of buckets of one line: a counter and 7 entries
// of 32 bits of hash and a record's line number (index.go). A record is one line
// for an account that is Offline and for all that a query asks, and further
// lines chained to it for devices and links (record.go, stream.go). So a hit is
// two lines. Strings that users share stand once in a bounded table of names.
//
// Records are never changed. A write makes a new one, of lines that nobody
// needs, and publishes it with one store of an entry. The old one's lines are
// used again after grace further writes to the shard.
//
// # Invariants
//
//  1. A line's first word is the stamp of the write that made it, never used
//     before. It is stored before all else when a line is used again. So who
//     finds the same stamp before and after reading has the words of one write,
//     and further lines with the head's stamp are of the same write.
//  2. The head's stamp is unsettled until its entry is published: a reader who
//     comes to a line that is being used again does not take it for published.
//     If an unsettled record's entry still leads to it, it is published.
//  3. In one array an entry never moves. It is counted past the buckets that it
//     skipped from before it is stored until after it is cleared. So who walks
//     from its bucket on until nobody is counted past meets everybody who was
//     there all the time.
//  4. A replaced array is left as it was until it is used again. A reader takes
//     nothing from an array, neither a hit nor a miss, unless the shard's index
//     word is the same afterwards as before; with its counter it never comes back.
//  5. No number read from memory that was used again can lead outside: a line
//     number that names nothing leads to an empty line.
//
// From these follows that what a reader finds, or finds missing, was so at one
// moment since it began: each operation on a user is linearizable.
//
// # Operations
//
//   - Get, GetStatus, Lookup, LookupStatus: lock-free, and a writer stopped
//     anywhere stops none of them. They look again only if the shard's index was
//     replaced meanwhile (once per doubling) or a record was used again while
//     they read it (once per 32 lines that writes to the shard retire, one write or more): no storm of retries.
//   - Scan: the same, per bucket; and again for a place that was written while
//     it was read.
//   - Put, Delete: serialized by the caller per shard, O(1). They take the
//     arena's mutex once per 64 lines and when an index changes its size. That
//     places a shard's entries anew by the bits that they hold: no record is touched.
//   - Len reads a counter per shard. Check is for tests and post-mortems.
//
// A cursor of Scan is a place in the order of hashes; buckets are in that order
// too, whatever the size of the index, so growth neither skips nor repeats.
//
// # Tried and rejected
//
//   - Pointers to immutable records in an ordered list (the table before this
//     one): wait-free, but 320 bytes per user and more, all of it scanned.
//   - Readers that look again whenever the entry changed: a user who is written
//     all the time starves them. Hence stamps, and the settled bit.
//   - A sequence lock per record: a writer preempted inside stops its readers.
//   - A hash of the device id in place of the id: 8 bytes saved, and the console
//     could no longer show it. A hexadecimal id is kept in half its size instead.
//   - Lines from the Go heap: one collection's garbage then may be as large as
//     the table, and its small pages cost a page walk per miss.
//   - A batch as a loop of Get: each id waits for its own misses. A batch hashes
//     32 ids, then prefetches all their buckets, then all their records.
//   - A find for the usual case in one straight line, so that the next look-up's
//     miss begins while this one waits: fewer instructions (48 ns instead of 51
//     with all in cache), yet still more than a processor with room for 320 looks
//     ahead; no difference at a million users.
//
// Figures are in docs/performance-shard.md.
package shard

import (
	"fmt"
	"math/bits"
	"runtime"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Bounds of Options.Shards.
const (
	DefaultShards = 1024
	MaxShards     = 1 << 16
)

// Options configure a Table. The zero value is the default.
type Options struct {
	// Shards is how many parts can be written at the same time, a power of two
	// from 1 to 65536. Default 1024. More shards make the pauses of growing
	// shorter. An empty shard takes about 400 bytes.
	Shards int
	// MaxNames is how many names (SDK versions, models, listeners) are kept once
	// for all users. Those that come later are spelled out in each record.
	// Default 16384, at most 1<<20; a place for a name takes 16 bytes.
	MaxNames int
	// GoHeap takes memory from the Go heap instead of mapping it, as systems
	// without mapped memory do. There the race detector sees it.
	GoHeap bool
}

// validate fills in the defaults. It panics on values that make no table.
func (o *Options) validate() {
	if o.Shards == 0 {
		o.Shards = DefaultShards
	}
	if o.MaxNames == 0 {
		o.MaxNames = DefaultMaxNames
	}
	if o.Shards < 1 || o.Shards > MaxShards || o.Shards&(o.Shards-1) != 0 {
		panic(fmt.Sprintf("shard: Shards is %d, want a power of two from 1 to %d", o.Shards, MaxShards))
	}
	if o.MaxNames < 1 || o.MaxNames > 1<<20 {
		panic(fmt.Sprintf("shard: MaxNames is %d, want 1 to %d", o.MaxNames, 1<<20))
	}
}

// Table maps users to their presence. Any goroutine may read at any time. Each
// shard must be written by one goroutine at a time: a second one panics.
type Table struct {
	// Immutable after New.
	lead    uint8  // bits of the hash that choose the shard
	minBits uint8  // of an index that is not empty; less in tests, to grow early
	mask    uint64 // bits of the hash in use: all, fewer in tests to force equal hashes
	shards  []shard
	// hook and pause, if a test set them, run before each step of a write that
	// readers can see, and between the loads of a reader.
	hook   func(step)
	pause  func()
	poison bool // tests: overwrite what was lent when the visit is over

	// Atomic: the index of each shard, apart from what writers store to often.
	indexes []atomic.Uint64

	arena arena
	names names
}

// New returns an empty table. It panics if o is not valid.
func New(o Options) *Table {
	o.validate()
	t := &Table{
		lead:    uint8(bits.TrailingZeros(uint(o.Shards))),
		minBits: pageBits,
		mask:    ^uint64(0),
		shards:  make([]shard, o.Shards),
		indexes: make([]atomic.Uint64, o.Shards),
	}
	t.arena.init(o.GoHeap)
	t.names.init(o.MaxNames)
	for i := range t.shards {
		t.shards[i].stock.arena, t.shards[i].stock.grace = &t.arena, grace
	}
	runtime.AddCleanup(t, (*mappings).unmap, t.arena.mappings)
	return t
}

// NumShards is the number of shards.
func (t *Table) NumShards() int { return len(t.shards) }

// ShardOf is the shard of users with that hash.
func (t *Table) ShardOf(hash uint64) int { return int(hash >> (64 - t.lead)) }

// Get copies what is known about k into dst, whose Instances it reuses: they
// must be the caller's own. If k is unknown it returns false and leaves dst alone.
func (t *Table) Get(k presence.Key, dst *presence.User) bool {
	var (
		p    probe
		w    words
		room [192]byte
	)
	if !t.aim(&p, k.App, k.UserID) {
		return false
	}
	stream, found := t.load(&p, &w, room[:0])
	runtime.KeepAlive(t)
	if !found {
		return false
	}
	r := reader{b: stream, names: &t.names}
	r.user(&w, dst)
	return true
}

// Put makes u what is known about k. It copies all of u; k's string is not
// kept either. Readers see all of the change or nothing of it. It panics if
// k.UserID has not 1 to 32 bytes, or if another goroutine writes this shard.
func (t *Table) Put(k presence.Key, u *presence.User) {
	var p probe
	if !t.aim(&p, k.App, k.UserID) {
		panic(fmt.Sprintf("shard: UserID %.40q has %d bytes, want 1 to %d", k.UserID, len(k.UserID), presence.MaxUserID))
	}
	s := t.enter(int(p.shard))
	defer s.leave()
	s.draft.draw(t, &p, u)
	if slot, _ := t.locate(&p); slot != nil {
		t.replace(s, &p, slot)
	} else {
		t.insert(s, &p)
	}
	t.tidy(s, p.shard)
	runtime.KeepAlive(t)
}

// Delete forgets k and reports whether it was known. The conditions of Put hold.
func (t *Table) Delete(k presence.Key) bool {
	var p probe
	if !t.aim(&p, k.App, k.UserID) {
		return false
	}
	s := t.enter(int(p.shard))
	defer s.leave()
	slot, bucket := t.locate(&p)
	if slot == nil {
		return false
	}
	t.remove(s, &p, slot, bucket)
	t.tidy(s, p.shard)
	runtime.KeepAlive(t)
	return true
}

// Len is the number of users. While there are writers it is a moment's value per shard.
func (t *Table) Len() int {
	n := 0
	for i := range t.shards {
		n += int(t.shards[i].n.Load())
	}
	return n
}

// Stats says what a table holds of memory, and what its bounds turned away.
type Stats struct {
	Bytes        int64 // of lines, taken from the system
	Names        int64 // kept once for all
	NamesRefused int64 // spelled out, each time that they were written
}

// Stats returns a moment's values.
func (t *Table) Stats() Stats {
	t.arena.mu.Lock()
	defer t.arena.mu.Unlock()
	return Stats{int64(t.arena.resident) * chunkBytes, t.names.n.Load(), t.names.refused.Load()}
}

// enter begins a write to shard i.
func (t *Table) enter(i int) *shard {
	s := &t.shards[i]
	if !s.writing.CompareAndSwap(false, true) {
		panic(fmt.Sprintf("shard: two writers in shard %d", i))
	}
	return s
}

func (s *shard) leave() { s.writing.Store(false) }
