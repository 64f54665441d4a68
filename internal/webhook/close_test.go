package webhook

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// closeRig is a rig whose log is read after the stop.
func closeRig(t *testing.T, change func(*Options)) (*rig, *bytes.Buffer) {
	var log bytes.Buffer // slog serialises what is written
	return newRig(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		if change != nil {
			change(o)
		}
	}), &log
}

// checkLeft proves that what was left is told, once, and that the receiver is not blamed.
func (r *rig) checkLeft(log *bytes.Buffer, want int) {
	r.t.Helper()
	s := r.d.Stats()
	if n := r.count(resultLeft); s.Outbox.Events != want || n != uint64(want) {
		r.t.Errorf("%d events in the outbox, %d counted as left, want %d", s.Outbox.Events, n, want)
	}
	told := fmt.Sprintf("level=WARN msg=\"webhook events were not delivered before the stop\" events=%d\n", want)
	if strings.Count(log.String(), "level=WARN") != 1 || !strings.Contains(log.String(), told) {
		r.t.Errorf("log %q, want one warning, of %d events left", log, want)
	}
	if s.CircuitsOpen != 0 || s.InFlight != 0 || s.Connections != 0 {
		r.t.Errorf("state after Close %+v, want no circuit open, nothing in flight, no connection", s)
	}
}

// TestCloseSlowReceiver: a stop ends in time with a receiver that is slow but
// healthy; no attempt is broken off, and what is left is told.
func TestCloseSlowReceiver(t *testing.T) {
	const answer = 400 * time.Millisecond
	for _, c := range []struct {
		name  string
		limit time.Duration // of Close's context
		stop  time.Duration // when no more attempts are made
	}{
		{"context ends first", 3 * time.Second, 3 * time.Second},
		{"CloseTimeout ends first", time.Hour, 5 * time.Second},
		{"context has ended", 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				r, log := closeRig(t, nil)
				var calls atomic.Int64
				r.net.handle("slow.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
					calls.Add(1)
					time.Sleep(answer)
					ok(w, req)
				})
				r.apps.put(1, "http://slow.example/", nil)
				r.d.Transitions(logins(1, 1000))
				time.Sleep(answer / 2)
				ctx, cancel := context.WithTimeout(context.Background(), c.limit)
				defer cancel()
				begin := time.Now()
				if err := r.d.Close(ctx); err != nil {
					t.Errorf("Close = %v", err)
				}
				if took := time.Since(begin); took < c.stop || took > c.stop+answer {
					t.Errorf("Close took %v, want %v and the end of the attempts in flight", took, c.stop)
				}
				if d := r.count(resultDelivered); int64(d) != calls.Load() || d == 0 || r.attempts(outcomeOK) != d {
					t.Errorf("%d of %d calls count as delivered, want all", d, calls.Load())
				}
				r.stop() // again: tells nothing twice
				r.checkLeft(log, 1000-int(calls.Load()))
			})
		})
	}
}

// TestCloseBreaksOff: attempts that hang end with Close's grace, in the middle of
// an answer or of a dial, and that is held against no receiver.
func TestCloseBreaksOff(t *testing.T) {
	const good, all = 20, 60
	patient := func(w *directory.Webhook) { w.TimeoutMS = 60_000 }
	closeIn := func(t *testing.T, r *rig) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		begin := time.Now()
		err := r.d.Close(ctx)
		if took := time.Since(begin); err != nil || took != 3*time.Second {
			t.Errorf("Close = %v after %v, want nil 2 s after the context's end", err, took)
		}
		if n := r.attempts(outcomeStopped); n < 1 {
			t.Errorf("%d attempts broken off", n)
		}
	}
	virtual(t, func(t *testing.T) {
		r, log := closeRig(t, nil)
		var calls atomic.Int64
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			if calls.Add(1) > good {
				hang(w, req)
				return
			}
			ok(w, req)
		})
		r.apps.put(1, "http://hook.example/", patient)
		r.d.Transitions(logins(1, all))
		synctest.Wait()
		if n := r.d.Stats().InFlight; n < openAfter {
			t.Fatalf("%d attempts hang, too few to open a circuit", n)
		}
		closeIn(t, r)
		r.checkLeft(log, all-good)
	})
	virtual(t, func(t *testing.T) {
		r, log := closeRig(t, func(o *Options) {
			o.Network.Dial = func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		})
		r.apps.put(1, "http://192.0.2.1/", patient)
		r.d.Transitions(logins(1, all))
		synctest.Wait()
		closeIn(t, r)
		r.checkLeft(log, all)
	})
}

// TestCloseJudgesLateFailures: what fails by itself while Close waits counts as ever.
func TestCloseJudgesLateFailures(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r, log := closeRig(t, nil)
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, _ *http.Request) {
			time.Sleep(time.Second)
			w.WriteHeader(500)
			_, _ = io.WriteString(w, "no")
		})
		r.apps.put(1, "http://hook.example/", nil)
		r.d.Transitions(logins(1, 40))
		r.stop()
		if n := r.attempts(outcomeStatus); n < openAfter || !strings.Contains(log.String(), "holding back") {
			t.Errorf("%d failures, log %q, want the receiver held back", n, log)
		}
		if n := r.count(resultLeft); n != 40 {
			t.Errorf("%d left, want 40", n)
		}
	})
}
