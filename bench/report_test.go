package bench

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// sample is a result that has something of everything.
func sample() *Result {
	h := newHistogram()
	for i := range 1000 {
		record(h, time.Duration(100+i)*time.Microsecond)
	}
	l := latencyOf(h)
	return &Result{
		Scenario: "storm", OK: true, Started: time.Unix(1, 0), Seconds: 3,
		Logins: &LoginResult{Wanted: 5, OK: 5, Rate: 1000, Latency: l}, Logouts: &l,
		Heartbeats: &BeatResult{Sent: 2, Answered: 2, Latency: l},
		Queries:    []QueryResult{{IDs: 100, Rate: 50, ServerCPU: 7, Latency: l}},
		Points:     []Point{{OfferedRate: 100, Rate: 99, Latency: l}, {OfferedRate: 1000, Rate: 900, Latency: l}, {Rate: 2000, Latency: l}},
		Drop:       &DropResult{How: DropSilence, Seconds: 4, Lateness: l, CloseLateness: &l},
		Kicks:      &KickResult{Kicks: 3, Answer: l, Notice: l},
		Memory:     []MemorySample{{100, 1 << 20}, {200, 2 << 20}},
		Snapshots:  []Snapshot{{When: "before"}, {When: "logging in", Links: 10, ServerRSS: 1 << 20}, {When: "end of the hold", Links: 20}},
		Stopped:    "enough", Server: &ServerResult{LoginCPU: 20, BytesPerLink: 640, RSSFull: 1e6, BeatCPU: 5, CPUPerCloseUS: 9},
		Errors: map[Fault]uint64{},
	}
}

// TestReport: the report is one well-formed file with a plot of each kind, holds
// what it was given as text, and asks for nothing from elsewhere.
func TestReport(t *testing.T) {
	r := sample()
	r.ErrorSamples = []string{`<script>alert("x")</script>`}
	var b bytes.Buffer
	if err := Report(&b, []NamedResult{{"a <b>", r}, {"empty", &Result{Scenario: "query"}}}); err != nil {
		t.Fatal(err)
	}
	page := b.String()
	for _, part := range []string{"Latency by percentile", "Latency by offered load", "Server memory over links", "Memory over links", "a &lt;b&gt;", "&lt;script&gt;", "login, 1000/s", "FAILED"} {
		if !strings.Contains(page, part) {
			t.Errorf("the report lacks %q", part)
		}
	}
	if n := strings.Count(page, "<svg"); n != 4 {
		t.Errorf("%d plots, want 4", n)
	}
	for _, no := range []string{"<script", "src=", "href=", "url(", "@import", "NaN", "Inf"} {
		if strings.Contains(page, no) {
			t.Errorf("the report holds %q", no)
		}
	}
	d := xml.NewDecoder(strings.NewReader(strings.ReplaceAll(strings.TrimPrefix(page, "<!doctype html>"), `<meta charset="utf-8">`, "")))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("not well-formed: %v", err)
		}
	}
}

// TestAxis: every value lands in the plot, in order, and there are some ticks.
func TestAxis(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := rapid.Bool().Draw(t, "log")
		values := rapid.SliceOfN(rapid.Float64Range(0, 1e12), 1, 20).Draw(t, "values")
		a := newAxis(values, log, 10, 500)
		for _, v := range values {
			if p := a.pixel(v); !(p >= 10-1e-6 && p <= 500+1e-6) {
				t.Fatalf("%v of %v is at %v", v, values, p)
			}
		}
		if lo, hi := a.pixel(values[0]), a.pixel(values[0]*2+1); lo > hi {
			t.Fatalf("%v is at %v, twice as much at %v", values[0], lo, hi)
		}
		if n := len(a.ticks()); n < 1 || n > 30 {
			t.Fatalf("%d ticks for %v to %v", n, a.min, a.max)
		}
	})
}

// TestCompare: each figure is judged by the way that is good for it, beyond the noise only.
func TestCompare(t *testing.T) {
	a, b := sample(), sample()
	rows, err := Compare(a, b, 0.1)
	if err != nil || len(rows) < 30 {
		t.Fatalf("%v, %d rows", err, len(rows))
	}
	for _, r := range rows {
		if r.Verdict != Same || r.Ratio != 1 {
			t.Errorf("equal results: %+v", r)
		}
	}
	b.Logins.Rate *= 1.2
	b.Logins.Latency.P50 = b.Logins.Latency.P50 * 13 / 10
	b.Logins.Latency.Max = b.Logins.Latency.Max * 13 / 10 // within the noise of the slowest
	b.Server.LoginCPU *= 0.8
	b.Server.BytesPerLink *= 1.09
	b.Errors[FaultClosed] = 1
	want := map[string]Verdict{"logins/s": Better, "login p50 us": Worse, "server us per login": Better, "errors": Worse}
	rows, err = Compare(a, b, 0.1)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rows {
		if w, ok := want[r.Name]; ok {
			delete(want, r.Name)
			if r.Verdict != w {
				t.Errorf("%+v, want %s", r, w)
			}
		} else if r.Verdict != Same {
			t.Errorf("%+v, want same", r)
		}
	}
	if len(want) > 0 {
		t.Errorf("no rows for %v", want)
	}
	if text := CompareTable(rows); !strings.Contains(text, "logins/s") || !strings.Contains(text, "WORSE") || strings.Count(text, "\n") != len(rows)+1 {
		t.Errorf("table:\n%s", text)
	}
	b.Scenario = "query"
	if _, err := Compare(a, b, 0.1); err == nil {
		t.Error("results of two scenarios are compared")
	}
}

// TestCompareBelowZero: a slope below zero, as a server shows that has had more
// links before, is no figure, whichever of the two it is.
func TestCompareBelowZero(t *testing.T) {
	for _, v := range [][2]float64{{700, -50}, {-50, 700}, {-50, -60}, {0, -50}, {-50, 0}} {
		if got := judgeChange(figure{value: v[0], noise: 1}, v[1], 0.1); got != NoFigure {
			t.Errorf("%v to %v is %s", v[0], v[1], got)
		}
	}
}

// TestJudgeSymmetric: what is better one way is worse the other way.
func TestJudgeSymmetric(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, y := rapid.Float64Range(1, 1e6).Draw(t, "x"), rapid.Float64Range(1, 1e6).Draw(t, "y")
		noise := rapid.Float64Range(0, 1).Draw(t, "noise")
		opposite := map[Verdict]Verdict{Same: Same, Better: Worse, Worse: Better}
		if a, b := judgeChange(figure{value: x, noise: 1}, y, noise), judgeChange(figure{value: y, noise: 1}, x, noise); b != opposite[a] {
			t.Fatalf("%v to %v is %s, back %s", x, y, a, b)
		}
		if got := judgeChange(figure{value: x, noise: 1}, x*(1+noise)*(1+1e-9)+1e-9, noise); noise > 0.001 && got != Worse {
			t.Fatalf("just over the noise %v: %s", noise, got)
		}
	})
}

// TestResultRoundTrip: what is written is read back alike.
func TestResultRoundTrip(t *testing.T) {
	var b bytes.Buffer
	r := sample()
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	back, err := ReadResult(&b)
	if err != nil || back.Summary() != r.Summary() || len(back.Logins.Latency.Quantiles) != len(plotted) {
		t.Errorf("%v\n%s\n%s", err, r.Summary(), back.Summary())
	}
	for _, bad := range []string{"", "{}", "[]", "x"} {
		if _, err := ReadResult(strings.NewReader(bad)); err == nil {
			t.Errorf("%q is a result", bad)
		}
	}
}

func TestKernel(t *testing.T) {
	in, bytes := parseSockstat("sockets: used 5\nTCP: inuse 7 orphan 0 tw 1 alloc 9 mem 3\nUDP: inuse 2 mem 8\n")
	if in != 7 || bytes == 0 || bytes%3 != 0 {
		t.Errorf("%d in use, %d bytes", in, bytes)
	}
	var s Snapshot
	if err := fillKernel(&s); err != nil || s.Slab <= 0 || s.MemTotal < s.MemAvailable {
		t.Errorf("%v, %+v", err, s)
	}
	if residentOf(1<<30) != 0 {
		t.Error("a process that is not there has memory")
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 999: "999", 1000: "1k", 1_500_000: "1.5M", 2e9: "2G", 0.25: "0.25"} {
		if got := short(v); got != want {
			t.Errorf("short(%v) = %s, want %s", v, got, want)
		}
	}
	if nines(100) != 5 || math.Abs(nines(99)-2) > 1e-9 || nines(0) != 0 {
		t.Error(fmt.Sprint(nines(100), nines(99), nines(0)))
	}
}
