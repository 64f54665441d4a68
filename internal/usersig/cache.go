package usersig

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
)

// Cache remembers UserSigs that Verify has found good, for clients that come back
// with the same one. It keeps 128 bits of a keyed SHA-256 of app, keys, user and
// UserSig, never the UserSig itself. A faster hash will not do: to let in who
// collides with a good one is to let in a forger, and hashes for tables, keyed or
// not, can be made to collide.
//
// The app's keys are part of what is hashed: when one is added or removed, all
// that was remembered under the keys before is never found again. When a UserSig
// ends is looked at each time. Whether it was revoked by time is for the
// directory, which is asked in either case.
//
// It is a set-associative table of a fixed size, taken at once; full, the oldest of
// four gives way. Safe for concurrent use.
type Cache struct {
	// Immutable after NewCache.
	secret [16]byte
	shards []cacheShard

	// Atomic.
	evicted atomic.Uint64
}

type cacheShard struct {
	mu   sync.Mutex
	sets [][cacheWays]cacheEntry // newest first
	_    [32]byte                // two shards never share a cache line
}

const (
	cacheShards = 16
	cacheWays   = 4
	// maxCachedSize is the longest UserSig that is remembered. They have about 220
	// bytes, 500 with a buffer of 200.
	maxCachedSize = 768
)

// cacheEntry is a good UserSig; the zero value is an unused place.
type cacheEntry struct {
	key         CacheKey
	timeS, endS int64
}

// CacheKey stands for a UserSig of a user. The zero value stands for one that is
// not remembered.
type CacheKey [16]byte

// Fingerprint stands for the keys of an app in their order.
type Fingerprint [16]byte

// FingerprintOf returns what stands for the secrets.
func FingerprintOf(secrets []string) Fingerprint {
	var b []byte
	for _, s := range secrets {
		b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
		b = append(b, s...)
	}
	sum := sha256.Sum256(b)
	return Fingerprint(sum[:])
}

// NewCache returns an empty cache for n UserSigs, rounded up to a power of two of
// at least 64, 32 bytes each.
func NewCache(n int) *Cache {
	n = max(n, cacheShards*cacheWays)
	sets := 1 << bits.Len(uint((n-1)/(cacheShards*cacheWays)))
	c := &Cache{shards: make([]cacheShard, cacheShards)}
	_, _ = rand.Read(c.secret[:]) // never fails
	for i := range c.shards {
		c.shards[i].sets = make([][cacheWays]cacheEntry, sets)
	}
	return c
}

// Evicted is how many UserSigs were forgotten for want of room.
func (c *Cache) Evicted() uint64 { return c.evicted.Load() }

// Key returns what stands for sig as a UserSig of k.UserID under an app's keys.
func (c *Cache) Key(sig []byte, k *Check, keys Fingerprint) CacheKey {
	if len(sig) > maxCachedSize || len(k.UserID) > maxCachedSize/8 {
		return CacheKey{}
	}
	var room [1024]byte
	b := append(room[:0], c.secret[:]...)
	b = append(b, keys[:]...)
	b = binary.BigEndian.AppendUint32(b, k.AppID)
	b = append(b, byte(len(k.UserID))) // before the name: ("ab", "c") must not read as ("a", "bc")
	b = append(b, k.UserID...)
	b = append(b, sig...)
	sum := sha256.Sum256(b)
	return CacheKey(sum[:])
}

// Get returns what Verify would of a UserSig that is remembered; KeyIndex alone is
// not known, -1. ok is false if it is not there or not valid at nowS: ask Verify.
func (c *Cache) Get(key CacheKey, nowS int64) (r Result, ok bool) {
	s, set := c.lock(key)
	defer s.mu.Unlock()
	for i := range set {
		e := &set[i]
		if e.key == key && key != (CacheKey{}) {
			return Result{TimeS: e.timeS, EndS: e.endS, KeyIndex: -1}, nowS <= e.endS && nowS >= e.timeS-MaxAheadS
		}
	}
	return Result{}, false
}

// Put remembers a UserSig that Verify has found good.
func (c *Cache) Put(key CacheKey, r *Result) {
	if key == (CacheKey{}) || r.Code != OK {
		return
	}
	s, set := c.lock(key)
	defer s.mu.Unlock()
	last := cacheWays - 1
	for i := range set {
		if set[i].key == key || set[i].key == (CacheKey{}) {
			last = i
			break
		}
	}
	if old := set[last].key; old != key && old != (CacheKey{}) {
		c.evicted.Add(1)
	}
	copy(set[1:last+1], set[:last])
	set[0] = cacheEntry{key, r.TimeS, r.EndS}
}

func (c *Cache) lock(key CacheKey) (*cacheShard, *[cacheWays]cacheEntry) {
	h := binary.BigEndian.Uint64(key[:])
	s := &c.shards[h%cacheShards]
	s.mu.Lock()
	return s, &s.sets[h/cacheShards%uint64(len(s.sets))]
}
