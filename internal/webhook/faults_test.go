package webhook

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// raw makes a handler that has the connection to itself.
func raw(f func(*rawWriter)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		rw := w.(*rawWriter)
		rw.broken = true
		f(rw)
	}
}

func answer(status int, body string, header ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
		io.WriteString(w, body)
	}
}

// faults are what a receiver may do wrong. Those that speak of the endpoint open
// its circuit, so what waits is due as soon as the receiver is well; with the
// others each lane has its own wait.
var faults = []struct {
	name   string
	bad    http.HandlerFunc // nil: nobody listens
	within time.Duration    // all is told so long after the fault has ended
}{
	{"down", nil, time.Minute},
	{"500", answer(500, answerOK), time.Minute},
	{"503 with Retry-After", answer(503, "", "Retry-After", "120"), 3 * time.Minute},
	{"hangs", hang, time.Minute},
	{"reset before the answer", raw(func(*rawWriter) {}), time.Minute},
	{"reset in mid-body", raw(func(w *rawWriter) {
		io.WriteString(w.conn, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"ActionStatus\":\"OK\"")
	}), time.Minute},
	{"slow drip", raw(func(w *rawWriter) {
		io.WriteString(w.conn, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n")
		for range 50 {
			if _, err := io.WriteString(w.conn, " "); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
	}), time.Minute},
	{"410", answer(410, ""), time.Minute},
	{"wrong body", answer(200, "<html>ok</html>"), 31 * time.Minute},
	{"FAIL with HTTP 200", answer(200, `{"ActionStatus":"FAIL","ErrorCode":100,"ErrorInfo":"no"}`), 31 * time.Minute},
	{"redirect", answer(302, answerOK, "Location", "http://elsewhere.example/"), time.Minute},
}

// TestReceiverFaults: ten minutes of each fault lose no event and turn none
// round, delay no decision and no other app, and end by themselves.
func TestReceiverFaults(t *testing.T) {
	for _, f := range faults {
		for _, batch := range []int{0, 20} {
			t.Run(fmt.Sprintf("%s, batches of %d", f.name, batch), func(t *testing.T) {
				virtual(t, func(t *testing.T) { receiverFault(t, f.bad, f.within, batch) })
			})
		}
	}
}

func receiverFault(t *testing.T, bad http.HandlerFunc, within time.Duration, batch int) {
	store, l := newMemStorage(), newLedger()
	l.repeats = batch > 0
	r := newRig(t, func(o *Options) { o.Storage = store })
	var elsewhere, others atomic.Int64
	r.net.handle("elsewhere.example", "192.0.2.9:80", func(w http.ResponseWriter, req *http.Request) { elsewhere.Add(1); ok(w, req) })
	r.net.handle("other.example", "192.0.2.8:80", func(w http.ResponseWriter, req *http.Request) { others.Add(1); ok(w, req) })
	well := func(w http.ResponseWriter, req *http.Request) {
		for _, e := range l.seeAll(req) {
			l.ack(e)
		}
		ok(w, req)
	}
	ill := func(w http.ResponseWriter, req *http.Request) { l.seeAll(req); bad(w, req) }
	r.net.handle("hook.example", "192.0.2.1:80", ill)
	if bad == nil {
		r.net.listen("hook.example", "192.0.2.1:80", nil)
	}
	r.apps.put(1, "http://hook.example/", func(w *directory.Webhook) { w.BatchEvents = batch })
	r.apps.put(2, "http://other.example/", nil)

	want := map[string]uint64{}
	const rounds = 60 // 10 s each
	for round := range uint64(rounds) {
		before := time.Now()
		for i := range 8 {
			user := fmt.Sprint("user", i)
			want[user] = round + 1
			r.decide(store, login(1, user, round+1))
		}
		r.decide(store, login(2, "u", round+1))
		if took := time.Since(before); took != 0 {
			t.Fatalf("decisions waited %v for the receiver", took)
		}
		synctest.Wait()
		if n := others.Load(); n != int64(round+1) {
			t.Fatalf("%d events of another app told at once, want %d", n, round+1)
		}
		time.Sleep(10 * time.Second)
	}
	if n := r.d.Stats().Outbox.Events; n != 8*rounds {
		t.Errorf("%d events wait after ten minutes, want %d", n, 8*rounds)
	}
	r.net.handle("hook.example", "192.0.2.1:80", well)
	r.waitEmpty(within)
	r.stop()
	l.check(t, want)
	if n := elsewhere.Load(); n != 0 {
		t.Errorf("%d requests followed the redirect", n)
	}
	if n := store.keys(kindOutbox) + store.keys(kindDead); n != 0 {
		t.Errorf("%d events left in the store", n)
	}
}

// TestRebinding: a name that is public when it is judged and private when it is
// asked again gains nothing: each connection goes to an address of the one
// look-up that was judged.
func TestRebinding(t *testing.T) {
	virtual(t, func(t *testing.T) {
		public, private := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1")
		var lookups atomic.Int64
		var mu sync.Mutex
		var dialed []netip.AddrPort
		r := newRig(t, func(o *Options) {
			dial := o.Network.Dial
			o.Network.Resolve = func(context.Context, string) ([]netip.Addr, error) {
				if lookups.Add(1)%2 == 1 {
					return []netip.Addr{public}, nil
				}
				return []netip.Addr{private}, nil
			}
			o.Network.Dial = func(ctx context.Context, addr netip.AddrPort) (net.Conn, error) {
				mu.Lock()
				dialed = append(dialed, addr)
				mu.Unlock()
				return dial(ctx, addr)
			}
		})
		r.net.handle("rebind.example", "192.0.2.1:80", raw(func(w *rawWriter) { // a new connection each time
			io.WriteString(w.conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 50\r\n\r\n"+answerOK)
		}))
		r.net.handle("inside", "127.0.0.1:80", func(http.ResponseWriter, *http.Request) { t.Error("the private address was asked") })
		r.apps.put(1, "http://rebind.example/", nil)
		for seq := uint64(1); seq <= 10; seq++ {
			r.d.Transitions([]presence.Transition{login(1, "u", seq)})
			time.Sleep(10 * time.Second)
		}
		r.waitEmpty(time.Hour)
		r.stop()
		for _, a := range dialed {
			if a.Addr() != public {
				t.Errorf("dialled %v", a)
			}
		}
		if len(dialed) < 10 || r.attempts(outcomeRefused) == 0 || r.count(resultDelivered) != 10 {
			t.Errorf("%d dials, %d refusals, %d delivered; want both answers to have come up", len(dialed), r.attempts(outcomeRefused), r.count(resultDelivered))
		}
	})
}

// TestFormerReceiverProvesNothing: a good answer of the former URL leaves the
// circuit of the new one open.
func TestFormerReceiverProvesNothing(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		answers := make(chan struct{})
		r.net.handle("old.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) { <-answers; ok(w, req) })
		r.net.handle("new.example", "192.0.2.2:80", answer(410, ""))
		r.apps.put(1, "http://old.example/", nil)
		r.d.Transitions(logins(1, 1))
		synctest.Wait()
		r.d.AppChanged(r.apps.put(1, "http://new.example/", nil))
		r.d.Transitions([]presence.Transition{login(1, "another", 1)})
		synctest.Wait()
		if n := r.d.Stats().CircuitsOpen; n != 1 {
			t.Fatalf("%d circuits open after 410, want 1", n)
		}
		close(answers)
		synctest.Wait()
		if n := r.attempts(outcomeGone); n != 1 || r.count(resultDelivered) != 1 {
			t.Errorf("%d attempts at the new receiver and %d delivered after the former one's answer, want 1 and 1", n, r.count(resultDelivered))
		}
		r.apps.put(1, "", nil)
		r.waitEmpty(time.Minute)
		r.stop()
	})
}

// TestNotBeforeStart: what an earlier life left waits for Start, which comes
// when the apps are known; without it events of unknown apps would be dropped.
func TestNotBeforeStart(t *testing.T) {
	virtual(t, func(t *testing.T) {
		store := newMemStorage()
		r := newRig(t, func(o *Options) { o.Storage = store })
		r.net.listen("hook.example", "192.0.2.1:80", nil)
		r.apps.put(1, "http://hook.example/", nil)
		r.decide(store, logins(1, 10)...)
		next := store.crash()
		r.kill()

		r = newIdleRig(t, func(o *Options) { o.Storage = next })
		r.net.handle("hook.example", "192.0.2.1:80", ok)
		time.Sleep(time.Minute)
		if n := r.d.Stats().Outbox.Events; n != 10 {
			t.Errorf("%d events left before the start, want 10", n)
		}
		r.apps.put(1, "http://hook.example/", nil)
		r.d.Start()
		synctest.Wait()
		if n := r.count(resultDelivered); n != 10 {
			t.Errorf("%d delivered at the start, want 10", n)
		}
		r.stop()
	})
}

// TestProbes: a held receiver is probed by one request at a time, and found when it is back.
func TestProbes(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		var well atomic.Bool
		var now, most, probes atomic.Int64
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			storeMax(&most, now.Add(1))
			probes.Add(1)
			time.Sleep(time.Second)
			now.Add(-1)
			if !well.Load() {
				w.WriteHeader(500)
				return
			}
			ok(w, req)
		})
		r.apps.put(1, "http://hook.example/", nil)
		r.d.Transitions(logins(1, 200))
		time.Sleep(time.Minute) // the circuit is open
		most.Store(0)
		probes.Store(0)
		time.Sleep(10 * time.Minute)
		if n, m := probes.Load(), most.Load(); m != 1 || n < 10 || n > 60 {
			t.Errorf("%d probes in ten minutes, %d at once; want one at a time, up to 30 s apart", n, m)
		}
		well.Store(true)
		r.waitEmpty(2 * time.Minute)
		r.stop()
	})
}
