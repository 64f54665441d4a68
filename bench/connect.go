package bench

import (
	"context"
	"fmt"
	"time"
)

// ConnectOptions are those of Connect.
type ConnectOptions struct {
	Options
	Conns int           // links, each of a user of its own; default 1,000
	Rate  float64       // logins offered per second; default 2,000
	Hold  time.Duration // how long all are held; default 30 s
}

func (o *ConnectOptions) validate() error {
	if o.Conns == 0 {
		o.Conns = 1000
	}
	if o.Rate == 0 {
		o.Rate = 2000
	}
	if o.Hold == 0 {
		o.Hold = 30 * time.Second
	}
	if o.Conns < 1 || o.Hold < 0 {
		return fmt.Errorf("links must be at least 1 and the hold not negative, got %d and %v", o.Conns, o.Hold)
	}
	if err := checkRate(o.Rate, false); err != nil {
		return err
	}
	return o.Options.validate()
}

// connectRun is one run of Connect.
type connectRun struct {
	*crowd
	opts ConnectOptions

	low                 usage
	lowLinks            int
	atFilled, atHoldEnd usage
	interrupted         bool
}

// Connect logs Conns users in at the offered rate, holds and heartbeats them,
// reads every one back over REST, kills all by RST and reads them back again.
// The Result tells what was wrong; the error only that the run could not begin
// or go on. When ctx ends, the result is partial.
func Connect(ctx context.Context, o ConnectOptions) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	r := &connectRun{opts: o}
	var err error
	if r.crowd, err = newCrowd(&r.opts.Options, o.Conns, o.Conns, 0); err != nil {
		return nil, err
	}
	defer r.close()
	res := &Result{Scenario: "connect", Started: time.Now()}
	r.start()
	r.ramp(ctx)
	r.hold(ctx, res)
	broken := r.end()
	r.death(ctx, res)
	r.fill(res, o.Conns, o.Rate, r.interrupted || ctx.Err() != nil)
	r.fillServer(res.Server, res.Logins.OK)
	return res, broken
}

// ramp waits until every login has ended, and takes the first sample of the
// server's memory on the way.
func (r *connectRun) ramp(ctx context.Context) {
	lowMark := max(1, min(2000, r.n/4))
	r.interrupted = !r.raise(ctx, r.n, r.opts.Rate, 0, func() {
		if n := int(r.swarm.online.Load()); r.lowLinks == 0 && n >= lowMark {
			r.low, r.lowLinks = r.meter.read(), n
		}
	})
	r.atFilled = r.meter.read()
}

// hold reads all users back, holds the links while reading some back every
// second, and reads all back again.
func (r *connectRun) hold(ctx context.Context, res *Result) {
	if r.interrupted {
		return
	}
	begin := time.Now()
	res.Checks = append(res.Checks, r.check.once(ctx, "all logged in", r.living(), r.check.online))
	left := r.opts.Hold - time.Since(begin)
	res.Checks = append(res.Checks, r.watchHold(ctx, "during the hold", left, func() {}))
	if r.interrupted = ctx.Err() != nil; !r.interrupted {
		res.Checks = append(res.Checks, r.check.once(ctx, "end of the hold", r.living(), r.check.online))
	}
	r.atHoldEnd = r.meter.read()
}

// death kills all clients and reads back what became of their users.
func (r *connectRun) death(ctx context.Context, res *Result) {
	users := r.living()
	before := r.meter.read()
	killed := r.swarm.kill()
	if r.interrupted {
		return
	}
	r.o.Progress(fmt.Sprintf("%d clients died, reading back", killed))
	c := r.check.until(ctx, "after the death of all clients", users, r.check.lost, r.o.SettleTimeout)
	res.Checks = append(res.Checks, c)
	r.interrupted = ctx.Err() != nil
	if res.Server = r.meter.result(); res.Server != nil {
		res.Server.CPUPerCloseUS = perEach(r.meter.read().cpu-before.cpu, killed)
	}
}

func (r *connectRun) fillServer(sv *ServerResult, logins int) {
	if sv == nil || r.atHoldEnd.cpu == 0 {
		return
	}
	sv.LoginCPU = perEach(r.atFilled.cpu-r.meter.begin.cpu, logins)
	sv.RSSFull = r.atHoldEnd.anon
	sv.HoldCPU = (r.atHoldEnd.cpu - r.atFilled.cpu).Seconds() / r.opts.Hold.Seconds()
	if n := logins - r.lowLinks; r.lowLinks > 0 && n > 0 {
		sv.SlopeFrom, sv.BytesPerLink = r.lowLinks, float64(r.atHoldEnd.anon-r.low.anon)/float64(n)
	}
}
