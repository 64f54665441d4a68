package shard

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Memory follows the users, down as well as up: when most are deleted, when
// most go Offline, and when nobody is left. Both kinds of memory.
func TestMemoryGivenBack(t *testing.T) {
	const users = 100_000
	for _, heap := range []bool{false, true} {
		tab := New(Options{Shards: 4, GoHeap: heap})
		for i := range users {
			u := sampleUser(i)
			tab.Put(key(fmt.Sprint(i)), &u)
		}
		full := tab.resident()
		check(t, tab)
		for i := range 2 * users { // one line instead of two; later writes tidy up
			tab.Put(key(fmt.Sprint(i%users)), &presence.User{Registered: true, Seq: 5})
		}
		offline := tab.resident()
		check(t, tab)
		for i := range users {
			if i%10 != 0 {
				tab.Delete(key(fmt.Sprint(i)))
			}
		}
		few := tab.resident()
		check(t, tab)
		for i := 0; i < users; i += 10 {
			var u presence.User
			if !tab.Get(key(fmt.Sprint(i)), &u) || u.Seq != 5 {
				t.Fatalf("user %d is lost", i)
			}
			tab.Delete(key(fmt.Sprint(i)))
		}
		none := tab.resident()
		check(t, tab)
		t.Logf("heap %t: %d chunks with %d users Online, %d with all Offline, %d with a tenth, %d with none", heap, full, users, offline, few, none)
		if full < 7 || offline > 6 || few > 5 || none > 3 || tab.arena.free != none*chunkPages-1 {
			t.Errorf("heap %t: %d, %d, %d, %d chunks", heap, full, offline, few, none)
		}
		for i := range users { // what was given back can be had again
			put(tab, key(fmt.Sprint(i)), 1)
		}
		check(t, tab)
	}
}

func (t *Table) resident() int {
	t.arena.mu.Lock()
	defer t.arena.mu.Unlock()
	return t.arena.resident
}

// A write in the middle of a mass delete does bounded work: no more than a
// bucket of records is moved.
func TestTidyIsBounded(t *testing.T) {
	tab := newTable(t, 1)
	for i := range 20_000 {
		put(tab, key(fmt.Sprint(i)), 1)
	}
	worst := uint64(0)
	for i := range 20_000 {
		before := tab.shards[0].writes
		tab.Delete(key(fmt.Sprint(i * 7919 % 20_000)))
		worst = max(worst, tab.shards[0].writes-before)
	}
	if worst == 0 || worst > slots {
		t.Errorf("a Delete moved up to %d records, want 1 to %d", worst, slots)
	}
}

// Records are used again as fast as can be, while readers look for users who
// are there all the time and who are written all the time: each is found whole,
// never older than before.
func TestStressReuse(t *testing.T) {
	const residents, rounds = 8, 30_000
	for _, mask := range []uint64{masks[0], masks[2]} {
		tab := newTable(t, 1)
		tab.mask = mask
		ids := userIDs("u", residents)
		for _, id := range ids {
			put(tab, key(id), 1)
		}
		var stop atomic.Bool
		var readers sync.WaitGroup
		for g := range 3 {
			readers.Go(func() {
				last := make([]uint64, residents)
				for !stop.Load() && !t.Failed() {
					for i, id := range ids {
						v := readOne(tab, id, g == 0)
						if g == 2 {
							var s Summary
							tab.GetStatus(key(id), &s)
							v = s.Seq
						}
						if v == 0 || v < last[i] {
							t.Errorf("%s: version %d after %d", id, v, last[i])
							return
						}
						last[i] = v
					}
				}
			})
		}
		for v := range uint64(rounds) {
			put(tab, key(ids[v%residents]), v+2)
			if v%64 == 0 { // another user takes the lines, grows the index and goes
				for i := range 30 {
					put(tab, key(fmt.Sprint("guest", i)), v+2)
				}
				for i := range 30 {
					tab.Delete(key(fmt.Sprint("guest", i)))
				}
			}
		}
		stop.Store(true)
		readers.Wait()
	}
}

// A table that is not used any more unmaps its memory: see New. Its readers
// keep it alive until they are done.
func TestManyTables(t *testing.T) {
	for i := range 200 {
		tab := New(Options{})
		put(tab, key("a"), uint64(i)+1)
		if get(t, tab, key("a")) != uint64(i)+1 {
			t.Fatal("lost")
		}
	}
}

// A shard's index larger than a chunk lies in several.
func TestLargeIndex(t *testing.T) {
	tab := newTable(t, 1)
	put(tab, key("a"), 3)
	tab.resize(0, chunkBits+1)
	if get(t, tab, key("a")) != 3 {
		t.Error("a is lost in a large index")
	}
	tab.resize(0, 0)
	if get(t, tab, key("a")) != 3 {
		t.Error("a is lost in a small index")
	}
}

// Much free memory in small pieces does not keep a large block from being had.
func TestArenaInPieces(t *testing.T) {
	tab := newTable(t, 1)
	a := &tab.arena
	pages := make([]uint32, 6*chunkPages)
	for i := range pages {
		pages[i] = a.alloc(0)
	}
	for i := 0; i < len(pages); i += 2 {
		a.release(pages[i], 0)
	}
	taken := map[uint32]bool{0: true}
	for i := 1; i < len(pages); i += 2 {
		taken[pages[i]] = true
	}
	for order := range maxOrder + 3 {
		p := a.alloc(order)
		for q := p; q < p+1<<order; q++ {
			if taken[q] {
				t.Fatalf("page %d of a block of order %d at %d is in use", q, order, p)
			}
			taken[q] = true
		}
	}
	if err := a.check(); err != nil {
		t.Error(err)
	}
}
