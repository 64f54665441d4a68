package main

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/internal/usersig"
)

func cmdUserSig(e env, args []string) error {
	if len(args) == 0 {
		return usagef("say gen or verify")
	}
	switch args[0] {
	case "gen":
		return inCommand("usersig gen", userSigGen(e, args[1:]))
	case "verify":
		return inCommand("usersig verify", userSigVerify(e, args[1:]))
	case "-h", "--help", "help":
		fmt.Fprintln(e.stdout, "usage: rollcall usersig gen --user ID [FLAGS]\n       rollcall usersig verify --user ID [FLAGS] USERSIG|-")
		return errHelp
	}
	return usagef("there is no %q; say gen or verify", args[0])
}

func userSigGen(e env, args []string) error {
	fs := newFlags(e, "usersig gen", "--user ID [FLAGS]", "Makes a UserSig (TLSSigAPIv2) and prints it.")
	var app appFlags
	app.register(fs)
	user := fs.String("user", "", "`UserID`")
	expire := lifetime(180 * day)
	fs.Var(&expire, "expire", "`time` it is valid for, at least 1s, like 30m, 24h or 180d")
	if pos, err := parse(fs, args); err != nil {
		return err
	} else if len(pos) > 0 {
		return usagef("unexpected argument %q", pos[0])
	}
	if *user == "" {
		return usagef("--user is missing")
	}
	key, err := app.key(e, "")
	if err != nil {
		return err
	}
	sig, err := usersig.Sign(key, uint32(app.app), *user, time.Now().Unix(), int64(time.Duration(expire)/time.Second), nil)
	if err != nil {
		return err
	}
	fmt.Fprintln(e.stdout, sig)
	return nil
}

func userSigVerify(e env, args []string) error {
	fs := newFlags(e, "usersig verify", "--user ID [FLAGS] USERSIG|-", "Checks a UserSig as the server does; - reads it from standard input.")
	var app appFlags
	app.register(fs)
	user := fs.String("user", "", "`UserID` that the UserSig must be for")
	pos, err := parse(fs, args)
	if err != nil {
		return err
	}
	if *user == "" || len(pos) != 1 {
		return usagef("give --user and one UserSig (or - for standard input)")
	}
	text := pos[0]
	if text == "-" {
		b, err := io.ReadAll(io.LimitReader(e.stdin, 64<<10))
		if err != nil {
			return fmt.Errorf("cannot read standard input: %w", err)
		}
		text = strings.TrimSpace(string(b))
	}
	key, err := app.key(e, "")
	if err != nil {
		return err
	}
	r := usersig.Verify([]byte(text), &usersig.Check{
		AppID: uint32(app.app), UserID: *user, Secrets: []string{key}, NowS: time.Now().Unix(),
	})
	if r.Code != usersig.OK {
		return fmt.Errorf("not good: %d: %s", r.Code, r.Text)
	}
	fmt.Fprintf(e.stdout, "good: issued %s, valid until %s\n", utc(r.TimeS), utc(r.EndS))
	return nil
}

func utc(unixS int64) string { return time.Unix(unixS, 0).UTC().Format(time.RFC3339) }

const day = 24 * time.Hour

// lifetime is a flag: a duration that may be given in days.
type lifetime time.Duration

// String implements flag.Value.
func (l *lifetime) String() string {
	if d := time.Duration(*l); d%day != 0 {
		return d.String()
	}
	return strconv.FormatInt(int64(time.Duration(*l)/day), 10) + "d"
}

// Set implements flag.Value.
func (l *lifetime) Set(s string) error {
	d, err := time.ParseDuration(s)
	if number, days := strings.CutSuffix(s, "d"); days {
		var n uint64
		n, err = strconv.ParseUint(number, 10, 16) // 65535 days fit into a Duration
		d = time.Duration(n) * day
	}
	if err != nil || d < time.Second {
		return errors.New("want a time of at least 1s with its unit, like 30m, 24h or 180d")
	}
	*l = lifetime(d)
	return nil
}
