package api

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestDocumentIsValid(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Error(err)
	}
}

// Every console route is documented with its parameters, and every documented
// console operation is a route.
func TestRoutesAreDocumented(t *testing.T) {
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	known := map[string]*route{}
	for i := range routes {
		known[routes[i].method+" "+consolePrefix+routes[i].path] = &routes[i]
	}
	for path, item := range doc.Paths.Map() {
		if !strings.HasPrefix(path, consolePrefix) {
			continue
		}
		for method, op := range item.Operations() {
			rt := known[method+" "+path]
			if rt == nil {
				t.Errorf("%s %s is documented and no route", method, path)
				continue
			}
			delete(known, method+" "+path)
			var query []string
			for _, p := range op.Parameters {
				if p.Value.In == "query" {
					query = append(query, p.Value.Name)
				}
			}
			if fmt.Sprint(query) != fmt.Sprint(rt.query) || (op.RequestBody != nil) != rt.body {
				t.Errorf("%s %s: documented query %v and body %v, the route has %v and %v", method, path, query, op.RequestBody != nil, rt.query, rt.body)
			}
			for _, p := range item.Parameters {
				if !strings.Contains(rt.path, "{"+p.Value.Name+"}") {
					t.Errorf("%s: has no path parameter %s", path, p.Value.Name)
				}
			}
			if op.Security == nil || len(*op.Security) != 1 {
				t.Errorf("%s %s: does not say that it needs the token", method, path)
			}
		}
	}
	for name := range known {
		t.Errorf("%s is a route and not documented", name)
	}
}

// Every console operation answers well once; rig.call holds each answer to the document.
func TestEveryOperation(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.Backup = func(string) error { return nil }
		o.Nodes = func() []NodeInfo {
			return []NodeInfo{{Node: 3, Version: "v", StartedMS: 5, Loops: 2, Links: map[string]int{"native": 1}}}
		}
	})
	in := r.login(rigApp, "alice", presence.Android, "d1")
	for _, c := range []struct {
		status             int
		method, path, body string
	}{
		{200, "GET", "/console/v1/apps", ""},
		{200, "GET", "/console/v1/apps?limit=1&after=1", ""},
		{201, "POST", "/console/v1/apps", `{"SDKAppID":2}`},
		{200, "GET", appPath(""), ""},
		{200, "PATCH", appPath(""), `{"Name":"商店 n","QueryIPhoneName":"IPhone","MacPushOnline":true,"ExpiryEvent":true,"CloseOnSigEnd":true,"AllowedIPs":["10.0.0.0/8","::1"],"AllowedOrigins":["https://chat.example.com","*.example.org"]}`},
		{200, "GET", appPath(""), ""},
		{200, "PUT", appPath("/policy"), `{"Preset":"triple","Limits":{"Web":3}}`},
		{200, "PUT", appPath("/policy"), `{"Preset":"single","Enforce":"now"}`},
		{200, "GET", appPath("/policy"), ""},
		{200, "POST", appPath("/policy/dry-run"), `{"Preset":"single"}`},
		{200, "PUT", appPath("/webhook"), `{"URL":"https://h.example/x","Token":"t","TimeoutMS":100,"GiveUpMS":1000,"StatusOnly":true,"BatchEvents":100,"Coalesce":true,"PullEvents":true}`},
		{200, "GET", appPath("/webhook"), ""},
		{200, "GET", appPath("/webhook/dead-letters?limit=2"), ""},
		{200, "POST", appPath("/webhook/dead-letters/replay"), `{"All":true}`},
		{200, "POST", appPath("/webhook/dead-letters/skip"), `{"IDs":[1]}`},
		{200, "GET", appPath("/events"), ""},
		{200, "PUT", appPath("/timeouts"), `{"Mobile":{"HeartbeatMS":1000,"SilenceMS":2000},"PushRetentionMS":0,"TicketTTLMS":60000}`},
		{200, "GET", appPath("/timeouts"), ""},
		{200, "PUT", appPath("/limits"), `{"CallsPerSecond":0.5,"BatchCallsPerSecond":0}`},
		{200, "GET", appPath("/limits"), ""},
		{201, "POST", appPath("/keys"), `{}`},
		{200, "GET", appPath("/keys"), ""},
		{204, "DELETE", appPath("/keys/1"), ""},
		{200, "PUT", appPath("/administrators"), `{"Administrators":["root"]}`},
		{200, "GET", appPath("/administrators"), ""},
		{200, "GET", appPath("/users?status=Online&limit=50"), ""},
		{200, "GET", appPath("/users/alice"), ""},
		{200, "POST", appPath("/users/alice/kick"), fmt.Sprintf(`{"InstID":%d}`, in.InstID)},
		{200, "POST", appPath("/users/alice/kick"), `{"All":true}`},
		{200, "GET", "/console/v1/nodes", ""},
		{204, "POST", "/console/v1/store/backup", `{"Dir":"/a/copy/that/is/not/there"}`},
	} {
		r.want(c.status, c.method, c.path, c.body)
	}
	for i := range routes {
		if name := routes[i].method + " " + routes[i].path; !r.seen[name] {
			t.Errorf("%s was not exercised", name)
		}
	}
}

func TestConsoleFaults(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.CheckWebhookURL = func(url string) error {
			if !strings.HasPrefix(url, "https://") {
				return errors.New("must be https here")
			}
			return nil
		}
	})
	r.login(rigApp, "alice", presence.Web, "d1")
	long := strings.Repeat("x", 33)
	eleven := `["a","b","c","d","e","f","g","h","i","j","k"]`
	many := `["10.0.0.1"` + strings.Repeat(`,"10.0.0.1"`, 100) + `]`
	for _, c := range []struct {
		name, method, path, body string
		status                   int
		code, text               string
	}{
		{"no such path", "GET", "/console/v1/", "", 404, "NotFound", ""},
		{"no such call", "GET", "/console/v1/app", "", 404, "NotFound", ""},
		{"more behind a path", "GET", appPath("/policy/x"), "", 404, "NotFound", ""},
		{"slash at the end", "GET", appPath("/"), "", 404, "NotFound", "empty part"},
		{"empty part", "GET", "/console/v1//apps", "", 404, "NotFound", "empty part"},
		{"unknown app", "GET", "/console/v1/apps/7", "", 404, "NotFound", "SDKAppID 7"},
		{"unknown app, change", "PUT", "/console/v1/apps/7/limits", "{}", 404, "NotFound", "SDKAppID 7"},
		{"unknown app, bad webhook", "PUT", "/console/v1/apps/7/webhook", `{"URL":"http://h"}`, 404, "NotFound", "SDKAppID 7"},
		{"unknown app, users", "GET", "/console/v1/apps/7/users", "", 404, "NotFound", "SDKAppID 7"},
		{"unknown app, user", "GET", "/console/v1/apps/7/users/alice", "", 404, "NotFound", "SDKAppID 7"},
		{"unknown app, kick", "POST", "/console/v1/apps/7/users/alice/kick", `{"All":true}`, 404, "NotFound", "SDKAppID 7"},
		{"unknown app, dry run", "POST", "/console/v1/apps/7/policy/dry-run", `{"Preset":"dual"}`, 404, "NotFound", "SDKAppID 7"},
		{"unknown user", "GET", appPath("/users/bob"), "", 404, "NotFound", `"bob"`},
		{"unknown user, kick", "POST", appPath("/users/bob/kick"), `{"All":true}`, 404, "NotFound", `"bob"`},
		{"unknown instance", "POST", appPath("/users/alice/kick"), `{"InstID":99}`, 404, "NotFound", "instance 99"},
		{"unknown key", "DELETE", appPath("/keys/9"), "", 404, "NotFound", "key 9"},
		{"method", "DELETE", appPath("/policy"), "", 405, "MethodNotAllowed", "GET, PUT"},
		{"method of a list", "PUT", "/console/v1/apps", "{}", 405, "MethodNotAllowed", "GET, POST"},
		{"OPTIONS", "OPTIONS", "/console/v1/nodes", "", 405, "MethodNotAllowed", "GET"},

		{"SDKAppID 0", "GET", "/console/v1/apps/0", "", 400, "BadRequest", `"0"`},
		{"SDKAppID text", "GET", "/console/v1/apps/x", "", 400, "BadRequest", `"x"`},
		{"SDKAppID with zeros", "GET", "/console/v1/apps/01", "", 400, "BadRequest", `"01"`},
		{"SDKAppID too high", "GET", "/console/v1/apps/4294967296", "", 400, "BadRequest", "4294967295"},
		{"SDKAppID highest", "GET", "/console/v1/apps/4294967295", "", 404, "NotFound", "4294967295"},
		{"KeyID text", "DELETE", appPath("/keys/a"), "", 400, "BadRequest", `"a"`},
		{"UserID too long", "GET", appPath("/users/" + long), "", 400, "BadRequest", "1 to 32"},
		{"UserID as long as may be", "GET", appPath("/users/" + long[1:]), "", 404, "NotFound", ""},
		{"UserID with a control byte", "GET", appPath("/users/a%0A"), "", 400, "BadRequest", "printable"},
		{"UserID not ASCII", "GET", appPath("/users/%C3%A9"), "", 400, "BadRequest", "printable"},
		{"bad percent", "GET", appPath("/users/%zz"), "", 400, "BadRequest", "%zz"},
		{"cut percent", "GET", appPath("/users/a%2"), "", 400, "BadRequest", "%2"},
		{"fragment", "GET", appPath("/users/a#b"), "", 400, "BadRequest", "#"},
		{"unknown parameter", "GET", appPath("?verbose=1"), "", 400, "BadRequest", `"verbose"`},
		{"parameter twice", "GET", appPath("/users?limit=1&limit=2"), "", 400, "BadRequest", "2 times"},
		{"parameter badly encoded", "GET", appPath("/users?limit=%z"), "", 400, "BadRequest", "query"},
		{"limit 0", "GET", appPath("/users?limit=0"), "", 400, "BadRequest", "1 to 1000"},
		{"limit 1001", "GET", appPath("/users?limit=1001"), "", 400, "BadRequest", "1 to 1000"},
		{"limit text", "GET", appPath("/users?limit=x"), "", 400, "BadRequest", `"x"`},
		{"status", "GET", appPath("/users?status=Offline"), "", 400, "BadRequest", `"Offline"`},
		{"cursor", "GET", appPath("/users?after=what"), "", 400, "BadRequest", `"what"`},
		{"cursor too long", "GET", appPath("/users?after=" + strings.Repeat("0", 257)), "", 400, "BadRequest", "257 bytes"},
		{"limit of apps", "GET", "/console/v1/apps?limit=1001", "", 400, "BadRequest", "1 to 1000"},
		{"cursor of apps", "GET", "/console/v1/apps?after=x", "", 400, "BadRequest", `"x"`},
		{"body where none is", "GET", appPath(""), "{}", 400, "BadRequest", "2 bytes"},

		{"no body", "PUT", appPath("/limits"), "", 400, "BadRequest", "not JSON"},
		{"no JSON", "PUT", appPath("/limits"), "{", 400, "BadRequest", "not JSON"},
		{"null", "PUT", appPath("/limits"), "null", 400, "BadRequest", "null"},
		{"array", "PUT", appPath("/limits"), "[]", 400, "BadRequest", "JSON object"},
		{"number", "PUT", appPath("/limits"), "1", 400, "BadRequest", "JSON object"},
		{"two objects", "PUT", appPath("/limits"), "{}{}", 400, "BadRequest", "goes on"},
		{"unknown member", "PUT", appPath("/limits"), `{"Calls":1}`, 400, "BadRequest", `"Calls"`},
		{"member in other letters", "PUT", appPath("/limits"), `{"callsPerSecond":1}`, 400, "BadRequest", `"callsPerSecond"`},
		{"member twice", "PUT", appPath("/limits"), `{"CallsPerSecond":1,"CallsPerSecond":2}`, 400, "BadRequest", "twice"},
		{"member below", "PUT", appPath("/timeouts"), `{"Web":{"heartbeat":1}}`, 400, "BadRequest", `"heartbeat" in Web`},
		{"null member", "PUT", appPath("/limits"), `{"CallsPerSecond":null}`, 400, "BadRequest", "null"},
		{"null element", "PUT", appPath("/administrators"), `{"Administrators":[null]}`, 400, "BadRequest", "null"},
		{"string for a number", "PUT", appPath("/limits"), `{"CallsPerSecond":"1"}`, 400, "BadRequest", "CallsPerSecond: got string, want a number"},
		{"fraction for a whole number", "PUT", appPath("/timeouts"), `{"TicketTTLMS":60000.5}`, 400, "BadRequest", "whole number"},
		{"object for a list", "PUT", appPath("/administrators"), `{"Administrators":{"a":1}}`, 400, "BadRequest", "want an array"},
		{"deep nonsense", "PUT", appPath("/limits"), `{"CallsPerSecond":` + strings.Repeat("[", 500) + strings.Repeat("]", 500) + `}`, 400, "BadRequest", "want a number"},
		{"SDKAppID negative", "POST", "/console/v1/apps", `{"SDKAppID":-1}`, 400, "BadRequest", "4294967295"},

		{"body too large", "PUT", appPath("/limits"), "{" + strings.Repeat(" ", maxConsoleBody), 413, "TooLarge", "65536"},

		{"app exists", "POST", "/console/v1/apps", fmt.Sprintf(`{"SDKAppID":%d}`, rigApp), 409, "Conflict", "exists"},
		{"the only key", "DELETE", appPath("/keys/1"), "", 409, "Conflict", "only one"},
		{"secret that is there", "POST", appPath("/keys"), fmt.Sprintf(`{"Secret":%q}`, rigSecret), 409, "Conflict", "key 1"},

		{"no SDKAppID", "POST", "/console/v1/apps", `{"Name":"x"}`, 422, "Invalid", "SDKAppID"},
		{"name too long", "POST", "/console/v1/apps", `{"SDKAppID":5,"Name":"` + strings.Repeat("x", 65) + `"}`, 422, "Invalid", "64"},
		{"name too long in bytes", "PATCH", appPath(""), `{"Name":"` + strings.Repeat("é", 33) + `"}`, 422, "Invalid", "64 bytes"},
		{"name with a line break", "PATCH", appPath(""), `{"Name":"a\nb"}`, 422, "Invalid", "name"},
		{"secret short", "POST", appPath("/keys"), `{"Secret":"hunter2hunter2h"}`, 422, "Invalid", "15 bytes"},
		{"secret with a space", "POST", appPath("/keys"), `{"Secret":"hunter2 hunter2 hunter2"}`, 422, "Invalid", "without spaces"},
		{"secret long", "POST", appPath("/keys"), `{"Secret":"` + strings.Repeat("s", 257) + `"}`, 422, "Invalid", "257 bytes"},
		{"no administrators", "PUT", appPath("/administrators"), `{}`, 422, "Invalid", "got 0"},
		{"11 administrators", "PUT", appPath("/administrators"), `{"Administrators":` + eleven + `}`, 422, "Invalid", "got 11"},
		{"administrator twice", "PUT", appPath("/administrators"), `{"Administrators":["a","a"]}`, 422, "Invalid", "twice"},
		{"administrator no UserID", "POST", "/console/v1/apps", `{"SDKAppID":5,"Administrators":["é"]}`, 422, "Invalid", "UserID"},
		{"iPhone name", "PATCH", appPath(""), `{"QueryIPhoneName":"i\"Phone"}`, 422, "Invalid", "letters"},
		{"iPhone name long", "PATCH", appPath(""), `{"QueryIPhoneName":"` + strings.Repeat("i", 17) + `"}`, 422, "Invalid", "16"},
		{"allowed IP", "PATCH", appPath(""), `{"AllowedIPs":["10.0.0"]}`, 422, "Invalid", `"10.0.0"`},
		{"allowed network with host bits", "PATCH", appPath(""), `{"AllowedIPs":["10.0.0.1/8"]}`, 422, "Invalid", "10.0.0.0/8"},
		{"allowed origin with a path", "PATCH", appPath(""), `{"AllowedOrigins":["https://a.example/"]}`, 422, "Invalid", `"https://a.example/"`},
		{"allowed origin of a wrong type", "PATCH", appPath(""), `{"AllowedOrigins":"https://a.example"}`, 400, "BadRequest", "AllowedOrigins"},
		{"101 allowed IPs", "PATCH", appPath(""), `{"AllowedIPs":` + many + `}`, 422, "Invalid", "got 101"},
		{"webhook refused", "PUT", appPath("/webhook"), `{"URL":"http://h"}`, 422, "Invalid", "must be https here"},
		{"webhook URL no URL", "PUT", appPath("/webhook"), `{"URL":"https://"}`, 422, "Invalid", "https with a host"},
		{"webhook URL long", "PUT", appPath("/webhook"), `{"URL":"https://` + strings.Repeat("h", 1017) + `"}`, 422, "Invalid", "1025 bytes"},
		{"webhook token long", "PUT", appPath("/webhook"), `{"Token":"` + strings.Repeat("t", 257) + `"}`, 422, "Invalid", "257 bytes"},
		{"webhook token with a space", "PUT", appPath("/webhook"), `{"Token":"a b"}`, 422, "Invalid", "without spaces"},
		{"webhook time-out", "PUT", appPath("/webhook"), `{"TimeoutMS":99}`, 422, "Invalid", "got 99"},
		{"silence below twice the heartbeat", "PUT", appPath("/timeouts"), `{"Web":{"HeartbeatMS":40000}}`, 422, "Invalid", "2 x heartbeat"},
		{"heartbeat whose double overflows", "PUT", appPath("/timeouts"), `{"Web":{"HeartbeatMS":9223372036854775807}}`, 422, "Invalid", "2 x heartbeat"},
		{"ticket too short", "PUT", appPath("/timeouts"), `{"TicketTTLMS":59999}`, 422, "Invalid", "59999"},
		{"rate negative", "PUT", appPath("/limits"), `{"CallsPerSecond":-1}`, 422, "Invalid", "CallsPerSecond"},
		{"rate too high", "PUT", appPath("/limits"), `{"BatchCallsPerSecond":1000000001}`, 422, "Invalid", "BatchCallsPerSecond"},
		{"no preset", "PUT", appPath("/policy"), `{}`, 422, "Invalid", "Preset"},
		{"preset", "PUT", appPath("/policy"), `{"Preset":"one"}`, 422, "Invalid", `"one"`},
		{"preset with groups", "PUT", appPath("/policy"), `{"Preset":"dual","Groups":[["Web"]]}`, 422, "Invalid", "custom"},
		{"platform in no group", "PUT", appPath("/policy"), `{"Preset":"custom","Groups":[["Web"]]}`, 422, "Invalid", "Android is in no group"},
		{"platform of no name", "PUT", appPath("/policy"), `{"Preset":"custom","Groups":[["Phone"]]}`, 422, "Invalid", `"Phone"`},
		{"MiniProgram", "PUT", appPath("/policy"), `{"Preset":"dual","Limits":{"MiniProgram":2}}`, 422, "Invalid", "counts as Web"},
		{"limit above the ceiling", "PUT", appPath("/policy"), `{"Preset":"dual","Limits":{"Web":11}}`, 422, "Invalid", "1 to 10"},
		{"limit on the ceiling of others", "POST", appPath("/policy/dry-run"), `{"Preset":"dual","Limits":{"Mac":2}}`, 422, "Invalid", "Mac"},
		{"enforce", "PUT", appPath("/policy"), `{"Preset":"dual","Enforce":"later"}`, 422, "Invalid", `"later"`},
		{"enforce in a dry run", "POST", appPath("/policy/dry-run"), `{"Preset":"dual","Enforce":"now"}`, 400, "BadRequest", `"Enforce"`},
		{"kick nobody", "POST", appPath("/users/alice/kick"), `{}`, 422, "Invalid", "All"},
		{"kick one and all", "POST", appPath("/users/alice/kick"), `{"InstID":1,"All":true}`, 422, "Invalid", "All"},
		{"kick InstID 0", "POST", appPath("/users/alice/kick"), `{"InstID":0}`, 422, "Invalid", "InstID 0"},
		{"kick InstID too high", "POST", appPath("/users/alice/kick"), `{"InstID":2147483648}`, 422, "Invalid", "2147483647"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r.TB = t
			before := r.dir.App(rigApp)
			v := r.want(c.status, c.method, c.path, c.body)
			e, _ := v["Error"].(map[string]any)
			if text, _ := e["Text"].(string); e["Code"] != c.code || !strings.Contains(text, c.text) {
				t.Errorf("error %v, want %s with %q", e, c.code, c.text)
			}
			if strings.Contains(fmt.Sprint(v), "hunter2") {
				t.Errorf("the error shows a secret: %v", v)
			}
			if r.dir.App(rigApp) != before || len(r.dir.Apps()) != 1 {
				t.Error("a refused call changed something")
			}
		})
	}
	r.TB = t
}

func TestUnknownAppEverywhere(t *testing.T) {
	r := newRig(t)
	for i := range routes {
		if rt := &routes[i]; rt.method == "GET" && strings.Contains(rt.path, "{SDKAppID}") {
			path := strings.NewReplacer("{SDKAppID}", "7", "{UserID}", "alice").Replace(rt.path)
			r.want(404, "GET", consolePrefix+path, "")
		}
	}
}

func TestAllowHeader(t *testing.T) {
	r := newRig(t)
	if a := r.call("DELETE", appPath("/keys"), ""); string(a.header.Peek("Allow")) != "GET, POST" {
		t.Errorf("Allow: %q", a.header.Peek("Allow"))
	}
}

func TestBodyBound(t *testing.T) {
	r := newRig(t)
	for n, status := range map[int]int{maxConsoleBody - 1: 200, maxConsoleBody: 200, maxConsoleBody + 1: 413} {
		body := "{" + strings.Repeat(" ", n-2) + "}"
		r.want(status, "PUT", appPath("/limits"), body)
	}
}

func TestHeadIsGet(t *testing.T) {
	r := newRig(t)
	if a := r.send(adminRequest{method: "HEAD", target: appPath("")}); a.status != 200 {
		t.Errorf("status %d", a.status)
	}
}

// The raw path counts: what is encoded in a UserID separates nothing, and
// nothing is cleaned away.
func TestRawPaths(t *testing.T) {
	r := newRig(t)
	for raw, user := range map[string]string{
		"a%2Fb":             "a/b",
		"%2F":               "/",
		"..":                "..",
		".":                 ".",
		"%2E%2E":            "..",
		"..%2F..%2Fnodes":   "../../nodes",
		"%25":               "%",
		"%252F":             "%2F",
		"a+b":               "a+b",
		"a%20b":             "a b",
		"%3F":               "?",
		"%23":               "#",
		"a%3Fstatus=Online": "a?status=Online",
		"kick":              "kick",
		"a%5Cb":             `a\b`,
		"%3Cb%3E&;=":        "<b>&;=",
		"policy":            "policy",
		"~%22'":             `~"'`,
	} {
		in := r.login(rigApp, user, presence.Web, "d")
		v := r.want(200, "GET", appPath("/users/"+raw), "")
		if v["UserID"] != user || len(v["Instances"].([]any)) != 1 {
			t.Errorf("%s: got %v, want user %q", raw, v, user)
		}
		r.want(200, "POST", appPath("/users/"+raw+"/kick"), fmt.Sprintf(`{"InstID":%d}`, in.InstID))
		if v := r.want(200, "GET", appPath("/users/"+raw), ""); v["Status"] != "Offline" {
			t.Errorf("%s: %v after the kick", raw, v["Status"])
		}
	}
	r.want(200, "GET", "http://some.host:7781"+appPath(""), "")
	r.want(404, "GET", appPath("/users/a/../../policy"), "")
	for _, target := range []string{"*", "http://h", "http://h?x", "nodes"} {
		if a := r.send(adminRequest{method: "GET", target: target}); a.status != 400 && a.status != 404 {
			t.Errorf("target %q: status %d", target, a.status)
		}
	}
}

func FuzzRawPath(f *testing.F) {
	r := newRig(f)
	f.Add("GET", "/users/%2F..%2f")
	f.Add("POST", "/users/%00/kick?limit=%")
	f.Add("DELETE", "//keys/1#")
	f.Add("GET", "/users?after=%FF&limit=1")
	f.Fuzz(func(t *testing.T, method, rest string) {
		if strings.ContainsFunc(method, func(c rune) bool { return c < 'A' || c > 'Z' }) || method == "" || method == "CONNECT" ||
			strings.ContainsFunc(rest, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			t.Skip("no request line")
		}
		r.TB = t
		if a := r.call(method, appPath(rest), ""); a.status >= 500 || a.status < 200 {
			t.Errorf("status %d: %s", a.status, a.body)
		}
	})
}

// A directory that does not answer holds a call up for CallTimeout and no longer.
func TestConsoleDeadline(t *testing.T) {
	r := newRig(t)
	hanging := &hangingDirectory{Directory: r.dir, entered: make(chan struct{})}
	r.s.dir = hanging
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/limits", "{}"},
		{"PUT", "/policy", `{"Preset":"dual","Enforce":"now"}`},
		{"POST", "/policy/dry-run", `{"Preset":"dual"}`},
		{"GET", "/users", ""},
		{"GET", "/users/alice", ""},
		{"POST", "/users/alice/kick", `{"All":true}`},
	} {
		got := make(chan consoleAnswer)
		go func() { got <- r.call(c.method, appPath(c.path), c.body) }()
		<-hanging.entered
		r.clock.Advance(maxSweepWait)
		a := <-got
		if a.status != 503 || len(a.header.Peek("Retry-After")) == 0 || !strings.Contains(a.body, "Unavailable") {
			t.Errorf("%s %s: %d %s", c.method, c.path, a.status, a.body)
		}
	}
}

// hangingDirectory takes operations and never ends them.
type hangingDirectory struct {
	directory.Directory
	entered chan struct{}
}

func (d *hangingDirectory) enter()                           { d.entered <- struct{}{} }
func (d *hangingDirectory) UpdateApp(*directory.UpdateAppOp) { d.enter() }
func (d *hangingDirectory) DryRun(*directory.DryRunOp)       { d.enter() }
func (d *hangingDirectory) Users(*directory.UsersOp)         { d.enter() }
func (d *hangingDirectory) User(*directory.UserOp)           { d.enter() }
func (d *hangingDirectory) Kick(*directory.KickOp)           { d.enter() }

// What the directory cannot do now is 503.
func TestConsoleUnavailable(t *testing.T) {
	r := newRig(t)
	r.s.dir = &brokenDirectory{r.dir}
	for _, c := range []struct{ method, path, body string }{
		{"PUT", "/limits", "{}"},
		{"POST", "/policy/dry-run", `{"Preset":"dual"}`},
		{"GET", "/users", ""},
		{"GET", "/users/alice", ""},
		{"POST", "/users/alice/kick", `{"All":true}`},
	} {
		r.want(503, c.method, appPath(c.path), c.body)
	}
}

// brokenDirectory answers each operation with CodeUnavailable.
type brokenDirectory struct{ directory.Directory }

func (brokenDirectory) UpdateApp(op *directory.UpdateAppOp) {
	op.Err = &directory.Error{Code: directory.CodeUnavailable, Text: "broken"}
	op.Done(op)
}
func (brokenDirectory) DryRun(op *directory.DryRunOp) {
	op.Code = directory.CodeUnavailable
	op.Done(op)
}
func (brokenDirectory) Users(op *directory.UsersOp) {
	op.Code = directory.CodeUnavailable
	op.Done(op)
}
func (brokenDirectory) User(op *directory.UserOp) { op.Code = directory.CodeUnavailable; op.Done(op) }
func (brokenDirectory) Kick(op *directory.KickOp) { op.Code = directory.CodeUnavailable; op.Done(op) }

// Updates of different settings at once all take effect.
func TestConsoleConcurrentUpdates(t *testing.T) {
	r := newRig(t)
	before := r.dir.App(rigApp).Version
	bodies := []struct{ path, body string }{
		{"", `{"Name":"new"}`}, {"", `{"ExpiryEvent":true}`}, {"", `{"MacPushOnline":true}`},
		{"/limits", `{"CallsPerSecond":1}`}, {"/limits", `{"BatchCallsPerSecond":2}`},
		{"/timeouts", `{"TicketTTLMS":60000}`}, {"/webhook", `{"Token":"t"}`}, {"/webhook", `{"URL":"https://h"}`},
	}
	var wg sync.WaitGroup
	for _, b := range bodies {
		wg.Go(func() {
			method := "PUT"
			if b.path == "" {
				method = "PATCH"
			}
			if a := r.send(adminRequest{method: method, target: appPath(b.path), body: b.body}); a.status != 200 {
				t.Errorf("%s %s: %s", b.path, b.body, a.body)
			}
		})
	}
	wg.Wait()
	a := r.dir.App(rigApp)
	if a.Version != before+uint64(len(bodies)) {
		t.Errorf("version %d, want %d", a.Version, before+uint64(len(bodies)))
	}
	if a.Name != "new" || !a.ExpiryEvent || !a.MacPushOnline || a.Limits != (directory.Limits{CallsPerSecond: 1, BatchCallsPerSecond: 2}) ||
		a.Timeouts.TicketTTLMS != 60000 || a.Webhook.Token != "t" || a.Webhook.URL != "https://h" {
		t.Errorf("an update was lost: %+v", a)
	}
}
