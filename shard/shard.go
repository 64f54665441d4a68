package shard

import "sync/atomic"

// shard is the writer's side of a part of the table.
type shard struct {
	// Atomic.
	n       atomic.Int64
	writing atomic.Bool

	// Owned by the writer.
	writes uint64 // records written
	sweep  uint32 // the bucket at which tidy goes on
	sweeps uint32 // buckets that tidy has still to go through
	draft  draft
	stock  stock
}

// step is a point in a write. Readers may find the table in the state before each.
type step uint8

const (
	stepWrite   step = iota // before a line is written
	stepCount               // before an entry is counted past a bucket
	stepPublish             // before the entry of a new record is stored
	stepSettle              // before its stamp is settled
	stepClear               // before an entry is cleared
	stepUncount             // before it is no longer counted
	stepSwap                // before a new index is stored
	stepDone                // after it
	numSteps
)

// at runs the test's hook.
func (t *Table) at(s step) {
	if t.hook != nil {
		t.hook(s)
	}
}

func ignore(step) {}

// stamp returns a stamp that was never used.
func (s *shard) stamp(shard uint32) uint64 {
	s.writes++
	return stampMark | s.writes<<17 | uint64(shard)<<1
}

// locate returns the place of the user's entry and its bucket, for the writer.
func (t *Table) locate(p *probe) (slot *atomic.Uint64, bucket uint32) {
	x := index(t.indexes[p.shard].Load())
	var w words
	for i := range x.size() {
		bucket = (x.home(p.tag) + i) & (x.size() - 1)
		b := t.bucket(x, bucket)
		for j := 1; j <= slots; j++ {
			if e := b[j].Load(); uint32(e) != 0 && uint32(e>>32) == p.tag {
				t.arena.line(uint32(e)).read(&w)
				if w.is(p) {
					return &b[j], bucket
				}
			}
		}
		if b[0].Load() == 0 {
			break
		}
	}
	return nil, 0
}

// write stores the shard's draft and returns the number of its head, which is not settled.
func (t *Table) write(s *shard, shard uint32) (record uint32) {
	stamp := s.stamp(shard)
	d := &s.draft
	next := uint32(0)
	for i := d.more() - 1; i >= 0; i-- {
		w := d.part(i, stamp, next)
		next = t.writeLine(s, &w)
	}
	d.head[wordStamp] = stamp | stampPending
	d.head[wordLink] |= uint64(next) << 32
	return t.writeLine(s, &d.head)
}

func (t *Table) writeLine(s *shard, w *words) uint32 {
	n := s.stock.take()
	t.at(stepWrite)
	t.arena.line(n).write(w)
	return n
}

// settle ends the writing of a record that is published.
func (t *Table) settle(record uint32) {
	t.at(stepSettle)
	l := t.arena.line(record)
	l[wordStamp].Store(l[wordStamp].Load() &^ stampPending)
}

// replace publishes the draft in the place of the user's record.
func (t *Table) replace(s *shard, p *probe, slot *atomic.Uint64) {
	old, record := uint32(slot.Load()), t.write(s, p.shard)
	t.at(stepPublish)
	slot.Store(entry(p.tag, record))
	t.settle(record)
	t.retire(s, old)
}

// insert publishes the draft as a new user's record.
func (t *Table) insert(s *shard, p *probe) {
	x := index(t.indexes[p.shard].Load())
	if n := s.n.Load(); x.first() == 0 {
		x = t.resize(p.shard, uint(t.minBits))
	} else if n >= capacity(x.bits()) {
		x = t.resize(p.shard, x.bits()+1)
	}
	record := t.write(s, p.shard)
	t.place(x, entry(p.tag, record), t.at)
	t.settle(record)
	s.n.Add(1)
}

// place stores an entry into the first bucket that has room. It is counted on
// the way first: who sees the entry missing must be able to find it behind.
func (t *Table) place(x index, e uint64, at func(step)) {
	for h := x.home(uint32(e >> 32)); ; h++ {
		b := t.bucket(x, h)
		for j := 1; j <= slots; j++ {
			if b[j].Load() == 0 {
				at(stepPublish)
				b[j].Store(e)
				return
			}
		}
		at(stepCount)
		b[0].Store(b[0].Load() + 1)
	}
}

// remove clears the user's entry.
func (t *Table) remove(s *shard, p *probe, slot *atomic.Uint64, bucket uint32) {
	x := index(t.indexes[p.shard].Load())
	old := uint32(slot.Load())
	t.at(stepClear)
	slot.Store(0)
	for h := x.home(p.tag); h&(x.size()-1) != bucket; h++ {
		b := t.bucket(x, h)
		t.at(stepUncount)
		b[0].Store(b[0].Load() - 1)
	}
	t.retire(s, old)
	switch n := s.n.Add(-1); {
	case n == 0:
		t.swap(p.shard, x.next(0, 0))
		s.stock.drain()
	case n < capacity(x.bits())/4 && x.bits() > uint(t.minBits):
		t.resize(p.shard, x.bits()-1)
	}
}

// retire takes back the lines of a record that no entry leads to any more.
func (t *Table) retire(s *shard, record uint32) {
	next := uint32(t.arena.line(record)[wordLink].Load() >> 32)
	s.stock.retire(record)
	for next != 0 {
		n := next
		next = uint32(t.arena.line(n)[wordLink].Load())
		s.stock.retire(n)
	}
}

// resize replaces the index by one of another size. The entries are placed by
// their tags: no record is touched.
func (t *Table) resize(shard uint32, bits uint) index {
	x := index(t.indexes[shard].Load())
	y := x.next(t.arena.alloc(order(bits))<<pageBits, bits)
	for h := range y.size() {
		b := t.bucket(y, h)
		for j := range b {
			if b[j].Load() != 0 { // zeroing what is zero would cost more
				b[j].Store(0)
			}
		}
	}
	for h := range x.size() {
		b := t.bucket(x, h)
		for j := 1; j <= slots; j++ {
			if e := b[j].Load(); e != 0 {
				t.place(y, e, ignore) // nobody sees y yet
			}
		}
	}
	t.swap(shard, y)
	return y
}

// swap makes y the shard's index and gives the old one's memory back.
func (t *Table) swap(shard uint32, y index) {
	x := index(t.indexes[shard].Load())
	t.at(stepSwap)
	t.indexes[shard].Store(uint64(y))
	t.at(stepDone)
	if x.first() != 0 {
		t.arena.release(x.first()>>pageBits, order(x.bits()))
	}
}

// order is the order of the block that holds an index of that size.
func order(bits uint) int { return max(0, int(bits)-pageBits) }

// tidy moves records together when the shard holds many pages for few lines:
// those of one bucket per write. So the work of a write stays bounded, and a
// shard that was emptied, or whose users went Offline, gives its memory back.
func (t *Table) tidy(s *shard, shard uint32) {
	keep, yes := s.stock.sparse()
	x := index(t.indexes[shard].Load())
	if yes && s.sweeps == 0 {
		s.sweeps = x.size() // once begun, to the end
		s.stock.sort()
	}
	if s.sweeps == 0 {
		return
	}
	s.sweeps--
	b := t.bucket(x, s.sweep)
	s.sweep++
	for j := 1; j <= slots; j++ {
		if e := b[j].Load(); e != 0 && t.reaches(s, uint32(e), keep) {
			t.move(s, shard, &b[j])
		}
	}
}

// reaches reports whether a line of the record lies on a page from number keep on.
func (t *Table) reaches(s *shard, record uint32, keep uint32) bool {
	if s.stock.pos(record) >= keep {
		return true
	}
	for n := uint32(t.arena.line(record)[wordLink].Load() >> 32); n != 0; n = uint32(t.arena.line(n)[wordLink].Load()) {
		if s.stock.pos(n) >= keep {
			return true
		}
	}
	return false
}

// move writes a record to other lines.
func (t *Table) move(s *shard, shard uint32, slot *atomic.Uint64) {
	e := slot.Load()
	d := &s.draft
	l := t.arena.line(uint32(e))
	l.read(&d.head)
	d.stream, _ = t.rest(&d.head, d.stream[:0])
	d.tail = headRoom - d.head.size()
	d.head[wordLink] = uint64(d.head.app())
	record := t.write(s, shard)
	t.at(stepPublish)
	slot.Store(entry(uint32(e>>32), record))
	t.settle(record)
	t.retire(s, uint32(e))
}
