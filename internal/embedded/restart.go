package embedded

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/store"
	"github.com/rollcall-im/rollcall/shard"
)

// A run of the node ends without a word: a crash has no time for one, and a
// clean stop says as little, so that both leave the same. The links of a run are
// gone with it. Its instances stay Online through a grace in which their devices
// may come back; then those that did not are disconnected.
//
// Such an instance is an orphan: Online, with no link id, so that no call about
// a link of this run can mean it. Its PushUntilMS is when its link was last
// known to be alive, which its retention counts from.

const (
	// aliveEvery is how often a run writes that it is alive.
	aliveEvery = 5 * time.Second
	// settleRetry is how long a settlement waits when the store takes no writes.
	settleRetry = time.Second
)

// recover loads what the store holds. Nobody uses the directory yet.
func (d *Directory) recover(j *durable) error {
	lower, upper := store.Bounds(store.PrefixApps)
	var apps []*directory.App
	var bad error
	err := j.store.Scan(lower, upper, func(k, v []byte) bool {
		app, err := readApp(k, v)
		if err != nil {
			bad = err
			return false
		}
		apps = append(apps, app)
		return true
	})
	if err := firstOf(bad, err); err != nil {
		return fmt.Errorf("cannot load the apps: %w", err)
	}
	d.apps.publish(apps...) // at once: each publication copies all
	var u presence.User
	lower, upper = store.Bounds(store.PrefixUsers)
	err = j.store.Scan(lower, upper, func(k, v []byte) bool {
		bad = d.recoverUser(j, k, v, &u)
		return bad == nil
	})
	if err := firstOf(bad, err); err != nil {
		return fmt.Errorf("cannot load the users: %w", err)
	}
	for i := range d.lanes {
		d.lanes[i].publishDue()
	}
	return nil
}

// recoverUser puts one user into the table, the tally and the expiry index.
func (d *Directory) recoverUser(j *durable, key, value []byte, u *presence.User) error {
	k, err := parseUserKey(key)
	if err != nil {
		return err
	}
	epoch, err := readRecord(value, u)
	if err != nil {
		return fmt.Errorf("user %q of SDKAppID %d: %w", k.UserID, k.App, err)
	}
	for i := range u.Instances {
		if in := &u.Instances[i]; in.Status == presence.Online {
			if in.Link.ID != 0 { // else it was an orphan in that run, and its mark stays
				in.PushUntilMS, in.Link.ID = j.lost(epoch, in), 0
			}
		}
	}
	d.table.Put(k, u)
	l := d.laneOf(k)
	l.tallyTotal.add(tallyOf(u))
	l.expiry.change(d.table.TagOf(k), false, earliestDue(u))
	return nil
}

// Serve says that the node serves: the grace of the links of earlier runs
// begins, and signs of life are written. It does nothing without a store.
func (d *Directory) Serve() {
	if d.durable == nil {
		return
	}
	d.durable.beat()
	settle := func() { d.background(d.settleRuns) }
	if d.opts.RestartGrace <= 0 || d.Restarting() == 0 {
		settle()
		return
	}
	d.durable.setGrace(d.opts.Clock.AfterFunc(d.opts.RestartGrace, settle))
}

// pause waits; false if the directory is being closed.
func (d *Directory) pause(t time.Duration) bool {
	over := make(chan struct{})
	timer := d.opts.Clock.AfterFunc(t, func() { close(over) })
	defer timer.Stop()
	select {
	case <-over:
		return true
	case <-d.closing:
		return false
	}
}

// settleRuns disconnects the orphans at the end of the grace, in bounded steps.
func (d *Directory) settleRuns() {
	began, before := d.opts.Clock.Now(), d.Restarting()
	for d.Restarting() > 0 {
		failed, err := d.settleOrphans()
		if err != nil || failed > 0 && !d.pause(settleRetry) {
			return
		}
	}
	d.durable.store.Commit(d.durable.forgetRuns, func(error) {}) // the next run does it otherwise
	if before > 0 {
		d.opts.Logger.Info("the devices that did not come back are disconnected", "instances", before, "took", d.opts.Clock.Now().Sub(began).String())
	}
}

// settleOrphans looks at all users once and returns how many could not be settled.
func (d *Directory) settleOrphans() (failed uint64, err error) {
	s := &settlement{d: d}
	var c shard.Cursor
	for done := false; !done; runtime.Gosched() {
		var keys []presence.Key
		c, done = d.table.Scan(c, sweepStep, func(k presence.Key, u *presence.User) {
			if u.Orphans() > 0 {
				keys = append(keys, k)
			}
		})
		if err := s.step(keys); err != nil {
			return 0, err
		}
	}
	return s.failed.Load(), nil
}

// settlement is one pass over the orphans.
type settlement struct {
	d      *Directory
	failed atomic.Uint64
}

func (s *settlement) step(keys []presence.Key) error {
	w := sweep{d: s.d}
	return w.await(len(keys), func(through func()) {
		for _, k := range keys {
			a := &settling{s, through}
			if !s.d.submit(newDecision(kindRestart, k, a, s.d.nowMS()), true) {
				a.fail(s.d)
			}
		}
	})
}

// settling is the action of a settlement on one user.
type settling struct {
	s       *settlement
	through func()
}

func (a *settling) decide(dc *decision, app *tenant, out []presence.Transition) (bool, []presence.Transition) {
	n, out := dc.user.Settle(dc.key, app.rules(), dc.nowMS, out)
	return n > 0, out
}

func (a *settling) tell() { a.through() }

func (a *settling) fail(*Directory) {
	a.s.failed.Add(1)
	a.through()
}

// Restarting is the number of instances of earlier runs that the grace holds.
func (d *Directory) Restarting() int64 { return d.tallied(instancesOrphan) }
