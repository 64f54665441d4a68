package shard

import (
	"fmt"
	"math/bits"
)

// Check proves the structure consistent: in each shard every entry leads to a
// settled record whose key hashes there, is found on the way from its bucket,
// and is there once; the counters of users, of entries that stand behind their
// bucket and of lines are exact; every line is in use once, or waits, or is
// free. Nobody may write meanwhile.
func (t *Table) Check() error {
	for i := range t.shards {
		if err := t.checkShard(uint32(i)); err != nil {
			return fmt.Errorf("shard %d of %d: %w", i, len(t.shards), err)
		}
	}
	return t.arena.check()
}

// audit is what Check knows of a shard.
type audit struct {
	t     *Table
	s     *shard
	shard uint32
	x     index
	past  []uint64        // entries counted past each bucket
	lines map[uint32]bool // in use
	users int64
}

func (t *Table) checkShard(i uint32) error {
	s := t.enter(int(i))
	defer s.leave()
	x := index(t.indexes[i].Load())
	a := audit{t: t, s: s, shard: i, x: x, past: make([]uint64, x.size()), lines: map[uint32]bool{}}
	for b := range x.size() {
		for j := 1; j <= slots; j++ {
			if e := t.bucket(x, b)[j].Load(); e != 0 {
				if err := a.entry(b, j, e); err != nil {
					return err
				}
			}
		}
	}
	if err := a.counts(); err != nil {
		return err
	}
	return a.stock()
}

// entry checks an entry in bucket b.
func (a *audit) entry(b uint32, j int, e uint64) error {
	var w words
	var p probe
	if !a.t.arena.line(uint32(e)).read(&w) || w[wordStamp]&stampPending != 0 {
		return fmt.Errorf("bucket %d: entry %#x leads to no settled record", b, e)
	}
	k := w.key()
	if !a.t.aim(&p, k.App, k.UserID) || p.shard != a.shard || p.tag != uint32(e>>32) {
		return fmt.Errorf("%v stands under tag %#x of shard %d, has %#x of shard %d", k, e>>32, a.shard, p.tag, p.shard)
	}
	for h := a.x.home(p.tag); h&(a.x.size()-1) != b; h++ {
		a.past[h&(a.x.size()-1)]++
	}
	if slot, at := a.t.locate(&p); slot != &a.t.bucket(a.x, b)[j] {
		return fmt.Errorf("%v stands in bucket %d, place %d, but is found elsewhere (bucket %d)", k, b, j, at)
	}
	if _, whole := a.t.rest(&w, nil); !whole {
		return fmt.Errorf("%v: its lines are not of one write", k)
	}
	a.users++
	return a.record(k.UserID, uint32(e))
}

// record notes the lines of a record.
func (a *audit) record(id string, n uint32) error {
	next := uint32(a.t.arena.line(n)[wordLink].Load() >> 32)
	for {
		if a.lines[n] {
			return fmt.Errorf("line %d is in use twice, once by %q", n, id)
		}
		a.lines[n] = true
		if next == 0 {
			return nil
		}
		n, next = next, uint32(a.t.arena.line(next)[wordLink].Load())
	}
}

func (a *audit) counts() error {
	if n := a.s.n.Load(); a.users != n {
		return fmt.Errorf("%d users in the index, the counter says %d", a.users, n)
	}
	for b, want := range a.past {
		if got := a.t.bucket(a.x, uint32(b))[0].Load(); got != want {
			return fmt.Errorf("bucket %d counts %d entries past it, there are %d", b, got, want)
		}
	}
	size := a.x.bits()
	if a.users > capacity(size) || size > uint(a.t.minBits) && a.users < capacity(size)/4 || (a.users == 0) != (a.x.first() == 0) {
		return fmt.Errorf("%d users in %d buckets", a.users, a.x.size())
	}
	return nil
}

// stock compares the lines in use with what the shard holds.
func (a *audit) stock() error {
	s := &a.s.stock
	for i := range s.waits {
		n := s.wait[(s.oldest+i)%grace]
		if a.lines[n] {
			return fmt.Errorf("line %d waits and is in use", n)
		}
		a.lines[n] = true
	}
	if len(a.lines) != s.lines {
		return fmt.Errorf("%d lines are in use or wait, the counter says %d", len(a.lines), s.lines)
	}
	for n := range a.lines {
		if pos := s.pos(n); int(pos) >= len(s.pages) || s.pages[pos] != n>>pageBits {
			return fmt.Errorf("line %d is in use and lies on no page of the shard", n)
		}
		if s.arena.page(n>>pageBits).free>>(n%pageLines)&1 != 0 {
			return fmt.Errorf("line %d is in use and free", n)
		}
	}
	free := 0
	for pos, p := range s.pages {
		pg := s.arena.page(p)
		free += bits.OnesCount64(pg.free)
		if int(pg.pos) != pos || (s.avail[pos/64]>>(pos%64)&1 != 0) != (pg.free != 0) {
			return fmt.Errorf("page %d: place %d of %d, %d free lines", p, pg.pos, pos, bits.OnesCount64(pg.free))
		}
	}
	if free != s.room() {
		return fmt.Errorf("%d lines are free on the pages, the counter says %d", free, s.room())
	}
	return nil
}

// check walks the free lists.
func (a *arena) check() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	free := 0
	for order, head := range a.heads {
		prev := uint32(0)
		for p := head; p != 0; p = a.page(p - 1).next {
			b := a.page(p - 1)
			if !b.isFree || int(b.order) != order || b.prev != prev || (p-1)%(1<<order) != 0 {
				return fmt.Errorf("arena: block %d in the list of order %d: %+v", p-1, order, *b)
			}
			free += 1 << order
			prev = p
		}
	}
	if free != a.free {
		return fmt.Errorf("arena: %d free pages, the counter says %d", free, a.free)
	}
	return nil
}
