package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	c, err := loadConfig(e, args)
	if err != nil {
		return err
	}
	log := newLogger(e, c)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	memory := keepMemory(e.getenv)
	defer memory.close()
	n, err := startNode(c, log)
	if err != nil {
		return err
	}
	printListening(e, c, n)
	select {
	case <-ctx.Done():
		stop() // a second signal ends the process at once
		log.Info("stopping: clients are told to come back later")
		return n.stop(c.DrainTimeout + stopTimeout)
	case err := <-n.engine.Stopped():
		return errors.Join(fmt.Errorf("the reactor ended unexpectedly: %w", err), n.stop(stopTimeout))
	}
}

func cmdCheckConfig(e env, args []string) error {
	c, err := loadConfig(e, args)
	if err != nil {
		return err
	}
	for _, v := range c.Values() {
		fmt.Fprintf(e.stdout, "%-24s %-24s # %s\n", v.Name, v.Text, v.Source)
	}
	for _, a := range c.Apps {
		fmt.Fprintf(e.stdout, "app %d %q policy=%s administrators=%s webhook=%q\n", a.SDKAppID, a.Name, a.Policy.Preset, strings.Join(a.Administrators, ","), a.WebhookURL)
	}
	return nil
}

// loadConfig maps config's errors to exit codes.
func loadConfig(e env, args []string) (*config.Config, error) {
	c, err := config.Load(config.Inputs{Args: args, LookupEnv: e.getenv, ReadFile: os.ReadFile})
	switch {
	case errors.Is(err, config.ErrHelp):
		fmt.Fprint(e.stdout, config.Usage())
		return nil, errHelp
	case config.IsUsage(err):
		return nil, &usageError{err.Error()}
	}
	return c, err
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
// "listening native=ADDR api=ADDR admin=ADDR"; in dev mode, three things to try follow.
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
	login, api := "bin/rollcall login --user alice", "bin/rollcall query alice"
	bench := "bin/rollcall-bench connect --conns 1000 --hold 60s"
	if a := n.addr("native"); a != "127.0.0.1:7700" {
		login += " --addr " + a
		bench += " --target " + a
	}
	if a := n.addr("api"); a != "127.0.0.1:7780" {
		api += " --api http://" + a
		bench += " --api http://" + a
	}
	fmt.Fprintf(e.stdout, `
Dev mode: app %d with a public key, administrator %q, admin token %q, everything on this machine only.
Metrics http://%s/metrics, API description http://%[4]s/openapi.yaml. Ctrl-C stops. Three things to try in another terminal:

  %s
  %s
  %s

`, config.DevAppID, devAdmin, config.DevToken, n.addr("admin"), login, api, bench)
}
