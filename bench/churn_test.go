package bench

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/codec"
)

func (f *fake) churn(o ChurnOptions) *Result {
	f.t.Helper()
	if o.Target == "" {
		o.Options = f.options()
	}
	r, err := Churn(context.Background(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

func TestChurn(t *testing.T) {
	f := newFake(t)
	r := f.churn(ChurnOptions{Rate: 300, Duration: time.Second, Stay: 10 * time.Millisecond, Users: 50})
	if !r.OK || r.Logins.OK != 300 || r.Logins.Wanted != 300 || r.Logouts.Count != 300 {
		t.Errorf("result %s", r.Summary())
	}
	if c := r.Checks[0]; c.Users != 300 || c.Right != 300 {
		t.Errorf("check %+v", c)
	}
}

// TestChurnFaults: a logout without effect, and one without an answer.
func TestChurnFaults(t *testing.T) {
	short := ChurnOptions{Rate: 100, Duration: 200 * time.Millisecond, Stay: time.Millisecond, Users: 20}
	f := newFake(t)
	f.onQuery = func(_ http.ResponseWriter, user string, item map[string]any) bool {
		if user == "t-0000000003" {
			item["Status"], item["State"] = "Online", "Online"
		}
		return true
	}
	if r := f.churn(short); r.OK || r.Errors[FaultStatus] == 0 {
		t.Errorf("logout without effect: %s", r.Summary())
	}
	f = newFake(t)
	f.onLogout = func(string) []byte { return nil }
	if r := f.churn(short); r.OK || r.Errors[FaultClosed] != 20 {
		t.Errorf("closed without LogoutOK: %s", r.Summary())
	}
	f = newFake(t)
	f.onLogin = func(user string, _ int, answer []byte) []byte { return []byte{} }
	o := short
	o.Options = f.options()
	o.AnswerTimeout = 100 * time.Millisecond
	if r := f.churn(o); r.OK || r.Errors[FaultLoginTimeout] != 20 || r.Logins.OK != 0 {
		t.Errorf("no login answered: %s", r.Summary())
	}
}

// TestNoCoordinatedOmission: when the server takes longer than the rate allows,
// the delay of the logins that could not begin counts as latency.
func TestNoCoordinatedOmission(t *testing.T) {
	f := newFake(t)
	const each = 50 * time.Millisecond
	f.onLogin = func(_ string, _ int, answer []byte) []byte { time.Sleep(each); return answer }
	r := f.churn(ChurnOptions{Rate: 100, Duration: 100 * time.Millisecond, Stay: time.Millisecond, MaxLinks: 1, Users: 20})
	// One link: login i is due at i x 10 ms and answered no earlier than (i+1) x 50 ms.
	if want := (10*each - 9*10*time.Millisecond).Microseconds(); !r.OK || r.Logins.OK != 10 || r.Logins.Latency.Max < want-1000 {
		t.Errorf("slowest of 10 logins took %d us, want at least %d; %s", r.Logins.Latency.Max, want, r.Summary())
	}
}

// TestChurnLate: logins that never could begin are told, not forgotten.
func TestChurnLate(t *testing.T) {
	f := newFake(t)
	f.onLogin = func(_ string, _ int, answer []byte) []byte { time.Sleep(300 * time.Millisecond); return answer }
	o := f.options()
	o.SettleTimeout = 100 * time.Millisecond
	r := f.churn(ChurnOptions{Options: o, Rate: 100, Duration: 100 * time.Millisecond, Stay: time.Millisecond, Users: 1})
	if r.OK || r.Errors[FaultLate] != 1 {
		t.Errorf("result %s", r.Summary())
	}
}

func TestChurnInterrupt(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(context.Background())
	f.onLogin = func(_ string, n int, answer []byte) []byte {
		if n == 10 {
			cancel()
		}
		return answer
	}
	r, err := Churn(ctx, ChurnOptions{Options: f.options(), Rate: 200, Duration: time.Hour, Stay: time.Millisecond, Users: 100})
	if err != nil || r.OK || !r.Interrupted || r.Logins.OK < 10 {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestQuery(t *testing.T) {
	for _, rate := range []float64{0, 200} {
		f := newFake(t)
		r, err := Query(context.Background(), QueryOptions{Options: f.options(), IDs: []int{1, 20}, Rate: rate, Duration: 200 * time.Millisecond, Clients: 3, Users: 250})
		if err != nil || !r.OK || len(r.Queries) != 2 {
			t.Fatalf("rate %v: %v, %+v", rate, err, r)
		}
		for _, q := range r.Queries {
			if q.Requests == 0 || q.Latency.Count != int64(q.Requests) || q.IDRate != q.Rate*float64(q.IDs) {
				t.Errorf("rate %v: %+v", rate, q)
			}
			if rate > 0 && q.Requests > 40 {
				t.Errorf("%d requests in 0.2 s at %v a second", q.Requests, rate)
			}
		}
	}
}

func TestQueryFaults(t *testing.T) {
	for want, hook := range map[Fault]func(http.ResponseWriter, string, map[string]any) bool{
		FaultAnswer: func(_ http.ResponseWriter, _ string, item map[string]any) bool {
			item["Status"], item["State"] = "Away", "Away"
			return true
		},
		FaultQuery: func(w http.ResponseWriter, _ string, _ map[string]any) bool {
			_ = json.NewEncoder(w).Encode(map[string]any{"ActionStatus": "FAIL", "ErrorCode": 70001, "ErrorInfo": "expired"})
			return false
		},
	} {
		f := newFake(t)
		f.onQuery = hook
		r, err := Query(context.Background(), QueryOptions{Options: f.options(), IDs: []int{3}, Duration: 50 * time.Millisecond, Clients: 1, Users: 10})
		if err != nil || r.OK || r.Errors[want] == 0 {
			t.Errorf("want %s: %v, %+v", want, err, r)
		}
	}
}

// TestTimers: the heap gives entries back in order of time.
func TestTimers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var h timers
		var want []time.Duration
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			if len(want) > 0 && rapid.Bool().Draw(t, "pop") {
				if at, ok := h.first(); !ok || at != want[0] {
					t.Fatalf("first is %v, want %v", at, want[0])
				}
				if e := h.pop(); e.at != want[0] {
					t.Fatalf("popped %v, want %v", e.at, want[0])
				}
				want = want[1:]
				continue
			}
			at := time.Duration(rapid.Int64Range(0, 50).Draw(t, "at"))
			h.push(timer{at: at})
			i, _ := slices.BinarySearch(want, at)
			want = slices.Insert(want, i, at)
		}
	})
}

// TestFramesSplit: an answer cut at any byte reads the same, and an idle link
// keeps no memory of it.
func TestFramesSplit(t *testing.T) {
	o := Options{Target: "127.0.0.1:1"}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	ok := codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, ServerTimeMS: 1, HeartbeatIntervalMS: 60_000, SilenceTimeoutMS: 200_000})
	beat := codec.AppendEmpty(nil, codec.TypeHeartbeatOK)
	optional := codec.AppendHeader(nil, 99, codec.FlagOptional, 0)
	for cut := range len(ok) {
		for cut2 := range len(beat) {
			s, err := newSwarm(&o, &population{o: &o}, newFaults(), 1)
			if err != nil {
				t.Fatal(err)
			}
			l := &s.links[0]
			l.state, s.free = linkLoggingIn, nil
			s.take(l, ok[:cut])
			s.take(l, slices.Concat(ok[cut:], optional))
			l.state, s.outstanding = linkBeating, 1
			s.take(l, beat[:cut2])
			s.take(l, beat[cut2:])
			if s.loginsOK.Load() != 1 || s.beatsOK.Load() != 1 || s.faults.total() != 0 || l.rest != nil || s.outstanding != 0 {
				t.Errorf("cut at %d and %d: %d logins, %d heartbeats, faults %v, %d bytes kept", cut, cut2, s.loginsOK.Load(), s.beatsOK.Load(), s.faults.samples, len(l.rest))
			}
			l.fd = -1
			s.kill()
		}
	}
}

// TestBeatNow: a link that waits for an answer keeps its time for it.
func TestBeatNow(t *testing.T) {
	o := Options{Target: "127.0.0.1:1"}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	s, err := newSwarm(&o, &population{o: &o}, newFaults(), 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.kill()
	for i, state := range []linkState{linkOnline, linkBeating} {
		l := s.unused()
		l.state, l.interval = state, time.Hour
		s.at(l, s.now()+time.Minute)
		s.beatNow(time.Second)
		if waits := l.due > s.now()+30*time.Second; waits != (state == linkBeating) || l.interval != time.Second {
			t.Errorf("link %d: due %v from now, interval %v", i, l.due-s.now(), l.interval)
		}
	}
	s.used = 0 // no sockets to close
}

func TestSummary(t *testing.T) {
	r := &Result{Scenario: "connect", Server: &ServerResult{CPUSeconds: 1, RSSFull: 2, BytesPerLink: 3, LoginCPU: 4, CPUPerCloseUS: 5}, Errors: map[Fault]uint64{FaultClosed: 2}}
	for _, part := range []string{"FAILED", "unexpected_close: 2", "3 bytes per link", "4.0 us per login", "5.0 us per close"} {
		if s := r.Summary(); !strings.Contains(s, part) {
			t.Errorf("summary lacks %q:\n%s", part, s)
		}
	}
}

// TestQueryStall: what was due while the server stood still is asked all the same,
// and its wait counts, also when the offer ends before the server goes on.
func TestQueryStall(t *testing.T) {
	f := newFake(t)
	var begin atomic.Pointer[time.Time]
	f.onQuery = func(http.ResponseWriter, string, map[string]any) bool {
		now := time.Now()
		begin.CompareAndSwap(nil, &now)
		if at := now.Sub(*begin.Load()); at > 200*time.Millisecond {
			time.Sleep(max(0, 600*time.Millisecond-at))
		}
		return true
	}
	r, err := Query(context.Background(), QueryOptions{Options: f.options(), IDs: []int{1}, Users: 10, Clients: 2, Rate: 200, Duration: 500 * time.Millisecond})
	if err != nil || !r.OK {
		t.Fatalf("%v, %s", err, r.Summary())
	}
	if q := r.Queries[0]; q.Requests != 100 || q.Latency.Count != 100 || q.Latency.P90 < 200_000 {
		t.Errorf("100 were due, of which 60 had to wait: %s", r.Summary())
	}
}

// TestQueryLate: a server that cannot do what is offered.
func TestQueryLate(t *testing.T) {
	f := newFake(t)
	f.onQuery = func(http.ResponseWriter, string, map[string]any) bool {
		time.Sleep(20 * time.Millisecond)
		return true
	}
	r, err := Query(context.Background(), QueryOptions{Options: f.short(), IDs: []int{1}, Users: 10, Clients: 1, Rate: 1000, Duration: 200 * time.Millisecond})
	if err != nil || !only(r, FaultLate) || r.Queries[0].Rate > 50 {
		t.Errorf("%v, %s", err, r.Summary())
	}
}
