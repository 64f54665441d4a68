package embedded

import (
	"slices"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// follower is a link that is told of the changes of a user.
type follower struct {
	node uint32
	link presence.LinkID
}

// Follow implements directory.Directory. It is a decision that changes nothing: so
// it has its place among those that do, and what it answers is the state that the
// next one starts from.
func (d *Directory) Follow(op *directory.FollowOp) {
	a := &follow{op, d}
	if !d.submit(newDecision(kindFollow, op.Key, a, 0), op.End) {
		a.answer(directory.CodeUnavailable)
	}
}

// follow is the action of a FollowOp.
type follow struct {
	op *directory.FollowOp
	d  *Directory
}

func (a *follow) decide(dc *decision, app *tenant, out []presence.Transition) (bool, []presence.Transition) {
	switch {
	case a.op.End:
	case app == nil:
		a.op.Code = directory.CodeUnknownApp
	default:
		a.op.Code, a.op.User = presence.CodeOK, dc.user.Clone()
	}
	return false, out
}

// tell runs on the lane, as fail does: what is told behind it, the follower hears.
func (a *follow) tell() {
	if a.op.End || a.op.Code == presence.CodeOK {
		a.d.laneOf(a.op.Key).follow(a.op)
	}
	a.answer(a.op.Code)
}

func (a *follow) fail(d *Directory) {
	if a.op.End {
		a.op.Code = presence.CodeOK
		a.tell()
		return
	}
	a.answer(directory.CodeUnavailable)
}

func (a *follow) answer(code int) {
	if a.op.Code = code; code != presence.CodeOK {
		a.op.User = presence.User{}
	}
	if a.op.Done != nil {
		a.op.Done(a.op)
	}
}

// follow begins or ends what the op says. The owner of the lane calls it.
func (l *lane) follow(op *directory.FollowOp) {
	f := follower{op.Node, op.Link}
	all := l.followers[op.Key]
	i := slices.Index(all, f)
	switch {
	case op.End && i >= 0:
		l.d.following.Add(-1)
		if all = slices.Delete(all, i, i+1); len(all) == 0 {
			delete(l.followers, op.Key)
			return
		}
	case op.End || i >= 0:
		return
	default:
		l.d.following.Add(1)
		all = append(all, f)
	}
	if l.followers == nil {
		l.followers = make(map[presence.Key][]follower)
	}
	l.followers[op.Key] = all
}

// changed tells the followers of the user what a decision changed. Where nobody
// follows anybody it costs a look at a length that the lane has at hand.
func (l *lane) changed(dc *decision, b *Batch) {
	if len(l.followers) == 0 || dc.from == dc.to {
		return
	}
	followers := l.followers[dc.key]
	if len(followers) == 0 {
		return
	}
	user := dc.user.Clone()
	transitions := slices.Clone(b.Transitions[dc.from:dc.to])
	all := l.d.watchers.all()
	for _, f := range followers {
		if to := all[f.node]; to != nil {
			to.Changed([]directory.Change{{Link: f.link, Transitions: transitions, User: &user}})
			l.d.counters.changes.Inc()
		} else {
			l.d.counters.changesDropped.Inc()
		}
	}
}
