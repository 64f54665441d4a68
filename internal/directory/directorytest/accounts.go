package directorytest

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

const (
	ok      = presence.CodeOK
	missing = presence.CodeAccountNotExist
)

func (w *world) mustAnswer(op *directory.AccountsOp, want ...int) {
	w.Helper()
	if op.Code != ok || !slices.Equal(op.Results, want) {
		w.Fatalf("action %d on %q: code %d, results %v, want %v", op.Action, op.UserIDs, op.Code, op.Results, want)
	}
}

func accountsLife(w *world) {
	w.mustAnswer(w.accounts(directory.AccountsCheck, "alice", "bob"), missing, missing)
	w.mustAnswer(w.accounts(directory.AccountsImport, "alice", "alice", "carol"), ok, ok, ok)
	w.mustAnswer(w.accounts(directory.AccountsImport, "alice"), ok)
	w.mustAnswer(w.accounts(directory.AccountsCheck, "alice", "bob", "carol"), ok, missing, ok)
	w.mustBe("alice", presence.Offline)
	w.mustAnswer(w.accounts(directory.AccountsDelete, "bob", "alice", "alice"), missing, ok, missing)
	w.mustAnswer(w.accounts(directory.AccountsCheck, "alice", "carol"), missing, ok)
	w.mustTell()
	w.login("bob", device(presence.Web, "w1"))
	w.mustAnswer(w.accounts(directory.AccountsCheck, "bob"), ok)
}

func accountsBounds(w *world) {
	ids := make([]string, directory.MaxAccounts+1)
	for i := range ids {
		ids[i] = fmt.Sprintf("user%d", i)
	}
	for _, a := range []directory.AccountsAction{directory.AccountsImport, directory.AccountsCheck, directory.AccountsDelete} {
		for n, code := range map[int]int{
			directory.MaxAccounts - 1: ok, directory.MaxAccounts: ok, directory.MaxAccounts + 1: directory.CodeBadRequest,
		} {
			w.accounts(directory.AccountsImport, ids[:directory.MaxAccounts]...)
			op := w.accounts(a, ids[:n]...)
			if op.Code != code || code == ok && slices.Max(op.Results) != ok {
				w.Errorf("action %d on %d accounts: code %d, results %v", a, n, op.Code, op.Results)
			}
		}
	}
	w.mustAnswer(w.accounts(directory.AccountsImport))
	w.mustAnswer(w.accounts(directory.AccountsImport, "", "fine", strings.Repeat("x", 33), "t\tb"),
		directory.CodeBadRequest, ok, directory.CodeBadRequest, directory.CodeBadRequest)
	if op := w.accounts(0, "alice"); op.Code != directory.CodeBadRequest {
		w.Errorf("no action: code %d", op.Code)
	}
	c := w.completion("accounts of an unknown app")
	op := &directory.AccountsOp{App: app + 1, Action: directory.AccountsImport, UserIDs: []string{"alice"}, Done: func(*directory.AccountsOp) { c.done() }}
	w.d.Accounts(op)
	if c.wait(); op.Code != directory.CodeUnknownApp {
		w.Errorf("unknown app: code %d", op.Code)
	}
}

// accountsProfiles: an import's profile is kept member by member, within bounds,
// and deletion forgets it.
func accountsProfiles(w *world) {
	text := func(s string) *string { return &s }
	mustHave := func(nick, face string) {
		w.Helper()
		if u := w.user("alice"); u.User.Nick != nick || u.User.FaceURL != face {
			w.Fatalf("nick %q, face %q; want %q, %q", u.User.Nick, u.User.FaceURL, nick, face)
		}
	}
	w.mustAnswer(w.importProfiles(directory.Profile{Nick: text("Alice"), FaceURL: text("https://h/a")}), ok)
	mustHave("Alice", "https://h/a")
	w.mustAnswer(w.accounts(directory.AccountsImport, "alice"), ok)
	w.mustAnswer(w.importProfiles(directory.Profile{}), ok)
	mustHave("Alice", "https://h/a")
	w.mustAnswer(w.importProfiles(directory.Profile{FaceURL: text("")}), ok)
	mustHave("Alice", "")
	w.login("alice", device(presence.Web, "w1"))
	mustHave("Alice", "")
	for n, code := range map[int]int{499: ok, 500: ok, 501: directory.CodeBadRequest} {
		w.mustAnswer(w.importProfiles(directory.Profile{Nick: text(strings.Repeat("n", n))}), code)
		w.mustAnswer(w.importProfiles(directory.Profile{FaceURL: text(strings.Repeat("f", n))}), code)
	}
	w.mustAnswer(w.importProfiles(directory.Profile{Nick: text("A"), FaceURL: text("B")}), ok)
	if op := w.importProfiles(directory.Profile{}, directory.Profile{}); op.Code != directory.CodeBadRequest {
		w.Errorf("two profiles of one account: code %d", op.Code)
	}
	w.mustAnswer(w.accounts(directory.AccountsDelete, "alice"), ok)
	w.clock.Advance(1e9)
	w.mustAnswer(w.accounts(directory.AccountsImport, "alice"), ok)
	mustHave("", "")
}

// accountsDelete: deletion kicks all, and only a UserSig from then on brings the account back.
func accountsDelete(w *world) {
	w.setPolicy(presence.PresetMulti, nil)
	w.leave(w.login("alice", device(presence.Android, "d1")), directory.LeaveLinkClosed)
	web := w.login("alice", device(presence.Web, "w1"))
	w.clock.Advance(10e9)
	w.told.take()
	w.mustAnswer(w.accounts(directory.AccountsDelete, "alice"), ok)
	notices := w.mustTell(
		"Logout/Unregister Android:Offline<-PushOnline event=4 rest",
		"Logout/Unregister Web:Offline<-Online event=5 rest")
	w.mustNotice(notices, directory.Notice{Link: web.Login.Link.ID, Cause: directory.CauseAccountDeleted, TimeMS: w.nowMS()})
	if c := w.query("alice").Users[0].Code; c != missing {
		w.Fatalf("query: code %d", c)
	}
	if op := w.user("alice"); op.Code != missing {
		w.Fatalf("user: code %d", op.Code)
	}
	if op := w.kick("alice", 0); op.Code != missing {
		w.Fatalf("kick: code %d", op.Code)
	}
	old := w.loginOp("alice", device(presence.Web, "w1"))
	old.Login.Cred.SigTimeS--
	if w.do(old); old.Code != presence.CodeSigRevoked {
		w.Fatalf("login by an old UserSig: code %d", old.Code)
	}
	w.mustAnswer(w.accounts(directory.AccountsImport, "alice"), ok)
	if w.do(w.issueAgain(old)); old.Code != presence.CodeSigRevoked {
		w.Fatalf("login by an old UserSig after an import: code %d", old.Code)
	}
	w.login("alice", device(presence.Web, "w1"))
	w.mustBe("alice", presence.Online)
}

// issueAgain makes an answered login ready to be issued once more.
func (w *world) issueAgain(op *directory.LoginOp) *directory.LoginOp {
	op.Code, op.Decision = -99, presence.LoginDecision{}
	return op
}
