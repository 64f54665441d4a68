package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"time"

	"github.com/rollcall-im/rollcall/bench"
	"github.com/rollcall-im/rollcall/bench/ledger"
)

// ledgerTest has flags of its own: it starts the server itself.
func ledgerTest(args []string, help io.Writer) (*job, error) {
	var o ledger.Options
	j := &job{}
	f := flag.NewFlagSet("rollcall-bench ledger", flag.ContinueOnError)
	f.SetOutput(io.Discard) // an error is told once, by main
	f.Usage = func() {}
	f.StringVar(&o.Server, "server", "bin/rollcall", "the server's `binary`")
	f.Uint64Var(&o.Seed, "seed", 0, "of the schedule and of everybody's choices (default: a new one, which is printed)")
	f.IntVar(&o.Kills, "kills", 50, "how often the server is killed by SIGKILL")
	f.IntVar(&o.Users, "users", 120, fmt.Sprintf("users with 2 to 4 devices each, at most %d", ledger.MaxUsers))
	f.IntVar(&o.Apps, "apps", 3, "apps")
	f.StringVar(&o.Durability, "durability", "sync", "the server's durability `mode`; all but sync may lose what was acknowledged")
	f.DurationVar(&o.Grace, "grace", 2*time.Second, "the server's restart grace")
	f.DurationVar(&o.Calm, "calm", 100*time.Millisecond, "how long a user rests on average before the next operation")
	f.IntVar(&o.Acks, "acks", 1000, "operations acknowledged after the last kill")
	f.DurationVar(&o.AnswerTimeout, "answer-timeout", 30*time.Second, "how long an answer may take while the server lives")
	f.DurationVar(&o.SettleTimeout, "settle-timeout", 3*time.Minute, "how long events may take at the end, beyond the grace")
	f.DurationVar(&o.MaxDuration, "max-duration", 20*time.Minute, "the run fails if it takes longer")
	f.StringVar(&o.Dir, "dir", "", "`directory` for the server's data and log (default: a new one, removed if all was right)")
	f.BoolVar(&j.wrong, "expect-violations", false, "exit 0 if violations were found and 1 if none were")
	f.DurationVar(&j.every, "progress", 0, "print a line of progress this often; 0 = one line that overwrites itself, on a terminal only")
	f.StringVar(&j.json, "json", "", "write the result to this `file`, - for standard output")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(help, "Flags of %s:\n", f.Name())
			f.SetOutput(help)
			f.PrintDefaults()
		}
		return nil, err
	}
	switch {
	case f.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case o.Users < 1 || o.Apps < 1 || o.Kills < 0 || o.Grace < time.Millisecond:
		return nil, fmt.Errorf("--users and --apps must be at least 1, --kills not negative, --grace at least 1ms, got %d, %d, %d and %v", o.Users, o.Apps, o.Kills, o.Grace)
	}
	if _, err := os.Stat(o.Server); err != nil {
		return nil, fmt.Errorf("--server: %w", err)
	}
	if o.Seed == 0 {
		o.Seed = uint64(rand.Uint32())
	}
	j.run = func(ctx context.Context, progress func(string)) (*bench.Result, error) {
		fmt.Fprintf(os.Stderr, "ledger: --seed %d\n", o.Seed)
		o.Progress = progress
		return ledger.Run(ctx, o)
	}
	return j, nil
}
