package tlslink

import (
	"crypto/tls"
	"errors"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// errRecord: a record of a link that is up could not be read. TLS has told the client why.
var errRecord = errors.New("tlslink: bad record")

// failures are the errors by which links end early, and their names in metrics.
var failures = []struct {
	err    error
	reason string
}{
	{ErrNotTLS, "not_tls"},
	{ErrHelloSize, "hello_size"},
	{ErrBusy, "busy"},
	{ErrEvicted, "evicted"},
	{ErrTimeout, "timeout"},
	{ErrFlood, "flood"},
	{errDropped, "lost"},
	{errRecord, "record"},
}

// failProtocol is any other: no common version or suite, an alert of the client,
// bytes that are no handshake.
const failProtocol = "protocol"

type counters struct {
	done   map[[2]bool]*metrics.Counter // by TLS 1.3, resumed
	failed map[string]*metrics.Counter
}

func newCounters(p *Pool) *counters {
	set := p.o.Metrics
	c := &counters{done: map[[2]bool]*metrics.Counter{}, failed: map[string]*metrics.Counter{}}
	for _, v := range []struct {
		is13  bool
		label string
	}{{false, "1.2"}, {true, "1.3"}} {
		c.done[[2]bool{v.is13, false}] = set.Counter(`rollcall_tls_handshakes_total{version="` + v.label + `",kind="full"}`)
		c.done[[2]bool{v.is13, true}] = set.Counter(`rollcall_tls_handshakes_total{version="` + v.label + `",kind="resumed"}`)
	}
	for _, f := range failures {
		c.failed[f.reason] = set.Counter(`rollcall_tls_failures_total{reason="` + f.reason + `"}`)
	}
	c.failed[failProtocol] = set.Counter(`rollcall_tls_failures_total{reason="` + failProtocol + `"}`)
	set.Gauge("rollcall_tls_handshakes", func() float64 { n, _ := p.counts(); return float64(n) })
	set.Gauge("rollcall_tls_handshakes_queued", func() float64 { _, n := p.counts(); return float64(n) })
	return c
}

// finished counts a handshake that got as far as the pool.
func (c *counters) finished(how tls.ConnectionState, err error) {
	if err != nil {
		c.fail(err)
		return
	}
	c.done[[2]bool{how.Version == tls.VersionTLS13, how.DidResume}].Inc()
}

func (c *counters) fail(err error) {
	for _, f := range failures {
		if errors.Is(err, f.err) {
			c.failed[f.reason].Inc()
			return
		}
	}
	c.failed[failProtocol].Inc()
}
