// Package embedded is the directory of one node: the presence table of package
// shard, the pure rules of package presence, and between them lanes that take
// each decision once, in order, have it made durable and only then tell of it.
//
// Metrics, for docs/metrics.md:
//
//	rollcall_decisions_total{kind,result}          counter  decisions told. kind: login, leave, kick, import, delete, expire, enforce, restart, follow.
//	                                                        result: changed, unchanged (refused or stale), failed (its commit failed)
//	rollcall_directory_shed_total{kind}            counter  operations refused because a lane held Options.MaxPending, or on a stopped directory
//	rollcall_directory_logins_blocked_total        counter  logins refused because Options.LoginsBlocked said so
//	rollcall_directory_pending                     gauge    decisions taken in and not yet told
//	rollcall_directory_commit_failures_total       counter  batches that the journal could not make durable
//	rollcall_directory_sweeps_shed_total           counter  sweeps and dry runs refused because Options.MaxSweeps were running
//	rollcall_apps                                  gauge    apps
//	rollcall_users{status}                         gauge    registered users. status: online, push_online, offline
//	rollcall_instances{status}                     gauge    instances. status: online, push_online
//	rollcall_restart_orphans                       gauge    instances of links of an earlier run that the restart grace holds Online
//	rollcall_push_expired_total                    counter  instances whose PushOnline retention ended
//	rollcall_notices_total{cause}                  counter  links forced offline. cause: another_login, replaced, rest, account_deleted, policy_change
//	rollcall_notices_dropped_total                 counter  notices for a node that nobody watches
//	rollcall_following                             gauge    links that follow users
//	rollcall_changes_total                         counter  changes told to links that follow
//	rollcall_changes_dropped_total                 counter  changes for a node that nobody watches
package embedded

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/store"
	"github.com/rollcall-im/rollcall/shard"
)

// Options of a Directory. The zero value of each field is its default.
type Options struct {
	Clock    clock.Clock              // default: the system's
	Sink     directory.TransitionSink // told of each committed transition; nil = nobody
	Journal  Journal                  // default: memory, nothing outlives the process; not with Store
	Store    *store.Store             // what outlives the process; New loads it. Close it after the directory
	Events   Events                   // with Store: the outbox's part of each commit; default: none
	Shards   int                      // of the table, and as many lanes; a power of two, default 1024
	Ceilings presence.Ceilings        // bounds on the limits of policies
	Metrics  *metrics.Set             // default: a set of its own
	Logger   *slog.Logger             // default: discards
	Rand     io.Reader                // ticket keys; default crypto/rand

	// MaxPending bounds the decisions that a lane holds from the call to Done.
	// Over it logins, kicks and account calls get CodeUnavailable. A Leave is
	// always taken: links bound their number, and one refused would leave an
	// Online instance that nobody owns. Default 1024 per lane.
	MaxPending int
	// Step is how many decisions a caller takes for others before a goroutine
	// goes on in its place. Default 256.
	Step int
	// MaxApps bounds the number of apps. Default 10,000.
	MaxApps int
	// MaxUpdates bounds the app updates that wait for their turn. Default 256.
	MaxUpdates int
	// MaxSweeps bounds the policy sweeps and dry runs that run at once. Default 4.
	MaxSweeps int
	// RestartGrace is how long instances whose links a run before this one held
	// stay Online, for their devices to come back, counted from Serve. Default
	// 30 s; negative: not at all.
	RestartGrace time.Duration
	// RetryAfter is told with CodeUnavailable. Default 2 s.
	RetryAfter time.Duration
	// LoginsBlocked reports whether logins of an app must wait, because nobody
	// can be told of them: they get CodeUnavailable. It must not block. Default: never.
	LoginsBlocked func(sdkAppID uint32) bool
}

const (
	defaultMaxPending = 1024
	defaultStep       = 256
	defaultMaxApps    = 10_000
	defaultMaxUpdates = 256
	defaultMaxSweeps  = 4
	defaultRetryAfter = 2 * time.Second
	defaultGrace      = 30 * time.Second
	maxShards         = 1 << 16
)

func (o *Options) validate() error {
	for _, f := range []struct {
		name     string
		n        *int
		def, max int
	}{
		{"MaxPending", &o.MaxPending, defaultMaxPending, 1 << 30},
		{"Step", &o.Step, defaultStep, 1 << 20},
		{"MaxApps", &o.MaxApps, defaultMaxApps, 1 << 20},
		{"MaxUpdates", &o.MaxUpdates, defaultMaxUpdates, 1 << 20},
		{"MaxSweeps", &o.MaxSweeps, defaultMaxSweeps, 1 << 10},
	} {
		if *f.n == 0 {
			*f.n = f.def
		}
		if *f.n < 0 || *f.n > f.max {
			return fmt.Errorf("option %s must be 1 to %d, or 0 for the default %d, got %d", f.name, f.max, f.def, *f.n)
		}
	}
	if o.Shards < 0 || o.Shards > maxShards || o.Shards&(o.Shards-1) != 0 {
		return fmt.Errorf("option Shards must be a power of two up to %d, or 0 for the default, got %d", maxShards, o.Shards)
	}
	if o.Store != nil && o.Journal != nil {
		return errors.New("options Store and Journal exclude each other")
	}
	if o.RetryAfter < 0 {
		return fmt.Errorf("option RetryAfter must not be negative, got %s", o.RetryAfter)
	}
	o.fill()
	return o.Ceilings.Validate()
}

func (o *Options) fill() {
	if o.RetryAfter == 0 {
		o.RetryAfter = defaultRetryAfter
	}
	if o.RestartGrace == 0 {
		o.RestartGrace = defaultGrace
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.LoginsBlocked == nil {
		o.LoginsBlocked = func(uint32) bool { return false }
	}
	if o.Journal == nil {
		o.Journal = memory{}
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
}

// Directory is the directory of one node. It implements directory.Directory.
type Directory struct {
	// Immutable after New.
	opts     Options
	table    *shard.Table
	lanes    []lane
	counters counters
	closing  chan struct{}
	durable  *durable // the journal on Options.Store; nil without one

	apps     apps
	watchers watchers
	expirer  expirer
	sweeps   chan struct{} // a token per running sweep or dry run

	// Atomic.
	closed       atomic.Bool
	lastLoggedMS atomic.Int64
	following    atomic.Int64 // how many links follow how many users

	// mu guards the start of background work against Close.
	mu   sync.Mutex
	jobs sync.WaitGroup
}

var _ directory.Directory = (*Directory)(nil)

// New returns a directory with what the store holds; without one it is empty.
func New(o Options) (*Directory, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("embedded directory: %w", err)
	}
	d := &Directory{
		opts:    o,
		table:   shard.New(shard.Options{Shards: o.Shards}),
		closing: make(chan struct{}),
		sweeps:  make(chan struct{}, o.MaxSweeps),
	}
	d.lanes = make([]lane, d.table.NumShards())
	for i := range d.lanes {
		d.lanes[i].init(d, i)
	}
	d.apps.init(d)
	d.watchers.init(d)
	d.expirer.init(d)
	d.counters.init(d)
	if o.Store != nil {
		if err := d.openStore(); err != nil {
			return nil, fmt.Errorf("embedded directory: %w", err)
		}
	}
	return d, nil
}

func (d *Directory) openStore() (err error) {
	if d.durable, err = openDurable(d.opts.Store, d.opts.Clock, d.opts.Events); err != nil {
		return err
	}
	d.opts.Journal = d.durable
	return d.recover(d.durable)
}

// Close stops timers and sweeps and waits for them. Operations that come later
// get CodeUnavailable. Those that the journal still holds are answered when it
// is done with them: close it after the directory. Not to be called from a Done.
func (d *Directory) Close() error {
	d.mu.Lock()
	if !d.closed.Swap(true) {
		close(d.closing)
	}
	d.mu.Unlock()
	d.expirer.stop()
	if d.durable != nil {
		d.durable.stop()
	}
	d.jobs.Wait()
	return nil
}

// background runs f on a goroutine that Close waits for; false if it is too late.
func (d *Directory) background(f func()) bool {
	if !d.startJob() {
		return false
	}
	go func() {
		defer d.jobs.Done()
		f()
	}()
	return true
}

// startJob begins something that Close waits for, until jobs.Done; false if it
// is too late.
func (d *Directory) startJob() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed.Load() {
		return false
	}
	d.jobs.Add(1)
	return true
}

func (d *Directory) nowMS() int64 { return d.opts.Clock.Now().UnixMilli() }

func (d *Directory) retryAfterMS() int64 { return d.opts.RetryAfter.Milliseconds() }

func (d *Directory) laneOf(k presence.Key) *lane {
	return &d.lanes[d.table.ShardOf(shard.Hash(k))]
}

// errUnavailable is the error form of CodeUnavailable.
func errUnavailable(text string) error {
	return &directory.Error{Code: directory.CodeUnavailable, Text: text}
}

var errClosed = errors.New("the directory is closed")
