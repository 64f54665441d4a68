package engine

import (
	"errors"
	"fmt"
	"math"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/proxy"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Metrics of the engine, as docs/metrics.md lists them:
//
//	rollcall_links{protocol}           gauge    links that are open now, those being closed included
//	rollcall_accepts_total             counter  connections accepted and let in
//	rollcall_links_unauthenticated     gauge    links that are not logged in, those being refused included
//	rollcall_refused_total{reason}     counter  connections refused: refusedReasonNames in admit.go
//	rollcall_addresses_forgotten_total gauge    addresses that gave way before their rate had recovered
//	rollcall_addresses_untracked_total gauge    links let in that could not be counted by their address
//	rollcall_closes_total{reason}      counter  links that ended; reasons: closeReasonNames in reason.go
//	rollcall_logins_total{code}        counter  logins answered, by code of codec/code.go; 0 is a success
//	rollcall_heartbeats_total          counter  heartbeats received
//	rollcall_frames_received_total     counter  frames decoded
//	rollcall_frames_skipped_total      counter  frames of unknown type skipped because they are optional
//	rollcall_received_bytes_total      counter  bytes received from clients
//	rollcall_sent_bytes_total          counter  bytes written to clients
//	rollcall_link_notices_total{result}     counter  forced-offline notices of the Directory: told, stale (the link was gone)
//	rollcall_link_changes_total{result}     counter  changes of the Directory for subscribed links: told, stale (the link or its subscription was gone), dropped (MaxPendingChanges; the links are closed)
//	rollcall_leaves_retried_total      counter  leaves issued again because the Directory was not available
//	rollcall_drains_cut_total          counter  links closed before their client could read why, as it sent more than 512 KiB behind the end
//	rollcall_leaves_dropped_total      counter  leaves given up because MaxPendingLeaves were waiting
//	rollcall_websocket_handshakes_total{status} counter  opening handshakes answered, by HTTP status
//	rollcall_websocket_partials_full_total counter  links ended because messages in pieces took MaxPartialBytes
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
//	rollcall_proxy_headers_total{kind}      counter  PROXY headers accepted: v1, v2, local (v2: the load balancer speaks for itself)
//	rollcall_proxy_refused_total{reason}    counter  links from a load balancer refused: proxy.Reason, or incomplete (ended within its header)
type counters struct {
	accepts                      *metrics.Counter
	refused                      [numRefusedReasons]*metrics.Counter
	closes                       [numCloseReasons]*metrics.Counter
	logins                       map[codec.Code]*metrics.Counter
	loginsOther                  *metrics.Counter
	heartbeats, frames, skipped  *metrics.Counter
	received, sent               *metrics.Counter
	noticesTold, noticesStale    *metrics.Counter
	changesTold, changesStale    *metrics.Counter
	changesDropped               *metrics.Counter
	leavesRetried, leavesDropped *metrics.Counter
	drainsCut                    *metrics.Counter
	shedLate, shedFull           *metrics.Counter
	barredUser, barredAddress    *metrics.Counter
	sigHits, sigMisses           *metrics.Counter
	upgrades                     map[int]*metrics.Counter // by HTTP status
	partialsFull                 *metrics.Counter
	proxyV1, proxyV2, proxyLocal *metrics.Counter
	proxyRefused                 [proxy.NumReasons]*metrics.Counter
	proxyIncomplete              *metrics.Counter
}

func newCounters(set *metrics.Set) *counters {
	c := &counters{
		accepts:         set.Counter("rollcall_accepts_total"),
		logins:          make(map[codec.Code]*metrics.Counter),
		loginsOther:     set.Counter(`rollcall_logins_total{code="other"}`),
		heartbeats:      set.Counter("rollcall_heartbeats_total"),
		frames:          set.Counter("rollcall_frames_received_total"),
		skipped:         set.Counter("rollcall_frames_skipped_total"),
		received:        set.Counter("rollcall_received_bytes_total"),
		sent:            set.Counter("rollcall_sent_bytes_total"),
		noticesTold:     set.Counter(`rollcall_link_notices_total{result="told"}`),
		noticesStale:    set.Counter(`rollcall_link_notices_total{result="stale"}`),
		changesTold:     set.Counter(`rollcall_link_changes_total{result="told"}`),
		changesStale:    set.Counter(`rollcall_link_changes_total{result="stale"}`),
		changesDropped:  set.Counter(`rollcall_link_changes_total{result="dropped"}`),
		leavesRetried:   set.Counter("rollcall_leaves_retried_total"),
		leavesDropped:   set.Counter("rollcall_leaves_dropped_total"),
		drainsCut:       set.Counter("rollcall_drains_cut_total"),
		shedLate:        set.Counter(`rollcall_logins_shed_total{reason="late"}`),
		shedFull:        set.Counter(`rollcall_logins_shed_total{reason="full"}`),
		barredUser:      set.Counter(`rollcall_logins_barred_total{by="user"}`),
		barredAddress:   set.Counter(`rollcall_logins_barred_total{by="address"}`),
		sigHits:         set.Counter(`rollcall_sig_cache_total{result="hit"}`),
		sigMisses:       set.Counter(`rollcall_sig_cache_total{result="miss"}`),
		upgrades:        make(map[int]*metrics.Counter),
		partialsFull:    set.Counter("rollcall_websocket_partials_full_total"),
		proxyV1:         set.Counter(`rollcall_proxy_headers_total{kind="v1"}`),
		proxyV2:         set.Counter(`rollcall_proxy_headers_total{kind="v2"}`),
		proxyLocal:      set.Counter(`rollcall_proxy_headers_total{kind="local"}`),
		proxyIncomplete: set.Counter(`rollcall_proxy_refused_total{reason="incomplete"}`),
	}
	for r := notRefused + 1; r < numRefusedReasons; r++ {
		c.refused[r] = set.Counter(fmt.Sprintf("rollcall_refused_total{reason=%q}", refusedReasonNames[r]))
	}
	for r := range proxy.NumReasons {
		c.proxyRefused[r] = set.Counter(fmt.Sprintf("rollcall_proxy_refused_total{reason=%q}", r))
	}
	for r, name := range closeReasonNames {
		c.closes[r] = set.Counter(fmt.Sprintf("rollcall_closes_total{reason=%q}", name))
	}
	for _, status := range []int{101, 400, 404, 405, 426, 431} {
		c.upgrades[status] = set.Counter(fmt.Sprintf("rollcall_websocket_handshakes_total{status=\"%d\"}", status))
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

// upgrade counts an answered opening handshake of WebSocket.
func (c *counters) upgrade(status int) {
	if n, ok := c.upgrades[status]; ok {
		n.Inc()
	}
}

// proxied is the counter of an accepted PROXY header.
func (c *counters) proxied(h *proxy.Header) *metrics.Counter {
	switch {
	case h.Local:
		return c.proxyLocal
	case h.Version == 1:
		return c.proxyV1
	}
	return c.proxyV2
}

// proxyRefusal is the counter of a header that was refused with err.
func (c *counters) proxyRefusal(err error) *metrics.Counter {
	var e *proxy.Error
	if errors.As(err, &e) {
		return c.proxyRefused[e.Reason]
	}
	return c.proxyIncomplete
}

// gauges registers what is read at each scrape.
func (c *Core) gauges(set *metrics.Set) {
	for p := presence.ProtocolNative; p < presence.NumProtocols; p++ {
		set.Gauge(fmt.Sprintf("rollcall_links{protocol=%q}", p), func() float64 { return float64(c.LinksOf(p)) })
	}
	set.Gauge("rollcall_links_unauthenticated", func() float64 { return float64(c.Unauthenticated()) })
	set.Gauge("rollcall_addresses_forgotten_total", func() float64 { n, _ := c.gate.Lost(); return float64(n) })
	set.Gauge("rollcall_addresses_untracked_total", func() float64 { _, n := c.gate.Lost(); return float64(n) })
	set.Gauge("rollcall_logins_pending", func() float64 { return float64(c.PendingLogins()) })
	sum := func(of func(*turns) float64) func() float64 {
		return func() (n float64) {
			for _, l := range c.loops {
				n += of(&l.turns)
			}
			return n
		}
	}
	set.Gauge("rollcall_logins_waiting", sum(func(t *turns) float64 { return float64(t.seenWaiting.Load()) }))
	set.Gauge("rollcall_login_limit", sum(func(t *turns) float64 { return float64(t.seenLimit.Load()) }))
	set.Gauge("rollcall_login_rate", sum(func(t *turns) float64 { return math.Float64frombits(t.seenRate.Load()) }))
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
