package ledger

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// comeToRest waits until nothing is under way any more - every event delivered, every
// lost link told of - and reads every user back. What does not come to rest in
// time is read as it is: the checker will say what is wrong with it.
func (d *driver) comeToRest(ctx context.Context) {
	d.receiver.behave()
	deadline := time.Now().Add(d.o.Grace + d.o.SettleTimeout)
	p := d.processed.Load()
	const readers = 8
	work := make(chan *agent)
	var all sync.WaitGroup
	for range readers {
		all.Go(func() {
			for a := range work {
				a.settle(ctx, p, deadline)
			}
		})
	}
	for i, a := range d.agents {
		work <- a
		d.o.Progress(fmt.Sprintf("at rest: %d of %d users read back", i, len(d.agents)))
	}
	close(work)
	all.Wait()
}

// settle waits until the user is at rest, checks the links that are up, and reads
// the user for the last time.
func (a *agent) settle(ctx context.Context, p *process, deadline time.Time) {
	if a.failed {
		return
	}
	a.restarted(p)
	a.beat(p)
	for !a.atRest(ctx, p) && time.Now().Before(deadline) && ctx.Err() == nil {
		time.Sleep(4 * pollEvery)
	}
	r, err1 := a.d.read(ctx, p, a.t, a.u.ID)
	c, err2 := a.d.consoleUser(ctx, p, a.t.ID, a.u.ID)
	if err1 != nil || err2 != nil {
		a.fail(Unanswered, "user %d/%s: cannot be read at the end: %v, %v", a.t.ID, a.u.ID, err1, err2)
		return
	}
	a.u.Final = &Final{Rest: r, Console: c}
}

// atRest reports whether all events have arrived and nobody is Online without a
// link. Of an account that was deleted the console says nothing: it is at rest
// when the ledger has nothing to say against it.
func (a *agent) atRest(ctx context.Context, p *process) bool {
	c, err := a.d.consoleUser(ctx, p, a.t.ID, a.u.ID)
	if err != nil {
		return false
	}
	for _, in := range c.Insts {
		if in.Status == statusOnline && !a.holds(in.InstID) {
			return false
		}
	}
	a.d.mu.Lock()
	defer a.d.mu.Unlock()
	if !c.Known {
		u := *a.u
		u.Final = &Final{Console: c}
		return len(Check(&History{GraceMS: a.d.h.GraceMS, Lives: a.d.h.Lives, Users: []*User{&u}}).Violations) == 0
	}
	var last uint64
	for i := range a.u.Receipts {
		if r := &a.u.Receipts[i]; r.Accepted {
			last = max(last, r.Seq)
		}
	}
	return last == c.EventSeq
}

func (a *agent) holds(id uint32) bool {
	for i := range a.dev {
		if l := a.dev[i].link; l != nil && l.id == id {
			return true
		}
	}
	return false
}

// beat sends a heartbeat on each link that is up: nobody has ended it.
func (a *agent) beat(p *process) {
	for i := range a.dev {
		l := a.dev[i].link
		if l == nil {
			continue
		}
		f, err := l.ask(codec.AppendEmpty(nil, codec.TypeHeartbeat), a.d.o.AnswerTimeout)
		if (err != nil || f.Type != codec.TypeHeartbeatOK) && !p.expected.Load() {
			a.d.found(FalseOffline, "user %d/%s: the link of instance %d has ended, and nobody has ended it: %v %v", a.t.ID, a.u.ID, l.id, f.Type, err)
		}
	}
}
