package engine

import (
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// followCall is a link's wish to follow its user on its way through the Directory.
type followCall struct {
	op   directory.FollowOp
	item item
	ask  subscribing
}

// follow has the link told of the changes of its user.
func (l *Loop) follow(s *Session, ask subscribing) *followCall {
	c := &followCall{ask: ask}
	c.item.follow = c
	c.op = directory.FollowOp{
		Key: presence.Key{App: s.app, UserID: s.user}, Node: l.core.o.Node, Link: s.id,
		Done: func(*directory.FollowOp) { l.post(&c.item) },
	}
	l.core.o.Directory.Follow(&c.op)
	return c
}

// unfollow ends that.
func (l *Loop) unfollow(s *Session) {
	l.core.o.Directory.Follow(&directory.FollowOp{
		Key: presence.Key{App: s.app, UserID: s.user}, Node: l.core.o.Node, Link: s.id, End: true,
	})
}

// Changed implements directory.Watcher: each change goes to the loop of its link,
// behind the state that it continues.
func (c *Core) Changed(changes []directory.Change) {
	for i := range changes {
		ch := &changes[i]
		if int(ch.Link.Loop()) >= len(c.loops) {
			c.m.changesStale.Inc()
			continue
		}
		c.loops[ch.Link.Loop()].postChange(ch)
	}
}

// postChange hands the loop a change. Where too many wait this one is lost, and the
// loop must end the links that may miss it: a link that lives has missed nothing.
func (l *Loop) postChange(c *directory.Change) {
	if l.changes.Add(1) <= int64(l.core.o.MaxPendingChanges) {
		l.post(&item{change: c})
		return
	}
	l.changes.Add(-1)
	l.core.m.changesDropped.Inc()
	if l.changesLost.CompareAndSwap(false, true) {
		l.post(&item{changesLost: true})
	}
}

// change tells a link what changed.
func (l *Loop) change(c *directory.Change) {
	l.changes.Add(-1)
	s := l.slab.get(c.Link)
	if s == nil || s.state != stateOnline || !l.publishChange(s, c) {
		l.core.m.changesStale.Inc()
		return
	}
	l.core.m.changesTold.Inc()
}
