package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/rollcall-im/rollcall/bench"
)

// errUsage marks errors of the command line.
var errUsage = errors.New("usage")

func useTool(tool func([]string, io.Writer) error, args []string, stdout, stderr io.Writer) int {
	err := tool(args[1:], stdout)
	switch {
	case err == nil || errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "rollcall-bench %s: %v\n", args[0], err)
		return exitUsage
	}
	fmt.Fprintf(stderr, "rollcall-bench %s: %v\n", args[0], err)
	return exitWrong
}

// parseMixed parses flags that may stand before, between and behind files.
func parseMixed(f *flag.FlagSet, args []string, stdout io.Writer) (files []string, err error) {
	f.SetOutput(io.Discard)
	f.Usage = func() {}
	for {
		err := f.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			f.SetOutput(stdout)
			f.PrintDefaults()
			return nil, err
		}
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errUsage, err)
		}
		if args = f.Args(); len(args) == 0 {
			return files, nil
		}
		files, args = append(files, args[0]), args[1:]
	}
}

func report(args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("rollcall-bench report", flag.ContinueOnError)
	out := f.String("o", "report.html", "write the report to this `file`, - for standard output")
	files, err := parseMixed(f, args, stdout)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%w: which results? rollcall-bench report RESULT.json... -o report.html", errUsage)
	}
	var named []bench.NamedResult
	for _, file := range files {
		r, err := readResult(file)
		if err != nil {
			return err
		}
		named = append(named, bench.NamedResult{Name: strings.TrimSuffix(filepath.Base(file), ".json"), Result: r})
	}
	if *out == "-" {
		return bench.Report(stdout, named)
	}
	w, err := os.Create(*out)
	if err != nil {
		return err
	}
	return errors.Join(bench.Report(w, named), w.Close())
}

func compare(args []string, stdout io.Writer) error {
	f := flag.NewFlagSet("rollcall-bench compare", flag.ContinueOnError)
	noise := f.Float64("noise", 0.1, "a `share` of change that counts as none; four times as much for the slowest answers")
	files, err := parseMixed(f, args, stdout)
	if err != nil {
		return err
	}
	if len(files) != 2 || *noise < 0 || *noise > 1 {
		return fmt.Errorf("%w: give two results, and --noise from 0 to 1", errUsage)
	}
	a, err := readResult(files[0])
	if err != nil {
		return err
	}
	b, err := readResult(files[1])
	if err != nil {
		return err
	}
	rows, err := bench.Compare(a, b, *noise)
	if err != nil {
		return err
	}
	fmt.Fprint(stdout, bench.CompareTable(rows))
	return nil
}

func readResult(file string) (*bench.Result, error) {
	r, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	res, err := bench.ReadResult(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return res, nil
}
