package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/internal/config"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// The demo app of serve --dev. Its key is public: it is good for nothing else.
const (
	devApp        = 1400000000
	devKey        = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
	devAdmin      = "administrator"
	devAdminToken = "dev"
)

// newFlags returns a strict flag set with a help text: "usage: rollcall NAME ARGS".
func newFlags(e env, name, args, about string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {
		fmt.Fprintf(e.stdout, "usage: %s\n\n%s\n\n", strings.TrimSpace("rollcall "+name+" "+args), about)
		printFlags(e.stdout, fs)
	}
	return fs
}

// printFlags lists the flags as people write them here, with two dashes.
func printFlags(w io.Writer, fs *flag.FlagSet) {
	fs.VisitAll(func(f *flag.Flag) {
		kind, about := flag.UnquoteUsage(f)
		if kind != "" {
			kind = " " + kind
		}
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" {
			about += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  --%s%s\n        %s\n", f.Name, kind, about)
	})
}

// parse reads flags and positional arguments in any order.
func parse(fs *flag.FlagSet, args []string) (positional []string, err error) {
	help := fs.Usage
	fs.Usage = func() {} // package flag shows it for every fault
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			help()
			return nil, errHelp
		}
		if err != nil {
			return nil, usagef("%s", config.FlagFault(err))
		}
		rest := fs.Args()
		if len(rest) == 0 {
			return positional, nil
		}
		if ended := len(args) > len(rest) && args[len(args)-len(rest)-1] == "--"; ended {
			return append(positional, rest...), nil
		}
		positional, args = append(positional, rest[0]), rest[1:]
	}
}

// given reports whether a flag is on the command line.
func given(fs *flag.FlagSet, name string) (is bool) {
	fs.Visit(func(f *flag.Flag) { is = is || f.Name == name })
	return is
}

// appFlags say which app, and with which key. Against a server on this machine
// they default to the demo app of serve --dev.
type appFlags struct {
	app     uint64
	keyFile string
}

func (a *appFlags) register(fs *flag.FlagSet) {
	fs.Uint64Var(&a.app, "app", devApp, "`SDKAppID`")
	fs.StringVar(&a.keyFile, "key-file", "", "`file` with the app's secret key (default: environment ROLLCALL_APP_KEY; against this machine the key of the --dev demo app)")
}

// key returns the app's key for a server at host; "" is no server at all.
func (a *appFlags) key(e env, host string) (string, error) {
	if a.app == 0 || a.app > 1<<32-1 {
		return "", usagef("--app %d is no SDKAppID (1 to 4294967295)", a.app)
	}
	if a.keyFile != "" {
		return readSecret(a.keyFile)
	}
	if k, ok := e.getenv("ROLLCALL_APP_KEY"); ok && k != "" {
		return k, nil
	}
	if a.app == devApp && (host == "" || loopback(host)) {
		return devKey, nil
	}
	if host == "" {
		return "", usagef("app %d needs its key: give --key-file or set ROLLCALL_APP_KEY", a.app)
	}
	return "", usagef("app %d on %s needs its key: give --key-file or set ROLLCALL_APP_KEY", a.app, host)
}

// sign makes a UserSig that is good for a day.
func (a *appFlags) sign(key, userID string) (string, error) {
	return usersig.Sign(key, uint32(a.app), userID, time.Now().Unix(), 86400, nil)
}

// readSecret reads a one-line file.
func readSecret(path string) (string, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("cannot read the secret: %w", err)
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "", fmt.Errorf("the secret file %q is empty", path)
	}
	return s, nil
}

// loopback reports whether a host, host:port or URL names this machine by a loopback address.
func loopback(host string) bool {
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

func appIDText(id uint64) string { return strconv.FormatUint(id, 10) }
