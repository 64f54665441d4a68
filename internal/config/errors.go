package config

import (
	"errors"
	"flag"
	"fmt"
	"strings"
)

// ErrHelp is what Load returns for -h and --help.
var ErrHelp = flag.ErrHelp

// UsageError is a fault of the command line itself: exit code 2.
type UsageError struct{ Err error }

// Error implements error.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error {
	return &UsageError{Err: fmt.Errorf(format, args...)}
}

// IsUsage reports whether err is a fault of the command line.
func IsUsage(err error) bool {
	var u *UsageError
	return errors.As(err, &u)
}

// FlagFault is the text of an error of package flag, with flags as people write them: --name.
func FlagFault(err error) string {
	return oneDash.Replace(err.Error())
}

var oneDash = strings.NewReplacer(
	"flag provided but not defined: -", "there is no flag --",
	"flag needs an argument: -", "a value is missing behind --",
	" for flag -", " for --",
	": parse error", "",
)

// given is a value with the place it was given at.
type given struct {
	text   string
	source string // for Values
	where  string // for errors: "--name", "ROLLCALL_NAME", "file:line: name"
	usage  bool   // a fault in it is a fault of the command line
}

func (g *given) fault(err error) error {
	err = fmt.Errorf("%s %q: %w", g.where, g.text, err)
	if g.usage {
		return &UsageError{Err: err}
	}
	return err
}
