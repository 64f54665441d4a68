package shard

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Hash is the hash that places a user: xxhash64 of the app (4 bytes, little
// endian) and the UserID. It spreads users, it does not protect: who chooses
// UserIDs can make them collide, which costs time in one shard, never a wrong
// answer.
func Hash(k presence.Key) uint64 { return hash(k.App, k.UserID) }

func hash(app uint32, id string) uint64 {
	var buf [4 + presence.MaxUserID]byte
	binary.LittleEndian.PutUint32(buf[:], app)
	if len(id) <= presence.MaxUserID {
		return xxhash.Sum64(buf[:4+copy(buf[4:], id)])
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(buf[:4])
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
	var buf [4 + presence.MaxUserID]byte
	binary.LittleEndian.PutUint32(buf[:], app)
	n := copy(buf[4:], id)
	p.hash = xxhash.Sum64(buf[:4+n]) & t.mask
	for i := range p.id {
		p.id[i] = binary.LittleEndian.Uint64(buf[4+8*i:])
	}
	p.app, p.size = app, uint8(n)
	p.shard, p.tag = uint32(t.ShardOf(p.hash)), t.tag(p.hash)
	return true
}

// tag is the part of hash h that entries hold.
func (t *Table) tag(h uint64) uint32 { return uint32(h << t.lead >> 32) }

// hash is Hash, cut to the bits in use.
func (t *Table) hash(k presence.Key) uint64 { return Hash(k) & t.mask }
