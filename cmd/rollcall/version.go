package main

import (
	"fmt"
	"runtime"

	"github.com/rollcall-im/rollcall/internal/buildinfo"
)

func cmdVersion(e env, args []string) error {
	fs := newFlags(e, "version", "", "Prints the version, the commit and the Go release of the build.")
	if pos, err := parse(fs, args); err != nil {
		return err
	} else if len(pos) > 0 {
		return usagef("unexpected argument %q", pos[0])
	}
	fmt.Fprintf(e.stdout, "rollcall %s", buildinfo.Version)
	if c := buildinfo.Commit(); c != "" {
		fmt.Fprintf(e.stdout, " commit %s", c)
	}
	fmt.Fprintf(e.stdout, " %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}
