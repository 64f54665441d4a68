package attack

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/bench"
)

// Options are those of Run. The zero value of each is its default.
type Options struct {
	Server string   // the server's binary; required
	Names  []string // rows to run; default all
	Small  bool     // small sizes: for tests, where it shall be quick
	// Attacker is the binary of rollcall-bench. With it each attack comes from a
	// process of its own, which yields to server and crowd: attackers have machines of
	// their own, here they share one. Default: from this process.
	Attacker string
	// Normal and During are how long the crowd is watched without and with the
	// attack. Default 10 s and 15 s, with Small 1 s and 2 s.
	Normal, During time.Duration
	Rate           float64       // honest logins per second; default 100
	Settle         time.Duration // for the server to get back to where it was; default 60 s
	MaxRatio       float64       // of login p99 beside normal, above which a row is wrong; 0 = it is a figure only. For a machine that does nothing else
	// Lanes is how many rows are played side by side, each with a server and a crowd
	// of its own; default 1. With more, figures of time mean nothing.
	Lanes    int
	Progress func(string)
}

func (o *Options) validate() error {
	if o.Server == "" {
		return errors.New("the server's binary is missing")
	}
	if len(o.Names) == 0 {
		var err error
		if o.Names, err = Offered(o.Server); err != nil {
			return err
		}
	}
	for _, name := range o.Names {
		if findRow(name) == nil {
			return fmt.Errorf("there is no row %q; there are %v", name, Rows())
		}
	}
	normal, during := 10*time.Second, 15*time.Second
	if o.Small {
		normal, during = time.Second, 2*time.Second
	}
	o.Normal, o.During = cmp.Or(o.Normal, normal), cmp.Or(o.During, during)
	o.Rate, o.Settle, o.Lanes = cmp.Or(o.Rate, 100), cmp.Or(o.Settle, time.Minute), cmp.Or(o.Lanes, 1)
	if o.Lanes < 1 || o.Lanes > 16 {
		return fmt.Errorf("lanes must be 1 to 16, got %d", o.Lanes)
	}
	if o.Normal < 0 || o.During < 0 || o.Rate < 1 || o.Rate > 1000 || o.Settle < 0 {
		return fmt.Errorf("durations must not be negative and the rate 1 to 1000, got %v, %v, %v, %v", o.Normal, o.During, o.Settle, o.Rate)
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return nil
}

// Offered lists the rows for whose listeners the server's binary has.
func Offered(server string) ([]string, error) {
	var names []string
	for i := range rows {
		if need := rows[i].needs; need != "" {
			has, err := offers(server, need)
			if err != nil {
				return nil, err
			}
			if !has {
				continue
			}
		}
		names = append(names, rows[i].name)
	}
	return names, nil
}

// Run plays the rows, each against a server of its own. The Result tells what
// was wrong; the error only that the suite could not begin or go on.
func Run(ctx context.Context, o Options) (*bench.Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", bench.ErrOptions, err)
	}
	res := &bench.Result{Scenario: "hostile", Started: time.Now(), OK: true, Errors: map[bench.Fault]uint64{}}
	played := playAll(ctx, &o)
	res.Seconds = time.Since(res.Started).Seconds()
	if ctx.Err() != nil {
		res.OK, res.Interrupted = false, true
	}
	for _, r := range played {
		if r == nil {
			continue // interrupted before
		}
		res.Hostile = append(res.Hostile, *r)
		for _, text := range r.Wrong {
			res.OK = false
			res.Errors[bench.FaultHostile]++
			res.ErrorSamples = append(res.ErrorSamples, fmt.Sprintf("%s: %s", r.Name, text))
		}
	}
	return res, nil
}

// playAll plays the rows in so many lanes and returns them in their order.
func playAll(ctx context.Context, o *Options) []*bench.HostileRow {
	played := make([]*bench.HostileRow, len(o.Names))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(o.Lanes, len(o.Names)) {
		wg.Go(func() {
			for i := next.Add(1) - 1; int(i) < len(o.Names) && ctx.Err() == nil; i = next.Add(1) - 1 {
				if r := runRow(ctx, o, findRow(o.Names[i])); ctx.Err() == nil {
					played[i] = r
				}
			}
		})
	}
	wg.Wait()
	return played
}

// trial is one row at work.
type trial struct {
	o      *Options
	row    *row
	out    *bench.HostileRow
	server *process
	op     *operator
	before counters
	memory int64
}

func (t *trial) wrong(format string, args ...any) {
	t.out.Wrong = append(t.out.Wrong, fmt.Sprintf(format, args...))
}

func runRow(ctx context.Context, o *Options, r *row) *bench.HostileRow {
	t := &trial{o: o, row: r, out: &bench.HostileRow{Name: r.name, What: r.what, Unit: r.unit, Size: r.full}}
	flags := r.flags
	if o.Small {
		t.out.Size = r.small
		flags = append(flags[:len(flags):len(flags)], r.shortFlags...)
	}
	dir, err := os.MkdirTemp("", "hostile")
	if err != nil {
		t.wrong("%v", err)
		return t.out
	}
	defer os.RemoveAll(dir)
	if t.server, err = startServer(ctx, o.Server, dir, flags); err != nil {
		t.wrong("%v", err)
		return t.out
	}
	t.op = newOperator(&t.server.target)
	t.play(ctx)
	if err := t.server.stop(); err != nil {
		t.wrong("%v", err)
	}
	return t.out
}

// play watches the crowd without and with the attack, and what is left of it.
func (t *trial) play(ctx context.Context) {
	if !t.o.Small { // what a server does for the first time takes longer
		t.crowd(ctx, "to warm the server up", t.o.Normal/5, 2)
	}
	normal := t.crowd(ctx, "without the attack", t.o.Normal, 0)
	var err error
	if t.before, err = t.op.settled(); err != nil || normal == nil {
		t.wrong("before the attack: %v", err)
		return
	}
	t.memory, _ = t.server.memory()
	if err := t.server.forgetPeak(); err != nil {
		t.wrong("%v", err)
	}
	attack, end := context.WithCancel(ctx)
	defer end()
	a, err := t.begin(attack)
	if err != nil {
		t.wrong("the attack: %v", err)
		return
	}
	during := t.crowd(ctx, "under attack", t.o.During, 1)
	end()
	did := a.wait()
	if during == nil || ctx.Err() != nil {
		return
	}
	t.figures(normal, during, did)
	t.aftermath(ctx)
}

// crowd lets the honest users do what they do and counts what goes wrong for them as wrong.
func (t *trial) crowd(ctx context.Context, when string, d time.Duration, run int) *bench.Result {
	t.o.Progress(fmt.Sprintf("%s: the crowd %s", t.row.name, when))
	o := bench.MixedOptions{
		Options: bench.Options{
			Target: t.server.target.Native, API: "http://" + t.server.target.API, AdminURL: "http://" + t.server.target.Admin, AdminToken: adminToken,
			App: t.server.target.App, Key: t.server.target.Key, UserPrefix: fmt.Sprintf("honest-%d-", run), PerSource: 10,
			AnswerTimeout: 20 * time.Second, SettleTimeout: 20 * time.Second,
		},
		Conns: int(t.o.Rate), Rate: t.o.Rate, Duration: d, QueryRate: 20, QueryIDs: 50, KickRate: t.o.Rate / 10, BeatRate: t.o.Rate,
	}
	r, err := bench.Mixed(ctx, o)
	if err != nil {
		t.wrong("the crowd %s: %v", when, err)
		return nil
	}
	if !r.OK && !r.Interrupted {
		t.wrong("the crowd %s: %v: %s", when, r.Errors, strings.Join(r.ErrorSamples, "; "))
	}
	return r
}

// figures notes what the attack did, and holds memory and counters to what the row allows.
func (t *trial) figures(normal, during *bench.Result, did map[string]int64) {
	t.out.Did = did
	t.out.NormalP50, t.out.AttackP50 = normal.Logins.Latency.P50, during.Logins.Latency.P50
	t.out.NormalP99, t.out.AttackP99 = normal.Logins.Latency.P99, during.Logins.Latency.P99
	if t.o.MaxRatio > 0 && t.out.Ratio() > t.o.MaxRatio {
		t.wrong("login p99 was %.1f times normal, the bound is %g", t.out.Ratio(), t.o.MaxRatio)
	}
	_, peak := t.server.memory()
	t.out.MemoryBefore, t.out.MemoryPeak = t.memory, peak
	if grown := peak - t.memory; grown > int64(t.row.ceiling)<<20 {
		t.wrong("memory grew by %d MiB, the ceiling is %d", grown>>20, t.row.ceiling)
	}
	if did["GOT IN"] > 0 {
		t.wrong("%d calls got in without the token", did["GOT IN"])
	}
	now, err := t.op.counters()
	if err != nil {
		t.wrong("%v", err)
		return
	}
	grown := now.since(t.before)
	t.out.Counters = grown
	for name, least := range t.row.shows {
		if got := grown.sum(name); got < least {
			t.wrong("%s grew by %v, want at least %v", name, got, least)
		}
	}
	for _, name := range []string{"rollcall_rest_panics_total", "rollcall_admin_panics_total", "rollcall_leaves_dropped_total", "rollcall_notices_dropped_total"} {
		if n := grown.sum(name); n > 0 {
			t.wrong("%s grew by %v", name, n)
		}
	}
}

// Slack of what is left after an attack: what the runtime and the pools keep.
const (
	slackGoroutines = 16
	slackHeap       = 24 << 20
)

// aftermath waits until the server is back where it was: no link, no goroutine
// and no memory of the attack.
func (t *trial) aftermath(ctx context.Context) {
	t.o.Progress(t.row.name + ": the aftermath")
	var left string
	for end := time.Now().Add(t.o.Settle); ; {
		now, err := t.op.settled()
		if err != nil {
			t.wrong("%v", err)
			return
		}
		if left = t.left(now); left == "" {
			return
		}
		if time.Now().After(end) || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	t.wrong("after %v there are still %s", t.o.Settle, left)
}

// left says what of an attack is still there.
func (t *trial) left(now counters) string {
	t.out.GoroutinesBefore, t.out.GoroutinesAfter = int(t.before["go_goroutines"]), int(now["go_goroutines"])
	t.out.HeapBefore, t.out.HeapAfter = int64(t.before["go_memstats_heap_inuse_bytes"]), int64(now["go_memstats_heap_inuse_bytes"])
	switch links := now.sum("rollcall_links"); {
	case links > t.before.sum("rollcall_links"):
		return fmt.Sprintf("%v links", links)
	case t.out.GoroutinesAfter > t.out.GoroutinesBefore+slackGoroutines:
		return fmt.Sprintf("%d goroutines, %d before", t.out.GoroutinesAfter, t.out.GoroutinesBefore)
	case t.out.HeapAfter > t.out.HeapBefore+slackHeap:
		return fmt.Sprintf("%d MiB of heap in use, %d before", t.out.HeapAfter>>20, t.out.HeapBefore>>20)
	}
	return ""
}

// underway is an attack that has begun.
type underway struct{ wait func() map[string]int64 }

// begin starts the attack and returns once it is in place.
func (t *trial) begin(ctx context.Context) (*underway, error) {
	t.o.Progress(t.row.name + ": the attack begins")
	if t.o.Attacker != "" {
		return t.spawn(ctx)
	}
	a, err := New(t.row.name, t.server.target, t.out.Size)
	if err != nil {
		return nil, err
	}
	done := make(chan map[string]int64, 1)
	go func() { done <- a.Run(ctx) }()
	select {
	case <-a.Ready():
	case <-ctx.Done():
	}
	return &underway{func() map[string]int64 { return <-done }}, nil
}

// startYielding starts a program that runs only while nobody else wants the processor.
// A lower priority would not do: a scheduler lets such a process end its slice, some
// milliseconds, before it lets the server or the crowd have the core.
func startYielding(cmd *exec.Cmd) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: a process has the policy of the thread that starts it, which ends with this goroutine
		err := unix.SchedSetAttr(0, &unix.SchedAttr{Policy: unix.SCHED_IDLE}, 0)
		if err == nil {
			err = cmd.Start()
		}
		started <- err
	}()
	return <-started
}

// spawn starts the attack in a process of its own, which prints a line once it is in place and,
// when its standard input ends, what it did.
func (t *trial) spawn(ctx context.Context) (*underway, error) {
	s := &t.server.target
	cmd := exec.Command(t.o.Attacker, "attack", "--row", t.row.name, "--size", fmt.Sprint(t.out.Size), "--until-eof",
		"--target", s.Native, "--ws", s.WS, "--mqtt", s.MQTT, "--native-tls", s.NativeTLS, "--api", "http://"+s.API, "--admin-url", "http://"+s.Admin, "--app", fmt.Sprint(s.App), "--key-file", filepath.Join(t.server.dir, "key"), "--json", "-")
	if err := os.WriteFile(filepath.Join(t.server.dir, "key"), []byte(s.Key), 0o600); err != nil {
		return nil, err
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	var says bytes.Buffer
	cmd.Stderr = &says
	if err := startYielding(cmd); err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { in.Close() })
	line := make([]byte, len(InPlace))
	if _, err := io.ReadFull(out, line); err != nil {
		in.Close()
		return nil, errors.Join(err, cmd.Wait(), errors.New(says.String()))
	}
	return &underway{func() map[string]int64 {
		text, _ := io.ReadAll(out)
		did := map[string]int64{}
		if err := errors.Join(json.Unmarshal(text, &did), cmd.Wait()); err != nil {
			t.wrong("the attacker: %v: %s", err, tail(says.Bytes()))
		}
		return did
	}}, nil
}

// InPlace is what an attacker's process prints first.
const InPlace = "in place\n"
