package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// request is a call that a test row spoils.
type request struct {
	method, path, body string
	params             url.Values
}

func (q *request) target() string { return q.path + "?" + q.params.Encode() }

// sendSpoilt makes a good kick or query, spoils it and sends it.
func (r *restRig) sendSpoilt(command, body string, spoil ...func(*request)) restAnswer {
	r.t.Helper()
	q := &request{method: "POST", path: "/v4/" + command, body: body, params: r.params()}
	for _, s := range spoil {
		s(q)
	}
	return r.do(q.method, q.target(), q.body)
}

const (
	queryCommand  = "openim/query_online_status"
	kickCommand   = "im_open_login_svc/kick"
	importCommand = "im_open_login_svc/account_import"
	multiCommand  = "im_open_login_svc/multiaccount_import"
	checkCommand  = "im_open_login_svc/account_check"
	deleteCommand = "im_open_login_svc/account_delete"
)

// setParam and other small ways to spoil a request.
func setParam(name, value string) func(*request) {
	return func(q *request) { q.params.Set(name, value) }
}

func dropParam(name string) func(*request) { return func(q *request) { q.params.Del(name) } }

func setPath(path string) func(*request) { return func(q *request) { q.path = path } }

func setMethod(m string) func(*request) { return func(q *request) { q.method = m } }

func setBody(b string) func(*request) { return func(q *request) { q.body = b } }

func TestRESTCodes(t *testing.T) {
	r := newRESTRig(t, func(o *Options, a *directory.App) {
		a.Administrators = []string{testAdmin, "second admin"}
	})
	r.addApp(7, nil)
	r.addApp(8, func(a *directory.App) { a.Keys = nil })
	r.addApp(9, func(a *directory.App) { a.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")} })
	r.login("alice", presence.Android, "d1")
	for i, tt := range []struct {
		name    string
		command string
		spoil   func(*request)
		want    int
		says    string // part of ErrorInfo
	}{
		{"GET", queryCommand, setMethod("GET"), 60002, `"GET"`},
		{"PUT", kickCommand, setMethod("PUT"), 60002, `"PUT"`},
		{"root", queryCommand, setPath("/"), 60002, `"/"`},
		{"no version", queryCommand, setPath("/openim/querystate"), 60002, "openim"},
		{"other version", queryCommand, setPath("/v3/openim/querystate"), 60002, "/v3/"},
		{"no command", queryCommand, setPath("/v4/openim"), 60002, "/v4/openim"},
		{"empty command", queryCommand, setPath("/v4/openim/"), 60002, "/v4/openim/"},
		{"empty path", queryCommand, setPath("/v4/"), 60002, "/v4/"},
		{"path too deep", queryCommand, setPath("/v4/openim/querystate/x"), 60002, "/x"},
		{"unknown service", queryCommand, setPath("/v4/group/create"), 60009, "group/create"},
		{"unknown command", queryCommand, setPath("/v4/openim/sendmsg"), 60009, "openim/sendmsg"},
		{"command of the other service", queryCommand, setPath("/v4/openim/kick"), 60009, "openim/kick"},
		{"command in capitals", queryCommand, setPath("/v4/openim/QueryState"), 60009, "QueryState"},
		{"no sdkappid", queryCommand, dropParam("sdkappid"), 60012, "missing"},
		{"empty sdkappid", queryCommand, setParam("sdkappid", ""), 60012, "missing"},
		{"sdkappid in capitals", queryCommand, func(q *request) { q.params["SDKAppID"] = q.params["sdkappid"]; q.params.Del("sdkappid") }, 60012, "missing"},
		{"sdkappid no number", queryCommand, setParam("sdkappid", "14e8"), 60012, `"14e8"`},
		{"sdkappid negative", queryCommand, setParam("sdkappid", "-1"), 60012, `"-1"`},
		{"no identifier", queryCommand, dropParam("identifier"), 60004, "missing"},
		{"identifier in capitals", queryCommand, func(q *request) { q.params["Identifier"] = q.params["identifier"]; q.params.Del("identifier") }, 60004, "missing"},
		{"identifier with a control character", queryCommand, setParam("identifier", "a\x7f"), 60004, `"a\x7f"`},
		{"identifier of 33 bytes", queryCommand, setParam("identifier", strings.Repeat("a", 33)), 60004, "aaa"},
		{"identifier beyond ASCII", queryCommand, setParam("identifier", "é"), 60004, "é"},
		{"unknown app", queryCommand, setParam("sdkappid", "6"), 70020, "6"},
		{"app 0", queryCommand, setParam("sdkappid", "0"), 70020, "0"},
		{"app beyond 32 bits", queryCommand, setParam("sdkappid", "5694967296"), 70020, "5694967296"},
		{"app beyond 64 bits", queryCommand, setParam("sdkappid", "99999999999999999999"), 70020, "9999"},
		{"app without key", queryCommand, setParam("sdkappid", "8"), 70016, "8"},
		{"address not allowed", queryCommand, setParam("sdkappid", "9"), 60021, "192.0.2.1"},
		{"no usersig", queryCommand, dropParam("usersig"), 70002, testAdmin},
		{"usersig in capitals", queryCommand, func(q *request) { q.params["UserSig"] = q.params["usersig"]; q.params.Del("usersig") }, 70002, testAdmin},
		{"usersig malformed", queryCommand, setParam("usersig", "xxx"), 70003, "malformed"},
		{"usersig from the future", queryCommand, setParam("usersig", r.sigAt(testAdmin, testStart.Unix()+601)), 70003, "TLS.time"},
		{"usersig of another app", queryCommand, setParam("sdkappid", "7"), 70014, "1400000000"},
		{"usersig of another user", queryCommand, setParam("usersig", r.sig("alice")), 70013, "alice"},
		{"usersig with another key", queryCommand, setParam("usersig", mustSign(t, "other", testAdmin)), 70009, testAdmin},
		{"usersig expired", queryCommand, setParam("usersig", r.sigAt(testAdmin, testStart.Unix()-86401)), 70001, "expired"},
		{"not an administrator, openim", queryCommand, func(q *request) { setParam("identifier", "alice")(q); setParam("usersig", r.sig("alice"))(q) }, 90009, "alice"},
		{"not an administrator, accounts", kickCommand, func(q *request) { setParam("identifier", "alice")(q); setParam("usersig", r.sig("alice"))(q) }, 70403, "alice"},
		{"administrator in capitals", kickCommand, func(q *request) {
			setParam("identifier", "Administrator")(q)
			setParam("usersig", r.sig("Administrator"))(q)
		}, 70403, "Administrator"},
		{"second administrator", kickCommand, func(q *request) {
			setParam("identifier", "second admin")(q)
			setParam("usersig", r.sig("second admin"))(q)
			setBody(`{"UserID":"alice"}`)(q)
		}, 0, ""},

		{"no body, openim", queryCommand, setBody(""), 90001, "Fail to Parse json data of body, Please check it"},
		{"null, openim", queryCommand, setBody("null"), 90001, "Fail to Parse json data of body, Please check it"},
		{"array, openim", queryCommand, setBody(`[]`), 90001, "Fail to Parse json data of body, Please check it"},
		{"cut, openim", queryCommand, setBody(`{"To_Account":["a"]`), 90001, "Fail to Parse json data of body, Please check it"},
		{"trailing garbage, openim", queryCommand, setBody(`{"To_Account":["a"]}x`), 90001, "Fail to Parse"},
		{"no body, accounts", kickCommand, setBody(""), 60003, "object"},
		{"null, accounts", importCommand, setBody("null"), 60003, "null"},
		{"array, accounts", multiCommand, setBody(`[]`), 60003, "[]"},
		{"a string, accounts", checkCommand, setBody(`"{}"`), 60003, "object"},
		{"bad JSON, accounts", deleteCommand, setBody(`{"DeleteItem":}`), 60003, "DeleteItem"},
		{"nested too deep", kickCommand, setBody(`{"UserID":"alice","x":` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `}`), 60003, "deeper"},

		{"no To_Account", queryCommand, setBody(`{}`), 90001, "To_Account"},
		{"To_Account in lower case", queryCommand, setBody(`{"to_account":["alice"]}`), 90001, "To_Account is missing"},
		{"empty To_Account", queryCommand, setBody(`{"To_Account":[]}`), 90001, "empty"},
		{"To_Account a string", queryCommand, setBody(`{"To_Account":"alice"}`), 90003, "a string"},
		{"To_Account null", queryCommand, setBody(`{"To_Account":null}`), 90003, "null"},
		{"To_Account an object", queryCommand, setBody(`{"To_Account":{}}`), 90003, "an object"},
		{"an element is a number", queryCommand, setBody(`{"To_Account":["alice",1]}`), 90003, "To_Account[1] is a number"},
		{"an element is null", queryCommand, setBody(`{"To_Account":[null,"alice"]}`), 90003, "To_Account[0] is null"},
		{"an element is an array", queryCommand, setBody(`{"To_Account":[["alice"]]}`), 90003, "an array"},
		{"all unknown", queryCommand, setBody(`{"To_Account":["nobody"]}`), 70107, "nobody"},

		{"kick without a user", kickCommand, setBody(`{}`), 70402, "UserID"},
		{"kick in lower case", kickCommand, setBody(`{"userid":"alice"}`), 70402, "UserID"},
		{"kick of a number", kickCommand, setBody(`{"UserID":1}`), 70402, "a number"},
		{"kick of null by the old name", kickCommand, setBody(`{"Identifier":null}`), 70402, "Identifier is null"},
		{"kick of what is no UserID", kickCommand, setBody(`{"UserID":""}`), 70402, `""`},
		{"kick of 33 bytes", kickCommand, setBody(`{"UserID":"` + strings.Repeat("b", 33) + `"}`), 70402, "bbb"},
		{"kick of nobody", kickCommand, setBody(`{"UserID":"nobody"}`), 70107, "nobody"},
		{"import without a user", importCommand, setBody(`{"Nick":"n"}`), 70402, "UserID"},
		{"import with a bad nick", importCommand, setBody(`{"UserID":"x","Nick":1}`), 70402, "Nick is a number"},
		{"import with a bad face", importCommand, setBody(`{"UserID":"x","FaceUrl":{}}`), 70402, "FaceUrl is an object"},
		{"multi-import of nothing", multiCommand, setBody(`{}`), 70402, "Accounts is missing"},
		{"multi-import of none", multiCommand, setBody(`{"Accounts":[]}`), 70402, "empty"},
		{"multi-import of a string", multiCommand, setBody(`{"Accounts":"x"}`), 70402, "a string"},
		{"multi-import with a number", multiCommand, setBody(`{"Accounts":["x",2]}`), 70402, "Accounts[1] is a number"},
		{"multi-import with an empty object", multiCommand, setBody(`{"AccountList":[{}]}`), 70402, "AccountList[0]"},
		{"multi-import of none that can be", multiCommand, setBody(`{"Accounts":["","é"]}`), 70402, "none of the 2"},
		{"check of nothing", checkCommand, setBody(`{}`), 70402, "CheckItem is missing"},
		{"check of strings", checkCommand, setBody(`{"CheckItem":["alice"]}`), 70402, "CheckItem[0]"},
		{"check of a numeric user", checkCommand, setBody(`{"CheckItem":[{"UserID":"alice"},{"UserID":2}]}`), 70402, "CheckItem[1]"},
		{"delete of nothing", deleteCommand, setBody(`{}`), 70402, "DeleteItem is missing"},
		{"delete of null", deleteCommand, setBody(`{"DeleteItem":null}`), 70402, "null"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r.t = t
			r.mem.from("192.0.2.1")
			r.server.rest.failures = newFailureTable(100, r.metrics) // rows must not lock each other out
			r.client.CloseIdleConnections()
			a := r.sendSpoilt(tt.command, `{"To_Account":["alice"]}`, tt.spoil)
			if a.ErrorCode != tt.want || !strings.Contains(a.ErrorInfo, tt.says) {
				t.Errorf("row %d: got %d %q, want %d with %q", i, a.ErrorCode, a.ErrorInfo, tt.want, tt.says)
			}
		})
	}
	r.t = t
}

func mustSign(t testing.TB, secret, user string) string {
	t.Helper()
	s, err := usersig.Sign(secret, testApp, user, testStart.Unix(), 86400, nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestRESTOrder gives two faults at once: that of the earlier check is answered.
func TestRESTOrder(t *testing.T) {
	r := newRESTRig(t, func(o *Options, a *directory.App) {
		a.Limits.CallsPerSecond = 1
	})
	r.addApp(8, func(a *directory.App) {
		a.Keys = nil
		a.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24")}
	})
	asUser := func(q *request) { setParam("identifier", "bob")(q); setParam("usersig", r.sig("bob"))(q) }
	// The faults in the order of the checks.
	steps := []struct {
		name  string
		spoil func(*request)
		code  int
	}{
		{"method", setMethod("PATCH"), 60002},
		{"path", setPath("/v4/openim"), 60002},
		{"command", setPath("/v4/openim/nothing"), 60009},
		{"sdkappid", dropParam("sdkappid"), 60012},
		{"identifier", dropParam("identifier"), 60004},
		{"app", setParam("sdkappid", "6"), 70020},
		{"address and key", setParam("sdkappid", "8"), 60021},
		{"usersig", setParam("usersig", "xxx"), 70003},
		{"administrator", asUser, 90009},
		{"rate", nil, 60007},
		{"body", setBody("null"), 90001},
	}
	for i, early := range steps {
		for j := i + 1; j < len(steps); j++ {
			late := steps[j]
			if early.name == "administrator" && late.name == "rate" || early.name != "rate" && late.name == "rate" {
				continue // the rate is tested below: who is refused before it does not spend it
			}
			if early.name == "app" && late.name == "address and key" {
				continue // one parameter cannot have both
			}
			t.Run(early.name+" and "+late.name, func(t *testing.T) {
				r.t = t
				r.server.rest.failures = newFailureTable(100, r.metrics)
				r.server.rest.rates = rateLimits{}
				if early.name == "rate" {
					r.post(queryCommand, `{}`).want(t, 90001)
					r.post(queryCommand, `null`).want(t, 60007)
					return
				}
				// The late fault first, so that where both write the same parameter the early one stands.
				r.sendSpoilt(queryCommand, `{}`, late.spoil, early.spoil).want(t, early.code)
			})
		}
	}
	r.t = t
	r.server.rest.rates = rateLimits{}
	for range 3 {
		r.server.rest.failures = newFailureTable(100, r.metrics)
		r.sendSpoilt(queryCommand, `{}`, asUser).want(t, 90009)
		r.sendSpoilt(queryCommand, `{}`, setParam("usersig", "xxx")).want(t, 70003)
	}
	r.post(queryCommand, `{}`).want(t, 90001) // the one call of this second was not spent
}

// TestRESTTolerates: what clients get wrong without harm.
func TestRESTTolerates(t *testing.T) {
	r := newRESTRig(t, nil)
	r.login("alice", presence.Web, "d")
	body := `{"To_Account":["alice"],"Unknown":[{"To_Account":1}],"isneeddetail":1}`
	for name, spoil := range map[string]func(*request){
		"no random":                dropParam("random"),
		"odd random":               setParam("random", "-1e99"),
		"no contenttype":           dropParam("contenttype"),
		"odd contenttype":          setParam("contenttype", "xml"),
		"unknown parameter":        setParam("apn", "1"),
		"detail is no 0 or 1":      setBody(`{"To_Account":["alice"],"IsNeedDetail":"1"}`),
		"an unknown member is big": setBody(`{"To_Account":["alice"],"x":"` + strings.Repeat("y", 100_000) + `"}`),
	} {
		a := r.sendSpoilt(queryCommand, body, spoil).want(t, 0)
		if len(a.QueryResult) != 1 || a.QueryResult[0].Status != "Online" || a.QueryResult[0].Detail != nil {
			t.Errorf("%s: %s", name, a.raw)
		}
	}
}

// TestRESTContentTypes: any Content-Type may come with JSON, or none.
func TestRESTContentTypes(t *testing.T) {
	r := newRESTRig(t, nil)
	r.login("alice", presence.Web, "d")
	for _, ct := range []string{"", "application/json", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "nonsense"} {
		req, _ := http.NewRequest("POST", "http://r/v4/openim/querystate?"+r.params().Encode(), strings.NewReader(`{"To_Account":["alice"]}`))
		if ct != "" {
			req.Header.Set("Content-Type", ct)
		}
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		a := restAnswer{raw: readAll(t, res), status: res.StatusCode, header: res.Header}
		checkEnvelope(t, &a)
		a.want(t, 0)
	}
}

func TestRESTOptions(t *testing.T) {
	r := newRESTRig(t, nil)
	for _, path := range []string{"/v4/openim/querystate", "/", "/anything"} {
		req, _ := http.NewRequest("OPTIONS", "http://r"+path, nil)
		res, err := r.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if body := readAll(t, res); res.StatusCode != 204 || body != "" || res.Header.Get("Access-Control-Allow-Origin") != "*" || res.Header.Get("Access-Control-Allow-Methods") != "POST" {
			t.Errorf("%s: %d %q %v", path, res.StatusCode, body, res.Header)
		}
	}
}

// TestRESTCounters: each call is counted once by command and code.
func TestRESTCounters(t *testing.T) {
	r := newRESTRig(t, nil)
	r.post(kickCommand, `{"UserID":"nobody"}`).want(t, 70107)
	r.sendSpoilt(kickCommand, `{}`, setPath("/v4/x/y")).want(t, 60009)
	for name, want := range map[string]uint64{
		`rollcall_rest_calls_total{command="kick",code="70107"}`: 1,
		`rollcall_rest_calls_total{command="kick",code="0"}`:     0,
		`rollcall_rest_calls_total{command="none",code="60009"}`: 1,
	} {
		if got := r.metrics.Counter(name).Get(); got != want {
			t.Errorf("%s = %d, want %d", name, got, want)
		}
	}
}

// TestRESTAllCodesAreCounted: the table of counters has every code that the test
// table provokes, so none ends in "other".
func TestRESTAllCodesAreCounted(t *testing.T) {
	known := make(map[int]bool)
	for _, code := range restCodes {
		if known[code] {
			t.Errorf("code %d is listed twice", code)
		}
		known[code] = true
	}
	for _, code := range []int{
		int(usersig.Expired), int(usersig.Empty), int(usersig.Malformed), int(usersig.Mismatch), int(usersig.OtherUser), int(usersig.OtherApp),
		presence.CodeAccountNotExist, directory.CodeUnavailable, directory.CodeUnknownApp, directory.CodeBadRequest, directory.CodeConflict,
	} {
		if !known[code] {
			t.Errorf("code %d is not in restCodes", code)
		}
	}
}

// TestRESTPanic: a bug of ours costs its caller an error, not the node its links.
func TestRESTPanic(t *testing.T) {
	r := newRESTRig(t, nil)
	r.server.dir = panicking{r.dir}
	r.post(kickCommand, `{"UserID":"alice"}`).want(t, 70500)
	if n := r.server.rest.panics.Get(); n != 1 {
		t.Errorf("%d panics counted", n)
	}
	r.server.dir = r.dir
	r.post(kickCommand, `{"UserID":"alice"}`).want(t, 70107)
}

type panicking struct{ directory.Directory }

func (panicking) Kick(*directory.KickOp) { panic("a bug") }

func ExampleOptions() {
	_, err := New(Options{})
	fmt.Println(err)
	// Output: api: Options.Directory is required
}
