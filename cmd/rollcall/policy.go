package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// presetRows says what the presets are: which platforms exclude each other, and how many
// instances of each may be allowed. docs/policy.md and the API description hold the same rows.
func presetRows() [][3]string {
	var rows [][3]string
	for _, name := range []string{presence.PresetSingle, presence.PresetDual, presence.PresetTriple, presence.PresetMulti} {
		p, _ := presence.Preset(name)
		var groups []string
		for _, g := range p.GroupNames() {
			groups = append(groups, "{"+strings.Join(g, ", ")+"}")
		}
		limits := "Web 1 to 10, others 1"
		if name == presence.PresetMulti {
			limits = multiLimits
		}
		rows = append(rows, [3]string{name, strings.Join(groups, " "), limits})
	}
	return append(rows, [3]string{presence.PresetCustom, "your own, by --file", multiLimits})
}

// multiLimits are those of the presets multi and custom.
const multiLimits = "Web 1 to 10, others 1 to 3"

// presetHelp is the table for --help.
func presetHelp() string {
	var b strings.Builder
	b.WriteString("Preset   Platforms that exclude each other; limits that may be set, each 1 by default\n")
	for _, r := range presetRows() {
		fmt.Fprintf(&b, "%-8s %s; %s\n", r[0], r[1], r[2])
	}
	return strings.TrimSuffix(b.String(), "\n")
}

func cmdPolicy(e env, args []string) error {
	return runAction(e, "policy", []action{
		{"get", "[--app ID] [FLAGS]", "Shows an app's login policy.", policyGet},
		{"set", "[--app ID] --preset NAME [--limit Web=3,...] [--enforce] | --file FILE [FLAGS]", "Sets the login policy. It applies to the next login; --enforce also kicks those who break it now.\n\n" + presetHelp(), policySet},
		{"dry-run", "[--app ID] --preset NAME [--limit Web=3,...] | --file FILE [FLAGS]", "Counts whom a policy would kick now. Changes nothing. rollcall policy set --help lists the presets.", policyDryRun},
	}, args)
}

func policyGet(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	id := appID(fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	return c.show(e, "GET", "apps/"+appIDText(*id)+"/policy", nil)
}

// policyFlags describe a policy.
type policyFlags struct {
	preset, limits, file string
}

func (p *policyFlags) register(fs *flag.FlagSet) {
	fs.StringVar(&p.preset, "preset", "", "`preset`: single, dual, triple or multi")
	fs.StringVar(&p.limits, "limit", "", "`instances` per platform, like Web=3,Android=2 (default 1 each)")
	fs.StringVar(&p.file, "file", "", "JSON `file`, for own groups: {\"Preset\":\"custom\",\"Groups\":[[\"Android\",\"iPhone\"],...],\"Limits\":{\"Web\":3}}; - is standard input")
}

// body is the policy as the console wants it.
func (p *policyFlags) body(e env) (map[string]any, error) {
	switch {
	case p.file != "" && (p.preset != "" || p.limits != ""):
		return nil, usagef("give --file or --preset and --limit, not both")
	case p.file != "":
		return readPolicy(e, p.file)
	case p.preset == "":
		return nil, usagef("give --preset or --file")
	case p.preset == presence.PresetCustom:
		return nil, usagef("--preset custom: own groups need --file")
	}
	body := map[string]any{"Preset": p.preset}
	if p.limits == "" {
		return body, nil
	}
	limits := map[string]int{}
	for _, pair := range strings.Split(p.limits, ",") {
		name, text, found := strings.Cut(pair, "=")
		n, err := strconv.Atoi(text)
		if !found || err != nil {
			return nil, usagef("--limit %q: want Platform=Number", pair)
		}
		limits[strings.TrimSpace(name)] = n
	}
	body["Limits"] = limits
	return body, nil
}

func readPolicy(e env, file string) (map[string]any, error) {
	var raw []byte
	var err error
	where := strconv.Quote(file)
	if file == "-" {
		where = "standard input"
		raw, err = io.ReadAll(io.LimitReader(e.stdin, 64<<10))
	} else {
		raw, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, fmt.Errorf("the policy in %s is no JSON object: %w", where, err)
	}
	return body, nil
}

func policySet(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	var p policyFlags
	c.register(fs)
	p.register(fs)
	id := appID(fs)
	enforce := fs.Bool("enforce", false, "kick now whoever breaks the policy")
	if err := noArgs(fs, args); err != nil {
		return err
	}
	body, err := p.body(e)
	if err != nil {
		return err
	}
	if *enforce {
		body["Enforce"] = "now"
	}
	return c.show(e, "PUT", "apps/"+appIDText(*id)+"/policy", body)
}

func policyDryRun(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	var p policyFlags
	c.register(fs)
	p.register(fs)
	id := appID(fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	body, err := p.body(e)
	if err != nil {
		return err
	}
	return c.show(e, "POST", "apps/"+appIDText(*id)+"/policy/dry-run", body)
}
