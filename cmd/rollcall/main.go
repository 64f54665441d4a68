// Command rollcall is the Rollcall server and its operator's tool.
package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// Exit codes.
const (
	exitOK    = 0
	exitError = 1 // could not start or run
	exitUsage = 2 // the command line or the configuration is wrong
)

// env is what a command may touch of the outside.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) (string, bool)
	environ        func() []string // all of the environment, as name=value
	interactive    bool            // stdout is a terminal
}

// command is one subcommand.
type command struct {
	name, synopsis string
	run            func(env, []string) error
}

func commands() []command {
	return []command{
		{"serve", "run the server", cmdServe},
		{"check-config", "read the configuration like serve, print it, and stop", cmdCheckConfig},
		{"version", "print version and build", cmdVersion},
		{"usersig", "gen: make a UserSig; verify: check one", cmdUserSig},
		{"login", "log in as a device and show what the server tells it", cmdLogin},
		{"query", "ask for the online status of users", cmdQuery},
		{"kick", "kick a user, or one instance of a user", cmdKick},
		{"app", "list, create and show apps, add and retire keys", cmdApp},
		{"store", "back up, check, dump and repair a store", cmdStore},
		{"webhook", "dead-letters: list the events that a receiver did not take; replay and skip them", cmdWebhook},
		{"policy", "get, set and dry-run an app's login policy", cmdPolicy},
	}
}

func main() {
	info, err := os.Stdout.Stat()
	e := env{
		stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, getenv: os.LookupEnv, environ: os.Environ,
		interactive: err == nil && info.Mode()&os.ModeCharDevice != 0,
	}
	os.Exit(run(e, os.Args[1:]))
}

// usageError is a fault of the command line; it ends with exit code 2.
type usageError struct {
	text    string
	command string // whose --help tells more, "" = the subcommand's
}

func (u *usageError) Error() string { return u.text }

func usagef(format string, args ...any) error { return &usageError{text: fmt.Sprintf(format, args...)} }

// inCommand makes a usage error point at the help of a command of two words.
func inCommand(command string, err error) error {
	var u *usageError
	if errors.As(err, &u) && u.command == "" {
		u.command = command
	}
	return err
}

// errHelp ends a command that printed its help.
var errHelp = errors.New("help")

// run executes one command line and returns the exit code.
func run(e env, args []string) int {
	if len(args) == 0 {
		printUsage(e.stderr)
		return exitUsage
	}
	if args[0] == "help" && len(args) > 1 {
		args = append(slices.Clone(args[1:]), "--help")
	}
	if args[0] == "help" || args[0] == "-h" || args[0] == "--help" {
		printUsage(e.stdout)
		return exitOK
	}
	if args[0] == "--version" {
		args[0] = "version"
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return report(e, c.name, c.run(e, args[1:]))
		}
	}
	fmt.Fprintf(e.stderr, "rollcall: there is no command %q\n", args[0])
	printUsage(e.stderr)
	return exitUsage
}

func report(e env, name string, err error) int {
	var usage *usageError
	switch {
	case err == nil, errors.Is(err, errHelp):
		return exitOK
	case errors.As(err, &usage):
		name = cmp.Or(usage.command, name)
		fmt.Fprintf(e.stderr, "rollcall %s: %v\nSee: rollcall %s --help\n", name, err, name)
		return exitUsage
	}
	fmt.Fprintf(e.stderr, "rollcall %s: %v\n", name, err)
	return exitError
}

func printUsage(w io.Writer) {
	fmt.Fprint(w, "Rollcall keeps client connections and knows who is online.\n\nusage: rollcall COMMAND [FLAGS]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-13s %s\n", c.name, c.synopsis)
	}
	fmt.Fprint(w, "\nFirst steps: rollcall serve --dev; each command has --help.\n")
}
