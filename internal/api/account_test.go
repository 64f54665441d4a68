package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// status asks for one user's status, "" if it is unknown.
func (r *restRig) status(user string) string {
	r.t.Helper()
	a := r.post(queryCommand, queryBody(r.t, []string{user}, ""))
	if len(a.QueryResult) == 0 {
		a.want(r.t, 70107)
		return ""
	}
	return a.QueryResult[0].Status
}

func TestKick(t *testing.T) {
	r := newRESTRig(t, func(o *Options, a *directory.App) { a.Policy, _ = presence.Preset("multi") })
	for _, member := range []string{"UserID", "Identifier"} {
		phone := r.login("u", presence.Android, "d1")
		r.login("u", presence.Web, "d2")
		r.lose("u", phone)
		if got := r.post(kickCommand, fmt.Sprintf(`{%q:"u"}`, member)).want(t, 0).raw; got != `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}` {
			t.Errorf("%s", got)
		}
		if got := r.status("u"); got != "Offline" {
			t.Errorf("after a kick by %s: %s", member, got)
		}
		r.clock.Advance(time.Second)
	}
	r.post(importCommand, `{"UserID":"v"}`).want(t, 0)
	r.post(kickCommand, `{"UserID":"v","Identifier":"nobody"}`).want(t, 0)
	r.post(kickCommand, `{"UserID":"nobody","Identifier":"v"}`).want(t, 70107)
}

// TestCutoffOfAdministrator: an administrator is a user like any other. A kick or
// deletion ends its earlier UserSigs at once, also those that were used before.
func TestCutoffOfAdministrator(t *testing.T) {
	for _, end := range []struct{ command, body string }{
		{kickCommand, `{"UserID":"administrator"}`},
		{deleteCommand, `{"DeleteItem":[{"UserID":"administrator"}]}`},
	} {
		r := newRESTRig(t, nil)
		r.post(importCommand, `{"UserID":"administrator"}`).want(t, 0)
		early := r.sigAt(testAdmin, testStart.Unix()-1)
		same := r.sigAt(testAdmin, testStart.Unix())
		for _, sig := range []string{early, same} {
			r.sendSpoilt(checkCommand, `{"CheckItem":[{"UserID":"x"}]}`, setParam("usersig", sig)).want(t, 0)
		}
		r.clock.Advance(999 * time.Millisecond) // still the same second
		r.post(end.command, end.body).want(t, 0)
		a := r.sendSpoilt(checkCommand, `{}`, setParam("usersig", early)).want(t, 70001)
		if !strings.Contains(a.ErrorInfo, "revoked") {
			t.Errorf("%s: %q", end.command, a.ErrorInfo)
		}
		r.sendSpoilt(checkCommand, `{}`, setParam("usersig", same)).want(t, 70402)
		r.clock.Advance(time.Second)
		r.sendSpoilt(checkCommand, `{}`, setParam("usersig", early)).want(t, 70001)
		r.post(checkCommand, `{}`).want(t, 70402)
	}
}

// TestCutoffUnknown: as long as the cut-off is not known, nobody gets in.
func TestCutoffUnknown(t *testing.T) {
	r := newRESTRig(t, nil)
	slow := &slowUser{meddler: r.dir, code: directory.CodeUnavailable}
	r.server.dir = slow
	for range maxFailures { // none of it is a failure of the caller
		r.post(kickCommand, `{}`).want(t, 70169)
		r.post(queryCommand, `{}`).want(t, 91000)
	}
	if t.Failed() {
		t.FailNow()
	}
	slow.held = make(chan *directory.UserOp, 1)
	answers := make(chan restAnswer, 1)
	go func() { answers <- r.post(kickCommand, `{}`) }()
	op := <-slow.held
	advanceUntil(t, r, answers, 70169)
	op.Done(op)
	r.server.dir = r.dir
	r.post(kickCommand, `{}`).want(t, 70402)
}

func TestRESTKeyRotation(t *testing.T) {
	r := newRESTRig(t, nil)
	old := r.sig(testAdmin)
	r.post(checkCommand, `{}`).want(t, 70402)
	r.changeApp(testApp, func(a *directory.App) {
		a.Keys = append(a.Keys, directory.Key{ID: 2, Secret: "the new key"})
	})
	newer := mustSign(t, "the new key", testAdmin)
	for _, sig := range []string{old, newer} {
		r.sendSpoilt(checkCommand, `{}`, setParam("usersig", sig)).want(t, 70402)
	}
	r.changeApp(testApp, func(a *directory.App) { a.Keys = a.Keys[1:] })
	r.sendSpoilt(checkCommand, `{}`, setParam("usersig", old)).want(t, 70009)
	r.sendSpoilt(checkCommand, `{}`, setParam("usersig", newer)).want(t, 70402)
}

// TestSigExpiresInCache: a remembered UserSig ends when it ends.
func TestSigExpiresInCache(t *testing.T) {
	r := newRESTRig(t, nil)
	sig := r.sig(testAdmin)
	use := func() restAnswer { return r.sendSpoilt(checkCommand, `{}`, setParam("usersig", sig)) }
	use().want(t, 70402)
	r.clock.Advance(86400 * time.Second)
	use().want(t, 70402)
	r.clock.Advance(time.Second)
	use().want(t, 70001)
}

// TestImportKeepsProfile: what is absent stays, what is out of bounds changes nothing.
func TestImportKeepsProfile(t *testing.T) {
	r := newRESTRig(t, nil)
	mustHave := func(nick, face string) {
		t.Helper()
		op := &directory.UserOp{Key: presence.Key{App: testApp, UserID: "a"}, Done: func(*directory.UserOp) {}}
		r.dir.User(op)
		if op.User.Nick != nick || op.User.FaceURL != face {
			t.Errorf("nick %.20q, face %.20q; want %.20q, %.20q", op.User.Nick, op.User.FaceURL, nick, face)
		}
	}
	r.post(importCommand, `{"UserID":"a","Nick":"A \u4e03","FaceUrl":"http://x"}`).want(t, 0)
	mustHave("A 七", "http://x")
	r.post(importCommand, `{"UserID":"a"}`).want(t, 0)
	r.post(multiCommand, `{"Accounts":["a"]}`).want(t, 0)
	mustHave("A 七", "http://x")
	r.post(importCommand, `{"UserID":"a","Nick":""}`).want(t, 0)
	mustHave("", "http://x")
	for _, member := range []string{"Nick", "FaceUrl"} {
		for n, code := range map[int]int{499: 0, 500: 0, 501: 70402} {
			a := r.post(importCommand, fmt.Sprintf(`{"UserID":"b","%s":"%s"}`, member, strings.Repeat("x", n))).want(t, code)
			if code != 0 && !strings.Contains(a.ErrorInfo, member+" has 501 bytes") {
				t.Errorf("%s: %q", member, a.ErrorInfo)
			}
		}
	}
	long := strings.Repeat("x", 500)
	r.post(importCommand, `{"UserID":"a","Nick":"`+long+`","FaceUrl":"`+long+`"}`).want(t, 0)
	r.post(importCommand, `{"UserID":"a","Nick":"new","FaceUrl":1}`).want(t, 70402)
	mustHave(long, long)
}

func TestImport(t *testing.T) {
	r := newRESTRig(t, nil)
	for _, body := range []string{
		`{"UserID":"a"}`, `{"UserID":"a"}`, `{"Identifier":"b","Nick":"n","FaceUrl":"http://x"}`, `{"UserID":"c","Nick":"","FaceUrl":""}`,
	} {
		r.post(importCommand, body).want(t, 0)
	}
	for _, id := range []string{"a", "b", "c"} {
		if got := r.status(id); got != "Offline" {
			t.Errorf("%s: %q", id, got)
		}
	}
	r.login("a", presence.Web, "d")
	r.post(importCommand, `{"UserID":"a"}`).want(t, 0)
	if got := r.status("a"); got != "Online" {
		t.Errorf("import of one who is Online made it %s", got)
	}
}

func TestMultiImport(t *testing.T) {
	r := newRESTRig(t, nil)
	a := r.post(multiCommand, `{"Accounts":["a","","b","é","a"]}`).want(t, 0)
	if want := []string{"", "é"}; !reflect.DeepEqual(a.FailAccounts, want) {
		t.Errorf("%s", a.raw)
	}
	if a = r.post(multiCommand, `{"AccountList":[{"UserID":"c","Nick":"n"},{"UserID":"d"}]}`).want(t, 0); a.FailAccounts == nil || len(a.FailAccounts) != 0 {
		t.Errorf("%s", a.raw)
	}
	for _, id := range []string{"a", "b", "c", "d"} {
		if got := r.status(id); got != "Offline" {
			t.Errorf("%s: %q", id, got)
		}
	}
	r.post(multiCommand, `{"Accounts":["e"],"AccountList":[{"UserID":"f"}]}`).want(t, 0)
	if r.status("e") != "Offline" || r.status("f") != "" {
		t.Error("Accounts must go before AccountList")
	}
	r.dir.set(func(m *meddler) { m.user = directory.CodeUnavailable })
	if a = r.post(multiCommand, `{"Accounts":["g"]}`).want(t, 70169); !reflect.DeepEqual(a.FailAccounts, []string{"g"}) {
		t.Errorf("%s", a.raw)
	}
	r.post(importCommand, `{"UserID":"g"}`).want(t, 70169)
}

func TestCheckAndDelete(t *testing.T) {
	r := newRESTRig(t, nil)
	r.post(multiCommand, `{"Accounts":["a","b"]}`).want(t, 0)
	r.login("c", presence.Android, "d")
	check := func(want ...resultItem) {
		t.Helper()
		a := r.post(checkCommand, `{"CheckItem":[{"UserID":"a"},{"UserID":"x"},{"UserID":"c"},{"UserID":"é"},{"UserID":"a"}]}`).want(t, 0)
		if !reflect.DeepEqual(a.ResultItem, want) {
			t.Errorf("got %+v\nwant %+v", a.ResultItem, want)
		}
	}
	imported := func(id string) resultItem { return resultItem{UserID: id, AccountStatus: "Imported"} }
	not := func(id string) resultItem { return resultItem{UserID: id, AccountStatus: "NotImported"} }
	check(imported("a"), not("x"), imported("c"), not("é"), imported("a"))

	unknown := func(id string) resultItem {
		return resultItem{UserID: id, ResultCode: 70107, ResultInfo: "Err_TLS_PT_Open_Login_Account_Not_Exist"}
	}
	a := r.post(deleteCommand, `{"DeleteItem":[{"UserID":"c"},{"UserID":"x"},{"UserID":"a"},{"UserID":""},{"UserID":"c"}]}`).want(t, 0)
	if want := []resultItem{{UserID: "c"}, unknown("x"), {UserID: "a"}, unknown(""), unknown("c")}; !reflect.DeepEqual(a.ResultItem, want) {
		t.Errorf("got %+v\nwant %+v", a.ResultItem, want)
	}
	check(not("a"), not("x"), not("c"), not("é"), not("a"))
	if r.status("c") != "" || r.status("b") != "Offline" {
		t.Error("deleted the wrong accounts")
	}
	a = r.post(deleteCommand, `{"DeleteItem":[{"UserID":"x"}]}`).want(t, 0)
	if !reflect.DeepEqual(a.ResultItem, []resultItem{unknown("x")}) {
		t.Errorf("%s", a.raw)
	}
	r.dir.set(func(m *meddler) { m.user = directory.CodeUnavailable })
	a = r.post(checkCommand, `{"CheckItem":[{"UserID":"b"}]}`).want(t, 0)
	if got := a.ResultItem[0]; got.ResultCode != 70169 || got.AccountStatus != "" || got.ResultInfo == "" {
		t.Errorf("%s", a.raw)
	}
}

// TestAccountsUnavailable: codes of whole calls pass through; internal ones do not.
func TestAccountsUnavailable(t *testing.T) {
	r := newRESTRig(t, nil)
	bodies := map[string]string{
		kickCommand: `{"UserID":"a"}`, importCommand: `{"UserID":"a"}`, multiCommand: `{"Accounts":["a"]}`,
		checkCommand: `{"CheckItem":[{"UserID":"a"}]}`, deleteCommand: `{"DeleteItem":[{"UserID":"a"}]}`,
	}
	for code, want := range map[int]int{directory.CodeUnavailable: 70169, directory.CodeUnknownApp: 70020, presence.CodeInstanceNotExist: 70500, 70500: 70500} {
		r.dir.set(func(m *meddler) { m.code = code })
		for command, body := range bodies {
			r.post(command, body).want(t, want)
		}
	}
}

// TestBatchLimits counts to the limit with both forms of lists.
func TestBatchLimits(t *testing.T) {
	r := newRESTRig(t, nil)
	for _, n := range []int{maxBatch - 1, maxBatch, maxBatch + 1} {
		texts, objects := make([]string, n), make([]map[string]string, n)
		for i := range n {
			texts[i] = fmt.Sprintf("u%d", i)
			objects[i] = map[string]string{"UserID": texts[i]}
		}
		for _, c := range []struct {
			command, member string
			list            any
		}{
			{multiCommand, "Accounts", texts}, {multiCommand, "AccountList", objects},
			{checkCommand, "CheckItem", objects}, {deleteCommand, "DeleteItem", objects},
		} {
			body, err := json.Marshal(map[string]any{c.member: c.list})
			if err != nil {
				t.Fatal(err)
			}
			a := r.post(c.command, string(body))
			if n > maxBatch {
				if a.want(t, 70402); !strings.Contains(a.ErrorInfo, "101") {
					t.Errorf("%s: %q", c.member, a.ErrorInfo)
				}
				continue
			}
			if a.want(t, 0); a.ResultItem != nil && len(a.ResultItem) != n {
				t.Errorf("%s of %d: %d results", c.member, n, len(a.ResultItem))
			}
		}
	}
}
