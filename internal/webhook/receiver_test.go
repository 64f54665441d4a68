package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// ledger is what a receiver has seen. It proves at each call that events come
// at least once, in order per user, without a gap, and repeats unchanged.
type ledger struct {
	mu     sync.Mutex
	last   map[string]uint64 // user -> EventSeq seen last
	top    map[string]uint64 // user -> highest EventSeq seen
	acked  map[string]uint64 // user -> EventSeq acknowledged last
	bodies map[string]string // webhook-id -> body
	ids    map[string]string // user/EventSeq -> webhook-id
	calls  int
	faults []string
	// repeats allows old events again: a crash forgets what was acknowledged last.
	repeats bool
}

func newLedger() *ledger {
	return &ledger{last: map[string]uint64{}, top: map[string]uint64{}, acked: map[string]uint64{}, bodies: map[string]string{}, ids: map[string]string{}}
}

type told struct {
	EventSeq uint64
	Info     struct {
		User string `json:"To_Account"`
	}
}

// see notes a request of one event and returns what it told.
func (l *ledger) see(r *http.Request) told {
	all := l.seeAll(r)
	if len(all) != 1 {
		return told{}
	}
	return all[0]
}

// seeAll notes a request and returns what it told.
func (l *ledger) seeAll(r *http.Request) (all []told) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	l.mu.Lock()
	defer l.mu.Unlock()
	l.calls++
	id := r.Header.Get("webhook-id")
	l.same(l.bodies, id, string(body))
	if r.URL.Query().Get("CallbackCommand") != batchCommand {
		return append(all, l.note(id, body))
	}
	var batch struct {
		CallbackCommand string
		Events          []struct {
			ID    string
			Event json.RawMessage
		}
	}
	if err := json.Unmarshal(body, &batch); err != nil || batch.CallbackCommand != batchCommand || len(batch.Events) == 0 {
		l.fault("batch %q: %v", body, err)
	}
	inBatch := map[string]uint64{} // an event may follow another of its batch
	for _, e := range batch.Events {
		var t told
		if err := json.Unmarshal(e.Event, &t); err == nil && inBatch[t.Info.User] == t.EventSeq-1 && t.EventSeq > 1 {
			l.acked[t.Info.User] = max(l.acked[t.Info.User], t.EventSeq-1)
		}
		all = append(all, l.note(e.ID, e.Event))
		inBatch[t.Info.User] = t.EventSeq
	}
	return all
}

// note notes an event.
func (l *ledger) note(id string, body []byte) told {
	var e told
	err := json.Unmarshal(body, &e)
	user, key := e.Info.User, fmt.Sprintf("%s/%d", e.Info.User, e.EventSeq)
	switch {
	case err != nil:
		l.fault("body %q: %v", body, err)
	case l.repeats && e.EventSeq <= l.acked[user]:
		// An acknowledgement that was lost; the lane goes on from here.
	case e.EventSeq != l.last[user] && e.EventSeq != l.last[user]+1:
		l.fault("user %s: event %d after event %d", user, e.EventSeq, l.last[user])
	case e.EventSeq == l.last[user]+1 && l.acked[user] < l.last[user]:
		l.fault("user %s: event %d came before %d was acknowledged", user, e.EventSeq, l.last[user])
	}
	l.same(l.bodies, id, string(body))
	l.same(l.ids, key, id)
	l.last[user] = e.EventSeq
	l.top[user] = max(l.top[user], e.EventSeq)
	return e
}

func (l *ledger) same(m map[string]string, key, value string) {
	if old, found := m[key]; found && old != value {
		l.fault("%s: first %q, then %q", key, old, value)
	}
	m[key] = value
}

func (l *ledger) fault(format string, args ...any) {
	l.faults = append(l.faults, fmt.Sprintf(format, args...))
}

func (l *ledger) ack(e told) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.acked[e.Info.User] = max(l.acked[e.Info.User], e.EventSeq)
}

// known is the newest event of a user that was seen.
func (l *ledger) known(user string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.top[user]
}

func (l *ledger) seen() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.calls
}

func (l *ledger) check(t *testing.T, want map[string]uint64) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, f := range l.faults {
		t.Error(f)
	}
	if !maps.Equal(l.acked, want) {
		t.Errorf("acknowledged %v, want %v", l.acked, want)
	}
}

// moody answers as chance wills: well, badly, too late, or by breaking off.
// Some failures come after the event was taken note of, as in a real receiver.
func moody(l *ledger, rng *rand.Rand, mu *sync.Mutex) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		e := l.see(r)
		mu.Lock()
		dice, wait := rng.IntN(10), time.Duration(rng.IntN(1500))*time.Millisecond
		mu.Unlock()
		raw := w.(*rawWriter)
		switch dice {
		case 0:
			w.WriteHeader(500)
		case 1:
			io.WriteString(w, `{"ActionStatus":"FAIL","ErrorCode":1,"ErrorInfo":"no"}`)
		case 2:
			time.Sleep(5 * time.Second)
			raw.broken = true
		case 3:
			io.WriteString(raw.conn, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"Action")
			raw.broken = true
		case 4:
			raw.broken = true // not a byte
		case 5:
			time.Sleep(wait)
			w.WriteHeader(503)
		default:
			time.Sleep(wait)
			l.ack(e)
			io.WriteString(w, answerOK)
		}
	}
}

// TestOrderUnderFailures: whatever the receiver does, each event arrives at
// least once, in order per user, without a gap, with the same id and body.
func TestOrderUnderFailures(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			virtual(t, func(t *testing.T) { orderUnderFailures(t, seed) })
		})
	}
}

func orderUnderFailures(t *testing.T, seed uint64) {
	rng, mu := rand.New(rand.NewPCG(seed, 0)), &sync.Mutex{}
	r := newRig(t, func(o *Options) { o.Rand, o.MaxPerEndpoint = rand.New(rand.NewPCG(seed, 1)), 8 })
	l := newLedger()
	r.net.handle("hook.example", "192.0.2.1:80", moody(l, rng, mu))
	r.apps.put(1, "http://hook.example/", nil)
	want := map[string]uint64{}
	var wg sync.WaitGroup
	for i := range 6 {
		user, n := fmt.Sprint("user", i), uint64(5+i)
		want[user] = n
		wg.Go(func() {
			for seq := uint64(1); seq <= n; seq++ {
				r.d.Transitions([]presence.Transition{login(1, user, seq)})
				mu.Lock()
				pause := time.Duration(rng.IntN(3)) * time.Second
				mu.Unlock()
				time.Sleep(pause)
			}
		})
	}
	wg.Wait()
	r.waitEmpty(6 * time.Hour)
	r.stop()
	l.check(t, want)
	if l.calls < 45 {
		t.Errorf("%d calls for 45 events", l.calls)
	}
}

// waitEmpty lets virtual time pass until the outbox is empty.
func (r *rig) waitEmpty(limit time.Duration) {
	r.t.Helper()
	r.waitFor(limit, "an empty outbox", func() bool { return r.d.Stats().Outbox.Events == 0 })
}

// waitFor lets virtual time pass until done.
func (r *rig) waitFor(limit time.Duration, what string, done func() bool) {
	r.t.Helper()
	for end := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("no %s within %v of virtual time: %+v", what, limit, r.d.Stats())
		}
	}
}

// TestBadAnswers: each kind of bad answer is a failure that is named, and the
// event comes again until the answer is good.
func TestBadAnswers(t *testing.T) {
	hijack := func(f func(*rawWriter)) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			raw := w.(*rawWriter)
			raw.broken = true
			f(raw)
		}
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code); io.WriteString(w, answerOK) }
	}
	text := func(s string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, s) }
	}
	cases := []struct {
		name string
		bad  http.HandlerFunc
		want outcome
	}{
		{"500", status(500), outcomeStatus},
		{"201", status(201), outcomeStatus},
		{"404", status(404), outcomeStatus},
		{"410", status(410), outcomeGone},
		{"429", status(429), outcomeBusy},
		{"503", status(503), outcomeBusy},
		{"redirect", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "http://hook.example/elsewhere")
			w.WriteHeader(302)
		}, outcomeRedirect},
		{"empty body", text(""), outcomeBody},
		{"HTML", text("<html>ok</html>"), outcomeBody},
		{"FAIL with HTTP 200", text(`{"ActionStatus":"FAIL","ErrorCode":100,"ErrorInfo":"no"}`), outcomeCode},
		{"huge body", text(`{"ErrorCode":0,"x":"` + strings.Repeat("x", maxResponseBody) + `"}`), outcomeTooLarge},
		{"endless body", hijack(func(w *rawWriter) {
			io.WriteString(w.conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for {
				if _, err := io.WriteString(w.conn, "400\r\n"+strings.Repeat("x", 1024)+"\r\n"); err != nil {
					return
				}
			}
		}), outcomeTooLarge},
		{"hang", hijack(func(w *rawWriter) { io.Copy(io.Discard, w.conn) }), outcomeTimeout},
		{"slow drip", hijack(func(w *rawWriter) {
			io.WriteString(w.conn, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n")
			for range 50 {
				if _, err := io.WriteString(w.conn, " "); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		}), outcomeTimeout},
		{"reset before the answer", hijack(func(*rawWriter) {}), outcomeClosed},
		{"reset in the body", hijack(func(w *rawWriter) {
			io.WriteString(w.conn, "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{\"Action")
		}), outcomeClosed},
		{"huge header", hijack(func(w *rawWriter) {
			io.WriteString(w.conn, "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 2*maxResponseHeader)+"\r\n\r\n")
		}), outcomeConnect},
		{"no HTTP", hijack(func(w *rawWriter) { io.WriteString(w.conn, "SSH-2.0-x\r\n\r\n") }), outcomeConnect},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				r := newRig(t, nil)
				l, well := newLedger(), false
				var mu sync.Mutex
				r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
					e := l.see(req)
					mu.Lock()
					good := well
					mu.Unlock()
					if !good {
						c.bad(w, req)
						return
					}
					l.ack(e)
					ok(w, req)
				})
				r.apps.put(1, "http://hook.example/", nil)
				r.d.Transitions([]presence.Transition{login(1, "u", 1), login(1, "u", 2)})
				r.waitFor(time.Minute, "second attempt", func() bool { return r.attempts(c.want) >= 2 })
				if n := r.d.Stats().Outbox.Events; n != 2 {
					t.Errorf("%d events left after failures, want 2", n)
				}
				mu.Lock()
				well = true
				mu.Unlock()
				r.waitEmpty(2 * time.Minute)
				r.stop()
				l.check(t, map[string]uint64{"u": 2})
			})
		})
	}
}

// TestStatusOnly: with the app's setting, HTTP 200 is enough, whatever the body
// is and however long it takes.
func TestStatusOnly(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		answers := []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnope",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", // and no chunk ever
			"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nx",
			"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n",
		}
		for i, a := range answers {
			r.net.handle(fmt.Sprintf("hook%d.example", i), fmt.Sprintf("192.0.2.1:%d", 81+i), func(w http.ResponseWriter, _ *http.Request) {
				raw := w.(*rawWriter)
				raw.broken = true
				io.WriteString(raw.conn, a)
				io.Copy(io.Discard, raw.conn) // until the other side closes
			})
			r.apps.put(uint32(i+1), fmt.Sprintf("http://hook%d.example:%d/", i, 81+i), func(w *directory.Webhook) { w.StatusOnly = true })
			r.d.Transitions([]presence.Transition{login(uint32(i+1), "u", 1)})
		}
		r.waitFor(time.Second, "three deliveries", func() bool { return r.count(resultDelivered) == 3 && r.attempts(outcomeStatus) == 1 })
		r.stop()
	})
}

// TestSignEachAttempt: Sign, RequestTime and signature are of the attempt, the id is not.
func TestSignEachAttempt(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		var times []string
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			checkSigned(t, req, "s3cret")
			times = append(times, req.URL.Query().Get("RequestTime"))
			if len(times) < 4 {
				w.WriteHeader(500)
				return
			}
			ok(w, req)
		})
		r.apps.put(1, "http://hook.example/", func(w *directory.Webhook) { w.Token = "s3cret" })
		r.d.Transitions([]presence.Transition{login(1, "u", 1)})
		r.waitEmpty(time.Minute)
		r.stop()
		if len(slices.Compact(slices.Clone(times))) < 3 {
			t.Errorf("request times %v do not follow the attempts", times)
		}
	})
}

func checkSigned(t *testing.T, req *http.Request, token string) {
	t.Helper()
	body, _ := io.ReadAll(req.Body)
	q, h := req.URL.Query(), req.Header
	nowS := time.Now().Unix()
	for what, pair := range map[string][2]string{
		"RequestTime":       {q.Get("RequestTime"), fmt.Sprint(nowS)},
		"Sign":              {q.Get("Sign"), Sign(token, nowS)},
		"webhook-timestamp": {h.Get("webhook-timestamp"), fmt.Sprint(nowS)},
		"webhook-signature": {h.Get("webhook-signature"), Signature(token, h.Get("webhook-id"), nowS, body)},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s is %q, want %q", what, pair[0], pair[1])
		}
	}
	if _, err := url.ParseQuery(req.URL.RawQuery); err != nil {
		t.Error(err)
	}
}
