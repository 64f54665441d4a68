package bench

import (
	"cmp"
	"context"
	"fmt"
	"time"
)

// StormOptions are those of Storm.
type StormOptions struct {
	Options
	Conns int // logins per point, each of a user of its own; default 5,000
	// Rates are the offered rates, one point of the curve each, in logins per
	// second; 0 = everybody at once. Default 0 alone.
	Rates []float64

	// Loads, if there are any, replace Rates: multiples of the capacity at which
	// logins are offered for Duration each, while a standing crowd of Conns sends
	// heartbeats and some of it is kicked.
	Loads    []float64
	Capacity float64       // logins per second; 0: found first, by Window callers who take turns
	Duration time.Duration // default 10 s; the first fifth is not measured
	BeatRate float64       // heartbeats of the crowd per second; default a fifth of Conns
	KickRate float64       // kicks per second; default 10
	Callers  int           // users who log in; default 10,000
	Window   int           // default 128
	// Rude callers do not wait for as long as they are told: all come back at once.
	Rude bool
}

func (o *StormOptions) validate() error {
	o.Conns = cmp.Or(o.Conns, 5000)
	if len(o.Rates) == 0 {
		o.Rates = []float64{0}
	}
	if len(o.Loads) > 0 {
		if err := o.validateLoads(); err != nil {
			return err
		}
	}
	if o.Conns < 1 {
		return fmt.Errorf("links must be at least 1, got %d", o.Conns)
	}
	for _, rate := range o.Rates {
		if err := checkRate(rate, true); err != nil {
			return err
		}
	}
	return o.Options.validate()
}

// Storm logs everybody in at each of the offered rates, or all at once, reads
// every user back, and kills all before the next rate. See Connect for Result
// and error.
func Storm(ctx context.Context, o StormOptions) (*Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	if len(o.Loads) > 0 {
		return overload(ctx, &o)
	}
	res := &Result{Scenario: "storm", Started: time.Now(), OK: true, Errors: map[Fault]uint64{}}
	m, err := newMeter(o.ServerPID)
	if err != nil {
		return nil, err
	}
	for _, rate := range o.Rates {
		err := stormPoint(ctx, &o, rate, res)
		if err != nil || !res.OK {
			if len(res.Points) == 0 && err != nil {
				return nil, err
			}
			res.OK, res.Seconds = false, time.Since(res.Started).Seconds()
			return res, err
		}
	}
	res.Server, res.Seconds = m.result(), time.Since(res.Started).Seconds()
	return res, nil
}

// stormPoint adds one offered rate to res.
func stormPoint(ctx context.Context, o *StormOptions, rate float64, res *Result) error {
	c, err := newCrowd(&o.Options, o.Conns, o.Conns, 0)
	if err != nil {
		return err
	}
	defer c.close()
	begin := c.meter.read().cpu
	c.start()
	done := c.raise(ctx, c.n, rate, 0, func() {})
	p := Point{OfferedRate: rate, LoginCPU: perEach(c.meter.read().cpu-begin, int(c.swarm.loginsOK.Load()))}
	when := func(what string) string { return what + ", " + rateText(rate) }
	if done {
		res.Checks = append(res.Checks, c.check.once(ctx, when("all logged in"), c.living(), c.check.online))
	}
	broken := c.end()
	users := c.living()
	c.swarm.kill()
	if done {
		res.Checks = append(res.Checks, c.check.until(ctx, when("after the death"), users, c.check.lost, o.SettleTimeout))
	}
	one := Result{Started: res.Started}
	c.fill(&one, c.n, rate, !done || ctx.Err() != nil)
	p.Rate, p.Logins, p.Latency = one.Logins.Rate, one.Logins.OK, one.Logins.Latency
	res.Points = append(res.Points, p)
	res.OK, res.Interrupted = one.OK, one.Interrupted
	res.Errors, res.ErrorSamples = one.Errors, one.ErrorSamples
	return broken
}
