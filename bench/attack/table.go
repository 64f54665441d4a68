package attack

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/bench"
)

// WriteTable writes the rows as a page in Markdown.
func WriteTable(w io.Writer, r *bench.Result) error {
	var b strings.Builder
	fmt.Fprintf(&b, "# Under attack\n\n%s, %d rows in %.0f s. The crowd: honest users who log in, heartbeat, are queried and kicked at fixed rates; each of their answers is checked.\n"+
		"Login p99 is from when a login was due to its LoginOK, without the attack and with it, server, crowd and attacker on one machine; the aim is less than twice normal.\n\n", r.Started.UTC().Format(time.DateTime), len(r.Hostile), r.Seconds)
	b.WriteString("| row | the attacker | login p50 / p99 normal | under attack | ratio of p99 | memory before | peak | goroutines before / after | heap before / after | what the attacker did | verdict |\n")
	b.WriteString("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |\n")
	for i := range r.Hostile {
		h := &r.Hostile[i]
		verdict := "nobody noticed"
		if len(h.Wrong) > 0 {
			verdict = "**" + strings.ReplaceAll(strings.Join(h.Wrong, "; "), "\n", " ") + "**"
		}
		ms := func(us int64) string { return fmt.Sprintf("%.1f ms", float64(us)/1000) }
		mb := func(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
		fmt.Fprintf(&b, "| %s | %d %s: %s | %s / %s | %s / %s | %.1f | %s | %s | %d / %d | %s / %s | %s | %s |\n", h.Name, h.Size, h.Unit, h.What, ms(h.NormalP50), ms(h.NormalP99), ms(h.AttackP50), ms(h.AttackP99), h.Ratio(),
			mb(h.MemoryBefore), mb(h.MemoryPeak), h.GoroutinesBefore, h.GoroutinesAfter, mb(h.HeapBefore), mb(h.HeapAfter), tell(h.Did), verdict)
	}
	b.WriteString("\nWhat the server counted meanwhile, the crowd's part included:\n\n| row | counters |\n| --- | --- |\n")
	for i := range r.Hostile {
		h := &r.Hostile[i]
		fmt.Fprintf(&b, "| %s | %s |\n", h.Name, strings.Join(h.Told(), ", "))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
