package directory

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// App is a tenant: keys, administrators, policy, time-outs, webhook, limits.
// Values handed out are immutable.
type App struct {
	SDKAppID       uint32
	Name           string
	Version        uint64 // grows with each change
	CreatedMS      int64
	Keys           []Key    // 1 or 2 valid at once; the last one is the newest. None: 70016
	TicketKey      [32]byte // authenticates session tickets
	TicketEpoch    uint32   // tickets of an earlier epoch are revoked: grows when a key is retired
	Administrators []string // up to 10, default "administrator"
	Policy         presence.Policy
	Timeouts       Timeouts
	Webhook        Webhook
	Limits         Limits
	// QueryIPhoneName is Detail.Platform of iPhone; "" = "iPhone".
	QueryIPhoneName string
	MacPushOnline   bool
	ExpiryEvent     bool // a webhook when PushOnline expires
	CloseOnSigEnd   bool // close the link when its UserSig expires
	AllowedIPs      []netip.Prefix
	// AllowedOrigins are the origins whose pages may log in over WebSocket:
	// https://host[:port], or *.domain for all hosts below one. Empty = every origin.
	AllowedOrigins []string
}

// Key is a secret key for UserSigs.
type Key struct {
	ID        uint32 // 1, 2, ...; unique within the app
	Secret    string
	CreatedMS int64
}

// ClassTimeouts are the heartbeat interval and silence time-out of a platform class.
type ClassTimeouts struct {
	HeartbeatMS int64 // told to the client
	SilenceMS   int64 // at least 2 x HeartbeatMS
}

// Timeouts are an app's time settings, in milliseconds.
type Timeouts struct {
	Mobile, Desktop, Web ClassTimeouts
	PushRetentionMS      int64
	TicketTTLMS          int64
}

// Of returns the time-outs of a platform's class.
func (t *Timeouts) Of(p presence.Platform) ClassTimeouts {
	switch p.Class() {
	case presence.Mobile:
		return t.Mobile
	case presence.Desktop:
		return t.Desktop
	}
	return t.Web
}

// Webhook is where transitions are told.
type Webhook struct {
	URL        string // "" = off
	Token      string // for Sign and the Standard Webhooks signature; "" = unsigned
	TimeoutMS  int64  // per attempt, default 2000
	GiveUpMS   int64  // age at which retries end, default 24 h
	StatusOnly bool   // HTTP 200 alone is success, the body is not read
	// BatchEvents is how many events one request may hold, up to
	// MaxBatchEvents; 0 = each event in a request of its own format.
	BatchEvents int
	Coalesce    bool // of a user's events that wait, only the newest is told
	PullEvents  bool // events are kept to be pulled even without a URL
}

// Limits are an app's rates. 0 = unlimited.
type Limits struct {
	CallsPerSecond      float64 // per command, default 200
	BatchCallsPerSecond float64 // batch account calls, default 100
}

// Bounds and defaults of app settings.
const (
	MaxAdministrators = 10
	MaxKeys           = 2
	DefaultAdmin      = "administrator"
	MaxBatchEvents    = 100

	minuteMS = 60_000
	dayMS    = 24 * 60 * minuteMS
)

// NewApp returns an app with default settings, without keys.
func NewApp(id uint32) *App {
	return &App{
		SDKAppID:       id,
		Administrators: []string{DefaultAdmin},
		Policy:         presence.Policy{Preset: "single"},
		Timeouts: Timeouts{
			Mobile:          ClassTimeouts{HeartbeatMS: 120_000, SilenceMS: 400_000},
			Desktop:         ClassTimeouts{HeartbeatMS: 120_000, SilenceMS: 400_000},
			Web:             ClassTimeouts{HeartbeatMS: 20_000, SilenceMS: 60_000},
			PushRetentionMS: 7 * dayMS,
			TicketTTLMS:     7 * dayMS,
		},
		Webhook: Webhook{TimeoutMS: 2000, GiveUpMS: dayMS},
		Limits:  Limits{CallsPerSecond: 200, BatchCallsPerSecond: 100},
	}
}

// Clone returns a deep copy.
func (a *App) Clone() *App {
	c := *a
	c.Keys = slices.Clone(a.Keys)
	c.Administrators = slices.Clone(a.Administrators)
	c.AllowedIPs = slices.Clone(a.AllowedIPs)
	c.AllowedOrigins = slices.Clone(a.AllowedOrigins)
	return &c
}

// Settings returns what the presence rules need of the app.
func (a *App) Settings() presence.Settings {
	return presence.Settings{
		Policy:          a.Policy,
		PushRetentionMS: a.Timeouts.PushRetentionMS,
		MacPushOnline:   a.MacPushOnline,
		ExpiryEvent:     a.ExpiryEvent,
	}
}

// IsAdministrator reports whether userID is one of the app's administrators.
func (a *App) IsAdministrator(userID string) bool {
	return slices.Contains(a.Administrators, userID)
}

// Validate reports the first setting that is out of bounds, except for the
// policy, whose ceilings are a server setting.
func (a *App) Validate() error {
	switch {
	case a.SDKAppID == 0:
		return errors.New("SDKAppID must not be 0")
	case len(a.Keys) > MaxKeys:
		return fmt.Errorf("an app has at most %d keys, got %d", MaxKeys, len(a.Keys))
	}
	return cmp.Or(
		ValidateName(a.Name), ValidateAdministrators(a.Administrators),
		a.Timeouts.validate(), a.Webhook.validate(), ValidateOrigins(a.AllowedOrigins),
	)
}

func (t *Timeouts) validate() error {
	for _, c := range []struct {
		name string
		ClassTimeouts
	}{{"mobile", t.Mobile}, {"desktop", t.Desktop}, {"web", t.Web}} {
		if c.HeartbeatMS < 1000 || c.SilenceMS > dayMS {
			return fmt.Errorf("%s: heartbeat interval must be at least 1 s and silence time-out at most 24 h, got %d ms and %d ms", c.name, c.HeartbeatMS, c.SilenceMS)
		}
		if c.HeartbeatMS > c.SilenceMS/2 { // 2 x HeartbeatMS may overflow
			return fmt.Errorf("%s: silence time-out must be at least 2 x heartbeat interval, got %d ms and %d ms", c.name, c.SilenceMS, c.HeartbeatMS)
		}
	}
	if t.PushRetentionMS < 0 || t.PushRetentionMS > 365*dayMS {
		return fmt.Errorf("PushOnline retention must be 0 to 365 days, got %d ms", t.PushRetentionMS)
	}
	if t.TicketTTLMS < minuteMS || t.TicketTTLMS > 365*dayMS {
		return fmt.Errorf("ticket lifetime must be 1 minute to 365 days, got %d ms", t.TicketTTLMS)
	}
	return nil
}

func (w *Webhook) validate() error {
	if w.TimeoutMS < 100 || w.TimeoutMS > minuteMS {
		return fmt.Errorf("webhook time-out must be 100 to %d ms, got %d", minuteMS, w.TimeoutMS)
	}
	if w.GiveUpMS < 1000 || w.GiveUpMS > 30*dayMS {
		return fmt.Errorf("webhook give-up age must be 1 s to 30 days, got %d ms", w.GiveUpMS)
	}
	if w.BatchEvents < 0 || w.BatchEvents > MaxBatchEvents {
		return fmt.Errorf("webhook batches must have 0 (off) to %d events, got %d", MaxBatchEvents, w.BatchEvents)
	}
	if w.URL == "" {
		return nil
	}
	u, err := url.Parse(w.URL)
	if err != nil {
		return errors.New("webhook URL cannot be parsed") // err quotes it, and it may hold a secret
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return fmt.Errorf("webhook URL must be http or https with a host, got host %q", u.Hostname())
	}
	return nil
}
