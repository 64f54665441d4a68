package presence

import "slices"

// KickAll ends all instances over REST, an event each, oldest login first, and
// revokes what was issued before: UserSigs by the second of nowMS (the cut-off
// never moves back), session tickets by sequence, which grows even if there was
// no instance. It returns the instances as they were.
func (u *User) KickAll(k Key, nowMS int64, out []Transition) ([]Instance, []Transition) {
	u.CutoffS = max(u.CutoffS, nowMS/1000)
	kicked, out := u.endAll(k, u.allIndices(), nowMS, out)
	if len(kicked) == 0 {
		u.Seq++
	}
	u.RevokedSeq = u.Seq
	return kicked, out
}

// KickInstance ends one instance over REST. It revokes nothing: that device may
// log in again at once. The result is false if the user has no such instance.
func (u *User) KickInstance(k Key, instID uint32, nowMS int64, out []Transition) (Instance, bool, []Transition) {
	i := slices.IndexFunc(u.Instances, func(in Instance) bool { return in.InstID == instID })
	if i < 0 {
		return Instance{}, false, out
	}
	kicked, out := u.endAll(k, []int{i}, nowMS, out)
	return kicked[0], true, out
}

// Delete is KickAll, and the account exists no more. The cut-off stays, so that
// only a UserSig issued since can register the account again; its profile does not.
func (u *User) Delete(k Key, nowMS int64, out []Transition) ([]Instance, []Transition) {
	kicked, out := u.KickAll(k, nowMS, out)
	u.Registered, u.Nick, u.FaceURL = false, "", ""
	return kicked, out
}

// Enforce ends the instances that break the policy as it is now. Nobody's login
// can list them, so each is an event, as with a kick over REST.
func (u *User) Enforce(k Key, s *Settings, nowMS int64, out []Transition) ([]Instance, []Transition) {
	return u.endAll(k, s.Policy.Sweep(u.Instances, nil), nowMS, out)
}

// endAll ends the instances with the given indices, in that order, for a call
// over REST or the console. It returns them as they were.
func (u *User) endAll(k Key, indices []int, nowMS int64, out []Transition) ([]Instance, []Transition) {
	if len(indices) == 0 {
		return nil, out
	}
	from := len(out)
	ended := make([]Instance, 0, len(indices))
	for _, i := range indices {
		in := u.Instances[i]
		ended = append(ended, in)
		out = u.record(out, Transition{
			Key: k, TimeMS: nowMS, Action: ActionLogout, Reason: ReasonUnregister,
			Inst: in.ended(), Before: in.Status, ByREST: true,
		}, true)
	}
	u.remove(indices)
	u.settle(out[from:])
	return ended, out
}

func (u *User) allIndices() []int {
	all := make([]int, len(u.Instances))
	for i := range all {
		all[i] = i
	}
	return all
}
