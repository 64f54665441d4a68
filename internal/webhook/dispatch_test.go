package webhook

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// hang never answers; it ends when the other side closes.
func hang(w http.ResponseWriter, _ *http.Request) {
	raw := w.(*rawWriter)
	raw.broken = true
	io.Copy(io.Discard, raw.conn)
}

// logins is one Login event each of n users of app.
func logins(app uint32, n int) []presence.Transition {
	ts := make([]presence.Transition, n)
	for i := range ts {
		ts[i] = login(app, fmt.Sprint("user", i), 1)
	}
	return ts
}

// TestHangDelaysNobody: a receiver that never answers costs Transitions no time
// and other apps none either, and its own backlog stays where it is.
func TestHangDelaysNobody(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.net.handle("dead.example", "192.0.2.1:80", hang)
		r.net.handle("live.example", "192.0.2.2:80", ok)
		r.apps.put(1, "http://dead.example/", nil)
		r.apps.put(2, "http://live.example/", nil)
		begin := time.Now()
		for range 3 {
			r.d.Transitions(logins(1, 1000))
			r.d.Transitions(logins(2, 50))
			synctest.Wait()
		}
		if took := time.Since(begin); took != 0 {
			t.Errorf("Transitions took %v of virtual time", took)
		}
		if n := r.count(resultDelivered); n != 150 {
			t.Errorf("%d events of the live app delivered, want 150", n)
		}
		time.Sleep(10 * time.Minute)
		if n, limit := r.attempts(outcomeTimeout), uint64(100); n == 0 || n > limit {
			t.Errorf("%d attempts at a dead receiver in 10 minutes, want 1 to %d", n, limit)
		}
		if n := r.d.Stats(); n.Outbox.Events != 3000 || n.CircuitsOpen != 1 {
			t.Errorf("state %+v, want 3000 events and an open circuit", n)
		}
		r.apps.put(1, "", nil)
		r.waitEmpty(5 * time.Second)
		if n := r.count(resultNoURL); n != 3000 {
			t.Errorf("%d events dropped for want of a URL, want 3000", n)
		}
		r.stop()
	})
}

// TestPoisonEvent: an event that the receiver chokes on holds up its own user only.
func TestPoisonEvent(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			if body, _ := io.ReadAll(req.Body); strings.Contains(string(body), `"poison"`) {
				w.WriteHeader(500)
				return
			}
			ok(w, req)
		})
		r.apps.put(1, "http://hook.example/", nil)
		r.d.Transitions([]presence.Transition{login(1, "poison", 1), login(1, "poison", 2)})
		time.Sleep(time.Hour) // only the poison is retried, many times
		if n := r.attempts(outcomeStatus); n < openAfter {
			t.Fatalf("%d attempts at the poison, want more than the circuit allows", n)
		}
		r.d.Transitions(logins(1, 20))
		synctest.Wait()
		if n := r.count(resultDelivered); n != 20 {
			t.Errorf("%d events of other users delivered at once, want 20", n)
		}
		if s := r.d.Stats(); s.Outbox.Events != 2 {
			t.Errorf("%d events left, want the 2 of the poisoned user", s.Outbox.Events)
		}
		r.stop()
	})
}

// TestInFlightBounds: never more attempts at once than allowed, per endpoint and
// in all, and with enough to do exactly as many.
func TestInFlightBounds(t *testing.T) {
	virtual(t, func(t *testing.T) {
		const perEndpoint, total, nApps = 6, 15, 5
		r := newRig(t, func(o *Options) { o.MaxPerEndpoint, o.MaxInFlight = perEndpoint, total })
		var all, allMax atomic.Int64
		peak := make([]atomic.Int64, nApps)
		for i := range nApps {
			var mine atomic.Int64
			r.net.handle(fmt.Sprintf("h%d.example", i), fmt.Sprintf("192.0.2.%d:80", i+1), func(w http.ResponseWriter, req *http.Request) {
				storeMax(&peak[i], mine.Add(1))
				storeMax(&allMax, all.Add(1))
				time.Sleep(100 * time.Millisecond)
				mine.Add(-1)
				all.Add(-1)
				ok(w, req)
			})
			r.apps.put(uint32(i+1), fmt.Sprintf("http://h%d.example/", i), nil)
		}
		r.d.Transitions(logins(1, 60)) // alone: its own bound
		r.waitEmpty(time.Minute)
		if n := peak[0].Load(); n != perEndpoint {
			t.Errorf("one busy endpoint had %d attempts at once, want %d", n, perEndpoint)
		}
		for i := range nApps {
			r.d.Transitions(logins(uint32(i+1), 200))
		}
		r.waitEmpty(time.Minute)
		if n := allMax.Load(); n != total {
			t.Errorf("%d attempts at once in all, want %d", n, total)
		}
		for i := range peak {
			if n := peak[i].Load(); n > perEndpoint || n < 1 {
				t.Errorf("endpoint %d had %d attempts at once, want 1 to %d", i, n, perEndpoint)
			}
		}
		r.stop()
	})
}

func storeMax(m *atomic.Int64, v int64) {
	for {
		old := m.Load()
		if v <= old || m.CompareAndSwap(old, v) {
			return
		}
	}
}

// TestFairShare: with fewer places than endpoints that want them, each still gets its turn.
func TestFairShare(t *testing.T) {
	virtual(t, func(t *testing.T) {
		const nApps = 10
		r := newRig(t, func(o *Options) { o.MaxInFlight = 2 })
		var done [nApps]atomic.Int64
		for i := range nApps {
			r.net.handle(fmt.Sprintf("h%d.example", i), fmt.Sprintf("192.0.2.%d:80", i+1), func(w http.ResponseWriter, req *http.Request) {
				time.Sleep(10 * time.Millisecond)
				done[i].Add(1)
				ok(w, req)
			})
			r.apps.put(uint32(i+1), fmt.Sprintf("http://h%d.example/", i), nil)
			r.d.Transitions(logins(uint32(i+1), 500))
		}
		time.Sleep(5 * time.Second) // 1000 attempts
		for i := range done {
			if n := done[i].Load(); n < 90 || n > 110 {
				t.Errorf("app %d got %d of 1000 attempts, want about 100", i+1, n)
			}
		}
		r.waitEmpty(time.Minute)
		r.stop()
	})
}

// TestDeadEndpointsLeaveRoom: more hanging receivers than places in all do not keep a live one waiting.
func TestDeadEndpointsLeaveRoom(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.MaxInFlight = 16 })
		r.net.handle("dead.example", "192.0.2.1:80", hang)
		r.net.handle("live.example", "192.0.2.2:80", ok)
		for app := uint32(1); app <= 40; app++ {
			r.apps.put(app, "http://dead.example/", nil)
			r.d.Transitions(logins(app, 100))
		}
		r.apps.put(100, "http://live.example/", nil)
		time.Sleep(5 * time.Minute) // by now every circuit is open
		for range 20 {
			r.d.Transitions(logins(100, 10))
			synctest.Wait()
			if n := r.d.Stats().Outbox.Events; n != 4000 {
				t.Fatalf("%d events wait, want the 4000 of the dead receivers only", n)
			}
			time.Sleep(time.Second)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		r.d.Close(ctx)
		r.net.close()
	})
}

// TestGiveUp: an event older than the app's give-up age goes to the dead
// letters, and the user's next one is told.
func TestGiveUp(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		var well atomic.Bool
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			if !well.Load() {
				w.WriteHeader(500)
				return
			}
			ok(w, req)
		})
		r.apps.put(1, "http://hook.example/", func(w *directory.Webhook) { w.GiveUpMS = 3600_000 })
		begin := time.Now()
		r.d.Transitions([]presence.Transition{login(1, "u", 1)})
		time.Sleep(30 * time.Minute)
		r.d.Transitions([]presence.Transition{login(1, "u", 2)})
		r.waitFor(time.Hour, "dead letter", func() bool { return r.count(resultGaveUp) == 1 })
		if age := time.Since(begin); age < time.Hour || age > time.Hour+time.Second {
			t.Errorf("gave up after %v, want an hour", age)
		}
		dead := r.d.DeadLetters(1, 0, 10)
		if len(dead) != 1 || dead[0].Event.Seq != 1 || dead[0].Cause != CauseGaveUp || dead[0].Event.Attempts < 10 {
			t.Errorf("dead letters %+v, want event 1 after many attempts", dead)
		}
		well.Store(true)
		r.waitEmpty(10 * time.Minute)
		if n := r.count(resultDelivered); n != 1 {
			t.Errorf("%d delivered, want the second event", n)
		}
		r.stop()
	})
}

// TestManualClock: with an injected clock, retries and give-up follow that clock alone.
func TestManualClock(t *testing.T) {
	virtual(t, func(t *testing.T) {
		c := clock.NewManual(time.UnixMilli(1629883332497))
		r := newRig(t, func(o *Options) { o.Clock = c })
		r.apps.put(1, "http://nowhere.example/", nil)
		r.d.Transitions([]presence.Transition{login(1, "u", 1)})
		synctest.Wait()
		time.Sleep(time.Hour) // the machine's clock does not count
		if n := r.attempts(outcomeConnect); n != 1 {
			t.Errorf("%d attempts with the clock standing still, want 1", n)
		}
		for range 24 * 60 {
			c.Advance(time.Minute)
			synctest.Wait()
		}
		if n := r.count(resultGaveUp); n != 1 {
			t.Errorf("%d given up after 24 h, want 1", n)
		}
		r.stop()
	})
}

// TestRetryAfter: a receiver that asks for time gets it, for all its lanes, up to a bound.
func TestRetryAfter(t *testing.T) {
	for _, c := range []struct {
		value    func() string
		min, max time.Duration
	}{
		{func() string { return "120" }, 120 * time.Second, 121 * time.Second},
		{func() string { return time.Now().Add(90 * time.Second).UTC().Format(http.TimeFormat) }, 89 * time.Second, 91 * time.Second},
		{func() string { return "999999999" }, 10 * time.Minute, 10*time.Minute + time.Second},
		{func() string { return "soon" }, 0, 2 * time.Second},
		{func() string { return "-5" }, 0, 2 * time.Second},
	} {
		virtual(t, func(t *testing.T) {
			r := newRig(t, nil)
			var calls []time.Time
			var mu sync.Mutex
			value := c.value()
			r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				calls = append(calls, time.Now())
				if len(calls) == 1 {
					w.Header().Set("Retry-After", value)
					w.WriteHeader(503)
					return
				}
				ok(w, req)
			})
			r.apps.put(1, "http://hook.example/", nil)
			r.d.Transitions(logins(1, 1))
			synctest.Wait()
			r.d.Transitions([]presence.Transition{login(1, "another", 1)})
			r.waitEmpty(time.Hour)
			r.stop()
			if wait := calls[1].Sub(calls[0]); len(calls) != 3 || c.min > 0 && (wait < c.min || wait > c.max) {
				t.Errorf("Retry-After %q: %d calls, the second after %v, want 3 and %v to %v", value, len(calls), wait, c.min, c.max)
			}
			if wait := calls[2].Sub(calls[0]); wait > c.max {
				t.Errorf("Retry-After %q: last call after %v, want at most %v", value, wait, c.max)
			}
		})
	}
}

// TestSettingsChange: a new URL is used within a second or two, also when the
// old one's circuit is open and its lanes wait for minutes.
func TestSettingsChange(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.net.handle("old.example", "192.0.2.1:80", hang)
		r.net.handle("new.example", "192.0.2.2:80", ok)
		r.apps.put(1, "http://old.example/", nil)
		r.d.Transitions(logins(1, 100))
		time.Sleep(time.Hour)
		app := r.apps.put(1, "http://new.example/", nil)
		r.waitEmpty(4 * time.Second)
		if n := r.count(resultDelivered); n != 100 {
			t.Errorf("%d delivered at the new URL, want 100", n)
		}
		r.apps.put(1, "http://old.example/", nil)
		r.d.Transitions(logins(1, 100))
		time.Sleep(time.Hour)
		begin := time.Now()
		app = r.apps.put(1, app.Webhook.URL, nil)
		r.d.AppChanged(app)
		r.waitEmpty(3 * time.Second) // an attempt that hangs ends first
		if took := time.Since(begin); took > 2100*time.Millisecond {
			t.Errorf("AppChanged took %v to have effect", took)
		}
		r.stop()
	})
}

// TestOnlyEvents: transitions without an EventSeq are not told, those of apps
// without a receiver are dropped and counted.
func TestOnlyEvents(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.net.handle("hook.example", "192.0.2.1:80", ok)
		r.apps.put(1, "http://hook.example/", nil)
		r.apps.put(2, "", nil)
		kicked := login(1, "u", 0)
		kicked.Action = presence.ActionKicked
		r.d.Transitions([]presence.Transition{kicked, login(1, "u", 1), login(2, "u", 1), login(3, "u", 1)})
		r.d.Transitions(nil)
		r.waitEmpty(time.Minute)
		if d, n := r.count(resultDelivered), r.count(resultNoURL); d != 1 || n != 2 {
			t.Errorf("%d delivered and %d without URL, want 1 and 2", d, n)
		}
		r.stop()
		r.d.Transitions([]presence.Transition{login(1, "u", 2)})
		if n := r.count(resultClosed); n != 1 {
			t.Errorf("%d events after Close counted, want 1", n)
		}
	})
}

// TestClose: what is runnable and in flight is delivered, what waits is left.
func TestClose(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.net.handle("slow.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			time.Sleep(time.Second)
			ok(w, req)
		})
		r.apps.put(1, "http://slow.example/", nil)
		r.apps.put(2, "http://nowhere.example/", nil)
		r.d.Transitions(logins(1, 50))
		r.d.Transitions(logins(2, 1))
		r.stop()
		if n := r.count(resultDelivered); n != 50 {
			t.Errorf("%d delivered before Close returned, want 50", n)
		}
		if n := r.d.Stats().Outbox.Events; n != 1 {
			t.Errorf("%d events left, want the one that waits for its next attempt", n)
		}
		r.stop() // again
	})
}

// TestConcurrent: many goroutines, many apps, under the race detector.
func TestConcurrent(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, func(o *Options) { o.MaxInFlight, o.MaxEvents = 20, 1_000_000 })
		l := newLedger()
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			l.ack(l.see(req))
			ok(w, req)
		})
		want, mu := map[string]uint64{}, sync.Mutex{}
		var wg sync.WaitGroup
		for g := range 8 {
			app := uint32(g%3 + 1)
			r.apps.put(app, "http://hook.example/", nil)
			wg.Go(func() {
				for seq := uint64(1); seq <= 40; seq++ {
					var batch []presence.Transition
					for u := range 4 {
						batch = append(batch, login(app, fmt.Sprintf("g%du%d", g, u), seq))
					}
					r.d.Transitions(batch)
				}
				mu.Lock()
				defer mu.Unlock()
				for u := range 4 {
					want[fmt.Sprintf("g%du%d", g, u)] = 40
				}
			})
		}
		wg.Wait()
		r.waitEmpty(time.Minute)
		r.stop()
		l.check(t, want)
		if l.seen() != 8*40*4 {
			t.Errorf("%d calls for %d events", l.seen(), 8*40*4)
		}
	})
}

// TestKeepAlive: one user's events in a row take one connection; one that the
// receiver closed while idle costs no failure.
func TestKeepAlive(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.net.handle("hook.example", "192.0.2.1:80", ok)
		r.apps.put(1, "http://hook.example/", nil)
		for seq := uint64(1); seq <= 20; seq++ {
			r.d.Transitions([]presence.Transition{login(1, "u", seq)})
			synctest.Wait()
		}
		if n := r.net.dials(); n != 1 {
			t.Errorf("%d connections for 20 events in a row, want 1", n)
		}
		for _, c := range r.net.conns {
			c.Close()
		}
		r.d.Transitions([]presence.Transition{login(1, "u", 21)})
		synctest.Wait()
		if n := r.count(resultDelivered); n != 21 {
			t.Errorf("%d delivered, want 21 with the stale connection replaced at once", n)
		}
		time.Sleep(2 * idleConn)
		if n := r.d.Stats().Connections; n != 0 {
			t.Errorf("%d connections open long after the last event, want 0", n)
		}
		r.stop()
	})
}

// TestRefusedOnDial: the address a name resolves to is judged, at each dial; a
// refused one is never connected to.
func TestRefusedOnDial(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.net.handle("good.example", "192.0.2.1:80", ok)
		r.net.handle("evil.example", "10.0.0.1:80", ok)
		r.net.names["mixed.example"] = []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.1")}
		r.apps.put(1, "http://evil.example/", nil)
		r.apps.put(2, "http://mixed.example/", nil)
		r.apps.put(3, "http://169.254.169.254/", nil)
		for app := uint32(1); app <= 3; app++ {
			r.d.Transitions(logins(app, 1))
		}
		r.waitFor(time.Minute, "refusals", func() bool { return r.attempts(outcomeRefused) >= 2 && r.attempts(outcomeURL) >= 2 })
		for _, a := range r.net.dialed {
			if a.Addr() != netip.MustParseAddr("192.0.2.1") {
				t.Errorf("dialled %v", a)
			}
		}
		if n := r.count(resultDelivered); n != 1 {
			t.Errorf("%d delivered, want the one whose name has a public address too", n)
		}
		r.stop()
	})
}

// TestTLS: https works with the machine's rules for certificates.
func TestTLS(t *testing.T) {
	virtual(t, func(t *testing.T) {
		cert, roots := selfSigned(t, "hook.example")
		r := newRig(t, func(o *Options) { o.Network.TLS = roots })
		r.net.listen("hook.example", "192.0.2.1:443", func(c net.Conn) { serveTLS(c, cert, ok) })
		r.net.listen("other.example", "192.0.2.2:443", func(c net.Conn) { serveTLS(c, cert, ok) })
		r.apps.put(1, "https://hook.example/", nil)
		r.apps.put(2, "https://other.example/", nil) // the certificate is for another name
		r.d.Transitions(logins(1, 3))
		r.d.Transitions(logins(2, 1))
		r.waitFor(time.Minute, "deliveries", func() bool { return r.count(resultDelivered) == 3 && r.attempts(outcomeConnect) > 0 })
		r.stop()
	})
}

// lateOutbox runs late once, just after a Claim found nothing.
type lateOutbox struct {
	Outbox
	late atomic.Pointer[func()]
}

func (o *lateOutbox) Claim(app uint32, nowMS int64, max int) ([]Event, bool) {
	batch, more := o.Outbox.Claim(app, nowMS, max)
	if f := o.late.Load(); len(batch) == 0 && f != nil && o.late.CompareAndSwap(f, nil) {
		(*f)()
	}
	return batch, more
}

// TestNoLostWake: an event that comes between a worker's last look and its end is not left lying.
func TestNoLostWake(t *testing.T) {
	virtual(t, func(t *testing.T) {
		m, err := NewMemory(MemoryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		box := &lateOutbox{Outbox: m}
		r := newRig(t, func(o *Options) { o.Outbox, o.MaxPerEndpoint = box, 1 })
		r.net.handle("hook.example", "192.0.2.1:80", ok)
		r.apps.put(1, "http://hook.example/", nil)
		late := func() { r.d.Transitions([]presence.Transition{login(1, "late", 1)}) }
		box.late.Store(&late)
		r.d.Transitions([]presence.Transition{login(1, "early", 1)})
		synctest.Wait()
		if n := r.count(resultDelivered); n != 2 {
			t.Errorf("%d delivered, want both", n)
		}
		r.stop()
	})
}

// TestOutboxFound: a dispatcher delivers what an earlier life left in its outbox.
func TestOutboxFound(t *testing.T) {
	virtual(t, func(t *testing.T) {
		m := newMemory(t, MemoryOptions{})
		old := login(1, "u", 9)
		m.add(t, newEvent(&old, 3, time.Now().UnixMilli()))
		r := newRig(t, func(o *Options) {
			o.Outbox = m
			set := newApps()
			set.put(1, "http://hook.example/", nil)
			o.App = set.get
		})
		r.net.handle("hook.example", "192.0.2.1:80", ok)
		r.waitEmpty(5 * time.Second) // the first attempt may have been too early for the fake network
		r.stop()
		if n := r.count(resultDelivered); n != 1 {
			t.Errorf("%d delivered, want 1", n)
		}
	})
}

// TestConnectionBound: the idle connections of many endpoints do not pile up.
func TestConnectionBound(t *testing.T) {
	virtual(t, func(t *testing.T) {
		const inFlight, nApps = 5, 40
		r := newRig(t, func(o *Options) { o.MaxInFlight = inFlight })
		most := 0
		for i := range nApps {
			r.net.handle(fmt.Sprintf("h%d.example", i), fmt.Sprintf("192.0.2.%d:80", i+1), ok)
			r.apps.put(uint32(i+1), fmt.Sprintf("http://h%d.example/", i), nil)
			r.d.Transitions(logins(uint32(i+1), 3))
			synctest.Wait()
			most = max(most, r.d.Stats().Connections)
		}
		if n := r.count(resultDelivered); n != 3*nApps || most > connsPerAttempt*inFlight || most < inFlight {
			t.Errorf("%d delivered over up to %d connections at once, want %d over at most %d", n, most, 3*nApps, connsPerAttempt*inFlight)
		}
		r.stop()
	})
}

// BenchmarkTransitions is what a decision pays for its event: rendering, the
// outbox, waking a worker. The receiver hangs, so the outbox is full.
func BenchmarkTransitions(b *testing.B) {
	for _, url := range []string{"", "http://127.0.0.1:9/"} {
		b.Run(fmt.Sprintf("url=%q", url), func(b *testing.B) {
			set := newApps()
			set.put(1, url, nil)
			refuse := func(context.Context, netip.AddrPort) (net.Conn, error) { return nil, errors.New("refused") }
			d, err := New(Options{App: set.get, Network: Network{Dial: refuse}, AllowLoopback: true})
			if err != nil {
				b.Fatal(err)
			}
			ts := make([]presence.Transition, 1)
			users := logins(1, 1000)
			b.ReportAllocs()
			for i := uint64(1); b.Loop(); i++ {
				ts[0] = users[i%1000]
				ts[0].EventSeq = i
				d.Transitions(ts)
			}
			ctx, cancel := context.WithCancel(context.Background())
			cancel()
			d.Close(ctx)
		})
	}
}
