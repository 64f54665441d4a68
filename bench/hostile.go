package bench

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// HostileRow is what an attack did to a server and to its honest users.
type HostileRow struct {
	Name string           `json:"name"`
	What string           `json:"what"`
	Size int              `json:"size"`
	Unit string           `json:"unit"`
	Did  map[string]int64 `json:"did"` // what the attacker did, by kind

	NormalP50 int64 `json:"normal_p50_us"` // of the crowd's logins, without the attack
	NormalP99 int64 `json:"normal_p99_us"`
	AttackP50 int64 `json:"attack_p50_us"` // the same under attack
	AttackP99 int64 `json:"attack_p99_us"`

	MemoryBefore     int64 `json:"memory_before_bytes"` // resident
	MemoryPeak       int64 `json:"memory_peak_bytes"`
	GoroutinesBefore int   `json:"goroutines_before"`
	GoroutinesAfter  int   `json:"goroutines_after"`
	HeapBefore       int64 `json:"heap_before_bytes"` // in use, after a collection
	HeapAfter        int64 `json:"heap_after_bytes"`

	Counters map[string]float64 `json:"counters"`        // the server's, by how much they have grown
	Wrong    []string           `json:"wrong,omitempty"` // what should not be
}

// Ratio is how much longer logins took than normal.
func (h *HostileRow) Ratio() float64 {
	if h.NormalP99 == 0 {
		return 0
	}
	return float64(h.AttackP99) / float64(h.NormalP99)
}

// Told is the counters that have grown, in the order of their names, without those of every run.
func (h *HostileRow) Told() []string {
	var told []string
	for _, name := range slices.Sorted(maps.Keys(h.Counters)) {
		short := strings.TrimPrefix(name, "rollcall_")
		if !strings.Contains(name, "_bucket") && !strings.Contains(name, "_webhook_") && !strings.Contains(name, "_bytes_") {
			told = append(told, fmt.Sprintf("`%s` %.0f", short, h.Counters[name]))
		}
	}
	return told
}
