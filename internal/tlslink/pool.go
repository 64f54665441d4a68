package tlslink

import (
	"container/list"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// Options bound what handshakes may take. The zero value of each field is its default.
type Options struct {
	// Timeout is how long a handshake may take from its complete ClientHello on,
	// the wait for its turn included. Default 5 s.
	Timeout time.Duration
	// Compute is how many handshakes compute at the same time. Default: one for two
	// cores, so that those who are there already do not wait for those who come.
	Compute int
	// MaxHandshakes bounds those that have a goroutine: they compute, wait to, or
	// wait for their clients. Each takes some 40 KB. Default 1,024.
	MaxHandshakes int
	// MaxQueued bounds those that wait for a goroutine. Each takes its ClientHello.
	// Default 4,096.
	MaxQueued int
	// Patience is how long a handshake may wait for its client's bytes while others
	// are queued: beyond that it may have to make room. Default 1 s.
	Patience time.Duration

	Clock   clock.Clock  // default: the system's
	Metrics *metrics.Set // default: one that nobody reads
}

func (o *Options) validate() error {
	orDefault(&o.Timeout, 5*time.Second)
	orDefault(&o.Compute, max(1, runtime.GOMAXPROCS(0)/2))
	orDefault(&o.MaxHandshakes, 1024)
	orDefault(&o.MaxQueued, 4096)
	orDefault(&o.Patience, time.Second)
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Timeout", o.Timeout}, {"Patience", o.Patience}} {
		if d.value < time.Millisecond || d.value > time.Hour {
			return fmt.Errorf("tlslink: %s is %v, want 1 ms to 1 h", d.name, d.value)
		}
	}
	for _, n := range []struct {
		name  string
		value int
	}{{"Compute", o.Compute}, {"MaxHandshakes", o.MaxHandshakes}, {"MaxQueued", o.MaxQueued}} {
		if n.value < 1 || n.value > 1<<20 {
			return fmt.Errorf("tlslink: %s is %d, want 1 to %d", n.name, n.value, 1<<20)
		}
	}
	return nil
}

func orDefault[T comparable](v *T, def T) {
	var zero T
	if *v == zero {
		*v = def
	}
}

// Pool bounds the handshakes of all listeners of a node.
//
// The obvious way is a goroutine for each, as many as come. A storm then holds
// ten thousands of them, all compute by turns and none is done in time. Bounding
// the goroutines alone lets as many idle clients as the bound is stop everybody.
// So there are three bounds. Compute: few run at once, each to its end, and one
// that waits for its client does not count. MaxHandshakes: what beyond it arrives
// queues, and to make room for it the handshake is ended that has waited longest
// for its client, if that is longer than Patience; an honest client answers within
// a round trip. MaxQueued: beyond that is refused.
//
// The queue is served oldest first. Once the oldest has used up half its time we
// are overrun, and oldest first would end all of them just before or after their
// time is over: then the newest is first.
type Pool struct {
	// Immutable after NewPool.
	o         Options
	m         *counters
	computing chan struct{} // a place for each that computes
	buffers   sync.Pool     // *buffers

	// Guarded by mu.
	mu      sync.Mutex
	running int
	queue   *list.List // of *handshake without a goroutine, oldest first
	waiting *list.List // of *handshake that wait for their clients, longest first
}

// buffers are what a link needs while it reads. A pool of them is not one for each
// loop: Plain may lead to another link's Resume.
type buffers struct {
	wire  [2 * (recordHeader + maxFragment)]byte
	plain [maxPlain]byte
}

// NewPool returns a pool without handshakes.
func NewPool(o Options) (*Pool, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	p := &Pool{o: o, computing: make(chan struct{}, o.Compute), queue: list.New(), waiting: list.New()}
	p.buffers.New = func() any { return new(buffers) }
	p.m = newCounters(p)
	return p, nil
}

// start gives h a goroutine or a place in the queue.
func (p *Pool) start(h *handshake) error {
	p.mu.Lock()
	if p.running >= p.o.MaxHandshakes && p.queue.Len() >= p.o.MaxQueued {
		p.mu.Unlock()
		return ErrBusy
	}
	// Before anybody else sees h; the timer's call takes no lock that we hold here.
	h.deadline = p.o.Clock.AfterFunc(p.o.Timeout, func() { p.abort(h, ErrTimeout) })
	var slowest *handshake
	if p.running < p.o.MaxHandshakes {
		p.running++
		go p.work(h)
	} else {
		h.since = p.o.Clock.Now()
		h.place = p.queue.PushBack(h)
		slowest = p.slowestLocked(h.since)
	}
	p.mu.Unlock()
	if slowest != nil {
		slowest.abort(ErrEvicted)
	}
	return nil
}

// slowestLocked takes the handshake that has waited longest for its client, if
// that is long enough to lose its place.
func (p *Pool) slowestLocked(now time.Time) *handshake {
	front := p.waiting.Front()
	if front == nil {
		return nil
	}
	h := front.Value.(*handshake)
	if now.Sub(h.since) < p.o.Patience {
		return nil
	}
	p.waiting.Remove(front)
	h.place = nil
	return h
}

// work does h and, on the same goroutine, whoever then is next.
func (p *Pool) work(h *handshake) {
	for h != nil {
		h.run()
		h = p.next()
	}
}

// next takes the next one from the queue. Without one there is a goroutine less.
func (p *Pool) next() *handshake {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.queue.Front()
	if e == nil {
		p.running--
		return nil
	}
	if p.o.Clock.Now().Sub(e.Value.(*handshake).since) > p.o.Timeout/2 {
		e = p.queue.Back()
	}
	h := p.queue.Remove(e).(*handshake)
	h.place = nil
	return h
}

// abort ends h with err, wherever it is. Any goroutine.
func (p *Pool) abort(h *handshake, err error) {
	h.abort(err)
	p.mu.Lock()
	queued := h.place != nil && p.unlinkLocked(p.queue, h)
	p.mu.Unlock()
	if queued { // nobody else will
		h.finish(err)
	}
}

// unlinkLocked removes h from l and reports whether it was there.
func (p *Pool) unlinkLocked(l *list.List, h *handshake) bool {
	before := l.Len()
	l.Remove(h.place)
	if l.Len() == before { // of another list
		return false
	}
	h.place = nil
	return true
}

// idle notes that h waits for its client, unidle that it does not any more.
func (p *Pool) idle(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.since = p.o.Clock.Now()
	h.place = p.waiting.PushBack(h)
}

func (p *Pool) unidle(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h.place != nil {
		p.unlinkLocked(p.waiting, h)
	}
}

// counts returns how many handshakes have a goroutine and how many wait for one.
func (p *Pool) counts() (running, queued int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.running, p.queue.Len()
}
