package config

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
)

// layers hold what each place says, before any of it is parsed.
type layers struct {
	flags     map[string]given
	lookupEnv func(string) (string, bool)
	file      map[string]given
	apps      []appEntry
}

// flagText is a flag as it was given; it is parsed with all the others.
type flagText struct {
	s     *setting
	out   map[string]given
	twice *string // the first flag that was given again
}

func (f flagText) String() string   { return "" }
func (f flagText) IsBoolFlag() bool { return f.s != nil && f.s.bool }

func (f flagText) Set(text string) error {
	if _, twice := f.out[f.s.name]; twice && *f.twice == "" {
		*f.twice = f.s.name
	}
	f.out[f.s.name] = given{text: text, source: "flag", where: "--" + f.s.name, usage: true}
	return nil
}

func parseFlags(args []string) (map[string]given, error) {
	out := map[string]given{}
	var twice string
	fs := flag.NewFlagSet("serve", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {}
	for i := range settings {
		fs.Var(flagText{&settings[i], out, &twice}, settings[i].name, settings[i].doc)
	}
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		return nil, ErrHelp
	case err != nil:
		return nil, usagef("%s", FlagFault(err))
	case twice != "": // an error of Set would come with words of package flag around it
		return nil, usagef("--%s is given twice", twice)
	case fs.NArg() > 0:
		return nil, usagef("unexpected argument %q: settings are given as --name value", fs.Arg(0))
	}
	return out, nil
}

// find returns the setting's value from the first layer that has one.
func (l *layers) find(name string) (given, bool) {
	if g, ok := l.flags[name]; ok {
		return g, true
	}
	if text, ok := l.lookupEnv(Env(name)); ok && text != "" {
		return given{text: text, source: "environment", where: Env(name)}, true
	}
	g, ok := l.file[name]
	return g, ok
}

// ClientVariables are those of the environment that rollcall's client commands
// read; serve does not.
var ClientVariables = []string{"ROLLCALL_ADMIN_TOKEN", "ROLLCALL_APP_KEY"}

// unknownVariables warns of variables that look like settings and are none.
func unknownVariables(environ []string) []string {
	var warnings []string
	for _, pair := range environ {
		name, _, _ := strings.Cut(pair, "=")
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(ClientVariables, name) && !isVariable(name) {
			warnings = append(warnings, fmt.Sprintf("environment variable %s is no setting and is ignored", name))
		}
	}
	slices.Sort(warnings)
	return warnings
}

func isVariable(name string) bool {
	return slices.ContainsFunc(settings, func(s setting) bool { return Env(s.name) == name })
}

func (l *layers) text(name string) string {
	g, _ := l.find(name)
	return g.text
}

// readFile reads the YAML layer, if there is one.
func (l *layers) readFile(name string, read func(string) ([]byte, error)) error {
	if name == "" {
		return nil
	}
	data, err := read(name)
	if err != nil {
		return fmt.Errorf("cannot read the config file: %w", err)
	}
	l.file, l.apps, err = parseFile(name, data)
	return err
}

// apply sets c from the layers, and reports all values that do not parse.
func (l *layers) apply(c *Config) error {
	var faults []error
	for i := range settings {
		s := &settings[i]
		g, ok := l.find(s.name)
		if !ok && c.Dev {
			g, ok = s.devDefault(), true
		}
		if !ok {
			continue
		}
		if err := s.set(c, g.text); err != nil {
			faults = append(faults, g.fault(err))
		}
		c.sources[s.name] = g.source
	}
	return errors.Join(faults...)
}

// devDefault is the setting's default in --dev. It is parsed anew even where it
// is the default text: an address without a host means something else there.
func (s *setting) devDefault() given {
	g := given{text: s.def, where: s.name}
	if s.dev != "" {
		g = given{text: s.dev, source: "dev", where: s.name}
	}
	return g
}
