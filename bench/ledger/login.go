package ledger

import (
	"fmt"
	"slices"

	"github.com/rollcall-im/rollcall/codec"
)

// verdict is what the server may have thought of a login's credentials.
type verdict struct{ good, revoked bool }

// credential judges what the login showed: a resume's ticket, else the UserSig.
func (st *state) credential(s *Step) verdict {
	switch {
	case s.Resume && s.Ticket && st.tickets&(1<<s.Dev) != 0:
		return verdict{good: true}
	case s.SigS == 0 || s.SigS < st.cutLo:
		return verdict{revoked: true}
	}
	return verdict{good: true, revoked: s.SigS < st.cutHi}
}

// login returns the states after a login under each policy that may have been in force.
func (c *checker) login(st state, s *Step) (out []state, why *rejection) {
	if s.Outcome == Refused {
		return c.refused(st, s)
	}
	if s.Outcome == Unknown {
		out = append(out, st)
	}
	cred := st.credential(s)
	if !cred.good {
		return out, reject(&st, LostCutoff, "let in with what was revoked before second %d", st.cutLo)
	}
	for _, p := range c.u.App.during(s.FromMS, s.ToMS) {
		after, no := c.admit(st.clone(), s, p)
		if no == nil {
			out = append(out, after)
		} else if why == nil {
			why = no
		}
	}
	return out, why
}

// refused checks a refusal. It changes nothing.
func (c *checker) refused(st state, s *Step) ([]state, *rejection) {
	cred := st.credential(s)
	switch s.Code {
	case codeRevoked, codeNothingGood:
		switch {
		case !cred.revoked && s.SigS == 0:
			return nil, reject(&st, LostAck, "the session ticket is dead, and nothing has revoked it")
		case !cred.revoked:
			return nil, reject(&st, LostAck, "refused as revoked; nothing since second %d has revoked it", st.cutHi)
		case (s.SigS == 0) != (s.Code == codeNothingGood):
			return nil, reject(&st, WrongAnswer, "refused with %d", s.Code)
		}
		return []state{st}, nil
	case codeKickedOffline:
		if i := st.find(s.Dev); i >= 0 {
			return nil, reject(&st, LostAck, "told that it is gone; instance %d was there", st.insts[i].id)
		}
		for _, p := range c.u.App.during(s.FromMS, s.ToMS) {
			if cred.good && s.Resume && len(st.victims(c.u.Devices, s.Dev, p)) > 0 {
				return []state{st}, nil
			}
		}
		return nil, reject(&st, WrongAnswer, "told that it was kicked, and the policy has room for it")
	}
	return nil, reject(&st, WrongAnswer, "refused with %d", s.Code)
}

// admit performs a login under a policy.
func (c *checker) admit(st state, s *Step, p Policy) (state, *rejection) {
	own := st.find(s.Dev)
	takenBack := s.Resume && own >= 0
	var victims []int
	if !takenBack {
		victims = st.victims(c.u.Devices, s.Dev, p)
	}
	if s.Resume && len(victims) > 0 {
		return st, reject(&st, LostAck, "let in again without room: instance %d is forgotten", st.insts[victims[0]].id)
	}
	if no := c.answered(&st, s, own, takenBack, victims); no != nil {
		return st, no
	}
	e, no := c.loginEvent(&st, s, own, victims)
	if no != nil {
		return st, no
	}
	in := instance{id: e.InstID, dev: s.Dev, online: true, loginMS: e.TimeMS, life: s.Life}
	if takenBack {
		in.loginMS = st.insts[own].loginMS
	}
	gone := victims
	if own >= 0 {
		gone = append(slices.Clone(victims), own)
	}
	st.drop(gone)
	st.insts = append(st.insts, in)
	st.registered = true
	st.told++
	if s.Outcome == Done {
		st.tickets |= 1 << s.Dev
	}
	return st, nil
}

// answered checks what the client was told. Without an answer anything goes.
func (c *checker) answered(st *state, s *Step, own int, takenBack bool, victims []int) *rejection {
	if s.Outcome != Done {
		return nil
	}
	switch {
	case own >= 0 && s.InstID != st.insts[own].id:
		return reject(st, LostAck, "became instance %d; instance %d of the same device is forgotten", s.InstID, st.insts[own].id)
	case takenBack && !s.TakenBack:
		return reject(st, LostAck, "instance %d was not taken back", st.insts[own].id)
	case !takenBack && s.TakenBack:
		return reject(st, WrongAnswer, "instance %d was taken back, and there was none", s.InstID)
	case own < 0 && c.usedBefore(st, s.InstID):
		return reject(st, InstReused, "became instance %d, which another login had", s.InstID)
	}
	return c.kickedAnswer(st, s, victims)
}

// kickedAnswer compares whom the login says it pushed out.
func (c *checker) kickedAnswer(st *state, s *Step, victims []int) *rejection {
	var want []codec.KickedInstance
	for _, i := range victims {
		k := codec.KickedInstance{Platform: c.u.Devices[st.insts[i].dev].Platform, InstID: st.insts[i].id}
		want = append(want, k)
		if !slices.Contains(s.Kicked, k) {
			return reject(st, LostAck, "kicked %v; instance %d on %s is forgotten", s.Kicked, k.InstID, k.Platform)
		}
	}
	if !slices.Equal(want, s.Kicked) {
		return reject(st, WrongAnswer, "kicked %v, should have kicked %v", s.Kicked, want)
	}
	return nil
}

// usedBefore reports whether an event that is accounted for spoke of the instance.
func (c *checker) usedBefore(st *state, id uint32) bool {
	return slices.ContainsFunc(c.events[:st.told], func(r *Receipt) bool { return r.Event.InstID == id })
}

// loginEvent returns the next event if it tells of this login.
func (c *checker) loginEvent(st *state, s *Step, own int, victims []int) (*Event, *rejection) {
	platform := c.u.Devices[s.Dev].Platform
	kicked := make([]string, 0, len(victims))
	for _, i := range victims {
		kicked = append(kicked, platforms[c.u.Devices[st.insts[i].dev].Platform].kicked)
	}
	id := s.InstID
	if own >= 0 {
		id = st.insts[own].id
	}
	e := c.next(st)
	if e == nil || !c.inTime(e, s) || e.Action != "Login" || e.Reason != "Register" || e.Platform != platform.String() ||
		e.OptPlatform != platforms[platform].opt || id != 0 && e.InstID != id ||
		id == 0 && c.usedBefore(st, e.InstID) || !slices.Equal(e.Kicked, kicked) {
		return nil, c.unexpected(st, fmt.Sprintf("Login(Register) of instance %d on %s that kicked %v", id, platform, kicked))
	}
	return e, nil
}
