package main

import (
	"flag"
	"fmt"
	"strings"
)

// action is a word behind a command: `rollcall app create`.
type action struct {
	name, args, about string
	run               func(env, *flag.FlagSet, []string) error
}

// runAction finds the action and lets it parse its flags.
func runAction(e env, command string, actions []action, args []string) error {
	var names []string
	for _, a := range actions {
		names = append(names, a.name)
	}
	list := strings.Join(names, ", ")
	if len(args) == 0 {
		return usagef("say one of %s", list)
	}
	if args[0] == "-h" || args[0] == "--help" || args[0] == "help" {
		for _, a := range actions {
			fmt.Fprintf(e.stdout, "rollcall %s %s %s\n      %s\n", command, a.name, a.args, a.about)
		}
		return errHelp
	}
	for _, a := range actions {
		if a.name == args[0] {
			name := command + " " + a.name
			return inCommand(name, a.run(e, newFlags(e, name, a.args, a.about), args[1:]))
		}
	}
	return usagef("there is no %q; say one of %s", args[0], list)
}

// noArgs parses flags only.
func noArgs(fs *flag.FlagSet, args []string) error {
	pos, err := parse(fs, args)
	if err == nil && len(pos) > 0 {
		return usagef("unexpected argument %q", pos[0])
	}
	return err
}
