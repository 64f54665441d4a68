package presence

import (
	"reflect"
	"strings"
	"testing"
)

func TestPolicySpec(t *testing.T) {
	all := [][]string{{"Android", "iPhone", "iPad", "HarmonyOS"}, {"Windows", "Mac"}, {"Linux"}, {"Web"}}
	for _, c := range []struct {
		name string
		spec PolicySpec
		fail string // part of the error, "" = none
	}{
		{"nothing is single", PolicySpec{}, ""},
		{"single", PolicySpec{Preset: "single"}, ""},
		{"dual with a Web limit", PolicySpec{Preset: "dual", Limits: map[string]int{"Web": 10}}, ""},
		{"triple", PolicySpec{Preset: "triple"}, ""},
		{"multi", PolicySpec{Preset: "multi", Limits: map[string]int{"iPad": 3, "Web": 2}}, ""},
		{"custom", PolicySpec{Preset: "custom", Groups: all, Limits: map[string]int{"Mac": 2}}, ""},
		{"unknown preset", PolicySpec{Preset: "Single"}, `preset "Single"`},
		{"groups without custom", PolicySpec{Preset: "dual", Groups: all}, "own groups need preset custom"},
		{"custom without groups", PolicySpec{Preset: "custom"}, "Android is in no group"},
		{"platform missing", PolicySpec{Preset: "custom", Groups: all[:3]}, "Web is in no group"},
		{"platform twice", PolicySpec{Preset: "custom", Groups: append(all[:4:4], []string{"Web"})}, "Web stands there twice"},
		{"empty group", PolicySpec{Preset: "custom", Groups: append([][]string{{}}, all...)}, "group 1 is empty"},
		{"unknown platform in groups", PolicySpec{Preset: "custom", Groups: [][]string{{"web"}}}, `"web" is no platform`},
		{"MiniProgram in groups", PolicySpec{Preset: "custom", Groups: [][]string{{"MiniProgram"}}}, "MiniProgram counts as Web"},
		{"unknown platform in limits", PolicySpec{Limits: map[string]int{"Phone": 1}}, `"Phone" is no platform`},
		{"MiniProgram in limits", PolicySpec{Limits: map[string]int{"MiniProgram": 2}}, "MiniProgram counts as Web"},
		{"limit 0", PolicySpec{Limits: map[string]int{"Web": 0}}, "must be 1 to 100, got 0"},
		{"limit 1", PolicySpec{Limits: map[string]int{"Web": 1}}, ""},
		{"limit 100", PolicySpec{Limits: map[string]int{"Web": 100}}, ""},
		{"limit 101", PolicySpec{Limits: map[string]int{"Web": 101}}, "must be 1 to 100, got 101"},
		{"limit that wraps a byte", PolicySpec{Limits: map[string]int{"Web": 257}}, "got 257"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := c.spec.Policy()
			if (err == nil) != (c.fail == "") || err != nil && !strings.Contains(err.Error(), c.fail) {
				t.Fatalf("error %v, want one with %q", err, c.fail)
			}
			if err != nil {
				return
			}
			if err := p.Validate(Ceilings{Native: 100, Web: 100, NativeElsewhere: 100}); err != nil {
				t.Fatalf("the policy does not validate: %v", err)
			}
			checkSpecRoundTrip(t, p)
		})
	}
}

// checkSpecRoundTrip holds that a policy survives being written and read.
func checkSpecRoundTrip(t *testing.T, p Policy) {
	t.Helper()
	spec := p.Spec()
	again, err := spec.Policy()
	if err != nil {
		t.Fatalf("%+v does not read back: %v", spec, err)
	}
	if again.Preset != p.Preset || again.Limits != p.Limits || !again.Groups.same(&p.Groups) {
		t.Errorf("read back %+v, want %+v", again, p)
	}
}

func TestSpecListsGroupsByFirstPlatform(t *testing.T) {
	in := PolicySpec{Preset: "custom", Groups: [][]string{{"Web", "Linux"}, {"Mac", "Android"}, {"iPhone", "iPad", "HarmonyOS", "Windows"}}}
	p, err := in.Policy()
	if err != nil {
		t.Fatal(err)
	}
	want := [][]string{{"Android", "Mac"}, {"iPhone", "iPad", "HarmonyOS", "Windows"}, {"Linux", "Web"}}
	if got := p.Spec().Groups; !reflect.DeepEqual(got, want) {
		t.Errorf("groups %v, want %v", got, want)
	}
}

func FuzzPolicySpec(f *testing.F) {
	f.Add("custom", "Android,iPhone|iPad,HarmonyOS,Windows|Mac,Linux,Web", "Web", 3)
	f.Add("multi", "", "MiniProgram", 256)
	f.Fuzz(func(t *testing.T, preset, groups, platform string, limit int) {
		s := PolicySpec{Preset: preset, Limits: map[string]int{platform: limit}}
		if groups != "" {
			for g := range strings.SplitSeq(groups, "|") {
				s.Groups = append(s.Groups, strings.Split(g, ","))
			}
		}
		p, err := s.Policy()
		if err != nil {
			return
		}
		if p.Limit(mustSlot(t, platform)) != limit {
			t.Errorf("limit of %s is %d, want %d", platform, p.Limit(mustSlot(t, platform)), limit)
		}
		checkSpecRoundTrip(t, p)
	})
}

func mustSlot(t *testing.T, name string) Platform {
	t.Helper()
	p, err := parseSlot(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}
