package embedded

import (
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Kick implements directory.Directory.
func (d *Directory) Kick(op *directory.KickOp) {
	a := (*kick)(op)
	if !d.submit(newDecision(kindKick, op.Key, a, op.NowMS), false) {
		a.fail(d)
	}
}

// kick is the action of a KickOp.
type kick directory.KickOp

func (a *kick) decide(dc *decision, _ *tenant, out []presence.Transition) (bool, []presence.Transition) {
	a.Code, a.Kicked = presence.CodeOK, nil
	dc.cause = directory.CauseREST
	switch {
	case !dc.user.Registered:
		a.Code = presence.CodeAccountNotExist
	case a.InstID == 0:
		a.Kicked, out = dc.user.KickAll(dc.key, a.NowMS, out)
	default:
		out = a.one(dc, out)
	}
	dc.kicked = a.Kicked
	return a.Code == presence.CodeOK, out
}

// one kicks the one instance that the op names.
func (a *kick) one(dc *decision, out []presence.Transition) []presence.Transition {
	in, found, out := dc.user.KickInstance(dc.key, a.InstID, a.NowMS, out)
	if !found {
		a.Code = presence.CodeInstanceNotExist
		return out
	}
	a.Kicked = []presence.Instance{in}
	return out
}

func (a *kick) tell() { a.Done((*directory.KickOp)(a)) }

func (a *kick) fail(*Directory) {
	a.Code, a.Kicked = directory.CodeUnavailable, nil
	a.tell()
}
