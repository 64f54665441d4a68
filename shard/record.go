package shard

import (
	"cmp"
	"slices"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// record is one user. The head, up to the key, fills the first cache line; the
// user's Instances lie in the third and, with one instance, the instance's status
// begins the fourth (a test pins it). So a hit costs two lines, or three.
type record struct {
	next atomic.Pointer[record] // Atomic: the record after this in the order of the list

	// Immutable once published.
	hash uint64

	// Owned by the writer.
	prev *record

	// Immutable once published.
	app  uint32
	size uint8 // bytes of id
	id   [presence.MaxUserID]byte
	user presence.User
}

// newRecord copies u. Most users have one instance: it lies in the same object,
// which saves the reader a miss and the collector an object.
func newRecord(h uint64, k presence.Key, u *presence.User) *record {
	var r *record
	if len(u.Instances) == 1 {
		one := &struct {
			record
			instance [1]presence.Instance
		}{instance: [1]presence.Instance(u.Instances)}
		r = &one.record
		r.user = *u
		r.user.Instances = one.instance[:]
	} else {
		r = &record{user: *u}
		r.user.Instances = slices.Clone(u.Instances)
	}
	r.hash, r.app = h, k.App
	r.size = uint8(copy(r.id[:], k.UserID))
	return r
}

// compare orders the list: by hash, then app, then UserID.
func (r *record) compare(h uint64, app uint32, id string) int {
	if c := cmp.Compare(r.hash, h); c != 0 {
		return c
	}
	if c := cmp.Compare(r.app, app); c != 0 {
		return c
	}
	return cmp.Compare(string(r.id[:r.size]), id)
}

// is reports whether r is the user; its hash is known to match.
func (r *record) is(app uint32, id string) bool {
	return r.app == app && string(r.id[:r.size]) == id
}

// key returns the user's name in memory of its own.
func (r *record) key() presence.Key {
	return presence.Key{App: r.app, UserID: string(r.id[:r.size])}
}

// find searches the chain that begins at r. It runs on into the next bucket at
// most to that one's first record: the order stops it.
func find(r *record, h uint64, app uint32, id string) *record {
	for ; r != nil && r.hash <= h; r = r.next.Load() {
		if r.hash == h && r.is(app, id) {
			return r
		}
	}
	return nil
}
