package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/url"
)

// restClient calls the REST API as an administrator of the app.
type restClient struct {
	http *httpFlags
	base string
	app  appFlags
	user string
}

func (c *restClient) register(fs *flag.FlagSet) {
	c.http = new(httpFlags)
	c.http.register(fs)
	c.app.register(fs)
	fs.StringVar(&c.base, "api", "http://127.0.0.1:7780", "`address` of the REST API; without a scheme http:// is meant")
	fs.StringVar(&c.user, "as", devAdmin, "administrator to call as, a `UserID`")
}

// refusedError is an answer of the REST API with an ErrorCode other than 0.
type refusedError struct {
	code int
	text string
}

func (r *refusedError) Error() string { return fmt.Sprintf("refused: %d: %s", r.code, r.text) }

// call posts body to v4/<command> and decodes the answer. An ErrorCode other than 0 is a *refusedError.
func (c *restClient) call(e env, command string, body, answer any) error {
	base, err := baseURL("api", c.base)
	if err != nil {
		return err
	}
	key, err := c.app.key(e, base)
	if err != nil {
		return err
	}
	sig, err := c.app.sign(key, c.user)
	if err != nil {
		return err
	}
	raw, err := c.http.sendJSON("POST", base, "/v4/"+command+"?"+c.query(sig).Encode(), "", body)
	var s *statusError
	if errors.As(err, &s) {
		return fmt.Errorf("%w; --api wants the REST API (port 7780)", err) // whose status is always 200
	}
	if err != nil {
		return err
	}
	return decodeAnswer(base, raw, answer)
}

func (c *restClient) query(sig string) url.Values {
	q := url.Values{}
	q.Set("sdkappid", appIDText(c.app.app))
	q.Set("identifier", c.user)
	q.Set("usersig", sig)
	q.Set("random", fmt.Sprint(rand.Uint32()))
	q.Set("contenttype", "json")
	return q
}

func decodeAnswer(base string, raw []byte, answer any) error {
	var envelope struct {
		ErrorCode int
		ErrorInfo string
	}
	if err := json.Unmarshal(raw, &envelope); err != nil {
		return fmt.Errorf("%s answered no JSON: %w", base, err)
	}
	if answer != nil {
		if err := json.Unmarshal(raw, answer); err != nil {
			return fmt.Errorf("%s answered unexpected JSON: %w", base, err)
		}
	}
	if envelope.ErrorCode != 0 {
		return &refusedError{envelope.ErrorCode, envelope.ErrorInfo}
	}
	return nil
}
