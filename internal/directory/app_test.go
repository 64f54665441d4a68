package directory

import (
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestValidate(t *testing.T) {
	if err := NewApp(1).Validate(); err != nil {
		t.Fatalf("a new app: %v", err)
	}
	for name, c := range map[string]struct {
		change func(*App)
		want   string // "" = valid
	}{
		"id 0":                 {func(a *App) { a.SDKAppID = 0 }, "SDKAppID must not be 0"},
		"2 keys":               {func(a *App) { a.Keys = make([]Key, 2) }, ""},
		"3 keys":               {func(a *App) { a.Keys = make([]Key, 3) }, "at most 2 keys, got 3"},
		"no administrators":    {func(a *App) { a.Administrators = nil }, "administrators: got 0, want 1 to 10"},
		"10 administrators":    {func(a *App) { a.Administrators = strings.Split("a b c d e f g h i j", " ") }, ""},
		"11 administrators":    {func(a *App) { a.Administrators = strings.Split("a b c d e f g h i j k", " ") }, "got 11"},
		"administrator twice":  {func(a *App) { a.Administrators = []string{"a", "b", "a"} }, `"a" stands there twice`},
		"name":                 {func(a *App) { a.Name = "七 seven" }, ""},
		"name too long":        {func(a *App) { a.Name = strings.Repeat("n", 65) }, "at most 64 bytes"},
		"name with a break":    {func(a *App) { a.Name = "a\nb" }, "printable"},
		"odd administrator":    {func(a *App) { a.Administrators = []string{"t\tb"} }, `"t\tb" is not a valid UserID`},
		"heartbeat 999 ms":     {func(a *App) { a.Timeouts.Web.HeartbeatMS = 999 }, "web: heartbeat interval must be at least 1 s"},
		"heartbeat 1 s":        {func(a *App) { a.Timeouts.Web.HeartbeatMS = 1000 }, ""},
		"silence 2 x less 1":   {func(a *App) { a.Timeouts.Desktop.SilenceMS = 239_999 }, "desktop: silence time-out must be at least 2 x"},
		"silence 2 x":          {func(a *App) { a.Timeouts.Desktop.SilenceMS = 240_000 }, ""},
		"silence 24 h":         {func(a *App) { a.Timeouts.Mobile.SilenceMS = dayMS }, ""},
		"silence above 24 h":   {func(a *App) { a.Timeouts.Mobile.SilenceMS = dayMS + 1 }, "mobile: heartbeat interval"},
		"no retention":         {func(a *App) { a.Timeouts.PushRetentionMS = 0 }, ""},
		"retention below 0":    {func(a *App) { a.Timeouts.PushRetentionMS = -1 }, "0 to 365 days, got -1 ms"},
		"retention 365 days":   {func(a *App) { a.Timeouts.PushRetentionMS = 365 * dayMS }, ""},
		"retention above":      {func(a *App) { a.Timeouts.PushRetentionMS = 365*dayMS + 1 }, "0 to 365 days"},
		"ticket 1 minute":      {func(a *App) { a.Timeouts.TicketTTLMS = minuteMS }, ""},
		"ticket below":         {func(a *App) { a.Timeouts.TicketTTLMS = minuteMS - 1 }, "got 59999 ms"},
		"ticket above":         {func(a *App) { a.Timeouts.TicketTTLMS = 365*dayMS + 1 }, "1 minute to 365 days"},
		"webhook 100 ms":       {func(a *App) { a.Webhook.TimeoutMS = 100 }, ""},
		"webhook 99 ms":        {func(a *App) { a.Webhook.TimeoutMS = 99 }, "webhook time-out must be 100 to 60000 ms, got 99"},
		"webhook above":        {func(a *App) { a.Webhook.TimeoutMS = minuteMS + 1 }, "got 60001"},
		"give up 1 s":          {func(a *App) { a.Webhook.GiveUpMS = 1000 }, ""},
		"give up below":        {func(a *App) { a.Webhook.GiveUpMS = 999 }, "1 s to 30 days, got 999 ms"},
		"give up above":        {func(a *App) { a.Webhook.GiveUpMS = 30*dayMS + 1 }, "1 s to 30 days"},
		"webhook URL":          {func(a *App) { a.Webhook.URL = "https://example.com/hook?x=1" }, ""},
		"webhook URL, scheme":  {func(a *App) { a.Webhook.URL = "ftp://example.com/" }, "must be http or https with a host"},
		"webhook URL, no host": {func(a *App) { a.Webhook.URL = "http:///hook" }, "must be http or https with a host"},
		"webhook URL, odd":     {func(a *App) { a.Webhook.URL = "http://[::1" }, "webhook URL cannot be parsed"},
	} {
		a := NewApp(1)
		c.change(a)
		err := a.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

// Every number is refused outside its bounds, however far outside, and named.
func TestValidateNumbers(t *testing.T) {
	class := func(name string, of func(*Timeouts) *ClassTimeouts) []bounded {
		return []bounded{
			{name + ": heartbeat", func(a *App) *int64 { return &of(&a.Timeouts).HeartbeatMS }, 1000, 0},
			{name + ": silence", func(a *App) *int64 { return &of(&a.Timeouts).SilenceMS }, 0, dayMS},
		}
	}
	all := slices.Concat(
		class("mobile", func(t *Timeouts) *ClassTimeouts { return &t.Mobile }),
		class("desktop", func(t *Timeouts) *ClassTimeouts { return &t.Desktop }),
		class("web", func(t *Timeouts) *ClassTimeouts { return &t.Web }),
		[]bounded{
			{"retention", func(a *App) *int64 { return &a.Timeouts.PushRetentionMS }, 0, 365 * dayMS},
			{"ticket lifetime", func(a *App) *int64 { return &a.Timeouts.TicketTTLMS }, minuteMS, 365 * dayMS},
			{"webhook time-out", func(a *App) *int64 { return &a.Webhook.TimeoutMS }, 100, minuteMS},
			{"webhook give-up age", func(a *App) *int64 { return &a.Webhook.GiveUpMS }, 1000, 30 * dayMS},
		},
	)
	for _, b := range all {
		low, high := b.bounds()
		for _, v := range []int64{math.MinInt64, math.MinInt64 + 1, -1 << 32, low - 1, low, low + 1, high - 1, high, high + 1, math.MaxInt64/2 + 1, math.MaxInt64 - 1, math.MaxInt64} {
			a := NewApp(1)
			*b.field(a) = v
			err := a.Validate()
			good := v >= low && v <= high
			if (err == nil) != good || err != nil && !strings.Contains(err.Error(), fmt.Sprint(v)) {
				t.Errorf("%s %d, allowed %d to %d: %v", b.name, v, low, high, err)
			}
		}
	}
}

// bounded is a number of an app with its bounds. Those of a heartbeat interval
// and of its silence time-out depend on the other one: 0 stands for that.
type bounded struct {
	name      string
	field     func(*App) *int64
	low, high int64
}

func (b *bounded) bounds() (low, high int64) {
	name, what, _ := strings.Cut(b.name, ": ")
	of := map[string]ClassTimeouts{"mobile": NewApp(1).Timeouts.Mobile, "desktop": NewApp(1).Timeouts.Desktop, "web": NewApp(1).Timeouts.Web}
	switch what {
	case "heartbeat":
		return b.low, of[name].SilenceMS / 2
	case "silence":
		return 2 * of[name].HeartbeatMS, b.high
	}
	return b.low, b.high
}

// An odd silence time-out has room for half of it, rounded down.
func TestHeartbeatOfAnOddSilence(t *testing.T) {
	for heartbeat, good := range map[int64]bool{1000: true, 1001: false} {
		a := NewApp(1)
		a.Timeouts.Web = ClassTimeouts{HeartbeatMS: heartbeat, SilenceMS: 2001}
		if err := a.Validate(); (err == nil) != good {
			t.Errorf("heartbeat %d ms, silence 2001 ms: %v", heartbeat, err)
		}
	}
}

func TestValidateWords(t *testing.T) {
	for n, good := range map[int]bool{0: true, MaxAppName - 1: true, MaxAppName: true, MaxAppName + 1: false} {
		if err := ValidateName(strings.Repeat("n", n)); (err == nil) != good {
			t.Errorf("a name of %d bytes: %v", n, err)
		}
	}
	for n, good := range map[int]bool{0: false, MinSecret - 1: false, MinSecret: true, MinSecret + 1: true, MaxSecret - 1: true, MaxSecret: true, MaxSecret + 1: false} {
		if err := ValidateSecret(strings.Repeat("k", n), MinSecret, MaxSecret); (err == nil) != good {
			t.Errorf("a secret of %d bytes: %v", n, err)
		}
	}
	for _, odd := range []string{"0123456789 abcdef", "0123456789\x7fabcdef", "0123456789äbcdef"} {
		if err := ValidateSecret(odd, MinSecret, MaxSecret); err == nil || strings.Contains(err.Error(), "0123456789") {
			t.Errorf("a secret that cannot be typed: %v", err)
		}
	}
}

// TestWebhookURLErrorsTellNoSecret: a path, query or password may be a secret.
func TestWebhookURLErrorsTellNoSecret(t *testing.T) {
	for url, want := range map[string]string{
		"ftp://hook.example/s3cret?key=s3cret": `webhook URL must be http or https with a host, got host "hook.example"`,
		"ftp://s3cret:s3cret@hook.example/":    `webhook URL must be http or https with a host, got host "hook.example"`,
		"https:///?key=s3cret":                 `webhook URL must be http or https with a host, got host ""`,
		"http://hook.example:s3cret/":          "webhook URL cannot be parsed",
		"http://hook.example/?key=s3cret\x7f":  "webhook URL cannot be parsed",
	} {
		a := NewApp(1)
		a.Webhook.URL = url
		if err := a.Validate(); err == nil || err.Error() != want {
			t.Errorf("URL %q: %v, want %s", url, err, want)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	make := func() *App {
		a := NewApp(1)
		a.Keys = []Key{{ID: 1, Secret: "s"}}
		a.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		a.AllowedOrigins = []string{"https://a.example"}
		return a
	}
	a := make()
	c := a.Clone()
	c.Keys[0].Secret, c.Administrators[0], c.AllowedIPs[0], c.AllowedOrigins[0] = "x", "x", netip.Prefix{}, "x"
	if !reflect.DeepEqual(a, make()) {
		t.Errorf("the original became %+v", a)
	}
}

func TestSettingsOfAnApp(t *testing.T) {
	a := NewApp(1)
	a.Policy.Limits[presence.Web] = 3
	a.MacPushOnline, a.ExpiryEvent, a.Timeouts.PushRetentionMS = true, true, 5
	want := presence.Settings{Policy: a.Policy, PushRetentionMS: 5, MacPushOnline: true, ExpiryEvent: true}
	if got := a.Settings(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for p, want := range map[presence.Platform]ClassTimeouts{
		presence.Android: {120_000, 400_000}, presence.Mac: {120_000, 400_000}, presence.MiniProgram: {20_000, 60_000},
	} {
		if got := a.Timeouts.Of(p); got != want {
			t.Errorf("%s: %+v, want %+v", p, got, want)
		}
	}
	if !a.IsAdministrator("administrator") || a.IsAdministrator("Administrator") {
		t.Error("administrators are compared byte for byte")
	}
}
