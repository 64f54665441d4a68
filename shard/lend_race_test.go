//go:build race

package shard

import (
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// A visitor who keeps what it was lent finds poison; one who changes it panics.
func TestLending(t *testing.T) {
	tab := newTable(t, 1)
	put(tab, key("a"), 2)
	var kept *presence.User
	tab.Lookup(7, []string{"a"}, func(_ int, u *presence.User) { kept = u })
	if kept.Seq != poison || kept.Instances[0].InstID != poison {
		t.Errorf("kept after Lookup: %+v", *kept)
	}
	tab.Scan(Cursor{}, 1, func(_ presence.Key, u *presence.User) { kept = u })
	if kept.Seq != poison {
		t.Errorf("kept after Scan: %+v", *kept)
	}
	for _, change := range []func(u *presence.User){
		func(u *presence.User) { u.Seq++ },
		func(u *presence.User) { u.Instances[1].Status = presence.PushOnline },
	} {
		err := catch(func() { tab.Lookup(7, []string{"a"}, func(_ int, u *presence.User) { change(u) }) })
		if !strings.Contains(err, "changed the user") {
			t.Errorf("a visitor who changes the user: %q", err)
		}
	}
	if get(t, tab, key("a")) != 2 {
		t.Error("a visitor changed the table")
	}
}
