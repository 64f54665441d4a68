package shard

import (
	"math/bits"
	"sync/atomic"
)

// index names an array of buckets, in one word: the number of its first line
// (high 32 bits), a number that tells it from those before it in its shard (26),
// and the bits of its size (6). Number and all, no index comes twice while a
// reader looks: who finds the same word again knows that nothing was swapped.
//
// A bucket is a line: the number of entries that belong to it or to one before
// it and stand behind it, then 7 entries. An entry is a tag (high 32 bits) and
// the line number of a record; 0 is none. The top bits of a tag choose the
// bucket, so buckets are in the order of hashes. If it is full the entry goes
// into the next that is not.
type index uint64

const (
	indexGenBits  = 26
	indexSizeBits = 6
	slots         = 7
)

func (x index) first() uint32 { return uint32(x >> 32) }
func (x index) bits() uint    { return uint(x & (1<<indexSizeBits - 1)) }
func (x index) size() uint32  { return 1 << x.bits() }

// home is the bucket that a tag belongs to.
func (x index) home(tag uint32) uint32 { return tag >> (32 - x.bits()) }

// bucket returns bucket b, counted on from the last to the first.
func (t *Table) bucket(x index, b uint32) *line {
	return t.arena.line(x.first() + b&(x.size()-1))
}

// next is the index that replaces x.
func (x index) next(first uint32, bits uint) index {
	gen := (x>>indexSizeBits + 1) & (1<<indexGenBits - 1)
	return index(first)<<32 | gen<<indexSizeBits | index(bits)
}

// capacity is how many entries an index of that size takes: 6 of 7 places.
func capacity(bits uint) int64 { return 6 << bits }

// entry returns the entry of a tag for a record.
func entry(tag, record uint32) uint64 { return uint64(tag)<<32 | uint64(record) }

// match returns a bit for each place in the bucket whose entry has the tag. If
// the tag is 0, that may be an empty one.
func match(b *line, tag uint32) uint {
	return same(b[1].Load(), tag)<<1 | same(b[2].Load(), tag)<<2 | same(b[3].Load(), tag)<<3 | same(b[4].Load(), tag)<<4 |
		same(b[5].Load(), tag)<<5 | same(b[6].Load(), tag)<<6 | same(b[7].Load(), tag)<<7
}

// same is 1 if entry e has the tag, without a branch.
func same(e uint64, tag uint32) uint { return uint(((e>>32 ^ uint64(tag)) - 1) >> 63) }

// find looks for a user. If it is there, w is its head, read whole. It is
// lock-free: it begins again only if the shard's index was replaced meanwhile,
// or if the record that it went to had by then been replaced and used again,
// which takes grace writes to the shard.
func (t *Table) find(p *probe, w *words) (found bool) {
	for {
		x := index(t.indexes[p.shard].Load())
		t.stop()
		found, sure := t.search(x, p, w)
		t.stop()
		// Without this, a reader on an old array misses whoever was replaced
		// since, and takes what is written there now for a record.
		if sure && t.current(p.shard, x) {
			return found
		}
	}
}

func (t *Table) current(shard uint32, x index) bool { return index(t.indexes[shard].Load()) == x }

// stop lets a test's readers stand still.
func (t *Table) stop() {
	if t.pause != nil {
		t.pause()
	}
}

// search looks for a user in one array. It is not sure if that was replaced.
func (t *Table) search(x index, p *probe, w *words) (found, sure bool) {
	home := x.home(p.tag)
	for i := uint32(0); i < x.size(); i++ {
		b := t.bucket(x, home+i)
		for m := match(b, p.tag); m != 0; m &= m - 1 {
			if found, sure = t.compare(x, p, &b[bits.TrailingZeros(m)&7], w); found || !sure {
				return found, sure
			}
		}
		t.stop()
		if b[0].Load() == 0 {
			break
		}
	}
	return false, true
}

// compare reports whether the record that a place leads to is the user's. If
// it is not, it was not at one moment since the call.
func (t *Table) compare(x index, p *probe, slot *atomic.Uint64, w *words) (found, sure bool) {
	for {
		e := slot.Load()
		if uint32(e) == 0 || uint32(e>>32) != p.tag {
			return false, true // it went, or it came and went
		}
		t.stop()
		l := t.arena.line(uint32(e))
		if t.fetch(x, p.shard, slot, e, l, w) {
			if w.is(p) {
				return true, true
			}
			t.stop()
			// It is another's. It was so while the entry led here, unless the
			// line has been used again since.
			if slot.Load() == e && t.arena.line(uint32(e)) == l && l.still(w) {
				return false, true
			}
		}
		if !t.current(p.shard, x) {
			return false, false
		}
	}
}

// fetch reads the head of the record that entry e of a slot leads to. If it is
// true, the record was current at a moment since e was loaded, or index x was
// replaced.
func (t *Table) fetch(x index, shard uint32, slot *atomic.Uint64, e uint64, l *line, w *words) bool {
	if v := l[wordStamp].Load(); v&stampPending != 0 {
		// Its writer has published it, or it is being used again and we came too
		// late: then the entry is another one by now.
		if slot.Load() != e || !t.current(shard, x) {
			return false
		}
		t.stop()
		return l.read(w) && w[wordStamp]|stampPending == v
	}
	t.stop()
	return l.read(w) && w[wordStamp]&(stampPending|stampMore) == 0
}

// still reports whether l holds what was read from it.
func (l *line) still(w *words) bool {
	return l[wordStamp].Load()|stampPending == w[wordStamp]|stampPending
}

// load is find with the stream, which is appended to b.
func (t *Table) load(p *probe, w *words, b []byte) (stream []byte, found bool) {
	for t.find(p, w) {
		if stream, whole := t.rest(w, b); whole {
			return stream, true
		}
	}
	return nil, false
}

// rest appends the stream of the record with the head w. It is not whole if the
// record has been replaced and one of its lines used again.
func (t *Table) rest(w *words, b []byte) (stream []byte, whole bool) {
	var room [headRoom]byte
	b = append(b, w.idAndStream(&room)[w.size():]...)
	var c words
	for n := uint32(w[wordLink] >> 32); n != 0; n = uint32(c[wordLink]) {
		t.stop()
		if !t.arena.line(n).read(&c) || c[wordStamp] != w[wordStamp]&^stampPending|stampMore {
			return b, false
		}
		b = appendPart(b, &c)
	}
	return b, true
}
