package presence

import "slices"

// LeaveReason says how a link's instance ended.
type LeaveReason uint8

// The reasons.
const (
	LeaveLogout     LeaveReason = 1 + iota // the client logged out: none
	LeaveLinkClosed                        // FIN, RST, socket error, or closed by us for a fault of the client: PushOnline or none
	LeaveTimeOut                           // silent for too long: PushOnline or none
)

// Leave is the end of a link, or of what it stood for. The link names the
// instance; a DeviceID that is not "" must be the instance's too.
type Leave struct {
	Platform Platform
	DeviceID string
	Node     uint32
	Link     LinkID
	Reason   LeaveReason
	NowMS    int64
}

// Leave ends the instance whose link is the given one, or lets it live on as
// PushOnline if its link was lost and the platform has that. A link that is not
// (or no longer) the instance's changes nothing.
func (u *User) Leave(k Key, s *Settings, l *Leave, out []Transition) (changed bool, _ []Transition) {
	i := slices.IndexFunc(u.Instances, func(in Instance) bool { return in.isOn(l.Node, l.Link) })
	if i < 0 || !u.Instances[i].Device.isOf(l) {
		return false, out
	}
	from := len(out)
	t := Transition{Key: k, TimeMS: l.NowMS, Before: Online, Inst: u.Instances[i].ended()}
	t.Action, t.Reason = l.Reason.told(l.Platform)
	if l.Reason != LeaveLogout && s.keepsPush(l.Platform) {
		t.Inst.Status = PushOnline
		t.Inst.PushUntilMS = l.NowMS + s.PushRetentionMS
		u.Instances[i] = t.Inst
	} else {
		u.Instances = slices.Delete(u.Instances, i, i+1)
	}
	out = u.record(out, t, true)
	u.settle(out[from:])
	return true, out
}

// isOn reports whether the instance lives on this link now.
func (in *Instance) isOn(node uint32, link LinkID) bool {
	return in.Status == Online && link != 0 && in.Link.ID == link && in.Link.Node == node
}

// isOf reports whether the device is the one that the Leave names.
func (d *Device) isOf(l *Leave) bool {
	return d.Platform == l.Platform && (l.DeviceID == "" || d.ID == l.DeviceID)
}

// told is how the webhook words it when an instance on p ends so.
func (r LeaveReason) told(p Platform) (Action, Reason) {
	switch r {
	case LeaveLogout:
		return ActionLogout, ReasonUnregister
	case LeaveTimeOut:
		return ActionDisconnect, p.SilenceReason()
	}
	return ActionDisconnect, ReasonLinkClose
}

// keepsPush reports whether a lost link leaves the platform PushOnline. Without
// retention nothing does.
func (s *Settings) keepsPush(p Platform) bool {
	return s.PushRetentionMS > 0 && (p.row().push || p == Mac && s.MacPushOnline)
}

// Expire ends the PushOnline instances whose retention is over at nowMS, and
// says how many. They are events only if the app wants that.
func (u *User) Expire(k Key, s *Settings, nowMS int64, out []Transition) (n int, _ []Transition) {
	from := len(out)
	due := func(in Instance) bool { return in.Status == PushOnline && in.PushUntilMS <= nowMS }
	for _, in := range u.Instances {
		if due(in) {
			out = u.record(out, Transition{
				Key: k, TimeMS: nowMS, Action: ActionExpire, Reason: ReasonTimeOut,
				Inst: in.ended(), Before: PushOnline,
			}, s.ExpiryEvent)
		}
	}
	u.Instances = slices.DeleteFunc(u.Instances, due)
	u.settle(out[from:])
	return len(out) - from, out
}

// IsOrphan reports whether the instance is Online on a link that an earlier run
// of its node held.
func (in *Instance) IsOrphan() bool { return in.Status == Online && in.Link.ID == 0 }

// Orphans is the number of the user's orphans.
func (u *User) Orphans() (n int) {
	for i := range u.Instances {
		if u.Instances[i].IsOrphan() {
			n++
		}
	}
	return n
}

// Settle disconnects the orphans, whose devices did not come back, and says how
// many. Retention counts from the last sign of life of their links.
func (u *User) Settle(k Key, s *Settings, nowMS int64, out []Transition) (n int, _ []Transition) {
	from := len(out)
	kept := u.Instances[:0]
	for _, in := range u.Instances {
		if !in.IsOrphan() {
			kept = append(kept, in)
			continue
		}
		t := Transition{Key: k, TimeMS: nowMS, Action: ActionDisconnect, Reason: ReasonLinkClose, Before: Online, Inst: in.ended()}
		if s.keepsPush(in.Device.Platform) {
			t.Inst.Status = PushOnline
			t.Inst.PushUntilMS = in.PushUntilMS + s.PushRetentionMS
			kept = append(kept, t.Inst)
		}
		seen := max(u.LastSeenMS, in.PushUntilMS)
		out = u.record(out, t, true)
		u.LastSeenMS = seen // what was shown since is not what was seen
	}
	clear(u.Instances[len(kept):])
	u.Instances = kept
	u.settle(out[from:])
	return len(out) - from, out
}
