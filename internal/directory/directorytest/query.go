package directorytest

import (
	"fmt"
	"unsafe"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func queryOrder(w *world) {
	w.setPolicy(presence.PresetMulti, nil)
	w.login("alice", device(presence.Web, "w1"))
	w.clock.Advance(1e9)
	w.login("alice", device(presence.Android, "d1"))
	w.leave(w.login("bob", device(presence.IPad, "d1")), directory.LeaveTimeOut)
	w.accounts(directory.AccountsImport, "carol")

	op := w.query("carol", "alice", "nobody", "bob", "alice")
	want := []struct {
		code, n int
		status  presence.Status
	}{
		{presence.CodeOK, 0, presence.Offline},
		{presence.CodeOK, 2, presence.Online},
		{presence.CodeAccountNotExist, 0, presence.Offline},
		{presence.CodeOK, 1, presence.PushOnline},
		{presence.CodeOK, 2, presence.Online},
	}
	if op.Code != presence.CodeOK || len(op.Users) != len(want) {
		w.Fatalf("code %d, %d answers", op.Code, len(op.Users))
	}
	for i, c := range want {
		if u := op.Users[i]; u.Code != c.code || u.Status != c.status || len(u.Instances) != c.n {
			w.Errorf("%s: %+v, want %+v", op.UserIDs[i], u, c)
		}
	}
	if in := op.Users[1].Instances; in[0].Platform != presence.Web || in[1].Platform != presence.Android {
		w.Errorf("alice's instances are not in order of login: %+v", in)
	}
	if op := w.doQuery(&directory.QueryOp{App: app, UserIDs: []string{"alice"}}); len(op.Users[0].Instances) != 0 || op.Users[0].Status != presence.Online {
		w.Errorf("without detail: %+v", op.Users[0])
	}
	if op := w.doQuery(&directory.QueryOp{App: app}); op.Code != presence.CodeOK || len(op.Users) != 0 {
		w.Errorf("of nobody: code %d, %d answers", op.Code, len(op.Users))
	}
	if op := w.doQuery(&directory.QueryOp{App: app + 1, UserIDs: []string{"alice"}}); op.Code != directory.CodeUnknownApp {
		w.Errorf("of an unknown app: code %d", op.Code)
	}
}

// queryReuse: an op may be used again, whatever it held.
func queryReuse(w *world) {
	ids := make([]string, 500)
	for i := range ids {
		ids[i] = fmt.Sprintf("user%d", i)
		if i%2 == 0 {
			w.login(ids[i], device(presence.Web, "w1"))
		}
	}
	op := &directory.QueryOp{App: app}
	for _, n := range []int{500, 1, 37, 0, 500} {
		op.UserIDs, op.Detail = ids[500-n:], n != 37
		w.doQuery(op)
		if len(op.Users) != n {
			w.Fatalf("%d answers to %d ids", len(op.Users), n)
		}
		for i, u := range op.Users {
			known := (500-n+i)%2 == 0
			if (u.Code == presence.CodeOK) != known || (u.Status == presence.Online) != known || (len(u.Instances) == 1) != (known && op.Detail) {
				w.Fatalf("%s of %d: %+v", op.UserIDs[i], n, u)
			}
		}
	}
}

// queryKeepsNoIDs: UserIDs are the caller's again from Done on, and the
// instances of one user end where those of the next begin.
func queryKeepsNoIDs(w *world) {
	w.setPolicy(presence.PresetMulti, nil)
	for _, user := range []string{"alice", "bobby"} {
		w.login(user, device(presence.Web, "w1"))
		w.login(user, device(presence.Android, "d1"))
	}
	memory := []byte("alicebobbycarol")
	text := unsafe.String(&memory[0], len(memory))
	op := &directory.QueryOp{App: app, UserIDs: []string{text[:5], text[5:10], text[10:]}, Detail: true}
	w.doQuery(op)
	copy(memory, "xxxxxxxxxxxxxxx")
	_ = append(op.Users[0].Instances, directory.InstanceState{})
	for i, n := range []int{2, 2, 0} {
		if in := op.Users[i].Instances; len(in) != n || n > 0 && (in[0].Platform != presence.Web || in[1].Platform != presence.Android) {
			w.Errorf("user %d: %+v", i, in)
		}
	}
	for user, code := range map[string]int{"alice": presence.CodeOK, "bobby": presence.CodeOK, "carol": presence.CodeAccountNotExist, "xxxxx": presence.CodeAccountNotExist} {
		if got := w.query(user).Users[0].Code; got != code {
			w.Errorf("%s: code %d, want %d", user, got, code)
		}
	}
}
