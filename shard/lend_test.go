package shard

import (
	"testing"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// A visitor who keeps what it was lent finds it spoiled; one who changes it
// changes nothing in the table.
func TestLending(t *testing.T) {
	tab := newTable(t, 1)
	want := sampleUser(2)
	want.CustomStatus = "busy"
	tab.Put(key("a"), &want)
	var kept *presence.User
	var id, custom string
	tab.Lookup(7, []string{"a"}, func(_ int, u *presence.User) {
		kept, id = u, u.Instances[0].Device.ID
		u.Instances[0].InstID, u.Seq = 77, 77
	})
	if kept.Seq != spoiled || kept.Instances[:1][0].InstID != spoiled || id == deviceID {
		t.Errorf("kept after Lookup: %+v, device %q", *kept, id)
	}
	tab.Scan(Cursor{}, 1, func(_ presence.Key, u *presence.User) { kept, id = u, u.Instances[0].Device.ID })
	if kept.Seq != spoiled || id != deviceID {
		t.Errorf("kept after Scan: %+v, device %q", *kept, id)
	}
	var sum *Summary
	tab.LookupStatus(7, []string{"a"}, func(_ int, s *Summary) { sum, custom = s, s.CustomStatus })
	if sum.Seq != spoiled || custom == "busy" {
		t.Errorf("kept after LookupStatus: %+v, custom status %q", *sum, custom)
	}
	var got presence.User
	if !tab.Get(key("a"), &got) || got.Seq != want.Seq || got.Instances[0] != want.Instances[0] || got.CustomStatus != "busy" {
		t.Errorf("a visitor changed the table: %+v", got)
	}
}
