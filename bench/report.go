package bench

import (
	"fmt"
	"html"
	"io"
	"math"
	"strings"
)

// NamedResult is a result and what to call it in a report.
type NamedResult struct {
	Name string
	*Result
}

const reportHead = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>rollcall-bench</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:1360px;margin:2em auto;padding:0 1em;color:#1f2937}
pre{background:#f3f4f6;padding:1em;overflow-x:auto;font-size:13px}h2{margin-top:2em;border-bottom:1px solid #d1d5db}
.ok{color:#059669}.bad{color:#dc2626}figure{display:inline-block;margin:0 1em 1em 0}
svg{max-width:100%;height:auto}.t{font:600 14px system-ui,sans-serif}.l{font:12px system-ui,sans-serif;fill:#4b5563}.g{stroke:#e5e7eb}
</style></head><body><h1>rollcall-bench</h1>
`

// Report writes the results as one HTML file that needs nothing else: summaries,
// distributions of latencies, offered load against latency, memory over links.
func Report(w io.Writer, results []NamedResult) error {
	var b strings.Builder
	b.WriteString(reportHead)
	for i := range results {
		section(&b, &results[i])
	}
	b.WriteString("</body></html>\n")
	_, err := io.WriteString(w, b.String())
	return err
}

func section(b *strings.Builder, r *NamedResult) {
	class := "bad"
	if r.OK {
		class = "ok"
	}
	fmt.Fprintf(b, "<section><h2>%s: %s <span class=\"%s\">%s</span></h2>\n<p>%s, %.1f s</p>\n<pre>%s</pre>\n",
		html.EscapeString(r.Name), html.EscapeString(r.Scenario), class, r.verdict(), r.Started.UTC().Format("2006-01-02 15:04:05 UTC"), r.Seconds, html.EscapeString(r.Summary()))
	for _, c := range []*chart{r.latencies(), r.curve(), r.goodput(), r.memory(), r.growth()} {
		if svg := c.svg(); svg != "" {
			fmt.Fprintf(b, "<figure>%s</figure>\n", svg)
		}
	}
	b.WriteString("</section>\n")
}

// nines spreads percentiles as their distance from 100 does: 90, 99, 99.9 are equally far apart.
func nines(percent float64) float64 { return -math.Log10(max(1-percent/100, 1e-5)) }

// latencies plots each distribution of the result.
func (r *Result) latencies() *chart {
	c := &chart{title: "Latency by percentile", x: "percentile", y: "microseconds", logY: true}
	for _, p := range []struct {
		at   float64
		text string
	}{{0, "0"}, {50, "50"}, {90, "90"}, {99, "99"}, {99.9, "99.9"}, {99.99, "99.99"}, {100, "max"}} {
		c.ticksX = append(c.ticksX, tick{nines(p.at), p.text})
	}
	add := func(name string, l *Latency) {
		if l == nil || l.Count == 0 {
			return
		}
		s := series{name: name}
		for _, q := range l.Quantiles {
			s.points = append(s.points, point{nines(q.Percent), float64(max(q.US, 1))})
		}
		c.series = append(c.series, s)
	}
	if len(r.Points) == 0 && r.Logins != nil {
		add("login", &r.Logins.Latency)
	}
	add("logout", r.Logouts)
	if r.Heartbeats != nil {
		add("heartbeat", &r.Heartbeats.Latency)
	}
	for i := range r.Queries {
		add(fmt.Sprintf("query, %d ids", r.Queries[i].IDs), &r.Queries[i].Latency)
	}
	for i := range r.Points {
		add("login, "+rateText(r.Points[i].OfferedRate), &r.Points[i].Latency)
	}
	if r.Drop != nil {
		add("shown late by", &r.Drop.Lateness)
		add("closed late by", r.Drop.CloseLateness)
	}
	if r.Kicks != nil {
		add("kick answer", &r.Kicks.Answer)
		add("kick notice", &r.Kicks.Notice)
	}
	return c
}

// curve plots latency against the offered rate, without the point that has none.
func (r *Result) curve() *chart {
	c := &chart{title: "Latency by offered load", x: "logins offered per second", y: "microseconds", logY: true}
	if len(r.Points) < 2 {
		return c
	}
	for _, q := range []struct {
		name string
		of   func(*Latency) int64
	}{
		{"p50", func(l *Latency) int64 { return l.P50 }}, {"p90", func(l *Latency) int64 { return l.P90 }},
		{"p99", func(l *Latency) int64 { return l.P99 }}, {"p99.9", func(l *Latency) int64 { return l.P999 }},
		{"max", func(l *Latency) int64 { return l.Max }},
	} {
		s := series{name: q.name}
		for i := range r.Points {
			if p := &r.Points[i]; p.OfferedRate > 0 {
				s.points = append(s.points, point{p.OfferedRate, float64(max(q.of(&p.Latency), 1))})
			}
		}
		c.series = append(c.series, s)
	}
	return c
}

// goodput plots what was let in over what was offered, where that was a multiple of the capacity.
func (r *Result) goodput() *chart {
	c := &chart{title: "Goodput by offered load", x: "times the capacity", y: "logins per second"}
	s := series{name: "let in"}
	for i := range r.Points {
		if l := r.Points[i].Load; l != nil && l.Load > 0 {
			s.points = append(s.points, point{l.Load, l.Goodput})
		}
	}
	if len(s.points) > 1 {
		c.series = append(c.series, s)
	}
	return c
}

// memory plots the server's memory over links.
func (r *Result) memory() *chart {
	c := &chart{title: "Server memory over links", x: "links", y: "bytes"}
	s := series{name: "anonymous"}
	for _, m := range r.Memory {
		s.points = append(s.points, point{float64(m.Links), float64(m.Bytes)})
	}
	c.series = append(c.series, s)
	return c
}

// growth plots what a million links take.
func (r *Result) growth() *chart {
	c := &chart{title: "Memory over links", x: "links", y: "bytes"}
	for _, of := range []struct {
		name  string
		bytes func(*Snapshot) int64
	}{
		{"server", func(s *Snapshot) int64 { return s.ServerRSS }}, {"Go heap", func(s *Snapshot) int64 { return s.Heap }},
		{"client", func(s *Snapshot) int64 { return s.ClientRSS }}, {"kernel slab", func(s *Snapshot) int64 { return s.Slab }},
		{"socket buffers", func(s *Snapshot) int64 { return s.Sockets }},
	} {
		line := series{name: of.name}
		for i := range r.Snapshots {
			s := &r.Snapshots[i]
			if s.When == "end of the hold" {
				break // from here on links go
			}
			line.points = append(line.points, point{float64(s.Links), float64(of.bytes(s))})
		}
		c.series = append(c.series, line)
	}
	return c
}
