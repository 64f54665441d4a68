package presence

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestVictims is the table of presence.md section 5. Rows of one shape ("same
// platform, limit n") go through N-1, N and N+1.
func TestVictims(t *testing.T) {
	const everywhere = "Android:a#1@1 iPhone:b#2@2 iPad:c#3@3 HarmonyOS:d#4@4 Windows:e#5@5 Mac:f#6@6 Linux:g#7@7 Web:h#8@8"
	for _, row := range []struct{ policy, have, login, want string }{
		// single: one of all platforms.
		{"single", "", "Android:a", "-"},
		{"single", everywhere, "Android:a", "#2 #3 #4 #5 #6 #7 #8"},
		{"single", everywhere, "Android:new", "#1 #2 #3 #4 #5 #6 #7 #8"},
		{"single", everywhere, "Web:h", "#1 #2 #3 #4 #5 #6 #7"},
		{"single", everywhere, "MiniProgram:h", "#1 #2 #3 #4 #5 #6 #7 #8"},
		{"single", "Android:a#1@1", "Android:b", "#1"},
		{"single", "Android:a#1@1", "iPhone:a", "#1"},
		{"single", "Android:a#1@1~", "Android:b", "#1"},
		{"single", "Android:a#1@1~", "Web:b", "#1"},
		{"single", "Android:a#1@1~", "Android:a", "-"},
		{"single", "Web:a#1@1", "MiniProgram:b", "#1"},
		{"single", "MiniProgram:a#1@1", "Web:b", "#1"},
		{"single", "MiniProgram:a#1@1", "Android:b", "#1"},
		{"single Web=3", "Web:a#1@1 Web:b#2@2", "Web:c", "-"},
		{"single Web=3", "Web:a#1@1 Web:b#2@2", "Mac:c", "#1 #2"},
		{"single Web=3", "Web:a#1@1 Web:b#2@2 Web:c#3@3", "Web:d", "#1"},
		{"single Web=10", "Android:z#9@9 Web:a#1@1", "Web:d", "#9"},

		// dual: Web beside the rest.
		{"dual", everywhere, "Android:a", "#2 #3 #4 #5 #6 #7"},
		{"dual", everywhere, "Linux:new", "#1 #2 #3 #4 #5 #6 #7"},
		{"dual", everywhere, "Web:h", "-"},
		{"dual", everywhere, "Web:new", "#8"},
		{"dual", everywhere, "MiniProgram:new", "#8"},
		{"dual", "Mac:a#1@1 Web:b#2@2", "Windows:c", "#1"},
		{"dual", "Mac:a#1@1~ Web:b#2@2", "Windows:c", "#1"},
		{"dual Web=2", "Mac:a#1@1 Web:b#2@2 MiniProgram:c#3@3", "Web:d", "#2"},

		// triple: mobile, desktop, Web.
		{"triple", everywhere, "Android:a", "#2 #3 #4"},
		{"triple", everywhere, "iPhone:new", "#1 #2 #3 #4"},
		{"triple", everywhere, "iPad:c", "#1 #2 #4"},
		{"triple", everywhere, "HarmonyOS:d", "#1 #2 #3"},
		{"triple", everywhere, "Windows:e", "#6 #7"},
		{"triple", everywhere, "Mac:new", "#5 #6 #7"},
		{"triple", everywhere, "Linux:g", "#5 #6"},
		{"triple", everywhere, "Web:new", "#8"},
		{"triple", "Android:a#1@1~ Windows:b#2@2 Web:c#3@3", "iPad:d", "#1"},

		// multi: every slot platform for itself.
		{"multi", everywhere, "Android:a", "-"},
		{"multi", everywhere, "Android:new", "#1"},
		{"multi", everywhere, "iPhone:new", "#2"},
		{"multi", everywhere, "iPad:new", "#3"},
		{"multi", everywhere, "HarmonyOS:new", "#4"},
		{"multi", everywhere, "Windows:new", "#5"},
		{"multi", everywhere, "Mac:new", "#6"},
		{"multi", everywhere, "Linux:new", "#7"},
		{"multi", everywhere, "Web:new", "#8"},
		{"multi", everywhere, "MiniProgram:new", "#8"},

		// Limits: below, at and above; PushOnline takes room.
		{"multi Android=3", "Android:a#1@1", "Android:n", "-"},
		{"multi Android=3", "Android:a#1@1 Android:b#2@2", "Android:n", "-"},
		{"multi Android=3", "Android:a#1@1 Android:b#2@2 Android:c#3@3", "Android:n", "#1"},
		{"multi Android=3", "Android:a#1@1 Android:b#2@2 Android:c#3@3 Android:d#4@4", "Android:n", "#1 #2"},
		{"multi Android=3", "Android:a#1@1~ Android:b#2@2 Android:c#3@3", "Android:n", "#1"},
		{"multi Android=3", "Android:a#1@1 Android:b#2@2 Android:c#3@3~", "Android:n", "#1"},
		{"multi Android=3", "Android:a#1@1~ Android:b#2@2~ Android:c#3@3~", "Android:n", "#1"},
		{"multi Android=2", "Android:a#1@1 iPhone:b#2@2 iPad:c#3@3", "Android:n", "-"},
		{"multi Web=2", "Web:a#1@1 MiniProgram:b#2@2", "Web:n", "#1"},
		{"multi Web=2", "Web:a#1@1 MiniProgram:b#2@2", "MiniProgram:n", "#1"},
		{"multi Web=2", "Web:a#1@2 MiniProgram:b#2@1", "Web:n", "#2"},
		{"multi Web=3", "Web:a#1@1 MiniProgram:b#2@2", "MiniProgram:n", "-"},
		// A limit lowered since: the device's own instance takes no room, but the others must fit beside it.
		{"multi Android=1", "Android:a#1@1 Android:b#2@2 Android:c#3@3", "Android:c", "#1 #2"},
		{"multi Android=2", "Android:a#1@1 Android:b#2@2 Android:c#3@3", "Android:a", "#2"},
		{"multi Android=2", "Android:a#1@1 Android:b#2@2", "Android:a", "-"},
		{"multi Android=2", "Android:a#1@1 Android:b#2@2", "Android:b", "-"},

		// The device is platform and id: one id on two platforms is two devices.
		{"single", "Android:x#1@1", "iPad:x", "#1"},
		{"multi", "Web:x#1@1", "MiniProgram:x", "#1"},
		{"multi Web=2", "Web:x#1@1", "MiniProgram:x", "-"},
		{"multi Web=2", "Web:x#1@1 MiniProgram:x#2@2", "Web:x", "-"},
		{"multi Web=2", "Web:x#1@1 MiniProgram:x#2@2", "Web:y", "#1"},

		// Order: login time, then InstID; the slice's order does not count.
		{"multi Web=2", "Web:b#2@20 Web:a#1@10", "Web:n", "#1"},
		{"multi Web=2", "Web:a#1@20 Web:b#2@10", "Web:n", "#2"},
		{"multi Web=2", "Web:b#7@10 Web:a#3@10", "Web:n", "#3"},
		{"multi Web=1", "Web:b#7@10 Web:a#3@10 Web:c#5@9", "Web:n", "#5 #3 #7"},
		{"single", "Web:a#1@30 Android:b#2@20 iPhone:c#3@10", "Mac:n", "#3 #2 #1"},
		{"single", "Web:a#3@10 Android:b#2@10 iPhone:c#1@10~", "Mac:n", "#1 #2 #3"},
		// Of both kinds: the excluded ones and the overflow, merged in login order.
		{"single Web=2", "Web:a#1@1 Android:b#2@2 Web:c#3@3 Mac:d#4@4", "Web:n", "#1 #2 #4"},

		// custom: the operator's groups.
		{"custom Android+Web", "Android:a#1@1 iPhone:b#2@2 Web:c#3@3", "Android:n", "#1 #3"},
		{"custom Android+Web", "Android:a#1@1 iPhone:b#2@2 Web:c#3@3", "iPhone:n", "#2"},
		{"custom Android+Web", "Android:a#1@1 iPhone:b#2@2", "MiniProgram:n", "#1"},
		{"custom Android+Web Web=2", "Web:a#1@1 MiniProgram:b#2@2 Mac:c#3@3", "Android:n", "#1 #2"},
		{"custom Android+iPhone Windows+Mac", everywhere, "Mac:n", "#5 #6"},
		{"custom Android+iPhone Windows+Mac", everywhere, "Linux:n", "#7"},
		{"custom Windows+Mac Windows=2 Mac=2", "Windows:a#1@1 Windows:b#2@2", "Windows:n", "#1"},
		{"custom Windows+Mac Windows=2 Mac=2", "Windows:a#1@1 Windows:b#2@2", "Mac:n", "#1 #2"},
		{"custom", everywhere, "Web:n", "#8"},
	} {
		p, insts, d := parsePolicy(row.policy), parseInstances(row.have), parseDevice(row.login)
		if got := instIDs(insts, p.Victims(insts, d, nil)); got != row.want {
			t.Errorf("%s: login of %s with %q kicks %s, want %s", row.policy, row.login, row.have, got, row.want)
		}
	}
}

// TestVictimsLimits goes through each slot platform and limit at one below, at and above it.
func TestVictimsLimits(t *testing.T) {
	for slot := range slotPlatforms {
		for limit := 1; limit <= MaxLimit; limit += 9 {
			p := parsePolicy(fmt.Sprintf("multi %s=%d", slot, limit))
			for have := max(limit-1, 0); have <= limit+1; have++ {
				var insts []Instance
				for i := range have {
					insts = append(insts, Instance{InstID: uint32(i + 1), Device: Device{Platform: slot, ID: fmt.Sprint(i)}, LoginMS: int64(i)})
				}
				victims := p.Victims(insts, Device{Platform: slot, ID: "new"}, nil)
				want := max(have+1-limit, 0)
				if len(victims) != want {
					t.Fatalf("%s: limit %d, have %d: %d victims, want %d", slot, limit, have, len(victims), want)
				}
				for i, v := range victims {
					if v != i {
						t.Fatalf("%s: limit %d, have %d: victims %v are not the earliest", slot, limit, have, victims)
					}
				}
			}
		}
	}
}

func TestVictimsAppends(t *testing.T) {
	p, insts := parsePolicy("multi"), parseInstances("Web:a#1@2 Web:b#2@1")
	if got := p.Victims(insts, parseDevice("Web:n"), []int{9}); !slices.Equal(got, []int{9, 1, 0}) {
		t.Errorf("Victims appended to [9] gives %v", got)
	}
	if got := p.Sweep(insts, []int{9}); !slices.Equal(got, []int{9, 1}) {
		t.Errorf("Sweep appended to [9] gives %v", got)
	}
}

func TestVictimsAllocateNothing(t *testing.T) {
	p := parsePolicy("single Web=10")
	insts := parseInstances("Web:a#1@5 Web:b#2@4 Android:c#3@3 Mac:d#4@2 Web:e#5@1")
	d, room := parseDevice("Web:n"), make([]int, 0, len(insts))
	if n := testing.AllocsPerRun(100, func() { room = p.Victims(insts, d, room[:0]) }); n != 0 {
		t.Errorf("Victims allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() { room = p.Sweep(insts, room[:0]) }); n != 0 {
		t.Errorf("Sweep allocates %v times", n)
	}
}

func TestSweep(t *testing.T) {
	for _, row := range []struct{ policy, have, want string }{
		{"single", "", "-"},
		{"single", "Android:a#1@1", "-"},
		{"single", "Android:a#1@1~ iPhone:b#2@2", "#1"},
		{"single", "Android:a#2@1 iPhone:b#1@1", "#1"},
		{"single", "Android:a#1@3 iPhone:b#2@2 Web:c#3@1", "#3 #2"},
		{"single Web=2", "Web:a#1@1 Web:b#2@2", "-"},
		{"single Web=2", "Web:a#1@1 Mac:b#2@2 Web:c#3@3", "#1 #2"},
		{"single Web=2", "Mac:a#1@1 Web:b#2@2 MiniProgram:c#3@3 Web:d#4@4", "#1 #2"},
		{"dual", "Mac:a#1@1 Web:b#2@2 Android:c#3@3", "#1"},
		{"triple", "Mac:a#1@1 Web:b#2@2 Android:c#3@3 iPad:d#4@4 Linux:e#5@5", "#1 #3"},
		{"multi", "Mac:a#1@1 Web:b#2@2 Android:c#3@3 Android:d#4@4 MiniProgram:e#5@5", "#2 #3"},
		{"multi Android=2", "Android:a#1@1 Android:b#2@2", "-"},
		{"multi Android=2", "Android:a#1@1 Android:b#2@2~ Android:c#3@3~", "#1"},
		{"custom Android+Web", "Android:a#1@1 Web:b#2@2 iPad:c#3@3 Android:d#4@4", "#1 #2"},
	} {
		p, insts := parsePolicy(row.policy), parseInstances(row.have)
		if got := instIDs(insts, p.Sweep(insts, nil)); got != row.want {
			t.Errorf("%s: sweep of %q kicks %s, want %s", row.policy, row.have, got, row.want)
		}
	}
}

// replay is Sweep in the words of the specification: the logins once more, in order.
func replay(p *Policy, insts []Instance) []int {
	order := make([]int, len(insts))
	for i := range order {
		order[i] = i
	}
	sortByLogin(insts, order)
	var in, out []int
	for _, i := range order {
		present := make([]Instance, len(in))
		for n, j := range in {
			present[n] = insts[j]
		}
		victims := p.Victims(present, insts[i].Device, nil)
		kept := in[:0:0]
		for n, j := range in {
			if slices.Contains(victims, n) {
				out = append(out, j)
			} else {
				kept = append(kept, j)
			}
		}
		in = append(kept, i)
	}
	sortByLogin(insts, out)
	return out
}

func TestPresets(t *testing.T) {
	for name, want := range map[string]string{
		"":       "Android iPhone iPad HarmonyOS Windows Mac Linux Web",
		"single": "Android iPhone iPad HarmonyOS Windows Mac Linux Web",
		"dual":   "Android iPhone iPad HarmonyOS Windows Mac Linux|Web",
		"triple": "Android iPhone iPad HarmonyOS|Windows Mac Linux|Web",
		"multi":  "Android|iPhone|iPad|HarmonyOS|Windows|Mac|Linux|Web",
	} {
		p, ok := Preset(name)
		if got := groupsOf(&p); !ok || got != want {
			t.Errorf("Preset(%q) = %q, %v, want %q", name, got, ok, want)
		}
		if p.Preset != cmp.Or(name, "single") {
			t.Errorf("Preset(%q) names itself %q", name, p.Preset)
		}
		for slot := range slotPlatforms {
			if p.Limit(slot) != DefaultLimit {
				t.Errorf("Preset(%q): limit of %s is %d", name, slot, p.Limit(slot))
			}
		}
	}
	for _, name := range []string{"custom", "Single", "quad"} {
		if _, ok := Preset(name); ok {
			t.Errorf("Preset(%q) exists", name)
		}
	}
	var zero Policy
	single, _ := Preset("single")
	if zero.Groups != single.Groups || zero.Limit(Web) != 1 {
		t.Errorf("the zero policy is not single")
	}
}

// groupsOf words the groups, platforms in table order.
func groupsOf(p *Policy) string {
	var groups []string
	for slot := range slotPlatforms {
		var members []string
		first := true
		for o := range slotPlatforms {
			if p.Groups[o] == p.Groups[slot] {
				members = append(members, o.String())
				first = first && o >= slot
			}
		}
		if first {
			groups = append(groups, strings.Join(members, " "))
		}
	}
	return strings.Join(groups, "|")
}

func TestValidate(t *testing.T) {
	renumbered := parsePolicy("dual")
	for slot := range slotPlatforms {
		renumbered.Groups[slot] += 40
	}
	renumbered.Groups[MiniProgram] = 7 // not read
	for _, row := range []struct {
		policy   Policy
		ceilings Ceilings
		fault    string // part of the error, "" = valid
	}{
		{Policy{}, Ceilings{}, ""},
		{parsePolicy("single"), Ceilings{}, ""},
		{renumbered, Ceilings{}, ""},
		{Policy{Preset: "dual"}, Ceilings{}, `groups are not those of preset "dual"`},
		{Policy{Preset: "quad"}, Ceilings{}, `preset "quad" is none of`},
		{Policy{Preset: "Single"}, Ceilings{}, `preset "Single" is none of`},
		{Policy{Preset: "custom"}, Ceilings{}, ""},
		{parsePolicy("custom Android+Web iPad+Mac"), Ceilings{}, ""},

		{parsePolicy("single Web=10"), Ceilings{}, ""},
		{parsePolicy("single Web=11"), Ceilings{}, `limit of Web must be 1 to 10 in preset "single", got 11`},
		{parsePolicy("dual Web=9"), Ceilings{}, ""},
		{parsePolicy("triple Web=10"), Ceilings{}, ""},
		{parsePolicy("multi Web=11"), Ceilings{}, "limit of Web must be 1 to 10"},
		{parsePolicy("custom Web=10"), Ceilings{}, ""},
		{parsePolicy("custom Web=11"), Ceilings{}, "limit of Web must be 1 to 10"},

		{parsePolicy("single Android=1"), Ceilings{}, ""},
		{parsePolicy("single Android=2"), Ceilings{}, `limit of Android must be 1 in preset "single", got 2`},
		{Policy{Limits: Limits{Mac: 2}}, Ceilings{}, `in preset "single", got 2`},
		{parsePolicy("dual iPhone=2"), Ceilings{}, "limit of iPhone"},
		{parsePolicy("triple Linux=2"), Ceilings{}, "limit of Linux"},
		{parsePolicy("multi Android=2"), Ceilings{}, ""},
		{parsePolicy("multi Android=3"), Ceilings{}, ""},
		{parsePolicy("multi Android=4"), Ceilings{}, "limit of Android must be 1 to 3"},
		{parsePolicy("custom HarmonyOS=3"), Ceilings{}, ""},
		{parsePolicy("custom HarmonyOS=4"), Ceilings{}, "limit of HarmonyOS must be 1 to 3"},
		{parsePolicy("multi Linux=255"), Ceilings{}, "got 255"},

		{parsePolicy("multi Android=100"), Ceilings{Native: 100}, ""},
		{parsePolicy("multi Android=101"), Ceilings{Native: 100}, "1 to 100"},
		{parsePolicy("single Android=2"), Ceilings{Native: 100}, "must be 1 in preset"},
		{parsePolicy("single Android=5"), Ceilings{NativeElsewhere: 5}, ""},
		{parsePolicy("single Android=6"), Ceilings{NativeElsewhere: 5}, "1 to 5"},
		{parsePolicy("multi Web=100"), Ceilings{Web: 100}, ""},
		{parsePolicy("multi Web=5"), Ceilings{Web: 4}, "1 to 4"},

		{parsePolicy("multi Web=5 MiniProgram=5"), Ceilings{}, ""},
		{parsePolicy("multi MiniProgram=1"), Ceilings{}, ""},
		{parsePolicy("multi Web=5 MiniProgram=4"), Ceilings{}, "MiniProgram counts as Web: its limit must be absent or Web's 5, got 4"},
	} {
		err := row.policy.Validate(row.ceilings)
		if row.fault == "" && err != nil {
			t.Errorf("%+v with %+v: %v", row.policy, row.ceilings, err)
		}
		if row.fault != "" && (err == nil || !strings.Contains(err.Error(), row.fault)) {
			t.Errorf("%+v with %+v: error %v, want %q", row.policy, row.ceilings, err, row.fault)
		}
	}
}

func TestCeilings(t *testing.T) {
	for _, row := range []struct {
		c  Ceilings
		ok bool
	}{
		{Ceilings{}, true},
		{Ceilings{1, 1, 1}, true},
		{Ceilings{99, 99, 99}, true},
		{Ceilings{100, 100, 100}, true},
		{Ceilings{Native: 101}, false},
		{Ceilings{Web: 101}, false},
		{Ceilings{NativeElsewhere: 101}, false},
		{Ceilings{Native: -1}, false},
		{Ceilings{Web: -1}, false},
		{Ceilings{NativeElsewhere: -1}, false},
	} {
		if err := row.c.Validate(); (err == nil) != row.ok {
			t.Errorf("%+v: %v", row.c, err)
		}
	}
}

func TestSlots(t *testing.T) {
	if want := []Platform{Android, IPhone, IPad, HarmonyOS, Windows, Mac, Linux, Web}; !slices.Equal(slots(), want) {
		t.Errorf("slot platforms are %v, want %v", slots(), want)
	}
	for p := range slotPlatforms {
		if p == IPhone {
			break // a range that ends early must not run on
		}
	}
}
