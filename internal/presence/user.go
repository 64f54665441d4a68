package presence

import "slices"

// find returns the index of the device's instance, -1 if there is none.
func (u *User) find(p Platform, deviceID string) int {
	for i := range u.Instances {
		if u.Instances[i].Device.is(p, deviceID) {
			return i
		}
	}
	return -1
}

// put adds an instance in login order, in place of an older state of it.
func (u *User) put(inst Instance) {
	u.Instances = slices.DeleteFunc(u.Instances, func(in Instance) bool { return in.InstID == inst.InstID })
	i := len(u.Instances)
	for i > 0 && compareLogin(&u.Instances[i-1], &inst) > 0 {
		i--
	}
	u.Instances = slices.Insert(u.Instances, i, inst)
}

// newInstID gives the next InstID: ascending, from MaxInstID on to 1, skipping
// those still in use.
func (u *User) newInstID() uint32 {
	for {
		if u.LastInstID >= MaxInstID {
			u.LastInstID = 0
		}
		u.LastInstID++
		if !slices.ContainsFunc(u.Instances, func(in Instance) bool { return in.InstID == u.LastInstID }) {
			return u.LastInstID
		}
	}
}

// record numbers the transition and appends it to out. An event also counts in
// EventSeq.
func (u *User) record(out []Transition, t Transition, event bool) []Transition {
	u.Seq++
	t.Seq = u.Seq
	if event {
		u.EventSeq++
		t.EventSeq = u.EventSeq
	}
	if t.Inst.Status == Online || t.Before == Online {
		u.LastSeenMS = max(u.LastSeenMS, t.TimeMS)
	}
	return append(out, t)
}

// settle completes the transitions of one decision with the user's status
// after it. A custom status does not outlive the last instance.
func (u *User) settle(decision []Transition) {
	status := u.Status()
	if status == Offline {
		u.CustomStatus = ""
	}
	for i := range decision {
		decision[i].UserStatus = status
		decision[i].CustomStatus = u.CustomStatus
	}
}

// ended returns the instance as a transition to none tells it: its link is
// gone, the link's address stays.
func (in Instance) ended() Instance {
	in.Status = Offline
	in.Link.ID = 0
	in.PushUntilMS = 0
	return in
}
