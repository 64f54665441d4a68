// Package enginetest runs a whole node without sockets: the engine's core on the
// embedded directory, under a virtual clock, with clients that live in memory.
// Everything happens on the caller's goroutine and in a fixed order, so that
// what a test sees is the same each time. All that can be seen from outside
// (frames, FINs, closes, webhook events) is told in the order in which it happened.
package enginetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/rollcall-im/rollcall/engine"
	"github.com/rollcall-im/rollcall/internal/admission"
	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Options configure a Node. The zero value of each field is its default.
type Options struct {
	Loops int       // event loops; links take turns. Default 2
	Start time.Time // of the clock. Default 2026-01-01 00:00:00 UTC
	Seed  uint64    // of the engine's random choices. Default 1
	// Sink hears of each committed transition, before what comes of it is told.
	Sink directory.TransitionSink
}

// The app that a node starts with.
const (
	SDKAppID = 1400000000
	Secret   = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
	nodeID   = 1
)

// Node is one node and its clients. Not safe for concurrent use.
type Node struct {
	Clock     *clock.Manual
	Directory *embedded.Directory
	Core      *engine.Core
	Journal   *Journal

	drivers []*driver
	links   []*Link
	unwatch func()
	log     log
	drained bool
}

// stepMS is how often a loop runs without being woken.
const stepMS = 200

// New starts a node with one app.
func New(o Options) (*Node, error) {
	if o.Loops == 0 {
		o.Loops = 2
	}
	if o.Start.IsZero() {
		o.Start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	n := &Node{Clock: clock.NewManual(o.Start), Journal: &Journal{}, log: log{next: o.Sink}}
	var err error
	n.Directory, err = embedded.New(embedded.Options{Clock: n.Clock, Sink: &n.log, Journal: n.Journal, Shards: 1})
	if err != nil {
		return nil, err
	}
	n.Core, err = engine.NewCore(engine.Options{
		Loops: o.Loops, MaxLinks: 1000, Node: nodeID, Directory: n.Directory, Clock: n.Clock, Seed: o.Seed,
		// Limits that nobody here runs into: whatever is counted must come back.
		PerIP: admission.Limits{Rate: 1e6, Burst: 1e6, Links: 1000, Pending: 1000}, MaxUnauthenticated: 900,
	})
	if err != nil {
		return nil, err
	}
	for i := range o.Loops {
		d := &driver{node: n, loop: n.Core.Loop(i)}
		n.drivers = append(n.drivers, d)
		d.loop.Attach(d)
	}
	n.unwatch = n.Directory.Watch(nodeID, n.Core)
	return n, n.update(&directory.UpdateAppOp{SDKAppID: SDKAppID, Create: true, Mutate: func(a *directory.App) error {
		a.Keys = []directory.Key{{ID: 1, Secret: Secret}}
		return nil
	}})
}

// Close ends the node and reports what was found inconsistent.
func (n *Node) Close() error {
	n.Release(nil)
	err := n.Check()
	for _, l := range slices.Clone(n.links) {
		l.Lose(nil)
	}
	n.unwatch()
	return errors.Join(err, n.Core.Check(), n.Directory.Close(), n.Directory.Check())
}

// Release answers the commits that Journal.Hold held back: nil, or the error of
// a failed disk.
func (n *Node) Release(err error) {
	n.Journal.release(err)
	n.settle()
}

// UpdateApp changes the app, with enforce also sweeping the users. It returns
// how many instances that kicked.
func (n *Node) UpdateApp(enforce bool, mutate func(*directory.App)) (kicked uint64, err error) {
	op := &directory.UpdateAppOp{SDKAppID: SDKAppID, Enforce: enforce, Mutate: func(a *directory.App) error {
		mutate(a)
		return nil
	}}
	err = n.update(op)
	return op.Kicked, err
}

func (n *Node) update(op *directory.UpdateAppOp) error {
	op.NowMS = n.nowMS()
	done := make(chan struct{})
	op.Done = func(*directory.UpdateAppOp) { close(done) }
	n.Directory.UpdateApp(op)
	<-done // a sweep runs on a goroutine of its own
	n.settle()
	return op.Err
}

func (n *Node) nowMS() int64 { return n.Clock.Now().UnixMilli() }

// Advance lets time pass: timers of the directory fire at their times, loops run
// at least every 250 ms as long as there are links, clients beat as they were told.
func (n *Node) Advance(d time.Duration) {
	end := n.Clock.Now().Add(d)
	for n.Clock.Now().Before(end) {
		step := end.Sub(n.Clock.Now())
		if n.Core.Links() > 0 {
			step = min(step, stepMS*time.Millisecond)
		}
		n.Clock.Advance(step)
		for _, l := range slices.Clone(n.links) {
			l.beat()
		}
		for _, d := range n.drivers {
			d.Wake()
		}
		n.settle()
		for _, l := range slices.Clone(n.links) {
			l.arrive()
		}
	}
}

// settle runs everything that can happen without time passing.
func (n *Node) settle() {
	for busy := true; busy; {
		busy = false
		for _, d := range n.drivers {
			if d.woken.Swap(false) {
				busy = true
				if d.loop.Run(n.Core.Now()) {
					d.Wake()
				}
			}
		}
		for _, l := range n.links {
			busy = l.react() || busy
		}
		n.links = slices.DeleteFunc(n.links, func(l *Link) bool { return l.gone })
	}
}

// Drain stops the node as SIGTERM does.
func (n *Node) Drain() {
	n.drained = true
	n.Core.Drain()
	n.settle()
}

// Told returns what could be seen since the last call, one line each.
func (n *Node) Told() string { return n.log.take() }

// Check proves engine and directory consistent, and that both agree on who is
// Online by which link. It holds at rest: the journal must hold nothing back, nor
// have failed within the last second, after which the engine tries again.
func (n *Node) Check() error {
	if err := errors.Join(n.Core.Check(), n.Directory.Check()); err != nil {
		return err
	}
	online := n.onlineLinks()
	for _, l := range n.links {
		who, is := online[l.session.ID()]
		delete(online, l.session.ID())
		switch state := l.session.State(); {
		case state == "online" && !is:
			return fmt.Errorf("link %d is online, the directory knows nothing of it", l.number)
		case is && state != "online" && !n.drained:
			return fmt.Errorf("link %d is %s, in the directory it stands for %q", l.number, state, who)
		}
	}
	// A stop is no disconnect: what was Online stays so for the next start.
	if len(online) > 0 && !n.drained {
		return fmt.Errorf("instances Online without a link: %v", online)
	}
	return nil
}

// onlineLinks asks the directory which links stand for an Online instance.
func (n *Node) onlineLinks() map[presence.LinkID]string {
	online := make(map[presence.LinkID]string)
	for after, more := "", true; more; more = after != "" {
		op := &directory.UsersOp{App: SDKAppID, Status: presence.Online, Limit: 100, After: after, Done: func(*directory.UsersOp) {}}
		n.Directory.Users(op)
		after = op.Next
		for _, u := range op.Users {
			for _, in := range u.User.Instances {
				if in.Status == presence.Online {
					online[in.Link.ID] = fmt.Sprintf("%s #%d", u.UserID, in.InstID)
				}
			}
		}
	}
	return online
}
