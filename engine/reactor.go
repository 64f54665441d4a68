package engine

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"
)

// reactor drives a Core by gnet. What it must heed of gnet v2.10.0:
//   - An accept error such as EMFILE ends the engine with all links: Core.Open
//     refuses before that (MaxLinks), and the refused one is closed in OnOpen.
//   - OnTick is one goroutine for all loops, and loops cannot be listed: each is
//     learned from its first connection and driven by Execute.
//   - After a failed Write the connection is closed and its file number may be
//     somebody else's: Core does not touch a link after it was told Closed.
//   - Discard(0) discards everything.
//   - OnClose has a nil error only if we closed, or if the engine ends.
type reactor struct {
	gnet.BuiltinEventEngine

	// Immutable after newReactor.
	core    *Core
	addrs   []netip.AddrPort // of Options.Listeners
	booted  chan struct{}    // closed when every loop listens
	stopped chan error       // gets the end of gnet.Rotate

	// Guarded by mu.
	mu     sync.Mutex
	engine gnet.Engine

	// Atomic.
	drivers atomic.Pointer[[]*driver] // loops seen so far; replaced, never changed
	once    sync.Once
	cause   atomic.Pointer[string] // the last error that gnet logged
}

// tickInterval is how often loops are asked to look at their timers. With the
// wheel's tick a time-out is found within a quarter of a second.
const tickInterval = 100 * time.Millisecond

// readBufferCap is the most that a loop reads from one link at once.
const readBufferCap = 64 << 10

// sendBufferCap bounds what the kernel takes for a client that does not read; by
// itself it would take megabytes. Our frames are small.
const sendBufferCap = 64 << 10

func newReactor(c *Core, addrs []netip.AddrPort) *reactor {
	r := &reactor{core: c, addrs: addrs, booted: make(chan struct{}), stopped: make(chan error, 1)}
	r.drivers.Store(new([]*driver))
	return r
}

// start binds the addresses and returns when every loop accepts on all of them.
func (r *reactor) start(ctx context.Context) error {
	urls := make([]string, len(r.addrs))
	for i, a := range r.addrs {
		urls[i] = network(a) + "://" + a.String()
	}
	go func() {
		r.stopped <- gnet.Rotate(r, urls,
			gnet.WithReusePort(true),
			gnet.WithReuseAddr(true), // links that we closed linger in TIME_WAIT: a restart must not wait for them
			gnet.WithNumEventLoop(len(r.core.loops)),
			gnet.WithTicker(true),
			gnet.WithReadBufferCap(readBufferCap),
			gnet.WithSocketSendBuffer(sendBufferCap),
			gnet.WithLogger(logger{r, r.core.o.Logger}))
	}()
	select {
	case <-r.booted:
		return nil
	case err := <-r.stopped:
		return r.ended(err)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// ended makes an error of gnet's end: it returns nil even if a loop died.
func (r *reactor) ended(err error) error {
	if err == nil {
		if cause := r.cause.Load(); cause != nil {
			return fmt.Errorf("engine: the reactor ended: %s", *cause)
		}
		return fmt.Errorf("engine: the reactor ended")
	}
	return fmt.Errorf("engine: the reactor ended: %w", err)
}

// stop ends gnet; what is still open is closed. The end shows in stopped.
func (r *reactor) stop() {
	r.mu.Lock()
	engine := r.engine
	r.mu.Unlock()
	// Stop asks the engine to end, then waits by polling at half a second; we
	// wait for Run instead.
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = engine.Stop(ctx)
}

// OnBoot implements gnet.EventHandler.
func (r *reactor) OnBoot(e gnet.Engine) gnet.Action {
	r.mu.Lock()
	r.engine = e
	r.mu.Unlock()
	return gnet.None
}

// OnTick implements gnet.EventHandler. gnet calls it first when all loops run.
func (r *reactor) OnTick() (time.Duration, gnet.Action) {
	r.once.Do(func() { close(r.booted) })
	for _, d := range *r.drivers.Load() {
		if d.ticking.CompareAndSwap(false, true) {
			d.Wake()
		}
	}
	return tickInterval, gnet.None
}

// OnOpen implements gnet.EventHandler.
func (r *reactor) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	d := r.driverOf(c)
	lis, ok := r.listenerOf(c)
	if !ok {
		r.core.o.Logger.Error("a connection of no listener of ours was closed", "local", c.LocalAddr())
		return nil, gnet.Close
	}
	if t := newTransport(d.loop, c, lis); t != nil {
		if ok, refusal := t.open(lis, r.core.Now()); !ok {
			return refusal, gnet.Close
		}
		return nil, gnet.None
	}
	s, refusal := d.loop.Open(c, lis, r.core.Now())
	if s == nil {
		return refusal, gnet.Close
	}
	c.SetContext(s)
	return nil, gnet.None
}

// OnTraffic implements gnet.EventHandler.
func (r *reactor) OnTraffic(c gnet.Conn) gnet.Action {
	p, err := c.Peek(-1)
	if err != nil {
		return gnet.Close
	}
	n := 0
	switch link := c.Context().(type) {
	case *Session:
		n = r.driverOf(c).loop.Data(link, p, r.core.Now())
	case *transport:
		n = link.data(p, r.core.Now())
	default:
		return gnet.Close
	}
	if n > 0 {
		_, _ = c.Discard(n)
	}
	return gnet.None
}

// OnClose implements gnet.EventHandler.
func (r *reactor) OnClose(c gnet.Conn, err error) gnet.Action {
	switch link := c.Context().(type) {
	case *Session:
		r.driverOf(c).loop.Closed(link, c, err, r.core.Now())
	case *transport:
		link.closed(err, r.core.Now())
	}
	return gnet.None
}

// listenerOf returns the index of the listener that accepted c: what gnet calls
// the local address is the listener's.
func (r *reactor) listenerOf(c gnet.Conn) (i int, ok bool) {
	if len(r.addrs) == 1 {
		return 0, true
	}
	at := addrPort(c.LocalAddr())
	for i, a := range r.addrs {
		if a.Port() == at.Port() && a.Addr().WithZone("") == at.Addr().WithZone("") {
			return i, true
		}
	}
	return 0, false
}

// driverOf returns the driver of a connection's loop. There are few loops.
func (r *reactor) driverOf(c gnet.Conn) *driver {
	el := c.EventLoop()
	for _, d := range *r.drivers.Load() {
		if d.el == el {
			return d
		}
	}
	return r.learn(c)
}

// learn gives a loop that is seen for the first time, by its connection c, its
// Loop. It runs on that loop, so nobody else learns the same one.
func (r *reactor) learn(c gnet.Conn) *driver {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := *r.drivers.Load()
	d := &driver{core: r.core, loop: r.core.loops[len(known)], el: c.EventLoop(), fields: addressFieldsOf(c)}
	d.loop.Attach(d)
	drivers := append(append([]*driver(nil), known...), d)
	r.drivers.Store(&drivers)
	return d
}

// driver is the Driver of one event loop.
type driver struct {
	// Immutable after learn.
	core   *Core
	loop   *Loop
	el     gnet.EventLoop
	fields addressFields

	// Atomic.
	ticking atomic.Bool // a tick was asked for and has not run
}

// Wake implements Driver. Once the engine has ended there is nobody to wake.
func (d *driver) Wake() { _ = d.el.Execute(context.Background(), d) }

// Run implements gnet.Runnable.
func (d *driver) Run(context.Context) error {
	d.ticking.Store(false)
	if d.loop.Run(d.core.Now()) {
		d.Wake()
	}
	return nil
}

// Close implements Driver.
func (d *driver) Close(c Conn) {
	beforeClose(c)
	_ = d.el.Close(raw(c)) // gnet knows one that is closed already
}

// CloseWrite implements Driver.
func (d *driver) CloseWrite(c Conn) { _ = unix.Shutdown(raw(c).Fd(), unix.SHUT_WR) }

// Unread implements Driver.
func (d *driver) Unread(c Conn) bool { return unread(raw(c).Fd()) }

// ForgetAddr implements Driver.
func (d *driver) ForgetAddr(c Conn) {
	d.fields.forget(raw(c))
	if t, ok := c.(*transport); ok {
		t.forgetAddr()
	}
}

// raw is the connection of gnet behind c.
func raw(c Conn) gnet.Conn { return rawOf(c).(gnet.Conn) }

// unread reports whether the kernel has bytes for us; a FIN is none.
func unread(fd int) bool {
	n, err := unix.IoctlGetInt(fd, unix.TIOCINQ)
	return err == nil && n > 0
}

// logger carries gnet's log to ours. Its remarks on clients are for debugging.
type logger struct {
	r   *reactor
	log *slog.Logger
}

func (l logger) Debugf(format string, args ...any) { l.write(slog.LevelDebug, format, args) }
func (l logger) Infof(format string, args ...any)  { l.write(slog.LevelDebug, format, args) }
func (l logger) Warnf(format string, args ...any)  { l.write(slog.LevelDebug, format, args) }
func (l logger) Fatalf(format string, args ...any) { l.Errorf(format, args...) }

func (l logger) Errorf(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	l.r.cause.Store(&text)
	l.log.Error("reactor", "text", text)
}

func (l logger) write(level slog.Level, format string, args []any) {
	if l.log.Enabled(context.Background(), level) {
		l.log.Log(context.Background(), level, "reactor", "text", fmt.Sprintf(format, args...))
	}
}
