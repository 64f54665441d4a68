package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/bench"
	"github.com/rollcall-im/rollcall/codec"
)

// common are the flags of all scenarios.
type common struct {
	o        bench.Options
	app      uint64
	keyFile  string
	protocol string

	tls, insecure, resume bool
	ca                    string
	platforms             string
	json                  string
	every                 time.Duration
	help                  io.Writer
}

func newFlags(name string, c *common) *flag.FlagSet {
	f := flag.NewFlagSet("rollcall-bench "+name, flag.ContinueOnError)
	f.SetOutput(io.Discard) // an error is told once, by main
	f.Usage = func() {}
	f.StringVar(&c.protocol, "protocol", "native", "what links speak: native, ws, ws-json or mqtt (5.0)")
	f.BoolVar(&c.tls, "tls", false, "links speak TLS; the server's certificate must be good for the target's address")
	f.StringVar(&c.ca, "tls-ca", "", "PEM `file` with the authorities to trust, instead of the system's")
	f.BoolVar(&c.insecure, "tls-insecure", false, "take any certificate")
	f.BoolVar(&c.resume, "tls-resume", false, "links resume the session of one before, where they can")
	f.StringVar(&c.o.Target, "target", "", "listener of the protocol, IPv4 `address:port` (default: 127.0.0.1 and the protocol's port)")
	f.StringVar(&c.o.API, "api", "http://127.0.0.1:7780", "base `URL` of the REST API")
	f.Uint64Var(&c.app, "app", bench.DevApp, "`SDKAppID`")
	f.StringVar(&c.o.Key, "key", "", "the app's key (default: the demo app's)")
	f.StringVar(&c.keyFile, "key-file", "", "`file` with the app's key, instead of --key")
	f.StringVar(&c.o.Admin, "admin", "administrator", "administrator of the app, for REST")
	f.StringVar(&c.o.AdminURL, "admin-url", "http://127.0.0.1:7781", "base `URL` of the admin listener, for scenarios that change time-outs")
	f.StringVar(&c.o.AdminToken, "admin-token", "dev", "admin token")
	f.StringVar(&c.platforms, "platforms", "", "platforms handed out in turn, `Android,Web,...` (default: all)")
	f.StringVar(&c.o.UserPrefix, "user-prefix", "bench-", "user ids are this and a number of 10 digits")
	f.IntVar(&c.o.PerSource, "per-source", 2000, "links from one loopback source address, at most 10000")
	f.DurationVar(&c.o.AnswerTimeout, "answer-timeout", 10*time.Second, "how long an answer may take")
	f.DurationVar(&c.o.SettleTimeout, "settle-timeout", 10*time.Second, "how long the server may take to show a logout or a death")
	f.IntVar(&c.o.ServerPID, "server-pid", 0, "measure CPU and memory of this process")
	f.DurationVar(&c.every, "progress", 0, "print a line of progress this often; 0 = one line that overwrites itself, on a terminal only")
	f.StringVar(&c.json, "json", "", "write the result to this `file`, - for standard output")
	return f
}

// parse parses args and what the flag package cannot.
func (c *common) parse(f *flag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprintf(c.help, "Flags of %s:\n", f.Name())
			f.SetOutput(c.help)
			f.PrintDefaults()
		}
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if c.app == 0 || c.app > 1<<32-1 {
		return fmt.Errorf("--app %d is no SDKAppID", c.app)
	}
	c.o.App = uint32(c.app)
	if err := c.readKey(); err != nil {
		return err
	}
	if err := c.setTLS(); err != nil {
		return err
	}
	var err error
	if c.o.Protocol, err = bench.ParseProtocol(c.protocol); err != nil {
		return fmt.Errorf("--protocol: %w", err)
	}
	for name := range strings.SplitSeq(c.platforms, ",") {
		if name == "" && c.platforms == "" {
			break
		}
		p, ok := codec.ParsePlatform(name)
		if !ok {
			return fmt.Errorf("--platforms: there is no platform %q; there are %v", name, codec.Platforms())
		}
		c.o.Platforms = append(c.o.Platforms, p)
	}
	return nil
}

// setTLS makes the options of TLS, if it is wanted.
func (c *common) setTLS() error {
	if !c.tls {
		if c.ca != "" || c.insecure || c.resume {
			return errors.New("--tls-ca, --tls-insecure and --tls-resume need --tls")
		}
		return nil
	}
	c.o.TLS = &tls.Config{InsecureSkipVerify: c.insecure} //nolint:gosec // the flag says so
	if c.resume {
		c.o.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	if c.ca == "" {
		return nil
	}
	pem, err := os.ReadFile(c.ca)
	if err != nil {
		return fmt.Errorf("--tls-ca: %w", err)
	}
	c.o.TLS.RootCAs = x509.NewCertPool()
	if !c.o.TLS.RootCAs.AppendCertsFromPEM(pem) {
		return fmt.Errorf("--tls-ca %q holds no certificate in PEM", c.ca)
	}
	return nil
}

func (c *common) readKey() error {
	if c.keyFile == "" {
		return nil
	}
	if c.o.Key != "" {
		return fmt.Errorf("--key and --key-file exclude each other")
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return fmt.Errorf("--key-file: %w", err)
	}
	c.o.Key = strings.TrimSpace(string(key))
	return nil
}

// job returns what runs a scenario whose options hold o.
func (c *common) job(o *bench.Options, run func(context.Context) (*bench.Result, error)) *job {
	return &job{json: c.json, every: c.every, run: func(ctx context.Context, progress func(string)) (*bench.Result, error) {
		o.Progress = progress
		return run(ctx)
	}}
}

func connect(args []string, help io.Writer) (*job, error) {
	c := common{help: help}
	var o bench.ConnectOptions
	f := newFlags("connect", &c)
	f.IntVar(&o.Conns, "conns", 1000, "links, each of a user of its own")
	f.Float64Var(&o.Rate, "rate", 2000, "logins offered per second")
	f.DurationVar(&o.Hold, "hold", 30*time.Second, "how long all links are held")
	if err := c.parse(f, args); err != nil {
		return nil, err
	}
	if o.Conns < 1 || o.Hold < 0 || o.Rate <= 0 {
		return nil, fmt.Errorf("--conns must be at least 1, --rate positive and --hold not negative, got %d, %v and %v", o.Conns, o.Rate, o.Hold)
	}
	o.Options, o.Hold = c.o, max(o.Hold, 1) // 0 would be the library's default
	return c.job(&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Connect(ctx, o) }), nil
}

func churn(args []string, help io.Writer) (*job, error) {
	c := common{help: help}
	var o bench.ChurnOptions
	f := newFlags("churn", &c)
	f.Float64Var(&o.Rate, "rate", 500, "logins offered per second")
	f.DurationVar(&o.Duration, "duration", 30*time.Second, "how long logins are offered")
	f.DurationVar(&o.Stay, "stay", 100*time.Millisecond, "how long each stays logged in")
	f.IntVar(&o.Users, "users", 5000, "users that come and go")
	if err := c.parse(f, args); err != nil {
		return nil, err
	}
	if o.Users < 1 || o.Stay < 0 || o.Duration <= 0 || o.Rate <= 0 {
		return nil, fmt.Errorf("--users must be at least 1, --rate and --duration positive and --stay not negative, got %d, %v, %v and %v", o.Users, o.Rate, o.Duration, o.Stay)
	}
	o.Options, o.Stay = c.o, max(o.Stay, 1) // 0 would be the library's default
	return c.job(&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Churn(ctx, o) }), nil
}

func query(args []string, help io.Writer) (*job, error) {
	c := common{help: help}
	var o bench.QueryOptions
	var ids string
	f := newFlags("query", &c)
	f.StringVar(&ids, "ids", "1,100,500", "ids per request, one run each")
	f.Float64Var(&o.Rate, "rate", 0, "requests offered per second, 0 = each client asks as soon as it was answered")
	f.DurationVar(&o.Duration, "duration", 10*time.Second, "length of each run")
	f.IntVar(&o.Clients, "clients", 16, "requests at once")
	f.IntVar(&o.Users, "users", 10_000, "accounts that are asked for; they are imported first")
	if err := c.parse(f, args); err != nil {
		return nil, err
	}
	if o.Users < 1 || o.Clients < 1 || o.Duration <= 0 {
		return nil, fmt.Errorf("--users and --clients must be at least 1 and --duration positive, got %d, %d and %v", o.Users, o.Clients, o.Duration)
	}
	for s := range strings.SplitSeq(ids, ",") {
		n, err := strconv.Atoi(s)
		if err != nil {
			return nil, fmt.Errorf("--ids: %q is no number", s)
		}
		o.IDs = append(o.IDs, n)
	}
	o.Options = c.o
	return c.job(&o.Options, func(ctx context.Context) (*bench.Result, error) { return bench.Query(ctx, o) }), nil
}
