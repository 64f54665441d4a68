package presence

import (
	"cmp"
	"fmt"
	"slices"
)

// Groups assigns each slot platform to an exclusive group: platforms with the
// same number exclude each other. Index 0 is unused; MiniProgram's entry is not
// read (its slot platform is Web).
type Groups [platformEnd]uint8

// Limits is the number of instances allowed per slot platform; 0 means the
// default, 1. Index 0 and MiniProgram's entry are not read.
type Limits [platformEnd]uint8

// Policy is an app's login policy: which platforms exclude each other, and how
// many instances each may have. The zero value is the preset single.
type Policy struct {
	Preset string // single, dual, triple, multi, custom; "" is single
	Groups Groups
	Limits Limits
}

// The presets. Custom is the operator's own grouping and has no table row.
const (
	PresetSingle = "single"
	PresetDual   = "dual"
	PresetTriple = "triple"
	PresetMulti  = "multi"
	PresetCustom = "custom"
)

// DefaultLimit is the number of instances per slot platform where a policy says nothing.
const DefaultLimit = 1

// MaxLimit is what a server setting can raise a ceiling to.
const MaxLimit = 100

// presets are the published groupings.
var presets = map[string]Groups{
	PresetSingle: {},
	PresetDual:   {Web: 1},
	PresetTriple: {
		Android: 1, IPhone: 1, IPad: 1, HarmonyOS: 1,
		Windows: 2, Mac: 2, Linux: 2,
		Web: 3,
	},
	PresetMulti: {
		Android: 1, IPhone: 2, IPad: 3, HarmonyOS: 4,
		Windows: 5, Mac: 6, Linux: 7,
		Web: 8,
	},
}

// Preset returns the preset with the given name and default limits. "" is
// single; custom is no preset.
func Preset(name string) (Policy, bool) {
	if name == "" {
		name = PresetSingle
	}
	groups, ok := presets[name]
	if !ok {
		return Policy{}, false
	}
	p := Policy{Preset: name, Groups: groups}
	for slot := range slotPlatforms {
		p.Limits[slot] = DefaultLimit
	}
	return p, true
}

// Limit is the number of instances that the policy allows on p's slot platform.
func (p *Policy) Limit(pl Platform) int {
	if n := p.Limits[pl.Slot()]; n > 0 {
		return int(n)
	}
	return DefaultLimit
}

// Ceilings are a server's bounds on the limits of policies. A zero field is its default.
type Ceilings struct {
	Native          int // per native platform in multi and custom: default 3
	Web             int // in every preset: default 10
	NativeElsewhere int // per native platform in the other presets: default 1
}

// Default ceilings, presence.md section 5.
const (
	defaultNativeCeiling    = 3
	defaultWebCeiling       = 10
	defaultElsewhereCeiling = 1
)

// Validate reports a ceiling that is neither 0 nor 1..MaxLimit.
func (c Ceilings) Validate() error {
	for _, f := range []struct {
		name string
		n    int
	}{{"native", c.Native}, {"web", c.Web}, {"native elsewhere", c.NativeElsewhere}} {
		if f.n < 0 || f.n > MaxLimit {
			return fmt.Errorf("ceiling %s must be 1 to %d, or 0 for the default, got %d", f.name, MaxLimit, f.n)
		}
	}
	return nil
}

// of is the ceiling for slot platform pl under the given preset.
func (c Ceilings) of(preset string, pl Platform) int {
	switch {
	case pl.Class() == WebClass:
		return cmp.Or(c.Web, defaultWebCeiling)
	case preset == PresetMulti || preset == PresetCustom:
		return cmp.Or(c.Native, defaultNativeCeiling)
	}
	return cmp.Or(c.NativeElsewhere, defaultElsewhereCeiling)
}

// Validate reports the first fault of the policy: an unknown preset, groups
// other than the named preset's, or a limit above its ceiling.
func (p *Policy) Validate(c Ceilings) error {
	if p.Preset != PresetCustom {
		want, ok := Preset(p.Preset)
		if !ok {
			return fmt.Errorf("preset %q is none of single, dual, triple, multi, custom", p.Preset)
		}
		if !p.Groups.same(&want.Groups) {
			return fmt.Errorf("groups are not those of preset %q; own groups need preset custom", want.Preset)
		}
	}
	for slot := range slotPlatforms {
		if n, most := p.Limit(slot), c.of(p.Preset, slot); n > most {
			return fmt.Errorf("limit of %s must be %s in preset %q, got %d", slot, oneTo(most), cmp.Or(p.Preset, PresetSingle), n)
		}
	}
	if n := p.Limits[MiniProgram]; n != 0 && int(n) != p.Limit(Web) {
		return fmt.Errorf("MiniProgram counts as Web: its limit must be absent or Web's %d, got %d", p.Limit(Web), n)
	}
	return nil
}

func oneTo(most int) string {
	if most == 1 {
		return "1"
	}
	return fmt.Sprintf("1 to %d", most)
}

// same reports whether two groupings exclude the same pairs, whatever the numbers.
func (g *Groups) same(o *Groups) bool {
	for a := range slotPlatforms {
		for b := range slotPlatforms {
			if (g[a] == g[b]) != (o[a] == o[b]) {
				return false
			}
		}
	}
	return true
}

// excludes reports whether a login on slot platform a ends instances on slot platform b.
func (p *Policy) excludes(a, b Platform) bool {
	return a != b && p.Groups[a] == p.Groups[b]
}

// Victims appends to dst the indices of the instances that a login of d pushes
// out, earliest login first. The device's own instance is no victim and takes
// no room. PushOnline instances count like Online ones. It allocates nothing if
// dst has room for len(insts).
func (p *Policy) Victims(insts []Instance, d Device, dst []int) []int {
	from, slot := len(dst), d.Platform.Slot()
	excess := 1 - p.Limit(slot) // of instances on slot, once d is in
	for i := range insts {
		if insts[i].Device.is(d.Platform, d.ID) {
			continue
		}
		other := insts[i].Device.Platform.Slot()
		if other == slot {
			excess++
		} else if !p.excludes(slot, other) {
			continue
		}
		dst = append(dst, i)
	}
	sortByLogin(insts, dst[from:])
	kept := dst[:from]
	for _, i := range dst[from:] {
		if insts[i].Device.Platform.Slot() == slot {
			if excess <= 0 {
				continue
			}
			excess--
		}
		kept = append(kept, i)
	}
	return kept
}

// Sweep appends to dst the indices of the instances that the policy would have
// pushed out, had it been in force when they logged in; earliest login first.
//
// Replaying the logins in order comes down to this: an instance is gone if any
// later login was on another platform of its group, or if as many later ones as
// the limit allows were on its own.
func (p *Policy) Sweep(insts []Instance, dst []int) []int {
	from := len(dst)
	for i := range insts {
		if p.outlived(insts, i) {
			dst = append(dst, i)
		}
	}
	sortByLogin(insts, dst[from:])
	return dst
}

// outlived reports whether logins after that of insts[i] pushed it out.
func (p *Policy) outlived(insts []Instance, i int) bool {
	slot, room := insts[i].Device.Platform.Slot(), p.Limit(insts[i].Device.Platform)
	for j := range insts {
		if compareLogin(&insts[j], &insts[i]) <= 0 {
			continue
		}
		later := insts[j].Device.Platform.Slot()
		if p.excludes(later, slot) {
			return true
		}
		if later == slot {
			room--
		}
	}
	return room <= 0
}

// compareLogin orders instances by login time, then InstID.
func compareLogin(a, b *Instance) int {
	return cmp.Or(cmp.Compare(a.LoginMS, b.LoginMS), cmp.Compare(a.InstID, b.InstID))
}

func sortByLogin(insts []Instance, indices []int) {
	slices.SortFunc(indices, func(i, j int) int { return compareLogin(&insts[i], &insts[j]) })
}
