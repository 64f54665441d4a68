package shard

import (
	"testing"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// BenchmarkStatusHit is GetHit for what queries ask.
func BenchmarkStatusHit(b *testing.B) {
	t, ids := fixture()
	var u Summary
	b.ReportAllocs()
	defer cpuPer(b, 1)()
	for i := 0; b.Loop(); i++ {
		if !t.GetStatus(presence.Key{App: 1, UserID: ids[i%million]}, &u) {
			b.Fatal("missed")
		}
	}
}

// BenchmarkStatusCached is both with a thousand users: all that they need lies in
// the first caches, so what is left is instructions.
func BenchmarkStatusCached(b *testing.B) {
	ids := userIDs("u", 1000)
	t := fill(ids)
	b.Run("one", func(b *testing.B) {
		var u Summary
		defer cpuPer(b, 1)()
		for i := 0; b.Loop(); i++ {
			if !t.GetStatus(presence.Key{App: 1, UserID: ids[i%1000]}, &u) {
				b.Fatal("missed")
			}
		}
	})
	b.Run("batch", func(b *testing.B) {
		online := 0
		defer cpuPer(b, 500)()
		for i := 0; b.Loop(); i++ {
			from := i & 1 * 500
			t.LookupStatus(1, ids[from:from+500], func(_ int, u *Summary) { online += int(u.Status) })
		}
		if online == 0 {
			b.Fatal("nobody was online")
		}
	})
}

// BenchmarkLookupStatus500 is the presence part of a querystate.
func BenchmarkLookupStatus500(b *testing.B) {
	const batch = 500
	t, ids := fixture()
	online := 0
	b.ReportAllocs()
	defer cpuPer(b, batch)()
	for i := 0; b.Loop(); i++ {
		from := i * batch % (million - batch)
		t.LookupStatus(1, ids[from:from+batch], func(_ int, u *Summary) { online += int(u.Status) })
	}
	if online == 0 {
		b.Fatal("nobody was online")
	}
}
