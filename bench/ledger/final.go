package ledger

// final holds the states that are left against what REST and console show when
// nothing is under way any more.
func (c *checker) final(states []state) {
	if c.u.Final == nil {
		return
	}
	var why *rejection
	for i := range states {
		no := c.ended(&states[i])
		if no == nil {
			return
		}
		if why == nil || no.told > why.told {
			why = no
		}
	}
	c.report(why.kind, "at the end: %s", why.text)
}

// ended says why the state cannot be the one at the end.
func (c *checker) ended(st *state) *rejection {
	if e := c.next(st); e != nil {
		if _, no := c.disconnected(st); no != nil {
			return no
		}
		return reject(st, PhantomEvent, "nothing has caused event %d, %s", st.told+1, e)
	}
	for i := range st.insts {
		if in := &st.insts[i]; in.online && !in.live() {
			return c.ghost(st, in)
		}
	}
	if no := c.compare(st, &c.u.Final.Rest, true); no != nil {
		return no
	}
	f := &c.u.Final.Console
	switch {
	case !f.Known && !st.registered: // the console does not show an account that was deleted
		return nil
	case !f.Known:
		return reject(st, LostAck, "the console does not know the user")
	case f.EventSeq < uint64(len(c.events)):
		return reject(st, SeqBackwards, "the console says %d events, and %d were delivered", f.EventSeq, len(c.events))
	case f.CutoffS < st.cutLo:
		return reject(st, LostCutoff, "the console says the cut-off is second %d; a kick was acknowledged in second %d or later", f.CutoffS, st.cutLo)
	case f.CutoffS > st.cutHi:
		return reject(st, WrongAnswer, "the console says the cut-off is second %d; the last kick was in second %d or before", f.CutoffS, st.cutHi)
	case f.Registered != st.registered:
		return reject(st, LostAck, "the console says registered=%t, should be %t", f.Registered, st.registered)
	}
	return c.compare(st, &Reading{Known: st.registered, Insts: f.Insts, Status: c.status(st)}, false)
}

// ghost words an instance whose link is gone and of which no event told so.
func (c *checker) ghost(st *state, in *instance) *rejection {
	for _, seen := range c.u.Final.Rest.Insts {
		if seen.InstID == in.id && seen.Status == statusOnline {
			return reject(st, GhostOnline, "instance %d is Online, its link of life %d is gone", in.id, in.life)
		}
	}
	return reject(st, MissingEvent, "instance %d has lost its link of life %d, and no Disconnect told of it", in.id, in.life)
}

func (c *checker) status(st *state) string {
	status := statusOffline
	for i := range st.insts {
		if st.insts[i].online {
			return statusOnline
		}
		status = statusPushOnline
	}
	return status
}

// compare holds a state against a reading, of a query or of the console.
func (c *checker) compare(st *state, seen *Reading, byQuery bool) *rejection {
	if seen.Known != st.registered {
		return reject(st, LostAck, "the account is there: %t, should be %t", seen.Known, st.registered)
	}
	byID := make(map[uint32]Seen, len(seen.Insts))
	for _, in := range seen.Insts {
		byID[in.InstID] = in
	}
	for i := range st.insts {
		if no := c.compareInstance(st, &st.insts[i], byID, byQuery); no != nil {
			return no
		}
		delete(byID, st.insts[i].id)
	}
	for id, in := range byID {
		if in.Status == statusOnline {
			return reject(st, GhostOnline, "instance %d is Online on %s, and should be gone", id, in.Platform)
		}
		return reject(st, GhostInstance, "instance %d is %s on %s, and should be gone", id, in.Status, in.Platform)
	}
	if want := c.status(st); seen.Status != want && seen.Known {
		return reject(st, WrongAnswer, "the user is %s, should be %s", seen.Status, want)
	}
	return nil
}

func (c *checker) compareInstance(st *state, in *instance, byID map[uint32]Seen, byQuery bool) *rejection {
	d := &c.u.Devices[in.dev]
	seen, there := byID[in.id]
	platform := d.Platform.String()
	if byQuery {
		platform = platforms[d.Platform].query
	}
	switch {
	case !there && in.live():
		return reject(st, FalseOffline, "instance %d on %s is not there, and its client has its link", in.id, d.Platform)
	case !there:
		return reject(st, LostAck, "instance %d on %s is not there", in.id, d.Platform)
	case in.live() && seen.Status != statusOnline:
		return reject(st, FalseOffline, "instance %d on %s is %s, and its client has its link", in.id, d.Platform, seen.Status)
	case in.online && seen.Status != statusOnline:
		return reject(st, MissingEvent, "instance %d on %s is %s, and no event told of that", in.id, d.Platform, seen.Status)
	case !in.online && seen.Status != statusPushOnline:
		return reject(st, GhostOnline, "instance %d on %s is %s, and its client is gone", in.id, d.Platform, seen.Status)
	case seen.Platform != platform || !byQuery && seen.DeviceID != d.ID:
		return reject(st, WrongAnswer, "instance %d is on %s %q, should be on %s %q", in.id, seen.Platform, seen.DeviceID, platform, d.ID)
	}
	return nil
}
