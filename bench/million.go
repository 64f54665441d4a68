package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/codec"
)

// MillionOptions are those of Million. Options.Platforms is not used: a tenth of
// the users are on the Web and go silent, the others are on the other platforms.
type MillionOptions struct {
	Options
	Conns   int           // links, each of a user of its own; 0 = as many as the machine carries
	Ceiling int           // with Conns 0: never more than this; default 16,000,000 and what the open-file limit allows
	Floor   float64       // with Conns 0: stop when less than this share of memory is available; default 0.04
	Window  int           // logins under way at once; default 256
	Hold    time.Duration // how long heartbeats are answered once all are there; default 5 min
	// Beat is the heartbeat interval of those who stay, set over the console for
	// the run and put back after it. Default 600 s.
	Beat time.Duration
	// Silence is the silence time-out of those who go silent, set likewise. Their
	// heartbeat interval is 2/5 of it. Default 600 s.
	Silence time.Duration
}

func (o *MillionOptions) validate() error {
	o.Ceiling = cmp.Or(o.Ceiling, 16_000_000)
	o.Floor = cmp.Or(o.Floor, 0.04)
	o.Window = cmp.Or(o.Window, 256)
	o.Hold = cmp.Or(o.Hold, 5*time.Minute)
	o.Beat = cmp.Or(o.Beat, 10*time.Minute)
	o.Silence = cmp.Or(o.Silence, 10*time.Minute)
	switch {
	case o.Conns < 0 || o.Ceiling < 1 || o.Window < 1 || o.Hold < 0:
		return fmt.Errorf("links, ceiling, window and hold must not be negative, got %d, %d, %d, %v", o.Conns, o.Ceiling, o.Window, o.Hold)
	case o.Floor < 0 || o.Floor > 0.9:
		return fmt.Errorf("the share of memory to keep must be 0 to 0.9, got %v", o.Floor)
	case o.Beat < time.Second || o.Beat > 6*time.Hour:
		return fmt.Errorf("the heartbeat interval must be 1 s to 6 h, got %v", o.Beat)
	case o.Silence < 3*time.Second || o.Silence > 24*time.Hour:
		return fmt.Errorf("the silence time-out must be 3 s to 24 h, got %v", o.Silence)
	}
	o.Platforms = millionPlatforms
	return o.Options.validate()
}

// millionPlatforms are those of ten users in a row; the last one goes silent.
var millionPlatforms = []codec.Platform{
	codec.Android, codec.IPhone, codec.Windows, codec.Android, codec.IPad,
	codec.Mac, codec.HarmonyOS, codec.Linux, codec.Android, codec.Web,
}

// millionRun is one run of Million.
type millionRun struct {
	*crowd
	opts    MillionOptions
	console *console
	begin   time.Time
	res     *Result
}

// Million counts how many links server, kernel and client carry, and whether all
// is right with them: logins one by one, heartbeats, queries, a tenth of the
// links that go silent and must all be found, the death of the rest. It judges no
// speed. See Connect for Result and error.
func Million(ctx context.Context, o MillionOptions) (_ *Result, err error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	n := o.Conns
	if n == 0 {
		if n, err = filesFor(o.Ceiling); err != nil {
			return nil, err
		}
	}
	r := &millionRun{opts: o, console: newConsole(&o.Options), begin: time.Now()}
	if r.crowd, err = newCrowd(&r.opts.Options, n, 0, 0); err != nil {
		return nil, err
	}
	defer r.close()
	long := classTimes{HeartbeatMS: o.Beat.Milliseconds(), SilenceMS: 4 * o.Beat.Milliseconds()}
	times := allSilent(o.Silence)
	times.Mobile, times.Desktop = long, long
	restore, err := changeTimeouts(&o.Options, times)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, restore()) }()
	r.res = &Result{Scenario: "million", Started: r.begin}
	r.snapshot("before")
	r.start()
	done := r.phases(ctx)
	broken := r.end()
	r.swarm.kill()
	wanted := o.Conns
	if wanted == 0 {
		wanted = int(r.goal.Load())
	}
	r.fill(r.res, wanted, 0, !done || ctx.Err() != nil)
	return r.res, broken
}

// filesFor is how many links the open-file limit allows, at most n.
func filesFor(n int) (int, error) {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("cannot read the limit of open files: %w", err)
	}
	if lim.Max < spareFiles+1 {
		return 0, fmt.Errorf("this process may have %d open files", lim.Max)
	}
	return int(min(uint64(n), lim.Max-spareFiles)), nil
}

// phases goes through the run; false if it was interrupted or the swarm broke.
func (r *millionRun) phases(ctx context.Context) bool {
	if !r.ramp(ctx) {
		return false
	}
	r.snapshot("all logged in")
	r.checked(r.check.once(ctx, "all logged in", r.living(), r.check.online))
	hold := r.watchHold(ctx, "during the hold", r.opts.Hold, func() {})
	r.checked(hold)
	r.snapshot("end of the hold")
	if ctx.Err() != nil || !r.silence(ctx) {
		return false
	}
	r.snapshot("a tenth is gone")
	r.checked(r.check.once(ctx, "after the silence, the others", r.living(), r.check.online))
	return ctx.Err() == nil && r.drop(ctx)
}

func (r *millionRun) checked(c CheckResult) { r.res.Checks = append(r.res.Checks, c) }

// ramp logs everybody in, or as many as there is room for.
func (r *millionRun) ramp(ctx context.Context) bool {
	next := r.n / 10
	var looked time.Time
	ok := r.raise(ctx, r.n, 0, r.opts.Window, func() {
		if online := int(r.swarm.online.Load()); online >= next && next > 0 && r.opts.Conns > 0 {
			next += r.n / 10
			r.snapshot("logging in")
		}
		if time.Since(looked) < time.Second || r.res.Stopped != "" {
			return
		}
		looked = time.Now()
		if why := r.full(); why != "" {
			r.res.Stopped = fmt.Sprintf("%s, at %d links", why, r.cut())
		}
	})
	if r.opts.Conns == 0 && r.res.Stopped == "" {
		r.res.Stopped = fmt.Sprintf("all %d links that the limits of open files and of the run allow are open", r.n)
	}
	return ok
}

// full says why no more links are to be opened, nothing if they are.
func (r *millionRun) full() string {
	if n := r.faults.total(); n > 0 {
		return fmt.Sprintf("%d errors", n)
	}
	if r.opts.Conns > 0 {
		return ""
	}
	available, total, err := memAvailable()
	switch {
	case err != nil:
		return err.Error()
	case float64(available) < r.opts.Floor*float64(total):
		return fmt.Sprintf("%d MB of %d MB memory were left", available>>20, total>>20)
	}
	return ""
}

// silence lets the Web users go silent and finds them.
func (r *millionRun) silence(ctx context.Context) bool {
	users := slices.DeleteFunc(r.living(), func(n int) bool { return r.pop.platform(n) != codec.Web })
	d := newDrop(r.crowd, DropSilence, users, r.opts.SettleTimeout)
	if !d.begin() {
		return false
	}
	found, ok := d.find(ctx)
	found.Silence = r.opts.Silence.Seconds()
	ok = ok && d.closes(ctx, &found)
	r.res.Drop = &found
	return ok
}

// drop kills the rest and reads what became of them.
func (r *millionRun) drop(ctx context.Context) bool {
	d := newDrop(r.crowd, DropRST, r.living(), r.opts.SettleTimeout)
	cpu := r.meter.read().cpu
	if !d.begin() {
		return false
	}
	found, ok := d.find(ctx)
	r.checked(CheckResult{When: "after the death of the rest", Users: found.Users, Right: found.Found, Seconds: found.Seconds})
	r.snapshot("all gone")
	if r.res.Server = r.meter.result(); r.res.Server != nil {
		r.res.Server.CPUPerCloseUS = perEach(r.meter.read().cpu-cpu, found.Users)
		r.memory()
	}
	return ok
}

// memory sums up the snapshots in the server's part of the result.
func (r *millionRun) memory() {
	snaps := r.res.Snapshots
	for _, s := range snaps {
		if s.When == "end of the hold" {
			r.res.Server.RSSFull = s.ServerAnon
			r.res.Server.BytesPerLink = float64(s.ServerAnon-snaps[0].ServerAnon) / float64(max(1, s.Links))
		}
	}
}

// snapshot notes what server, kernel and Go runtime say now. What cannot be read is a fault.
func (r *millionRun) snapshot(when string) {
	u := r.meter.read()
	s := Snapshot{When: when, Seconds: time.Since(r.begin).Seconds(), Links: int(r.swarm.online.Load()), ServerAnon: u.anon, ClientRSS: residentOf(os.Getpid())}
	if r.meter.pid != 0 {
		s.ServerRSS = residentOf(r.meter.pid)
	}
	if err := fillKernel(&s); err != nil {
		r.faults.add(FaultLocal, "%v", err)
	}
	m, err := r.console.metrics()
	if err != nil {
		r.faults.add(FaultConsole, "metrics: %v", err)
	}
	s.Heap, s.GCs = int64(m["go_memstats_heap_inuse_bytes"]), int(m["go_gc_duration_seconds_count"])
	s.GCPauseS = m["go_gc_duration_seconds_sum"]
	r.res.Snapshots = append(r.res.Snapshots, s)
	r.o.Progress(s.String())
}
