package bench

import (
	"fmt"
	"io"
	"math"
	"strings"

	"encoding/json"
)

// ReadResult reads the JSON form of a result.
func ReadResult(r io.Reader) (*Result, error) {
	var res Result
	if err := json.NewDecoder(r).Decode(&res); err != nil {
		return nil, fmt.Errorf("no result of a run: %w", err)
	}
	if res.Scenario == "" {
		return nil, fmt.Errorf("no result of a run: it names no scenario")
	}
	return &res, nil
}

// Verdict says how a figure has changed.
type Verdict string

// The verdicts.
const (
	Same   Verdict = "same" // within the noise
	Better Verdict = "better"
	Worse  Verdict = "WORSE"
	// NoFigure: one of the two is below zero, which only a slope of memory can be
	// that was not measured on a new server.
	NoFigure Verdict = "no figure"
)

// Row is a figure that two results have.
type Row struct {
	Name    string
	A, B    float64
	Ratio   float64 // B / A
	Verdict Verdict
}

// figure is one number of a result.
type figure struct {
	name  string
	value float64
	more  bool    // more is better
	noise float64 // times the noise of the comparison
}

// Compare holds b against a, which must be of the same scenario. A change of up
// to the share noise counts as none, of four times as much for p99.9 and max.
func Compare(a, b *Result, noise float64) ([]Row, error) {
	if a.Scenario != b.Scenario {
		return nil, fmt.Errorf("results of %s and %s cannot be compared", a.Scenario, b.Scenario)
	}
	other := make(map[string]figure)
	for _, f := range b.figures() {
		other[f.name] = f
	}
	var rows []Row
	for _, f := range a.figures() {
		g, ok := other[f.name]
		if !ok || f.value == 0 && g.value == 0 {
			continue
		}
		rows = append(rows, Row{f.name, f.value, g.value, g.value / f.value, judgeChange(f, g.value, noise)})
	}
	return rows, nil
}

// judgeChange judges the change of f to v by its factor, whichever way it goes.
func judgeChange(f figure, v, noise float64) Verdict {
	limit := math.Log1p(noise * f.noise)
	switch change := math.Log(v / f.value); {
	case f.value < 0 || v < 0:
		return NoFigure
	case math.Abs(change) <= limit:
		return Same
	case (change > 0) == f.more:
		return Better
	}
	return Worse
}

// figures lists what can be compared.
func (r *Result) figures() []figure {
	var out []figure
	less := func(name string, v float64) { out = append(out, figure{name, v, false, 1}) }
	more := func(name string, v float64) { out = append(out, figure{name, v, true, 1}) }
	latency := func(name string, l *Latency) {
		if l == nil || l.Count == 0 {
			return
		}
		less(name+" p50 us", float64(l.P50))
		less(name+" p90 us", float64(l.P90))
		out = append(out, figure{name + " p99 us", float64(l.P99), false, 2},
			figure{name + " p99.9 us", float64(l.P999), false, 4}, figure{name + " max us", float64(l.Max), false, 4})
	}
	if l := r.Logins; l != nil && l.Latency.Count > 0 {
		more("logins/s", l.Rate)
		latency("login", &l.Latency)
	}
	latency("logout", r.Logouts)
	if h := r.Heartbeats; h != nil {
		latency("heartbeat", &h.Latency)
	}
	for _, q := range r.Queries {
		name := fmt.Sprintf("query of %d ids", q.IDs)
		more(name+" requests/s", q.Rate)
		less(name+" server us", q.ServerCPU)
		latency(name, &q.Latency)
	}
	for _, p := range r.Points {
		name := "login, offered " + rateText(p.OfferedRate)
		more(name+", logins/s", p.Rate)
		less(name+", server us", p.LoginCPU)
		latency(name+",", &p.Latency)
	}
	if d := r.Drop; d != nil {
		less("drop, until all found s", d.Seconds)
		less("drop, server us per user", d.CPUPerDrop)
		latency("drop, shown late by", &d.Lateness)
		latency("drop, link closed late by", d.CloseLateness)
	}
	if k := r.Kicks; k != nil {
		latency("kick answer", &k.Answer)
		latency("kick notice", &k.Notice)
	}
	if s := r.Server; s != nil {
		less("server us per login", s.LoginCPU)
		less("server bytes per link", s.BytesPerLink)
		less("server memory, full", float64(s.RSSFull))
		less("server us per heartbeat", s.BeatCPU)
		less("server us per close", s.CPUPerCloseUS)
	}
	less("errors", float64(errorCount(r)))
	return out
}

func errorCount(r *Result) (n uint64) {
	for _, c := range r.Errors {
		n += c
	}
	return n
}

// CompareTable is the rows as text.
func CompareTable(rows []Row) string {
	var b strings.Builder
	width := len("figure")
	for _, r := range rows {
		width = max(width, len(r.Name))
	}
	fmt.Fprintf(&b, "%-*s %14s %14s %8s\n", width, "figure", "A", "B", "B/A")
	for _, r := range rows {
		fmt.Fprintf(&b, "%-*s %14.4g %14.4g %8.3f  %s\n", width, r.Name, r.A, r.B, r.Ratio, r.Verdict)
	}
	return b.String()
}
