package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/bench"
)

func hold(args []string, help io.Writer) (*job, error) {
	c := common{help: help}
	var o bench.HoldOptions
	f := newFlags("hold", &c)
	f.IntVar(&o.Conns, "conns", 10_000, "links, each of a user of its own")
	f.IntVar(&o.Low, "low", 0, "links of the first plateau (default an eighth of --conns)")
	f.Float64Var(&o.Rate, "rate", 2000, "logins offered per second")
	f.DurationVar(&o.Settle, "settle", 3*time.Second, "how long links are idle before memory is read")
	f.DurationVar(&o.Hold, "hold", 20*time.Second, "how long heartbeats are sent")
	f.Float64Var(&o.BeatRate, "beat-rate", 0, "heartbeats offered per second (default a fifth of --conns)")
	if err := c.parse(f, args); err != nil {
		return nil, err
	}
	if o.Conns < 2 || o.Rate <= 0 || o.Settle <= 0 || o.Hold <= 0 {
		return nil, fmt.Errorf("--conns must be at least 2, --rate, --settle and --hold positive, got %d, %v, %v and %v", o.Conns, o.Rate, o.Settle, o.Hold)
	}
	o.Options = c.o
	return c.job(&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Hold(ctx, o) }), nil
}

func storm(args []string, help io.Writer) (*job, error) {
	c := common{help: help}
	var o bench.StormOptions
	var rates, loads string
	f := newFlags("storm", &c)
	f.IntVar(&o.Conns, "conns", 5000, "logins per offered rate, each of a user of its own; with --loads, links that stand meanwhile")
	f.StringVar(&loads, "loads", "", "instead of --rates: multiples of the capacity at which logins are offered, e.g. 0.5,1,2,3")
	f.Float64Var(&o.Capacity, "capacity", 0, "with --loads: logins per second that the server can do; 0 = find it first")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "with --loads: how long each is offered; the first fifth is not measured")
	f.Float64Var(&o.BeatRate, "beat-rate", 0, "with --loads: heartbeats of those who stand, per second (default a fifth of --conns)")
	f.Float64Var(&o.KickRate, "kick-rate", 10, "with --loads: kicks per second of some of them")
	f.IntVar(&o.Callers, "callers", 10_000, "with --loads: users who log in")
	f.IntVar(&o.Window, "window", 128, "with --loads: logins under way while the capacity is found")
	f.BoolVar(&o.Rude, "rude", false, "with --loads: who is sent away does not wait as told")
	f.StringVar(&rates, "rates", "0", "offered rates in logins per second, one point of the curve each; 0 = everybody at once")
	if err := c.parse(f, args); err != nil {
		return nil, err
	}
	if o.Conns < 1 {
		return nil, fmt.Errorf("--conns must be at least 1, got %d", o.Conns)
	}
	var err error
	if o.Rates, err = numbers("--rates", rates); err != nil {
		return nil, err
	}
	if loads != "" {
		if o.Loads, err = numbers("--loads", loads); err != nil {
			return nil, err
		}
	}
	o.Options = c.o
	return c.job(&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Storm(ctx, o) }), nil
}

// numbers reads a list with commas between.
func numbers(flag, text string) (list []float64, err error) {
	for s := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no number", flag, s)
		}
		list = append(list, n)
	}
	return list, nil
}

func massdrop(args []string, help io.Writer) (*job, error) {
	c := common{help: help}
	var o bench.MassDropOptions
	f := newFlags("massdrop", &c)
	f.IntVar(&o.Conns, "conns", 5000, "links, each of a user of its own")
	f.Float64Var(&o.Rate, "rate", 2000, "logins offered per second")
	f.StringVar(&o.How, "how", bench.DropFIN, "how links end: fin, rst or silence")
	f.DurationVar(&o.Silence, "silence", 10*time.Second, "the app's silence time-out during the run, for --how silence; it is put back at the end")
	if err := c.parse(f, args); err != nil {
		return nil, err
	}
	if o.Conns < 1 || o.Rate <= 0 || o.How == "" || o.Silence <= 0 {
		return nil, fmt.Errorf("--conns must be at least 1, --rate and --silence positive, --how be given, got %d, %v, %v and %q", o.Conns, o.Rate, o.Silence, o.How)
	}
	o.Options = c.o
	return c.job(&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.MassDrop(ctx, o) }), nil
}

func kick(args []string, help io.Writer) (*job, error) {
	c := common{help: help}
	var o bench.KickOptions
	f := newFlags("kick", &c)
	f.IntVar(&o.Conns, "conns", 5000, "links, each of a user of its own")
	f.Float64Var(&o.Rate, "rate", 2000, "logins offered per second")
	f.IntVar(&o.Kicks, "kicks", 0, "users to kick, once each (default half of --conns)")
	f.Float64Var(&o.KickRate, "kick-rate", 500, "kicks offered per second")
	f.IntVar(&o.KickConns, "clients", 16, "REST connections that kick")
	if err := c.parse(f, args); err != nil {
		return nil, err
	}
	if o.Conns < 1 || o.Rate <= 0 || o.KickRate <= 0 || o.KickConns < 1 {
		return nil, fmt.Errorf("--conns and --clients must be at least 1, --rate and --kick-rate positive, got %d, %d, %v and %v", o.Conns, o.KickConns, o.Rate, o.KickRate)
	}
	o.Options = c.o
	return c.job(&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Kick(ctx, o) }), nil
}

func mixed(args []string, help io.Writer) (*job, error) {
	c := common{help: help}
	var o bench.MixedOptions
	f := newFlags("mixed", &c)
	f.IntVar(&o.Conns, "conns", 5000, "links that stay")
	f.Float64Var(&o.Rate, "rate", 500, "logins offered per second")
	f.DurationVar(&o.Duration, "duration", 30*time.Second, "how long all is offered")
	f.DurationVar(&o.Stay, "stay", 200*time.Millisecond, "how long a visitor stays")
	f.IntVar(&o.Visitors, "visitors", 0, "users who come and go (default 4 x --rate)")
	f.Float64Var(&o.BeatRate, "beat-rate", 0, "heartbeats offered per second (default a tenth of --conns)")
	f.Float64Var(&o.QueryRate, "query-rate", 50, "queries offered per second")
	f.IntVar(&o.QueryIDs, "ids", 100, "ids per query")
	f.Float64Var(&o.KickRate, "kick-rate", 0, "kicks offered per second (default a tenth of --rate)")
	if err := c.parse(f, args); err != nil {
		return nil, err
	}
	if o.Conns < 1 || o.Rate <= 0 || o.Duration <= 0 || o.Stay <= 0 || o.QueryRate <= 0 || o.QueryIDs < 1 {
		return nil, fmt.Errorf("--conns and --ids must be at least 1, --rate, --query-rate, --duration and --stay positive, got %d, %d, %v, %v, %v and %v",
			o.Conns, o.QueryIDs, o.Rate, o.QueryRate, o.Duration, o.Stay)
	}
	o.Options = c.o
	return c.job(&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Mixed(ctx, o) }), nil
}

func million(args []string, help io.Writer) (*job, error) {
	c := common{help: help}
	var o bench.MillionOptions
	var conns string
	f := newFlags("million", &c)
	f.StringVar(&conns, "conns", "1000000", "links, each of a user of its own; max = as many as the machine carries")
	f.IntVar(&o.Ceiling, "ceiling", 0, "with --conns max: never more than this (default: what the limit of open files allows)")
	f.Float64Var(&o.Floor, "floor", 0.04, "with --conns max: stop when less than this share of memory is available")
	f.IntVar(&o.Window, "window", 256, "logins under way at once")
	f.DurationVar(&o.Hold, "hold", 5*time.Minute, "how long heartbeats are answered once all are there")
	f.DurationVar(&o.Beat, "beat", 10*time.Minute, "heartbeat interval of those who stay, set over the console and put back at the end")
	f.DurationVar(&o.Silence, "silence", 10*time.Minute, "silence time-out of the tenth that goes silent, set likewise")
	if err := c.parse(f, args); err != nil {
		return nil, err
	}
	if conns != "max" {
		n, err := strconv.Atoi(conns)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("--conns %q is neither a number of links nor max", conns)
		}
		o.Conns = n
	}
	if c.platforms != "" {
		return nil, fmt.Errorf("--platforms: million has a mix of its own")
	}
	if o.Window < 1 || o.Hold <= 0 || o.Beat <= 0 || o.Silence <= 0 {
		return nil, fmt.Errorf("--window must be at least 1, --hold, --beat and --silence positive, got %d, %v, %v and %v", o.Window, o.Hold, o.Beat, o.Silence)
	}
	o.Options = c.o
	return c.job(&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Million(ctx, o) }), nil
}
