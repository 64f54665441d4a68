package bench

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// HoldOptions are those of Hold.
type HoldOptions struct {
	Options
	Conns    int           // links, each of a user of its own; default 10,000
	Low      int           // links of the first plateau; default an eighth of Conns
	Rate     float64       // logins offered per second; default 2,000
	Settle   time.Duration // how long the links are idle before memory is read; default 3 s
	Hold     time.Duration // how long heartbeats are sent; default 20 s
	BeatRate float64       // heartbeats per second; default Conns/5. More often than the server asks for is allowed
}

func (o *HoldOptions) validate() error {
	o.Conns = cmp.Or(o.Conns, 10_000)
	o.Low = cmp.Or(o.Low, max(1, o.Conns/8))
	o.Rate = cmp.Or(o.Rate, 2000)
	o.Settle = cmp.Or(o.Settle, 3*time.Second)
	o.Hold = cmp.Or(o.Hold, 20*time.Second)
	o.BeatRate = cmp.Or(o.BeatRate, float64(o.Conns)/5)
	if o.Low < 1 || o.Conns <= o.Low || o.Settle < 0 || o.Hold < 0 {
		return fmt.Errorf("the low plateau must have at least 1 link and less than all, durations not be negative, got %d of %d, %v, %v", o.Low, o.Conns, o.Settle, o.Hold)
	}
	if err := checkRate(o.Rate, false); err != nil {
		return err
	}
	if err := checkRate(o.BeatRate, false); err != nil {
		return err
	}
	return o.Options.validate()
}

// holdRun is one run of Hold.
type holdRun struct {
	*crowd
	opts HoldOptions

	low, full       usage         // on the two plateaus
	logins          time.Duration // CPU of the logins between them
	idle, idleFor   time.Duration // CPU and length of the second plateau
	beaten, beatFor time.Duration // of the hold with heartbeats
	beatsIn         int           // heartbeats answered in that time
	samples         []MemorySample
}

// Hold measures what idle links cost the server: memory as the slope between two
// plateaus, CPU of links that send nothing, CPU of a heartbeat. All users are
// read back on the way. See Connect for Result and error.
func Hold(ctx context.Context, o HoldOptions) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	r := &holdRun{opts: o}
	var err error
	if r.crowd, err = newCrowd(&r.opts.Options, o.Conns, o.Conns, 0); err != nil {
		return nil, err
	}
	defer r.close()
	r.swarm.mute = true
	res := &Result{Scenario: "hold", Started: time.Now()}
	r.start()
	done := r.plateaus(ctx) && r.beats(ctx, res)
	broken := r.end()
	users := r.living()
	r.swarm.kill()
	if done {
		res.Checks = append(res.Checks, r.check.until(ctx, "after the death of all clients", users, r.check.lost, o.SettleTimeout))
	}
	r.fill(res, o.Conns, o.Rate, !done || ctx.Err() != nil)
	r.fillServer(res)
	return res, broken
}

// plateaus opens the links in two waves and reads memory after each.
func (r *holdRun) plateaus(ctx context.Context) bool {
	if !r.plateau(ctx, r.opts.Low, &r.low) {
		return false
	}
	cpu := r.meter.read().cpu
	if !r.raise(ctx, r.n, r.opts.Rate, 0, r.sample) {
		return false
	}
	r.logins = r.meter.read().cpu - cpu
	return r.plateau(ctx, r.n, &r.full)
}

// plateau raises the crowd to n and reads the usage once all has settled.
func (r *holdRun) plateau(ctx context.Context, n int, u *usage) bool {
	if !r.raise(ctx, n, r.opts.Rate, 0, r.sample) {
		return false
	}
	cpu, begin := r.meter.read().cpu, time.Now()
	r.o.Progress(fmt.Sprintf("%d idle links", n))
	if !pause(ctx, r.opts.Settle) {
		return false
	}
	*u = r.meter.read()
	r.idle, r.idleFor = u.cpu-cpu, time.Since(begin)
	r.samples = append(r.samples, MemorySample{n, u.anon})
	return true
}

// maxMemorySamples bounds the samples taken while links are opened.
const maxMemorySamples = 200

// sample notes the memory about every two-hundredth of the way.
func (r *holdRun) sample() {
	links, last := int(r.swarm.online.Load()), 0
	if n := len(r.samples); n > 0 {
		last = r.samples[n-1].Links
	}
	if r.meter.pid != 0 && links-last > r.n/maxMemorySamples {
		r.samples = append(r.samples, MemorySample{links, r.meter.read().anon})
	}
}

// beats sends heartbeats for the hold and reads users back.
func (r *holdRun) beats(ctx context.Context, res *Result) bool {
	every := time.Duration(float64(r.n) / r.opts.BeatRate * float64(time.Second))
	res.Checks = append(res.Checks, r.check.once(ctx, "all logged in", r.living(), r.check.online))
	cpu, begin, answered := r.meter.read().cpu, time.Now(), r.swarm.beatsOK.Load()
	if !r.do(func() { r.swarm.beatNow(every) }) {
		return false
	}
	r.o.Progress(fmt.Sprintf("%d links, %.0f heartbeats a second", r.n, r.opts.BeatRate))
	if !pause(ctx, r.opts.Hold) {
		return false
	}
	r.beaten, r.beatFor = r.meter.read().cpu-cpu, time.Since(begin)
	r.beatsIn = int(r.swarm.beatsOK.Load() - answered)
	res.Checks = append(res.Checks, r.check.once(ctx, "end of the hold", r.living(), r.check.online))
	return ctx.Err() == nil
}

func (r *holdRun) fillServer(res *Result) {
	res.Memory = r.samples
	sv := res.Server
	if sv == nil || r.full.cpu == 0 {
		return
	}
	sv.RSSFull, sv.SlopeFrom = r.full.anon, r.opts.Low
	sv.BytesPerLink = float64(r.full.anon-r.low.anon) / float64(r.n-r.opts.Low)
	sv.LoginCPU = perEach(r.logins, r.n-r.opts.Low)
	sv.IdleCPU = r.idle.Seconds() / r.idleFor.Seconds()
	if r.beatFor > 0 {
		sv.HoldCPU = r.beaten.Seconds() / r.beatFor.Seconds()
		idle := time.Duration(sv.IdleCPU * float64(r.beatFor))
		sv.BeatCPU = max(0, perEach(r.beaten-idle, r.beatsIn))
	}
}
