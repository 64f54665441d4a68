package embedded

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestNothingIsToldBeforeTheCommit(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	b.login("alice", "d1", presence.Android)
	b.mustSay()
	b.mustBe("alice", "70107")
	if n := b.tallied(usersOnline); n != 0 {
		t.Fatalf("%d users are counted Online", n)
	}
	j.settle(t, nil)
	b.mustSay("alice Login 1", "login 1: 0")
	b.mustBe("alice", "Online")
}

// Later decisions see pending ones; each is told once it is durable, in order:
// the answer of a link's login before the notice that takes the link away.
func TestDecisionsSeePendingStates(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	first := b.login("alice", "d1", presence.Android)
	second := b.login("alice", "d2", presence.Android)
	b.leave(first, directory.LeaveLinkClosed)
	b.kick("alice")
	b.mustSay()
	if n := j.len(); n != 1 {
		t.Fatalf("%d batches in flight, want 1", n)
	}
	j.settle(t, nil)
	b.mustSay("alice Login 1", "login 1: 0")
	b.mustBe("alice", "Online")
	j.settle(t, nil)
	b.mustSay("alice Kicked 2", "alice Login 3", "alice Logout 4",
		"notice 1", "login 2: 0", "leave 1: 0 false", "notice 2", "kick: 0")
	b.mustBe("alice", "Offline")
	if k := second.Decision.Kicked; len(k) != 1 || k[0].Device.ID != "d1" {
		t.Fatalf("kicked %+v", k)
	}
	j.mustHaveSeen(t, "alice@1", "alice@3", "alice@4")
}

// An answer that rests on a pending state is told after that is durable.
func TestRefusalWaitsForWhatItRestsOn(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	b.login("alice", "d1", presence.Android)
	resume := b.loginOp("alice", "d2", presence.Android)
	resume.Login.Resume = true
	b.Login(resume)
	b.mustSay()
	j.settle(t, nil)
	b.mustSay("alice Login 1", "login 1: 0", "login 2: 6208")
	j.mustHaveSeen(t, "alice@1")

	// If it never becomes durable, the answer is not given.
	b.kick("alice")
	resume = b.loginOp("alice", "d2", presence.Android)
	resume.Login.Resume, resume.Login.Cred = true, presence.Credential{SigTimeS: 1}
	b.Login(resume)
	j.settle(t, errDisk)
	b.mustSay("kick: 70169", "login 3: 70169")
	if resume.RetryAfterMS != 2000 || resume.Decision.Inst.InstID != 0 {
		t.Fatalf("retry after %d ms, decision %+v", resume.RetryAfterMS, resume.Decision)
	}
}

// What changes nothing needs no journal.
func TestRefusalWithoutPendingIsToldAtOnce(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	b.kick("nobody")
	b.mustSay("kick: 70107")
	j.mustHaveSeen(t)
}

// A failed commit takes along what was built on it and nothing else; the
// journal sees none of what was built on it.
func TestFailedCommitDropsThePendingChain(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	b.login("alice", "d1", presence.Android)
	second := b.login("alice", "d2", presence.Android)
	b.login("bob", "d1", presence.Android)
	stale := b.leave(second, directory.LeaveTimeOut)
	b.kick("carol")
	j.settle(t, errDisk)
	b.mustSay("login 1: 70169") // the others stand behind bob's commit
	j.settle(t, nil)
	b.mustSay("bob Login 1", "login 2: 70169", "login 3: 0", "leave 2: 70169 false", "kick: 70107")
	j.mustHaveSeen(t, "alice@1", "bob@1")
	b.mustBe("alice", "70107")
	b.mustBe("bob", "Online")
	if second.Code != directory.CodeUnavailable || second.RetryAfterMS == 0 || len(second.Decision.Kicked) != 0 || stale.Changed {
		t.Fatalf("second login: %+v", second.Decision)
	}
	if n := b.counter("rollcall_directory_commit_failures_total"); n != 1 {
		t.Fatalf("%d commit failures counted", n)
	}
	if n := b.counter(`rollcall_decisions_total{kind="login",result="failed"}`); n != 2 {
		t.Fatalf("%d failed logins counted", n)
	}
	// The chain starts anew.
	b.login("alice", "d3", presence.Android)
	j.settle(t, nil)
	b.mustSay("alice Login 1", "login 4: 0")
}

// What follows a failure in the lane is built on the committed state again.
func TestDecisionsAfterAFailureAreGood(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	op := b.login("alice", "d1", presence.Android)
	j.settle(t, nil)
	b.said()
	b.leave(op, directory.LeaveLogout)
	j.settle(t, errDisk)
	b.mustSay("leave 1: 70169 false")
	b.mustBe("alice", "Online")
	b.leave(op, directory.LeaveLogout)
	j.settle(t, nil)
	b.mustSay("alice Logout 2", "leave 1: 0 true")
	b.mustBe("alice", "Offline")
}

func TestFailedExpiryIsTriedAgain(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	op := b.login("alice", "d1", presence.Android)
	j.settle(t, nil)
	b.leave(op, directory.LeaveLinkClosed)
	j.settle(t, nil)
	b.said()
	b.clock.Advance(7 * 24 * time.Hour)
	j.settle(t, errDisk)
	b.mustBe("alice", "PushOnline")
	if j.len() != 0 {
		t.Fatal("it was tried again at once")
	}
	b.clock.Advance(250 * time.Millisecond)
	j.settle(t, nil)
	b.mustSay("alice Disconnect 3")
	b.mustBe("alice", "Offline")
	if n := b.counter("rollcall_push_expired_total"); n != 1 {
		t.Fatalf("%d expiries counted", n)
	}
}

// A device that comes back while its expiry is pending, and one whose return
// fails: the expiry index follows what is committed.
func TestExpiryAndReturnCross(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	op := b.login("alice", "d1", presence.Android)
	j.settle(t, nil)
	b.leave(op, directory.LeaveLinkClosed)
	j.settle(t, nil)
	b.clock.Advance(7*24*time.Hour - time.Second)
	b.said()
	b.login("alice", "d1", presence.Android) // pending while the expiry comes due
	b.clock.Advance(time.Second)
	b.mustSay()
	j.settle(t, errDisk)
	b.mustSay("login 2: 70169")
	b.mustBe("alice", "PushOnline")
	b.clock.Advance(250 * time.Millisecond) // due again, now undisturbed
	b.login("alice", "d1", presence.Android)
	j.settle(t, nil)
	j.settle(t, nil)
	b.mustSay("alice Disconnect 3", "alice Login 4", "login 3: 0")
	b.mustBe("alice", "Online")
}

func TestFailedAppUpdateChangesNothing(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j, MaxSweeps: 1})
	before := b.App(app)
	var got []string
	issue := func(name string, enforce bool) *directory.UpdateAppOp {
		op := &directory.UpdateAppOp{SDKAppID: app, Enforce: enforce, Mutate: func(a *directory.App) error { a.Name = name; return nil }}
		op.Done = func(*directory.UpdateAppOp) { got = append(got, name) }
		b.UpdateApp(op)
		return op
	}
	first, second := issue("first", true), issue("second", false)
	if b.App(app) != before || len(got) != 0 || j.len() != 1 {
		t.Fatal("told before the commit")
	}
	j.settle(t, errDisk)
	var de *directory.Error
	if !errors.As(first.Err, &de) || de.Code != directory.CodeUnavailable || b.App(app) != before {
		t.Fatalf("first: %v", first.Err)
	}
	b.mustSay()
	j.settle(t, nil)
	b.mustSay(fmt.Sprintf("app %d v2", app))
	if second.Err != nil || b.App(app).Name != "second" || fmt.Sprint(got) != "[first second]" {
		t.Fatalf("second: %v, answered %v", second.Err, got)
	}
	if len(b.sweeps) != 0 {
		t.Fatal("the failed update keeps its place for a sweep")
	}
}

func TestDoneTwicePanics(t *testing.T) {
	for name, issue := range map[string]func(*bed){
		"users": func(b *bed) { b.login("alice", "d1", presence.Android) },
		"app": func(b *bed) {
			b.UpdateApp(&directory.UpdateAppOp{
				SDKAppID: app, Mutate: func(*directory.App) error { return nil }, Done: func(*directory.UpdateAppOp) {},
			})
		},
	} {
		t.Run(name, func(t *testing.T) {
			j := &heldJournal{}
			b := newBed(t, Options{Journal: j})
			issue(b)
			h := j.held[0]
			j.settle(t, nil)
			defer func() {
				if recover() == nil {
					t.Error("a second done went unnoticed")
				}
			}()
			h.done(nil)
		})
	}
}

// A login decided by the old policy that is still pending when a new policy is
// enforced is swept too.
func TestEnforceWaitsForPendingLogins(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{})
	multi, _ := presence.Preset(presence.PresetMulti)
	single, _ := presence.Preset(presence.PresetSingle)
	b.update(&directory.UpdateAppOp{SDKAppID: app, Mutate: b.setPolicy(multi)})
	b.login("alice", "d1", presence.Android)
	b.opts.Journal = j
	b.login("alice", "d2", presence.Windows) // held
	b.said()
	done := make(chan struct{})
	op := &directory.UpdateAppOp{SDKAppID: app, Enforce: true, Mutate: b.setPolicy(single), Done: func(*directory.UpdateAppOp) { close(done) }}
	b.UpdateApp(op)
	login := j.held[0]
	j.held = j.held[1:]
	j.settle(t, nil) // the policy, before the login
	b.await("a barrier stands behind the login", func() bool { return b.pending() == 2 })
	login.done(nil)
	b.await("the sweep's decision is handed over", func() bool { return j.len() == 1 })
	j.settle(t, nil)
	b.wait("enforce", done)
	if op.Err != nil || op.Kicked != 1 {
		t.Fatalf("%v, kicked %d", op.Err, op.Kicked)
	}
}

// A sweep whose decisions fail says so; the policy is in force all the same.
func TestEnforceThatFails(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{})
	multi, _ := presence.Preset(presence.PresetMulti)
	single, _ := presence.Preset(presence.PresetSingle)
	b.update(&directory.UpdateAppOp{SDKAppID: app, Mutate: b.setPolicy(multi)})
	b.login("alice", "d1", presence.Android)
	b.login("alice", "d2", presence.Windows)
	b.opts.Journal = j
	done := make(chan struct{})
	op := &directory.UpdateAppOp{SDKAppID: app, Enforce: true, Mutate: b.setPolicy(single), Done: func(*directory.UpdateAppOp) { close(done) }}
	b.UpdateApp(op)
	j.settle(t, nil)
	b.await("the sweep's decision is handed over", func() bool { return j.len() == 1 })
	j.settle(t, errDisk)
	b.wait("enforce", done)
	var de *directory.Error
	if !errors.As(op.Err, &de) || de.Code != directory.CodeUnavailable || op.Kicked != 0 || b.App(app).Policy != single {
		t.Fatalf("%v, kicked %d, policy %+v", op.Err, op.Kicked, b.App(app).Policy)
	}
	if n := b.tallied(instancesOnline); n != 2 {
		t.Fatalf("%d instances", n)
	}
}
