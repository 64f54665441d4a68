// Package bench puts load on a server and checks every answer. It is a
// stranger to the server: it speaks its client protocols and the REST API, and
// knows nothing else of it.
//
// Connect holds many logged-in links, Hold measures what idle links cost, Churn
// logs in and out at an offered rate, Storm logs everybody in at once, MassDrop
// lets everybody go at once, Query asks for presence over REST, Kick kicks over
// REST, Mixed does all of it together, Million counts how many links a machine
// carries. Latencies are counted from the moment at which a request was due by
// the offered rate, not from when it was sent: a server that stalls cannot hide
// behind a client that waits for it.
//
// A Result can be shown with Report and held against another with Compare.
package bench

import (
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// The demo app of a server in dev mode.
const (
	DevApp = 1400000000
	DevKey = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
)

// MaxPerSource is the largest number of links from one source address.
const MaxPerSource = 10_000

// Options are what all scenarios share. The zero value of each is its default.
type Options struct {
	Protocol Protocol // what links speak; default Native
	Target   string   // listener of the protocol, IPv4 address and port; default 127.0.0.1 and the protocol's port
	// TLS makes links speak TLS, checked as it says; nil: plain. ServerName defaults to the target's address.
	TLS   *tls.Config
	API   string // base URL of the REST API; default http://127.0.0.1:7780
	App   uint32 // SDKAppID; default DevApp
	Key   string // the app's key; default DevKey for DevApp
	Admin string // an administrator of the app; default administrator

	// AdminURL is the base URL of the admin listener, AdminToken its token: for the
	// scenarios that change time-outs or read metrics. Default
	// http://127.0.0.1:7781 and dev.
	AdminURL, AdminToken string

	Platforms  []codec.Platform // handed out in turn; default all
	UserPrefix string           // user ids are this and a number; default bench-
	PerSource  int              // links from one loopback source address, default 2,000
	// AnswerTimeout is how long a login, a heartbeat, a logout or a query may
	// take. Default 10 s.
	AnswerTimeout time.Duration
	// SettleTimeout is how long the server may take to show what clients did:
	// after a logout, after their death. Default 10 s.
	SettleTimeout time.Duration

	ServerPID int          // read this process's CPU and memory from /proc; 0 = none
	Progress  func(string) // called about once a second with one line; nil = none
}

func (o *Options) validate() error {
	o.Protocol = cmp.Or(o.Protocol, Native)
	if _, err := ParseProtocol(string(o.Protocol)); err != nil {
		return err
	}
	o.Target = cmp.Or(o.Target, o.Protocol.defaultTarget(o.TLS != nil))
	o.API = cmp.Or(o.API, "http://127.0.0.1:7780")
	o.App = cmp.Or(o.App, DevApp)
	o.Admin = cmp.Or(o.Admin, "administrator")
	o.AdminURL = cmp.Or(o.AdminURL, "http://127.0.0.1:7781")
	o.AdminToken = cmp.Or(o.AdminToken, "dev")
	o.UserPrefix = cmp.Or(o.UserPrefix, "bench-")
	o.PerSource = cmp.Or(o.PerSource, 2000)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, 10*time.Second)
	o.SettleTimeout = cmp.Or(o.SettleTimeout, 10*time.Second)
	if o.Key == "" && o.App == DevApp {
		o.Key = DevKey
	}
	if len(o.Platforms) == 0 {
		o.Platforms = codec.Platforms()
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o.check()
}

func (o *Options) check() error {
	a, err := netip.ParseAddrPort(o.Target)
	switch {
	case err != nil || !a.Addr().Is4() || a.Port() == 0:
		return fmt.Errorf("target %q must be an IPv4 address and a port, such as 127.0.0.1:7700", o.Target)
	case o.Key == "":
		return fmt.Errorf("app %d needs its key", o.App)
	case o.PerSource < 1 || o.PerSource > MaxPerSource:
		return fmt.Errorf("links per source address must be 1 to %d, got %d", MaxPerSource, o.PerSource)
	case o.AnswerTimeout < 0 || o.SettleTimeout < 0:
		return fmt.Errorf("time-outs must not be negative, got %v and %v", o.AnswerTimeout, o.SettleTimeout)
	case len(o.UserPrefix) > 22:
		return fmt.Errorf("user prefix %q has %d bytes; at most 22 leave room for a number", o.UserPrefix, len(o.UserPrefix))
	}
	for _, p := range o.Platforms {
		if p.String() == "unknown" {
			return fmt.Errorf("platform number %d is not in the table", p)
		}
	}
	for i := range len(o.UserPrefix) {
		if c := o.UserPrefix[i]; c < 0x20 || c > 0x7e {
			return fmt.Errorf("user prefix %q holds a byte that a UserID cannot", o.UserPrefix)
		}
	}
	if _, err = parseAPI(o.API); err != nil {
		return err
	}
	return parseAdmin(o.AdminURL)
}

// checkRate reports a rate that is no rate. 0 stands for as fast as possible where max is set.
func checkRate(rate float64, zeroIsMax bool) error {
	if rate < 0 || rate > 1e7 || rate == 0 && !zeroIsMax || rate != rate {
		return fmt.Errorf("rate %v is not a number of requests per second up to 10,000,000", rate)
	}
	return nil
}

// ErrOptions is the root of errors about options.
var ErrOptions = errors.New("cannot run with these options")

var errInterrupted = errors.New("interrupted")

// spec is what differs between platforms for a stranger: how queries spell
// them, and what a lost link leaves.
type spec struct {
	query string
	push  bool
}

// specOf follows the platform table of the public behaviour.
func specOf(p codec.Platform) spec {
	switch p {
	case codec.Windows:
		return spec{query: "PC"}
	case codec.MiniProgram:
		return spec{query: "Web"}
	case codec.Android, codec.IPhone, codec.IPad, codec.HarmonyOS:
		return spec{query: p.String(), push: true}
	}
	return spec{query: p.String()}
}

// afterLoss is the status of a user whose only link was lost.
func (s spec) afterLoss() string {
	if s.push {
		return statusPushOnline
	}
	return statusOffline
}

// population names the users: index in the run to UserID, device, platform, UserSig.
type population struct {
	o    *Options
	sigs []string // of the first users; the rest is signed when asked for
}

// userID of a user is the same in every run in which a platform has as many
// users before it, and no other platform's: what an earlier run left behind
// (mobile users stay PushOnline for days) never meets a login from elsewhere.
func (p *population) userID(n int) string {
	return fmt.Sprintf("%s%010d", p.o.UserPrefix, p.number(n))
}

// number counts the users of each platform for itself and interleaves the platforms.
func (p *population) number(n int) int {
	list, own := p.o.Platforms, p.platform(n)
	place, total := 0, 0
	for i, q := range list {
		if q == own {
			total++
			if i < n%len(list) {
				place++
			}
		}
	}
	return (n/len(list)*total+place)*len(codec.Platforms()) + int(own-1)
}

func (p *population) platform(n int) codec.Platform {
	return p.o.Platforms[n%len(p.o.Platforms)]
}

// login fills m for user n. Versions and models are a few hundred distinct ones, as in life.
func (p *population) login(n int, m *codec.Login) {
	id := p.number(n)
	*m = codec.Login{
		SDKAppID:    p.o.App,
		UserID:      []byte(p.userID(n)),
		UserSig:     []byte(p.sig(n)),
		Platform:    p.platform(n),
		DeviceID:    fmt.Appendf(nil, "%08x-0000-4000-8000-%012x", uint32(id)*2654435761, id),
		SDKVersion:  fmt.Appendf(nil, "8.%d.%d", id%7, id%31),
		DeviceModel: fmt.Appendf(nil, "Model %c-%d", 'A'+id%26, id%199),
	}
}
