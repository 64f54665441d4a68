package tlslink

import (
	"container/list"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
)

// Why a handshake ends early.
var (
	// ErrTimeout: it was not done in time.
	ErrTimeout = errors.New("tlslink: the handshake took too long")
	// ErrFlood: the client sends on and on before it is done.
	ErrFlood = errors.New("tlslink: too much was sent before the end of the handshake")
	// ErrEvicted: too many handshakes, and this one waited longest for its client.
	ErrEvicted = errors.New("tlslink: too many handshakes, the client was the slowest")
	// ErrBusy: too many handshakes run and wait.
	ErrBusy = errors.New("tlslink: too many handshakes")

	errDropped = errors.New("tlslink: the link was dropped")
)

// maxAhead bounds what a client may have sent that the handshake has not read: a
// ClientHello, and behind its Finished the first of its data.
const maxAhead = maxHelloWire + 2*(recordHeader+maxFragment)

// handshake is where the goroutine of a handshake and the link's owner meet.
type handshake struct {
	// Immutable after newHandshake.
	link     *Link
	pool     *Pool
	more     chan struct{} // capacity 1: bytes came
	dead     chan struct{} // closed when err is set from outside
	deadline clock.Timer

	// Owned by the goroutine of the handshake.
	computes bool // it has a place in Pool.computing

	// Guarded by Pool.mu.
	place *list.Element // in Pool.queue or Pool.waiting
	since time.Time     // when it went there

	// Guarded by mu.
	mu   sync.Mutex
	in   []byte // what came, not read yet
	left int    // of in, what is left of the record being read
	out  []byte // what is to be sent
	done bool
	err  error // why it ended, or is to end
}

func newHandshake(l *Link, hello []byte) *handshake {
	return &handshake{
		link: l, pool: l.server.pool, in: append([]byte(nil), hello...),
		more: make(chan struct{}, 1), dead: make(chan struct{}),
	}
}

// feed adds what came. The owner's goroutine.
func (h *handshake) feed(p []byte) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.in)+len(p) > maxAhead {
		return ErrFlood
	}
	h.in = append(h.in, p...)
	select {
	case h.more <- struct{}{}:
	default:
	}
	return nil
}

// collect returns what is to be sent, and whether the handshake is over and how.
// The owner's goroutine.
func (h *handshake) collect() (out []byte, done bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out, h.out = h.out, nil
	return out, h.done, h.err
}

// rest is what the finished handshake did not read: it ends with a record, so
// that is where the data begin.
func (h *handshake) rest() []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.in) == 0 {
		return nil
	}
	return append([]byte(nil), h.in...) // in itself may have room for much more
}

// run does the handshake. It has a goroutine of its own.
func (h *handshake) run() {
	err := h.compute()
	if err == nil {
		err = h.link.conn.Handshake()
	}
	h.yield()
	h.finish(err)
}

// finish notes the result and tells the owner.
func (h *handshake) finish(err error) {
	how := h.link.conn.ConnectionState() // from done on conn is the owner's
	h.mu.Lock()
	if h.err == nil && err != nil {
		h.err = fmt.Errorf("tlslink: %w", err)
	}
	h.done = true
	err = h.err
	h.mu.Unlock()
	h.deadline.Stop()
	h.pool.m.finished(how, err)
	if !errors.Is(err, errDropped) {
		h.link.owner.Wake()
	}
}

// abort lets the handshake fail with err, unless it is over. The result comes as
// that of any other. Any goroutine.
func (h *handshake) abort(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.done || h.err != nil {
		return
	}
	h.err = err
	close(h.dead)
}

// failure is why the handshake is to end, nil if it is not.
func (h *handshake) failure() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}

// read gives the handshake its next bytes, of one whole record and not beyond it,
// so that nothing is left in tls.Conn at the end. While it waits for them it
// leaves its right to compute to others.
func (h *handshake) read(p []byte) (int, error) {
	for {
		n, say, err := h.next(p)
		if n > 0 || err != nil {
			return n, err
		}
		if say {
			h.link.owner.Wake()
		}
		h.yield()
		h.pool.idle(h)
		select {
		case <-h.more:
		case <-h.dead:
		}
		h.pool.unidle(h)
		if err := h.compute(); err != nil {
			return 0, err
		}
	}
}

// next copies what there is to read. say means that the owner is to send first.
func (h *handshake) next(p []byte) (n int, say bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err != nil {
		return 0, false, h.err
	}
	if h.left == 0 {
		h.left = wholeRecord(h.in)
	}
	n = copy(p, h.in[:h.left])
	h.in, h.left = h.in[n:], h.left-n
	return n, len(h.out) > 0, nil
}

// write keeps what is to be sent until the owner takes it, when the handshake
// waits or is over.
func (h *handshake) write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.out = append(h.out, p...)
	return len(p), nil
}

// compute waits for the right to compute.
func (h *handshake) compute() error {
	select {
	case h.pool.computing <- struct{}{}:
		h.computes = true
		return h.failure()
	case <-h.dead:
		return h.failure()
	}
}

// yield gives the right to compute back, if h has it.
func (h *handshake) yield() {
	if h.computes {
		h.computes = false
		<-h.pool.computing
	}
}
