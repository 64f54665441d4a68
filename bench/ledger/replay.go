package ledger

import (
	"fmt"
	"slices"
)

// The replay walks through a user's steps with the set of states in which the
// user may be. What was acknowledged narrows the set; what was not answered, a
// lost link that nobody has told of yet, and a policy that was being changed
// widen it. The events, which are dense and in order, are the witness: each state
// has accounted for a number of them. An empty set is a violation, and so is an
// event that no state at the end has accounted for.

// maxStates bounds the set. A user with so many futures would be told of as
// undecided, never passed over.
const maxStates = 1024

// rejection is why a state does not go on.
type rejection struct {
	kind, text string
	told       int // how far the state had come: the farthest one explains best
}

func reject(st *state, kind, format string, args ...any) *rejection {
	return &rejection{kind, fmt.Sprintf(format, args...), st.told}
}

// frontier is a set of states.
type frontier struct {
	states []state
	seen   map[string]bool
}

func (f *frontier) add(st state) {
	key := fmt.Sprint(st.told, st.insts, st.registered, st.cutLo, st.cutHi, st.tickets)
	if f.seen == nil {
		f.seen = make(map[string]bool)
	}
	if !f.seen[key] {
		f.seen[key] = true
		f.states = append(f.states, st)
	}
}

func (c *checker) replay() {
	states := []state{{}}
	for i := range c.u.Steps {
		s := &c.u.Steps[i]
		var next frontier
		var why *rejection
		for _, st := range c.settled(states, s.Life) {
			out, no := c.step(st, s)
			if no != nil && (why == nil || no.told > why.told) {
				why = no
			}
			for _, st := range out {
				next.add(st)
			}
		}
		switch {
		case len(next.states) == 0 && c.u.Final == nil && why.told == len(c.events):
			return // the run broke off before the events that would tell had arrived
		case len(next.states) == 0:
			c.report(why.kind, "step %d, %s: %s", i, c.describe(s), why.text)
			return
		case len(next.states) > maxStates:
			c.report(Undecided, "step %d, %s: %d states", i, c.describe(s), len(next.states))
			return
		}
		states = next.states
	}
	c.final(c.settled(states, len(c.h.Lives)-1))
}

// settled adds the states that follow when events that tell of lost links have
// taken place, in the given life at the latest.
func (c *checker) settled(states []state, life int) []state {
	var f frontier
	for _, st := range states {
		st = st.clone()
		st.enter(life)
		f.add(st)
		for {
			i, no := c.disconnected(&st)
			if i < 0 || no != nil {
				break
			}
			st = st.clone()
			st.disconnect(c.u.Devices, i)
			st.told++
			f.add(st)
		}
	}
	return f.states
}

// next is the first event that the state has not accounted for, nil if there is none.
func (c *checker) next(st *state) *Event {
	if st.told >= len(c.events) {
		return nil
	}
	return &c.events[st.told].Event
}

// disconnected returns the instance that the next event says has lost its link,
// -1 if the event tells of something else, and why the event may not be.
func (c *checker) disconnected(st *state) (int, *rejection) {
	e := c.next(st)
	if e == nil || e.Action != "Disconnect" {
		return -1, nil
	}
	i := slices.IndexFunc(st.insts, func(in instance) bool { return in.id == e.InstID && in.online })
	switch {
	case e.Reason != "LinkClose":
		return -1, reject(st, PhantomEvent, "event %d is %s, and nobody was silent", st.told+1, e)
	case i < 0:
		return -1, reject(st, PhantomEvent, "event %d is %s, which is not Online", st.told+1, e)
	}
	in, life := &st.insts[i], c.h.lifeAt(e.TimeMS)
	switch {
	case in.lost && life == in.life:
		return i, nil
	case !in.over || life <= in.life:
		return i, reject(st, FalseDisconnect, "event %d is %s, whose client has its link", st.told+1, e)
	case e.TimeMS < c.h.Lives[life].FromMS+c.h.GraceMS:
		return i, reject(st, EarlyDisconnect, "event %d is %s, %d ms after the restart; the grace is %d ms",
			st.told+1, e, e.TimeMS-c.h.Lives[life].FromMS, c.h.GraceMS)
	}
	return i, nil
}

// step returns the states that follow, or why there is none.
func (c *checker) step(st state, s *Step) ([]state, *rejection) {
	switch s.Kind {
	case Login:
		return c.login(st, s)
	case Logout:
		return c.maybe(st, s, c.logout)
	case Kick, Delete:
		return c.maybe(st, s, c.kick)
	case Import:
		return c.maybe(st, s, func(st state, _ *Step) (state, *rejection) {
			st.registered = true
			return st, nil
		})
	case Drop:
		if i := st.find(s.Dev); i >= 0 && st.insts[i].live() {
			st = st.clone()
			st.insts[i].lost = true
		}
		return []state{st}, nil
	}
	if no := c.compare(&st, &s.Seen, true); no != nil {
		return nil, no
	}
	return []state{st}, nil
}

// maybe performs what was acknowledged, checks what was refused because there is
// no account, and goes both ways where there was no answer.
func (c *checker) maybe(st state, s *Step, do func(state, *Step) (state, *rejection)) ([]state, *rejection) {
	switch s.Outcome {
	case Refused:
		switch {
		case s.Code != codeNoAccount:
			return nil, reject(&st, WrongAnswer, "refused with %d", s.Code)
		case st.registered:
			return nil, reject(&st, LostAck, "refused with %d, and the account exists", s.Code)
		}
		return []state{st}, nil
	case Unknown:
		if after, no := do(st.clone(), s); no == nil {
			return []state{st, after}, nil
		}
		return []state{st}, nil
	}
	after, no := do(st.clone(), s)
	if no != nil {
		return nil, no
	}
	return []state{after}, nil
}

func (c *checker) logout(st state, s *Step) (state, *rejection) {
	i := st.find(s.Dev)
	if i < 0 || !st.insts[i].online {
		return st, reject(&st, LostAck, "the instance was not Online before")
	}
	if no := c.expect(&st, s, &st.insts[i], false); no != nil {
		return st, no
	}
	st.told++
	st.drop([]int{i})
	return st, nil
}

// kick ends all instances, an event each, earliest login first, and revokes.
func (c *checker) kick(st state, s *Step) (state, *rejection) {
	if !st.registered {
		return st, reject(&st, WrongAnswer, "acknowledged, and there is no account")
	}
	for _, i := range st.all() {
		if no := c.expect(&st, s, &st.insts[i], true); no != nil {
			return st, no
		}
		st.told++
	}
	st.insts = nil
	st.revoke(s)
	st.registered = s.Kind == Kick
	return st, nil
}

// expect checks that the next event is the step's Logout of the instance.
func (c *checker) expect(st *state, s *Step, in *instance, byREST bool) *rejection {
	e, row := c.next(st), platforms[c.u.Devices[in.dev].Platform]
	opt := row.opt
	if byREST {
		opt = "RESTAPI"
	}
	if e != nil && c.inTime(e, s) && e.Action == "Logout" && e.Reason == "Unregister" && e.InstID == in.id && e.OptPlatform == opt &&
		e.Platform == c.u.Devices[in.dev].Platform.String() {
		return nil
	}
	return c.unexpected(st, fmt.Sprintf("Logout(Unregister) of instance %d by %s", in.id, opt))
}

// inTime reports whether the event can be the step's. What a process did not
// answer before its end was not done by the next one, and nothing was done after
// it was answered. A server's clock may be coarse, so within its life an event
// may look older than it is.
func (c *checker) inTime(e *Event, s *Step) bool {
	return c.h.lifeAt(e.TimeMS) == s.Life && e.TimeMS <= s.ToMS
}

// unexpected says why the next event is not the one that was wanted.
func (c *checker) unexpected(st *state, want string) *rejection {
	e := c.next(st)
	if e == nil {
		return reject(st, LostAck, "no event tells of it: wanted %s, and there are only %d events", want, len(c.events))
	}
	if _, no := c.disconnected(st); no != nil {
		return no
	}
	return reject(st, LostAck, "no event tells of it: wanted %s, event %d is %s", want, st.told+1, e)
}

// describe is the step in a few words.
func (c *checker) describe(s *Step) string {
	text := fmt.Sprintf("%s in life %d at %d", s.Kind, s.Life, s.FromMS)
	if s.Kind == Login || s.Kind == Logout || s.Kind == Drop {
		d := &c.u.Devices[s.Dev]
		text = fmt.Sprintf("%s of %s %q in life %d at %d", s.Kind, d.Platform, d.ID, s.Life, s.FromMS)
	}
	if s.Kind == Login && s.Resume {
		text = "resuming " + text
	}
	switch s.Outcome {
	case Unknown:
		return text + ", without an answer"
	case Refused:
		return fmt.Sprintf("%s, refused with %d", text, s.Code)
	}
	return text
}
