package presence

import "slices"

// Login decides on a login and, if it is admitted, performs it: instances that
// the policy excludes are kicked (an ActionKicked each), then the device is
// Online (ActionLogin, which lists them). A refused login changes nothing.
//
// The resume matrix of presence.md section 4 in short: a resume whose instance
// still exists takes it back with InstID and login time; one whose instance is
// gone is a new login that must push nobody out. An active login of a device
// that has an instance keeps the InstID and counts as the latest login.
func (u *User) Login(k Key, s *Settings, l *Login, out []Transition) (LoginDecision, []Transition) {
	if code := u.checkCredential(&l.Cred); code != CodeOK {
		return LoginDecision{Code: code}, out
	}
	own := u.find(l.Device.Platform, l.Device.ID)
	d := LoginDecision{TakenBack: l.Resume && own >= 0}
	var room [16]int
	victims := room[:0]
	if !d.TakenBack {
		victims = s.Policy.Victims(u.Instances, l.Device, victims)
	}
	if l.Resume && len(victims) > 0 {
		return LoginDecision{Code: CodeKickedOffline}, out
	}

	from := len(out)
	var before Status
	d.Inst, before, d.Replaced = u.succeed(own, l)
	d.Kicked, out = u.pushOut(k, victims, l.NowMS, out)
	u.put(d.Inst)
	u.Registered = true
	out = u.record(out, Transition{
		Key: k, TimeMS: l.NowMS, Action: ActionLogin, Reason: ReasonRegister,
		Inst: d.Inst, Before: before, Kicked: d.Kicked,
	}, true)
	u.settle(out[from:])
	return d, out
}

// succeed returns the Online instance that the login makes of instance own, or
// makes anew if own < 0; what the status was before; and the old link if it still
// looked alive.
func (u *User) succeed(own int, l *Login) (in Instance, before Status, replaced Link) {
	in = Instance{Status: Online, Device: l.Device, LoginMS: l.NowMS, Link: l.Link}
	if own < 0 {
		in.InstID = u.newInstID()
		return in, Offline, Link{}
	}
	old := &u.Instances[own]
	in.InstID = old.InstID
	if l.Resume {
		in.LoginMS = old.LoginMS
	}
	if old.Status == Online {
		replaced = old.Link
	}
	return in, old.Status, replaced
}

// checkCredential reports whether what authenticated the login is still good.
//
// A ticket is revoked by sequence: one from before the last revocation is dead.
// One from after the user's present sequence number belongs to a state that was
// lost; later revocations would not reach it, so it is dead too. A UserSig is
// revoked by time; one of the cut-off's own second is good.
func (u *User) checkCredential(c *Credential) int {
	switch {
	case c.ByTicket && (c.TicketSeq < u.RevokedSeq || c.TicketSeq > u.Seq):
		return CodeTicketRevoked
	case !c.ByTicket && c.SigTimeS < u.CutoffS:
		return CodeSigRevoked
	}
	return CodeOK
}

// pushOut kicks the instances with the given indices, in that order, for
// another login. They are no events of their own.
func (u *User) pushOut(k Key, victims []int, nowMS int64, out []Transition) ([]Instance, []Transition) {
	if len(victims) == 0 {
		return nil, out
	}
	kicked := make([]Instance, 0, len(victims))
	for _, i := range victims {
		in := u.Instances[i]
		kicked = append(kicked, in)
		out = u.record(out, Transition{
			Key: k, TimeMS: nowMS, Action: ActionKicked, Reason: ReasonAnotherLogin,
			Inst: in.ended(), Before: in.Status,
		}, false)
	}
	u.remove(victims)
	return kicked, out
}

// remove drops the instances with the given indices, in any order.
func (u *User) remove(indices []int) {
	for _, i := range indices {
		u.Instances[i].Status = Offline
	}
	u.Instances = slices.DeleteFunc(u.Instances, func(in Instance) bool { return in.Status == Offline })
}
