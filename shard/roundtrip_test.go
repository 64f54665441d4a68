package shard

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/internal/presence"
)

var (
	anyInt64 = rapid.OneOf(rapid.SampledFrom([]int64{0, 1, -1, 1<<seenBits - 1, 1 << seenBits, math.MaxInt64, math.MinInt64, 1_700_000_000_000}), rapid.Int64())
	anySeq   = rapid.OneOf(rapid.SampledFrom([]uint64{0, 1, 1<<seqBits - 1, 1 << seqBits, math.MaxUint64}), rapid.Uint64())
	anyInst  = rapid.OneOf(rapid.SampledFrom([]uint32{0, 1, 1<<instIDBits - 1, 1 << instIDBits, math.MaxUint32}), rapid.Uint32())
	anyAddr  = rapid.Custom(func(t *rapid.T) netip.AddrPort {
		ip := rapid.SampledFrom([]netip.Addr{
			{}, netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("::ffff:10.1.2.3"), netip.MustParseAddr("2001:db8::1"),
			netip.MustParseAddr("fe80::1%eth0"), netip.MustParseAddr("::ffff:1.2.3.4%zone"), netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("::"),
		}).Draw(t, "ip")
		return netip.AddrPortFrom(ip, rapid.Uint16().Draw(t, "port"))
	})
	anyDeviceID = rapid.OneOf(rapid.SampledFrom([]string{
		"", "-", "a", "ab", "AB", "aB", "0123", "abc", deviceID, strings.ToUpper(deviceID), "3f2504e0-4f89-11d3-9a0c-0305E82c3301",
		"3f2504e0-4f89-11d3-9a0c-0305e82c330-", "3f2504e04f8911d39a0c0305e82c3301", "00000000-0000-0000-0000-000000000000",
		strings.Repeat("f", 64), strings.Repeat("-", 36), strings.Repeat("é", 32), "\x00\xff", strings.Repeat("9", 300),
	}), rapid.String(), rapid.StringMatching(`[0-9a-f]{0,40}`), rapid.StringMatching(`[0-9A-F-]{36}`))
	anyName = rapid.OneOf(rapid.SampledFrom([]string{"", "native", "8.3.6498", "Pixel 9", strings.Repeat("m", maxName), strings.Repeat("m", maxName+1)}), rapid.String())
	anyText = rapid.OneOf(rapid.Just(""), rapid.StringN(0, 500, -1))
	anyUser = rapid.Custom(func(t *rapid.T) presence.User {
		u := presence.User{
			Registered: rapid.Bool().Draw(t, "registered"), Seq: anySeq.Draw(t, "seq"), EventSeq: anySeq.Draw(t, "event seq"),
			LastInstID: anyInst.Draw(t, "last inst"), CutoffS: anyInt64.Draw(t, "cutoff"), RevokedSeq: anySeq.Draw(t, "revoked"),
			LastSeenMS: anyInt64.Draw(t, "seen"), CustomStatus: rapid.OneOf(rapid.Just(""), rapid.StringN(0, 100, -1)).Draw(t, "custom"),
			Nick: anyText.Draw(t, "nick"), FaceURL: anyText.Draw(t, "face"),
		}
		for range rapid.SampledFrom([]int{0, 1, 1, 2, 3, manyInstances - 1, manyInstances, manyInstances + 1, 40}).Draw(t, "instances") {
			u.Instances = append(u.Instances, presence.Instance{
				InstID: anyInst.Draw(t, "inst"), Status: presence.Status(rapid.Uint8Range(0, 5).Draw(t, "status")),
				Device: presence.Device{Platform: presence.Platform(rapid.SampledFrom([]uint8{0, 1, 9, 15, 16, 255}).Draw(t, "platform")),
					ID: anyDeviceID.Draw(t, "device"), SDKVersion: anyName.Draw(t, "sdk"), Model: anyName.Draw(t, "model")},
				LoginMS: anyInt64.Draw(t, "login"), PushUntilMS: anyInt64.Draw(t, "push"),
				Link: presence.Link{Node: anyInst.Draw(t, "node"), ID: presence.LinkID(anySeq.Draw(t, "link")), Protocol: presence.Protocol(rapid.Uint8().Draw(t, "protocol")),
					Listener: anyName.Draw(t, "listener"), Addr: anyAddr.Draw(t, "addr"), ConnectedMS: anyInt64.Draw(t, "connected")},
			})
		}
		return u
	})
)

// TestNoFieldForgotten: whoever gives the types a field must give it a place in
// the record, and anyUser a value for it.
func TestNoFieldForgotten(t *testing.T) {
	for _, c := range []struct {
		value any
		want  int
	}{{presence.User{}, 11}, {presence.Instance{}, 6}, {presence.Device{}, 4}, {presence.Link{}, 6}} {
		if n := reflect.TypeOf(c.value).NumField(); n != c.want {
			t.Errorf("%T has %d fields, the record knows %d", c.value, n, c.want)
		}
	}
}

// Everything that a user holds comes back as it was, by each way to read it,
// whatever the size of its UserID; and after the record was moved.
func TestRoundTrip(t *testing.T) {
	tab := newTable(t, 2)
	var got presence.User // reused: nothing of the user before may shine through
	rapid.Check(t, func(t *rapid.T) {
		k := presence.Key{App: rapid.Uint32().Draw(t, "app"), UserID: strings.Repeat("x", rapid.IntRange(1, presence.MaxUserID).Draw(t, "size"))}
		want := anyUser.Draw(t, "user")
		tab.Put(k, &want)
		moveAll(tab)
		same := func(how string, u *presence.User) {
			if c := u.Clone(); u == nil || !reflect.DeepEqual(c, want.Clone()) {
				t.Fatalf("%s: got %+v\nwant %+v", how, c, want)
			}
		}
		if !tab.Get(k, &got) {
			t.Fatal("Get missed")
		}
		same("Get", &got)
		tab.Lookup(k.App, []string{k.UserID}, func(_ int, u *presence.User) { same("Lookup", u) })
		for c, done := (Cursor{}), false; !done; {
			c, done = tab.Scan(c, 100, func(at presence.Key, u *presence.User) {
				if at == k {
					same("Scan", u)
				}
			})
		}
		tab.LookupStatus(k.App, []string{k.UserID}, func(_ int, s *Summary) { sameSummary(t, s, &want) })
		var s Summary
		if !tab.GetStatus(k, &s) {
			t.Fatal("GetStatus missed")
		}
		sameSummary(t, &s, &want)
		tab.Delete(k)
	})
}

func sameSummary(t *rapid.T, s *Summary, u *presence.User) {
	if s.Registered != u.Registered || s.Status != u.Status() || s.Seq != u.Seq || s.LastSeenMS != u.LastSeenMS ||
		s.CustomStatus != u.CustomStatus || len(s.Instances) != len(u.Instances) {
		t.Fatalf("summary %+v of %+v", *s, *u)
	}
	for i, in := range s.Instances {
		if w := &u.Instances[i]; in != (InstanceSummary{w.InstID, w.Device.Platform, w.Status}) {
			t.Fatalf("summary %+v of instance %+v", in, *w)
		}
	}
}

// moveAll writes every record to other lines.
func moveAll(tab *Table) {
	for i := range tab.shards {
		x := tab.indexAt(i)
		for b := range x.size() {
			for j := 1; j <= slots; j++ {
				if slot := &tab.bucket(x, b)[j]; slot.Load() != 0 {
					tab.move(&tab.shards[i], uint32(i), slot)
				}
			}
		}
	}
}

// The names are bounded: N-1, N, N+1. Those without a place come back as well.
func TestNamesBound(t *testing.T) {
	const most = 50
	for _, n := range []int{most - 1, most, most + 1, 3 * most} {
		tab := New(Options{Shards: 1, MaxNames: most})
		for round := range 2 {
			for i := range n {
				u := sampleUser(i)
				u.Instances[0].Device.SDKVersion, u.Instances[0].Device.Model, u.Instances[0].Link.Listener = fmt.Sprint("version ", i), "", ""
				tab.Put(key(fmt.Sprint(i)), &u)
				var got presence.User
				if tab.Get(key(fmt.Sprint(i)), &got); got.Instances[0] != u.Instances[0] {
					t.Fatalf("%d names, round %d: %+v", n, round, got)
				}
			}
		}
		s := tab.Stats()
		if want := int64(min(n, most)); s.Names != want || s.NamesRefused != 2*int64(n)-2*want {
			t.Errorf("of %d names %d are kept, %d times one was refused", n, s.Names, s.NamesRefused)
		}
		check(t, tab)
	}
	for _, n := range []int{-1, 1<<20 + 1} {
		if err := catch(func() { New(Options{MaxNames: n}) }); !strings.Contains(err, fmt.Sprintf("MaxNames is %d,", n)) {
			t.Errorf("MaxNames %d: %q", n, err)
		}
	}
}
