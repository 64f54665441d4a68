package engine

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// Engine is a Core behind real listeners.
type Engine struct {
	// Immutable after New.
	core    *Core
	stopped chan error

	// Guarded by mu.
	mu        sync.Mutex
	reactor   *reactor         // nil before Start and without a listener
	addrs     []netip.AddrPort // of the listeners, in the order of Options
	endWatch  func()
	shutdown  bool
	watchDone chan struct{} // closed when nobody waits for the reactor any more
}

// Stats is a snapshot of the engine.
type Stats struct {
	Links map[string]int // by protocol that a listener has
	Loops int
}

// ErrStarted tells of a second Start.
var ErrStarted = errors.New("engine: already started")

// New returns an engine that does not listen yet.
func New(o Options) (*Engine, error) {
	core, err := NewCore(o)
	if err != nil {
		return nil, err
	}
	return &Engine{core: core, stopped: make(chan error, 1)}, nil
}

// portTries is how often a free port is looked for: somebody may take it between
// the probe and our binding.
const portTries = 5

// Start binds the listeners and returns when all loops accept. It fails if
// anybody listens on one of the addresses, a rollcall too.
func (e *Engine) Start() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.endWatch != nil || e.shutdown {
		return ErrStarted
	}
	// Before the first login, so that no notice is lost.
	endWatch := e.core.o.Directory.Watch(e.core.o.Node, e.core)
	if len(e.core.o.Listeners) > 0 {
		if err := e.listenLocked(); err != nil {
			endWatch()
			return err
		}
	}
	e.endWatch = endWatch
	return nil
}

func (e *Engine) listenLocked() error {
	var want []netip.AddrPort
	chosen := true // no address leaves the port to us
	for i := range e.core.o.Listeners {
		a, err := resolve(e.core.o.Listeners[i].Address)
		if err != nil {
			return err
		}
		want = append(want, a)
		chosen = chosen && a.Port() != 0
	}
	for try := 1; ; try++ {
		err := e.bindLocked(want)
		if err == nil || chosen || try == portTries {
			return err
		}
	}
}

func (e *Engine) bindLocked(want []netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for _, a := range want {
		defer lockBind(ctx, a.Port(), e.core.o.Logger)()
	}
	addrs, err := probe(want)
	if err != nil {
		return err
	}
	r := newReactor(e.core, addrs)
	if err := r.start(ctx); err != nil {
		return fmt.Errorf("engine: cannot listen on %s: %w", addrs, err)
	}
	e.reactor, e.addrs, e.watchDone = r, addrs, make(chan struct{})
	go e.watchReactor(r)
	return nil
}

const startTimeout = 10 * time.Second

// watchReactor tells of an end that nobody asked for.
func (e *Engine) watchReactor(r *reactor) {
	defer close(e.watchDone)
	err := r.ended(<-r.stopped)
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.shutdown {
		e.stopped <- err
	}
}

// Addr is the address that the listener of that name is bound to, "" if there is
// none.
func (e *Engine) Addr(name string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i := range e.addrs {
		if e.core.o.Listeners[i].Name == name {
			return e.addrs[i].String()
		}
	}
	return ""
}

// Stopped gets an error if the reactor ends without Shutdown: all links are
// gone, the process should exit.
func (e *Engine) Stopped() <-chan error { return e.stopped }

// Stats returns how many links there are.
func (e *Engine) Stats() Stats {
	links := map[string]int{}
	for i := range e.core.o.Listeners {
		p := e.core.o.Listeners[i].Protocol
		links[p.String()] = e.core.LinksOf(p)
	}
	return Stats{Links: links, Loops: e.core.o.Loops}
}

// Refusals counts the links that limits have refused, by the label of rollcall_refused_total. A stop is no limit.
func (e *Engine) Refusals() map[string]uint64 {
	counts := make(map[string]uint64, numRefusedReasons)
	for r, c := range e.core.m.refused {
		if r := refusedReason(r); r != notRefused && r != refusedDraining {
			counts[refusedReasonNames[r]] = c.Get()
		}
	}
	return counts
}

// SetMemoryFull tells whether memory is too full for new links: they are refused
// until it is not.
func (e *Engine) SetMemoryFull(full bool) { e.core.SetMemoryFull(full) }

// Shutdown refuses new links, tells every client that the server goes down and
// that it may reconnect, waits until they are gone or ctx ends, and ends the
// loops. No Leave is issued for these links: a stop is no disconnect. It is
// idempotent; the error is ctx's if links had to be cut.
func (e *Engine) Shutdown(ctx context.Context) error {
	e.mu.Lock()
	first := !e.shutdown
	e.shutdown = true
	r, done, endWatch := e.reactor, e.watchDone, e.endWatch
	e.mu.Unlock()
	if r == nil {
		if first && endWatch != nil {
			endWatch()
		}
		return nil
	}
	var err error
	if first {
		err = e.drain(ctx)
		endWatch()
		r.stop()
	}
	<-done
	return err
}

// drain waits until the last link is gone. A draining link ends within
// DrainTimeout, one that is logging out within LeaveTimeout.
func (e *Engine) drain(ctx context.Context) error {
	e.core.Drain()
	select {
	case <-e.core.Empty():
		return nil
	case <-ctx.Done():
		return fmt.Errorf("engine: %d links cut off at shutdown: %w", e.core.Links(), ctx.Err())
	}
}
