package bench

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// console calls the console API and reads the metrics.
type console struct {
	base, token string
	app         uint32
	client      *http.Client
}

func newConsole(o *Options) *console {
	return &console{
		base: strings.TrimRight(o.AdminURL, "/"), token: o.AdminToken, app: o.App,
		client: &http.Client{Timeout: o.AnswerTimeout, Transport: &http.Transport{MaxIdleConns: 1, DisableKeepAlives: true}},
	}
}

// classTimes are the heartbeat interval and the silence time-out of a class of platforms.
type classTimes struct {
	HeartbeatMS int64
	SilenceMS   int64
}

// timeouts are those of an app that a run may change.
type timeouts struct {
	Mobile, Desktop, Web classTimes
}

// allSilent gives every class the silence time-out d, and a heartbeat interval that fits.
func allSilent(d time.Duration) timeouts {
	c := classTimes{HeartbeatMS: d.Milliseconds() * 2 / 5, SilenceMS: d.Milliseconds()}
	return timeouts{c, c, c}
}

func (c *console) path() string { return fmt.Sprintf("/console/v1/apps/%d/timeouts", c.app) }

func (c *console) timeouts() (t timeouts, err error) {
	body, err := c.call(http.MethodGet, c.path(), nil)
	if err != nil {
		return t, err
	}
	if err = json.Unmarshal(body, &t); err != nil {
		return t, fmt.Errorf("time-outs: %w", err)
	}
	return t, nil
}

// setTimeouts changes the time-outs and checks that the answer has them.
func (c *console) setTimeouts(t timeouts) error {
	body, err := json.Marshal(t)
	if err != nil {
		return err
	}
	answer, err := c.call(http.MethodPut, c.path(), body)
	if err != nil {
		return err
	}
	var got timeouts
	if err := json.Unmarshal(answer, &got); err != nil || got != t {
		return fmt.Errorf("time-outs: asked for %+v, the server has %+v (%v)", t, got, err)
	}
	return nil
}

// maxAnswer bounds an answer of the admin listener.
const maxAnswer = 16 << 20

func (c *console) call(method, path string, body []byte) ([]byte, error) {
	req, err := http.NewRequest(method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.token)
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s %s: HTTP status %d: %.200s", method, path, resp.StatusCode, answer)
	}
	return answer, nil
}

// metrics are the values of the server's metrics by name and labels.
func (c *console) metrics() (map[string]float64, error) {
	text, err := c.call(http.MethodGet, "/metrics", nil)
	if err != nil {
		return nil, err
	}
	m := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if cut := strings.LastIndexByte(line, ' '); cut > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(line[cut+1:], 64); err == nil {
				m[line[:cut]] = v
			}
		}
	}
	return m, nil
}

// parseAdmin checks the base URL of the admin listener.
func parseAdmin(base string) error {
	u, err := url.Parse(base)
	if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Hostname() == "" {
		return fmt.Errorf("admin URL %q must be http or https with a host", base)
	}
	return nil
}
