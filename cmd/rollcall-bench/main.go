// Command rollcall-bench puts load on a Rollcall server and checks every
// answer. docs/bench.md describes it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

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
  rollcall-bench churn     log users in and out at an offered rate
  rollcall-bench query     ask for presence over REST

The defaults fit a server started with --dev. "rollcall-bench connect -h" lists
the flags of a scenario. Exit code: 0 all was right, 1 something was wrong, 2 usage.
`

// scenario parses its flags and returns what to run.
type scenario func(args []string, help io.Writer) (run, string, error)

// run is a scenario with its options; progress may be nil.
type run func(ctx context.Context, progress func(string)) (*bench.Result, error)

var scenarios = map[string]scenario{"connect": connect, "churn": churn, "query": query}

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
	s, ok := scenarios[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "rollcall-bench: there is no scenario %q; there are connect, churn and query\n", args[0])
		return exitUsage
	}
	run, jsonFile, err := s(args[1:], stdout)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case err != nil:
		fmt.Fprintf(stderr, "rollcall-bench %s: %v\n", args[0], err)
		return exitUsage
	}
	return execute(run, jsonFile, stdout, stderr)
}

// execute runs a scenario until its end or the first interrupt; a second one
// kills the process.
func execute(run run, jsonFile string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	progress, clear := progressLine(stderr)
	res, err := run(ctx, progress)
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
	if jsonFile != "-" {
		fmt.Fprint(stdout, res.Summary())
	}
	if err := writeJSON(res, jsonFile, stdout); err != nil {
		fmt.Fprintf(stderr, "rollcall-bench: cannot write the result: %v\n", err)
		return exitWrong
	}
	if err != nil || !res.OK {
		return exitWrong
	}
	return exitOK
}

// progressLine shows one line that overwrites itself, on a terminal only.
func progressLine(w io.Writer) (show func(string), clear func()) {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, func() {}
	}
	return func(s string) { fmt.Fprintf(f, "\r\x1b[K%s", s) }, func() { fmt.Fprint(f, "\r\x1b[K") }
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
