package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

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
	for _, p := range r.Points {
		if p.Load != nil {
			for _, text := range p.load() {
				line("  %s", text)
			}
			continue
		}
		line("  offered %s: %d logins, %.0f/s, %.1f us CPU each; %s", rateText(p.OfferedRate), p.Logins, p.Rate, p.LoginCPU, p.Latency)
	}
	if d := r.Drop; d != nil {
		line("  drop (%s)  %d of %d found, %d early, all after %.2f s; seen late by %s", d.How, d.Found, d.Users, d.Early, d.Seconds, d.Lateness)
		if d.CloseLateness != nil {
			line("              links closed late by %s", d.CloseLateness)
		}
	}
	if k := r.Kicks; k != nil {
		line("  kicks       %d, %.0f/s; answered %s", k.Kicks, k.Rate, k.Answer)
		line("              notice after the answer %s; %d came before it", k.Notice, k.Before)
	}
	for _, s := range r.Snapshots {
		line("  %s", s)
	}
	if l := r.Ledger; l != nil {
		line("  ledger      seed %d, durability %s: %d kills and %d stops; %d operations acknowledged, %d cut off", l.Seed, l.Durability, l.Kills, l.Stops, l.Acks, l.Unknown)
		line("              %d events of %d users in %d apps, %d came again; %d starts, %.0f ms each, at most %d ms", l.Events, l.Users, l.Apps, l.Repeats, l.Restart.Count, l.Restart.MeanMS, l.Restart.MaxMS)
		if l.Dir != "" {
			line("              data and log are in %s", l.Dir)
		}
	}
	for i := range r.Hostile {
		h := &r.Hostile[i]
		line("  %-18s login p99 %.1f ms, %.1f x normal; memory %.0f MB, at most %.0f; %s", h.Name, float64(h.AttackP99)/1000, h.Ratio(), float64(h.MemoryBefore)/1e6, float64(h.MemoryPeak)/1e6,
			map[bool]string{true: "nobody noticed", false: "NOTICED"}[len(h.Wrong) == 0])
	}
	if r.Stopped != "" {
		line("  stopped     %s", r.Stopped)
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

// load is a point of a multiple of the capacity in a few lines.
func (p *Point) load() []string {
	l := p.Load
	what := fmt.Sprintf("%v x capacity (%.0f/s)", l.Load, p.OfferedRate)
	if l.Load == 0 {
		what = "capacity"
	}
	lines := []string{
		fmt.Sprintf("%s: goodput %.0f/s, %.0f %% of the best; %s", what, l.Goodput, 100*l.Share, p.Latency),
		fmt.Sprintf("            %d attempts, %d of them returns; %d shed, %d unanswered, %d not offered; CPU server %.2f, client %.2f",
			l.Attempts, l.Returns, l.Shed, l.Lost, l.Unmade, l.ServerCPU, l.ClientCPU),
		fmt.Sprintf("            heartbeats %d sent, %d answered; %s", l.Heartbeats.Sent, l.Heartbeats.Answered, l.Heartbeats.Latency),
	}
	if l.Shed > 0 {
		lines = append(lines, fmt.Sprintf("            told to come back after %s", l.RetryAfter))
	}
	if l.Kicks != nil {
		lines = append(lines, fmt.Sprintf("            kicks %d; notice after the answer %s", l.Kicks.Kicks, l.Kicks.Notice))
	}
	return lines
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

func rateText(rate float64) string {
	if rate == 0 {
		return "all at once"
	}
	return fmt.Sprintf("%.0f/s", rate)
}

// String is the snapshot in one line.
func (s Snapshot) String() string {
	mb := func(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
	return fmt.Sprintf("%-22s %7.0f s %8d links: server %s (heap %s, %d GCs, %.0f ms paused), client %s, kernel slab %s, sockets %s, page tables %s, %d TCP ends, %s of %s available",
		s.When, s.Seconds, s.Links, mb(s.ServerRSS), mb(s.Heap), s.GCs, s.GCPauseS*1000, mb(s.ClientRSS),
		mb(s.Slab), mb(s.Sockets), mb(s.PageTables), s.TCPInUse, mb(s.MemAvailable), mb(s.MemTotal))
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
	if s.BeatCPU > 0 {
		text += fmt.Sprintf(", %.2f us per heartbeat", s.BeatCPU)
	}
	if s.CPUPerCloseUS > 0 {
		text += fmt.Sprintf(", %.1f us per close", s.CPUPerCloseUS)
	}
	return text
}
