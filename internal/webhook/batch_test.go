package webhook

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// TestBatchRequest is the documented format.
func TestBatchRequest(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		var query, id, body string
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			b, _ := io.ReadAll(req.Body)
			query, id, body = req.URL.RawQuery, req.Header.Get("webhook-id"), string(b)
			nowS := time.Now().Unix()
			if got := req.Header.Get("webhook-signature"); got != Signature("t", id, nowS, b) {
				t.Errorf("signature %q", got)
			}
			ok(w, req)
		})
		r.apps.put(1, "http://hook.example/", func(w *directory.Webhook) { w.BatchEvents, w.Token = 10, "t" })
		one, two := login(1, "a", 1), login(1, "a", 2)
		r.d.Transitions([]presence.Transition{one, two})
		r.waitEmpty(time.Second)
		r.stop()
		nowS := time.Now().Unix()
		if want := fmt.Sprintf("SdkAppid=1&CallbackCommand=State.StateChangeBatch&contenttype=json&Sign=%s&RequestTime=%d", Sign("t", nowS), nowS); query != want {
			t.Errorf("query %q, want %q", query, want)
		}
		a, b := newEvent(&one, 7, 0), newEvent(&two, 7, 0)
		want := `{"CallbackCommand":"State.StateChangeBatch","Events":[` +
			`{"ID":"` + a.ID() + `","ClientIP":"192.0.2.7","OptPlatform":"Android","Event":` + string(a.Body) + `},` +
			`{"ID":"` + b.ID() + `","ClientIP":"192.0.2.7","OptPlatform":"Android","Event":` + string(b.Body) + `}]}`
		if body != want || !json.Valid([]byte(body)) {
			t.Errorf("body %s\nwant %s", body, want)
		}
		if !strings.HasPrefix(id, "msgs_") || id != requestID([]Event{a, b}, &directory.Webhook{BatchEvents: 1}) {
			t.Errorf("webhook-id %q", id)
		}
	})
}

// TestBatchOrder: batches of any size, whatever the receiver does, tell each
// event at least once and in order per user.
func TestBatchOrder(t *testing.T) {
	for seed := range uint64(15) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			virtual(t, func(t *testing.T) { batchOrder(t, seed) })
		})
	}
}

func batchOrder(t *testing.T, seed uint64) {
	rng, mu := rand.New(rand.NewPCG(seed, 0)), &sync.Mutex{}
	dice := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
	store, l := newMemStorage(), newLedger()
	l.repeats = true
	var most atomic.Int64 // events in one request
	r := newRig(t, func(o *Options) { o.Storage, o.MaxPerEndpoint = store, 4 })
	r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
		all := l.seeAll(req)
		most.Store(max(most.Load(), int64(len(all)))) // a race could only lose some
		time.Sleep(time.Duration(dice(800)) * time.Millisecond)
		if dice(3) == 0 {
			w.WriteHeader(500)
			return
		}
		for _, e := range all {
			l.ack(e)
		}
		ok(w, req)
	})
	resize := func() {
		r.apps.put(1, "http://hook.example/", func(w *directory.Webhook) { w.BatchEvents = 1 + dice(30) })
	}
	resize()
	want := map[string]uint64{}
	for range 200 {
		user := fmt.Sprint("user", dice(6))
		want[user]++
		r.decide(store, login(1, user, want[user]))
		if dice(10) == 0 {
			resize()
		}
		time.Sleep(time.Duration(dice(300)) * time.Millisecond)
	}
	r.waitEmpty(6 * time.Hour)
	r.stop()
	l.check(t, want)
	if most.Load() < 2 {
		t.Error("no request had two events: nothing is batched")
	}
}

// TestBatchRetriedWhole: a batch that failed comes again as it was, though more
// events of its users and of others have come meanwhile.
func TestBatchRetriedWhole(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		var bodies []string
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			body, _ := io.ReadAll(req.Body)
			bodies = append(bodies, req.Header.Get("webhook-id")+" "+string(body))
			if len(bodies) < 3 {
				w.WriteHeader(400)
				return
			}
			ok(w, req)
		})
		r.apps.put(1, "http://hook.example/", func(w *directory.Webhook) { w.BatchEvents = 10 })
		r.d.Transitions([]presence.Transition{login(1, "a", 1), login(1, "b", 1), login(1, "a", 2)})
		synctest.Wait()
		r.d.Transitions([]presence.Transition{login(1, "a", 3), login(1, "b", 2)})
		r.waitEmpty(time.Minute)
		r.stop()
		if len(bodies) != 4 || bodies[0] != bodies[1] || bodies[1] != bodies[2] || strings.Count(bodies[0], `"ID"`) != 3 || strings.Count(bodies[3], `"ID"`) != 2 {
			t.Errorf("requests: %s", strings.Join(bodies, "\n"))
		}
	})
}

// TestBatchGivesUp: what is too old in a batch becomes a dead letter, never
// ahead of an older event of its user, and the rest goes on.
func TestBatchGivesUp(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		var well atomic.Bool
		var told []string
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			if !well.Load() {
				w.WriteHeader(500)
				return
			}
			for _, e := range newLedger().seeAll(req) {
				told = append(told, fmt.Sprint(e.Info.User, e.EventSeq))
			}
			ok(w, req)
		})
		r.apps.put(1, "http://hook.example/", func(w *directory.Webhook) { w.BatchEvents, w.GiveUpMS = 10, 600_000 })
		r.d.Transitions([]presence.Transition{login(1, "a", 1), login(1, "b", 1)})
		time.Sleep(5 * time.Minute)
		r.d.Transitions([]presence.Transition{login(1, "a", 2), login(1, "c", 1)})
		r.waitFor(6*time.Minute, "two dead letters", func() bool { return r.count(resultGaveUp) == 2 })
		well.Store(true)
		r.waitEmpty(20 * time.Minute)
		r.stop()
		slices.Sort(told)
		if want := []string{"a2", "c1"}; !slices.Equal(told, want) {
			t.Errorf("told %v, want %v", told, want)
		}
	})
}

// TestBatchModel holds batches of both outboxes to a model: the events that
// wait, by user, and the batches that are out.
func TestBatchModel(t *testing.T) {
	for name, open := range map[string]func() Outbox{
		"memory": func() Outbox { m, _ := NewMemory(MemoryOptions{}); return m },
		"durable": func() Outbox {
			store := newMemStorage()
			d, _ := NewDurable(MemoryOptions{MaxBytes: 4 * eventOverhead}, store, clock.System{})
			return recording{d, store}
		},
	} {
		t.Run(name, func(t *testing.T) { rapid.Check(t, func(t *rapid.T) { batchModel(t, open()) }) })
	}
}

func batchModel(t *rapid.T, o Outbox) {
	names := func(batch []Event) (s []string) {
		for i := range batch {
			s = append(s, fmt.Sprint(batch[i].Key.UserID, batch[i].Seq))
		}
		return s
	}
	appended, settled, busy := map[string]uint64{}, map[string]uint64{}, map[string]bool{}
	var out [][]Event
	failed := map[string][]string{} // first event of a batch that failed: all of it
	nowMS := int64(1000)
	take := func(t *rapid.T) []Event {
		if len(out) == 0 {
			t.Skip("nothing is out")
		}
		i := rapid.IntRange(0, len(out)-1).Draw(t, "batch")
		b := out[i]
		out = slices.Delete(out, i, i+1)
		for j := range b {
			delete(busy, b[j].Key.UserID)
		}
		return b
	}
	settle := func(t *rapid.T, b []Event) {
		for i := range b {
			if u := b[i].Key.UserID; b[i].Seq != settled[u]+1 {
				t.Fatalf("event %d of %s is settled after %d", b[i].Seq, u, settled[u])
			} else {
				settled[u]++
			}
		}
	}
	t.Repeat(map[string]func(*rapid.T){
		"append": func(t *rapid.T) {
			u := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "user")
			appended[u]++
			if _, err := o.Append([]Event{event(1, u, appended[u])}, nowMS); err != nil {
				t.Fatal(err)
			}
		},
		"claim": func(t *rapid.T) {
			const most = 5
			b, _ := o.Claim(1, nowMS, most)
			if len(b) == 0 {
				return
			}
			next := map[string]uint64{}
			for i := range b {
				u := b[i].Key.UserID
				if want := max(next[u], settled[u]+1); b[i].Seq != want || busy[u] {
					t.Fatalf("claimed %v with %v settled and %v out", names(b), settled, busy)
				}
				next[u] = b[i].Seq + 1
			}
			if whole := failed[names(b)[0]]; len(b) > most || whole != nil && !slices.Equal(whole, names(b)) {
				t.Fatalf("claimed %v, want what failed together: %v", names(b), whole)
			}
			delete(failed, names(b)[0])
			for u := range next {
				busy[u] = true
			}
			out = append(out, b)
		},
		"ack": func(t *rapid.T) { b := take(t); settle(t, b); o.Ack(b) },
		"nack": func(t *rapid.T) {
			b := take(t)
			if len(b) > 1 {
				failed[names(b)[0]] = names(b)
			}
			o.Nack(b, nowMS+rapid.Int64Range(-5, 20).Draw(t, "wait"))
		},
		"bury the first": func(t *rapid.T) {
			b := take(t)
			settle(t, b[:1])
			o.Bury(b[:1], CauseGaveUp, nowMS)
			if len(b) > 1 {
				out = append(out, b[1:])
				for _, e := range b[1:] {
					busy[e.Key.UserID] = true
				}
			}
		},
		"hurry":   func(*rapid.T) { o.Hurry(1) },
		"advance": func(t *rapid.T) { nowMS += rapid.Int64Range(1, 20).Draw(t, "ms") },
		"smaller": func(t *rapid.T) { // the app wants single events now
			b, _ := o.Claim(1, nowMS, 1)
			if len(b) == 0 {
				return
			}
			if u := b[0].Key.UserID; len(b) != 1 || b[0].Seq != settled[u]+1 || busy[u] {
				t.Fatalf("claimed %v with %v settled and %v out", names(b), settled, busy)
			}
			for first, whole := range failed {
				if slices.Contains(whole, names(b)[0]) {
					delete(failed, first)
				}
			}
			busy[b[0].Key.UserID] = true
			out = append(out, b)
		},
		"": func(t *rapid.T) {
			if err := o.Check(); err != nil {
				t.Fatal(err)
			}
			events := 0
			for u := range appended {
				events += int(appended[u] - settled[u])
			}
			if n := o.Stats().Events; n != events {
				t.Fatalf("%d events, want %d", n, events)
			}
		},
	})
}
