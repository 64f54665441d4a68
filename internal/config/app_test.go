package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestApps(t *testing.T) {
	c, err := load("", "", `
node: 2
apps:
  - SDKAppID: 7
    Name: 七 seven
    KeyFile: key
    Administrators: [root, "a b"]
    Policy: {Preset: multi, Limits: {Web: 10, Mac: 3}}
    Webhook: {URL: "https://h/x", Token: t}
  - SDKAppID: 4294967295
    Key: 0123456789abcdef
`)
	if err != nil {
		t.Fatal(err)
	}
	a, b := c.Apps[0], c.Apps[1]
	if a.SDKAppID != 7 || a.Name != "七 seven" || a.Key != DevKey || len(a.Administrators) != 2 || a.WebhookURL != "https://h/x" || a.WebhookToken != "t" {
		t.Errorf("first app %+v", a)
	}
	if a.Policy.Limit(presence.Web) != 10 || a.Policy.Limit(presence.Mac) != 3 || a.Policy.Preset != "multi" {
		t.Errorf("policy %+v", a.Policy)
	}
	if b.SDKAppID != 1<<32-1 || b.Key != "0123456789abcdef" || b.Administrators[0] != "administrator" || b.Policy.Preset != "single" {
		t.Errorf("second app %+v", b)
	}
}

func TestAppFaults(t *testing.T) {
	eleven := strings.Repeat("x,", 10) + "x"
	for _, c := range []struct{ name, app, want string }{
		{"no SDKAppID", "Name: x", "SDKAppID is missing"},
		{"SDKAppID 0", "SDKAppID: 0", "SDKAppID is missing or 0"},
		{"SDKAppID too high", "SDKAppID: 4294967296", `rollcall.yaml:2: apps: SDKAppID "4294967296": want a number, 0 to 4294967295`},
		{"SDKAppID negative", "SDKAppID: -1", `rollcall.yaml:2: apps: SDKAppID "-1"`},
		{"SDKAppID text", "SDKAppID: x", `rollcall.yaml:2: apps: SDKAppID "x"`},
		{"unknown member", "SDKAppID: 1, Keys: [x]", `rollcall.yaml:2: apps: unknown member "Keys", want one of SDKAppID, Name, Key, KeyFile, Administrators, Policy, Webhook`},
		{"member in other letters", "SDKAppID: 1, name: x", `rollcall.yaml:2: apps: unknown member "name"`},
		{"unknown member below", "SDKAppID: 1, Webhook: {Url: x}", `rollcall.yaml:2: apps: Webhook: unknown member "Url", want one of URL, Token, TokenFile`},
		{"member twice", "SDKAppID: 1, Name: x, Name: y", `rollcall.yaml:2: apps: "Name" is already given at line 2`},
		{"name too long", "SDKAppID: 1, Name: " + strings.Repeat("n", 65), "at most 64"},
		{"name with a line break", `SDKAppID: 1, Name: "a\nb"`, "printable"},
		{"no administrators", "SDKAppID: 1, Administrators: []", "got 0, want 1 to 10"},
		{"11 administrators", "SDKAppID: 1, Administrators: [" + eleven + "]", "got 11, want 1 to 10"},
		{"administrator twice", "SDKAppID: 1, Administrators: [a, a]", `"a" stands there twice`},
		{"administrator no UserID", `SDKAppID: 1, Administrators: ["é"]`, "not a valid UserID"},
		{"key short", "SDKAppID: 1, Key: hunter2hunter2h", "has 15 bytes, want 16 to 256"},
		{"key long", "SDKAppID: 1, Key: " + strings.Repeat("k", 257), "has 257 bytes"},
		{"key with a space", "SDKAppID: 1, Key: hunter2 hunter2 hunter2", "without spaces"},
		{"key and file", "SDKAppID: 1, Key: hunter2hunter2hu, KeyFile: key", "want one"},
		{"key file missing", "SDKAppID: 1, KeyFile: nope", "nope"},
		{"preset", "SDKAppID: 1, Policy: {Preset: one}", `preset "one"`},
		{"groups", "SDKAppID: 1, Policy: {Preset: custom, Groups: [[Web]]}", "Android is in no group"},
		{"limit above the ceiling", "SDKAppID: 1, Policy: {Limits: {Web: 11}}", "1 to 10"},
		{"limit no number", "SDKAppID: 1, Policy: {Limits: {Web: x}}", `rollcall.yaml:2: apps: Policy: Limits: Web "x": want a number`},
		{"token long", "SDKAppID: 1, Webhook: {Token: " + strings.Repeat("t", 257) + "}", "webhook token"},
		{"twice", "SDKAppID: 1}\n  - {SDKAppID: 1", "SDKAppID 1 is already defined at rollcall.yaml:2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := load("", "", "apps:\n  - {"+c.app+"}\n")
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			if IsUsage(err) || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "rollcall.yaml") {
				t.Errorf("error %q: usage %v, or it shows a secret, or not the file", err, IsUsage(err))
			}
		})
	}
}

// Faults of a file's shape are told all at once, in the words of the file.
func TestShapeFaults(t *testing.T) {
	_, err := load("", "", `
listen-nativ: ":1"
node: [1]
apps:
  - {Nmae: shop, SDKAppID: x}
  - Key: [hunter2]
    Webhook: hunter2
  - Administrators: root
    Policy: {Groups: [Web], Limits: [Web], Preset: {a: b}}
`)
	want := `rollcall.yaml:2: unknown setting "listen-nativ"
rollcall.yaml:3: node: want a single value
rollcall.yaml:5: apps: unknown member "Nmae", want one of SDKAppID, Name, Key, KeyFile, Administrators, Policy, Webhook
rollcall.yaml:5: apps: SDKAppID "x": want a number, 0 to 4294967295
rollcall.yaml:6: apps: Key: want a single value
rollcall.yaml:7: apps: Webhook: want members: URL, Token, TokenFile
rollcall.yaml:8: apps: Administrators: want a list
rollcall.yaml:9: apps: Policy: Groups: want a list
rollcall.yaml:9: apps: Policy: Limits: want members, like {Web: 3}
rollcall.yaml:9: apps: Policy: Preset: want a single value`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestShapeFaultsBounded(t *testing.T) {
	for _, n := range []int{maxFaults - 1, maxFaults, maxFaults + 1} {
		_, err := load("", "", "apps: [{SDKAppID: x}]\n"+unknown(n-1))
		if got := strings.Count(fmt.Sprint(err), "\n") + 1; err == nil || got != min(n, maxFaults) {
			t.Errorf("%d faults: %d are told, want %d", n, got, min(n, maxFaults))
		}
	}
}

func unknown(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "x%d: 1\n", i)
	}
	return b.String()
}

func TestAppLimitsFollowCeilings(t *testing.T) {
	const app = "apps: [{SDKAppID: 1, Policy: {Limits: {Web: 11, Mac: 2}}}]\n"
	if _, err := load("", "", app+"policy-max-web: 11\npolicy-max-native-elsewhere: 2"); err != nil {
		t.Error(err)
	}
}

func TestNumberOfApps(t *testing.T) {
	for n, ok := range map[int]bool{maxApps - 1: true, maxApps: true, maxApps + 1: false} {
		entries := make([]appEntry, n)
		for i := range entries {
			entries[i].SDKAppID = uint32(i + 1)
		}
		if _, err := resolveApps(entries, presence.Ceilings{}, files(nil)); (err == nil) != ok {
			t.Errorf("%d apps: %v", n, err)
		}
	}
}

func TestSecretBounds(t *testing.T) {
	for n, ok := range map[int]bool{minToken - 1: false, minToken: true, minToken + 1: true, maxToken - 1: true, maxToken: true, maxToken + 1: false} {
		if err := checkSecret("token", strings.Repeat("k", n), minToken, maxToken); (err == nil) != ok {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// Whatever the file holds, Load answers with an error or with settings that hold
// their bounds, and never panics.
func FuzzYAML(f *testing.F) {
	f.Add("node: 3\nlisten-api: off\n")
	f.Add("apps:\n  - {SDKAppID: 7, KeyFile: key, Policy: {Preset: custom, Groups: [[Web]], Limits: {Web: 3}}}\n")
	f.Add("a: &a [*a]\n")
	f.Add("apps: &x [{SDKAppID: 1}]\nnode: *x\n")
	f.Add("dev: true\nlisten-native: :0\n<<: {node: 2}\n")
	f.Add("---\n...\n---\n")
	f.Fuzz(func(t *testing.T, yaml string) {
		c, err := load("", "", yaml)
		if err != nil {
			if IsUsage(err) {
				t.Errorf("a fault of the file is no fault of the command line: %v", err)
			}
			return
		}
		if c.Node < 1 || c.Node > 65535 || c.AdminToken != token || c.SyncInterval > time.Minute || c.RestartGrace > time.Hour {
			t.Errorf("settings out of bounds: %+v", c)
		}
		seen := map[string]bool{}
		for _, a := range c.Apps {
			if id := fmt.Sprint(a.SDKAppID); a.SDKAppID == 0 || seen[id] || a.Policy.Validate(c.Ceilings) != nil {
				t.Errorf("app out of bounds: %+v", a)
			} else {
				seen[id] = true
			}
		}
	})
}
