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
