package engine

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/admission"
	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/storm"
	"github.com/rollcall-im/rollcall/internal/tlslink"
)

// Options configure an Engine. Directory is required; the zero value of
// everything else is its default.
type Options struct {
	// Listeners are where clients connect. Default: native at ":7700".
	Listeners []Listener
	// Loops is the number of event loops, 1 to 256. Default: one per core.
	Loops int
	// MaxLinks bounds the links of all loops. Default: LinkBudget of the
	// open-file limit and FileReserve.
	MaxLinks int
	// FileReserve is the number of open files that links must leave to everybody
	// else, the loops included. Default 256, and what the loops need.
	FileReserve int
	// Node is this node's number, as it stands in links.
	Node uint32

	Directory directory.Directory // who is where
	Clock     clock.Clock         // default: the system's
	Metrics   *metrics.Set        // default: one that nobody reads
	Logger    *slog.Logger        // default: discard

	// AcceptRate is how many new links a second all loops together let in, as many
	// at once. 0: unlimited.
	AcceptRate float64
	// PerIP limits the links of one address, PerNet64 those of one IPv6 /64. Zero: unlimited.
	PerIP, PerNet64 admission.Limits
	// UnlimitedNetworks are those whose addresses PerIP and PerNet64 do not count, nor
	// UserFailures and IPFailures.
	UnlimitedNetworks []netip.Prefix
	// TrackedAddresses is how many addresses are remembered at least. Default 65,536.
	TrackedAddresses int
	// MaxUnauthenticated bounds the links that are not logged in. Default MaxLinks: no bound of its own.
	MaxUnauthenticated int

	// FirstFrameTimeout is from accept to the first complete frame. Default 5 s; at
	// most LoginTimeout.
	FirstFrameTimeout time.Duration
	LoginTimeout      time.Duration // from accept to a complete Login; default 10 s
	DecideTimeout     time.Duration // from a Login to the Directory's answer; default 10 s
	LeaveTimeout      time.Duration // from a Logout to the Directory's answer; default 5 s
	DrainTimeout      time.Duration // from a closing frame to the close, at most; default 1 s
	// RetryAfter is the least a client is asked to wait where the server is to
	// blame; it is told a time up to RetrySpread longer, and up to RetryMost where
	// many are sent away. Defaults 1 s, 9 s and 2 min.
	RetryAfter, RetrySpread, RetryMost time.Duration
	// DrainRedirect is where a node that stops sends its clients, host:port; "" =
	// they come back to where they were. The port is the native listener's; clients
	// of others are sent to the same host, at the port of their own listener here.
	DrainRedirect string

	// Handshakes bound those of listeners with TLS. Clock and Metrics are set to the engine's.
	Handshakes tlslink.Options

	// MinProgress is how many bytes a second of a frame that has begun must come, on
	// average over 10 s. Default 64; negative: any.
	MinProgress int
	// OutboundCap is how many bytes may wait for a client that does not read. Default 64 KiB.
	OutboundCap int
	// MaxPipelined bounds the frames that a client may send while its login is
	// being decided, and those to be answered that may come at once. Default 64.
	MaxPipelined int
	// MaxPendingLogins bounds, per loop, the logins being decided; the Directory's
	// latency may set a lower bound. Default 65,536.
	MaxPendingLogins int
	// LoginRate is how many logins per second the node takes at most; the times at
	// which clients are to come back follow from it. 0: no bound, the rate is measured.
	LoginRate float64
	// LoginQueueTime is how long a login may wait for its turn, MaxWaitingLogins how
	// many may, per loop. Defaults 1 s and 8,192.
	LoginQueueTime   time.Duration
	MaxWaitingLogins int
	// LoginSlice bounds the logins that a loop takes before it looks at its other
	// events. Default 32.
	LoginSlice int
	// UserFailures and IPFailures are how many logins of a user from one address, and
	// from one address, may show a bad UserSig within FailureWindow; then more are
	// refused for a time that doubles up to PenaltyMost. Defaults 10, 300, 1 min and
	// 5 min; less than 0: any number.
	UserFailures, IPFailures   int
	FailureWindow, PenaltyMost time.Duration
	// MaxPenalties bounds the addresses and users of whom failures are remembered.
	// Default 65,536.
	MaxPenalties int
	// SigCache is how many verified UserSigs are remembered. Default 65,536; less
	// than 0: none.
	SigCache int
	// MaxPendingLeaves bounds, per loop, the leaves that wait to be tried again
	// because the Directory was not available. Default MaxLinks: enough for an outage
	// in which all links end.
	MaxPendingLeaves int
	// MaxPendingChanges bounds, per loop, the changes on their way to links that are
	// subscribed. Over it these links are closed. Default 65,536.
	MaxPendingChanges int
	// MaxPartialBytes bounds, per loop, the memory of WebSocket messages that came in
	// pieces and are not whole yet. Default 16 MiB.
	MaxPartialBytes int
	// Batch bounds the work of one step of a loop: completions, due timers, links
	// told of a stop. Default 512 each.
	Batch int

	// Seed makes generations and retry times repeatable. 0: random.
	Seed uint64
}

// Bounds of Options.
const (
	MaxLoops        = 1 << 8  // as LinkID has room for
	maxSlotsPerLoop = 1 << 24 // as LinkID has room for
)

// reservePerLoop is what a loop needs besides links: an epoll, an eventfd, its
// listeners, the connection that is accepted to be refused, and one that is being
// closed: its place is free, for any loop, before its file is.
func (o *Options) reservePerLoop() int { return reservePerLoop(len(o.Listeners)) }

func reservePerLoop(listeners int) int { return 4 + listeners }

// LoopFiles is how many open files the event loops need besides links: a part of
// FileReserve. 0 loops are the default number.
func LoopFiles(loops, listeners int) int {
	orDefault(&loops, defaultLoops())
	return loops * reservePerLoop(listeners)
}

func defaultLoops() int { return min(runtime.GOMAXPROCS(0), MaxLoops) }

// Off as an address means no listener.
const Off = "off"

// validate fills in the defaults and reports the first value that is out of bounds.
func (o *Options) validate() error {
	if o.Directory == nil {
		return errors.New("engine: Options.Directory is nil")
	}
	if err := o.validateListeners(); err != nil {
		return err
	}
	o.setDefaults()
	if o.Loops < 1 || o.Loops > MaxLoops {
		return fmt.Errorf("engine: Loops is %d, want 1 to %d", o.Loops, MaxLoops)
	}
	if err := o.validateLinks(); err != nil {
		return err
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{
		{"LoginTimeout", o.LoginTimeout}, {"FirstFrameTimeout", o.FirstFrameTimeout}, {"DecideTimeout", o.DecideTimeout}, {"LeaveTimeout", o.LeaveTimeout},
		{"DrainTimeout", o.DrainTimeout}, {"RetryAfter", o.RetryAfter}, {"RetrySpread", o.RetrySpread},
		{"RetryMost", o.RetryMost}, {"LoginQueueTime", o.LoginQueueTime}, {"FailureWindow", o.FailureWindow}, {"PenaltyMost", o.PenaltyMost},
	} {
		if d.value < time.Millisecond || d.value > time.Hour {
			return fmt.Errorf("engine: %s is %v, want 1 ms to 1 h", d.name, d.value)
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{
		{"OutboundCap", o.OutboundCap}, {"MaxPendingLogins", o.MaxPendingLogins},
		{"MaxPendingLeaves", o.MaxPendingLeaves}, {"Batch", o.Batch}, {"MaxUnauthenticated", o.MaxUnauthenticated},
		{"MaxWaitingLogins", o.MaxWaitingLogins}, {"LoginSlice", o.LoginSlice}, {"MaxPenalties", o.MaxPenalties},
		{"MaxPartialBytes", o.MaxPartialBytes}, {"MaxPendingChanges", o.MaxPendingChanges},
	} {
		if n.value < 1 || n.value > 1<<30 {
			return fmt.Errorf("engine: %s is %d, want 1 to %d", n.name, n.value, 1<<30)
		}
	}
	if err := validateNetworks("UnlimitedNetworks", o.UnlimitedNetworks); err != nil {
		return fmt.Errorf("engine: %w", err)
	}
	if !(o.AcceptRate >= 0 && o.AcceptRate <= admission.MaxRate) {
		return fmt.Errorf("engine: AcceptRate is %v, want 0 to %v", o.AcceptRate, admission.MaxRate)
	}
	if o.MinProgress > codec.MaxFrame {
		return fmt.Errorf("engine: MinProgress is %d, want at most %d", o.MinProgress, codec.MaxFrame)
	}
	switch {
	case o.LoginRate < 0 || o.LoginRate > 1e9 || o.LoginRate != o.LoginRate:
		return fmt.Errorf("engine: LoginRate is %v, want 0 to 1e9 a second", o.LoginRate)
	case o.SigCache > 1<<26:
		return fmt.Errorf("engine: SigCache is %d, want at most %d", o.SigCache, 1<<26)
	case len(o.DrainRedirect) > codec.MaxAddress:
		return fmt.Errorf("engine: DrainRedirect has %d bytes, want at most %d", len(o.DrainRedirect), codec.MaxAddress)
	case o.RetryMost < o.RetryAfter:
		return fmt.Errorf("engine: RetryMost is %v, less than RetryAfter, %v", o.RetryMost, o.RetryAfter)
	}
	if o.MaxPipelined < 1 || o.MaxPipelined > math.MaxUint16 {
		return fmt.Errorf("engine: MaxPipelined is %d, want 1 to %d", o.MaxPipelined, math.MaxUint16)
	}
	return nil
}

func (o *Options) setDefaults() {
	orDefault(&o.Loops, defaultLoops())
	orDefault(&o.FileReserve, 256+o.reservePerLoop()*max(o.Loops, 0))
	orDefault(&o.LoginTimeout, 10*time.Second)
	orDefault(&o.FirstFrameTimeout, 5*time.Second)
	o.FirstFrameTimeout = min(o.FirstFrameTimeout, o.LoginTimeout)
	orDefault(&o.MinProgress, 64)
	orDefault(&o.DecideTimeout, 10*time.Second)
	orDefault(&o.LeaveTimeout, 5*time.Second)
	orDefault(&o.DrainTimeout, time.Second)
	orDefault(&o.RetryAfter, time.Second)
	orDefault(&o.RetrySpread, 9*time.Second)
	orDefault(&o.RetryMost, 2*time.Minute)
	orDefault(&o.LoginQueueTime, time.Second)
	orDefault(&o.MaxWaitingLogins, 8192)
	orDefault(&o.LoginSlice, 32)
	orDefault(&o.UserFailures, 10)
	orDefault(&o.IPFailures, 300)
	orDefault(&o.FailureWindow, time.Minute)
	orDefault(&o.PenaltyMost, 5*time.Minute)
	orDefault(&o.MaxPenalties, 1<<16)
	orDefault(&o.SigCache, 1<<16)
	orDefault(&o.OutboundCap, 64<<10)
	orDefault(&o.MaxPipelined, 64)
	orDefault(&o.MaxPendingLogins, 1<<16)
	orDefault(&o.Batch, 512)
	orDefault(&o.MaxPartialBytes, 16<<20)
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
}

// newPenalties returns the table of those who fail to log in.
func (o *Options) newPenalties() *storm.Penalties {
	return storm.NewPenalties(storm.PenaltyOptions{
		UserFailures: max(o.UserFailures, 0), IPFailures: max(o.IPFailures, 0),
		WindowMS: o.FailureWindow.Milliseconds(), MostMS: o.PenaltyMost.Milliseconds(), Max: o.MaxPenalties,
	})
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// validateLinks holds MaxLinks to the open-file limit: gnet ends with all its
// links when accept finds no file left, so the cap must strike first.
func (o *Options) validateLinks() error {
	files, err := OpenFileLimit()
	if err != nil {
		return err
	}
	if least := o.reservePerLoop() * o.Loops; o.FileReserve < least {
		return fmt.Errorf("engine: FileReserve is %d, %d loops need at least %d", o.FileReserve, o.Loops, least)
	}
	most := min(LinkBudget(files, o.FileReserve), o.Loops*maxSlotsPerLoop)
	if most < 1 {
		return fmt.Errorf("engine: %d open files are allowed, a reserve of %d leaves none for links", files, o.FileReserve)
	}
	if o.MaxLinks == 0 {
		o.MaxLinks = most
	}
	if o.MaxLinks < 1 || o.MaxLinks > most {
		return fmt.Errorf("engine: MaxLinks is %d, want 1 to %d (%d open files are allowed, %d are in reserve)", o.MaxLinks, most, files, o.FileReserve)
	}
	orDefault(&o.MaxPendingLeaves, o.MaxLinks)
	orDefault(&o.MaxPendingChanges, 1<<16)
	orDefault(&o.MaxUnauthenticated, o.MaxLinks)
	return nil
}

// OpenFileLimit is the number of files that this process may open
// (RLIMIT_NOFILE; the Go runtime has raised the soft limit to the hard one).
func OpenFileLimit() (int, error) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, fmt.Errorf("engine: cannot read the limit of open files: %w", err)
	}
	const infinite = 1 << 30
	return int(min(r.Cur, infinite)), nil
}

// LinkBudget is how many links fit into a limit of open files if reserve of them
// are left to listeners, API, webhooks, store and the rest of the process.
func LinkBudget(files, reserve int) int { return max(files-reserve, 0) }
