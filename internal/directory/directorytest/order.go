package directorytest

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// orderLeaveAfterLogin: a FIN that arrives while the login is being decided
// never leaves an Online that nobody owns.
func orderLeaveAfterLogin(w *world) {
	const routines, each = 8, 200
	var wg sync.WaitGroup
	for r := range routines {
		wg.Go(func() {
			for i := range each {
				op := w.loginOp(fmt.Sprintf("u%d", i%20), device(presence.Web, fmt.Sprintf("r%d", r)))
				in := w.issue(op)
				l := w.leaveOp(op, directory.LeaveLinkClosed)
				out := w.completion("leave")
				l.Done = func(*directory.LeaveOp) {
					if in.n.Load() == 0 {
						w.Errorf("a Leave was answered before its Login")
					}
					out.done()
				}
				w.d.Leave(l)
				in.wait()
				out.wait()
				if op.Code != ok || l.Code != ok {
					w.Errorf("login: code %d, leave: code %d", op.Code, l.Code)
				}
			}
		})
	}
	wg.Wait()
	for i := range 20 {
		w.mustBe(fmt.Sprintf("u%d", i), presence.Offline)
	}
}

// orderDoneBeforeNotice: LoginOK precedes ForcedOffline on each link.
func orderDoneBeforeNotice(w *world) {
	const routines, each = 8, 100
	var wg sync.WaitGroup
	for r := range routines {
		wg.Go(func() {
			var last []*completion
			for i := range each {
				last = append(last, w.issue(w.loginOp("alice", device(presence.Android, fmt.Sprintf("r%d.%d", r, i)))))
			}
			for _, c := range last {
				c.wait()
			}
		})
	}
	wg.Wait()
	w.await("all but one link got a notice", func() bool {
		w.told.mu.Lock()
		defer w.told.mu.Unlock()
		return len(w.told.notices) == routines*each-1
	})
	if len(w.told.early) > 0 {
		w.Fatalf("%d links were forced offline before their login was answered", len(w.told.early))
	}
	if n := len(w.query("alice").Users[0].Instances); n != 1 {
		w.Fatalf("%d instances under the policy single", n)
	}
}

// orderTransitions: the sink gets each user's transitions in sequence order,
// events without gaps, and each change starts where the one before ended.
func orderTransitions(w *world) {
	const routines, each, users = 6, 150, 3
	w.setPolicy(presence.PresetDual, map[presence.Platform]uint8{presence.Web: 2})
	platforms := []presence.Platform{presence.Android, presence.Web, presence.Windows}
	var wg sync.WaitGroup
	for r := range routines {
		wg.Go(func() {
			for i := range each {
				user := fmt.Sprintf("u%d", i%users)
				op := w.login(user, device(platforms[(r+i)%3], fmt.Sprintf("d%d", r)))
				switch i % 5 {
				case 0:
					w.kick(user, 0)
				case 1, 2:
					w.leave(op, directory.LeaveLinkClosed)
				}
			}
		})
	}
	wg.Wait()
	ts, _ := w.told.take()
	seq, events := map[string]uint64{}, map[string]uint64{}
	status := map[string]presence.Status{}
	for _, t := range ts {
		user := t.Key.UserID
		if t.Seq <= seq[user] {
			w.Fatalf("%s: sequence %d after %d", user, t.Seq, seq[user])
		}
		seq[user] = t.Seq
		if t.EventSeq != 0 {
			if events[user]++; t.EventSeq != events[user] {
				w.Fatalf("%s: event %d, want %d", user, t.EventSeq, events[user])
			}
		}
		inst := fmt.Sprintf("%s %d", user, t.Inst.InstID)
		if t.Before != status[inst] {
			w.Fatalf("%s: %s, but it was %s", inst, shape(t), status[inst])
		}
		status[inst] = t.Inst.Status
	}
	for i := range users {
		user := fmt.Sprintf("u%d", i)
		for _, in := range w.query(user).Users[0].Instances {
			if inst := fmt.Sprintf("%s %d", user, in.InstID); status[inst] != in.Status {
				w.Errorf("%s: %s, the transitions say %s", inst, in.Status, status[inst])
			}
		}
	}
}

// orderReentrant: a Done may call the directory, for the same user or another.
func orderReentrant(w *world) {
	const steps = 5000
	c := w.completion("chain")
	var n atomic.Int32
	var next func(*directory.LoginOp)
	next = func(op *directory.LoginOp) {
		w.told.answer(op)
		if op.Code != ok {
			w.Errorf("step %d: code %d", n.Load(), op.Code)
		}
		if n.Add(1) == steps {
			c.done()
			return
		}
		user := fmt.Sprintf("u%d", n.Load()%97)
		if n.Load()%3 == 0 {
			user = op.Key.UserID
		}
		w.d.Leave(w.leaveOp(op, directory.LeaveLogout))
		again := w.loginOp(user, device(presence.Web, "w1"))
		again.Done = next
		w.d.Login(again)
	}
	first := w.loginOp("u0", device(presence.Web, "w1"))
	first.Done = next
	w.d.Login(first)
	c.wait()
}

func watchStop(w *world) {
	first := w.login("alice", device(presence.Android, "d1"))
	w.stop()
	w.stop()
	w.login("alice", device(presence.Android, "d2"))
	if _, notices := w.told.take(); len(notices) != 0 {
		w.Fatalf("notices after the watch ended: %+v", notices)
	}
	w.d.Watch(node, w.told)
	third := w.login("alice", device(presence.Android, "d1"))
	_, notices := w.told.take()
	if len(notices) != 1 || notices[0].Link == first.Login.Link.ID || third.Code != ok {
		w.Fatalf("notices %+v", notices)
	}
	w.stop() // of the watch before: must not end this one
	w.login("alice", device(presence.Android, "d2"))
	if _, notices := w.told.take(); len(notices) != 1 {
		w.Fatalf("notices %+v", notices)
	}
}

// watchNodes: a notice goes to the node of the link, and to no other.
func watchNodes(w *world) {
	w.setPolicy(presence.PresetMulti, nil)
	other := &record{answered: map[presence.LinkID]bool{}}
	defer w.d.Watch(node+1, other)()
	here := w.login("alice", device(presence.Android, "d1"))
	there := w.loginOp("alice", device(presence.Web, "w1"))
	there.Login.Link.Node++
	w.do(there)
	w.kick("alice", 0)
	_, mine := w.told.take()
	_, theirs := other.take()
	if len(mine) != 1 || mine[0].Link != here.Login.Link.ID || len(theirs) != 1 || theirs[0].Link != there.Login.Link.ID {
		w.Fatalf("here %+v, there %+v", mine, theirs)
	}
}

// noAliasing: what was answered is the caller's, what was asked is not looked at again.
func noAliasing(w *world) {
	w.setPolicy(presence.PresetMulti, nil)
	w.login("alice", device(presence.Android, "d1"))
	op := w.login("alice", device(presence.Web, "w1"))
	op.Decision.Inst.Device.ID, op.Login.Device.ID, op.Key.UserID = "spoilt", "spoilt", "spoilt"
	u := w.user("alice").User
	for i := range u.Instances {
		u.Instances[i] = presence.Instance{}
	}
	list := w.users(&directory.UsersOp{App: app, Limit: 10}).Users
	list[0].User.Instances[0] = presence.Instance{}
	q := w.query("alice")
	q.Users[0].Instances[0] = directory.InstanceState{}
	q.UserIDs[0] = "spoilt"
	apps := w.d.Apps()
	apps[0] = nil

	if got := w.user("alice").User.Instances; len(got) != 2 || got[0].Device.ID != "d1" || got[1].Device.ID != "w1" {
		w.Fatalf("alice became %+v", got)
	}
	if w.d.Apps()[0] == nil {
		w.Fatal("Apps lends its own list")
	}
	kicked := w.kick("alice", 0).Kicked
	ts, _ := w.told.take()
	if len(kicked) != 2 || ts[len(ts)-1].Inst.Device.ID != "w1" {
		w.Fatalf("kicked %+v", kicked)
	}
	var kept *directory.App
	w.mustUpdate(app, false, func(a *directory.App) error { kept = a; return nil })
	kept.Name, kept.Administrators[0] = "spoilt", "spoilt"
	if a := w.d.App(app); a.Name == "spoilt" || a.Administrators[0] == "spoilt" {
		w.Fatal("what Mutate keeps is the app")
	}
}
