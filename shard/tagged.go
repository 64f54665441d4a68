package shard

import (
	"runtime"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// TagOf is the part of a user's hash that tells it from most others of its shard.
func (t *Table) TagOf(k presence.Key) uint32 { return t.tag(t.hash(k)) }

// Tagged visits the users of a shard who have the tag: mostly one, or none. It
// is for the shard's writer, who so finds a user again by 4 bytes: the conditions
// of Put hold, and visit must not write. u is lent; k and u's strings may be kept.
func (t *Table) Tagged(shard int, tag uint32, visit func(k presence.Key, u *presence.User)) {
	s := t.enter(shard)
	defer s.leave()
	x := index(t.indexes[shard].Load())
	if x.first() == 0 {
		return
	}
	sc := scratches.Get().(*scratch)
	defer scratches.Put(sc)
	clear(sc.user.Instances[:cap(sc.user.Instances)])
	sc.user = presence.User{Instances: sc.user.Instances[:0]}
	sc.batch, sc.stream = sc.batch[:0], sc.stream[:0]
	for i := range x.size() {
		b := t.bucket(x, x.home(tag)+i)
		for j := 1; j <= slots; j++ {
			if e := b[j].Load(); uint32(e) != 0 && uint32(e>>32) == tag {
				r := record{from: len(sc.stream)}
				t.arena.line(uint32(e)).read(&r.w)
				sc.stream, _ = t.rest(&r.w, sc.stream)
				r.key, r.to = r.w.key(), len(sc.stream)
				sc.batch = append(sc.batch, r)
			}
		}
		if b[0].Load() == 0 {
			break
		}
	}
	for i := range sc.batch {
		t.visit(sc, &sc.batch[i], visit)
	}
	runtime.KeepAlive(t)
}
