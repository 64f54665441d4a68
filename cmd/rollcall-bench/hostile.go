package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall-im/rollcall/bench"
	"github.com/rollcall-im/rollcall/bench/attack"
)

// hostile has flags of its own: it starts the servers itself.
func hostile(args []string, help io.Writer) (*job, error) {
	var o attack.Options
	var names, table string
	var apart bool
	j := &job{}
	f := flag.NewFlagSet("rollcall-bench hostile", flag.ContinueOnError)
	f.SetOutput(io.Discard) // an error is told once, by main
	f.Usage = func() {}
	f.StringVar(&o.Server, "server", "bin/rollcall", "the server's `binary`")
	f.StringVar(&names, "rows", "", "rows to play, `slow-logins,...` (default: all)")
	f.BoolVar(&o.Small, "small", false, "small sizes: each row in some seconds")
	f.BoolVar(&apart, "apart", true, "each attack comes from a process of its own, which yields to server and crowd")
	f.DurationVar(&o.Normal, "normal", 0, "how long honest users are watched without the attack (default 10s, with --small 1s)")
	f.DurationVar(&o.During, "during", 0, "how long they are watched under attack (default 15s, with --small 2s)")
	f.Float64Var(&o.Rate, "rate", 100, "honest logins per second")
	f.Float64Var(&o.MaxRatio, "max-ratio", 0, "a row is wrong if login p99 is more than so many times normal; 0 = never. For a machine that does nothing else")
	f.IntVar(&o.Lanes, "lanes", 1, "rows played side by side; with more than one the times mean nothing")
	f.DurationVar(&o.Settle, "settle", time.Minute, "how long the server may take to get back to where it was")
	f.StringVar(&table, "table", "", "write the rows to this `file` in Markdown")
	f.DurationVar(&j.every, "progress", 0, "print a line of progress this often; 0 = one line that overwrites itself, on a terminal only")
	f.StringVar(&j.json, "json", "", "write the result to this `file`, - for standard output")
	if err := parseOwn(f, args, help); err != nil {
		return nil, err
	}
	if names != "" {
		o.Names = strings.Split(names, ",")
	}
	if apart {
		self, err := os.Executable()
		if err != nil {
			return nil, fmt.Errorf("--apart: %w", err)
		}
		o.Attacker = self
	}
	if _, err := os.Stat(o.Server); err != nil {
		return nil, fmt.Errorf("--server: %w", err)
	}
	j.run = func(ctx context.Context, progress func(string)) (*bench.Result, error) {
		o.Progress = progress
		r, err := attack.Run(ctx, o)
		if err == nil && table != "" {
			err = writeTable(r, table)
		}
		return r, err
	}
	return j, nil
}

// parseOwn parses the flags of a command that takes nothing else.
func parseOwn(f *flag.FlagSet, args []string, help io.Writer) error {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(help, "Flags of %s:\n", f.Name())
			f.SetOutput(help)
			f.PrintDefaults()
		}
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	return nil
}

func writeTable(r *bench.Result, name string) error {
	f, err := os.Create(name)
	if err != nil {
		return err
	}
	return errors.Join(attack.WriteTable(f, r), f.Close())
}

// assault does one row's attack to a server that runs already, and nothing else.
func assault(args []string, stdout io.Writer) error {
	c := common{help: stdout}
	var name, out string
	var size int
	var d time.Duration
	var untilEOF bool
	var t attack.Target
	f := newFlags("attack", &c)
	f.StringVar(&name, "row", "", "what to do: one of "+strings.Join(attack.Rows(), ", "))
	f.IntVar(&size, "size", 0, "how much of it, in the row's unit (default: the suite's)")
	f.StringVar(&t.WS, "ws", "127.0.0.1:7701", "WebSocket listener, `address:port`")
	f.StringVar(&t.MQTT, "mqtt", "127.0.0.1:1883", "MQTT listener, `address:port`")
	f.StringVar(&t.NativeTLS, "native-tls", "127.0.0.1:8700", "native listener over TLS, `address:port`")
	f.DurationVar(&d, "for", 30*time.Second, "how long")
	f.BoolVar(&untilEOF, "until-eof", false, "until standard input ends, however long that is")
	if err := c.parse(f, args); err != nil {
		return err
	}
	if out = c.json; out != "" && out != "-" {
		return fmt.Errorf("--json %s: what was done goes to standard output, with or without --json -", out)
	}
	t.Native, t.App, t.Key = c.o.Target, c.o.App, c.o.Key
	for _, u := range []struct {
		text string
		host *string
	}{{c.o.API, &t.API}, {c.o.AdminURL, &t.Admin}} {
		parsed, err := url.Parse(u.text)
		if err != nil || parsed.Host == "" {
			return fmt.Errorf("%q is no URL with a host", u.text)
		}
		*u.host = parsed.Host
	}
	a, err := attack.New(name, t, size)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if untilEOF {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			stop()
		}()
	} else {
		var cancel func()
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	go func() {
		<-a.Ready()
		if out == "-" {
			_, _ = io.WriteString(stdout, attack.InPlace)
		}
	}()
	return json.NewEncoder(stdout).Encode(a.Run(ctx))
}
