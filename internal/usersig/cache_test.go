package usersig

import (
	"fmt"
	"testing"
)

func cacheCheck(user string) *Check {
	return &Check{AppID: vectorApp, UserID: user, Secrets: []string{vectorKey}, NowS: vectorTime}
}

func signFor(tb testing.TB, secret, user string, timeS, lifeS int64) []byte {
	sig, err := Sign(secret, vectorApp, user, timeS, lifeS, nil)
	if err != nil {
		tb.Fatal(err)
	}
	return []byte(sig)
}

// What is found is what Verify would say; everything that a UserSig is bound to
// makes a difference.
func TestCacheFindsOnlyTheSame(t *testing.T) {
	c := NewCache(64)
	check := cacheCheck("alice")
	keys := FingerprintOf(check.Secrets)
	sig := signFor(t, vectorKey, "alice", vectorTime, 100)
	key := c.Key(sig, check, keys)
	if _, ok := c.Get(key, vectorTime); ok {
		t.Fatal("an empty cache found something")
	}
	want := Verify(sig, check)
	c.Put(key, &want)
	got, ok := c.Get(key, vectorTime)
	if !ok || got.TimeS != want.TimeS || got.EndS != want.EndS || got.Code != OK {
		t.Fatalf("got %+v, %v; Verify said %+v", got, ok, want)
	}
	other := func(what string, sig []byte, change func(*Check), keys Fingerprint) {
		k := *check
		change(&k)
		if _, ok := c.Get(c.Key(sig, &k, keys), vectorTime); ok {
			t.Errorf("%s: found", what)
		}
	}
	same := func(*Check) {}
	changed := append([]byte(nil), sig...)
	changed[len(changed)/2] ^= 1
	other("another UserSig", changed, same, keys)
	other("another user", sig, func(k *Check) { k.UserID = "bob" }, keys)
	other("another app", sig, func(k *Check) { k.AppID++ }, keys)
	other("a key more", sig, same, FingerprintOf([]string{vectorKey, "another secret key"}))
	other("no key", sig, same, FingerprintOf(nil))
	// The end of the name moves into the UserSig.
	other("split elsewhere", append([]byte("e"), sig...), func(k *Check) { k.UserID = "alic" }, keys)
	if _, ok := NewCache(64).Get(key, vectorTime); ok {
		t.Error("another cache found it")
	}
}

func TestFingerprintSeesOrderAndBounds(t *testing.T) {
	seen := map[Fingerprint][]string{}
	for _, s := range [][]string{nil, {"a"}, {"ab"}, {"a", "b"}, {"b", "a"}, {"", "ab"}, {"ab", ""}} {
		f := FingerprintOf(s)
		if old, ok := seen[f]; ok {
			t.Errorf("%q and %q have the same fingerprint", old, s)
		}
		seen[f] = s
	}
}

// A UserSig is found until its last second, and while the clock stands before it
// only as far as Verify allows.
func TestCacheHeedsTime(t *testing.T) {
	c := NewCache(64)
	check := cacheCheck("alice")
	sig := signFor(t, vectorKey, "alice", vectorTime, 100)
	key := c.Key(sig, check, Fingerprint{})
	r := Verify(sig, check)
	c.Put(key, &r)
	for _, at := range []int64{vectorTime - MaxAheadS - 1, vectorTime - MaxAheadS, vectorTime, vectorTime + 100, vectorTime + 101} {
		check.NowS = at
		want := Verify(sig, check).Code == OK
		if _, got := c.Get(key, at); got != want {
			t.Errorf("at %d found %v, Verify says %v", at-vectorTime, got, want)
		}
	}
}

// Only what was good is remembered, and nothing that is too long.
func TestCacheRefuses(t *testing.T) {
	c := NewCache(64)
	check := cacheCheck("alice")
	for _, code := range []Code{Expired, Empty, Malformed, Mismatch, OtherUser, OtherApp} {
		key := c.Key([]byte{byte(code), byte(code >> 8)}, check, Fingerprint{})
		c.Put(key, &Result{Code: code, TimeS: vectorTime, EndS: vectorTime + 100})
		if _, ok := c.Get(key, vectorTime); ok {
			t.Errorf("a UserSig with code %d is remembered", code)
		}
	}
	for size, want := range map[int]bool{maxCachedSize: true, maxCachedSize + 1: false} {
		key := c.Key(make([]byte, size), check, Fingerprint{})
		c.Put(key, &Result{TimeS: vectorTime, EndS: vectorTime + 100})
		if _, ok := c.Get(key, vectorTime); ok != want {
			t.Errorf("of %d bytes: remembered %v, want %v", size, ok, want)
		}
	}
}

// It holds what it was made for and then forgets, old ones before new ones; it
// never grows.
func TestCacheIsBounded(t *testing.T) {
	const n = 1024
	c := NewCache(n)
	check := cacheCheck("alice")
	keyOf := func(i int) CacheKey { return c.Key(fmt.Appendf(nil, "sig-%d", i), check, Fingerprint{}) }
	found := func(from, to int) (k int) {
		for i := from; i < to; i++ {
			if _, ok := c.Get(keyOf(i), vectorTime); ok {
				k++
			}
		}
		return k
	}
	for i := range 10 * n {
		c.Put(keyOf(i), &Result{TimeS: vectorTime, EndS: vectorTime + 100})
	}
	total := found(0, 10*n)
	if total > n || uint64(10*n-total) != c.Evicted() {
		t.Errorf("%d of at most %d are there, %d evicted", total, n, c.Evicted())
	}
	if old, fresh := found(0, 5*n), found(9*n, 10*n); old > n/10 || fresh < n/2 {
		t.Errorf("%d old and %d fresh ones are there", old, fresh)
	}
	before := c.Evicted()
	last := 10*n - 1
	c.Put(keyOf(last), &Result{TimeS: vectorTime, EndS: vectorTime + 200})
	if r, ok := c.Get(keyOf(last), vectorTime+150); !ok || r.EndS != vectorTime+200 || c.Evicted() != before {
		t.Errorf("put again: %+v, %v, %d evicted", r, ok, c.Evicted()-before)
	}
}

func TestCacheHitAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	c, sigs, checks, keys := fullCache(t, 100)
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		if _, ok := c.Get(c.Key(sigs[i], &checks[i], keys), vectorTime); !ok {
			t.Fatal("not found")
		}
		i = (i + 1) % len(sigs)
	}); n != 0 {
		t.Errorf("%v allocations a hit", n)
	}
}

func fullCache(tb testing.TB, n int) (*Cache, [][]byte, []Check, Fingerprint) {
	sigs, checks := benchSigs(tb, n)
	c, keys := NewCache(1<<16), FingerprintOf([]string{vectorKey})
	for i := range sigs {
		r := Verify(sigs[i], &checks[i])
		c.Put(c.Key(sigs[i], &checks[i], keys), &r)
	}
	return c, sigs, checks, keys
}

func BenchmarkCacheHit(b *testing.B) {
	c, sigs, checks, keys := fullCache(b, 1000)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if _, ok := c.Get(c.Key(sigs[i], &checks[i], keys), vectorTime); !ok {
			b.Fatal("not found")
		}
		i = (i + 1) % len(sigs)
	}
}
