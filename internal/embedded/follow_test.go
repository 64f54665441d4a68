package embedded

import (
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// follow has link 100 follow alice, or no longer.
func (b *bed) follow(user string, end bool) *directory.FollowOp {
	op := &directory.FollowOp{Key: key(user), Node: node, Link: presence.MakeLinkID(0, 0, 100), End: end}
	op.Done = func(op *directory.FollowOp) { b.say("follow %s %t: %d, %d", user, end, op.Code, op.User.Seq) }
	b.Follow(op)
	return op
}

// A follower is told in the order of the decisions, and of nothing that is not durable.
func TestFollowInOrder(t *testing.T) {
	j := new(heldJournal)
	b := newBed(t, Options{Journal: j})
	b.login("alice", "d1", presence.Android)
	b.follow("alice", false)
	b.login("alice", "d2", presence.Android)
	b.follow("alice", true)
	b.login("alice", "d3", presence.Android)
	b.mustSay()
	j.settle(t, nil)
	b.mustSay("alice Login 1", "login 1: 0")
	j.settle(t, nil)
	b.mustSay(
		"alice Kicked 2", "alice Login 3", "alice Kicked 4", "alice Login 5", // the sink's part comes first
		"follow alice false: 0, 1",
		"notice 1", "change for 100: alice Kicked 2 of 3", "change for 100: alice Login 3 of 3", "login 2: 0",
		"follow alice true: 0, 0",
		"notice 2", "login 3: 0",
	)
	if n := b.following.Load(); n != 0 {
		t.Errorf("%d follow", n)
	}
}

// What was built on a state that is lost is not begun; an end is an end.
func TestFollowAfterFailedCommit(t *testing.T) {
	j := new(heldJournal)
	b := newBed(t, Options{Journal: j})
	b.follow("alice", false)
	b.follow("bob", false)
	b.mustSay("follow alice false: 0, 0", "follow bob false: 0, 0")
	b.login("alice", "d1", presence.Android)
	b.follow("alice", false)
	b.follow("alice", true)
	b.follow("carol", false)
	j.settle(t, errDisk)
	b.mustSay("login 1: 70169", "follow alice false: 70169, 0", "follow alice true: 0, 0", "follow carol false: 0, 0")
	b.login("alice", "d1", presence.Android)
	b.login("bob", "d1", presence.Android)
	for j.len() > 0 {
		j.settle(t, nil)
	}
	b.mustSay("alice Login 1", "login 2: 0", "bob Login 1", "change for 100: bob Login 1 of 1", "login 3: 0")
	if n := b.following.Load(); n != 2 {
		t.Errorf("%d follow, want bob's and carol's", n)
	}
}

// Over the bound a follow is refused, an end is not.
func TestFollowIsBounded(t *testing.T) {
	j := new(heldJournal)
	b := newBed(t, Options{Journal: j, MaxPending: 1})
	b.login("alice", "d1", presence.Android)
	b.follow("alice", false)
	b.mustSay("follow alice false: 70169, 0")
	b.follow("alice", true)
	b.mustSay()
	j.settle(t, nil)
	b.mustSay("alice Login 1", "login 1: 0", "follow alice true: 0, 0")
	if n := b.counter(`rollcall_directory_shed_total{kind="follow"}`); n != 1 {
		t.Errorf("%d follows counted as shed", n)
	}
}

// A directory that is closed begins nothing, and still answers.
func TestFollowWhenClosed(t *testing.T) {
	b := newBed(t, Options{})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.follow("alice", false)
	b.follow("alice", true)
	b.mustSay("follow alice false: 70169, 0", "follow alice true: 70169, 0")
}

func BenchmarkLoginFollowed(b *testing.B) {
	for name, followed := range map[string]bool{"nobody": false, "another": true} {
		b.Run(name, func(b *testing.B) {
			bed := newBed(b, Options{})
			if followed {
				bed.follow("bob", false)
			}
			op := bed.loginOp("alice", "d1", presence.Android)
			op.Done = func(*directory.LoginOp) {}
			b.ReportAllocs()
			for b.Loop() {
				bed.Login(op)
			}
		})
	}
}
