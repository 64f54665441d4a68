package main

import (
	"bytes"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"
)

// TestRefusalLog: the first refusal is told at the next look, those of the minute after it in one line, and none twice.
func TestRefusalLog(t *testing.T) {
	var out bytes.Buffer
	counts := map[string]uint64{"full": 0, "ip_links": 0}
	w := newRefusalWatch(func() map[string]uint64 { return maps.Clone(counts) }, slog.New(slog.NewTextHandler(&out, nil)))
	at := func(after time.Duration) time.Time { return time.Unix(1_800_000_000, 0).Add(after) }
	for _, tc := range []struct {
		after         time.Duration
		full, ipLinks uint64 // refused since the last look
		want          string
	}{
		{0, 0, 0, ""},
		{5 * time.Second, 0, 3, " ip_links=3\n"},
		{10 * time.Second, 7, 1, ""},
		{65*time.Second - 1, 0, 1, ""},
		{65 * time.Second, 0, 0, " full=7 ip_links=2\n"},
		{time.Hour, 0, 0, ""},
		{time.Hour + 1, 1, 0, " full=1\n"},
	} {
		counts["full"] += tc.full
		counts["ip_links"] += tc.ipLinks
		out.Reset()
		w.step(at(tc.after))
		if got := out.String(); (got == "") != (tc.want == "") || !strings.HasSuffix(got, tc.want) {
			t.Errorf("after %v: %q, want %q", tc.after, got, tc.want)
		}
	}
	counts["full"]++
	out.Reset()
	go w.run()
	if w.close(); !strings.HasSuffix(out.String(), " full=1\n") {
		t.Errorf("at the end: %q, want what was not told yet", out.String())
	}
}
