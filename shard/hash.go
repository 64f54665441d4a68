package shard

import (
	"encoding/binary"
	"math/bits"

	"github.com/cespare/xxhash/v2"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Hash is the hash that places a user: xxhash64 of the app (4 bytes, little
// endian) and the UserID. It spreads users, it does not protect: who chooses
// UserIDs can make them collide, which costs time in one shard, never a wrong
// answer.
func Hash(k presence.Key) uint64 { return hash(k.App, k.UserID) }

func hash(app uint32, id string) uint64 {
	if id != "" && len(id) <= presence.MaxUserID {
		w0, w1, w2, w3 := idWords(id)
		return sum(app, len(id), w0, w1, w2, w3)
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(binary.LittleEndian.AppendUint32(nil, app))
	_, _ = d.WriteString(id)
	return d.Sum64()
}

// probe is what is looked for: a user's key in the form of a record's words, and
// where it hashes to.
type probe struct {
	hash  uint64
	id    [presence.MaxUserID / 8]uint64 // zero-padded
	app   uint32
	tag   uint32 // the bits of the hash below those that choose the shard
	shard uint32
	size  uint8 // bytes of id
}

// aim fills p. It returns false if id is no UserID that a table can hold.
func (t *Table) aim(p *probe, app uint32, id string) bool {
	if len(id) == 0 || len(id) > presence.MaxUserID {
		return false
	}
	w0, w1, w2, w3 := idWords(id)
	p.id[0], p.id[1], p.id[2], p.id[3] = w0, w1, w2, w3
	p.app, p.size = app, uint8(len(id))
	p.hash = sum(app, len(id), w0, w1, w2, w3) & t.mask
	p.shard, p.tag = uint32(t.ShardOf(p.hash)), t.tag(p.hash)
	return true
}

// idWords returns the 1 to 32 bytes of id as words, zero-padded, in registers: an
// array would be written and read again in pieces of another size, for which a
// load has to wait. The last bytes are loaded together with some before them and
// shifted into place.
func idWords(id string) (w0, w1, w2, w3 uint64) {
	b := stringBytes(id)
	n := len(b)
	switch {
	case n >= 8:
		last := binary.LittleEndian.Uint64(b[n-8:]) >> (-8 * n & 63) // of a full word all, else what is behind it
		w0 = binary.LittleEndian.Uint64(b)
		switch {
		case n == 8:
		case n <= 16:
			w1 = last
		case n <= 24:
			w1, w2 = binary.LittleEndian.Uint64(b[8:]), last
		default:
			w1, w2, w3 = binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]), last
		}
	case n >= 4:
		w0 = uint64(binary.LittleEndian.Uint32(b)) | uint64(binary.LittleEndian.Uint32(b[n-4:]))<<(8*(n-4))
	default:
		w0 = uint64(b[0]) | uint64(b[n/2])<<(8*(n/2)) | uint64(b[n-1])<<(8*(n-1))
	}
	return w0, w1, w2, w3
}

// The constants of xxhash64.
const (
	prime1 uint64 = 11400714785074694791
	prime2 uint64 = 14029467366897019727
	prime3 uint64 = 1609587929392839161
	prime4 uint64 = 9650029242287828579
	prime5 uint64 = 2870177450012600261
)

// sum is xxhash64, without a seed, of an app and an id of size bytes. The library
// wants both in one piece of memory, and its first load then waits for the two
// stores that it spans. So a key of fewer than 32 bytes is hashed from the words;
// what needs xxhash's stripes is left to the library. TestHashIsXXHash holds both to it.
func sum(app uint32, size int, w0, w1, w2, w3 uint64) uint64 {
	n := 4 + size
	if n >= 32 {
		return longSum(app, size, w0, w1, w2, w3)
	}
	h := prime5 + uint64(n)
	rest := w0<<32 | uint64(app)
	if n >= 8 {
		h, rest = round(h, rest), w1<<32|w0>>32
	}
	if n >= 16 {
		h, rest = round(h, rest), w2<<32|w1>>32
	}
	if n >= 24 {
		h, rest = round(h, rest), w3<<32|w2>>32
	}
	if n&4 != 0 {
		h = bits.RotateLeft64(h^(rest&0xffffffff)*prime1, 23)*prime2 + prime3
		rest >>= 32
	}
	for range n & 3 {
		h = bits.RotateLeft64(h^(rest&0xff)*prime5, 11) * prime1
		rest >>= 8
	}
	h = (h ^ h>>33) * prime2
	h = (h ^ h>>29) * prime3
	return h ^ h>>32
}

func round(h, word uint64) uint64 {
	return bits.RotateLeft64(h^bits.RotateLeft64(word*prime2, 31)*prime1, 27)*prime1 + prime4
}

func longSum(app uint32, size int, w0, w1, w2, w3 uint64) uint64 {
	var buf [4 + presence.MaxUserID]byte
	binary.LittleEndian.PutUint32(buf[:], app)
	for i, w := range [...]uint64{w0, w1, w2, w3} {
		binary.LittleEndian.PutUint64(buf[4+8*i:], w)
	}
	return xxhash.Sum64(buf[:4+size])
}

// tag is the part of hash h that entries hold.
func (t *Table) tag(h uint64) uint32 { return uint32(h << t.lead >> 32) }

// hash is Hash, cut to the bits in use.
func (t *Table) hash(k presence.Key) uint64 { return Hash(k) & t.mask }
