// Package shard is the presence table: who is where, for very many users, read
// from everywhere all the time.
//
// The obvious algorithm is a map under a read-write lock, in shards. Its readers
// write to the lock's cache line, wait while a writer is stopped inside, and wait
// behind a growing map. Here readers take no lock, never wait and never retry.
//
// # Structure
//
// Each user is an immutable record; a change publishes a new one. The records of
// a shard form one list ordered by hash, then app, then UserID. An index over the
// list has a bucket per range of hashes and points to the first record in it.
// The shard is the hash's top bits, the bucket the bits below, so the table as a
// whole is ordered by hash: that is what a scan walks.
//
// Growing doubles the index and touches no link of the list: a bucket of the
// old index covers two of the new one, and its chain runs on through both. So
// readers of either index are right while one replaces the other, in one store.
//
// # Invariants
//
//  1. A record's contents never change once a reader can reach it, but for its
//     next pointer while it is in the list. A record that left the list keeps
//     its next pointer, and never comes back.
//  2. Next pointers ascend strictly in the order of the list. So every walk
//     ends, and meets no user twice.
//  3. At each moment the records reachable in a bucket of the current index are
//     the users of its range: a single store adds, replaces or removes one.
//  4. A change at the front of a bucket stores the index first, and only then
//     the next pointer of the record before, which lies in another bucket. That
//     link is followed by readers of older indexes alone. They began before the
//     change, so they may still see the old state; they must not see the new one
//     while later readers do not.
//
// From 1 follows that what a reader finds, or finds missing, was so at some
// moment since it began: each record that it passes was in the list then, or
// left it later with a next pointer that was right when it left. So each
// operation on a user is linearizable.
//
// # Operations
//
//   - Get, Lookup, Scan: wait-free. Bounded by the length of a bucket's chain,
//     which is below 1 on average; a writer stopped anywhere stops none of them.
//   - Put, Delete: serialized by the caller per shard, O(1). Growing costs a pass
//     over one shard's index; the list is halved or doubled one shard at a time.
//   - Len reads a counter per shard. Check is for tests and post-mortems.
//
// # Tried and rejected
//
//   - Chains per bucket that are cut when the index doubles: a reader of the old
//     index that has not reached the cut misses users who are there.
//   - The key as a string: one more cache miss per hit than key bytes in the record.
//   - A batch as a loop of Get: each id waits for its own misses. Lookup hashes a
//     group of ids, then touches all their buckets, then all their records.
//
// The form without pointers (records in slabs, seen by the collector as bytes)
// can take this one's place: no pointer to a record leaves the package for longer
// than a visit. Builds with the race detector lend visitors a copy that is
// poisoned afterwards, so that a visitor who keeps or changes it is found out.
package shard

import (
	"fmt"
	"math/bits"
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
	// shorter. An empty shard takes 128 bytes.
	Shards int
}

// validate fills in the defaults. It panics on values that make no table.
func (o *Options) validate() {
	if o.Shards == 0 {
		o.Shards = DefaultShards
	}
	if o.Shards < 1 || o.Shards > MaxShards || o.Shards&(o.Shards-1) != 0 {
		panic(fmt.Sprintf("shard: Shards is %d, want a power of two from 1 to %d", o.Shards, MaxShards))
	}
}

// Table maps users to their presence. Any goroutine may read at any time. Each
// shard must be written by one goroutine at a time: a second one panics.
type Table struct {
	// Immutable after New.
	shards []shard
	lead   uint8  // bits of the hash that choose the shard
	mask   uint64 // bits of the hash in use: all, fewer in tests to force equal hashes
	// hook, if a test set it, runs before each step of a write that readers can see.
	hook func(step)
}

// shard is a part of the table, in a cache line of its own: a writer's counter
// must not slow down the readers of its neighbours.
type shard struct {
	// Atomic.
	index   atomic.Pointer[index]
	n       atomic.Int64
	writing atomic.Bool

	// Owned by the writer.
	last *record // the end of the list

	_ [32]byte
}

// New returns an empty table. It panics if o is not valid.
func New(o Options) *Table {
	o.validate()
	t := &Table{
		shards: make([]shard, o.Shards),
		lead:   uint8(bits.TrailingZeros(uint(o.Shards))),
		mask:   ^uint64(0),
	}
	for i := range t.shards {
		t.shards[i].index.Store(newIndex(t.lead, minBucketBits))
	}
	return t
}

// NumShards is the number of shards.
func (t *Table) NumShards() int { return len(t.shards) }

// ShardOf is the shard of users with that hash.
func (t *Table) ShardOf(hash uint64) int { return int(hash >> (64 - t.lead)) }

// Get copies what is known about k into dst, whose Instances it reuses: they
// must be the caller's own. If k is unknown it returns false and leaves dst alone.
func (t *Table) Get(k presence.Key, dst *presence.User) bool {
	h := t.hash(k.App, k.UserID)
	r := find(t.first(h), h, k.App, k.UserID)
	if r == nil {
		return false
	}
	instances := append(dst.Instances[:0], r.user.Instances...)
	*dst = r.user
	dst.Instances = instances
	return true
}

// group is how many ids of a batch are in flight together: enough to keep the
// memory busy, few enough for the stack.
const group = 32

// Lookup visits the users ids of an app, in order; u is nil for an unknown one.
// u and its Instances are the table's: they must not be changed, and not be
// used after visit returned. Strings in them may be kept.
func (t *Table) Lookup(app uint32, ids []string, visit func(i int, u *presence.User)) {
	for base := 0; base < len(ids); base += group {
		t.lookupGroup(app, ids[base:min(base+group, len(ids))], base, visit)
	}
}

// lookupGroup works in passes, so that the cache misses of all ids overlap.
func (t *Table) lookupGroup(app uint32, ids []string, base int, visit func(i int, u *presence.User)) {
	var (
		hashes  [group]uint64
		indexes [group]*index
		records [group]*record
		heads   [group]uint64
	)
	for i, id := range ids {
		hashes[i] = t.hash(app, id)
		indexes[i] = t.shards[t.ShardOf(hashes[i])].index.Load()
	}
	for i := range ids {
		records[i] = indexes[i].first(hashes[i])
	}
	for i := range ids {
		if r := records[i]; r != nil {
			heads[i] = r.hash
		}
	}
	for i, id := range ids {
		var u *presence.User
		if records[i] != nil && heads[i] <= hashes[i] {
			if r := find(records[i], hashes[i], app, id); r != nil {
				u = &r.user
			}
		}
		if u == nil {
			visit(base+i, nil)
			continue
		}
		lend(u, func(u *presence.User) { visit(base+i, u) })
	}
}

// Put makes u what is known about k. It copies u and its Instances and keeps
// the strings inside: they must not lie in memory that is written again. k's own
// string is not kept. Readers see all of the change or nothing of it. It panics
// if k.UserID has not 1 to 32 bytes, or if another goroutine writes this shard.
func (t *Table) Put(k presence.Key, u *presence.User) {
	if len(k.UserID) == 0 || len(k.UserID) > presence.MaxUserID {
		panic(fmt.Sprintf("shard: UserID %.40q has %d bytes, want 1 to %d", k.UserID, len(k.UserID), presence.MaxUserID))
	}
	h := t.hash(k.App, k.UserID)
	s := t.enter(t.ShardOf(h))
	defer s.leave()
	r := newRecord(h, k, u)
	at, next := s.locate(h, k.App, k.UserID)
	if at != nil {
		t.replace(s, at, r)
		return
	}
	t.insert(s, r, next)
	s.n.Add(1)
	t.resize(s)
}

// Delete forgets k and reports whether it was known. The conditions of Put hold.
func (t *Table) Delete(k presence.Key) bool {
	h := t.hash(k.App, k.UserID)
	s := t.enter(t.ShardOf(h))
	defer s.leave()
	at, _ := s.locate(h, k.App, k.UserID)
	if at == nil {
		return false
	}
	t.remove(s, at)
	s.n.Add(-1)
	t.resize(s)
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

// enter begins a write to shard i.
func (t *Table) enter(i int) *shard {
	s := &t.shards[i]
	if !s.writing.CompareAndSwap(false, true) {
		panic(fmt.Sprintf("shard: two writers in shard %d", i))
	}
	return s
}

func (s *shard) leave() { s.writing.Store(false) }

// first is where the search for hash h begins.
func (t *Table) first(h uint64) *record {
	return t.shards[t.ShardOf(h)].index.Load().first(h)
}
