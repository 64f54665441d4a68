package shard

import (
	"fmt"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// This test runs readers one load at a time between the steps of writes, on one
// goroutine: it reaches interleavings that the scheduler would take years to
// find, and replays them from a seed. A reader may stand still on an old index,
// or on a record long removed, while the shard grows, shrinks and changes.

// slowReader is Get, taken apart into its loads.
type slowReader struct {
	key  presence.Key
	hash uint64
	x    *index  // after the first load
	r    *record // after the second
	head bool    // the second load is done

	oldest int // the key's version that was committed when the reader began
	floor  int // the newest version that a reader had returned by then
}

// load does the reader's next load; it returns true with the result if that was the last.
func (s *slowReader) load(t *Table) (v uint64, done bool) {
	switch {
	case s.x == nil:
		s.x = t.shards[t.ShardOf(s.hash)].index.Load()
		return 0, false
	case !s.head:
		s.r, s.head = s.x.first(s.hash), true
	default:
		s.r = s.r.next.Load()
	}
	switch {
	case s.r == nil || s.r.hash > s.hash:
		return 0, true
	case s.r.hash == s.hash && s.r.is(s.key.App, s.key.UserID):
		return s.r.user.Seq, true
	}
	return 0, false
}

// history is what a user's register went through: Seq by Put, 0 by Delete.
type history struct {
	versions  []uint64 // the first is 0; the last may be in the making
	committed int      // index of the last one whose write returned
	floor     int      // index of the newest that a finished reader returned
}

// weaver runs readers inside the hooks of writes.
type weaver struct {
	t       *rapid.T
	tab     *Table
	of      map[presence.Key]*history
	readers []*slowReader
	v       uint64
	writing presence.Key
	hurry   bool // many writes are under way: few of their steps are read at
}

func (w *weaver) history(k presence.Key) *history {
	h := w.of[k]
	if h == nil {
		h = &history{versions: []uint64{0}}
		w.of[k] = h
	}
	return h
}

func (w *weaver) begin(k presence.Key) *slowReader {
	h := w.history(k)
	return &slowReader{key: k, hash: w.tab.hash(k.App, k.UserID), oldest: h.committed, floor: h.floor}
}

// finish checks the result of a reader: a version that was current at some
// moment since it began, not older than any that was returned before it began.
func (w *weaver) finish(s *slowReader, v uint64) {
	h := w.history(s.key)
	for i := max(s.oldest, s.floor); i < len(h.versions); i++ {
		if h.versions[i] == v {
			h.floor = max(h.floor, i)
			return
		}
	}
	w.t.Fatalf("a reader of %v found version %d; since it began there were %v, an earlier reader returned index %d",
		s.key, v, h.versions[s.oldest:], s.floor)
}

// read does a bit of reading: what a step of a write can be interleaved with.
// Readers of the user who is being written come to their end often, others
// stand still for long: then the table changes a lot under them.
func (w *weaver) read() {
	if w.hurry && rapid.IntRange(0, 9).Draw(w.t, "pause") != 0 {
		return
	}
	if len(w.readers) < 12 {
		for range rapid.IntRange(0, 2).Draw(w.t, "begin") {
			w.readers = append(w.readers, w.begin(w.interestingKey()))
		}
	}
	for i := len(w.readers) - 1; i >= 0; i-- {
		most := 1
		if w.readers[i].key == w.writing {
			most = 4
		}
		for loads := rapid.IntRange(0, most).Draw(w.t, "loads"); loads > 0 && w.advance(i); loads-- {
		}
	}
	for _, k := range []presence.Key{w.writing, w.interestingKey()} {
		s := w.begin(k)
		w.finish(s, get(w.t, w.tab, k)) // the real one, in one go
	}
}

// advance does one load of reader i; it returns false if that was its last.
func (w *weaver) advance(i int) bool {
	v, done := w.readers[i].load(w.tab)
	if done {
		w.finish(w.readers[i], v)
		w.readers[i] = w.readers[len(w.readers)-1]
		w.readers = w.readers[:len(w.readers)-1]
	}
	return !done
}

// interestingKey is often the one that is being written.
func (w *weaver) interestingKey() presence.Key {
	if w.writing.UserID != "" && rapid.Bool().Draw(w.t, "same") {
		return w.writing
	}
	return key(fmt.Sprint("u", rapid.IntRange(0, 7).Draw(w.t, "user")))
}

func (w *weaver) put(k presence.Key) {
	h := w.history(k)
	w.v++
	w.writing, h.versions = k, append(h.versions, w.v)
	put(w.tab, k, w.v)
	h.committed = len(h.versions) - 1
}

func (w *weaver) delete(k presence.Key) {
	h := w.history(k)
	if h.versions[h.committed] == 0 {
		return
	}
	w.writing, h.versions = k, append(h.versions, 0)
	if !w.tab.Delete(k) {
		w.t.Fatalf("%v is lost", k)
	}
	h.committed = len(h.versions) - 1
}

// many makes the shard grow or shrink.
func (w *weaver) many(do func(presence.Key)) {
	w.hurry = true
	defer func() { w.hurry = false }()
	for i := range rapid.IntRange(1, 30).Draw(w.t, "many") {
		do(key(fmt.Sprint("u", 100+i)))
	}
}

func TestInterleavings(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := &weaver{t: t, tab: New(Options{Shards: rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "shards")}), of: map[presence.Key]*history{}}
		w.tab.mask = rapid.SampledFrom(masks).Draw(t, "mask")
		w.tab.hook = func(step) { w.read() }
		t.Repeat(map[string]func(*rapid.T){
			"put":         func(*rapid.T) { w.put(w.interestingKey()) },
			"put again":   func(*rapid.T) { w.put(w.interestingKey()) },
			"delete":      func(*rapid.T) { w.delete(w.interestingKey()) },
			"put many":    func(*rapid.T) { w.many(w.put) },
			"delete many": func(*rapid.T) { w.many(w.delete) },
			"read":        func(*rapid.T) { w.read() },
			"": func(t *rapid.T) {
				if err := w.tab.Check(); err != nil {
					t.Fatal(err)
				}
			},
		})
		for len(w.readers) > 0 {
			w.advance(0)
		}
	})
}

// Whoever holds an index that was replaced misses no resident, and is never
// ahead of those who hold the current one: at no step of a write does it show
// the new version of a user whom Get shows in the old one.
func TestOldIndexReaders(t *testing.T) {
	const residents, guests = 40, 200
	tab := newTable(t, 1)
	for i := range residents {
		put(tab, key(fmt.Sprint("resident", i)), 1)
	}
	var old []*index
	steps := 0
	write := func(k presence.Key, before, after uint64) {
		tab.hook = func(step) {
			steps++
			now := get(t, tab, k)
			for i, x := range old {
				if v := through(tab, x, k); v == after && now == before {
					t.Fatalf("%v goes from version %d to %d: index %d of %d shows the new one, Get the old one", k, before, after, i, len(old))
				}
			}
		}
		if after == 0 {
			tab.Delete(k)
		} else {
			put(tab, k, after)
		}
	}
	for i := range guests * 3 {
		k := key(fmt.Sprint("guest", i%guests))
		if x := tab.shards[0].index.Load(); len(old) == 0 || old[len(old)-1] != x {
			old = append(old, x)
		}
		if i == guests*2 {
			old = old[len(old)-1:] // what earlier ones never saw is not what was removed
			tab.hook = nil
			for f := range guests * 2 { // the old index gets coarser than the current one
				put(tab, key(fmt.Sprint("filler", f)), 1)
			}
		}
		switch i / guests {
		case 0:
			write(k, 0, 1)
		case 1:
			write(k, 1, 2)
		default:
			write(k, 2, 0)
		}
		for r := range residents {
			for _, x := range old {
				if through(tab, x, key(fmt.Sprint("resident", r))) != 1 {
					t.Fatalf("an old index does not show resident %d", r)
				}
			}
		}
	}
	if len(old) < 2 || steps < guests*3 {
		t.Errorf("%d indexes and %d steps: the test shows nothing", len(old), steps)
	}
}

// through is Get by a reader who loaded x long ago.
func through(t *Table, x *index, k presence.Key) uint64 {
	s := slowReader{key: k, hash: t.hash(k.App, k.UserID), x: x}
	for {
		if v, done := s.load(t); done {
			return v
		}
	}
}
