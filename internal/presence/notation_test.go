package presence

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The notation of tables and scripts.
//
// A policy: the preset, then groups (only in custom; a slot platform that is in
// none stands alone) and limits, as in "custom Android+Web iPhone=3". An
// instance: Platform:device#InstID@loginMS, with ~ behind it if PushOnline.

// parsePolicy does not validate: tests of Validate use it too.
func parsePolicy(s string) Policy {
	words := strings.Fields(s)
	p, ok := Preset(words[0])
	if !ok {
		p = Policy{Preset: words[0]}
		for slot := range slotPlatforms {
			p.Groups[slot] = uint8(slot)
		}
	}
	for _, w := range words[1:] {
		if name, n, ok := strings.Cut(w, "="); ok {
			p.Limits[mustPlatform(name)] = uint8(mustInt(n))
			continue
		}
		members := strings.Split(w, "+")
		for _, m := range members {
			p.Groups[mustPlatform(m)] = uint8(100 + mustPlatform(members[0]))
		}
	}
	return p
}

func parseInstances(s string) []Instance {
	var insts []Instance
	for w := range strings.FieldsSeq(s) {
		w, push := strings.CutSuffix(w, "~")
		device, rest, _ := strings.Cut(w, "#")
		id, at, _ := strings.Cut(rest, "@")
		in := Instance{InstID: uint32(mustInt(id)), Status: Online, Device: parseDevice(device), LoginMS: mustInt(at)}
		if push {
			in.Status = PushOnline
		}
		insts = append(insts, in)
	}
	return insts
}

func parseDevice(s string) Device {
	name, id, _ := strings.Cut(s, ":")
	return Device{Platform: mustPlatform(name), ID: id}
}

func mustPlatform(s string) Platform {
	p, ok := ParsePlatform(s)
	if !ok {
		panic(fmt.Sprintf("no platform %q", s))
	}
	return p
}

func mustInt(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		panic(err)
	}
	return n
}

// instIDs words the instances with the given indices: "#1 #2", "-" for none.
func instIDs(insts []Instance, indices []int) string {
	if len(indices) == 0 {
		return "-"
	}
	var words []string
	for _, i := range indices {
		words = append(words, fmt.Sprintf("#%d", insts[i].InstID))
	}
	return strings.Join(words, " ")
}

func slots() []Platform { return slices.Collect(slotPlatforms) }
