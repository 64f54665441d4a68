package directory

import (
	"net/netip"
	"reflect"
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
		"no administrators":    {func(a *App) { a.Administrators = nil }, "1 to 10 administrators, got 0"},
		"10 administrators":    {func(a *App) { a.Administrators = strings.Split("a b c d e f g h i j", " ") }, ""},
		"11 administrators":    {func(a *App) { a.Administrators = strings.Split("a b c d e f g h i j k", " ") }, "got 11"},
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
		"webhook URL, odd":     {func(a *App) { a.Webhook.URL = "http://[::1" }, "webhook URL"},
	} {
		a := NewApp(1)
		c.change(a)
		err := a.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", name, err, c.want)
		}
	}
}

func TestCloneSharesNothing(t *testing.T) {
	make := func() *App {
		a := NewApp(1)
		a.Keys = []Key{{ID: 1, Secret: "s"}}
		a.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
		return a
	}
	a := make()
	c := a.Clone()
	c.Keys[0].Secret, c.Administrators[0], c.AllowedIPs[0] = "x", "x", netip.Prefix{}
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
