// Command rollcall-bench puts load on a Rollcall server and checks every
// answer. docs/bench.md describes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/rollcall-im/rollcall/bench"
)

// Exit codes.
const (
	exitOK    = 0
	exitWrong = 1 // something was wrong, could not run, or was interrupted
	exitUsage = 2
)

const usage = `rollcall-bench puts load on a Rollcall server and checks every answer.

  rollcall-bench connect   log many users in, hold them, read them back, kill them
  rollcall-bench hold      what idle links cost: memory between two plateaus, CPU of heartbeats
  rollcall-bench churn     log users in and out at an offered rate
  rollcall-bench storm     log everybody in at once, or at a curve of offered rates
  rollcall-bench massdrop  let everybody go at once by FIN, RST or silence
  rollcall-bench query     ask for presence over REST
  rollcall-bench kick      kick users over REST and time the notices
  rollcall-bench mixed     all of it together, each at its offered rate
  rollcall-bench million   how many links a machine carries, and whether all is right with them
  rollcall-bench ledger    kill a server again and again under load; nothing acknowledged may be lost

  rollcall-bench hostile   attack a server in every way of the list while honest users go on; none may notice

  rollcall-bench attack --row slow-logins               one attack, on a server that runs
  rollcall-bench report RESULT.json... -o report.html   plots in one file
  rollcall-bench compare A.json B.json                  ratios of two results of one scenario

The defaults fit a server started with --dev; ledger and hostile start their own. "rollcall-bench connect -h" lists
the flags of a scenario. Exit code: 0 all was right, 1 something was wrong, 2 usage.
`

// scenario parses its flags and returns what to run.
type scenario func(args []string, help io.Writer) (*job, error)

// job is a scenario with its options.
type job struct {
	run   func(ctx context.Context, progress func(string)) (*bench.Result, error) // progress may be nil
	json  string                                                                  // file for the result
	every time.Duration                                                           // of lines of progress where there is no terminal
	wrong bool                                                                    // something must be wrong: the run is to show that it would be found
}

var scenarios = map[string]scenario{
	"connect": connect, "hold": hold, "churn": churn, "storm": storm, "massdrop": massdrop,
	"query": query, "kick": kick, "mixed": mixed, "million": million, "ledger": ledgerTest, "hostile": hostile,
}

// tools work on results.
var tools = map[string]func(args []string, stdout io.Writer) error{"report": report, "compare": compare, "attack": assault}

func main() {
	os.Exit(realMain(os.Args[1:], os.Stdout, os.Stderr))
}

func realMain(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		fmt.Fprint(stderr, usage)
		return exitUsage
	}
	switch args[0] {
	case "help", "-h", "--help":
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	if tool := tools[args[0]]; tool != nil {
		return useTool(tool, args, stdout, stderr)
	}
	s, ok := scenarios[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "rollcall-bench: there is no scenario %q; there are %s\n", args[0], strings.Join(slices.Sorted(maps.Keys(scenarios)), ", "))
		return exitUsage
	}
	j, err := s(args[1:], stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "rollcall-bench %s: %v\n", args[0], err)
		return exitUsage
	}
	return execute(j, stdout, stderr)
}

// execute runs a scenario until its end or the first interrupt; a second one
// kills the process.
func execute(j *job, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	progress, clear := progressLine(stderr, j.every)
	res, err := j.run(ctx, progress)
	clear()
	if err != nil {
		fmt.Fprintf(stderr, "rollcall-bench: %v\n", err)
	}
	if res == nil {
		if errors.Is(err, bench.ErrOptions) {
			return exitUsage
		}
		return exitWrong
	}
	if j.json != "-" {
		fmt.Fprint(stdout, res.Summary())
	}
	if err := writeJSON(res, j.json, stdout); err != nil {
		fmt.Fprintf(stderr, "rollcall-bench: cannot write the result: %v\n", err)
		return exitWrong
	}
	if err == nil && j.wrong {
		fmt.Fprintf(stderr, "rollcall-bench: violations were expected; found: %t\n", !res.OK)
		res.OK = !res.OK
	}
	if err != nil || !res.OK {
		return exitWrong
	}
	return exitOK
}

// progressLine shows one line that overwrites itself on a terminal. With every
// it prints lines instead, wherever it is, not more often than that.
func progressLine(w io.Writer, every time.Duration) (show func(string), clear func()) {
	f, ok := w.(*os.File)
	if ok && every <= 0 && term.IsTerminal(int(f.Fd())) {
		return func(s string) { fmt.Fprintf(f, "\r\x1b[K%s", s) }, func() { fmt.Fprint(f, "\r\x1b[K") }
	}
	if every <= 0 {
		return nil, func() {}
	}
	var last time.Time
	return func(s string) {
		if time.Since(last) >= every {
			last = time.Now()
			fmt.Fprintf(w, "%s %s\n", last.UTC().Format(time.TimeOnly), s)
		}
	}, func() {}
}

func writeJSON(res *bench.Result, file string, stdout io.Writer) error {
	switch file {
	case "":
		return nil
	case "-":
		return res.WriteJSON(stdout)
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	return errors.Join(res.WriteJSON(f), f.Close())
}
