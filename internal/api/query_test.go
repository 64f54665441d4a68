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

// queryBody makes a body that asks for ids.
func queryBody(t testing.TB, ids []string, flags string) string {
	t.Helper()
	b, err := json.Marshal(ids)
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf(`{"To_Account":%s%s}`, b, flags)
}

// TestQueryAnswer holds one answer to the bytes of the specification's example.
func TestQueryAnswer(t *testing.T) {
	r := newRESTRig(t, func(o *Options, a *directory.App) { a.Policy, _ = presence.Preset("multi") })
	phone := r.login("id1", presence.IPhone, "d1")
	r.clock.Advance(time.Second)
	r.login("id1", presence.Web, "d2")
	r.lose("id1", phone)
	r.post(importCommand, `{"UserID":"id2"}`).want(t, 0)
	for flags, want := range map[string]string{
		``: `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"QueryResult":[` +
			`{"To_Account":"id1","Status":"Online","State":"Online"},{"To_Account":"id2","Status":"Offline","State":"Offline"}],` +
			`"ErrorList":[{"To_Account":"id4","ErrorCode":70107}]}`,
		`,"IsNeedDetail":1`: `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"QueryResult":[` +
			`{"To_Account":"id1","Status":"Online","State":"Online","Detail":[{"Platform":"iPhone","Status":"PushOnline"},{"Platform":"Web","Status":"Online"}]},` +
			`{"To_Account":"id2","Status":"Offline","State":"Offline"}],"ErrorList":[{"To_Account":"id4","ErrorCode":70107}]}`,
		`,"IsNeedDetail":1,"IsReturnInstid":1,"IsReturnCustomStatus":1`: `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"QueryResult":[` +
			`{"To_Account":"id1","Status":"Online","State":"Online","Detail":[{"Platform":"iPhone","Status":"PushOnline","Instid":1},{"Platform":"Web","Status":"Online","Instid":2}],"CustomStatus":""},` +
			`{"To_Account":"id2","Status":"Offline","State":"Offline","CustomStatus":""}],"ErrorList":[{"To_Account":"id4","ErrorCode":70107}]}`,
		`,"IsReturnInstid":1`: `{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0,"QueryResult":[` +
			`{"To_Account":"id1","Status":"Online","State":"Online"},{"To_Account":"id2","Status":"Offline","State":"Offline"}],` +
			`"ErrorList":[{"To_Account":"id4","ErrorCode":70107}]}`,
	} {
		body := queryBody(t, []string{"id1", "id2", "id4"}, flags)
		if got := r.post(queryCommand, body).raw; got != want {
			t.Errorf("%s:\n got %s\nwant %s", flags, got, want)
		}
		if got := r.post("openim/querystate", body).raw; got != want {
			t.Errorf("querystate %s:\n got %s\nwant %s", flags, got, want)
		}
	}
}

// TestQueryFlags: only the number 1 turns a flag on.
func TestQueryFlags(t *testing.T) {
	r := newRESTRig(t, nil)
	r.login("u", presence.Web, "d")
	for value, on := range map[string]bool{
		"1": true, "1.0": true, "10e-1": true, "0": false, "2": false, "-1": false, "true": false, `"1"`: false, "null": false, "[1]": false, "{}": false,
	} {
		a := r.post(queryCommand, queryBody(t, []string{"u"}, `,"IsNeedDetail":`+value)).want(t, 0)
		if got := a.QueryResult[0].Detail != nil; got != on {
			t.Errorf("IsNeedDetail %s: detail %v, want %v", value, got, on)
		}
	}
}

// TestQueryPlatforms: the spelling of each platform, and which keep PushOnline.
func TestQueryPlatforms(t *testing.T) {
	r := newRESTRig(t, nil)
	for p, want := range map[presence.Platform]string{
		presence.Android: "Android", presence.IPhone: "iPhone", presence.IPad: "iPad", presence.HarmonyOS: "HarmonyOS", presence.Windows: "PC",
		presence.Mac: "Mac", presence.Linux: "Linux", presence.Web: "Web", presence.MiniProgram: "Web",
	} {
		user := "on " + p.String()
		in := r.login(user, p, "d")
		body := queryBody(t, []string{user}, `,"IsNeedDetail":1`)
		online := r.post(queryCommand, body).want(t, 0).QueryResult
		if want := []queryItem{{To_Account: user, Status: "Online", State: "Online", Detail: []detailItem{{Platform: want, Status: "Online"}}}}; !reflect.DeepEqual(online, want) {
			t.Errorf("%v online: %+v", p, online)
		}
		r.lose(user, in)
		lost := queryItem{To_Account: user, Status: "Offline", State: "Offline"}
		if p.Class() == presence.Mobile {
			lost = queryItem{To_Account: user, Status: "PushOnline", State: "PushOnline", Detail: []detailItem{{Platform: want, Status: "PushOnline"}}}
		}
		a := r.post(queryCommand, body).want(t, 0)
		if !reflect.DeepEqual(a.QueryResult, []queryItem{lost}) {
			t.Errorf("%v lost: %+v", p, a.QueryResult)
		}
		if lost.Detail == nil && strings.Contains(a.raw, "Detail") {
			t.Errorf("%v: an Offline user has Detail: %s", p, a.raw)
		}
	}
}

// The largest legal query, every byte of it escaped, is within the default bound of a body.
func TestLargestQueryFits(t *testing.T) {
	r := newRESTRig(t, nil)
	escaped := func(s string) string {
		var b strings.Builder
		for i := range len(s) {
			fmt.Fprintf(&b, `\u%04x`, s[i])
		}
		return `"` + b.String() + `"`
	}
	ids := make([]string, maxQuery)
	for i := range ids {
		ids[i] = escaped(fmt.Sprintf("%0*d", presence.MaxUserID, i))
	}
	body := fmt.Sprintf("{%s: [%s], %s: 1, %s: 1, %s: 1}", escaped("To_Account"), strings.Join(ids, ", "),
		escaped("IsNeedDetail"), escaped("IsReturnInstid"), escaped("IsReturnCustomStatus"))
	r.login(fmt.Sprintf("%0*d", presence.MaxUserID, maxQuery-1), presence.Web, "d")
	a := r.post(queryCommand, body).want(t, 0)
	if len(a.QueryResult) != 1 || len(a.ErrorList) != maxQuery-1 {
		t.Errorf("a query of %d bytes: %d results, %d errors", len(body), len(a.QueryResult), len(a.ErrorList))
	}
	if limit := r.server.opts.MaxBody; len(body) < limit/2 {
		t.Errorf("the largest query has %d bytes: a bound of %d is more than is needed", len(body), limit)
	}
}

func TestQueryIPhoneSpelling(t *testing.T) {
	r := newRESTRig(t, func(o *Options, a *directory.App) { a.QueryIPhoneName = `I"Phone` })
	r.login("u", presence.IPhone, "d")
	r.login("v", presence.IPad, "d")
	a := r.post(queryCommand, queryBody(t, []string{"u", "v"}, `,"IsNeedDetail":1,"IsReturnInstid":1`)).want(t, 0)
	if got := a.QueryResult[0].Detail[0]; got.Platform != `I"Phone` || got.Status != "Online" || *got.Instid != 1 {
		t.Errorf("iPhone: %s", a.raw)
	}
	if got := a.QueryResult[1].Detail[0].Platform; got != "iPad" {
		t.Errorf("iPad: %s", a.raw)
	}
}

// TestQueryCustomStatus: told when asked, with or without detail.
func TestQueryCustomStatus(t *testing.T) {
	u := &directory.UserState{Status: presence.Offline, CustomStatus: "out \"to\" lunch\u00e9"}
	for _, detail := range []bool{false, true} {
		q := queryRequest{custom: true, detail: detail}
		var got queryItem
		if err := json.Unmarshal(q.appendResult(nil, "u", u, ""), &got); err != nil {
			t.Fatal(err)
		}
		if got.CustomStatus == nil || *got.CustomStatus != u.CustomStatus {
			t.Errorf("detail %v: %+v", detail, got)
		}
	}
}

// TestQueryAsksForDetail only when something of it is wanted.
func TestQueryAsksForDetail(t *testing.T) {
	r := newRESTRig(t, nil)
	for flags, want := range map[string]bool{
		``: false, `,"IsReturnInstid":1`: false, `,"IsNeedDetail":1`: true, `,"IsReturnCustomStatus":1`: true,
	} {
		r.post(queryCommand, queryBody(t, []string{"u"}, flags))
		if r.dir.set(func(m *meddler) {}); r.dir.full != want {
			t.Errorf("%s: asked for detail %v", flags, r.dir.full)
		}
	}
}

// TestQueryOrder: results and errors keep the order of the request, duplicates
// are answered as often as asked, and what is no UserID is unknown.
func TestQueryOrder(t *testing.T) {
	r := newRESTRig(t, nil)
	r.login("a", presence.Web, "d")
	r.post(multiCommand, `{"Accounts":["b","c"]}`).want(t, 0)
	ids := []string{"c", "", "x", "a", "x", "b", "a", strings.Repeat("z", 33), "é", "c", "a\x00"}
	a := r.post(queryCommand, queryBody(t, ids, "")).want(t, 0)
	var found, failed []string
	for _, q := range a.QueryResult {
		found = append(found, q.To_Account)
	}
	for _, e := range a.ErrorList {
		failed = append(failed, e.To_Account)
		if e.ErrorCode != 70107 {
			t.Errorf("%q: %d", e.To_Account, e.ErrorCode)
		}
	}
	if want := []string{"c", "a", "b", "a", "c"}; !reflect.DeepEqual(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
	if want := []string{"", "x", "x", strings.Repeat("z", 33), "é", "a\x00"}; !reflect.DeepEqual(failed, want) {
		t.Errorf("failed %q, want %q", failed, want)
	}
}

// TestQueryAllUnknown: a failure, with the lists all the same.
func TestQueryAllUnknown(t *testing.T) {
	r := newRESTRig(t, nil)
	for _, ids := range [][]string{{"x"}, {"x", "y"}, {""}, {"", "x", "é"}} {
		a := r.post(queryCommand, queryBody(t, ids, `,"IsNeedDetail":1`)).want(t, 70107)
		if a.QueryResult == nil || len(a.QueryResult) != 0 || len(a.ErrorList) != len(ids) {
			t.Errorf("%q: %s", ids, a.raw)
		}
	}
	a := r.post(importCommand, `{"UserID":"x"}`).want(t, 0)
	if a = r.post(queryCommand, queryBody(t, []string{"x"}, "")).want(t, 0); a.ErrorList == nil || len(a.ErrorList) != 0 {
		t.Errorf("no ErrorList: %s", a.raw)
	}
}

func TestQueryLimit(t *testing.T) {
	r := newRESTRig(t, nil)
	r.login("u", presence.Web, "d")
	for _, n := range []int{1, maxQuery - 1, maxQuery, maxQuery + 1, 10 * maxQuery} {
		ids := make([]string, n)
		for i := range ids {
			ids[i] = "u"
		}
		a := r.post(queryCommand, queryBody(t, ids, ""))
		if n <= maxQuery {
			if a.want(t, 0); len(a.QueryResult) != n {
				t.Errorf("%d ids: %d results", n, len(a.QueryResult))
			}
		} else if a.want(t, 90011); !strings.Contains(a.ErrorInfo, fmt.Sprint(n)) {
			t.Errorf("%d ids: %q", n, a.ErrorInfo)
		}
	}
}

// TestQueryEveryCharacter: each UserID of the alphabet comes back as it went in.
func TestQueryEveryCharacter(t *testing.T) {
	r := newRESTRig(t, nil)
	var ids []string
	for c := byte(0x20); c <= 0x7e; c++ {
		ids = append(ids, string(c), "a"+string(c)+"b")
	}
	for _, id := range ids {
		r.login(id, presence.Web, "d")
	}
	a := r.post(queryCommand, queryBody(t, ids, "")).want(t, 0)
	for i, q := range a.QueryResult {
		if q.To_Account != ids[i] || q.Status != "Online" {
			t.Errorf("%q came back as %+v", ids[i], q)
		}
	}
	if len(a.QueryResult) != len(ids) {
		t.Errorf("%d of %d", len(a.QueryResult), len(ids))
	}
	escaped := r.post(queryCommand, `{"To_Account":["\u0061\u0022b","a\/b"]}`).want(t, 0)
	if escaped.QueryResult[0].To_Account != `a"b` || escaped.QueryResult[1].To_Account != "a/b" {
		t.Errorf("%s", escaped.raw)
	}
}

// TestQueryLastMemberCounts: of two members of one name the last counts.
func TestQueryLastMemberCounts(t *testing.T) {
	r := newRESTRig(t, nil)
	r.login("a", presence.Web, "d")
	a := r.post(queryCommand, `{"To_Account":["x",1],"IsNeedDetail":1,"To_Account":["a"],"IsNeedDetail":0}`).want(t, 0)
	if len(a.QueryResult) != 1 || a.QueryResult[0].Detail != nil || len(a.ErrorList) != 0 {
		t.Errorf("%s", a.raw)
	}
}

// TestQueryUnavailable: users whose part of the directory is away are errors to
// retry on; if nobody was found, so is the call.
func TestQueryUnavailable(t *testing.T) {
	r := newRESTRig(t, nil)
	r.dir.set(func(m *meddler) { m.user = 90992 })
	a := r.post(queryCommand, `{"To_Account":["a",""]}`).want(t, 90992)
	if len(a.ErrorList) != 2 || a.ErrorList[0].ErrorCode != 90992 || a.ErrorList[1].ErrorCode != 70107 {
		t.Errorf("%s", a.raw)
	}
	r.dir.set(func(m *meddler) { m.user, m.code = 0, directory.CodeUnavailable })
	r.post(queryCommand, `{"To_Account":["a"]}`).want(t, 70169)
}

// TestQueryTimeout: a directory that does not answer costs the caller its
// deadline and not more; what it answers later disturbs nobody.
func TestQueryTimeout(t *testing.T) {
	r := newRESTRig(t, nil)
	r.login("a", presence.Web, "d")
	for _, tt := range []struct {
		command, body string
		want          int
	}{
		{queryCommand, `{"To_Account":["a","b"]}`, 91000},
		{kickCommand, `{"UserID":"nobody"}`, 70169},
		{importCommand, `{"UserID":"b"}`, 70169},
		{multiCommand, `{"Accounts":["b"]}`, 70169},
		{checkCommand, `{"CheckItem":[{"UserID":"a"}]}`, 70169},
		{deleteCommand, `{"DeleteItem":[{"UserID":"nobody"}]}`, 70169},
	} {
		held := make(chan struct{})
		r.dir.set(func(m *meddler) { m.hold, m.wait = true, held })
		answers := make(chan restAnswer, 1)
		go func() { answers <- r.post(tt.command, tt.body) }()
		<-held
		// The handler sets its timer after the directory took the op.
		advanceUntil(t, r, answers, tt.want)
		r.dir.release()
		a := r.post(queryCommand, `{"To_Account":["a"]}`).want(t, 0)
		if len(a.QueryResult) != 1 || a.QueryResult[0].To_Account != "a" {
			t.Errorf("after a late answer: %s", a.raw)
		}
	}
}

// advanceUntil moves the clock in steps until the answer comes.
func advanceUntil(t *testing.T, r *restRig, answers <-chan restAnswer, want int) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		r.clock.Advance(time.Second)
		select {
		case a := <-answers:
			if a.want(t, want); !strings.Contains(a.ErrorInfo, "retry") {
				t.Errorf("%q does not say to retry", a.ErrorInfo)
			}
			return
		case <-deadline:
			t.Fatal("no answer")
		case <-time.After(time.Millisecond):
		}
	}
}
