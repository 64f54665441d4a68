package engine

import (
	"fmt"
	"math"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Metrics of the engine, as docs/metrics.md lists them:
//
//	rollcall_links{protocol}           gauge    links that are open now, those being closed included
//	rollcall_accepts_total             counter  connections accepted and let in
//	rollcall_refused_total{reason}     counter  connections closed at accept: full (MaxLinks), slots (a loop's 2^24), draining
//	rollcall_closes_total{reason}      counter  links that ended; reasons: closeReasonNames in reason.go
//	rollcall_logins_total{code}        counter  logins answered, by code of codec/code.go; 0 is a success
//	rollcall_heartbeats_total          counter  heartbeats received
//	rollcall_frames_received_total     counter  frames decoded
//	rollcall_frames_skipped_total      counter  frames of unknown type skipped because they are optional
//	rollcall_received_bytes_total      counter  bytes received from clients
//	rollcall_sent_bytes_total          counter  bytes written to clients
//	rollcall_link_notices_total{result}     counter  forced-offline notices of the Directory: told, stale (the link was gone)
//	rollcall_leaves_retried_total      counter  leaves issued again because the Directory was not available
//	rollcall_leaves_dropped_total      counter  leaves given up because MaxPendingLeaves were waiting
//	rollcall_logins_pending            gauge    logins being decided
//	rollcall_login_limit               gauge    how many may be, by the Directory's latency
//	rollcall_logins_waiting            gauge    logins that wait for their turn
//	rollcall_logins_shed_total{reason} counter  logins sent away while they waited: late (LoginQueueTime), full (MaxWaitingLogins)
//	rollcall_login_rate                gauge    logins per second that the node is taken to be able to do
//	rollcall_logins_barred_total{by}   counter  logins refused unseen after too many failures: user (from one address), address
//	rollcall_login_failure_records     gauge    users and addresses of whom failures are remembered
//	rollcall_login_failure_records_evicted_total   gauge    of them, those forgotten for want of room; only grows
//	rollcall_sig_cache_total{result}   counter  UserSigs looked for among the verified ones: hit, miss
//	rollcall_sig_cache_evicted_total   gauge    verified UserSigs forgotten for want of room; only grows
type counters struct {
	accepts                      *metrics.Counter
	refusedFull, refusedSlots    *metrics.Counter
	refusedDraining              *metrics.Counter
	closes                       [numCloseReasons]*metrics.Counter
	logins                       map[codec.Code]*metrics.Counter
	loginsOther                  *metrics.Counter
	heartbeats, frames, skipped  *metrics.Counter
	received, sent               *metrics.Counter
	noticesTold, noticesStale    *metrics.Counter
	leavesRetried, leavesDropped *metrics.Counter
	shedLate, shedFull           *metrics.Counter
	barredUser, barredAddress    *metrics.Counter
	sigHits, sigMisses           *metrics.Counter
}

func newCounters(set *metrics.Set) *counters {
	refused := func(reason string) *metrics.Counter {
		return set.Counter(fmt.Sprintf("rollcall_refused_total{reason=%q}", reason))
	}
	c := &counters{
		accepts:         set.Counter("rollcall_accepts_total"),
		refusedFull:     refused("full"),
		refusedSlots:    refused("slots"),
		refusedDraining: refused("draining"),
		logins:          make(map[codec.Code]*metrics.Counter),
		loginsOther:     set.Counter(`rollcall_logins_total{code="other"}`),
		heartbeats:      set.Counter("rollcall_heartbeats_total"),
		frames:          set.Counter("rollcall_frames_received_total"),
		skipped:         set.Counter("rollcall_frames_skipped_total"),
		received:        set.Counter("rollcall_received_bytes_total"),
		sent:            set.Counter("rollcall_sent_bytes_total"),
		noticesTold:     set.Counter(`rollcall_link_notices_total{result="told"}`),
		noticesStale:    set.Counter(`rollcall_link_notices_total{result="stale"}`),
		leavesRetried:   set.Counter("rollcall_leaves_retried_total"),
		leavesDropped:   set.Counter("rollcall_leaves_dropped_total"),
		shedLate:        set.Counter(`rollcall_logins_shed_total{reason="late"}`),
		shedFull:        set.Counter(`rollcall_logins_shed_total{reason="full"}`),
		barredUser:      set.Counter(`rollcall_logins_barred_total{by="user"}`),
		barredAddress:   set.Counter(`rollcall_logins_barred_total{by="address"}`),
		sigHits:         set.Counter(`rollcall_sig_cache_total{result="hit"}`),
		sigMisses:       set.Counter(`rollcall_sig_cache_total{result="miss"}`),
	}
	for r, name := range closeReasonNames {
		c.closes[r] = set.Counter(fmt.Sprintf("rollcall_closes_total{reason=%q}", name))
	}
	c.logins[0] = set.Counter(`rollcall_logins_total{code="0"}`)
	for _, info := range codec.Codes {
		c.logins[info.Code] = set.Counter(fmt.Sprintf("rollcall_logins_total{code=\"%d\"}", uint32(info.Code)))
	}
	return c
}

// login counts an answered login.
func (c *counters) login(code codec.Code) {
	if n, ok := c.logins[code]; ok {
		n.Inc()
		return
	}
	c.loginsOther.Inc()
}

// gauges registers what is read at each scrape.
func (c *Core) gauges(set *metrics.Set) {
	for p := presence.ProtocolNative; p < presence.NumProtocols; p++ {
		set.Gauge(fmt.Sprintf("rollcall_links{protocol=%q}", p), func() float64 { return float64(c.LinksOf(p)) })
	}
	set.Gauge("rollcall_logins_pending", func() float64 { return float64(c.PendingLogins()) })
	sum := func(of func(*gate) float64) func() float64 {
		return func() (n float64) {
			for _, l := range c.loops {
				n += of(&l.gate)
			}
			return n
		}
	}
	set.Gauge("rollcall_logins_waiting", sum(func(g *gate) float64 { return float64(g.seenWaiting.Load()) }))
	set.Gauge("rollcall_login_limit", sum(func(g *gate) float64 { return float64(g.seenLimit.Load()) }))
	set.Gauge("rollcall_login_rate", sum(func(g *gate) float64 { return math.Float64frombits(g.seenRate.Load()) }))
	set.Gauge("rollcall_login_failure_records", func() float64 { return float64(c.penalties.Entries()) })
	set.Gauge("rollcall_login_failure_records_evicted_total", func() float64 { return float64(c.penalties.Evicted()) })
	set.Gauge("rollcall_sig_cache_evicted_total", func() float64 {
		if c.sigs == nil {
			return 0
		}
		return float64(c.sigs.Evicted())
	})
}

// tally counts what is too frequent for a counter that loops share; Run adds it
// to the counters and clears it.
type tally struct {
	heartbeats, frames, skipped int
	received, sent              int
	sigHits, sigMisses          int
}

func (t *tally) flush(c *counters) {
	if *t == (tally{}) {
		return
	}
	c.heartbeats.Add(t.heartbeats)
	c.frames.Add(t.frames)
	c.skipped.Add(t.skipped)
	c.received.Add(t.received)
	c.sent.Add(t.sent)
	c.sigHits.Add(t.sigHits)
	c.sigMisses.Add(t.sigMisses)
	*t = tally{}
}
