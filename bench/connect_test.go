package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

func (f *fake) connect(o ConnectOptions) *Result {
	f.t.Helper()
	if o.Target == "" {
		o.Options = f.options()
	}
	if o.Conns == 0 {
		o.Conns = 45
	}
	if o.Hold == 0 {
		o.Hold = 300 * time.Millisecond
	}
	r, err := Connect(context.Background(), o)
	if err != nil {
		f.t.Fatal(err)
	}
	return r
}

// TestConnect: a server that does all right passes, and the figures add up.
func TestConnect(t *testing.T) {
	for _, drip := range []bool{false, true} {
		f := newFake(t)
		f.drip = drip
		o := f.options()
		o.ServerPID = os.Getpid() // any process will do
		var lines []string
		o.Progress = func(s string) { lines = append(lines, s) }
		r := f.connect(ConnectOptions{Options: o})
		if !r.OK || r.Interrupted || len(r.Errors) > 0 {
			t.Errorf("drip %v: result %s", drip, r.Summary())
		}
		l, h := r.Logins, r.Heartbeats
		if l.OK != 45 || l.Wanted != 45 || l.Latency.Count != 45 || l.Latency.P50 < 1 || l.Latency.Max < l.Latency.P99 || l.Rate <= 0 {
			t.Errorf("logins %+v", l)
		}
		if h.Sent == 0 || h.Sent != h.Answered || h.Latency.Count != int64(h.Sent) {
			t.Errorf("heartbeats %+v", h)
		}
		if len(r.Checks) != 4 || len(lines) == 0 || r.Server == nil || r.Server.CPUSeconds < 0 || r.Server.RSSFull == 0 {
			t.Errorf("checks %+v, %d lines of progress, server %+v", r.Checks, len(lines), r.Server)
		}
		for _, c := range r.Checks {
			if c.Right != c.Users || c.Users < 45 {
				t.Errorf("check %+v", c)
			}
		}
	}
}

// TestConnectFaults: each way in which a server can be wrong is named, and ends the run as failed.
func TestConnectFaults(t *testing.T) {
	const victim = "t-0000000004" // on Windows
	forced := codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeAnotherLogin, Text: "another"})
	onVictim := func(p []byte) func(string, int, []byte) []byte {
		return func(user string, _ int, answer []byte) []byte {
			if user == victim {
				return p
			}
			return answer
		}
	}
	wrongItem := func(change func(item map[string]any)) func(*fake) {
		return func(f *fake) {
			f.onQuery = func(_ http.ResponseWriter, user string, item map[string]any) bool {
				if user == victim {
					change(item)
				}
				return true
			}
		}
	}
	badOK := func(m codec.LoginOK) []byte { return codec.AppendLoginOK(nil, &m) }
	good := codec.LoginOK{InstID: 1, ServerTimeMS: 1, HeartbeatIntervalMS: 100, SilenceTimeoutMS: 300}
	change := func(c func(*codec.LoginOK)) []byte { m := good; c(&m); return badOK(m) }
	for _, c := range []struct {
		name string
		want Fault
		set  func(*fake)
	}{
		{"refused", FaultLoginRefused, func(f *fake) {
			f.onLogin = onVictim(codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeSigExpired, Text: "no"}))
		}},
		{"redirected", FaultLoginRefused, func(f *fake) { f.onLogin = onVictim(codec.AppendRedirect(nil, &codec.Redirect{Address: "x:1"})) }},
		{"closed at login", FaultClosed, func(f *fake) { f.onLogin = onVictim(nil) }},
		{"login unanswered", FaultLoginTimeout, func(f *fake) { f.onLogin = onVictim([]byte{}) }},
		{"no InstID", FaultLoginAnswer, func(f *fake) { f.onLogin = onVictim(change(func(m *codec.LoginOK) { m.InstID = 0 })) }},
		{"no interval", FaultLoginAnswer, func(f *fake) { f.onLogin = onVictim(change(func(m *codec.LoginOK) { m.HeartbeatIntervalMS = 0 })) }},
		{"somebody kicked", FaultLoginAnswer, func(f *fake) {
			f.onLogin = onVictim(change(func(m *codec.LoginOK) { m.Kicked = []codec.KickedInstance{{Platform: codec.Web, InstID: 2}} }))
		}},
		{"answer twice", FaultFrame, func(f *fake) { f.onLogin = onVictim(append(badOK(good), badOK(good)...)) }},
		{"no frame", FaultFrame, func(f *fake) { f.onLogin = onVictim([]byte("HTTP/1.1 400 Bad Request\r\n")) }},
		{"forced offline", FaultForced, func(f *fake) { f.onLogin = onVictim(append(badOK(good), forced...)) }},
		{"closed in the hold", FaultClosed, func(f *fake) {
			f.onBeat = func(user string, _ int) []byte {
				if user == victim {
					return nil
				}
				return codec.AppendEmpty(nil, codec.TypeHeartbeatOK)
			}
		}},
		{"heartbeat unanswered", FaultBeatTimeout, func(f *fake) {
			f.onBeat = func(user string, _ int) []byte {
				if user == victim {
					return []byte{}
				}
				return codec.AppendEmpty(nil, codec.TypeHeartbeatOK)
			}
		}},
		{"false offline", FaultFalseOffline, wrongItem(func(i map[string]any) { i["Status"], i["State"] = "Offline", "Offline" })},
		{"away without reason", FaultFalseOffline, wrongItem(func(i map[string]any) { i["Status"], i["State"] = "PushOnline", "PushOnline" })},
		{"wrong platform", FaultDetail, wrongItem(func(i map[string]any) {
			i["Detail"] = []any{map[string]any{"Platform": "Windows", "Status": "Online"}}
		})},
		{"no detail", FaultDetail, wrongItem(func(i map[string]any) { delete(i, "Detail") })},
		{"still online after death", FaultStatus, wrongItem(func(i map[string]any) {
			i["Status"], i["State"] = "Online", "Online"
			i["Detail"] = []any{map[string]any{"Platform": "PC", "Status": "Online"}}
		})},
		{"State differs", FaultAnswer, wrongItem(func(i map[string]any) { i["State"] = "Away" })},
		{"another user", FaultAnswer, wrongItem(func(i map[string]any) { i["To_Account"] = "t-9" })},
		{"call fails", FaultQuery, func(f *fake) {
			f.onQuery = func(w http.ResponseWriter, _ string, _ map[string]any) bool {
				fmt.Fprint(w, `{"ActionStatus":"FAIL","ErrorCode":60007,"ErrorInfo":"rate"}`)
				return false
			}
		}},
		{"HTTP status", FaultQuery, func(f *fake) {
			f.onQuery = func(w http.ResponseWriter, _ string, _ map[string]any) bool { w.WriteHeader(500); return false }
		}},
		{"no JSON", FaultQuery, func(f *fake) {
			f.onQuery = func(w http.ResponseWriter, _ string, _ map[string]any) bool { fmt.Fprint(w, "oops"); return false }
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			c.set(f)
			o := f.options()
			o.AnswerTimeout, o.SettleTimeout = time.Second, 200*time.Millisecond
			r := f.connect(ConnectOptions{Options: o})
			if r.OK || r.Interrupted || r.Errors[c.want] == 0 || len(r.ErrorSamples) == 0 {
				t.Errorf("want %s: %s", c.want, r.Summary())
			}
			for k := range r.Errors {
				if k != c.want && !follows(c.want, k) {
					t.Errorf("%s besides %s: %v", k, c.want, r.ErrorSamples)
				}
			}
			var b bytes.Buffer
			if err := r.WriteJSON(&b); err != nil || !json.Valid(b.Bytes()) {
				t.Errorf("JSON result: %v", err)
			}
		})
	}
}

// follows lists what a fault brings with it.
func follows(first, other Fault) bool {
	switch first {
	case FaultFalseOffline, FaultDetail:
		return other == FaultStatus // the answer stays wrong after the death
	}
	return false
}

// TestConnectRefused: without a server there is a fault for each link and a failed run.
func TestConnectRefused(t *testing.T) {
	f := newFake(t)
	o := f.options()
	f.ln.Close()
	r := f.connect(ConnectOptions{Options: o, Conns: 3})
	if r.OK || r.Interrupted || r.Errors[FaultConnect] != 3 || r.Logins.OK != 0 || len(r.Checks) != 0 || r.Stopped == "" {
		t.Errorf("result %s", r.Summary())
	}
	if s := fmt.Sprint(r.ErrorSamples); !strings.Contains(s, "is the server running?") {
		t.Errorf("samples %s", s)
	}
}

// TestNobodyMayIn: where all logins are refused, the rest of them are not tried, nothing is held
// and nothing is read back.
func TestNobodyMayIn(t *testing.T) {
	f := newFake(t)
	f.onLogin = func(string, int, []byte) []byte {
		return codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeUnknownApp, Text: "no such app"})
	}
	r := f.connect(ConnectOptions{Conns: 3000, Rate: 100, Hold: time.Hour})
	if n := r.Errors[FaultLoginRefused]; r.OK || r.Interrupted || n < maxVain || n == 3000 || len(r.Checks) != 0 || r.Stopped == "" {
		t.Errorf("%d were refused: %s", n, r.Summary())
	}
	if s := r.ErrorSamples[0]; !strings.HasSuffix(s, "70020 no such app") {
		t.Errorf("sample %q", s)
	}
}

// TestInterrupt: an interrupt ends each phase with a partial result that is not OK.
func TestInterrupt(t *testing.T) {
	for name, prepare := range map[string]func(f *fake, cancel func()) ConnectOptions{
		"while logging in": func(f *fake, cancel func()) ConnectOptions {
			f.onLogin = func(_ string, n int, answer []byte) []byte {
				if n == 5 {
					cancel()
				}
				return answer
			}
			return ConnectOptions{Options: f.options(), Conns: 1000, Rate: 50}
		},
		"in the hold": func(f *fake, cancel func()) ConnectOptions {
			f.onBeat = func(string, int) []byte { cancel(); return codec.AppendEmpty(nil, codec.TypeHeartbeatOK) }
			return ConnectOptions{Options: f.options(), Conns: 20, Hold: time.Hour}
		},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		f := newFake(t)
		r, err := Connect(ctx, prepare(f, cancel))
		if err != nil || r.OK || !r.Interrupted || r.Logins.OK == 0 {
			t.Errorf("%s: %v, %+v", name, err, r)
		}
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			t.Errorf("%s: not interrupted within a minute", name)
		}
		cancel()
	}
}

// TestNothingLeft: when the server has ended every link, the hold is over.
func TestNothingLeft(t *testing.T) {
	f := newFake(t)
	f.onBeat = func(string, int) []byte { return nil }
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	r, err := Connect(ctx, ConnectOptions{Options: f.options(), Conns: 10, Hold: time.Hour})
	if err != nil || ctx.Err() != nil || r.OK || r.Interrupted || r.Errors[FaultClosed] != 10 {
		t.Errorf("%v, %+v", err, r)
	}
}

// TestBeatStall: a link sends no heartbeat while one is out. Those that a stalled
// server kept it from sending count all the same.
func TestBeatStall(t *testing.T) {
	f := newFake(t)
	var begin atomic.Pointer[time.Time]
	f.onBeat = func(string, int) []byte {
		now := time.Now()
		begin.CompareAndSwap(nil, &now)
		if at := now.Sub(*begin.Load()); at > 200*time.Millisecond {
			time.Sleep(max(0, 800*time.Millisecond-at))
		}
		return codec.AppendEmpty(nil, codec.TypeHeartbeatOK)
	}
	r := f.connect(ConnectOptions{Conns: 10, Hold: time.Second})
	if !r.OK {
		t.Fatal(r.Summary())
	}
	for _, q := range r.Heartbeats.Latency.Quantiles {
		if q.Percent == 75 && q.US < 100_000 {
			t.Errorf("most heartbeats were due in a stall of 0.6 s, and three quarters took %d us or less", q.US)
		}
	}
}

// TestSources: links spread over source addresses, PerSource on each.
func TestSources(t *testing.T) {
	f := newFake(t)
	perHost := map[string]int{}
	f.onLogin = func(_ string, n int, answer []byte) []byte {
		if n == 45 {
			f.mu.Lock()
			defer f.mu.Unlock()
			for c := range f.conns {
				host, _, _ := strings.Cut(c.RemoteAddr().String(), ":")
				perHost[host]++
			}
		}
		return answer
	}
	o := f.options()
	o.PerSource = 10
	r := f.connect(ConnectOptions{Options: o})
	want := map[string]int{"127.1.0.1": 10, "127.1.0.2": 10, "127.1.0.3": 10, "127.1.0.4": 10, "127.1.0.5": 5}
	if fmt.Sprint(perHost) != fmt.Sprint(want) || !r.OK {
		t.Errorf("sources %v, want %v; %s", perHost, want, r.Summary())
	}
	seen := map[[4]byte]bool{}
	for i := range 100_000 {
		a := source(i)
		if seen[a] || a[0] != 127 || a[1] == 0 || a[3] == 0 || a[3] == 255 {
			t.Fatalf("source %d is %v", i, a)
		}
		seen[a] = true
	}
}

// TestTooManyFiles: more links than files is an error before anything is opened.
func TestTooManyFiles(t *testing.T) {
	f := newFake(t)
	_, err := Connect(context.Background(), ConnectOptions{Options: f.options(), Conns: 1 << 30 >> 8})
	if err == nil || !strings.Contains(err.Error(), "open files") {
		t.Errorf("Connect with 4 million links: %v", err)
	}
}

func TestOptionsRefused(t *testing.T) {
	ctx := context.Background()
	for _, o := range []ConnectOptions{
		{Conns: -1}, {Rate: -1}, {Rate: 1e9}, {Hold: -1},
		{Options: Options{Target: "localhost"}}, {Options: Options{Target: "[::1]:7700"}}, {Options: Options{Target: "127.0.0.1:0"}},
		{Options: Options{API: "ftp://x"}}, {Options: Options{API: "http://"}}, {Options: Options{App: 1}},
		{Options: Options{PerSource: -1}}, {Options: Options{PerSource: MaxPerSource + 1}}, {Options: Options{AnswerTimeout: -1}},
		{Options: Options{UserPrefix: strings.Repeat("x", 23)}}, {Options: Options{UserPrefix: "\n"}}, {Options: Options{Platforms: []codec.Platform{99}}},
	} {
		if _, err := Connect(ctx, o); !errors.Is(err, ErrOptions) {
			t.Errorf("Connect(%+v) = %v", o, err)
		}
	}
	for _, o := range []ChurnOptions{{Users: -1}, {Users: maxSigned + 1}, {Rate: -1}, {Duration: -1}, {Stay: -1}, {MaxLinks: -1}} {
		if _, err := Churn(ctx, o); !errors.Is(err, ErrOptions) {
			t.Errorf("Churn(%+v) = %v", o, err)
		}
	}
	for _, o := range []QueryOptions{{IDs: []int{0}}, {IDs: []int{501}}, {IDs: []int{5}, Users: 4}, {Clients: -1}, {Rate: -1}, {Duration: -1}} {
		if _, err := Query(ctx, o); !errors.Is(err, ErrOptions) {
			t.Errorf("Query(%+v) = %v", o, err)
		}
	}
	if _, err := Connect(ctx, ConnectOptions{Options: Options{ServerPID: 1 << 30}}); err == nil {
		t.Error("a server process that is not there is accepted")
	}
}

// TestPopulation: users are distinct, each keeps its platform in every mix, and
// ids are valid.
func TestPopulation(t *testing.T) {
	owner := map[string]codec.Platform{}
	for _, mix := range [][]codec.Platform{codec.Platforms(), {codec.Web}, {codec.Android, codec.Android, codec.Web}, {codec.Web, codec.IPhone, codec.Web, codec.Web}} {
		p := &population{o: &Options{Platforms: mix, UserPrefix: "p-"}}
		seen := map[string]bool{}
		for n := range 1000 {
			id := p.userID(n)
			if seen[id] || len(id) != 12 {
				t.Fatalf("mix %v: user %d is %q again", mix, n, id)
			}
			seen[id] = true
			if q, ok := owner[id]; ok && q != p.platform(n) {
				t.Fatalf("mix %v: user %q is on %v, was on %v", mix, id, p.platform(n), q)
			}
			owner[id] = p.platform(n)
		}
	}
}
