// Package ledger holds a server to its word while the server is being killed.
//
// Run starts the built server, lets clients, a webhook receiver and an operator
// loose on it, ends its process by SIGKILL again and again under their load, and
// starts it anew on the same data. All of them write down what they did and what
// they were told: the History. Check then judges it, without looking at the
// server: what was acknowledged must be there, every transition must have been
// told to the receiver, in order per user, and what REST and console show at the
// end must be what the ledger says.
//
// The rules of the truth: an operation whose answer did not arrive before the
// kill may or may not have happened, and both futures stay open until something
// that was seen settles it. An operation that was answered has happened for good.
package ledger

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/rollcall-im/rollcall/bench"
)

// Options of a run. The zero value of each is its default, but for Server.
type Options struct {
	Server     string        // the server's binary
	Seed       uint64        // of the schedule and of everybody's choices
	Kills      int           // how often the server is killed; 0 = never
	Users      int           // default 120
	Apps       int           // default 3
	Durability string        // passed to the server; default sync
	Grace      time.Duration // passed to the server as --restart-grace, whole milliseconds; default 2 s
	// Calm is how long an operation's user rests on average before its next one. Default 100 ms.
	Calm time.Duration
	// Acks are the operations that are acknowledged in the last life, after the
	// last kill. Default 1,000.
	Acks int
	// AnswerTimeout is how long an answer may take while the server lives. Default 30 s.
	AnswerTimeout time.Duration
	// SettleTimeout is how long the server may take at the end, beyond the grace,
	// to tell all events. Default 3 minutes.
	SettleTimeout time.Duration
	// MaxDuration ends a run that does not come to its end. Default 20 minutes.
	MaxDuration time.Duration
	Dir         string       // for the server's data and log, is created; default a new one, removed if all was right
	Progress    func(string) // called about once a second with one line; nil = none
}

// MaxUsers bounds Options.Users: each may hold three links, and a file for each end.
const MaxUsers = 2000

func (o *Options) validate() error {
	o.Users = cmp.Or(o.Users, 120)
	o.Apps = cmp.Or(o.Apps, 3)
	o.Durability = cmp.Or(o.Durability, "sync")
	o.Grace = cmp.Or(o.Grace, 2*time.Second)
	o.Calm = cmp.Or(o.Calm, 100*time.Millisecond)
	o.Acks = cmp.Or(o.Acks, 1000)
	o.AnswerTimeout = cmp.Or(o.AnswerTimeout, 30*time.Second)
	o.SettleTimeout = cmp.Or(o.SettleTimeout, 3*time.Minute)
	o.MaxDuration = cmp.Or(o.MaxDuration, 20*time.Minute)
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	switch {
	case o.Server == "":
		return errors.New("the server's binary is missing")
	case o.Kills < 0 || o.Kills > 10_000:
		return fmt.Errorf("kills must be 0 to 10000, got %d", o.Kills)
	case o.Users < 1 || o.Users > MaxUsers || o.Apps < 1 || o.Apps > 100:
		return fmt.Errorf("users must be 1 to %d and apps 1 to 100, got %d and %d", MaxUsers, o.Users, o.Apps)
	case o.Grace < 0 || o.Calm < 0 || o.Acks < 0 || o.AnswerTimeout < 0 || o.SettleTimeout < 0 || o.MaxDuration < 0:
		return errors.New("grace, calm, acks and time-outs must not be negative")
	}
	return nil
}

// Run plays a ledger test against a server of its own and judges it. An error
// means that the run could not be made or did not come to its end.
func Run(ctx context.Context, o Options) (*bench.Result, error) {
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", bench.ErrOptions, err)
	}
	dir, own := o.Dir, o.Dir == ""
	var err error
	if own {
		dir, err = os.MkdirTemp("", "rollcall-ledger-")
	} else {
		err = os.Mkdir(dir, 0o700) // what an earlier run has left is not ours
	}
	if err != nil {
		return nil, err
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, o.MaxDuration)
	defer cancel()
	d, err := newDriver(&o, dir)
	if err == nil {
		err = d.run(ctx)
	}
	if d == nil {
		return nil, err
	}
	res := d.result(Check(&d.h), began, err)
	if own && res.OK {
		err = errors.Join(err, os.RemoveAll(dir))
	} else {
		res.Ledger.Dir = dir
	}
	return res, err
}

// samplesPerKind bounds the texts of a kind of violation.
const samplesPerKind = 3

// result is the run in the form of the other scenarios.
func (d *driver) result(r *Report, began time.Time, err error) *bench.Result {
	res := &bench.Result{
		Scenario: "ledger", Started: began, Seconds: time.Since(began).Seconds(), Interrupted: err != nil,
		OK: err == nil && len(r.Violations) == 0, Errors: make(map[bench.Fault]uint64),
		Ledger: &bench.LedgerResult{
			Seed: d.o.Seed, Durability: d.o.Durability, Kills: d.kills, Stops: d.stops, Users: d.o.Users, Apps: d.o.Apps,
			Acks: r.Acks, Unknown: r.Unknown, Events: r.Events, Repeats: r.Repeats, Restart: d.restarts(),
		},
	}
	for _, v := range r.Violations {
		kind := bench.Fault(v.Kind)
		res.Errors[kind]++
		if res.Errors[kind] <= samplesPerKind {
			res.ErrorSamples = append(res.ErrorSamples, fmt.Sprintf("%s: %s: %s", v.Kind, cmp.Or(v.User, "the server"), v.Text))
		}
	}
	return res
}
