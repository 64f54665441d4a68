package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/buildinfo"
	rollcall "github.com/rollcall-im/rollcall/sdk/go"
)

// loginFlags are the flags of `rollcall login`.
type loginFlags struct {
	app                                               appFlags
	addr, user, platform, device, model, sig, sigFile string
	resume, tls                                       bool
	caFile                                            string
}

func (l *loginFlags) register(fs *flag.FlagSet) {
	l.app.register(fs)
	fs.StringVar(&l.addr, "addr", "127.0.0.1:7700", "`address` of the native listener")
	fs.BoolVar(&l.tls, "tls", false, "speak TLS: the address is that of the TLS listener, port 8700 by default")
	fs.StringVar(&l.caFile, "ca-file", "", "PEM `file` with the authorities to trust with --tls, instead of the system's")
	fs.StringVar(&l.user, "user", "alice", "`UserID`")
	fs.StringVar(&l.platform, "platform", "Android", "`platform`: "+platformNames())
	fs.StringVar(&l.device, "device", "terminal-1", "device `id`, 1 to 64 bytes")
	fs.StringVar(&l.model, "model", "", "device `model` that others are shown (default: the device id)")
	fs.StringVar(&l.sigFile, "usersig-file", "", "`file` with the UserSig (default: made with the app's key)")
	fs.StringVar(&l.sig, "usersig", "", "`UserSig` itself; ps shows command lines to everybody, so prefer --usersig-file")
	fs.BoolVar(&l.resume, "resume", false, "log in like a client that comes back by itself: push nobody out")
}

func platformNames() string {
	var names []string
	for _, p := range codec.Platforms() {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}

// options turns the flags into the client's options.
func (l *loginFlags) options(e env) (rollcall.Options, error) {
	platform, ok := codec.ParsePlatform(l.platform)
	if !ok {
		return rollcall.Options{}, usagef("--platform %q is none of %s", l.platform, platformNames())
	}
	sig, err := l.userSig(e)
	if err != nil {
		return rollcall.Options{}, err
	}
	secure, err := l.tlsConfig()
	if err != nil {
		return rollcall.Options{}, err
	}
	return rollcall.Options{
		Addr: l.addr, SDKAppID: uint32(l.app.app), UserID: l.user, UserSig: sig,
		Platform: platform, DeviceID: l.device, DeviceModel: cmp.Or(l.model, l.device), Resume: l.resume,
		SDKVersion: sdkVersion(), BackoffMax: maxLoginWait, TLSConfig: secure,
	}, nil
}

// tlsConfig is nil for plain TCP.
func (l *loginFlags) tlsConfig() (*tls.Config, error) {
	switch {
	case !l.tls && l.caFile != "":
		return nil, usagef("--ca-file is for --tls")
	case !l.tls:
		return nil, nil
	case l.caFile == "":
		return &tls.Config{}, nil
	}
	roots, err := readRoots(l.caFile)
	return &tls.Config{RootCAs: roots}, err
}

// maxLoginWait is the longest wait for the next try, on top of what the server asks for: there is
// one device and a person who watches it, not a crowd that must not come back at once.
const maxLoginWait = 5 * time.Second

// userSig returns where the client gets its UserSig from.
func (l *loginFlags) userSig(e env) (func(context.Context) (string, error), error) {
	switch {
	case l.sig != "" && l.sigFile != "":
		return nil, usagef("give --usersig-file or --usersig, not both")
	case l.sigFile != "":
		sig, err := readSecret(l.sigFile)
		return rollcall.StaticUserSig(sig), err
	case l.sig != "":
		return rollcall.StaticUserSig(l.sig), nil
	}
	key, err := l.app.key(e, l.addr)
	return func(context.Context) (string, error) { return l.app.sign(key, l.user) }, err
}

func sdkVersion() string {
	v := "go/" + buildinfo.Version
	return v[:min(len(v), 32)]
}

func cmdLogin(e env, args []string) error {
	fs := newFlags(e, "login", "[FLAGS]", `Logs in as a device, stays, and shows what the server says. Lines on standard input: logout, quit.
Ends with exit code 0 after a logout, a forced offline (which is shown) or a signal, with 1 if the login was refused.`)
	var l loginFlags
	l.register(fs)
	if pos, err := parse(fs, args); err != nil {
		return err
	} else if len(pos) > 0 {
		return usagef("unexpected argument %q", pos[0])
	}
	o, err := l.options(e)
	if err != nil {
		return err
	}
	say := &teller{w: e.stdout}
	o.OnStatus, o.OnLogin = say.status, say.login
	client, err := rollcall.New(o)
	if err != nil {
		return usagef("%s", plainError(err))
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	go readCommands(ctx, e.stdin, client, say)
	return say.end(client.Run(ctx))
}

// readCommands obeys standard input until it ends; then the login just stays.
func readCommands(ctx context.Context, r io.Reader, client *rollcall.Client, say *teller) {
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		switch word := strings.TrimSpace(lines.Text()); word {
		case "":
		case "logout":
			ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
			if err := client.Logout(ctx); err != nil {
				say.line("logout: %v", err)
			}
			cancel()
		case "quit":
			client.Close()
		default:
			say.line("there is no %q; say logout or quit", word)
		}
	}
}

// teller prints one line per event; several goroutines use it.
type teller struct {
	mu sync.Mutex
	w  io.Writer

	// Owned by the client's goroutine, which calls status and login.
	addr     string // of the last try
	loggedIn bool
	hinted   bool
}

func (t *teller) line(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	fmt.Fprintf(t.w, time.Now().Format("15:04:05.000 ")+format+"\n", args...)
}

func (t *teller) status(s rollcall.StatusChange) {
	switch s.Status {
	case rollcall.Connecting:
		t.addr = s.Addr
		t.line("connecting to %s", s.Addr)
	case rollcall.Waiting:
		what := "lost"
		if !t.loggedIn {
			what = "no login"
		}
		t.line("%s: %s; next try in %v", what, plainError(s.Err), s.Wait.Round(time.Millisecond))
		t.hint(s.Err)
	}
}

// hint says, once and only before the first login, what to look at.
func (t *teller) hint(err error) {
	if t.hinted || t.loggedIn {
		return
	}
	var unknown x509.UnknownAuthorityError
	var noTLS tls.RecordHeaderError
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		t.line("is the server running? rollcall serve --dev starts one")
	case errors.As(err, &unknown):
		t.line("--ca-file names the authority to trust")
	case errors.As(err, &noTLS):
		t.line("is %s a TLS listener? its port is 8700 by default", t.addr)
	case errors.Is(err, rollcall.ErrProtocol), errors.Is(err, rollcall.ErrNoAnswer), errors.Is(err, io.EOF):
		t.line("is %s the native listener? its port is 7700 by default, 8700 with --tls", t.addr)
	default:
		return
	}
	t.hinted = true
}

// plainError is an error of the client without the names that packages put in front, one before the other.
func plainError(err error) string {
	var op *net.OpError
	var call *os.SyscallError
	if errors.As(err, &op) && op.Op == "dial" && errors.As(err, &call) {
		return fmt.Sprintf("cannot connect to %s: %v", op.Addr, call.Err)
	}
	return strings.TrimPrefix(err.Error(), "rollcall: ")
}

func (t *teller) login(l rollcall.Login) {
	t.loggedIn = true
	how := "new login"
	switch {
	case l.TakenBack:
		how = "taken back"
	case l.Resumed:
		how = "resumed as a new login"
	}
	t.line("online: InstID %d, %s; heartbeat every %v, silence time-out %v", l.InstID, how, l.HeartbeatInterval, l.SilenceTimeout)
	for _, k := range l.Kicked {
		t.line("pushed out: %s (InstID %d)", k.Platform, k.InstID)
	}
}

// end says why it ended. What the server decided, and what the person asked
// for, is shown; only a login that never could be is an error.
func (t *teller) end(err error) error {
	var forced *rollcall.ForcedOfflineError
	switch {
	case err == nil:
		t.line("logged out")
		return nil
	case errors.As(err, &forced):
		t.forced(forced)
		return nil
	case errors.Is(err, rollcall.ErrClosed), errors.Is(err, context.Canceled):
		t.line("closed the link without a logout")
		return nil
	}
	return errors.New(plainError(err))
}

func (t *teller) forced(f *rollcall.ForcedOfflineError) {
	by := ""
	if f.ByPlatform != 0 {
		by = fmt.Sprintf(", by %s %q at %s", f.ByPlatform, f.ByDeviceModel, f.Time.Format("15:04:05"))
	}
	t.line("forced offline: %d %s: %s%s; may reconnect by itself: %v", uint32(f.Code), f.Code, f.Text, by, f.MayReconnect)
}
