package metrics

import (
	"bytes"
	"strings"
	"testing"
)

func TestWrite(t *testing.T) {
	s := NewSet()
	s.Counter(`rollcall_things_total{kind="a"}`).Add(3)
	s.Counter(`rollcall_things_total{kind="a"}`).Inc()
	s.Counter(`rollcall_things_total{kind="GET /a/{id}, \"b\""}`).Inc()
	s.Gauge("rollcall_depth", func() float64 { return 1 })
	s.Gauge("rollcall_depth", func() float64 { return 7 }) // replaces the first
	s.Histogram("rollcall_wait_seconds").Update(0.003)
	var out bytes.Buffer
	if err := s.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		`rollcall_things_total{kind="a"} 4`,
		`rollcall_things_total{kind="GET /a/{id}, \"b\""} 1`,
		"rollcall_depth 7",
		`rollcall_wait_seconds_bucket{le="0.0025"} 0`,
		`rollcall_wait_seconds_bucket{le="0.005"} 1`,
		`rollcall_wait_seconds_bucket{le="+Inf"} 1`,
		"rollcall_wait_seconds_count 1",
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("no line %q in:\n%s", line, out.String())
		}
	}
	if !strings.Contains(out.String(), "go_goroutines ") {
		t.Error("the Go runtime's metrics are missing")
	}
}

// TestMistakes: names that cannot be exported are found at start, not at the first scrape.
func TestMistakes(t *testing.T) {
	for _, name := range []string{"", "Upper", `a{b}`, `a{b=c}`, `a{b="c"`, `a{b="c" d="e"}`, `a{b="\q"}`} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("counter %q: no panic", name)
				}
			}()
			NewSet().Counter(name)
		}()
	}
}
