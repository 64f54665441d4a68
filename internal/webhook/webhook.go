// Package webhook tells app backends of transitions: at least once, in order
// per user, from an outbox that is bounded and never in the way of a login.
//
//	Transitions -> Outbox (a lane per user) -> workers of the app's endpoint -> receiver
//
// A lane hands out its oldest event only; the next follows when that one was
// acknowledged or given up. Each app has an endpoint of its own with a window
// of attempts in flight that grows while answers are good and shrinks when they
// are not, and a circuit that opens when the receiver seems dead, so that one
// receiver can neither delay another's events nor use up the machine.
package webhook

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Options of a Dispatcher. The zero value of each but App is its default.
type Options struct {
	// App returns an app's settings without waiting, nil if there is none. Required.
	App     func(sdkAppID uint32) *directory.App
	Clock   clock.Clock  // default: the system's
	Outbox  Outbox       // default: a Memory of MaxEvents and MaxBytes
	Network Network      // default: the machine's
	Metrics *metrics.Set // default: an own set that nobody reads
	Logger  *slog.Logger // default: none

	MaxEvents      int   // of the default outbox, default 100,000
	MaxBytes       int64 // of the default outbox, default 64 MiB
	MaxDeadLetters int   // of the default outbox, default 10,000

	MaxInFlight    int // attempts at once, default 256; fewer than 3 times as many connections
	MaxPerEndpoint int // attempts at once to one app's receiver, default 32

	AllowPrivate  bool // receivers on private and link-local addresses
	AllowLoopback bool // receivers on this machine

	// RetryBase is the longest wait after the first failure of an event; it
	// doubles up to RetryMax, and half of each wait is left to chance. Defaults
	// 1 s (so the first retry comes after 0.5 to 1 s) and 5 min.
	RetryBase, RetryMax time.Duration
	// HoldBase is how long an endpoint is held back at most when its circuit
	// opens; it doubles with each failed probe up to HoldMax, half of it left to
	// chance. Defaults 2 s and 30 s.
	HoldBase, HoldMax time.Duration
	// MaxRetryAfter bounds what a receiver may ask for. Default 10 min.
	MaxRetryAfter time.Duration

	// Epoch goes into every webhook-id. A durable outbox keeps one for good;
	// default: random, so that a node without a store reuses no id.
	Epoch uint64
	// Rand is the source of jitter; the Dispatcher owns it. Default: seeded by chance.
	Rand *rand.Rand
}

func (o *Options) validate() error {
	if o.App == nil {
		return errors.New("webhook: Options.App is required")
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Network.setDefaults()
	setDefault(&o.MaxInFlight, 256)
	setDefault(&o.MaxPerEndpoint, 32)
	setDefault(&o.RetryBase, time.Second)
	setDefault(&o.RetryMax, 5*time.Minute)
	setDefault(&o.HoldBase, 2*time.Second)
	setDefault(&o.HoldMax, 30*time.Second)
	setDefault(&o.MaxRetryAfter, 10*time.Minute)
	if o.MaxInFlight < 1 || o.MaxPerEndpoint < 1 {
		return fmt.Errorf("webhook: attempts in flight must be at least 1, got %d in all and %d per endpoint", o.MaxInFlight, o.MaxPerEndpoint)
	}
	if o.RetryBase < 0 || o.RetryMax < o.RetryBase || o.HoldBase < 0 || o.HoldMax < o.HoldBase {
		return fmt.Errorf("webhook: waits must not be negative nor above their maximum, got retry %v to %v, hold %v to %v", o.RetryBase, o.RetryMax, o.HoldBase, o.HoldMax)
	}
	o.setRandom()
	return o.setOutbox()
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

func (o *Options) setRandom() {
	var seed [24]byte
	crand.Read(seed[:]) // never fails: crypto/rand crashes the program instead
	if o.Rand == nil {
		o.Rand = rand.New(rand.NewPCG(binary.BigEndian.Uint64(seed[0:]), binary.BigEndian.Uint64(seed[8:])))
	}
	if o.Epoch == 0 {
		o.Epoch = binary.BigEndian.Uint64(seed[16:]) | 1
	}
}

func (o *Options) setOutbox() (err error) {
	if o.Outbox == nil {
		o.Outbox, err = NewMemory(MemoryOptions{MaxEvents: o.MaxEvents, MaxBytes: o.MaxBytes, MaxDeadLetters: o.MaxDeadLetters})
	}
	return err
}

// Dispatcher delivers events. It implements directory.TransitionSink.
type Dispatcher struct {
	// Immutable after New.
	o      Options
	meters meters
	conns  connSet // has its own lock

	// Guarded by mu, which is never held during I/O.
	mu         sync.Mutex
	endpoints  map[uint32]*endpoint
	workers    int           // running, of all endpoints
	probes     int           // of them, on endpoints whose circuit is open
	starved    []*endpoint   // want a worker when one is free, oldest first
	closing    bool          // no new events; workers go on until nothing is runnable
	aborted    bool          // workers end after their attempt, none starts
	idle       chan struct{} // closed when closing and no worker is left
	idleClosed bool
}

// New returns a Dispatcher and sets it to work on what the outbox holds already.
func New(o Options) (*Dispatcher, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	d := &Dispatcher{o: o, meters: newMeters(o.Metrics), endpoints: make(map[uint32]*endpoint), idle: make(chan struct{})}
	d.registerGauges(o.Metrics)
	for _, app := range o.Outbox.Apps() {
		d.wake(app)
	}
	return d, nil
}

// Transitions takes those transitions that are events (EventSeq != 0) of apps
// that have a receiver; the rest is dropped. It waits for no receiver. When the
// outbox is full, events give way as the Outbox says, counted, never silently.
func (d *Dispatcher) Transitions(ts []presence.Transition) {
	var nowMS int64
	var events []Event
	for i := range ts {
		if d.wanted(&ts[i]) {
			if events == nil {
				nowMS = d.nowMS() // not before: mostly nobody listens
			}
			events = append(events, newEvent(&ts[i], d.o.Epoch, nowMS))
		}
	}
	if len(events) == 0 {
		return
	}
	apps := appsOf(events)
	shed, err := d.o.Outbox.Append(events, nowMS)
	if err != nil {
		d.meters.count(resultLost, len(events))
		d.o.Logger.Error("webhook outbox failed; events are lost", "events", len(events), "error", err)
	}
	d.meters.count(resultCoalesced, shed.Coalesced)
	d.meters.count(resultDiverted, shed.Diverted)
	for _, app := range apps {
		d.wake(app)
	}
}

// wanted reports whether t is to be told, and counts it if it is not.
func (d *Dispatcher) wanted(t *presence.Transition) bool {
	if t.EventSeq == 0 {
		return false
	}
	if app := d.o.App(t.Key.App); app == nil || app.Webhook.URL == "" {
		d.meters.count(resultNoURL, 1)
		return false
	}
	if d.isClosing() {
		d.meters.count(resultClosed, 1)
		return false
	}
	return true
}

// appsOf lists the apps in events once each, but for an app that comes again
// after another: waking it twice does no harm.
func appsOf(events []Event) []uint32 {
	var apps []uint32
	for i := range events {
		if app := events[i].Key.App; len(apps) == 0 || apps[len(apps)-1] != app {
			apps = append(apps, app)
		}
	}
	return apps
}

// AppChanged makes new webhook settings count at once, also for an endpoint
// that is held back. Without it they count at the next attempt.
func (d *Dispatcher) AppChanged(app *directory.App) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if ep := d.endpoints[app.SDKAppID]; ep != nil {
		d.wakeLocked(ep)
	}
}

// CheckURL reports why a receiver URL would not do: not http or https, no host,
// or a target that the operator does not allow. What a name resolves to is
// checked at each connection, not here.
func (d *Dispatcher) CheckURL(url string) error {
	_, err := d.reach().checkURL(url)
	return err
}

// DeadLetters returns up to max events of app that were given up, the newest first.
func (d *Dispatcher) DeadLetters(app uint32, max int) []DeadLetter {
	return d.o.Outbox.DeadLetters(app, max)
}

// Stats is the state of a Dispatcher.
type Stats struct {
	Outbox       OutboxStats
	InFlight     int // attempts now
	CircuitsOpen int // endpoints held back after failures
	Connections  int // open, idle ones included
}

// Stats returns the present state.
func (d *Dispatcher) Stats() Stats {
	s := Stats{Outbox: d.o.Outbox.Stats(), Connections: d.conns.len()}
	d.mu.Lock()
	defer d.mu.Unlock()
	s.InFlight = d.workers
	for _, ep := range d.endpoints {
		if ep.open {
			s.CircuitsOpen++
		}
	}
	return s
}

// Close takes no more events, delivers what is runnable, and returns when
// nothing is in flight, or with ctx's error after breaking off what is. Events
// that wait for their next attempt stay in the outbox. More calls do the same.
func (d *Dispatcher) Close(ctx context.Context) error {
	d.mu.Lock()
	if !d.closing {
		d.closing = true
		d.closeIdleLocked()
	}
	d.mu.Unlock()
	err := d.waitIdle(ctx)
	d.conns.closeAll()
	if left := d.o.Outbox.Stats().Events; left > 0 {
		d.o.Logger.Warn("webhook events were not delivered before the stop", "events", left)
	}
	return err
}

func (d *Dispatcher) waitIdle(ctx context.Context) error {
	select {
	case <-d.idle:
		return nil
	case <-ctx.Done():
	}
	d.mu.Lock()
	d.aborted = true
	d.mu.Unlock()
	d.conns.closeAll()
	<-d.idle // attempts end now: their connections are closed
	return fmt.Errorf("webhook: attempts were broken off: %w", ctx.Err())
}

func (d *Dispatcher) isClosing() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.closing
}

func (d *Dispatcher) reach() reach {
	return reach{private: d.o.AllowPrivate, loopback: d.o.AllowLoopback}
}

func (d *Dispatcher) nowMS() int64 { return d.o.Clock.Now().UnixMilli() }
