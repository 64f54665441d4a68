package engine

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// The wire's platforms and those of the rules are two tables, because codec
// stands by itself: the engine turns the numbers of one into the other's.
func TestPlatformTablesAgree(t *testing.T) {
	all := codec.Platforms()
	if len(all) != presence.NumPlatforms {
		t.Errorf("the wire has %d platforms, the rules %d", len(all), presence.NumPlatforms)
	}
	for _, wire := range all {
		if rules := presence.Platform(wire); !rules.Valid() || rules.String() != wire.String() {
			t.Errorf("number %d is %s on the wire, %s in the rules", wire, wire, rules)
		}
	}
	for n := range 256 {
		if wire, rules := codec.Platform(n).String() != "unknown", presence.Platform(n).Valid(); wire != rules {
			t.Errorf("number %d: on the wire %t, in the rules %t", n, wire, rules)
		}
	}
}

// What docs/protocol.md says of a platform is what the rules and a new app's
// settings do with it.
func TestPlatformPageAgrees(t *testing.T) {
	page, err := os.ReadFile("../docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, found := strings.Cut(string(page), "<!-- platforms -->\n")
	table, _, ended := strings.Cut(table, "<!-- end -->")
	if !found || !ended {
		t.Fatal("the page has no table of platforms")
	}
	rows := strings.Split(strings.TrimSpace(table), "\n")[2:]
	if len(rows) != presence.NumPlatforms {
		t.Errorf("%d rows, want %d", len(rows), presence.NumPlatforms)
	}
	timeouts := directory.NewApp(1).Timeouts
	for i, row := range rows {
		p := presence.Platform(i + 1)
		c := timeouts.Of(p)
		cells := strings.Split(strings.Trim(row, "| "), " | ")
		if len(cells) != 7 {
			t.Errorf("row %q has %d cells", row, len(cells))
			continue
		}
		got := append(cells[:1:1], cells[2:]...) // the proto's name is codec's own
		want := []string{
			fmt.Sprint(uint8(p)), p.String(), p.Class().String(),
			fmt.Sprintf("%d s", c.HeartbeatMS/1000), fmt.Sprintf("%d s", c.SilenceMS/1000), afterLostLink(t, p),
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("the page says %q, the rules %q", got, want)
		}
	}
}

// afterLostLink words what the rules leave of an instance whose link was lost.
func afterLostLink(t *testing.T, p presence.Platform) string {
	leaves := func(macPush bool) presence.Status {
		s := directory.NewApp(1).Settings()
		s.MacPushOnline = macPush
		k, link := presence.Key{App: 1, UserID: "u"}, presence.Link{Node: 1, ID: presence.MakeLinkID(0, 0, 1)}
		var u presence.User
		if d, _ := u.Login(k, &s, &presence.Login{Device: presence.Device{Platform: p, ID: "d"}, Link: link, NowMS: 1000}, nil); d.Code != presence.CodeOK {
			t.Fatalf("%s: login %d", p, d.Code)
		}
		u.Leave(k, &s, &presence.Leave{Platform: p, DeviceID: "d", Node: link.Node, Link: link.ID, Reason: presence.LeaveTimeOut, NowMS: 2000}, nil)
		return u.Status()
	}
	switch [2]presence.Status{leaves(false), leaves(true)} {
	case [2]presence.Status{presence.Offline, presence.Offline}:
		return "offline"
	case [2]presence.Status{presence.PushOnline, presence.PushOnline}:
		return "reachable by push"
	case [2]presence.Status{presence.Offline, presence.PushOnline}:
		return "offline, or reachable by push (a setting of the app)"
	}
	return "something else"
}
