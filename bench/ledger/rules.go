package ledger

import (
	"cmp"
	"slices"

	"github.com/rollcall-im/rollcall/codec"
)

// Statuses as the API spells them.
const (
	statusOnline     = "Online"
	statusPushOnline = "PushOnline"
	statusOffline    = "Offline"
)

// Codes of refusals that a client may meet without anybody being at fault.
const (
	codeKickedOffline = int(codec.CodeKickedOffline)
	codeRevoked       = int(codec.CodeSigExpired)
	codeNothingGood   = int(codec.CodeSigMalformed) // a resume with a ticket alone, which is dead
	codeNoAccount     = 70107
)

// platformRow is what a stranger knows of a platform: the public table.
type platformRow struct {
	query  string // in queries
	opt    string // OptPlatform
	kicked string // KickedDevice.Platform
	push   bool   // a lost link leaves PushOnline
	slot   codec.Platform
	triple int // its exclusive group in the preset triple
}

var platforms = map[codec.Platform]platformRow{
	codec.Android:     {"Android", "Android", "Android", true, codec.Android, 1},
	codec.IPhone:      {"iPhone", "IOS", "iOS", true, codec.IPhone, 1},
	codec.IPad:        {"iPad", "iPad", "iPad", true, codec.IPad, 1},
	codec.HarmonyOS:   {"HarmonyOS", "HarmonyOS", "HarmonyOS", true, codec.HarmonyOS, 1},
	codec.Windows:     {"PC", "Windows", "Windows", false, codec.Windows, 2},
	codec.Mac:         {"Mac", "Mac", "Mac", false, codec.Mac, 2},
	codec.Linux:       {"Linux", "Linux", "Linux", false, codec.Linux, 2},
	codec.Web:         {"Web", "Web", "Web", false, codec.Web, 3},
	codec.MiniProgram: {"Web", "Web", "Web", false, codec.Web, 3},
}

// excludes reports whether a login on slot platform a ends instances on slot platform b.
func (p Policy) excludes(a, b codec.Platform) bool {
	if a == b {
		return false
	}
	switch p.Preset {
	case "dual":
		return a != codec.Web && b != codec.Web
	case "triple":
		return platforms[a].triple == platforms[b].triple
	case "multi":
		return false
	}
	return true
}

func (p Policy) limit(slot codec.Platform) int {
	if slot == codec.Web {
		return max(p.Web, 1)
	}
	return 1
}

// instance is one login of a device, as the checker believes it to be.
type instance struct {
	id      uint32
	dev     int
	online  bool // else PushOnline
	loginMS int64
	life    int  // in which its link was made
	lost    bool // its client has closed the link
	over    bool // the life of its link is over
}

// live reports whether a client holds the link, so that nothing but Online is right.
func (in *instance) live() bool { return in.online && !in.lost && !in.over }

// state is one of the states in which a user may be, given what was seen so far.
type state struct {
	told       int // events that have been accounted for
	insts      []instance
	registered bool
	// UserSigs issued before cutLo are dead, those from cutHi on are good. Between
	// the two nobody knows: a kick tells its caller no second.
	cutLo, cutHi int64
	tickets      uint64 // a bit per device: the newest ticket that it has is good
}

func (st state) clone() state {
	st.insts = slices.Clone(st.insts)
	return st
}

// find returns the index of the device's instance, -1 if there is none.
func (st *state) find(dev int) int {
	return slices.IndexFunc(st.insts, func(in instance) bool { return in.dev == dev })
}

// inLoginOrder lists indices of instances, earliest login first.
func (st *state) inLoginOrder(indices []int) []int {
	slices.SortFunc(indices, func(i, j int) int {
		a, b := &st.insts[i], &st.insts[j]
		return cmp.Or(cmp.Compare(a.loginMS, b.loginMS), cmp.Compare(a.id, b.id))
	})
	return indices
}

// victims lists the indices of the instances that a login of dev pushes out,
// earliest login first.
func (st *state) victims(devices []Device, dev int, p Policy) (out []int) {
	slot := platforms[devices[dev].Platform].slot
	var same []int
	for i := range st.insts {
		if st.insts[i].dev == dev {
			continue
		}
		other := platforms[devices[st.insts[i].dev].Platform].slot
		if other == slot {
			same = append(same, i)
		} else if p.excludes(slot, other) {
			out = append(out, i)
		}
	}
	if excess := len(same) + 1 - p.limit(slot); excess > 0 {
		out = append(out, st.inLoginOrder(same)[:excess]...)
	}
	return st.inLoginOrder(out)
}

// drop removes the instances with the given indices.
func (st *state) drop(indices []int) {
	kept := st.insts[:0]
	for i := range st.insts {
		if !slices.Contains(indices, i) {
			kept = append(kept, st.insts[i])
		}
	}
	st.insts = kept
}

func (st *state) all() []int {
	all := make([]int, len(st.insts))
	for i := range all {
		all[i] = i
	}
	return st.inLoginOrder(all)
}

// enter notes that the user's next step is in the given life: links of earlier
// ones are gone.
func (st *state) enter(life int) {
	for i := range st.insts {
		if in := &st.insts[i]; in.online && in.life < life {
			in.over = true
		}
	}
}

// disconnect performs an event that tells of a lost link.
func (st *state) disconnect(devices []Device, i int) {
	in := &st.insts[i]
	if !platforms[devices[in.dev].Platform].push {
		st.drop([]int{i})
		return
	}
	in.online, in.lost, in.over = false, false, false
}

// revoke is what a kick and a deletion do to what was issued before.
func (st *state) revoke(s *Step) {
	st.cutLo = max(st.cutLo, s.FromMS/1000)
	st.cutHi = max(st.cutHi, s.ToMS/1000)
	st.tickets = 0
}
