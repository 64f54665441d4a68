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
	"sync/atomic"
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
	Outbox  Outbox       // default: a Durable on Storage, or a Memory, within the bounds below
	Storage Storage      // where outbox and log outlive the process; default: nowhere
	Network Network      // default: the machine's
	Metrics *metrics.Set // default: an own set that nobody reads
	Logger  *slog.Logger // default: none

	MaxEvents      int        // of the default outbox, default 100,000
	MaxBytes       int64      // of the default outbox, default 64 MiB
	MaxDeadLetters int        // of the default outbox, default 10,000
	Full           FullPolicy // of the default outbox, default FullCoalesce

	// LogEvents is how many recent events of each app are kept for Events.
	// Default 10,000; negative: none. Without a Storage all apps together keep
	// maxVolatileLog at most.
	LogEvents int
	// Lossy says that Storage may have lost the end of what it was told is durable
	// (commits that are not synced): cursors of an earlier life then answer Gap.
	Lossy bool

	MaxInFlight    int // attempts at once, default 256; at most FilesPerAttempt times as many files are open
	MaxPerEndpoint int // attempts at once to one app's receiver, default 32

	AllowPrivate  bool // receivers on private and link-local addresses
	AllowLoopback bool // receivers on this machine

	// RetryBase is the longest wait after the first failure of an event; it
	// doubles up to RetryMax, and half of each wait is left to chance. Defaults
	// 1 s (so the first retry comes after 0.5 to 1 s) and 30 min.
	RetryBase, RetryMax time.Duration
	// HoldBase is how long an endpoint is held back at most when its circuit
	// opens; it doubles with each failed probe up to HoldMax, half of it left to
	// chance. Defaults 2 s and 30 s.
	HoldBase, HoldMax time.Duration
	// MaxRetryAfter bounds what a receiver may ask for. Default 10 min.
	MaxRetryAfter time.Duration

	// CloseTimeout is how long Close goes on making attempts, unless its context
	// ends first; CloseGrace how long after that the attempts in flight may take.
	// Defaults 5 s and 2 s.
	CloseTimeout, CloseGrace time.Duration

	// Epoch goes into the webhook-id of every event of this life, and is stored
	// with it. Default: random, so that a count that begins anew reuses no id.
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
	setDefault(&o.MaxInFlight, 256)
	setDefault(&o.MaxPerEndpoint, 32)
	setDefault(&o.LogEvents, 10_000)
	setDefault(&o.RetryBase, time.Second)
	setDefault(&o.RetryMax, 30*time.Minute)
	setDefault(&o.HoldBase, 2*time.Second)
	setDefault(&o.HoldMax, 30*time.Second)
	setDefault(&o.MaxRetryAfter, 10*time.Minute)
	setDefault(&o.CloseTimeout, 5*time.Second)
	setDefault(&o.CloseGrace, 2*time.Second)
	if o.MaxInFlight < 1 || o.MaxPerEndpoint < 1 {
		return fmt.Errorf("webhook: attempts in flight must be at least 1, got %d in all and %d per endpoint", o.MaxInFlight, o.MaxPerEndpoint)
	}
	if o.RetryBase < 0 || o.RetryMax < o.RetryBase || o.HoldBase < 0 || o.HoldMax < o.HoldBase {
		return fmt.Errorf("webhook: waits must not be negative nor above their maximum, got retry %v to %v, hold %v to %v", o.RetryBase, o.RetryMax, o.HoldBase, o.HoldMax)
	}
	if o.CloseTimeout < 0 || o.CloseGrace < 0 {
		return fmt.Errorf("webhook: the time to close must not be negative, got %v and %v", o.CloseTimeout, o.CloseGrace)
	}
	o.Network.setDefaults(resolverSocketsPerAttempt * o.MaxInFlight)
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
	bounds := MemoryOptions{MaxEvents: o.MaxEvents, MaxBytes: o.MaxBytes, MaxDeadLetters: o.MaxDeadLetters, Full: o.Full}
	switch {
	case o.Outbox != nil:
	case o.Storage != nil:
		o.Outbox, err = NewDurable(bounds, o.Storage, o.Clock)
	default:
		o.Outbox, err = NewMemory(bounds)
	}
	return err
}

// Dispatcher delivers events. It implements directory.TransitionSink.
type Dispatcher struct {
	// Immutable after New.
	o      Options
	meters meters
	conns  *connSet  // has its own lock
	log    *eventLog // has its own lock
	// durable is the outbox if events are recorded by the commits of their
	// decisions; recorded has its own lock.
	durable  *Durable
	recorded recorded
	// life ends when Close breaks off the attempts in flight.
	life    context.Context
	endLife context.CancelFunc

	// Atomic.
	closing atomic.Bool // no new events; workers go on until nothing is runnable

	// Guarded by mu. Event loops take it in Transitions, so nobody holds it
	// while logging, opening or closing a connection.
	mu         sync.Mutex
	endpoints  map[uint32]*endpoint
	workers    int           // running, of all endpoints
	probes     int           // of them, on endpoints whose circuit is open
	starved    []*endpoint   // want a worker when one is free, oldest first
	retired    []*client     // of former URLs, whose idle connections are to be closed
	started    bool          // by Start: before it no worker starts
	stopped    bool          // workers end after their attempt, none starts
	idle       chan struct{} // closed when closing and no worker is left
	idleClosed bool
}

// New returns a Dispatcher, which takes events, and delivers them from Start on.
func New(o Options) (*Dispatcher, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	log, err := newEventLog(o.Storage, o.LogEvents, o.Epoch, o.Lossy)
	if err != nil {
		return nil, err
	}
	d := &Dispatcher{
		o: o, meters: newMeters(o.Metrics), conns: newConnSet(connsPerAttempt * o.MaxInFlight), log: log,
		endpoints: make(map[uint32]*endpoint), idle: make(chan struct{}),
	}
	d.durable, _ = o.Outbox.(*Durable)
	d.life, d.endLife = context.WithCancel(context.Background())
	d.registerGauges(o.Metrics)
	return d, nil
}

// Start begins to deliver, first what an earlier life left behind. It must not
// be called before Options.App knows the apps: events of one that does not exist
// are dropped.
func (d *Dispatcher) Start() {
	d.mu.Lock()
	d.started = true
	d.mu.Unlock()
	d.wake(d.o.Outbox.Apps())
}

// Transitions takes those transitions that are events (EventSeq != 0) of apps
// that have a receiver; the rest is dropped. It waits for no receiver. When the
// outbox is full, events give way as the Outbox says, counted, never silently.
// With a Durable outbox it takes those that Record has written.
//
// It is part of every decision of the node. A batch without an event that is
// wanted takes no lock and allocates nothing; any other takes the outbox's lock
// and the Dispatcher's once each, for a moment.
func (d *Dispatcher) Transitions(ts []presence.Transition) {
	var events []Event
	if d.durable != nil {
		events = d.reveal(ts)
	} else {
		events = d.render(ts)
	}
	if len(events) == 0 {
		return
	}
	apps := appsOf(events)
	shed, err := d.o.Outbox.Append(events, d.nowMS())
	if err != nil {
		d.meters.count(resultLost, len(events))
		d.o.Logger.Error("webhook outbox failed; events are lost", "events", len(events), "error", err)
	}
	d.meters.count(resultCoalesced, shed.Coalesced)
	d.meters.count(resultDiverted, shed.Diverted)
	d.meters.count(resultMerged, shed.Merged)
	d.wake(apps)
}

// render makes events of the transitions that are to be told, and logs them.
func (d *Dispatcher) render(ts []presence.Transition) (events []Event) {
	var nowMS int64
	for i := range ts {
		w := d.wanted(&ts[i])
		if w == nil {
			continue
		}
		if nowMS == 0 {
			nowMS = d.nowMS() // not before: mostly nobody listens
		}
		e := newEvent(&ts[i], d.o.Epoch, nowMS)
		e.Newest = w.Coalesce
		d.log.add(&e)
		if d.toSend(w) {
			events = append(events, e)
		}
	}
	return events
}

// wanted returns the settings of the app that wants to know of t, nil if none does.
func (d *Dispatcher) wanted(t *presence.Transition) *directory.Webhook {
	if t.EventSeq == 0 {
		return nil
	}
	app := d.o.App(t.Key.App)
	if app == nil || app.Webhook.URL == "" && !(app.Webhook.PullEvents && d.log.on()) {
		d.meters.count(resultNoURL, 1)
		return nil
	}
	return &app.Webhook
}

// toSend reports whether there is a receiver for an event, and counts it if not.
func (d *Dispatcher) toSend(w *directory.Webhook) bool {
	switch {
	case w.URL == "":
		d.meters.count(resultNoURL, 1)
		return false
	case d.closing.Load():
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

// DeadLetters returns up to max events of app that were given up and have an ID
// below before (0 = all), the newest first.
func (d *Dispatcher) DeadLetters(app uint32, before uint64, max int) []DeadLetter {
	return d.o.Outbox.DeadLetters(app, before, max)
}

// Replay queues the dead letters of app that ids names, or its oldest ones if
// ids is nil, up to max, to be sent again with a new give-up age.
func (d *Dispatcher) Replay(app uint32, ids []uint64, max int) (int, error) {
	n, err := d.o.Outbox.Replay(app, ids, max, d.nowMS())
	d.meters.count(resultReplayed, n)
	if n > 0 {
		d.wake([]uint32{app})
	}
	return n, err
}

// Skip forgets dead letters of app, chosen as by Replay.
func (d *Dispatcher) Skip(app uint32, ids []uint64, max int) int {
	n := d.o.Outbox.Skip(app, ids, max)
	d.meters.count(resultSkipped, n)
	return n
}

// LoginsBlocked reports whether logins of app have to wait because the outbox
// is full: only with FullBlock.
func (d *Dispatcher) LoginsBlocked(app uint32) bool { return d.o.Outbox.Blocked(app) }

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

// Close takes no more events and delivers those that are runnable until there
// is none, ctx ends, or CloseTimeout is over. The attempts then in flight have
// CloseGrace to end before they are broken off, which is held against nobody:
// so Close returns within CloseGrace after ctx has ended, and as much again if
// a Storage is slow; that is not called any more. What is left stays in
// the outbox, is counted and logged; that is no error. More calls wait for the
// first. Call it after what calls Transitions has stopped.
func (d *Dispatcher) Close(ctx context.Context) error {
	first := d.beginClose()
	if !d.waitIdle(ctx, d.o.CloseTimeout) {
		d.stopClaims()
		if !d.waitIdle(context.WithoutCancel(ctx), d.o.CloseGrace) {
			d.endLife()
			d.conns.closeAll()
			<-d.idle // attempts end now: their dials and connections do
		}
	}
	d.endLife()
	d.conns.closeAll()
	if left := d.o.Outbox.Stats().Events; left > 0 && first {
		d.meters.count(resultLeft, left)
		if d.durable != nil {
			d.o.Logger.Info("webhook events wait in the store for the next start", "events", left)
		} else {
			d.o.Logger.Warn("webhook events were not delivered before the stop", "events", left)
		}
	}
	if d.durable != nil {
		d.durable.Close(d.o.CloseGrace)
	}
	return nil
}

func (d *Dispatcher) beginClose() (first bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	first = d.closing.CompareAndSwap(false, true)
	if first {
		d.closeIdleLocked()
	}
	return first
}

func (d *Dispatcher) stopClaims() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped = true
}

// waitIdle waits until no worker is left; it reports false if ctx ends or limit
// is over before that. Like time-outs of attempts, limit is of the machine's clock.
func (d *Dispatcher) waitIdle(ctx context.Context, limit time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-d.idle:
		return true
	case <-ctx.Done():
		return false
	}
}

func (d *Dispatcher) reach() reach {
	return reach{private: d.o.AllowPrivate, loopback: d.o.AllowLoopback}
}

func (d *Dispatcher) nowMS() int64 { return d.o.Clock.Now().UnixMilli() }
