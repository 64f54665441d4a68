package shard

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"unsafe"

	"github.com/cespare/xxhash/v2"
	"go.uber.org/goleak"

	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestMain(m *testing.M) {
	if err := flag.Set("rapid.checks", "300"); err != nil { // the command line wins
		panic(err)
	}
	goleak.VerifyTestMain(m)
}

// newTable returns a table whose structure is checked when the test ends.
func newTable(tb testing.TB, shards int) *Table {
	t := small(shards)
	tb.Cleanup(func() { check(tb, t) })
	return t
}

// small returns a table that grows from the first users on, overwrites what it
// lent and uses lines again at once. Every fourth is in the Go heap, where the race detector sees it.
func small(shards int) *Table {
	t := New(Options{Shards: shards, MaxNames: 64, GoHeap: tables.Add(1)%4 == 0})
	t.minBits, t.poison = 0, true
	for i := range t.shards {
		t.shards[i].stock.grace = 1 // readers are to meet lines that are used again
	}
	return t
}

var tables atomic.Int64

func check(tb testing.TB, t *Table) {
	tb.Helper()
	if err := t.Check(); err != nil {
		tb.Error(err)
	}
}

func key(id string) presence.Key { return presence.Key{App: 7, UserID: id} }

// version is a user who can be told from other versions of it, in parts that a
// torn read would mix: it has v%4 instances.
func version(v uint64) presence.User {
	u := presence.User{Registered: true, Seq: v, EventSeq: v, LastSeenMS: int64(v), CustomStatus: fmt.Sprint(v)}
	for i := range v % 4 {
		u.Instances = append(u.Instances, presence.Instance{InstID: uint32(i) + 1, Status: presence.Online, LoginMS: int64(v)})
	}
	return u
}

// wholeVersion returns the version of u, and an error if u is not version(v) in all parts.
func wholeVersion(u *presence.User) (uint64, error) {
	want := version(u.Seq)
	if u.EventSeq != want.EventSeq || u.LastSeenMS != want.LastSeenMS || u.CustomStatus != want.CustomStatus || len(u.Instances) != len(want.Instances) {
		return 0, fmt.Errorf("torn user: %+v", *u)
	}
	for i := range u.Instances {
		if u.Instances[i] != want.Instances[i] {
			return 0, fmt.Errorf("torn instance %d of user: %+v", i, *u)
		}
	}
	return u.Seq, nil
}

func put(t *Table, k presence.Key, v uint64) {
	u := version(v)
	t.Put(k, &u)
}

// get returns the version of k, 0 if it is unknown.
func get(tb interface{ Fatal(...any) }, t *Table, k presence.Key) uint64 {
	var u presence.User
	if !t.Get(k, &u) {
		return 0
	}
	v, err := wholeVersion(&u)
	if err != nil {
		tb.Fatal(err)
	}
	return v
}

func TestPutGetDelete(t *testing.T) {
	tab := newTable(t, 0)
	u := sampleUser(1)
	u.CustomStatus, u.CutoffS, u.RevokedSeq = "busy", 5, 6
	u.Instances = append(u.Instances, u.Instances[0])
	for n := range 3 { // without an instance, with one inside the record, with more
		k := key(fmt.Sprint("user", n))
		in := u.Clone()
		in.Instances = in.Instances[:n]
		want := in.Clone()
		tab.Put(k, &in)
		for i := range in.Instances {
			in.Instances[i].InstID = 99 // the table has its own copy
		}
		got := presence.User{CustomStatus: "old", Instances: make([]presence.Instance, 0, 8)}
		room := &got.Instances[:1][0]
		if !tab.Get(k, &got) || got.CustomStatus != "busy" || len(got.Instances) != n {
			t.Fatalf("Get %v: %+v", k, got)
		}
		if n > 0 && (!reflect.DeepEqual(got, want) || &got.Instances[0] != room) {
			t.Fatalf("Get %v: %+v, want %+v in the caller's slice", k, got, want)
		}
		for i := range got.Instances {
			got.Instances[i].InstID = 98 // the caller has its own copy
		}
		var again presence.User
		if tab.Get(k, &again); n > 0 && again.Instances[0].InstID != 1 {
			t.Fatalf("a reader's copy is the table's: %+v", again)
		}
	}
	if tab.Len() != 3 || tab.Delete(key("nobody")) || !tab.Delete(key("user1")) || tab.Delete(key("user1")) || tab.Len() != 2 {
		t.Fatalf("Delete is wrong, Len is %d", tab.Len())
	}
	left := presence.User{Seq: 5, Instances: make([]presence.Instance, 3)}
	if tab.Get(key("user1"), &left) || left.Seq != 5 || len(left.Instances) != 3 {
		t.Fatalf("a miss changed the caller's user: %+v", left)
	}
	if tab.Get(presence.Key{App: 8, UserID: "user2"}, &left) {
		t.Fatal("found a user of another app")
	}
}

func TestUserIDBounds(t *testing.T) {
	tab := newTable(t, 1)
	for n := range presence.MaxUserID + 3 {
		k := key(strings.Repeat("x", n))
		err := catch(func() { put(tab, k, 1) })
		good := n >= 1 && n <= presence.MaxUserID
		if good != (err == "") || !good && !strings.Contains(err, fmt.Sprintf("has %d bytes, want 1 to 32", n)) {
			t.Errorf("Put of a UserID of %d bytes: %q", n, err)
		}
		if found := get(t, tab, k) == 1; found != good {
			t.Errorf("a UserID of %d bytes: found is %t", n, found)
		}
	}
	if tab.Len() != presence.MaxUserID {
		t.Errorf("Len is %d", tab.Len())
	}
}

// UserIDs are compared byte for byte, also where one is the beginning of another.
func TestUserIDBytes(t *testing.T) {
	tab := newTable(t, 1)
	tab.mask = 0 // one bucket, one hash: only the bytes differ
	ids := []string{"a", "A", "aa", "a ", " a", "a\x00", "a\x00\x00", "a/%..", strings.Repeat("a", 32)}
	for i, id := range ids {
		put(tab, key(id), uint64(i)+1)
		put(tab, presence.Key{App: 8, UserID: id}, uint64(i)+101)
	}
	for i, id := range ids {
		if v, w := get(t, tab, key(id)), get(t, tab, presence.Key{App: 8, UserID: id}); v != uint64(i)+1 || w != uint64(i)+101 {
			t.Errorf("%q: found versions %d and %d", id, v, w)
		}
	}
}

func catch(f func()) (text string) {
	defer func() {
		if r := recover(); r != nil {
			text = fmt.Sprint(r)
		}
	}()
	f()
	return ""
}

func TestOptions(t *testing.T) {
	for n, want := range map[int]int{0: 1024, 1: 1, 2: 2, MaxShards: MaxShards} {
		if tab := New(Options{Shards: n}); tab.NumShards() != want {
			t.Errorf("Shards %d: NumShards is %d, want %d", n, tab.NumShards(), want)
		}
	}
	for _, n := range []int{-1, 3, 1000, MaxShards - 1, MaxShards + 1, 2 * MaxShards} {
		if err := catch(func() { New(Options{Shards: n}) }); !strings.Contains(err, fmt.Sprintf("Shards is %d,", n)) {
			t.Errorf("Shards %d: %q", n, err)
		}
	}
}

func TestShardOf(t *testing.T) {
	for _, n := range []int{1, 2, 1024} {
		tab := newTable(t, n)
		if a, b := tab.ShardOf(0), tab.ShardOf(math.MaxUint64); a != 0 || b != n-1 {
			t.Errorf("%d shards: the ends of the hashes are in shards %d and %d", n, a, b)
		}
	}
}

// The hash's layout is fixed: the app in 4 bytes, little endian, then the UserID.
func TestHash(t *testing.T) {
	for n := range 100 {
		id := strings.Repeat("y", n)
		plain := append(binary.LittleEndian.AppendUint32(nil, 1400000000), id...)
		if got, want := Hash(presence.Key{App: 1400000000, UserID: id}), xxhash.Sum64(plain); got != want {
			t.Errorf("UserID of %d bytes: %#x, want %#x", n, got, want)
		}
	}
	if got := Hash(presence.Key{App: 1400000000, UserID: "alice"}); got != 0xe4111f85c2ec733a {
		t.Errorf("Hash of alice is %#x", got)
	}
}

func TestSecondWriterPanics(t *testing.T) {
	tab := newTable(t, 1)
	var errs []string
	tab.hook = func(step) {
		tab.hook = nil
		errs = append(errs,
			catch(func() { put(tab, key("b"), 1) }),
			catch(func() { tab.Delete(key("b")) }),
			catch(func() { _ = tab.Check() }))
	}
	put(tab, key("a"), 1)
	if want := strings.Repeat("shard: two writers in shard 0\n", 3); strings.Join(errs, "\n")+"\n" != want {
		t.Fatalf("second writers: %q", errs)
	}
	put(tab, key("b"), 2) // the first left properly
}

func TestLookup(t *testing.T) {
	tab := newTable(t, 4)
	for _, n := range []int{0, 1, group - 1, group, group + 1, 500} {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = fmt.Sprint("user", i)
			if i%3 != 0 {
				put(tab, key(ids[i]), uint64(i))
			}
			put(tab, presence.Key{App: 8, UserID: ids[i]}, 1_000_000)
		}
		next := 0
		tab.Lookup(7, ids, func(i int, u *presence.User) {
			if i != next || (u != nil) != (i%3 != 0) || u != nil && u.Seq != uint64(i) {
				t.Fatalf("of %d: visit %d is of %d, user %+v", n, next, i, u)
			}
			next++
		})
		if next != n {
			t.Fatalf("%d visits for %d ids", next, n)
		}
	}
	seen := 0
	tab.Lookup(7, []string{"user1", "user1", "", strings.Repeat("z", 33)}, func(i int, u *presence.User) {
		if (u != nil) != (i < 2) {
			t.Errorf("id %d: %+v", i, u)
		}
		seen++
	})
	if seen != 4 {
		t.Errorf("%d visits", seen)
	}
}

// Growth and shrinking keep the index in proportion, so memory comes back.
func TestGrowAndShrink(t *testing.T) {
	const n = 10_000
	tab := newTable(t, 1)
	buckets := func() int { return int(index(tab.indexes[0].Load()).size()) }
	for i := range n {
		put(tab, key(fmt.Sprint(i)), 1)
		if i&(i-1) == 0 {
			check(t, tab)
		}
	}
	if got := buckets(); got != 2048 {
		t.Errorf("%d users in %d buckets", n, got)
	}
	for i := range n {
		if !tab.Delete(key(fmt.Sprint(i))) {
			t.Fatalf("user %d is lost", i)
		}
		if i&(i-1) == 0 {
			check(t, tab)
		}
	}
	if s := &tab.shards[0]; buckets() != 1 || len(s.stock.pages) != 0 || tab.arena.free != chunkPages-1 {
		t.Errorf("an empty table keeps %d buckets, %d pages, %d of %d pages are free", buckets(), len(s.stock.pages), tab.arena.free, chunkPages-1)
	}
}

// The layout is what the package promises: see line, index and record.
func TestLayout(t *testing.T) {
	for _, c := range []struct {
		what      string
		got, want uintptr
	}{
		{"size of a line", unsafe.Sizeof(line{}), 64},
		{"size of what is read of it", unsafe.Sizeof(words{}), 64},
		{"size of a chunk", unsafe.Sizeof(chunk{}), 2 << 20},
		{"places in a bucket", slots, 7},
		{"bits of an index", 32 + indexGenBits + indexSizeBits, 64},
		{"bits of the head's state", bitSize + 6, 64},
		{"bytes in the head", (wordID + 4) * 8, 64},
		{"bytes in a further line", 8 + 4 + moreRoom, 64},
		{"bits of platforms", uintptr(presence.NumPlatforms) >> 4, 0},
	} {
		if c.got != c.want {
			t.Errorf("%s is %d, want %d", c.what, c.got, c.want)
		}
	}
	for _, heap := range []bool{false, true} {
		tab := New(Options{Shards: 1, GoHeap: heap})
		if at := uintptr(unsafe.Pointer(tab.arena.line(5))); at%64 != 0 {
			t.Errorf("a line lies at %#x (heap %t)", at, heap)
		}
	}
	u := sampleUser(1_700_000_000_000)
	for _, c := range []struct {
		what  string
		user  presence.User
		lines int
	}{
		{"an account", presence.User{Registered: true}, 1},
		{"one who was Online", presence.User{Registered: true, Seq: 9, EventSeq: 9, LastInstID: 5, LastSeenMS: 1 << 41, CutoffS: 1 << 31}, 1},
		{"one device", u, 2},
	} {
		tab := newTable(t, 1)
		tab.Put(key("user567890123456"), &c.user)
		if got := tab.shards[0].stock.lines; got != c.lines {
			t.Errorf("%s takes %d lines, want %d", c.what, got, c.lines)
		}
	}
}

// Check finds each kind of damage.
func TestCheckFindsDamage(t *testing.T) {
	for _, c := range []struct {
		name, want string
		damage     func(tab *Table, s *shard, slot *atomic.Uint64, b *line)
	}{
		{"none", "", func(*Table, *shard, *atomic.Uint64, *line) {}},
		{"count", "the counter says 101", func(_ *Table, s *shard, _ *atomic.Uint64, _ *line) { s.n.Add(1) }},
		{"key", "stands under tag", func(tab *Table, _ *shard, e *atomic.Uint64, _ *line) { tab.arena.line(uint32(e.Load()))[wordID].Add(1) }},
		{"tag", "stands under tag", func(_ *Table, _ *shard, e *atomic.Uint64, _ *line) { e.Add(1 << 32) }},
		{"settled", "no settled record", func(tab *Table, _ *shard, e *atomic.Uint64, _ *line) {
			tab.arena.line(uint32(e.Load()))[wordStamp].Add(stampPending)
		}},
		{"record", "no settled record", func(_ *Table, _ *shard, e *atomic.Uint64, _ *line) { e.Store(e.Load()>>32<<32 | 1<<30) }},
		{"lost", "99 users in the index", func(_ *Table, _ *shard, e *atomic.Uint64, _ *line) { e.Store(0) }},
		{"past", "entries past it", func(_ *Table, _ *shard, _ *atomic.Uint64, b *line) { b[0].Add(1) }},
		{"more", "not of one write", func(tab *Table, _ *shard, e *atomic.Uint64, _ *line) {
			tab.arena.line(uint32(tab.arena.line(uint32(e.Load()))[wordLink].Load() >> 32))[wordStamp].Add(1 << 17)
		}},
		{"waits", "waits and is in use", func(_ *Table, s *shard, e *atomic.Uint64, _ *line) { s.stock.retire(uint32(e.Load())) }},
		{"lines", "the counter says", func(_ *Table, s *shard, _ *atomic.Uint64, _ *line) { s.stock.lines++ }},
		{"free", "in use and free", func(tab *Table, _ *shard, e *atomic.Uint64, _ *line) {
			tab.arena.page(uint32(e.Load()) >> pageBits).free |= 1 << (uint32(e.Load()) % pageLines)
		}},
		{"place", "no page of the shard", func(tab *Table, _ *shard, e *atomic.Uint64, _ *line) {
			tab.arena.page(uint32(e.Load()) >> pageBits).pos += 1000
		}},
		{"arena", "free pages", func(tab *Table, _ *shard, _ *atomic.Uint64, _ *line) { tab.arena.free++ }},
		{"size", "users in", func(tab *Table, s *shard, _ *atomic.Uint64, _ *line) { tab.resize(0, 10) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			tab := small(1)
			for i := range 100 {
				u := version(3)
				for j := range u.Instances {
					u.Instances[j].Device.ID = "a device that needs another line"
				}
				tab.Put(key(fmt.Sprint(i)), &u)
			}
			s := &tab.shards[0]
			slot, b := tab.someEntry()
			c.damage(tab, s, slot, b)
			err := tab.Check()
			if c.name == "none" && err != nil || c.name != "none" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Fatalf("Check: %v, want %q", err, c.want)
			}
		})
	}
}

// someEntry returns an entry that stands in its own bucket.
func (t *Table) someEntry() (*atomic.Uint64, *line) {
	x := index(t.indexes[0].Load())
	for b := range x.size() {
		l := t.bucket(x, b)
		for j := 1; j <= slots; j++ {
			if e := l[j].Load(); e != 0 && x.home(uint32(e>>32)) == b {
				return &l[j], l
			}
		}
	}
	return nil, nil
}

func TestReadsDoNotAllocate(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector makes pools forget")
	}
	tab := newTable(t, 4)
	ids := userIDs("u", 500)
	for i, id := range ids[:400] {
		u := sampleUser(i)
		tab.Put(key(id), &u)
	}
	var u presence.User
	var sum Summary
	online := 0
	for what, f := range map[string]func(){
		"Get":          func() { tab.Get(key(ids[1]), &u) },
		"miss":         func() { tab.Get(key(ids[450]), &u) },
		"Lookup":       func() { tab.Lookup(7, ids, func(_ int, u *presence.User) { online++ }) },
		"LookupStatus": func() { tab.LookupStatus(7, ids, func(_ int, u *Summary) { online++ }) },
		"GetStatus":    func() { tab.GetStatus(key(ids[1]), &sum) },
		"Hash":         func() { Hash(key(ids[1])) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s allocates %v times", what, n)
		}
	}
	one := sampleUser(1)
	if n := testing.AllocsPerRun(100, func() { tab.Put(key(ids[1]), &one) }); n != 0 {
		t.Errorf("Put of a user with one instance allocates %v times", n)
	}
}
