// Package metrics is the node's set of counters, gauges and histograms, in
// Prometheus text form. Each component gets the set at construction and
// registers its own names; docs/metrics.md lists them all.
package metrics

import (
	"fmt"
	"io"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/common/expfmt"
)

// Set is one node's metrics. Names carry their labels:
// `rollcall_closes_total{reason="fin"}`. Safe for concurrent use. A name that is
// no metric name, or that is one kind here and another there, is a mistake in the
// program and panics.
type Set struct {
	registry *prometheus.Registry

	// Guarded by mu.
	mu         sync.Mutex
	counters   map[string]*Counter
	gauges     map[string]prometheus.Collector
	histograms map[string]*Histogram
}

// Counter only grows. Counting is one atomic addition.
type Counter struct{ n atomic.Uint64 }

// Inc adds 1.
func (c *Counter) Inc() { c.n.Add(1) }

// Add adds n, which must not be negative.
func (c *Counter) Add(n int) { c.n.Add(uint64(n)) }

// Get returns the count.
func (c *Counter) Get() uint64 { return c.n.Load() }

// Histogram counts values by size, in cumulative buckets with upper bounds.
type Histogram struct{ h prometheus.Histogram }

// Update counts one value.
func (h *Histogram) Update(v float64) { h.h.Observe(v) }

// seconds are the upper bounds of the buckets of every histogram.
var seconds = []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60}

// NewSet returns a set with the metrics of the process and the Go runtime.
func NewSet() *Set {
	s := &Set{
		registry:   prometheus.NewRegistry(),
		counters:   make(map[string]*Counter),
		gauges:     make(map[string]prometheus.Collector),
		histograms: make(map[string]*Histogram),
	}
	s.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return s
}

// Counter returns the counter of that name, made at first use. Keep it: the look-up locks.
func (s *Set) Counter(name string) *Counter {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.counters[name]
	if c == nil {
		c = new(Counter)
		base, labels := split(name)
		s.registry.MustRegister(prometheus.NewCounterFunc(
			prometheus.CounterOpts{Name: base, Help: help(base), ConstLabels: labels},
			func() float64 { return float64(c.Get()) }))
		s.counters[name] = c
	}
	return c
}

// Histogram returns the histogram of that name, made at first use; its values are seconds.
func (s *Set) Histogram(name string) *Histogram {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.histograms[name]
	if h == nil {
		base, labels := split(name)
		h = &Histogram{prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: base, Help: help(base), ConstLabels: labels, Buckets: seconds,
		})}
		s.registry.MustRegister(h.h)
		s.histograms[name] = h
	}
	return h
}

// Gauge registers a gauge whose value is read at each scrape. Registering a name twice replaces the first.
func (s *Set) Gauge(name string, read func() float64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old := s.gauges[name]; old != nil {
		s.registry.Unregister(old)
	}
	base, labels := split(name)
	g := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: base, Help: help(base), ConstLabels: labels}, read)
	s.registry.MustRegister(g)
	s.gauges[name] = g
}

// Write writes all metrics in Prometheus text form.
func (s *Set) Write(w io.Writer) error {
	families, err := s.registry.Gather()
	if err != nil {
		return fmt.Errorf("cannot gather metrics: %w", err)
	}
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(w, f); err != nil {
			return fmt.Errorf("cannot write metric %s: %w", f.GetName(), err)
		}
	}
	return nil
}

var (
	nameForm  = regexp.MustCompile(`^([a-z_]+)(?:\{(.*)\})?$`)
	labelForm = regexp.MustCompile(`([a-z_]+)=("(?:[^"\\]|\\.)*")(?:,|$)`)
)

// split takes `name{label="value",...}` apart.
func split(name string) (base string, labels prometheus.Labels) {
	m := nameForm.FindStringSubmatch(name)
	if m == nil {
		panic(fmt.Sprintf("metrics: %q is no name", name))
	}
	labels = prometheus.Labels{}
	read := 0
	for _, l := range labelForm.FindAllStringSubmatch(m[2], -1) {
		value, err := strconv.Unquote(l[2])
		if err != nil {
			panic(fmt.Sprintf("metrics: label %s of %q: %v", l[1], name, err))
		}
		labels[l[1]] = value
		read += len(l[0])
	}
	if read != len(m[2]) {
		panic(fmt.Sprintf("metrics: %q is no name with labels", name))
	}
	return m[1], labels
}
