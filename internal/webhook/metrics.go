package webhook

import (
	"fmt"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// Metrics of this package:
//
//	rollcall_webhook_events_total{result}     counter: what became of events. delivered; no_url (the app has no
//	                                          receiver); coalesced, diverted (outbox full); gave_up (too old);
//	                                          closed (came after Close); lost (the outbox could not take them);
//	                                          left (in the outbox when Close ended); merged (the app wants only the
//	                                          newest); replayed, skipped (dead letters)
//	rollcall_webhook_attempts_total{outcome}  counter: attempts by outcome: ok, status, redirect, gone, busy, body,
//	                                          too_large, code, timeout, connect, refused_address, closed, url,
//	                                          stopped (broken off by Close)
//	rollcall_webhook_attempt_seconds          histogram: how long an attempt took
//	rollcall_webhook_delivery_seconds         histogram: from queueing an event to its acknowledgement
//	rollcall_webhook_outbox_events            gauge: events that wait or are out for an attempt
//	rollcall_webhook_outbox_bytes             gauge: about what they take
//	rollcall_webhook_outbox_oldest_seconds    gauge: age of the oldest
//	rollcall_webhook_outbox_full              gauge: 1 from the moment an event gave way until a tenth is free. Alarm on it
//	rollcall_webhook_store_failures_total     gauge that only grows: commits and reads of the outbox that the store failed
//	rollcall_webhook_dead_letters             gauge: dead letters kept
//	rollcall_webhook_dead_letters_lost_total  gauge that only grows: dead letters that fell out of the list
//	rollcall_webhook_in_flight                gauge: attempts now
//	rollcall_webhook_connections              gauge: open connections to receivers, idle ones included
//	rollcall_webhook_circuits_open            gauge: endpoints that are held back after failures
type meters struct {
	results  map[string]*metrics.Counter
	attempts map[outcome]*metrics.Counter
	attempt  *metrics.Histogram
	delivery *metrics.Histogram
}

// Results of an event.
const (
	resultDelivered = "delivered"
	resultNoURL     = "no_url"
	resultCoalesced = "coalesced"
	resultDiverted  = "diverted"
	resultGaveUp    = "gave_up"
	resultClosed    = "closed"
	resultLost      = "lost"
	resultLeft      = "left"
	resultMerged    = "merged"
	resultReplayed  = "replayed"
	resultSkipped   = "skipped"
)

func newMeters(set *metrics.Set) meters {
	m := meters{
		results:  make(map[string]*metrics.Counter),
		attempts: make(map[outcome]*metrics.Counter),
		attempt:  set.Histogram("rollcall_webhook_attempt_seconds"),
		delivery: set.Histogram("rollcall_webhook_delivery_seconds"),
	}
	for _, r := range []string{resultDelivered, resultNoURL, resultCoalesced, resultDiverted, resultGaveUp, resultClosed, resultLost, resultLeft, resultMerged, resultReplayed, resultSkipped} {
		m.results[r] = set.Counter(fmt.Sprintf("rollcall_webhook_events_total{result=%q}", r))
	}
	for _, o := range outcomes {
		m.attempts[o] = set.Counter(fmt.Sprintf("rollcall_webhook_attempts_total{outcome=%q}", string(o)))
	}
	return m
}

func (m *meters) count(result string, n int) { m.results[result].Add(n) }

// registerGauges registers what is read at each scrape.
func (d *Dispatcher) registerGauges(set *metrics.Set) {
	outbox := func(name string, read func(OutboxStats) float64) {
		set.Gauge("rollcall_webhook_"+name, func() float64 { return read(d.o.Outbox.Stats()) })
	}
	outbox("outbox_events", func(s OutboxStats) float64 { return float64(s.Events) })
	outbox("outbox_bytes", func(s OutboxStats) float64 { return float64(s.Bytes) })
	outbox("dead_letters", func(s OutboxStats) float64 { return float64(s.DeadLetters) })
	outbox("dead_letters_lost_total", func(s OutboxStats) float64 { return float64(s.DeadLettersLost) })
	outbox("store_failures_total", func(s OutboxStats) float64 { return float64(s.StoreFailures) })
	outbox("outbox_oldest_seconds", func(s OutboxStats) float64 {
		if s.OldestMS == 0 {
			return 0
		}
		return max(0, float64(d.nowMS()-s.OldestMS)/1000)
	})
	outbox("outbox_full", func(s OutboxStats) float64 {
		if s.Full {
			return 1
		}
		return 0
	})
	set.Gauge("rollcall_webhook_connections", func() float64 { return float64(d.conns.len()) })
	set.Gauge("rollcall_webhook_in_flight", func() float64 { return float64(d.Stats().InFlight) })
	set.Gauge("rollcall_webhook_circuits_open", func() float64 { return float64(d.Stats().CircuitsOpen) })
}
