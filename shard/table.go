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
		t.shards[i].stock.arena = &t.arena
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
