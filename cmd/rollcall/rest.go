package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// restClient calls the REST API as an administrator of the app.
type restClient struct {
	base string
	app  appFlags
	user string
}

func (c *restClient) register(fs *flag.FlagSet) {
	c.app.register(fs)
	fs.StringVar(&c.base, "api", "http://127.0.0.1:7780", "address of the REST API")
	fs.StringVar(&c.user, "as", devAdmin, "administrator to call as")
}

// call posts body to v4/<command> and decodes the answer. An ErrorCode other than 0 is an error.
func (c *restClient) call(e env, command string, body, answer any) error {
	key, err := c.app.key(e, c.base)
	if err != nil {
		return err
	}
	sig, err := c.app.sign(key, c.user)
	if err != nil {
		return err
	}
	q := url.Values{}
	q.Set("sdkappid", appIDText(c.app.app))
	q.Set("identifier", c.user)
	q.Set("usersig", sig)
	q.Set("random", fmt.Sprint(rand.Uint32()))
	q.Set("contenttype", "json")
	raw, err := sendJSON("POST", strings.TrimRight(c.base, "/")+"/v4/"+command+"?"+q.Encode(), "", body)
	if err != nil {
		return err
	}
	var envelope struct {
		ErrorCode int
		ErrorInfo string
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		return fmt.Errorf("%s answered no JSON: %w", c.base, err)
	}
	if answer != nil {
		if err := json.Unmarshal(raw, answer); err != nil {
			return fmt.Errorf("%s answered unexpected JSON: %w", c.base, err)
		}
	}
	if envelope.ErrorCode != 0 {
		return fmt.Errorf("%s refused: %d: %s", command, envelope.ErrorCode, envelope.ErrorInfo)
	}
	return nil
}

// httpClient has a bound on everything.
var httpClient = &http.Client{Timeout: 30 * time.Second}

// sendJSON sends body as JSON (nil: no body) and returns the answer's body; an HTTP status of 400 or more is an error.
// Its errors never hold the URL's query: a UserSig is in it.
func sendJSON(method, target, token string, body any) ([]byte, error) {
	var reader io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(b)
	}
	req, err := http.NewRequest(method, target, reader)
	if err != nil {
		return nil, usagef("bad address: %v", withoutURL(err))
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := httpClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("cannot reach %s://%s: %w (is the server running?)", req.URL.Scheme, req.URL.Host, withoutURL(err))
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return nil, fmt.Errorf("cannot read the answer of %s: %w", req.URL.Host, err)
	}
	if resp.StatusCode >= 400 {
		return raw, fmt.Errorf("%s answered %s: %s", req.URL.Host, resp.Status, consoleError(raw))
	}
	return raw, nil
}

// withoutURL strips the URL, and the UserSig in it, from an HTTP client error.
func withoutURL(err error) error {
	if u, ok := err.(*url.Error); ok {
		return u.Err
	}
	return err
}

// consoleError extracts the text of a console error, or the start of the body.
func consoleError(raw []byte) string {
	var e struct {
		Error struct{ Text string }
	}
	if json.Unmarshal(raw, &e) == nil && e.Error.Text != "" {
		return e.Error.Text
	}
	return string(raw[:min(len(raw), 200)])
}

// queryItem is one result of query_online_status.
type queryItem struct {
	ToAccount string `json:"To_Account"`
	Status    string
	ErrorCode int
	Detail    []struct {
		Platform, Status string
		Instid           uint32
	}
}

func cmdQuery(e env, args []string) error {
	fs := newFlags(e, "query", "USERID... [FLAGS]", "Asks for the online status of up to 500 users.")
	var c restClient
	c.register(fs)
	asJSON := fs.Bool("json", false, "print the server's answer as it is")
	users, err := parse(fs, args)
	if err != nil {
		return err
	}
	if len(users) == 0 || len(users) > 500 {
		return usagef("give 1 to 500 UserIDs, got %d", len(users))
	}
	var answer struct {
		QueryResult []queryItem
		ErrorList   []queryItem
	}
	var raw json.RawMessage
	var into any = &answer
	if *asJSON {
		into = &raw
	}
	body := map[string]any{"To_Account": users, "IsNeedDetail": 1, "IsReturnInstid": 1}
	err = c.call(e, "openim/query_online_status", body, into)
	if *asJSON {
		fmt.Fprintln(e.stdout, string(raw))
		return err
	}
	printQuery(e.stdout, answer.QueryResult, answer.ErrorList)
	return err
}

func printQuery(w io.Writer, found, failed []queryItem) {
	for _, u := range found {
		fmt.Fprintf(w, "%-32s %s", u.ToAccount, u.Status)
		for _, d := range u.Detail {
			fmt.Fprintf(w, "  %s:%s(%d)", d.Platform, d.Status, d.Instid)
		}
		fmt.Fprintln(w)
	}
	for _, u := range failed {
		fmt.Fprintf(w, "%-32s unknown account (%d)\n", u.ToAccount, u.ErrorCode)
	}
}
