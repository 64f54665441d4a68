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
	s.Gauge("rollcall_depth", func() float64 { return 1 })
	s.Gauge("rollcall_depth", func() float64 { return 7 }) // replaces the first
	s.Histogram("rollcall_wait_seconds").Update(0.003)
	var out bytes.Buffer
	s.Write(&out)
	for _, line := range []string{
		`rollcall_things_total{kind="a"} 4`,
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
