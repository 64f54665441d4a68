package ledger

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// errNotSent is the root of errors of calls that cannot have reached the server.
var errNotSent = errors.New("the server was not reached")

// notSent reports whether a connection was never made.
func notSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// maxAnswer bounds an HTTP answer.
const maxAnswer = 1 << 20

// http does one HTTP request and decodes the answer, which must be JSON, into out
// if its status is 200 or 201.
func (d *driver) http(ctx context.Context, method, target, token string, in, out any) (status int, err error) {
	body, err := json.Marshal(in)
	if err != nil {
		return 0, err
	}
	if in == nil {
		body = nil
	}
	req, err := http.NewRequestWithContext(ctx, method, target, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	req.Header.Set("Content-Type", "application/json")
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := d.client.Do(req)
	if notSent(err) {
		return 0, fmt.Errorf("%w: %w", errNotSent, err)
	}
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode/100 != 2 || len(answer) == 0 {
		return resp.StatusCode, nil
	}
	if err := json.Unmarshal(answer, out); err != nil {
		return 0, fmt.Errorf("%s %s: %w: %.200s", method, target, err, answer)
	}
	return resp.StatusCode, nil
}

// console calls the console API. An answer other than success is an error with its status.
func (d *driver) console(ctx context.Context, p *process, method, path string, in, out any) (int, error) {
	status, err := d.http(ctx, method, p.admin+"/console/v1/"+path, "dev", in, out)
	if err == nil && status/100 != 2 {
		err = fmt.Errorf("%s %s: HTTP status %d", method, path, status)
	}
	return status, err
}

// envelope is what every REST answer has.
type envelope struct {
	ActionStatus string
	ErrorCode    int
	ErrorInfo    string
}

// restAnswer is the union of the answers that a run needs.
type restAnswer struct {
	envelope
	QueryResult []struct {
		Account string `json:"To_Account"`
		Status  string
		Detail  []struct {
			Platform, Status string
			InstID           uint32 `json:"Instid"`
		}
	}
	ErrorList []struct {
		Account   string `json:"To_Account"`
		ErrorCode int
	}
	ResultItem []struct {
		UserID     string
		ResultCode int
	}
}

// rest calls the REST API as the app's administrator.
func (d *driver) rest(ctx context.Context, p *process, t *tenant, command string, in any) (*restAnswer, error) {
	var out restAnswer
	target := fmt.Sprintf("%s/v4/%s?sdkappid=%d&identifier=administrator&usersig=%s&random=1&contenttype=json", p.api, command, t.ID, url.QueryEscape(t.adminSig))
	status, err := d.http(ctx, http.MethodPost, target, "", in, &out)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("%s: HTTP status %d", command, status)
	}
	return &out, err
}

// read queries one user with all its instances.
func (d *driver) read(ctx context.Context, p *process, t *tenant, userID string) (r Reading, err error) {
	a, err := d.rest(ctx, p, t, "openim/query_online_status", map[string]any{"To_Account": []string{userID}, "IsNeedDetail": 1, "IsReturnInstid": 1})
	switch {
	case err != nil:
		return r, err
	case len(a.ErrorList) == 1 && a.ErrorList[0].ErrorCode == codeNoAccount:
		return r, nil
	case a.ErrorCode != 0 || len(a.QueryResult) != 1 || a.QueryResult[0].Account != userID:
		return r, fmt.Errorf("query of %q: %+v", userID, *a)
	}
	r.Known, r.Status = true, a.QueryResult[0].Status
	for _, in := range a.QueryResult[0].Detail {
		r.Insts = append(r.Insts, Seen{InstID: in.InstID, Platform: in.Platform, Status: in.Status})
	}
	return r, nil
}

// consoleUser reads a user from the console.
func (d *driver) consoleUser(ctx context.Context, p *process, app uint32, userID string) (u ConsoleUser, err error) {
	var out struct {
		Registered bool
		EventSeq   uint64
		CutoffS    int64
		Instances  []struct {
			InstID                     uint32
			Platform, Status, DeviceID string
		}
	}
	status, err := d.console(ctx, p, http.MethodGet, fmt.Sprintf("apps/%d/users/%s", app, url.PathEscape(userID)), nil, &out)
	if status == http.StatusNotFound {
		return u, nil
	}
	if err != nil {
		return u, err
	}
	u = ConsoleUser{Known: true, Registered: out.Registered, EventSeq: out.EventSeq, CutoffS: out.CutoffS}
	for _, in := range out.Instances {
		u.Insts = append(u.Insts, Seen{in.InstID, in.Platform, in.Status, in.DeviceID})
	}
	return u, nil
}
