package shard

import (
	"encoding/binary"

	"github.com/cespare/xxhash/v2"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Hash is the hash that places a user: xxhash64 of the app (4 bytes, little
// endian) and the UserID. It spreads users, it does not protect: who chooses
// UserIDs can make them collide, which costs time in one bucket, never a wrong
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

// hash is Hash, cut to the bits in use.
func (t *Table) hash(app uint32, id string) uint64 { return hash(app, id) & t.mask }
