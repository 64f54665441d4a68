// Package metrics is the node's set of counters, gauges and histograms, in
// Prometheus text form. Each component gets the set at construction and
// registers its own names; docs/metrics.md lists them all.
package metrics

import (
	"io"

	vm "github.com/VictoriaMetrics/metrics"
)

// Set is one node's metrics. Names carry their labels:
// `rollcall_link_closes_total{reason="fin"}`. Safe for concurrent use.
type Set struct {
	set *vm.Set
}

// Counter only grows.
type Counter = vm.Counter

// Histogram counts values by size, in cumulative buckets with upper bounds (le).
type Histogram = vm.PrometheusHistogram

// NewSet returns an empty set.
func NewSet() *Set { return &Set{set: vm.NewSet()} }

// Counter returns the counter of that name, made at first use. Keep it: the look-up locks.
func (s *Set) Counter(name string) *Counter { return s.set.GetOrCreateCounter(name) }

// seconds are the upper bounds of the buckets of every histogram.
var seconds = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60}

// Histogram returns the histogram of that name, made at first use; its values are seconds.
func (s *Set) Histogram(name string) *Histogram {
	return s.set.GetOrCreatePrometheusHistogramExt(name, seconds)
}

// Gauge registers a gauge whose value is read at each scrape. Registering a name twice replaces the first.
func (s *Set) Gauge(name string, read func() float64) {
	s.set.UnregisterMetric(name)
	s.set.NewGauge(name, read)
}

// Write writes all metrics in Prometheus text form, then those of the process and the Go runtime.
func (s *Set) Write(w io.Writer) {
	s.set.WritePrometheus(w)
	vm.WriteProcessMetrics(w)
}
