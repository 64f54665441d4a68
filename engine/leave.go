package engine

import (
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// leaveCall is the end of a link on its way through the Directory. It does not
// need the session, which may long serve another link.
type leaveCall struct {
	op   directory.LeaveOp
	item item
	loop *Loop
	next *leaveCall // while it waits
}

// leaves sees to it that a link that ended does not stay Online because the
// Directory was away: such a Leave is issued again until it is taken. While the
// Directory is away a batch asks now and then; the others wait until one is taken.
type leaves struct {
	first, last *leaveCall // waiting, the longest first
	waiting     int
	retryMS     int64 // when the next batch asks, MonoMS
	idle        []*leaveCall
}

// leaveRetryMS is the time between two batches while none is taken.
const leaveRetryMS = 500

// leave ends what the session's link stands for.
func (l *Loop) leave(s *Session, r presence.LeaveReason) {
	c := l.leaves.take(l)
	c.op.Key = presence.Key{App: s.app, UserID: s.user}
	c.op.Platform = s.platform // the link stands for the device id, which the session has not kept
	c.op.Node, c.op.Link = l.core.o.Node, s.id
	c.op.Reason, c.op.NowMS = r, l.now.WallMS
	l.core.o.Directory.Leave(&c.op)
}

func (v *leaves) take(l *Loop) *leaveCall {
	if n := len(v.idle); n > 0 {
		c := v.idle[n-1]
		v.idle = v.idle[:n-1]
		return c
	}
	c := &leaveCall{loop: l}
	c.item.leave = c
	c.op.Done = func(*directory.LeaveOp) { c.loop.post(&c.item) }
	return c
}

// done is the Directory's answer to a Leave.
func (v *leaves) done(l *Loop, c *leaveCall) {
	if c.op.Code == directory.CodeUnavailable {
		v.wait(l, c)
		return
	}
	v.retryMS = l.now.MonoMS // it is there: the others need not wait
	if s := l.slab.get(c.op.Link); s != nil && s.state == stateLeaving {
		fx := l.effects()
		s.left(fx)
		l.apply(s, fx)
	}
	v.recycle(c)
}

// wait keeps the call for another try.
func (v *leaves) wait(l *Loop, c *leaveCall) {
	if v.waiting >= l.core.o.MaxPendingLeaves {
		l.core.m.leavesDropped.Inc()
		v.recycle(c)
		return
	}
	v.retryMS = l.now.MonoMS + leaveRetryMS
	v.waiting++
	if v.last == nil {
		v.first = c
	} else {
		v.last.next = c
	}
	v.last = c
}

// retry issues a batch again, if it is time.
func (v *leaves) retry(l *Loop) {
	if !v.due(l.now) {
		return
	}
	v.retryMS = l.now.MonoMS + leaveRetryMS // unless one is taken
	for range min(l.core.o.Batch, v.waiting) {
		c := v.first
		v.first, c.next = c.next, nil
		if v.first == nil {
			v.last = nil
		}
		v.waiting--
		l.core.m.leavesRetried.Inc()
		c.op.Code, c.op.Changed = 0, false
		l.core.o.Directory.Leave(&c.op)
	}
}

// due reports whether a batch may ask.
func (v *leaves) due(now Instant) bool { return v.first != nil && v.retryMS <= now.MonoMS }

func (v *leaves) recycle(c *leaveCall) {
	if len(v.idle) >= maxIdleCalls {
		return
	}
	done := c.op.Done
	c.op = directory.LeaveOp{Done: done}
	v.idle = append(v.idle, c)
}
