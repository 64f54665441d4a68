package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"strconv"
	"strings"
)

// consoleClient calls the console API.
type consoleClient struct {
	base, tokenFile string
}

func (c *consoleClient) register(fs *flag.FlagSet) {
	fs.StringVar(&c.base, "admin", "http://127.0.0.1:7781", "address of the admin listener")
	fs.StringVar(&c.tokenFile, "token-file", "", "file with the admin token (default: environment ROLLCALL_ADMIN_TOKEN; against this machine the token of --dev)")
}

func (c *consoleClient) token(e env) (string, error) {
	if c.tokenFile != "" {
		return readSecret(c.tokenFile)
	}
	if t, ok := e.getenv("ROLLCALL_ADMIN_TOKEN"); ok && t != "" {
		return t, nil
	}
	if loopback(c.base) {
		return devAdminToken, nil
	}
	return "", usagef("%s needs the admin token: give --token-file or set ROLLCALL_ADMIN_TOKEN", c.base)
}

// call sends a request to /console/v1/<path>, whose parts are escaped by the caller.
func (c *consoleClient) call(e env, method, path string, body any) ([]byte, error) {
	token, err := c.token(e)
	if err != nil {
		return nil, err
	}
	return sendJSON(method, strings.TrimRight(c.base, "/")+"/console/v1/"+path, token, body)
}

// show calls and prints the answer, indented.
func (c *consoleClient) show(e env, method, path string, body any) error {
	raw, err := c.call(e, method, path, body)
	if err != nil {
		return err
	}
	return printJSON(e.stdout, raw)
}

func printJSON(w io.Writer, raw []byte) error {
	if len(bytes.TrimSpace(raw)) == 0 {
		_, err := fmt.Fprintln(w, "done")
		return err
	}
	var out bytes.Buffer
	if err := json.Indent(&out, raw, "", "  "); err != nil {
		return fmt.Errorf("the server answered no JSON: %w", err)
	}
	_, err := fmt.Fprintln(w, out.String())
	return err
}

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
			return a.run(e, newFlags(e, command+" "+a.name, a.args, a.about), args[1:])
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

func appID(fs *flag.FlagSet) *uint64 { return fs.Uint64("app", devApp, "SDKAppID") }

func cmdApp(e env, args []string) error {
	return runAction(e, "app", []action{
		{"list", "[FLAGS]", "Lists the apps.", appList},
		{"show", "--app ID [FLAGS]", "Shows an app's settings.", appShow},
		{"create", "--app ID --name NAME [FLAGS]", "Creates an app and prints its secret key, once.", appCreate},
		{"add-key", "--app ID [FLAGS]", "Adds a second secret key and prints it, once. UserSigs of both are good until one is retired.", appAddKey},
		{"retire-key", "--app ID KEYID [FLAGS]", "Retires a key: UserSigs made with it, and all session tickets of the app, are dead.", appRetireKey},
	}, args)
}

func appList(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	return c.show(e, "GET", "apps", nil)
}

func appShow(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	id := appID(fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	return c.show(e, "GET", "apps/"+appIDText(*id), nil)
}

func appCreate(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	id := fs.Uint64("app", 0, "SDKAppID, 1 to 4294967295")
	name := fs.String("name", "", "name")
	if err := noArgs(fs, args); err != nil {
		return err
	}
	if *id == 0 || *id > 1<<32-1 {
		return usagef("--app %d is no SDKAppID (1 to 4294967295)", *id)
	}
	return c.show(e, "POST", "apps", map[string]any{"SDKAppID": *id, "Name": *name})
}

func appAddKey(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	id := appID(fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	return c.show(e, "POST", "apps/"+appIDText(*id)+"/keys", struct{}{})
}

func appRetireKey(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	id := appID(fs)
	pos, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(pos) != 1 {
		return usagef("give one KeyID; rollcall app show lists them")
	}
	return c.show(e, "DELETE", "apps/"+appIDText(*id)+"/keys/"+url.PathEscape(pos[0]), nil)
}

func cmdPolicy(e env, args []string) error {
	return runAction(e, "policy", []action{
		{"get", "--app ID [FLAGS]", "Shows an app's login policy.", policyGet},
		{"set", "--app ID --preset NAME [--limit Web=3,...] [--enforce] | --file FILE [FLAGS]", "Sets the login policy. It applies to the next login; --enforce also kicks those who break it now.", policySet},
		{"dry-run", "--app ID --preset NAME [--limit Web=3,...] | --file FILE [FLAGS]", "Counts whom a policy would kick now. Changes nothing.", policyDryRun},
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
	fs.StringVar(&p.preset, "preset", "", "single, dual, triple or multi")
	fs.StringVar(&p.limits, "limit", "", "instances per platform, like Web=3,Android=2 (default 1 each)")
	fs.StringVar(&p.file, "file", "", `JSON file, for own groups: {"Preset":"custom","Groups":[["Android","iPhone"],...],"Limits":{"Web":3}}; - is standard input`)
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
	if file == "-" {
		raw, err = io.ReadAll(io.LimitReader(e.stdin, 64<<10))
	} else {
		raw, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the policy: %w", err)
	}
	var body map[string]any
	if err := json.Unmarshal(raw, &body); err != nil {
		return nil, fmt.Errorf("the policy in %q is no JSON object: %w", file, err)
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

// cmdKick goes over the REST API, as a backend would, unless one instance is named: that is the console's.
func cmdKick(e env, args []string) error {
	fs := newFlags(e, "kick", "USERID [--inst INSTID] [FLAGS]",
		"Ends all instances of a user; UserSigs issued before now are dead from now on (REST API).\nWith --inst ends one instance and revokes nothing (console).")
	var rest restClient
	var console consoleClient
	rest.register(fs)
	console.register(fs)
	inst := fs.Uint("inst", 0, "InstID of the one instance to kick; rollcall query shows it")
	pos, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(pos) != 1 {
		return usagef("give one UserID, got %d", len(pos))
	}
	if *inst != 0 {
		return console.show(e, "POST", "apps/"+appIDText(rest.app.app)+"/users/"+url.PathEscape(pos[0])+"/kick", map[string]any{"InstID": *inst})
	}
	if err := rest.call(e, "im_open_login_svc/kick", map[string]any{"UserID": pos[0]}, nil); err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "kicked %s\n", pos[0])
	return nil
}
