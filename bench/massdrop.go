package bench

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// MassDropOptions are those of MassDrop.
type MassDropOptions struct {
	Options
	Conns int     // links, each of a user of its own; default 5,000
	Rate  float64 // logins offered per second; default 2,000
	How   string  // DropFIN, DropRST or DropSilence; default DropFIN
	// Silence is the app's silence time-out for the run, set over the console
	// and put back after it. Default 10 s; only DropSilence needs it.
	Silence time.Duration
}

func (o *MassDropOptions) validate() error {
	o.Conns = cmp.Or(o.Conns, 5000)
	o.Rate = cmp.Or(o.Rate, 2000)
	o.How = cmp.Or(o.How, DropFIN)
	o.Silence = cmp.Or(o.Silence, 10*time.Second)
	switch {
	case o.Conns < 1:
		return fmt.Errorf("links must be at least 1, got %d", o.Conns)
	case o.How != DropFIN && o.How != DropRST && o.How != DropSilence:
		return fmt.Errorf("links can be dropped by fin, rst or silence, not by %q", o.How)
	case o.Silence < 3*time.Second || o.Silence > 24*time.Hour:
		return fmt.Errorf("the silence time-out must be 3 s to 24 h, got %v", o.Silence)
	}
	if err := checkRate(o.Rate, false); err != nil {
		return err
	}
	return o.Options.validate()
}

// MassDrop logs everybody in, lets everybody go at once, and polls until the
// server shows each as lost: not before its time, and how late. See Connect for
// Result and error.
func MassDrop(ctx context.Context, o MassDropOptions) (_ *Result, err error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrOptions, err)
	}
	c, err := newCrowd(&o.Options, o.Conns, o.Conns, 0)
	if err != nil {
		return nil, err
	}
	defer c.close()
	res := &Result{Scenario: "massdrop", Started: time.Now()}
	if o.How == DropSilence {
		restore, err := changeTimeouts(&o.Options, allSilent(o.Silence))
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, restore()) }()
	}
	c.start()
	done := c.raise(ctx, c.n, o.Rate, 0, func() {})
	if done {
		res.Checks = append(res.Checks, c.check.once(ctx, "all logged in", c.living(), c.check.online))
		done = dropAll(ctx, c, &o, res)
	}
	broken := c.end()
	c.swarm.kill()
	c.fill(res, c.n, o.Rate, !done || ctx.Err() != nil)
	return res, broken
}

// dropAll lets all go and finds them.
func dropAll(ctx context.Context, c *crowd, o *MassDropOptions, res *Result) bool {
	d := newDrop(c, o.How, c.living(), o.SettleTimeout)
	cpu := c.meter.read().cpu
	if !d.begin() {
		return false
	}
	found, ok := d.find(ctx)
	found.CPUPerDrop = perEach(c.meter.read().cpu-cpu, found.Users)
	if o.How == DropSilence {
		found.Silence = o.Silence.Seconds()
	}
	ok = ok && d.closes(ctx, &found)
	res.Drop = &found
	return ok
}

// changeTimeouts sets the app's time-outs; restore puts the old ones back.
func changeTimeouts(o *Options, t timeouts) (restore func() error, err error) {
	c := newConsole(o)
	old, err := c.timeouts()
	if err != nil {
		return nil, fmt.Errorf("cannot read the app's time-outs: %w", err)
	}
	if err := c.setTimeouts(t); err != nil {
		return nil, fmt.Errorf("cannot change the app's time-outs: %w", err)
	}
	return func() error {
		if err := c.setTimeouts(old); err != nil {
			return fmt.Errorf("cannot put the app's time-outs back: %w", err)
		}
		return nil
	}, nil
}
