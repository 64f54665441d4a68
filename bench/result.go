package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what a run has found. docs/bench.md describes its JSON form.
type Result struct {
	Scenario    string        `json:"scenario"` // connect, churn, query
	OK          bool          `json:"ok"`       // nothing was wrong and the run went to its end
	Interrupted bool          `json:"interrupted"`
	Started     time.Time     `json:"started"`
	Seconds     float64       `json:"seconds"`
	Logins      *LoginResult  `json:"logins,omitempty"`
	Logouts     *Latency      `json:"logout_latency,omitempty"` // churn: from Logout to LogoutOK
	Heartbeats  *BeatResult   `json:"heartbeats,omitempty"`
	Checks      []CheckResult `json:"checks,omitempty"`  // presence read back over REST
	Queries     []QueryResult `json:"queries,omitempty"` // scenario query
	Server      *ServerResult `json:"server,omitempty"`

	Errors       map[Fault]uint64 `json:"errors"`
	ErrorSamples []string         `json:"error_samples,omitempty"`
}

// LoginResult sums up the logins of a run.
type LoginResult struct {
	Wanted      int     `json:"wanted"`
	OK          int     `json:"ok"`
	OfferedRate float64 `json:"offered_rate"` // per second
	Rate        float64 `json:"rate"`         // achieved, from the first one due to the last one answered
	Latency     Latency `json:"latency"`      // from when it was due to LoginOK, TCP connect included
}

// BeatResult sums up the heartbeats of a run.
type BeatResult struct {
	Sent     uint64  `json:"sent"`
	Answered uint64  `json:"answered"`
	Latency  Latency `json:"latency"`
}

// CheckResult is one reading of the presence of many users.
type CheckResult struct {
	When    string  `json:"when"`
	Users   int     `json:"users"`
	Right   int     `json:"right"`
	Seconds float64 `json:"seconds"` // until all were right, or the last try
}

// QueryResult is a run of queries with one number of ids.
type QueryResult struct {
	IDs         int     `json:"ids"`
	OfferedRate float64 `json:"offered_rate"` // requests per second, 0 = as fast as the clients can
	Requests    uint64  `json:"requests"`
	Rate        float64 `json:"rate"` // requests per second
	IDRate      float64 `json:"id_rate"`
	Latency     Latency `json:"latency"`
	// ServerCPU is what the server's process spent per request, in microseconds.
	ServerCPU float64 `json:"server_cpu_us,omitempty"`
}

// ServerResult is what /proc says of the server.
type ServerResult struct {
	PID           int     `json:"pid"`
	CPUSeconds    float64 `json:"cpu_seconds"`                // of the whole run
	LoginCPU      float64 `json:"login_cpu_us,omitempty"`     // CPU per login while logging in, microseconds
	RSSBefore     int64   `json:"rss_before_bytes"`           // anonymous memory before the first login
	RSSFull       int64   `json:"rss_full_bytes,omitempty"`   // with all links, at the end of the hold
	BytesPerLink  float64 `json:"bytes_per_link,omitempty"`   // slope between SlopeFrom and all links
	SlopeFrom     int     `json:"slope_from_links,omitempty"` // links when the slope's first sample was taken
	HoldCPU       float64 `json:"hold_cpu_share,omitempty"`   // CPU during the hold, share of one core
	CPUPerCloseUS float64 `json:"close_cpu_us,omitempty"`     // CPU per link of the death of all clients
}

// Latency is a distribution in microseconds.
type Latency struct {
	Count int64   `json:"count"`
	Mean  float64 `json:"mean_us"`
	P50   int64   `json:"p50_us"`
	P90   int64   `json:"p90_us"`
	P99   int64   `json:"p99_us"`
	P999  int64   `json:"p999_us"`
	Max   int64   `json:"max_us"`
}

// newHistogram counts 1 us to 2 minutes with 3 digits, in about 200 KB.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, (2 * time.Minute).Microseconds(), 3)
}

// record adds d to h; what is out of its range counts as its end.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), h.HighestTrackableValue()))
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	return Latency{
		Count: h.TotalCount(), Mean: h.Mean(),
		P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}

// WriteJSON writes r as indented JSON.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}

// Summary is r in a few lines for people.
func (r *Result) Summary() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("%s: %s in %.1f s", r.Scenario, r.verdict(), r.Seconds)
	if l := r.Logins; l != nil {
		line("  logins      %d of %d, %.0f/s; %s", l.OK, l.Wanted, l.Rate, l.Latency)
	}
	if r.Logouts != nil {
		line("  logouts     %d; %s", r.Logouts.Count, r.Logouts)
	}
	if h := r.Heartbeats; h != nil {
		line("  heartbeats  %d sent, %d answered; %s", h.Sent, h.Answered, h.Latency)
	}
	for _, c := range r.Checks {
		line("  read back   %s: %d of %d right after %.2f s", c.When, c.Right, c.Users, c.Seconds)
	}
	for _, q := range r.Queries {
		line("  query %4d  %.0f requests/s, %.0f ids/s; %s", q.IDs, q.Rate, q.IDRate, q.Latency)
	}
	if s := r.Server; s != nil {
		line("  server      %s", s)
	}
	for _, k := range slices.Sorted(maps.Keys(r.Errors)) {
		line("  ERROR       %s: %d", k, r.Errors[k])
	}
	for _, s := range r.ErrorSamples {
		line("              %s", s)
	}
	return b.String()
}

func (r *Result) verdict() string {
	switch {
	case r.OK:
		return "ok"
	case r.Interrupted:
		return "INTERRUPTED"
	}
	return "FAILED"
}

// String is the distribution in one line.
func (l Latency) String() string {
	us := func(v int64) time.Duration { return time.Duration(v) * time.Microsecond }
	return fmt.Sprintf("p50 %v p99 %v p99.9 %v max %v", us(l.P50), us(l.P99), us(l.P999), us(l.Max))
}

// String is the server's part in one line.
func (s *ServerResult) String() string {
	text := fmt.Sprintf("%.1f s CPU, %.1f MB before", s.CPUSeconds, float64(s.RSSBefore)/1e6)
	if s.RSSFull > 0 {
		text += fmt.Sprintf(", %.1f MB full", float64(s.RSSFull)/1e6)
	}
	if s.BytesPerLink > 0 {
		text += fmt.Sprintf(", %.0f bytes per link", s.BytesPerLink)
	}
	if s.LoginCPU > 0 {
		text += fmt.Sprintf(", %.1f us per login", s.LoginCPU)
	}
	if s.CPUPerCloseUS > 0 {
		text += fmt.Sprintf(", %.1f us per close", s.CPUPerCloseUS)
	}
	return text
}
