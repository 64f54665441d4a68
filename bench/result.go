package bench

import (
	"encoding/json"
	"io"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Result is what a run has found. docs/bench.md describes its JSON form.
type Result struct {
	Scenario    string        `json:"scenario"` // connect, hold, churn, storm, massdrop, query, kick, mixed, million, ledger, hostile
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

	Memory    []MemorySample `json:"memory,omitempty"`    // hold: while links are opened
	Points    []Point        `json:"points,omitempty"`    // storm: one per offered rate
	Drop      *DropResult    `json:"drop,omitempty"`      // massdrop, million
	Kicks     *KickResult    `json:"kicks,omitempty"`     // kick, mixed
	Snapshots []Snapshot     `json:"snapshots,omitempty"` // million
	Stopped   string         `json:"stopped,omitempty"`   // why no more links were opened
	Ledger    *LedgerResult  `json:"ledger,omitempty"`    // ledger
	Hostile   []HostileRow   `json:"hostile,omitempty"`   // hostile

	Errors       map[Fault]uint64 `json:"errors"`
	ErrorSamples []string         `json:"error_samples,omitempty"`
}

// LoginResult sums up the logins of a run.
type LoginResult struct {
	Wanted      int     `json:"wanted"`
	OK          int     `json:"ok"`
	OfferedRate float64 `json:"offered_rate"` // per second
	Rate        float64 `json:"rate"`         // achieved, from the first one due to the last one answered; pauses between waves left out
	Latency     Latency `json:"latency"`      // from when it was due to LoginOK, TCP connect included
}

// BeatResult sums up the heartbeats of a run.
type BeatResult struct {
	Sent     uint64 `json:"sent"`
	Answered uint64 `json:"answered"`
	// Latency is from when a heartbeat was due to its answer. Those that a link could
	// not send for want of an answer to the last one are in it, with their wait.
	Latency Latency `json:"latency"`
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
	IdleCPU       float64 `json:"idle_cpu_share,omitempty"`   // hold: with links that send nothing, share of one core
	BeatCPU       float64 `json:"beat_cpu_us,omitempty"`      // hold: CPU per heartbeat beyond the idle links' own
}

// MemorySample is the server's anonymous memory with a number of links.
type MemorySample struct {
	Links int   `json:"links"`
	Bytes int64 `json:"bytes"`
}

// Point is one offered rate of a curve.
type Point struct {
	OfferedRate float64 `json:"offered_rate"` // logins per second, 0 = all at once
	Rate        float64 `json:"rate"`         // achieved
	Logins      int     `json:"logins"`
	Latency     Latency `json:"latency"`
	LoginCPU    float64 `json:"login_cpu_us,omitempty"` // the server's, per login
	// Load is what the point is about if it is a multiple of the capacity.
	Load *LoadResult `json:"load,omitempty"`
}

// LoadResult is what became of logins that were offered at a multiple of what the
// server can do. Rates and counts are of the part of the point that was measured.
type LoadResult struct {
	Load     float64 `json:"load"`     // times the capacity; 0: the search for it
	Capacity float64 `json:"capacity"` // logins per second
	Goodput  float64 `json:"goodput"`  // logins per second that were let in
	Share    float64 `json:"share"`    // of the best point's goodput
	Seconds  float64 `json:"seconds"`
	Attempts int     `json:"attempts"`
	Returns  int     `json:"returns"`     // of them, by clients who had been sent away
	Shed     int     `json:"shed"`        // sent away
	Lost     int     `json:"unanswered"`  // not connected or not answered in time, or cut off
	Unmade   int     `json:"not_offered"` // attempts that the client could not make
	// RetryAfter is what those who were sent away were told, its count is theirs.
	RetryAfter Latency     `json:"retry_after"`
	Heartbeats *BeatResult `json:"heartbeats"` // of the standing crowd
	Kicks      *KickResult `json:"kicks,omitempty"`
	ServerCPU  float64     `json:"server_cpu_share"` // of one core
	ClientCPU  float64     `json:"client_cpu_share"`
}

// DropResult is what became of users whose links ended all at once.
type DropResult struct {
	How     string  `json:"how"` // fin, rst, silence
	Users   int     `json:"users"`
	Found   int     `json:"found"`               // shown as lost in time
	Early   int     `json:"early"`               // of them, shown as lost before their time
	Seconds float64 `json:"seconds"`             // until all were found
	Silence float64 `json:"silence_s,omitempty"` // the time-out
	// Lateness is from when the link died or its time-out was over until a query
	// showed it. Polling has a pitch of its own: a round over all users.
	Lateness Latency `json:"lateness"`
	// CloseLateness is from when the time-out was over until the server closed the link.
	CloseLateness *Latency `json:"close_lateness,omitempty"`
	CPUPerDrop    float64  `json:"drop_cpu_us,omitempty"` // the server's CPU per user, polling included
}

// KickResult sums up REST kicks of users with a link.
type KickResult struct {
	Kicks       int     `json:"kicks"` // answered
	OfferedRate float64 `json:"offered_rate"`
	Rate        float64 `json:"rate"`
	Answer      Latency `json:"answer_latency"` // from when it was due to the REST answer
	// Notice is from the REST answer to the notice at the client; a notice that
	// came first counts as 1 us, and in Before.
	Notice Latency `json:"notice_latency"`
	Before int     `json:"notices_before_answer"`
}

// Snapshot is what server, kernel and Go runtime say at one moment.
type Snapshot struct {
	When         string  `json:"when"`
	Seconds      float64 `json:"seconds"` // since the run began
	Links        int     `json:"links"`
	ServerRSS    int64   `json:"server_rss_bytes"`  // all resident memory
	ServerAnon   int64   `json:"server_anon_bytes"` // anonymous memory
	Heap         int64   `json:"go_heap_bytes"`     // in use
	GCs          int     `json:"go_gcs"`
	GCPauseS     float64 `json:"go_gc_pause_seconds"` // sum
	ClientRSS    int64   `json:"client_rss_bytes"`
	Slab         int64   `json:"kernel_slab_bytes"`
	Sockets      int64   `json:"kernel_sockets_bytes"` // buffers, from sockstat
	PageTables   int64   `json:"kernel_page_tables_bytes"`
	TCPInUse     int64   `json:"kernel_tcp_inuse"` // both ends
	MemAvailable int64   `json:"mem_available_bytes"`
	MemTotal     int64   `json:"mem_total_bytes"`
}

// LedgerResult is what a ledger test has played; its violations are the run's errors.
type LedgerResult struct {
	Seed       uint64        `json:"seed"` // replays the schedule
	Durability string        `json:"durability"`
	Kills      int           `json:"kills"` // by SIGKILL
	Stops      int           `json:"stops"` // by SIGTERM
	Users      int           `json:"users"`
	Apps       int           `json:"apps"`
	Acks       int           `json:"acks"`    // operations that were acknowledged
	Unknown    int           `json:"unknown"` // operations whose answer a kill has cut off
	Events     int           `json:"events"`  // distinct webhook events
	Repeats    int           `json:"repeats"` // events that came once more
	Restart    RestartResult `json:"restart"`
	Dir        string        `json:"dir,omitempty"` // where data and log of a failed run are
}

// RestartResult is how long the server took from its start until it served.
type RestartResult struct {
	Count  int     `json:"count"`
	MeanMS float64 `json:"mean_ms"`
	MaxMS  int64   `json:"max_ms"`
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
	// Quantiles are points of the whole distribution, for plots.
	Quantiles []Quantile `json:"quantiles,omitempty"`
}

// Quantile is a share of a distribution, in percent, that took US microseconds or less.
type Quantile struct {
	Percent float64 `json:"percent"`
	US      int64   `json:"us"`
}

var plotted = []float64{0, 10, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100}

// newHistogram counts 1 us to 2 minutes with 3 digits, in about 200 KB.
func newHistogram() *hdrhistogram.Histogram {
	return hdrhistogram.New(1, (2 * time.Minute).Microseconds(), 3)
}

// record adds d to h; what is out of its range counts as its end.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(d.Microseconds(), 1), h.HighestTrackableValue()))
}

// recordEvery is record for what would have been asked again every `interval` had
// an answer come: it adds what those that were not asked would have had to wait.
func recordEvery(h *hdrhistogram.Histogram, d, interval time.Duration) {
	_ = h.RecordCorrectedValue(min(max(d.Microseconds(), 1), h.HighestTrackableValue()), interval.Microseconds())
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	if h.TotalCount() == 0 {
		return Latency{}
	}
	l := Latency{
		Count: h.TotalCount(), Mean: h.Mean(),
		P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
	for _, p := range plotted {
		l.Quantiles = append(l.Quantiles, Quantile{p, h.ValueAtQuantile(p)})
	}
	return l
}

// WriteJSON writes r as indented JSON.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(r)
}
