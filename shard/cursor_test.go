package shard

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestCursorForm(t *testing.T) {
	for want, c := range map[string]Cursor{
		"0":                     {},
		"8000000000000000":      {hash: 1 << 63},
		"ff.1400000000.YWxpY2U": {hash: 255, app: 1400000000, id: "alice"},
		"0.0.ICV-":              {id: " %~"},
	} {
		got, err := ParseCursor(want)
		if err != nil || got != c || c.String() != want {
			t.Errorf("%q: parsed %+v, %v; String %q", want, got, err, c.String())
		}
	}
	if c, err := ParseCursor(""); err != nil || c != (Cursor{}) {
		t.Errorf("the empty string: %+v, %v", c, err)
	}
}

func TestCursorRefused(t *testing.T) {
	for _, s := range []string{
		"x", "-1", "00", "FF", "1.2", "1.2.", "1..YQ", "1.2.YQ.3", "1.2.YQ==", "1.02.YQ", "1.4294967296.YQ", "1.-2.YQ",
		"10000000000000000", "1.2.Y", "ff.1400000000.YWxpY", "1.2.YR", "1.2." + strings.Repeat("YWFh", 11), " 1", "1 ", "1.2.YWFh\n",
	} {
		if c, err := ParseCursor(s); err == nil || !strings.Contains(err.Error(), "cannot parse cursor") || c != (Cursor{}) {
			t.Errorf("%q: %+v, %v", s, c, err)
		}
	}
}

// Whatever is parsed is the form that String gives; a scan from it ends.
func FuzzParseCursor(f *testing.F) {
	for _, s := range []string{"", "0", "8000000000000000", "ff.1400000000.YWxpY2U", "ffffffffffffffff.4294967295.fn5-"} {
		f.Add(s)
	}
	tab := New(Options{Shards: 4})
	for _, id := range userIDs("u", 20) {
		put(tab, key(id), 1)
	}
	f.Fuzz(func(t *testing.T, s string) {
		c, err := ParseCursor(s)
		if err != nil {
			return
		}
		if s != "" && c.String() != s {
			t.Fatalf("%q became %q", s, c.String())
		}
		for done, n := false, 0; !done; n++ {
			if n > 4 {
				t.Fatalf("scan from %q goes on and on", s)
			}
			c, done = tab.Scan(c, 100, func(presence.Key, *presence.User) {})
		}
	})
}

// A scan stops at N users and goes on behind them, for N-1, N and N+1 users;
// also where all hashes are equal.
func TestScanBounds(t *testing.T) {
	for _, mask := range masks {
		for _, n := range []int{0, 1, 9, 10, 11} {
			tab := newTable(t, 1)
			tab.mask = mask
			for _, id := range userIDs("u", n) {
				put(tab, key(id), 1)
			}
			visits := 0
			visit := func(presence.Key, *presence.User) { visits++ }
			if c, done := tab.Scan(Cursor{}, 0, visit); c != (Cursor{}) || done || visits != 0 {
				t.Errorf("max 0: %+v, done %t, %d visits", c, done, visits)
			}
			c, done := tab.Scan(Cursor{}, 10, visit)
			if visits != min(n, 10) || done != (n <= 10) {
				t.Errorf("mask %#x, %d users: %d visits, done %t", mask, n, visits, done)
			}
			if !done {
				if c, done = tab.Scan(c, 10, visit); visits != n || !done {
					t.Errorf("mask %#x, %d users: %d visits in two steps, done %t", mask, n, visits, done)
				}
			}
			if c != (Cursor{}) {
				t.Errorf("the end is at %+v", c)
			}
		}
	}
}

// A cursor means the same in a table with another number of shards.
func TestCursorOutlivesTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ids := userIDs("u", rapid.IntRange(1, 100).Draw(t, "users"))
		seen := map[string]int{}
		c := Cursor{}
		for done := false; !done; {
			tab := small(rapid.SampledFrom([]int{1, 2, 16, 64}).Draw(t, "shards"))
			for _, id := range ids {
				put(tab, key(id), 1)
			}
			c, done = tab.Scan(c, rapid.IntRange(1, 30).Draw(t, "max"), func(k presence.Key, _ *presence.User) { seen[k.UserID]++ })
		}
		for _, id := range ids {
			if seen[id] != 1 {
				t.Fatalf("%s was seen %d times", id, seen[id])
			}
		}
	})
}
