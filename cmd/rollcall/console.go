package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net/http"
)

// consoleClient calls the console API.
type consoleClient struct {
	http            *httpFlags
	base, tokenFile string
}

func (c *consoleClient) register(fs *flag.FlagSet) {
	c.http = new(httpFlags)
	c.http.register(fs)
	c.registerConsole(fs)
}

// registerConsole registers what is the console's alone, for a command that calls the REST API too.
func (c *consoleClient) registerConsole(fs *flag.FlagSet) {
	fs.StringVar(&c.base, "admin", "http://127.0.0.1:7781", "`address` of the admin listener; without a scheme http:// is meant")
	fs.StringVar(&c.tokenFile, "token-file", "", "`file` with the admin token (default: environment ROLLCALL_ADMIN_TOKEN; against this machine the token of --dev)")
}

// token returns the admin token, and whether it is only a guess.
func (c *consoleClient) token(e env, base string) (token string, guessed bool, err error) {
	if c.tokenFile != "" {
		token, err = readSecret(c.tokenFile)
		return token, false, err
	}
	if t, ok := e.getenv("ROLLCALL_ADMIN_TOKEN"); ok && t != "" {
		return t, false, nil
	}
	if loopback(base) {
		return devAdminToken, true, nil
	}
	return "", false, usagef("%s needs the admin token: give --token-file or set ROLLCALL_ADMIN_TOKEN", base)
}

// call sends a request to /console/v1/<path>, whose parts are escaped by the caller.
func (c *consoleClient) call(e env, method, path string, body any) ([]byte, error) {
	base, err := baseURL("admin", c.base)
	if err != nil {
		return nil, err
	}
	token, guessed, err := c.token(e, base)
	if err != nil {
		return nil, err
	}
	raw, err := c.http.sendJSON(method, base, "/console/v1/"+path, token, body)
	var s *statusError
	if guessed && errors.As(err, &s) && (s.status == http.StatusUnauthorized || s.status == http.StatusTooManyRequests) {
		return nil, fmt.Errorf("%w; no --token-file given, tried the token of --dev", err)
	}
	if err == nil && isRESTAnswer(raw) {
		return nil, fmt.Errorf("%s: this is the REST API; --admin wants the admin listener (port 7781)", base)
	}
	return raw, err
}

// isRESTAnswer reports whether an answer has the envelope of the REST API, which the console never sends.
func isRESTAnswer(raw []byte) bool {
	var envelope struct{ ActionStatus *string }
	return json.Unmarshal(raw, &envelope) == nil && envelope.ActionStatus != nil
}

// show calls and prints the answer, indented.
func (c *consoleClient) show(e env, method, path string, body any) error {
	raw, err := c.call(e, method, path, body)
	if err != nil {
		return err
	}
	return printJSON(e.stdout, raw)
}
