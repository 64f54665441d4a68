package directorytest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// followOp follows a user by a link of the watched node, or ends that.
func (w *world) followOp(user string, link presence.LinkID, end bool) *directory.FollowOp {
	return &directory.FollowOp{Key: key(user), Node: node, Link: link, End: end}
}

func (w *world) doFollow(op *directory.FollowOp) *directory.FollowOp {
	w.Helper()
	c := w.completion("follow " + op.Key.UserID)
	op.Done = func(*directory.FollowOp) { c.done() }
	w.d.Follow(op)
	c.wait()
	return op
}

func (w *world) follow(user string, link presence.LinkID) presence.User {
	w.Helper()
	op := w.doFollow(w.followOp(user, link, false))
	if op.Code != ok {
		w.Fatalf("follow %s: code %d", user, op.Code)
	}
	return op.User
}

// takeChanges returns what followers were told since the last take.
func (w *world) takeChanges() []directory.Change {
	w.told.mu.Lock()
	defer w.told.mu.Unlock()
	cs := w.told.changes
	w.told.changes = nil
	return cs
}

// mustChange checks what one link was told: the transitions, and the user's status
// and number of instances after them.
func (w *world) mustChange(link presence.LinkID, status presence.Status, instances int, want ...string) {
	w.Helper()
	cs := w.takeChanges()
	if len(cs) != 1 || cs[0].Link != link {
		w.Fatalf("changes %+v, want one for %x", cs, uint64(link))
	}
	c := &cs[0]
	var got []string
	for _, t := range c.Transitions {
		got = append(got, shape(t))
	}
	if !slices.Equal(got, want) || c.User.Status() != status || len(c.User.Instances) != instances || c.User.Seq != c.Transitions[len(c.Transitions)-1].Seq {
		w.Fatalf("told %q, then %+v; want %q, then %s with %d instances", got, c.User, want, status, instances)
	}
}

// followChanges: a follower gets the state, then each change with the state after it.
func followChanges(w *world) {
	w.setPolicy(presence.PresetDual, nil)
	first := w.login("alice", device(presence.Android, "d1"))
	link := first.Login.Link.ID
	u := w.follow("alice", link)
	if u.Seq != first.Seq || u.Status() != presence.Online || len(u.Instances) != 1 || !u.Registered {
		w.Fatalf("the state is %+v", u)
	}
	if cs := w.takeChanges(); len(cs) > 0 {
		w.Fatalf("told before a change: %+v", cs)
	}
	web := w.login("alice", device(presence.Web, "w1"))
	w.mustChange(link, presence.Online, 2, "Login/Register Web:Online<-Offline event=2")
	w.leave(web, directory.LeaveLinkClosed)
	w.mustChange(link, presence.Online, 1, "Disconnect/LinkClose Web:Offline<-Online event=3")
	w.login("alice", device(presence.Windows, "p1")) // pushes the phone out
	w.mustChange(link, presence.Online, 1,
		"Kicked/AnotherLogin Android:Offline<-Online event=0", "Login/Register Windows:Online<-Offline event=4 kicked=Android")
	w.kick("alice", 0)
	w.mustChange(link, presence.Offline, 0, "Logout/Unregister Windows:Offline<-Online event=5 rest")

	gone := w.login("alice", device(presence.Android, "d1"))
	w.mustChange(link, presence.Online, 1, "Login/Register Android:Online<-Offline event=6")
	w.leave(gone, directory.LeaveTimeOut)
	w.mustChange(link, presence.PushOnline, 1, "Disconnect/TimeOut Android:PushOnline<-Online event=7")
	w.clock.Advance(8 * 24 * 60 * 60 * 1e9) // what no client does is told too
	w.await("the end of PushOnline", func() bool {
		w.told.mu.Lock()
		defer w.told.mu.Unlock()
		return len(w.told.changes) > 0
	})
	w.mustChange(link, presence.Offline, 0, "Disconnect/TimeOut Android:Offline<-PushOnline event=0")
}

// followEnd: after the Done of an End nothing is told; ending twice does no harm,
// following twice tells the state anew and each change once.
func followEnd(w *world) {
	first := w.login("alice", device(presence.Android, "d1"))
	link := first.Login.Link.ID
	w.follow("alice", link)
	again := w.login("alice", device(presence.Android, "d1"))
	w.takeChanges()
	if u := w.follow("alice", link); u.Seq != again.Seq {
		w.Fatalf("following again told the state of %d, want %d", u.Seq, again.Seq)
	}
	w.leave(again, directory.LeaveLogout)
	w.mustChange(link, presence.Offline, 0, "Logout/Unregister Android:Offline<-Online event=3")
	for range 2 {
		if op := w.doFollow(w.followOp("alice", link, true)); op.Code != ok {
			w.Fatalf("end: code %d", op.Code)
		}
	}
	w.login("alice", device(presence.Android, "d1"))
	if cs := w.takeChanges(); len(cs) > 0 {
		w.Fatalf("told after the end: %+v", cs)
	}
}

// followWhom: each follower is told of the users it follows, no other.
func followWhom(w *world) {
	a, b := presence.MakeLinkID(1, 1000, 1), presence.MakeLinkID(1, 1001, 1)
	w.follow("alice", a)
	w.follow("alice", b)
	w.follow("bob", b)
	told := func() map[presence.LinkID]int {
		n := make(map[presence.LinkID]int)
		for _, c := range w.takeChanges() {
			n[c.Link]++
		}
		return n
	}
	w.login("alice", device(presence.Android, "d1"))
	if n := told(); n[a] != 1 || n[b] != 1 {
		w.Fatalf("alice's followers were told %v", n)
	}
	w.login("bob", device(presence.Android, "d1"))
	if n := told(); n[a] != 0 || n[b] != 1 {
		w.Fatalf("bob's followers were told %v", n)
	}
	w.login("carol", device(presence.Android, "d1"))
	w.doFollow(w.followOp("alice", a, true))
	w.login("alice", device(presence.Android, "d2"))
	if n := told(); n[a] != 0 || n[b] != 1 {
		w.Fatalf("one was told no longer: %v", n)
	}
	w.stop()
	w.login("bob", device(presence.Android, "d2")) // nobody is there to hear it
	if n := told(); len(n) != 0 {
		w.Fatalf("told after the watch ended: %v", n)
	}
}

func followRefusals(w *world) {
	op := &directory.FollowOp{Key: presence.Key{App: 1, UserID: "alice"}, Node: node, Link: presence.MakeLinkID(1, 1000, 1)}
	if w.doFollow(op); op.Code != directory.CodeUnknownApp {
		w.Errorf("follow in an unknown app: code %d", op.Code)
	}
	if u := w.follow("nobody", presence.MakeLinkID(1, 1000, 1)); u.Registered || u.Seq != 0 {
		w.Errorf("the state of a user whom nobody knows: %+v", u)
	}
}

// followNoGap: whenever one begins to follow while the user changes, what is told
// continues the state without a gap, and not before the state was told.
func followNoGap(w *world) {
	const routines, each, followers = 4, 100, 20
	var wg sync.WaitGroup
	for r := range routines {
		wg.Go(func() {
			for range each {
				op := w.do(w.loginOp("alice", device(presence.Web, fmt.Sprintf("r%d", r))))
				w.leave(op, directory.LeaveLogout)
			}
		})
	}
	state := make([]uint64, followers)
	for i := range followers {
		wg.Go(func() {
			link := presence.MakeLinkID(2, uint32(i), 1)
			op, c := w.followOp("alice", link, false), w.completion("follow")
			op.Done = func(op *directory.FollowOp) {
				w.told.mu.Lock()
				defer w.told.mu.Unlock()
				for _, ch := range w.told.changes {
					if ch.Link == link {
						w.Errorf("link %d was told of a change before the state", i)
					}
				}
				state[i] = op.User.Seq
				c.done()
			}
			w.d.Follow(op)
			c.wait()
		})
	}
	wg.Wait()
	last := w.user("alice").User.Seq
	for _, c := range w.takeChanges() {
		i := c.Link.Slot()
		for _, t := range c.Transitions {
			if t.Seq != state[i]+1 {
				w.Fatalf("follower %d was told of %d after %d", i, t.Seq, state[i])
			}
			state[i] = t.Seq
		}
		if c.User.Seq != state[i] {
			w.Fatalf("follower %d was told the state of %d with the change %d", i, c.User.Seq, state[i])
		}
	}
	for i, seq := range state {
		if seq != last {
			w.Errorf("follower %d heard up to %d of %d", i, seq, last)
		}
	}
}
