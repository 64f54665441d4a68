package webhook

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// lockWatch notes what is logged and closed, and what of it with Dispatcher.mu held.
type lockWatch struct {
	slog.Handler
	d atomic.Pointer[Dispatcher]

	mu    sync.Mutex
	done  map[string]int
	under []string
}

func newLockWatch() *lockWatch {
	return &lockWatch{Handler: slog.DiscardHandler, done: map[string]int{}}
}

func (w *lockWatch) note(what string) {
	free := w.free()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[what]++
	if !free {
		w.under = append(w.under, what)
	}
}

// free reports whether the lock can be had: by others it is held for a moment only.
func (w *lockWatch) free() bool {
	d := w.d.Load()
	for range 100_000 {
		if d.mu.TryLock() {
			d.mu.Unlock()
			return true
		}
		runtime.Gosched()
	}
	return false
}

// Enabled implements slog.Handler.
func (w *lockWatch) Enabled(context.Context, slog.Level) bool { return true }

// Handle implements slog.Handler.
func (w *lockWatch) Handle(_ context.Context, r slog.Record) error {
	w.note(r.Message)
	return nil
}

// watchedConn notes its end.
type watchedConn struct {
	net.Conn
	w *lockWatch
}

// Close implements net.Conn.
func (c watchedConn) Close() error {
	c.w.note("close")
	return c.Conn.Close()
}

// TestNoWorkUnderTheLock: event loops take the Dispatcher's lock, so nothing is
// logged and no connection is closed while it is held.
func TestNoWorkUnderTheLock(t *testing.T) {
	virtual(t, func(t *testing.T) {
		watch := newLockWatch()
		r := newRig(t, func(o *Options) {
			o.MaxInFlight, o.Logger = 2, slog.New(watch)
			dial := o.Network.Dial
			o.Network.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
				c, err := dial(ctx, a)
				return watchedConn{c, watch}, err
			}
		})
		watch.d.Store(r.d)
		var well atomic.Bool
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, _ *http.Request) {
			if !well.Load() {
				w.WriteHeader(500)
				return
			}
			io.WriteString(w, answerOK)
		})
		r.apps.put(1, "http://hook.example/", nil)
		r.d.Transitions(logins(1, 20))
		r.waitFor(time.Minute, "open circuit", func() bool { return r.d.Stats().CircuitsOpen == 1 })
		well.Store(true)
		r.waitEmpty(10 * time.Minute)
		r.apps.put(1, "http://hook.example/new", nil) // with a connection of the old URL idle
		r.d.Transitions(logins(1, 1))
		synctest.Wait()
		r.apps.put(2, "http://10.0.0.1/", nil)
		r.d.Transitions(logins(2, 1))
		for app := uint32(3); app <= 12; app++ { // more than may stay idle
			r.apps.put(app, fmt.Sprint("http://hook.example/", app), nil)
			r.d.Transitions(logins(app, 1))
			synctest.Wait()
		}
		watch.mu.Lock()
		defer watch.mu.Unlock()
		for _, what := range []string{
			"webhook receiver fails; holding back", "webhook receiver answers again", "webhook URL cannot be used; events wait for another until they are given up", "close",
		} {
			if watch.done[what] == 0 {
				t.Errorf("%q did not happen: %v", what, watch.done)
			}
		}
		if len(watch.under) > 0 {
			t.Errorf("under the lock: %q", watch.under)
		}
	})
}

// gateOutbox tells of each Append.
type gateOutbox struct {
	Outbox
	appended chan struct{}
}

// Append implements Outbox.
func (o gateOutbox) Append(events []Event, nowMS int64) (Shed, error) {
	o.appended <- struct{}{}
	return o.Outbox.Append(events, nowMS)
}

// TestTransitionsWithoutTheLock: a login of an app without a receiver, or of a
// Dispatcher that stops, never waits for the Dispatcher's lock; one of an app
// with a receiver not before its events are in the outbox, whatever their number.
func TestTransitionsWithoutTheLock(t *testing.T) {
	box := gateOutbox{newMemory(t, MemoryOptions{}), make(chan struct{}, 1)}
	r := newRig(t, func(o *Options) { o.Outbox = box })
	r.apps.put(1, "http://nowhere.example/", nil)
	r.apps.put(2, "", nil)
	within := func(what string, done <-chan struct{}) {
		t.Helper()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			r.d.mu.Unlock()
			t.Fatalf("%s waits for the lock", what)
		}
	}
	run := func(ts []presence.Transition) <-chan struct{} {
		done := make(chan struct{})
		go func() { defer close(done); r.d.Transitions(ts) }()
		return done
	}
	r.d.mu.Lock()
	within("a batch of an app without URL", run(logins(2, 3)))
	whole := run(logins(1, 3))
	within("taking the events of an app with URL", box.appended)
	r.d.mu.Unlock()
	<-whole
	r.stop()
	r.d.mu.Lock()
	within("a batch after the stop", run(logins(1, 3)))
	r.d.mu.Unlock()
}

// TestTransitionsAllocateNothing: what is not told costs no memory.
func TestTransitionsAllocateNothing(t *testing.T) {
	r := newRig(t, nil)
	r.apps.put(1, "", nil)
	silent := login(3, "u", 0)
	ts := append(logins(1, 3), login(2, "u", 1), silent)
	if n := testing.AllocsPerRun(1000, func() { r.d.Transitions(ts) }); n != 0 {
		t.Errorf("%v allocations for a batch that nobody is told of, want 0", n)
	}
}
