package shard

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Tagged finds exactly the users of a tag, however many share it, and all of each.
func TestTagged(t *testing.T) {
	for _, mask := range masks {
		tab := New(Options{Shards: 4})
		tab.mask, tab.poison = mask, true
		type place struct {
			shard int
			tag   uint32
		}
		want := map[place][]string{}
		for i := range 500 {
			k := presence.Key{App: uint32(i % 3), UserID: fmt.Sprint("user ", i)}
			u := presence.User{Seq: uint64(i), Instances: []presence.Instance{{InstID: 1, Status: presence.PushOnline, PushUntilMS: int64(i), Device: presence.Device{ID: fmt.Sprint("device ", i)}}}}
			tab.Put(k, &u)
			p := place{tab.ShardOf(tab.hash(k)), tab.TagOf(k)}
			want[p] = append(want[p], fmt.Sprint(k, i, u.Instances[0].Device.ID))
		}
		for p, users := range want {
			var got []string
			tab.Tagged(p.shard, p.tag, func(k presence.Key, u *presence.User) {
				got = append(got, fmt.Sprint(k, u.Instances[0].PushUntilMS, u.Instances[0].Device.ID))
			})
			slices.Sort(got)
			slices.Sort(users)
			if !slices.Equal(got, users) {
				t.Fatalf("mask %#x, tag %#x: %q, want %q", mask, p.tag, got, users)
			}
		}
		tab.Tagged(3, 12345, func(k presence.Key, _ *presence.User) {
			if tab.TagOf(k) != 12345 {
				t.Errorf("mask %#x: %v has another tag", mask, k)
			}
		})
	}
	New(Options{}).Tagged(0, 0, func(presence.Key, *presence.User) { t.Error("somebody in an empty table") })
}
