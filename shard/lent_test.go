package shard

import (
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// A user that Scan showed may be kept: no string of it may lie in the memory
// that look-ups lend, where the next user's strings go.
func TestScanKeepsNothingLent(t *testing.T) {
	tab := New(Options{Shards: 1})
	defer func() {
		if err := tab.Check(); err != nil {
			t.Error(err)
		}
	}()
	user := func(c string) *presence.User {
		return &presence.User{
			Registered: true, Seq: 1, CustomStatus: strings.Repeat(c, 20), Nick: strings.Repeat(c, 9),
			Instances: []presence.Instance{{InstID: 1, Status: presence.Online, Device: presence.Device{Platform: presence.Android, ID: "device-" + c}}},
		}
	}
	alice, bob := presence.Key{App: 1, UserID: "alice"}, presence.Key{App: 2, UserID: "bob"}
	tab.Put(alice, user("a"))
	tab.Put(bob, user("B"))
	for range 1000 { // the scratch comes from a pool
		tab.Lookup(1, []string{"alice"}, func(int, *presence.User) {})
		var kept presence.User
		tab.Scan(Cursor{}, 10, func(k presence.Key, u *presence.User) {
			if k == alice {
				kept = u.Clone()
			}
		})
		tab.Lookup(2, []string{"bob"}, func(int, *presence.User) {})
		if kept.Nick != "aaaaaaaaa" || kept.CustomStatus != strings.Repeat("a", 20) || kept.Instances[0].Device.ID != "device-a" {
			t.Fatalf("alice's kept nick is %q, custom status %q, device %q", kept.Nick, kept.CustomStatus, kept.Instances[0].Device.ID)
		}
	}
}
