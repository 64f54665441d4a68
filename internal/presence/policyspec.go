package presence

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// PolicySpec is a policy as people write it, in the console API and in the
// config file: {"Preset":"custom","Groups":[["Android","iPhone"],...],"Limits":{"Web":3}}.
// Groups belong to preset custom only and name each slot platform exactly once;
// a platform without a limit has the default one.
type PolicySpec struct {
	Preset string         `json:"Preset" yaml:"Preset"`
	Groups [][]string     `json:"Groups,omitempty" yaml:"Groups"`
	Limits map[string]int `json:"Limits,omitempty" yaml:"Limits"`
}

// Policy returns the policy that the spec describes. Ceilings are not looked at:
// that is Policy.Validate's.
func (s *PolicySpec) Policy() (Policy, error) {
	p, err := s.grouped()
	if err != nil {
		return Policy{}, err
	}
	for _, name := range slices.Sorted(maps.Keys(s.Limits)) {
		slot, err := parseSlot(name)
		if err != nil {
			return Policy{}, fmt.Errorf("Limits: %w", err)
		}
		n := s.Limits[name]
		if n < 1 || n > MaxLimit {
			return Policy{}, fmt.Errorf("Limits: limit of %s must be 1 to %d, got %d", name, MaxLimit, n)
		}
		p.Limits[slot] = uint8(n)
	}
	return p, nil
}

// grouped returns the policy with its groups and default limits.
func (s *PolicySpec) grouped() (Policy, error) {
	p, ok := Preset(s.Preset)
	switch {
	case ok && len(s.Groups) > 0:
		return Policy{}, fmt.Errorf("Groups: preset %q has its own groups; own groups need preset custom", p.Preset)
	case ok:
		return p, nil
	case s.Preset != PresetCustom:
		return Policy{}, fmt.Errorf("preset %q is none of single, dual, triple, multi, custom", s.Preset)
	}
	p, _ = Preset(PresetSingle)
	p.Preset = PresetCustom
	var err error
	p.Groups, err = parseGroups(s.Groups)
	return p, err
}

// parseGroups numbers the groups from 1, in the order given.
func parseGroups(groups [][]string) (Groups, error) {
	var out Groups
	for i, names := range groups {
		if len(names) == 0 {
			return out, fmt.Errorf("Groups: group %d is empty", i+1)
		}
		for _, name := range names {
			slot, err := parseSlot(name)
			if err != nil {
				return out, fmt.Errorf("Groups: %w", err)
			}
			if out[slot] != 0 {
				return out, fmt.Errorf("Groups: %s stands there twice", name)
			}
			out[slot] = uint8(i + 1) // at most one group per slot platform gets here
		}
	}
	for slot := range slotPlatforms {
		if out[slot] == 0 {
			return out, fmt.Errorf("Groups: %s is in no group, each platform needs one", slot)
		}
	}
	return out, nil
}

func parseSlot(name string) (Platform, error) {
	p, ok := ParsePlatform(name)
	switch {
	case !ok:
		return 0, fmt.Errorf("%q is no platform", name)
	case p.Slot() != p:
		return 0, errors.New(name + " counts as " + p.Slot().String() + " and cannot be set by itself")
	}
	return p, nil
}

// Spec returns the policy as people write it, with every limit. Groups are
// listed for preset custom only, ordered by their first platform.
func (p *Policy) Spec() PolicySpec {
	s := PolicySpec{Preset: p.Preset, Limits: map[string]int{}}
	if s.Preset == "" {
		s.Preset = PresetSingle
	}
	for slot := range slotPlatforms {
		s.Limits[slot.String()] = p.Limit(slot)
	}
	if s.Preset == PresetCustom {
		s.Groups = p.GroupNames()
	}
	return s
}

// GroupNames returns the exclusive groups, ordered by their first platform.
func (p *Policy) GroupNames() [][]string {
	var groups [][]string
	at := map[uint8]int{}
	for slot := range slotPlatforms {
		i, ok := at[p.Groups[slot]]
		if !ok {
			i = len(groups)
			at[p.Groups[slot]] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], slot.String())
	}
	return groups
}
