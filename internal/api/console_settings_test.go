package api

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// No answer but the one that creates a secret shows it.
func TestSecretsAreShownOnce(t *testing.T) {
	r := newRig(t)
	const token = "webhook-token-5309"
	created := r.want(201, "POST", "/console/v1/apps", `{"SDKAppID":2}`)
	random := created["Keys"].([]any)[0].(map[string]any)["Secret"].(string)
	if len(random) != 64 {
		t.Errorf("random secret has %d characters, want 64", len(random))
	}
	added := r.want(201, "POST", appPath("/keys"), `{"Secret":"another-secret-0815"}`)
	if added["Secret"] != "another-secret-0815" {
		t.Errorf("added key %v", added)
	}
	r.want(200, "PUT", appPath("/webhook"), fmt.Sprintf(`{"URL":"https://h","Token":%q}`, token))
	for i := range routes {
		if routes[i].method != "GET" || strings.Contains(routes[i].path, "{UserID}") {
			continue
		}
		for _, id := range []string{fmt.Sprint(rigApp), "2"} {
			a := r.call("GET", consolePrefix+strings.Replace(routes[i].path, "{SDKAppID}", id, 1), "")
			for _, secret := range []string{rigSecret, random, "another-secret-0815", token} {
				if strings.Contains(a.body, secret) {
					t.Errorf("GET %s shows a secret: %s", routes[i].path, a.body)
				}
			}
		}
	}
	if v := r.want(200, "GET", appPath("/webhook"), ""); v["TokenSet"] != true {
		t.Errorf("webhook %v", v)
	}
}

func TestTwoRandomKeysDiffer(t *testing.T) {
	a, _ := keySecret(nil)
	b, _ := keySecret(nil)
	if a == b || len(a) != 64 {
		t.Errorf("keys of %d characters, the same: %v", len(a), a == b)
	}
}

func TestConsoleKeyRotation(t *testing.T) {
	r := newRig(t)
	before := r.dir.App(rigApp)
	r.clock.Advance(time.Second)
	v := r.want(201, "POST", appPath("/keys"), `{}`)
	id := uint32(v["KeyID"].(float64))
	a := r.dir.App(rigApp)
	if len(a.Keys) != 2 || a.Keys[0].Secret != rigSecret || a.Keys[1].ID != id || a.Keys[1].CreatedMS != r.clock.Now().UnixMilli() {
		t.Errorf("keys after adding one: %+v", a.Keys)
	}
	if a.TicketEpoch != before.TicketEpoch {
		t.Error("adding a key must not revoke tickets")
	}
	r.want(409, "POST", appPath("/keys"), `{}`)

	r.want(204, "DELETE", appPath("/keys/1"), "")
	a = r.dir.App(rigApp)
	if len(a.Keys) != 1 || a.Keys[0].ID != id {
		t.Errorf("keys after retiring the old one: %+v", a.Keys)
	}
	if a.TicketEpoch != before.TicketEpoch+1 {
		t.Errorf("ticket epoch %d, want %d: retiring a key revokes tickets", a.TicketEpoch, before.TicketEpoch+1)
	}
	r.want(409, "DELETE", appPath(fmt.Sprintf("/keys/%d", id)), "")
}

// The number of a retired key is not given again, so that a late DELETE hits nobody else.
func TestKeyNumbersDoNotComeBack(t *testing.T) {
	r := newRig(t)
	seen := map[float64]bool{1: true}
	for range 5 {
		v := r.want(201, "POST", appPath("/keys"), `{}`)
		id := v["KeyID"].(float64)
		if seen[id] {
			t.Errorf("key number %v came back", id)
		}
		seen[id] = true
		r.want(204, "DELETE", appPath(fmt.Sprintf("/keys/%v", id)), "")
	}
}

func TestSecretLengths(t *testing.T) {
	for n, good := range map[int]bool{directory.MinSecret - 1: false, directory.MinSecret: true, directory.MinSecret + 1: true, directory.MaxSecret: true, directory.MaxSecret + 1: false} {
		secret := strings.Repeat("k", n)
		if _, err := keySecret(&secret); (err == nil) != good {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// What a change does not name stays.
func TestPartialChanges(t *testing.T) {
	r := newRig(t)
	r.want(200, "PUT", appPath("/webhook"), `{"URL":"https://h/x","Token":"t","StatusOnly":true}`)
	r.want(200, "PUT", appPath("/webhook"), `{"TimeoutMS":500}`)
	want := directory.Webhook{URL: "https://h/x", Token: "t", TimeoutMS: 500, GiveUpMS: 24 * 3600 * 1000, StatusOnly: true}
	if got := r.dir.App(rigApp).Webhook; got != want {
		t.Errorf("webhook %+v, want %+v", got, want)
	}
	r.want(200, "PUT", appPath("/webhook"), `{"URL":"","Token":""}`)
	if got := r.dir.App(rigApp).Webhook; got.URL != "" || got.Token != "" || got.TimeoutMS != 500 {
		t.Errorf("webhook %+v, want it off and unsigned", got)
	}

	base := r.dir.App(rigApp).Timeouts
	r.want(200, "PUT", appPath("/timeouts"), `{"Web":{"SilenceMS":90000},"PushRetentionMS":5}`)
	wantT := base
	wantT.Web.SilenceMS, wantT.PushRetentionMS = 90000, 5
	if got := r.dir.App(rigApp).Timeouts; got != wantT {
		t.Errorf("time-outs %+v, want %+v", got, wantT)
	}

	r.want(200, "PUT", appPath("/limits"), `{"BatchCallsPerSecond":0}`)
	if got := r.dir.App(rigApp).Limits; got != (directory.Limits{CallsPerSecond: 200}) {
		t.Errorf("limits %+v", got)
	}

	r.want(200, "PATCH", appPath(""), `{"AllowedIPs":["192.0.2.1","2001:db8::/32"],"MacPushOnline":true}`)
	v := r.want(200, "PATCH", appPath(""), `{"Name":"x"}`)
	if a := r.dir.App(rigApp); !a.MacPushOnline || a.Name != "x" || fmt.Sprint(v["AllowedIPs"]) != "[192.0.2.1/32 2001:db8::/32]" {
		t.Errorf("app %+v", v)
	}
	v = r.want(200, "PATCH", appPath(""), `{"AllowedOrigins":["https://a.example:8443","*.example.org"]}`)
	if a := r.dir.App(rigApp); fmt.Sprint(a.AllowedOrigins) != "[https://a.example:8443 *.example.org]" || fmt.Sprint(v["AllowedOrigins"]) != fmt.Sprint(a.AllowedOrigins) {
		t.Errorf("AllowedOrigins %v, answered %v", a.AllowedOrigins, v["AllowedOrigins"])
	}
	r.want(200, "PATCH", appPath(""), `{"AllowedIPs":[],"AllowedOrigins":[]}`)
	if a := r.dir.App(rigApp); len(a.AllowedIPs)+len(a.AllowedOrigins) != 0 || !a.MacPushOnline {
		t.Errorf("app %+v", a)
	}
}

func TestNewAppHasServerDefaults(t *testing.T) {
	r := newRig(t, func(o *Options) { o.NewApp = func(a *directory.App) { a.Limits.CallsPerSecond = 7 } })
	v := r.want(201, "POST", "/console/v1/apps", `{"SDKAppID":9,"Administrators":["root","second"]}`)
	a := r.dir.App(9)
	if a.Limits.CallsPerSecond != 7 || a.Limits.BatchCallsPerSecond != 100 || fmt.Sprint(a.Administrators) != "[root second]" || a.CreatedMS != r.clock.Now().UnixMilli() {
		t.Errorf("app %+v", a)
	}
	if v["Version"] != 1.0 {
		t.Errorf("version %v", v["Version"])
	}
}

func TestPolicyRoundTrip(t *testing.T) {
	r := newRig(t)
	groups := []any{[]any{"Android", "Mac"}, []any{"iPhone", "iPad", "HarmonyOS", "Windows"}, []any{"Linux", "Web"}}
	r.want(200, "PUT", appPath("/policy"), `{"Preset":"custom","Groups":[["Web","Linux"],["Mac","Android"],["iPhone","iPad","HarmonyOS","Windows"]],"Limits":{"Web":3,"Mac":2}}`)
	v := r.want(200, "GET", appPath("/policy"), "")
	if !reflect.DeepEqual(v["Groups"], groups) {
		t.Errorf("groups %v, want %v", v["Groups"], groups)
	}
	limits := v["Limits"].(map[string]any)
	if limits["Web"] != 3.0 || limits["Mac"] != 2.0 || limits["Android"] != 1.0 || len(limits) != 8 {
		t.Errorf("limits %v", limits)
	}
	if _, there := r.want(200, "PUT", appPath("/policy"), `{"Preset":"dual"}`)["Kicked"]; there {
		t.Error("Kicked is told without Enforce")
	}
}

// A change of policy kicks nobody until it is enforced; a dry run tells whom that would be.
func TestDryRunAndEnforce(t *testing.T) {
	r := newRig(t)
	r.want(200, "PUT", appPath("/policy"), `{"Preset":"multi","Limits":{"Web":3}}`)
	for i := range 4 {
		user := fmt.Sprintf("u%d", i)
		for d := range i {
			r.login(rigApp, user, presence.Web, fmt.Sprint("d", d))
		}
		r.login(rigApp, user, presence.Android, "phone")
	}
	r.createApp(2)
	r.login(2, "u3", presence.Web, "x")
	r.login(2, "u3", presence.Android, "y") // single: pushed the other out already

	v := r.want(200, "POST", appPath("/policy/dry-run"), `{"Preset":"dual"}`)
	if v["Users"] != 2.0 || v["Instances"] != 3.0 { // u2 loses 1 of 2 Web instances, u3 2 of 3
		t.Errorf("dry run of dual: %v, want 2 users, 3 instances", v)
	}
	if v := r.want(200, "POST", appPath("/policy/dry-run"), `{"Preset":"multi","Limits":{"Web":3}}`); v["Users"] != 0.0 || v["Instances"] != 0.0 {
		t.Errorf("dry run of the policy in force: %v", v)
	}
	r.want(200, "PUT", appPath("/policy"), `{"Preset":"dual"}`)
	if v := r.want(200, "GET", appPath("/users/u3"), ""); len(v["Instances"].([]any)) != 4 {
		t.Errorf("a policy change alone kicked: %v", v)
	}
	if v := r.want(200, "PUT", appPath("/policy"), `{"Preset":"dual","Enforce":"now"}`); v["Kicked"] != 3.0 {
		t.Errorf("enforced: %v, want 3 kicked", v)
	}
	if v := r.want(200, "GET", appPath("/users/u3"), ""); len(v["Instances"].([]any)) != 2 {
		t.Errorf("after the sweep: %v", v)
	}
	if v := r.want(200, "PUT", appPath("/policy"), `{"Preset":"dual","Enforce":"now"}`); v["Kicked"] != 0.0 {
		t.Errorf("a second sweep: %v, want nobody kicked", v)
	}
}

func TestCeilingsAreTheServers(t *testing.T) {
	r := newRig(t, func(o *Options) { o.Ceilings = presence.Ceilings{Web: 2} })
	for n, status := range map[int]int{1: 200, 2: 200, 3: 422} {
		r.want(status, "POST", appPath("/policy/dry-run"), fmt.Sprintf(`{"Preset":"dual","Limits":{"Web":%d}}`, n))
	}
}

// Whatever a policy's JSON holds, the answer is 200 with a policy that reads back, or an error.
func FuzzPolicyJSON(f *testing.F) {
	r := newRig(f)
	f.Add(`{"Preset":"dual"}`)
	f.Add(`{"Preset":"custom","Groups":[["Web","Linux"],["Mac","Android"],["iPhone","iPad","HarmonyOS","Windows"]],"Limits":{"Web":3}}`)
	f.Add(`{"Preset":"custom","Groups":[[[]]],"Limits":{"Web":1e400}}`)
	f.Add(`{"Preset":"multi","Limits":{"Web":{}},"Enforce":"now"}`)
	f.Fuzz(func(t *testing.T, body string) {
		r.TB = t
		a := r.send(adminRequest{method: "PUT", target: appPath("/policy"), body: body})
		switch a.status {
		case 200:
			r.checkDocumented("PUT", appPath("/policy"), body, a)
			p := r.dir.App(rigApp).Policy
			if err := p.Validate(presence.Ceilings{}); err != nil {
				t.Errorf("%s was taken: %v", body, err)
			}
		case 400, 413, 422:
		default:
			t.Errorf("%q: status %d: %s", body, a.status, a.body)
		}
	})
}
