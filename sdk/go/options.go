package rollcall

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// Options say who logs in where. The zero value of an optional field is its default.
type Options struct {
	Addr     string // host:port of the server's native listener, with TLSConfig of its TLS twin
	SDKAppID uint32
	UserID   string // 1..32 bytes of 0x20..0x7e

	// UserSig returns a UserSig of the user. It is called before every login and
	// may answer from a cache. If it fails, a resume goes on with its ticket; a
	// login without one is tried again after the back-off. See StaticUserSig.
	UserSig func(context.Context) (string, error)

	Platform    codec.Platform
	DeviceID    string // 1..64 bytes, stable per install
	SDKVersion  string // optional, at most 32 bytes
	DeviceModel string // optional, at most 64 bytes

	// Ticket, from the Login of an earlier run, makes the first login a resume.
	Ticket []byte
	// Resume makes the first login a resume also without a ticket: it pushes
	// nobody out, and is refused where it would have to.
	Resume bool

	// The callbacks run on Run's goroutine, in order. They may call Close; they
	// must not wait for Logout.
	OnStatus        func(StatusChange)
	OnLogin         func(Login)
	OnForcedOffline func(*ForcedOfflineError)

	// TLSConfig has the client speak TLS over what Dial opens; nil: plain TCP. Without a
	// ServerName the certificate must be for the host that is connected to, after a redirect too;
	// without a ClientSessionCache the client has one of its own, so that it comes back cheaply.
	TLSConfig *tls.Config

	// Dial opens the connection: for proxies and tests. Default: TCP.
	Dial          func(ctx context.Context, network, addr string) (net.Conn, error)
	DialTimeout   time.Duration // TLS included, default 15 s
	AnswerTimeout time.Duration // a link without an answer for so long is dead; default 15 s

	// Before the n-th try in a row the client waits a random time between 0 and
	// BackoffMin * 2^(n-1), at most BackoffMax, on top of what the server asks for.
	BackoffMin time.Duration // default 1 s
	BackoffMax time.Duration // default 1 min
	// Jitter returns a random duration in [0, max). Default: math/rand.
	Jitter func(max time.Duration) time.Duration
}

// StaticUserSig returns an Options.UserSig that always answers sig.
func StaticUserSig(sig string) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { return sig, nil }
}

// Defaults of Options.
const (
	DefaultDialTimeout   = 15 * time.Second
	DefaultAnswerTimeout = 15 * time.Second
	DefaultBackoffMin    = time.Second
	DefaultBackoffMax    = time.Minute
)

// sessionCacheSize is for the few servers between which redirects send a client.
const sessionCacheSize = 8

// validate fills in the defaults and reports the first value that cannot work.
func (o *Options) validate() error {
	if _, _, err := net.SplitHostPort(o.Addr); err != nil {
		return fmt.Errorf("rollcall: address %q is not host:port: %w", o.Addr, err)
	}
	if o.UserSig == nil {
		return errors.New("rollcall: Options.UserSig is nil")
	}
	m := o.login("", nil, false)
	m.Ticket = o.Ticket
	if err := m.Check(); err != nil {
		return fmt.Errorf("rollcall: %w", err)
	}
	setDefault(&o.DialTimeout, DefaultDialTimeout)
	setDefault(&o.AnswerTimeout, DefaultAnswerTimeout)
	setDefault(&o.BackoffMin, DefaultBackoffMin)
	setDefault(&o.BackoffMax, max(DefaultBackoffMax, o.BackoffMin))
	if o.DialTimeout < 0 || o.AnswerTimeout < 0 {
		return fmt.Errorf("rollcall: time-outs must not be negative, got DialTimeout %v and AnswerTimeout %v", o.DialTimeout, o.AnswerTimeout)
	}
	if o.BackoffMin < 0 || o.BackoffMax < o.BackoffMin {
		return fmt.Errorf("rollcall: back-off must be 0 < min <= max, got %v and %v", o.BackoffMin, o.BackoffMax)
	}
	if o.Dial == nil {
		o.Dial = new(net.Dialer).DialContext
	}
	if o.TLSConfig != nil {
		o.TLSConfig = o.TLSConfig.Clone()
		if o.TLSConfig.ClientSessionCache == nil {
			o.TLSConfig.ClientSessionCache = tls.NewLRUClientSessionCache(sessionCacheSize)
		}
	}
	if o.Jitter == nil {
		o.Jitter = func(max time.Duration) time.Duration { return rand.N(max) }
	}
	return nil
}

func setDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// login is the login message of these options.
func (o *Options) login(sig string, ticket []byte, resume bool) codec.Login {
	return codec.Login{
		SDKAppID: o.SDKAppID, UserID: []byte(o.UserID), UserSig: []byte(sig), Platform: o.Platform,
		DeviceID: []byte(o.DeviceID), SDKVersion: []byte(o.SDKVersion), DeviceModel: []byte(o.DeviceModel),
		Resume: resume, Ticket: ticket,
	}
}
