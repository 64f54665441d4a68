package bench

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
	"github.com/valyala/fastjson"
)

// Statuses as the API spells them.
const (
	statusOnline     = "Online"
	statusPushOnline = "PushOnline"
	statusOffline    = "Offline"
)

// Limits of the API.
const (
	maxQueryIDs  = 500
	maxImportIDs = 100
)

// parseAPI takes the base URL of an API apart.
func parseAPI(base string) (*url.URL, error) {
	u, err := url.Parse(base)
	if err != nil {
		return nil, fmt.Errorf("API URL: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return nil, fmt.Errorf("API URL %q must be http or https with a host", base)
	}
	return u, nil
}

// rest calls the REST API over keep-alive connections. Safe for concurrent use.
type rest struct {
	client  *fasthttp.HostClient
	base    string
	params  string
	timeout time.Duration
	once    bool // calls change something: they are not repeated when a connection breaks
}

// newRest returns a client with up to conns connections.
func newRest(o *Options, conns int) (*rest, error) {
	u, err := parseAPI(o.API)
	if err != nil {
		return nil, err
	}
	sig, err := o.sign(o.Admin)
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	r := &rest{
		base: u.Scheme + "://" + u.Host + "/v4/",
		params: fmt.Sprintf("?sdkappid=%d&identifier=%s&usersig=%s&contenttype=json&random=",
			o.App, url.QueryEscape(o.Admin), url.QueryEscape(sig)),
		timeout: o.AnswerTimeout,
	}
	r.client = &fasthttp.HostClient{
		Addr: net.JoinHostPort(u.Hostname(), port), IsTLS: u.Scheme == "https", MaxConns: conns,
		Dial:               func(addr string) (net.Conn, error) { return net.DialTimeout("tcp", addr, o.AnswerTimeout) },
		MaxConnWaitTimeout: o.AnswerTimeout, MaxIdleConnDuration: time.Minute,
		ReadBufferSize: 16 << 10, NoDefaultUserAgentHeader: true, DisablePathNormalizing: true,
		// A query may be repeated: a connection that the server closed while idle is no fault of its.
		RetryIfErr: func(_ *fasthttp.Request, attempts int, err error) (bool, bool) {
			return false, !r.once && attempts < 2 && !errors.Is(err, fasthttp.ErrTimeout)
		},
	}
	return r, nil
}

func (r *rest) close() { r.client.CloseIdleConnections() }

// request points req at a command.
func (r *rest) request(req *fasthttp.Request, command string) {
	req.SetRequestURI(r.base + command + r.params + strconv.FormatUint(uint64(rand.Uint32()), 10))
	req.Header.SetMethod(fasthttp.MethodPost)
	req.Header.SetContentType("application/json")
}

// call posts body and hands the parsed answer to use, which must not keep it.
// An answer that is not HTTP 200 with a JSON object is an error.
func (r *rest) call(command string, body []byte, use func(*fastjson.Value) error) error {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	r.request(req, command)
	req.SetBodyRaw(body)
	if err := r.client.DoTimeout(req, resp, r.timeout); err != nil {
		return fmt.Errorf("%s: %w%s", command, err, hint(err))
	}
	return parseAnswer(command, resp, use)
}

var parsers fastjson.ParserPool

func parseAnswer(command string, resp *fasthttp.Response, use func(*fastjson.Value) error) error {
	if resp.StatusCode() != fasthttp.StatusOK {
		return fmt.Errorf("%s: HTTP status %d", command, resp.StatusCode())
	}
	p := parsers.Get()
	defer parsers.Put(p)
	v, err := p.ParseBytes(resp.Body())
	if err != nil {
		return fmt.Errorf("%s: answer is not JSON: %w", command, err)
	}
	if code := v.Get("ErrorCode"); code == nil || code.GetInt() != 0 || string(v.GetStringBytes("ActionStatus")) != "OK" {
		return fmt.Errorf("%s: ErrorCode %s, ActionStatus %s, %s", command, code, v.Get("ActionStatus"), v.Get("ErrorInfo"))
	}
	return use(v)
}

// importUsers makes accounts of the first n users.
func (r *rest) importUsers(ctx context.Context, p *population, n int) error {
	for from := 0; from < n; from += maxImportIDs {
		if ctx.Err() != nil {
			return errInterrupted
		}
		body := []byte(`{"Accounts":[`)
		for i := from; i < min(from+maxImportIDs, n); i++ {
			body = appendID(body, p.userID(i))
		}
		body[len(body)-1] = ']'
		err := r.call("im_open_login_svc/multiaccount_import", append(body, '}'), func(v *fastjson.Value) error {
			if failed := v.GetArray("FailAccounts"); len(failed) > 0 {
				return fmt.Errorf("%d accounts of %d could not be imported, first %s", len(failed), maxImportIDs, failed[0])
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// appendID appends a UserID as JSON with a comma after it.
func appendID(b []byte, id string) []byte {
	b = append(b, '"')
	for i := range len(id) {
		if c := id[i]; c == '"' || c == '\\' {
			b = append(b, '\\')
		}
		b = append(b, id[i])
	}
	return append(b, '"', ',')
}

// appendQuery appends the body of a query of the users.
func appendQuery(b []byte, p *population, users []int, detail bool) []byte {
	b = append(b, `{"To_Account":[`...)
	for _, n := range users {
		b = appendID(b, p.userID(n))
	}
	b[len(b)-1] = ']'
	if detail {
		b = append(b, `,"IsNeedDetail":1`...)
	}
	return append(b, '}')
}

// queryCommand is the query of online status.
const queryCommand = "openim/query_online_status"

// eachResult checks that an answer tells of exactly the users that were asked
// for, in order, with Status and State alike, and hands each to visit.
func eachResult(p *population, users []int, v *fastjson.Value, visit func(n int, status string, item *fastjson.Value) error) error {
	results, failed := v.GetArray("QueryResult"), v.GetArray("ErrorList")
	if len(failed) > 0 || len(results) != len(users) {
		return fmt.Errorf("asked for %d users, got %d and %d errors", len(users), len(results), len(failed))
	}
	for i, item := range results {
		id := p.userID(users[i])
		status := string(item.GetStringBytes("Status"))
		if got := string(item.GetStringBytes("To_Account")); got != id {
			return fmt.Errorf("result %d is of %q, want %q", i, got, id)
		}
		if state := string(item.GetStringBytes("State")); state != status {
			return fmt.Errorf("user %q: Status %q, State %q", id, status, state)
		}
		if err := visit(users[i], status, item); err != nil {
			return err
		}
	}
	return nil
}
