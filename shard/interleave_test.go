package shard

import (
	"fmt"
	"iter"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// These tests run readers one load at a time between the steps of writes, on one
// goroutine: they reach interleavings that the scheduler would take years to
// find, and replay them from a seed. A reader may stand still on an old index,
// or on a record long replaced, while the shard grows, shrinks and changes. It
// is the reader that ships, stopped by the table's pause hook.

// slowReader is a Get or a LookupStatus that stops between its loads.
type slowReader struct {
	key   presence.Key
	tab   *Table
	step  func() (struct{}, bool)
	yield func(struct{}) bool
	found uint64 // the result, when it is done

	oldest int // the key's version that was committed when the reader began
	floor  int // the newest version that a reader had returned by then
}

func newSlowReader(t *Table, k presence.Key, status bool) *slowReader {
	s := &slowReader{key: k, tab: t}
	s.step, _ = iter.Pull(func(yield func(struct{}) bool) {
		s.yield = yield
		if status {
			var u Summary
			if t.GetStatus(k, &u) {
				s.found = u.Seq
			}
			return
		}
		var u presence.User
		if t.Get(k, &u) {
			if _, err := wholeVersion(&u); err != nil {
				panic(err)
			}
			s.found = u.Seq
		}
	})
	return s
}

// load lets the reader do its next load; it returns true with the result if that was the last.
func (s *slowReader) load() (v uint64, done bool) {
	s.tab.pause = func() { s.yield(struct{}{}) }
	_, more := s.step()
	s.tab.pause = nil
	return s.found, !more
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
	s := newSlowReader(w.tab, k, len(w.readers)%3 == 0)
	s.oldest, s.floor = h.committed, h.floor
	return s
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
			most = 6
		}
		for loads := rapid.IntRange(0, most).Draw(w.t, "loads"); loads > 0 && w.advance(i); loads-- {
		}
	}
	for _, k := range []presence.Key{w.writing, w.interestingKey()} {
		s := &slowReader{key: k, oldest: w.history(k).committed, floor: w.history(k).floor}
		w.finish(s, get(w.t, w.tab, k)) // in one go
	}
}

// advance does one load of reader i; it returns false if that was its last.
func (w *weaver) advance(i int) bool {
	v, done := w.readers[i].load()
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
		w := &weaver{t: t, tab: small(rapid.SampledFrom([]int{1, 1, 2}).Draw(t, "shards")), of: map[presence.Key]*history{}}
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

// A reader that stopped anywhere, with the index of that moment in hand, while
// the shard grew and shrank, its user was written again and the memory of both
// index and record was used for others, finds the user who was there all the time.
func TestReaderOnOldIndex(t *testing.T) {
	for _, change := range []struct {
		what string
		do   func(tab *Table, k presence.Key)
	}{
		{"grow", func(tab *Table, _ presence.Key) { fillers(tab, 200) }},
		{"grow, then replace", func(tab *Table, k presence.Key) { fillers(tab, 200); put(tab, k, 2) }},
		{"grow, replace, use again", func(tab *Table, k presence.Key) {
			fillers(tab, 200)
			for v := range uint64(3 * grace) {
				put(tab, k, v+2)
			}
			fillers(tab, 200)
		}},
		{"replace, use again, grow", func(tab *Table, k presence.Key) {
			for v := range uint64(2 * pageLines) {
				put(tab, k, v+2)
			}
			fillers(tab, 400)
		}},
		{"grow, shrink, use the index again", func(tab *Table, k presence.Key) {
			fillers(tab, 400)
			for i := range 400 {
				tab.Delete(key(fmt.Sprint("filler", i)))
			}
			put(tab, k, 2)
			fillers(tab, 400)
		}},
	} {
		for _, mask := range []uint64{masks[0], masks[3]} {
			for loads := range 10 {
				tab := newTable(t, 1)
				tab.mask = mask
				k := key("resident")
				fillers(tab, 4)
				put(tab, k, 1)
				for _, status := range []bool{true, false} {
					s := newSlowReader(tab, k, status)
					v, done := uint64(0), false
					for i := 0; i < loads && !done; i++ {
						v, done = s.load()
					}
					change.do(tab, k)
					for !done {
						v, done = s.load()
					}
					if v == 0 {
						t.Fatalf("%s: a reader that stopped after %d loads (mask %#x, status %t) missed the resident", change.what, loads, mask, status)
					}
				}
			}
		}
	}
}

func fillers(tab *Table, n int) {
	for i := range n {
		put(tab, key(fmt.Sprint("filler", i)), uint64(i)%7+1)
	}
}
