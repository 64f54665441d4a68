// Package config knows everything that `rollcall serve` can be told. One table
// of settings (settings.go) yields the flags, the environment variables, the
// keys of the YAML file and docs/configuration.md. What is given more than once
// counts in this order: flag, environment, file, default. The package reads no
// globals: arguments, environment and files come from the caller.
package config

import (
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Off is the address of a listener that is not wanted.
const Off = "off"

// MemoryAuto as Config.MemoryLimit leaves the limit to what the machine has.
const MemoryAuto = -1

// What --dev brings along. None of it exists without --dev.
const (
	DevAppID    = 1400000000
	DevKey      = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
	DevToken    = "dev"
	devAppName  = "demo"
	defaultUser = "administrator"
)

// Config is everything that the server can be told. Load returns it checked;
// addresses are host:port with a literal IP address, or Off.
type Config struct {
	File string // the YAML file, "" = none
	Dev  bool

	ListenNative string
	ListenWS     string
	ListenMQTT   string
	ListenAPI    string
	ListenAdmin  string
	// The TLS twins, Off without a certificate.
	ListenNativeTLS string
	ListenWSTLS     string
	ListenMQTTTLS   string
	ListenAPITLS    string
	ListenAdminTLS  string
	TLSCert         string // file, PEM
	TLSKey          string // file, PEM
	AdminClientCA   string // file, PEM; "": no client certificates

	TLSHandshakeTimeout    time.Duration
	TLSHandshakes          int
	TLSHandshakesQueued    int
	TLSHandshakesComputing int // 0 = one per two cores

	Node         uint32
	DataDir      string
	Durability   string        // sync, interval:<ms> or memory
	SyncInterval time.Duration // of interval:<ms>, else 0
	StoreMinFree int           // bytes; 0 = not watched
	RestartGrace time.Duration
	Redis        string // always "": not in this release

	ProxyNetworks []netip.Prefix // of load balancers, from where client links begin with a PROXY header

	AdminTokenFile string
	AdminToken     string // what the file holds; DevToken in --dev; "" if the admin listener is off

	MaxLinks             int     // 0 = the open-file limit less a reserve
	Loops                int     // 0 = one per core
	AcceptRate           float64 // new links per second; 0 = unlimited
	AcceptRatePerIP      float64 // of them of one address; 0 = unlimited
	AcceptRatePerNet64   float64 // of one IPv6 /64; 0 = unlimited
	LinksPerIP           int     // at once, of one address; 0 = unlimited
	LinksPerNet64        int     // of one IPv6 /64; 0 = unlimited
	Unauthenticated      int     // links without a login, percent of MaxLinks
	UnauthenticatedPerIP int     // of them of one address or /64, percent of MaxLinks; 100 = unlimited
	UnlimitedNetworks    []netip.Prefix
	TrackedAddresses     int
	MemoryLimit          int64 // bytes from which on new links are refused; 0 = none, MemoryAuto = what the machine has decides
	OutboundCap          int   // bytes that may wait for a client that does not read
	MinProgress          int   // bytes per second of a frame that has begun; 0 = any
	FirstFrameTimeout    time.Duration
	LoginTimeout         time.Duration
	DrainTimeout         time.Duration
	DrainRedirect        string // host:port, "" = none

	LoginRate          float64 // logins per second of the node, 0 = measured and not bounded
	LoginQueueTime     time.Duration
	LoginFailuresUser  int // 0 = any number
	LoginFailuresIP    int // 0 = any number
	LoginFailureWindow time.Duration
	LoginPenaltyMax    time.Duration
	SigCache           int // verified UserSigs, 0 = none
	RetryAfter         time.Duration
	RetryMax           time.Duration

	APIConcurrency int // connections per HTTP listener
	APIConnsPerIP  int // of them of one address; 0 = unlimited
	APIMaxBody     int // bytes of a REST request's body

	Ceilings  presence.Ceilings
	RateCalls float64 // calls per second, app and command, of new apps; 0 = unlimited
	RateBatch float64 // the same for batch account calls

	WebhookAllowPrivate  bool
	WebhookAllowLoopback bool
	WebhookOutboxEvents  int
	WebhookOutboxFull    string // a webhook.FullPolicy
	WebhookDeadLetters   int
	WebhookLogEvents     int           // per app; 0 = none
	WebhookTimeout       time.Duration // per attempt, of new apps
	WebhookGiveUp        time.Duration // age at which retries end, of new apps

	LogLevel  slog.Level
	LogFormat string // auto, json, text

	Apps []App // to be created at start; ordered as in the file

	Warnings []string // what does not keep the server from starting

	sources map[string]string
}

// Inputs are where settings come from. Nil functions find nothing.
type Inputs struct {
	Args      []string                          // after the command's name
	Environ   []string                          // name=value of all variables, only to warn of unknown ones
	LookupEnv func(name string) (string, bool)  // an empty value counts as not set
	ReadFile  func(name string) ([]byte, error) // for the YAML file, keys and tokens
}

// Default returns the settings of a server that was told nothing. It does not
// pass Load's checks: without --dev there is no default token.
func Default() *Config {
	c := &Config{sources: map[string]string{}}
	for i := range settings {
		s := &settings[i]
		if err := s.set(c, s.def); err != nil {
			panic(fmt.Sprintf("config: default of %s: %v", s.name, err))
		}
	}
	return c
}

// Load collects the settings and checks them. A *UsageError is a fault of the
// command line (exit code 2), ErrHelp asks for Usage; any other error means that
// the server cannot start like this (exit code 1). It reports all faults it finds
// in the layer that has the first one.
func Load(in Inputs) (*Config, error) {
	in = in.withDefaults()
	flags, err := parseFlags(in.Args)
	if err != nil {
		return nil, err
	}
	l := layers{flags: flags, lookupEnv: in.LookupEnv}
	c := Default()
	c.File = l.text("config")
	if err := l.readFile(c.File, in.ReadFile); err != nil {
		return nil, err
	}
	if err := l.apply(c); err != nil {
		return nil, err
	}
	if err := c.settle(l.apps, in.ReadFile); err != nil {
		return nil, err
	}
	c.Warnings = unknownVariables(in.Environ)
	return c, nil
}

func (in Inputs) withDefaults() Inputs {
	if in.LookupEnv == nil {
		in.LookupEnv = func(string) (string, bool) { return "", false }
	}
	if in.ReadFile == nil {
		in.ReadFile = func(name string) ([]byte, error) {
			return nil, fmt.Errorf("cannot read %q: no files here", name)
		}
	}
	return in
}

// Value is a setting as it stands, for `rollcall check-config`.
type Value struct {
	Name   string
	Text   string
	Source string // "flag", "environment", "file" with line, "dev", "default"
}

// Values returns every setting in table order. None of them is a secret:
// secrets come from files that the settings only name.
func (c *Config) Values() []Value {
	all := make([]Value, 0, len(settings))
	for i := range settings {
		s := &settings[i]
		source := c.sources[s.name]
		if source == "" {
			source = "default"
		}
		all = append(all, Value{Name: s.name, Text: s.get(c), Source: source})
	}
	return all
}
