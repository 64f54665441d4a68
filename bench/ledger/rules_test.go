package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// TestPlatforms holds the stranger's table to the server's.
func TestPlatforms(t *testing.T) {
	for _, p := range codec.Platforms() {
		row, own := platforms[p], presence.Platform(p)
		if row.query != own.QueryName() || row.opt != own.WebhookName() || row.kicked != own.KickedName() || row.slot != codec.Platform(own.Slot()) {
			t.Errorf("%s: %+v", p, row)
		}
	}
}

// TestVictims holds the stranger's login policy to the server's, over random users.
func TestVictims(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	all := codec.Platforms()
	for range 5000 {
		p := Policy{[]string{"single", "dual", "triple", "multi"}[r.IntN(4)], 1 + r.IntN(3)}
		spec := presence.PolicySpec{Preset: p.Preset, Limits: map[string]int{"Web": p.Web}}
		rules, err := spec.Policy()
		if err != nil {
			t.Fatal(err)
		}
		var devices []Device
		var st state
		var insts []presence.Instance
		for i := range 1 + r.IntN(6) {
			d := Device{all[r.IntN(len(all))], fmt.Sprint(i)}
			devices = append(devices, d)
			if i > 0 { // device 0 logs in
				login := int64(r.IntN(3))
				st.insts = append(st.insts, instance{id: uint32(i), dev: i, loginMS: login})
				insts = append(insts, presence.Instance{InstID: uint32(i), LoginMS: login, Device: presence.Device{Platform: presence.Platform(d.Platform), ID: d.ID}})
			}
		}
		want := rules.Victims(insts, presence.Device{Platform: presence.Platform(devices[0].Platform), ID: "0"}, nil)
		if got := st.victims(devices, 0, p); !slices.Equal(got, want) {
			t.Fatalf("%+v: login of %s among %+v: victims %v, want %v", p, devices[0].Platform, insts, got, want)
		}
	}
}

// TestDuring: the policies that may have been in force in a span of time.
func TestDuring(t *testing.T) {
	a := App{Policies: []PolicyChange{
		{Policy: Policy{"single", 1}, Outcome: Done},
		{Policy: Policy{"dual", 1}, FromMS: 100, ToMS: 110, Outcome: Done},
		{Policy: Policy{"triple", 1}, FromMS: 200, ToMS: 210, Outcome: Unknown},
		{Policy: Policy{"multi", 1}, FromMS: 300, ToMS: 310, Outcome: Refused},
		{Policy: Policy{"multi", 2}, FromMS: 400, ToMS: 410, Outcome: Done},
	}}
	for _, c := range []struct {
		from, to int64
		want     string
	}{
		{0, 99, "[{single 1}]"},
		{0, 100, "[{single 1} {dual 1}]"},
		{110, 120, "[{single 1} {dual 1}]"},
		{111, 199, "[{dual 1}]"},
		{111, 200, "[{dual 1} {triple 1}]"},
		{300, 399, "[{dual 1} {triple 1}]"},
		{411, 500, "[{multi 2}]"},
	} {
		if got := fmt.Sprint(a.during(c.from, c.to)); got != c.want {
			t.Errorf("%d to %d: %s, want %s", c.from, c.to, got, c.want)
		}
	}
}

// TestSchedule: it depends on the seed alone, and has each kind of end.
func TestSchedule(t *testing.T) {
	a, b := schedule(7, 50, 100), schedule(7, 50, 100)
	if !slices.Equal(a, b) {
		t.Error("the same seed gave two schedules")
	}
	if slices.Equal(a, schedule(8, 50, 100)) {
		t.Error("two seeds gave one schedule")
	}
	count := make(map[endKind]int)
	for _, e := range a {
		count[e.kind]++
		if e.n < 1 {
			t.Errorf("%s", e)
		}
	}
	if count[killAtAck]+count[killAtReceipt]+count[killAtStart] != 50 || count[stopAtAck] != 5 || count[lastAtAck] != 1 {
		t.Errorf("%v", count)
	}
	five := fmt.Sprint(schedule(7, 5, 100))
	for _, kind := range []string{"kill at ack", "kill at webhook request", "after the start", "stop at ack", "end at ack 100"} {
		if !strings.Contains(five, kind) {
			t.Errorf("%s: there is no %s", five, kind)
		}
	}
	if e := a[len(a)-2]; e.kind != killAtAck || e.n < longLife/2 {
		t.Errorf("the last kill is %s, and leaves few links", e)
	}
	if a[len(a)-1] != (end{lastAtAck, 100}) {
		t.Errorf("the last one is %s", a[len(a)-1])
	}
}
