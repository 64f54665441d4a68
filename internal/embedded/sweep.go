package embedded

import (
	"fmt"
	"runtime"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/shard"
)

// sweepStep is the most users that a sweep or dry run looks at in one go.
const sweepStep = 256

// startSweep takes one of the places for sweeps and dry runs; endSweep gives it back.
func (d *Directory) startSweep() bool {
	select {
	case d.sweeps <- struct{}{}:
		return true
	default:
		d.counters.sweepsShed.Inc()
		return false
	}
}

func (d *Directory) endSweep() { <-d.sweeps }

// enforce sweeps the users who break the app's new policy, on a goroutine that
// holds a place for sweeps, and ends the op.
func (d *Directory) enforce(op *directory.UpdateAppOp) {
	s := &sweep{d: d, app: op.SDKAppID, nowMS: op.NowMS}
	end := func(err error) {
		d.endSweep()
		op.Kicked = s.kicked.Load()
		if err != nil {
			op.Err = errUnavailable(fmt.Sprintf("the policy of SDKAppID %d is in force, but not all users were swept: %s", op.SDKAppID, err))
		}
		op.Done(op)
	}
	if !d.background(func() { end(s.run()) }) {
		end(errClosed)
	}
}

// sweep enforces the policy of an app in bounded steps.
type sweep struct {
	d      *Directory
	app    uint32
	nowMS  int64
	kicked atomic.Uint64
	failed atomic.Uint64 // users whose decision could not be made durable
}

// run sweeps all users. Logins decided by the old policy may still be pending,
// and a scan does not see them: it begins when they are committed. Whatever is
// decided later is decided by the new policy.
func (s *sweep) run() error {
	if err := s.passLanes(); err != nil {
		return err
	}
	var c shard.Cursor
	for done := false; !done; {
		var offenders []string
		policy := &s.d.apps.tenant(s.app).settings.Policy
		c, done = s.d.table.Scan(c, sweepStep, func(k presence.Key, u *presence.User) {
			if k.App == s.app && breaks(policy, u) > 0 {
				offenders = append(offenders, k.UserID)
			}
		})
		if err := s.step(offenders); err != nil {
			return err
		}
		runtime.Gosched()
	}
	if n := s.failed.Load(); n > 0 {
		return fmt.Errorf("%d could not be made durable", n)
	}
	return nil
}

// breaks is the number of the user's instances that the policy would kick now.
func breaks(p *presence.Policy, u *presence.User) int {
	if len(u.Instances) < 2 {
		return 0
	}
	var room [16]int
	return len(p.Sweep(u.Instances, room[:0]))
}

// passLanes sends a barrier through each lane and waits until all are through.
func (s *sweep) passLanes() error {
	return s.await(len(s.d.lanes), func(through func()) {
		for i := range s.d.lanes {
			l := &s.d.lanes[i]
			l.pending.Add(1)
			l.push(newDecision(kindBarrier, presence.Key{}, barrier(through), s.nowMS))
			l.run()
		}
	})
}

// step enforces the policy on some users and waits until all are decided.
func (s *sweep) step(offenders []string) error {
	return s.await(len(offenders), func(through func()) {
		for _, id := range offenders {
			a := &enforcement{sweep: s, through: through}
			key := presence.Key{App: s.app, UserID: id}
			if !s.d.submit(newDecision(kindEnforce, key, a, s.nowMS), true) {
				a.fail(s.d)
			}
		}
	})
}

// await calls send, and waits until through was called n times or the directory closes.
func (s *sweep) await(n int, send func(through func())) error {
	if n == 0 {
		return nil
	}
	var left atomic.Int64
	left.Store(int64(n))
	all := make(chan struct{})
	send(func() {
		if left.Add(-1) == 0 {
			close(all)
		}
	})
	select {
	case <-all:
		return nil
	case <-s.d.closing:
		return errClosed
	}
}

// barrier is an action that changes nothing: it is told when all decisions that
// its lane took before are committed.
type barrier func()

func (barrier) decide(_ *decision, _ *tenant, out []presence.Transition) (bool, []presence.Transition) {
	return false, out
}

func (b barrier) tell() { b() }

func (b barrier) fail(*Directory) { b() }

// enforcement is the action of a sweep on one user.
type enforcement struct {
	sweep   *sweep
	through func()
	n       int
}

func (a *enforcement) decide(dc *decision, app *tenant, out []presence.Transition) (bool, []presence.Transition) {
	dc.cause = directory.CausePolicyChange
	dc.kicked, out = dc.user.Enforce(dc.key, app.rules(), dc.nowMS, out)
	a.n = len(dc.kicked)
	return a.n > 0, out
}

func (a *enforcement) tell() {
	a.sweep.kicked.Add(uint64(a.n))
	a.through()
}

func (a *enforcement) fail(*Directory) {
	a.sweep.failed.Add(1)
	a.through()
}

// DryRun implements directory.Directory. It runs on a goroutine of its own.
func (d *Directory) DryRun(op *directory.DryRunOp) {
	op.Code, op.Users, op.Instances = presence.CodeOK, 0, 0
	switch {
	case d.apps.tenant(op.App) == nil:
		op.Code = directory.CodeUnknownApp
	case op.Policy.Validate(d.opts.Ceilings) != nil:
		op.Code = directory.CodeBadRequest
	case !d.startSweep():
		op.Code = directory.CodeUnavailable
	case d.background(func() { d.dryRun(op) }):
		return
	default:
		d.endSweep()
		op.Code = directory.CodeUnavailable
	}
	op.Done(op)
}

func (d *Directory) dryRun(op *directory.DryRunOp) {
	var c shard.Cursor
	for done := false; !done && op.Code == presence.CodeOK; runtime.Gosched() {
		c, done = d.table.Scan(c, sweepStep, func(k presence.Key, u *presence.User) {
			if k.App != op.App {
				return
			}
			if n := breaks(&op.Policy, u); n > 0 {
				op.Users++
				op.Instances += uint64(n)
			}
		})
		if d.closed.Load() {
			op.Code = directory.CodeUnavailable
		}
	}
	d.endSweep()
	op.Done(op)
}
