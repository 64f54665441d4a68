package directorytest

import (
	"fmt"
	"slices"
	"sync"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func usersPages(w *world) {
	var online, push []string
	for i := range 60 {
		name := fmt.Sprintf("u/%02d %%", i)
		op := w.login(name, device(presence.Android, "d1"))
		switch i % 3 {
		case 0:
			online = append(online, name)
		case 1:
			push = append(push, name)
			w.leave(op, directory.LeaveLinkClosed)
		case 2:
			w.leave(op, directory.LeaveLogout)
		}
	}
	w.mustUpdate(app+1, true, func(*directory.App) error { return nil })
	for i := range 20 {
		op := w.loginOp(fmt.Sprintf("other%d", i), device(presence.Web, "w1"))
		op.Key.App++
		w.do(op)
	}
	any := slices.Sorted(slices.Values(slices.Concat(online, push)))
	for _, limit := range []int{1, 7, 1000} {
		for s, want := range map[presence.Status][]string{presence.Online: online, presence.PushOnline: push, presence.Offline: any} {
			if got := w.allUsers(s, limit); !slices.Equal(got, want) {
				w.Errorf("status %s, limit %d: %d users %q, want %d", s, limit, len(got), got, len(want))
			}
		}
	}
	op := w.users(&directory.UsersOp{App: app, Limit: 1000})
	for _, u := range op.Users {
		if len(u.User.Instances) != 1 || u.User.Instances[0].Device.Model != "model of d1" {
			w.Fatalf("%s: %+v", u.UserID, u.User)
		}
	}
}

func usersRefusals(w *world) {
	for name, op := range map[string]*directory.UsersOp{
		"limit 0":    {App: app},
		"limit 1001": {App: app, Limit: directory.MaxUsersPage + 1},
		"cursor":     {App: app, Limit: 1, After: "no cursor"},
	} {
		if w.users(op); op.Code != directory.CodeBadRequest || op.Next != "" {
			w.Errorf("%s: code %d, next %q", name, op.Code, op.Next)
		}
	}
	for _, limit := range []int{1, directory.MaxUsersPage - 1, directory.MaxUsersPage} {
		if op := w.users(&directory.UsersOp{App: app, Limit: limit}); op.Code != ok {
			w.Errorf("limit %d: code %d", limit, op.Code)
		}
	}
	if op := w.users(&directory.UsersOp{App: app + 1, Limit: 1}); op.Code != directory.CodeUnknownApp {
		w.Errorf("unknown app: code %d", op.Code)
	}
}

// usersWhileChanging: who is there all the time is listed exactly once, however
// many come and go meanwhile.
func usersWhileChanging(w *world) {
	var stay []string
	for i := range 200 {
		stay = append(stay, fmt.Sprintf("stay%03d", i))
		w.login(stay[i], device(presence.Web, "w1"))
	}
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for r := range 2 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				op := w.login(fmt.Sprintf("come%d.%d", r, i%500), device(presence.Web, "w1"))
				w.leave(op, directory.LeaveLogout)
			}
		})
	}
	for range 10 {
		got := slices.DeleteFunc(w.allUsers(presence.Online, 17), func(s string) bool { return s[:4] != "stay" })
		if !slices.Equal(got, stay) {
			w.Errorf("listed %d users %q", len(got), got)
			break
		}
	}
	close(stop)
	wg.Wait()
}

func userDetails(w *world) {
	op := w.login("alice", device(presence.Android, "d1"))
	got := w.user("alice")
	if got.Code != ok || len(got.User.Instances) != 1 || got.User.Instances[0] != op.Decision.Inst || got.User.Seq != op.Seq || got.User.LastSeenMS != w.nowMS() {
		w.Fatalf("code %d, user %+v", got.Code, got.User)
	}
	if op := w.user("bob"); op.Code != missing || len(op.User.Instances) != 0 {
		w.Fatalf("unknown user: code %d", op.Code)
	}
	c := w.completion("user of an unknown app")
	other := &directory.UserOp{Key: presence.Key{App: app + 1, UserID: "alice"}, Done: func(*directory.UserOp) { c.done() }}
	w.d.User(other)
	if c.wait(); other.Code != directory.CodeUnknownApp {
		w.Fatalf("unknown app: code %d", other.Code)
	}
}
