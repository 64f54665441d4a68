package shard

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"

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

// Scan visits up to max users from c on, in the order of their hashes, and stops
// at the end of the shard at the latest. It returns where to go on, or done. A
// user who is in the table during a whole scan is visited exactly once, whatever
// writers do meanwhile; one who comes or goes, at most once. u is lent as in
// Lookup; k may be kept. A max below 1 visits nobody and stays at c.
func (t *Table) Scan(c Cursor, max int, visit func(k presence.Key, u *presence.User)) (next Cursor, done bool) {
	if max < 1 {
		return c, false
	}
	n := t.ShardOf(c.hash)
	x := t.shards[n].index.Load()
	for b := x.bucket(c.hash); b < len(x.buckets); b++ {
		for r := x.within(x.buckets[b].Load(), b); r != nil; r = x.within(r.next.Load(), b) {
			if r.compare(c.hash, c.app, c.id) <= 0 {
				continue
			}
			if max == 0 {
				return c, false
			}
			k := r.key()
			lend(&r.user, func(u *presence.User) { visit(k, u) })
			c = Cursor{r.hash, k.App, k.UserID}
			max--
		}
	}
	if n++; n == len(t.shards) {
		return Cursor{}, true
	}
	return Cursor{hash: uint64(n) << (64 - t.lead)}, false
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
