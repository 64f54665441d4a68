package attack

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// counters are the server's metrics by name and labels.
type counters map[string]float64

// operator reads a server's metrics and makes it collect its garbage.
type operator struct {
	base   string
	client *http.Client
}

func newOperator(t *Target) *operator {
	return &operator{"http://" + t.Admin, &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}}
}

func (o *operator) get(path string) (string, error) {
	req, err := http.NewRequest(http.MethodGet, o.base+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	res, err := o.client.Do(req)
	if err != nil {
		return "", fmt.Errorf("the operator gets no answer: %w", err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(io.LimitReader(res.Body, 64<<20))
	if err != nil || res.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the operator got status %d, %v", res.StatusCode, err)
	}
	return string(text), nil
}

func (o *operator) counters() (counters, error) {
	text, err := o.get("/metrics")
	if err != nil {
		return nil, err
	}
	c := counters{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if cut := strings.LastIndexByte(line, ' '); cut > 0 && line[0] != '#' {
			if v, err := strconv.ParseFloat(line[cut+1:], 64); err == nil {
				c[line[:cut]] = v
			}
		}
	}
	return c, nil
}

// settled is counters after a collection of garbage.
func (o *operator) settled() (counters, error) {
	if _, err := o.get("/debug/pprof/heap?gc=1"); err != nil {
		return nil, err
	}
	return o.counters()
}

// sum adds the counters of a name, or of several that are joined by " or ", whatever their labels.
func (c counters) sum(names string) float64 {
	var n float64
	for name := range strings.SplitSeq(names, " or ") {
		for k, v := range c {
			if k == name || strings.HasPrefix(k, name+"{") {
				n += v
			}
		}
	}
	return n
}

// since is how much each counter has grown.
func (c counters) since(before counters) counters {
	d := counters{}
	for k, v := range c {
		if grown := v - before[k]; grown != 0 && strings.HasPrefix(k, "rollcall_") && strings.Contains(k, "_total") {
			d[k] = grown
		}
	}
	return d
}
