package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall-im/rollcall/internal/config"
)

// stopTimeout bounds what a stop waits for after the drain time-out.
const stopTimeout = 10 * time.Second

func cmdServe(e env, args []string) error {
	c, err := loadConfig(e, "serve", args)
	if err != nil {
		return err
	}
	log := newLogger(e, c)
	for _, w := range append(c.Warnings, plainAdmin(c)...) {
		log.Warn(w)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	hangups := make(chan os.Signal, 1)
	if !c.Dev || c.TLSCert != "" { // else it is the terminal that was closed
		signal.Notify(hangups, syscall.SIGHUP)
		defer signal.Stop(hangups)
	}
	memory := keepMemory(e.getenv)
	defer memory.close()
	n, err := startNode(c, log)
	if err != nil {
		return startError(c, err)
	}
	printListening(e, c, n)
	for {
		select {
		case <-hangups:
			n.reload()
			continue
		case <-ctx.Done():
		case err := <-n.engine.Stopped():
			return errors.Join(fmt.Errorf("the reactor ended unexpectedly: %w", err), n.stop(stopTimeout))
		}
		stop() // a second signal ends the process at once
		log.Info(stopping(c))
		began := time.Now()
		err := n.stop(c.DrainTimeout + stopTimeout)
		log.Info("stopped", "took", time.Since(began).String())
		return err
	}
}

// stopping is what the log says when a stop begins.
func stopping(c *config.Config) string {
	if c.DrainRedirect != "" {
		return "stopping: clients are sent to " + c.DrainRedirect
	}
	return "stopping: clients are told to come back later"
}

func cmdCheckConfig(e env, args []string) error {
	c, err := loadConfig(e, "check-config", args)
	if err != nil {
		return err
	}
	for _, w := range append(c.Warnings, plainAdmin(c)...) {
		fmt.Fprintln(e.stderr, "warning:", w)
	}
	for _, v := range c.Values() {
		fmt.Fprintf(e.stdout, "%-24s %-24s # %s\n", v.Name, v.Text, v.Source)
	}
	for _, a := range c.Apps {
		fmt.Fprintf(e.stdout, "app %d %q policy=%s administrators=%s webhook=%q\n", a.SDKAppID, a.Name, a.Policy.Preset, strings.Join(a.Administrators, ","), withoutQuery(a.WebhookURL))
	}
	return nil
}

// withoutQuery is a URL as it may be shown: a query may hold a secret.
func withoutQuery(raw string) string {
	shown, _, _ := strings.Cut(raw, "?")
	if shown != raw {
		shown += "?..."
	}
	return shown
}

// loadConfig maps config's errors to exit codes.
func loadConfig(e env, command string, args []string) (*config.Config, error) {
	in := config.Inputs{Args: args, LookupEnv: e.getenv, ReadFile: os.ReadFile}
	if e.environ != nil {
		in.Environ = e.environ()
	}
	c, err := config.Load(in)
	switch {
	case errors.Is(err, config.ErrHelp):
		fmt.Fprint(e.stdout, config.Usage(command))
		return nil, errHelp
	case config.IsUsage(err):
		return nil, usagef("%v", err)
	}
	return c, err
}

// plainAdmin warns of an admin listener whose token travels in the clear.
func plainAdmin(c *config.Config) []string {
	if c.ListenAdmin == config.Off || loopback(c.ListenAdmin) {
		return nil
	}
	return []string{fmt.Sprintf("listen-admin %s is plain HTTP and not on a loopback address: whoever can listen in on the network reads the admin token; "+
		"set it to 127.0.0.1:7781 and use listen-admin-tls from elsewhere", c.ListenAdmin)}
}

// partNames are what the errors of the node's parts say that the command line has said, or says otherwise.
var partNames = strings.NewReplacer(": engine: ", ": ", ": api: ", ": ", "MaxLinks is", "max-links is")

// startError says why the server cannot start in the words of the settings: which one's address
// is taken, for instance. The parts of the node know addresses only.
func startError(c *config.Config, err error) error {
	var op *net.OpError
	var call *os.SyscallError
	if !errors.As(err, &op) || op.Op != "listen" || !errors.As(err, &call) || op.Addr == nil {
		return errors.New(partNames.Replace(err.Error()))
	}
	setting := "a listener"
	for _, v := range c.Values() {
		if strings.HasPrefix(v.Name, "listen-") && v.Text == op.Addr.String() {
			setting = v.Name
		}
	}
	return fmt.Errorf("cannot start: %s %s: %w", setting, op.Addr, call.Err)
}

// newLogger logs to stderr: text on a terminal, else JSON.
func newLogger(e env, c *config.Config) *slog.Logger {
	o := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "text" || c.LogFormat == "auto" && isTerminal(e.stderr) {
		return slog.New(slog.NewTextHandler(e.stderr, o))
	}
	return slog.New(slog.NewJSONHandler(e.stderr, o))
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// printListening prints what was bound, in one line that programs can read:
// "listening native=ADDR ws=ADDR api=ADDR admin=ADDR"; in dev mode, things to try follow.
func printListening(e env, c *config.Config, n *node) {
	line := "listening"
	for _, name := range listenerNames {
		if addr := n.addr(name); addr != "" {
			line += " " + name + "=" + addr
		}
	}
	fmt.Fprintln(e.stdout, line)
	if !c.Dev {
		return
	}
	fmt.Fprintf(e.stdout, "\nDev mode: app %d with a public key, administrator %q, admin token %q, everything on this machine only.\n",
		config.DevAppID, devAdmin, config.DevToken)
	if admin := n.addr("admin"); admin != "" {
		fmt.Fprintf(e.stdout, "Metrics http://%s/metrics, API description http://%[1]s/openapi.yaml. ", admin)
	}
	fmt.Fprintf(e.stdout, "Ctrl-C stops. Things to try in other terminals:\n\n%s%s\n", commandsToTry(n.addr("native"), n.addr("api")), demoLine(n))
}

// commandsToTry are those for the listeners that are there, "" = off.
func commandsToTry(native, api string) string {
	var toNative, toTarget, toAPI, lines string
	if native != "127.0.0.1:7700" {
		toNative, toTarget = " --addr "+native, " --target "+native
	}
	if api != "127.0.0.1:7780" {
		toAPI = " --api http://" + api
	}
	if native != "" {
		lines += "  bin/rollcall login --user alice --device phone-1" + toNative + "\n" +
			"  bin/rollcall login --user alice --device phone-2" + toNative + "    # the first is forced offline\n"
	}
	if api != "" {
		lines += "  bin/rollcall query alice" + toAPI + "\n"
	}
	if native != "" && api != "" {
		lines += "  bin/rollcall-bench connect --conns 1000 --hold 60s" + toTarget + toAPI + "\n"
	}
	return lines
}

// demoLine says where the demo page is, if it is there and can be used.
func demoLine(n *node) string {
	admin := n.addr("admin")
	if admin == "" || n.addr("ws") == "" {
		return ""
	}
	return "\nIn a browser: http://" + admin + "/demo/ and log in from two tabs; one forces the other offline.\n"
}
