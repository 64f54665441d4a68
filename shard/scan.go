package shard

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Cursor is a place in the order of the table: after one user, or before all
// users of a hash. The zero value is the start. It depends on the users alone,
// not on the size of the table, so it may be kept and sent around.
type Cursor struct {
	hash uint64
	app  uint32
	id   string
}

// record is a record as a scan collected it.
type record struct {
	hash     uint64
	key      presence.Key
	w        words
	from, to int // of the stream, in scratch.stream
}

func (r *record) compare(c *Cursor) int {
	return cmp.Or(cmp.Compare(r.hash, c.hash), cmp.Compare(r.key.App, c.app), cmp.Compare(r.key.UserID, c.id))
}

// Scan visits up to max users from c on, in the order of their hashes, then
// apps, then UserIDs, and stops at the end of the shard at the latest. It
// returns where to go on, or done. A user who is in the table during a whole
// scan is visited exactly once, whatever writers do meanwhile; one who comes or
// goes, at most once. u is lent; k and u's strings may be kept. A max below 1
// visits nobody and stays at c.
func (t *Table) Scan(c Cursor, max int, visit func(k presence.Key, u *presence.User)) (next Cursor, done bool) {
	if max < 1 {
		return c, false
	}
	s := scratches.Get().(*scratch)
	defer scratches.Put(s)
	// What a Lookup lent lies in s.text still: no string of it may be kept.
	clear(s.user.Instances[:cap(s.user.Instances)])
	s.user = presence.User{Instances: s.user.Instances[:0]}
	n := uint32(t.ShardOf(c.hash))
	for from, more := c.hash, true; more; {
		var end uint64
		end, more = t.collect(s, n, from)
		for i := range s.batch {
			r := &s.batch[i]
			if r.compare(&c) <= 0 {
				continue
			}
			if max == 0 {
				return c, false
			}
			t.visit(s, r, visit)
			c = Cursor{r.hash, r.key.App, r.key.UserID}
			max--
		}
		from = end
	}
	runtime.KeepAlive(t)
	if n++; int(n) == len(t.shards) {
		return Cursor{}, true
	}
	return Cursor{hash: uint64(n) << (64 - t.lead)}, false
}

func (t *Table) visit(s *scratch, r *record, visit func(k presence.Key, u *presence.User)) {
	rd := reader{b: s.stream[r.from:r.to], names: &t.names}
	rd.user(&r.w, &s.user)
	visit(r.key, &s.user)
	t.spoil(s)
}

// collect reads all users who belong to the bucket of hash h into s.batch, in
// order, and returns the first hash of the next bucket, if there is one.
func (t *Table) collect(s *scratch, shard uint32, h uint64) (end uint64, more bool) {
	for {
		x := index(t.indexes[shard].Load())
		t.stop()
		home := x.home(t.tag(h))
		s.batch, s.stream = s.batch[:0], s.stream[:0]
		sure := t.gather(s, x, shard, home)
		t.stop()
		if !sure || !t.current(shard, x) {
			continue
		}
		slices.SortFunc(s.batch, func(a, b record) int { return a.compare(&Cursor{b.hash, b.key.App, b.key.UserID}) })
		// Who went and came back meanwhile may have been met twice.
		s.batch = slices.CompactFunc(s.batch, func(a, b record) bool { return a.key == b.key })
		end = uint64(shard)<<(64-t.lead) | uint64(home+1)<<(64-uint(t.lead)-x.bits())
		return end, home+1 < x.size()
	}
}

// gather reads the users who belong to one bucket. It is not sure if x was replaced.
func (t *Table) gather(s *scratch, x index, shard, home uint32) (sure bool) {
	for i := uint32(0); i < x.size(); i++ {
		b := t.bucket(x, home+i)
		for j := 1; j <= slots; j++ {
			for !t.pick(s, x, shard, home, &b[j]) {
				if !t.current(shard, x) {
					return false
				}
			}
		}
		if b[0].Load() == 0 {
			break
		}
	}
	return true
}

// pick reads the user in one place, if one of the bucket is there. It is false
// if the place changed meanwhile.
func (t *Table) pick(s *scratch, x index, shard, home uint32, slot *atomic.Uint64) bool {
	e := slot.Load()
	if uint32(e) == 0 || x.home(uint32(e>>32)) != home {
		return true
	}
	t.stop()
	r := record{from: len(s.stream)}
	l := t.arena.line(uint32(e))
	if !t.fetch(x, shard, slot, e, l, &r.w) {
		return false
	}
	stream, whole := t.rest(&r.w, s.stream)
	t.stop()
	// It is who is here only if the entry led to it all the time.
	if !whole || slot.Load() != e || !l.still(&r.w) {
		return false
	}
	s.stream, r.to = stream, len(stream)
	r.key = r.w.key()
	r.hash = t.hash(r.key)
	s.batch = append(s.batch, r)
	return true
}

// String encodes the cursor for use outside, in characters that a URL may hold.
func (c Cursor) String() string {
	if c.id == "" {
		return strconv.FormatUint(c.hash, 16)
	}
	return fmt.Sprintf("%x.%d.%s", c.hash, c.app, base64.RawURLEncoding.EncodeToString([]byte(c.id)))
}

// ParseCursor decodes what String made. The empty string is the start.
func ParseCursor(s string) (Cursor, error) {
	if s == "" {
		return Cursor{}, nil
	}
	var c Cursor
	parts := strings.Split(s, ".")
	hash, err := strconv.ParseUint(parts[0], 16, 64)
	if err == nil && len(parts) == 3 {
		err = c.parseUser(parts[1], parts[2])
	} else if err == nil && len(parts) != 1 {
		err = fmt.Errorf("it has %d parts", len(parts))
	}
	c.hash = hash
	if err == nil && c.String() != s {
		err = fmt.Errorf("it is not in the form that %q has", c.String())
	}
	if err != nil {
		return Cursor{}, fmt.Errorf("cannot parse cursor %.100q: %w", s, err)
	}
	return c, nil
}

func (c *Cursor) parseUser(app, id string) error {
	n, err := strconv.ParseUint(app, 10, 32)
	if err != nil {
		return err
	}
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		return err
	}
	if len(b) == 0 || len(b) > presence.MaxUserID {
		return fmt.Errorf("its UserID has %d bytes", len(b))
	}
	c.app, c.id = uint32(n), string(b)
	return nil
}
