package shard

import (
	"encoding/binary"
	"math/rand/v2"
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// The hash of a key is xxhash64 of its app and UserID, for every length, and its
// words are the id's bytes. Data on disk and other nodes may rely on it.
func TestHashIsXXHash(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	tab := New(Options{})
	for n := 1; n <= presence.MaxUserID+3; n++ {
		for range 200 {
			id, app := make([]byte, n), rng.Uint32()
			for i := range id {
				id[i] = byte(rng.Uint32())
			}
			want := xxhash.Sum64(append(binary.LittleEndian.AppendUint32(nil, app), id...))
			if got := Hash(presence.Key{App: app, UserID: string(id)}); got != want {
				t.Fatalf("app %d, %d bytes %x: %x, want %x", app, n, id, got, want)
			}
			var p probe
			if ok := tab.aim(&p, app, string(id)); ok != (n <= presence.MaxUserID) {
				t.Fatalf("%d bytes: taken %t", n, ok)
			} else if !ok {
				continue
			}
			var padded [presence.MaxUserID]byte
			copy(padded[:], id)
			for i, w := range p.id {
				if want := binary.LittleEndian.Uint64(padded[8*i:]); w != want {
					t.Fatalf("%d bytes %x: word %d is %x, want %x", n, id, i, w, want)
				}
			}
			if p.hash != want || p.shard != uint32(want>>54) || p.tag != uint32(want<<10>>32) {
				t.Fatalf("%d bytes %x: %+v, want hash %x", n, id, p, want)
			}
		}
	}
	if got, want := Hash(presence.Key{App: 7}), xxhash.Sum64([]byte{7, 0, 0, 0}); got != want {
		t.Fatalf("the empty id: %x, want %x", got, want)
	}
}

func BenchmarkHash(b *testing.B) {
	ids := userIDs("u", 1000)
	var x uint64
	for i := 0; b.Loop(); i++ {
		x += Hash(presence.Key{App: 1, UserID: ids[i%1000]})
	}
	_ = x
}
