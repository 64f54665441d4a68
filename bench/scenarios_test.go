package bench

import (
	"context"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// short are options with which a fault shows soon.
func (f *fake) short() Options {
	o := f.options()
	o.AnswerTimeout, o.SettleTimeout = time.Second, 300*time.Millisecond
	return o
}

// only reports whether the result has failed by this fault and no other.
func only(r *Result, want ...Fault) bool {
	for k := range r.Errors {
		ok := false
		for _, w := range want {
			ok = ok || k == w
		}
		if !ok {
			return false
		}
	}
	return !r.OK && r.Errors[want[0]] > 0 && len(r.ErrorSamples) > 0
}

func TestHold(t *testing.T) {
	f := newFake(t)
	o := f.options()
	o.ServerPID = os.Getpid()
	r, err := Hold(context.Background(), HoldOptions{Options: o, Conns: 40, Low: 10, Rate: 500, Settle: 500 * time.Millisecond, Hold: 400 * time.Millisecond, BeatRate: 200})
	if err != nil || !r.OK || r.Logins.OK != 40 {
		t.Fatalf("%v, %+v", err, r)
	}
	// The pauses on the plateaus and the hold are no part of logging in.
	if took, most := 40/r.Logins.Rate, r.Seconds-2*0.5-0.4; took > most {
		t.Errorf("logging in took %v s of at most %v s", took, most)
	}
	if h := r.Heartbeats; h.Sent == 0 || h.Sent != h.Answered {
		t.Errorf("heartbeats %+v", h)
	}
	sv := r.Server
	if sv.SlopeFrom != 10 || sv.RSSFull == 0 || sv.HoldCPU < 0 || len(r.Memory) < 2 || r.Memory[len(r.Memory)-1].Links != 40 {
		t.Errorf("server %+v, memory %+v", sv, r.Memory)
	}
	if len(r.Checks) != 3 {
		t.Errorf("checks %+v", r.Checks)
	}
}

// TestHoldBeats: CPU per heartbeat counts those of the time in which CPU was
// measured, not those that come while users are read back.
func TestHoldBeats(t *testing.T) {
	f := newFake(t)
	f.beatMS = 60_000 // none while links are idle
	var beating atomic.Bool
	f.onBeat = func(string, int) []byte {
		beating.Store(true)
		for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
		}
		return codec.AppendEmpty(nil, codec.TypeHeartbeatOK)
	}
	f.onQuery = func(_ http.ResponseWriter, user string, _ map[string]any) bool {
		if user == "t-0000000004" && beating.Load() {
			time.Sleep(time.Second)
		}
		return true
	}
	o := f.options()
	o.ServerPID = os.Getpid()
	r, err := Hold(context.Background(), HoldOptions{Options: o, Conns: 20, Low: 10, Rate: 500, Settle: 300 * time.Millisecond, Hold: 500 * time.Millisecond, BeatRate: 200})
	if err != nil || !r.OK {
		t.Fatalf("%v, %s", err, r.Summary())
	}
	sv := r.Server
	if sv.BeatCPU == 0 {
		t.Skip("CPU time comes in steps of 10 ms, and none was counted")
	}
	counted := (sv.HoldCPU - sv.IdleCPU) * 0.5 / (sv.BeatCPU / 1e6)
	if all := float64(r.Heartbeats.Answered); counted > 0.7*all {
		t.Errorf("CPU of half a second was shared by %.0f of the %.0f heartbeats of the whole run: %+v", counted, all, sv)
	}
}

// TestHoldFault: a link that the server closes while all are idle.
func TestHoldFault(t *testing.T) {
	f := newFake(t)
	f.onBeat = func(user string, _ int) []byte {
		if user == "t-0000000004" {
			return nil
		}
		return codec.AppendEmpty(nil, codec.TypeHeartbeatOK)
	}
	r, err := Hold(context.Background(), HoldOptions{Options: f.short(), Conns: 20, Rate: 500, Settle: time.Millisecond, Hold: 400 * time.Millisecond, BeatRate: 200})
	if err != nil || !only(r, FaultClosed) {
		t.Errorf("%v, %s", err, r.Summary())
	}
}

func TestStorm(t *testing.T) {
	f := newFake(t)
	r, err := Storm(context.Background(), StormOptions{Options: f.options(), Conns: 30, Rates: []float64{100, 0}})
	if err != nil || !r.OK || len(r.Points) != 2 || len(r.Checks) != 4 {
		t.Fatalf("%v, %s", err, r.Summary())
	}
	for i, p := range r.Points {
		if p.Logins != 30 || p.Latency.Count != 30 || p.Rate <= 0 || p.OfferedRate != []float64{100, 0}[i] {
			t.Errorf("point %+v", p)
		}
	}
	if r.Points[0].Rate > 110 {
		t.Errorf("offered 100/s, reached %v/s", r.Points[0].Rate)
	}
}

// TestStormStops: the curve ends at the first rate at which something is wrong.
func TestStormStops(t *testing.T) {
	f := newFake(t)
	f.onLogin = func(_ string, n int, answer []byte) []byte {
		if n == 25 {
			return codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeOverloaded, Text: "no"})
		}
		return answer
	}
	r, err := Storm(context.Background(), StormOptions{Options: f.short(), Conns: 20, Rates: []float64{0, 500, 0}})
	if err != nil || !only(r, FaultLoginRefused) || len(r.Points) != 2 {
		t.Errorf("%v, %s", err, r.Summary())
	}
}

// TestStormLoads: callers who are sent away are counted, come back when they were
// told unless they are rude, and are no fault; those who stand must lose nothing.
func TestStormLoads(t *testing.T) {
	const wait = 300
	for _, rude := range []bool{false, true} {
		f := newFake(t)
		var mu sync.Mutex
		refused := map[string]time.Time{}
		f.onLogin = func(user string, n int, answer []byte) []byte {
			mu.Lock()
			defer mu.Unlock()
			if at := refused[user]; !at.IsZero() && !rude && time.Since(at) < wait*time.Millisecond {
				t.Errorf("%s is back after %v", user, time.Since(at))
			}
			delete(refused, user)
			if n <= 60 || n%3 != 0 { // the crowd is let in
				return answer
			}
			refused[user] = time.Now()
			return codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeOverloaded, Text: "later", MayReconnect: true, RetryAfterMS: wait})
		}
		o := StormOptions{
			Options: f.options(), Conns: 20, Loads: []float64{1, 2}, Capacity: 100, Duration: time.Second, BeatRate: 100, KickRate: 10, Callers: 500, Rude: rude,
		}
		r, err := Storm(context.Background(), o)
		if err != nil || !r.OK || len(r.Points) != 2 || len(r.Checks) != 2 {
			t.Fatalf("rude %v: %v, %s", rude, err, r.Summary())
		}
		best := 0.0
		for i, p := range r.Points {
			l := p.Load
			if l.Load != float64(i+1) || p.OfferedRate != 100*l.Load || l.Attempts == 0 || l.Shed == 0 || l.Lost != 0 || l.Unmade != 0 {
				t.Errorf("rude %v: %+v", rude, *l)
			}
			if back := l.Returns > 0; back == rude {
				t.Errorf("rude %v: %d came back as they were told", rude, l.Returns)
			}
			if l.RetryAfter.Count != int64(l.Shed) || l.RetryAfter.P50 < wait*999 || l.RetryAfter.P50 > wait*1001 {
				t.Errorf("told %+v, %d shed", l.RetryAfter, l.Shed)
			}
			if l.Heartbeats.Answered == 0 || l.Kicks.Kicks != 8 || l.Goodput <= 0 {
				t.Errorf("rude %v: %+v, heartbeats %+v, kicks %+v", rude, *l, *l.Heartbeats, *l.Kicks)
			}
			best = max(best, l.Share)
		}
		if best != 1 {
			t.Errorf("the best point has a share of %v", best)
		}
	}
}

// TestStormCapacity: it is found first, and a link of the crowd that is lost is a fault.
func TestStormCapacity(t *testing.T) {
	f := newFake(t)
	f.onBeat = func(user string, _ int) []byte {
		if user == "t-0000000004" {
			return nil
		}
		return codec.AppendEmpty(nil, codec.TypeHeartbeatOK)
	}
	o := StormOptions{Options: f.short(), Conns: 20, Loads: []float64{0.1}, Duration: time.Second, BeatRate: 100, Callers: 50, Window: 4}
	r, err := Storm(context.Background(), o)
	if err != nil || r.OK || r.Errors[FaultClosed] != 1 || len(r.Points) != 2 {
		t.Fatalf("%v, %s", err, r.Summary())
	}
	if found, load := r.Points[0].Load, r.Points[1].Load; found.Load != 0 || found.Goodput <= 0 || load.Capacity != found.Goodput {
		t.Errorf("found %+v, then %+v", *found, *load)
	}
}

func TestMassDrop(t *testing.T) {
	for _, how := range []string{DropFIN, DropRST} {
		f := newFake(t)
		r, err := MassDrop(context.Background(), MassDropOptions{Options: f.options(), Conns: 30, How: how})
		if err != nil || !r.OK || r.Drop.Found != 30 || r.Drop.Users != 30 || r.Drop.Early != 0 || r.Drop.Lateness.Count != 30 || r.Drop.CloseLateness != nil {
			t.Errorf("%s: %v, %s", how, err, r.Summary())
		}
		if len(f.puts) != 0 {
			t.Errorf("%s: time-outs changed: %+v", how, f.puts)
		}
	}
}

// TestMassDropSilence: the time-outs are shortened, links are found closed after
// them, and the time-outs are put back.
func TestMassDropSilence(t *testing.T) {
	f := newFake(t)
	old := timeouts{Mobile: classTimes{120_000, 400_000}, Desktop: classTimes{120_000, 400_000}, Web: classTimes{20_000, 60_000}}
	f.beatMS, f.times = 1200, old
	f.onLogin = func(_ string, _ int, _ []byte) []byte {
		return codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, ServerTimeMS: 1, HeartbeatIntervalMS: 1200, SilenceTimeoutMS: 3000})
	}
	r, err := MassDrop(context.Background(), MassDropOptions{Options: f.options(), Conns: 30, How: DropSilence, Silence: 3 * time.Second})
	if err != nil || !r.OK {
		t.Fatalf("%v, %s", err, r.Summary())
	}
	if d := r.Drop; d.Found != 30 || d.Early != 0 || d.Silence != 3 || d.CloseLateness.Count != 30 || d.Lateness.Count != 30 {
		t.Errorf("%+v", d)
	}
	if want := allSilent(3 * time.Second); len(f.puts) != 2 || f.puts[0] != want || f.puts[1] != old || want.Web.HeartbeatMS != 1200 {
		t.Errorf("time-outs set: %+v", f.puts)
	}
}

// TestMassDropFaults: taken for dead too early, and never.
func TestMassDropFaults(t *testing.T) {
	told := func(_ string, _ int, _ []byte) []byte {
		return codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, ServerTimeMS: 1, HeartbeatIntervalMS: 800, SilenceTimeoutMS: 2000})
	}
	f := newFake(t)
	f.onLogin, f.silenceMS = told, 1000
	r, err := MassDrop(context.Background(), MassDropOptions{Options: f.short(), Conns: 10, How: DropSilence, Silence: 3 * time.Second})
	if err != nil || !only(r, FaultEarly) || r.Drop.Early != 10 {
		t.Errorf("early: %v, %s", err, r.Summary())
	}
	f = newFake(t)
	f.onLogin, f.silenceMS = told, time.Hour.Milliseconds()
	r, err = MassDrop(context.Background(), MassDropOptions{Options: f.short(), Conns: 10, How: DropSilence, Silence: 3 * time.Second})
	if err != nil || !only(r, FaultNotClosed, FaultStatus) || r.Errors[FaultNotClosed] != 10 {
		t.Errorf("never: %v, %s", err, r.Summary())
	}
	f = newFake(t)
	f.onQuery = func(_ http.ResponseWriter, user string, item map[string]any) bool {
		if user == "t-0000000004" && item["Status"] == "Offline" {
			item["Status"], item["State"] = "PushOnline", "PushOnline" // on Windows
		}
		return true
	}
	r, err = MassDrop(context.Background(), MassDropOptions{Options: f.short(), Conns: 20})
	if err != nil || !only(r, FaultStatus) || r.Drop.Found != 19 {
		t.Errorf("wrong status: %v, %s", err, r.Summary())
	}
	f = newFake(t)
	f.refusePut = true
	if _, err = MassDrop(context.Background(), MassDropOptions{Options: f.short(), Conns: 5, How: DropSilence}); err == nil || !strings.Contains(err.Error(), "time-outs") {
		t.Errorf("console refuses: %v", err)
	}
}

func TestKick(t *testing.T) {
	f := newFake(t)
	r, err := Kick(context.Background(), KickOptions{Options: f.options(), Conns: 40, Kicks: 25, KickRate: 200, KickConns: 4})
	if err != nil || !r.OK {
		t.Fatalf("%v, %s", err, r.Summary())
	}
	k := r.Kicks
	if k.Kicks != 25 || k.Notice.Count != 25 || k.Answer.Count != 25 || k.Rate <= 0 || k.Rate > 220 {
		t.Errorf("%+v", k)
	}
	if c := r.Checks; len(c) != 3 || c[1].Right != 25 || c[2].Right != 15 {
		t.Errorf("checks %+v", c)
	}
}

func TestKickFaults(t *testing.T) {
	const victim = "t-0000000004"
	for name, c := range map[string]struct {
		want []Fault
		set  func(*fake)
	}{
		"no notice": {[]Fault{FaultNotice}, func(f *fake) {
			f.onKick = func(user string, notice []byte) []byte {
				if user == victim {
					return nil
				}
				return notice
			}
		}},
		"wrong code": {[]Fault{FaultForced, FaultNotice}, func(f *fake) {
			f.onKick = func(string, []byte) []byte {
				return codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeAnotherLogin})
			}
		}},
		"not closed": {[]Fault{FaultLogoutTimeout}, func(f *fake) { f.keepKicked = true }},
		"still online": {[]Fault{FaultStatus}, func(f *fake) {
			var kicked atomic.Bool
			f.onKick = func(_ string, notice []byte) []byte { kicked.Store(true); return notice }
			f.onQuery = func(_ http.ResponseWriter, user string, item map[string]any) bool {
				if user == victim && kicked.Load() {
					item["Status"], item["State"] = "Online", "Online"
				}
				return true
			}
		}},
		"somebody else": {[]Fault{FaultForced, FaultFalseOffline}, func(f *fake) {
			f.onKick = func(user string, notice []byte) []byte {
				if user == victim {
					go f.kick("t-0000000005")
				}
				return notice
			}
		}},
	} {
		f := newFake(t)
		c.set(f)
		r, err := Kick(context.Background(), KickOptions{Options: f.short(), Conns: 9, Kicks: 5, KickRate: 100, KickConns: 1})
		if err != nil || !only(r, c.want...) {
			t.Errorf("%s: %v, %s", name, err, r.Summary())
		}
	}
}

func TestMixed(t *testing.T) {
	f := newFake(t)
	r, err := Mixed(context.Background(), MixedOptions{
		Options: f.options(), Conns: 30, Rate: 200, Duration: time.Second, Stay: 5 * time.Millisecond, Visitors: 400,
		BeatRate: 100, QueryRate: 50, QueryIDs: 10, KickRate: 40,
	})
	if err != nil || !r.OK {
		t.Fatalf("%v, %s", err, r.Summary())
	}
	if r.Logins.OK != 230 || r.Kicks.Kicks != 40 || r.Queries[0].Requests != 50 || r.Logouts.Count != 160 || r.Heartbeats.Sent == 0 {
		t.Errorf("result %s", r.Summary())
	}
}

// TestMixedFaults: a query with a wrong answer, and kicks that find nobody.
func TestMixedFaults(t *testing.T) {
	o := MixedOptions{Conns: 10, Rate: 100, Duration: 300 * time.Millisecond, Stay: time.Millisecond, Visitors: 20, QueryRate: 20, QueryIDs: 5, KickRate: 10}
	f := newFake(t)
	f.onQuery = func(_ http.ResponseWriter, user string, item map[string]any) bool {
		if user == "t-0000000004" {
			item["Status"], item["State"] = "Offline", "Offline"
		}
		return true
	}
	o.Options = f.short()
	r, err := Mixed(context.Background(), o)
	if err != nil || !only(r, FaultFalseOffline) {
		t.Errorf("false offline: %v, %s", err, r.Summary())
	}
	f = newFake(t)
	f.onLogin = func(_ string, n int, answer []byte) []byte {
		if n > 10 {
			return codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeServerFull})
		}
		return answer
	}
	o.Options = f.short()
	r, err = Mixed(context.Background(), o)
	if err != nil || !only(r, FaultLoginRefused, FaultLate) || r.Errors[FaultLate] == 0 {
		t.Errorf("nobody to kick: %v, %s", err, r.Summary())
	}
}

// TestMixedLate: queries that are offered faster than they are answered.
func TestMixedLate(t *testing.T) {
	f := newFake(t)
	f.onQuery = func(_ http.ResponseWriter, user string, _ map[string]any) bool {
		if user == "t-0000000000" { // the one who stays
			time.Sleep(200 * time.Millisecond)
		}
		return true
	}
	r, err := Mixed(context.Background(), MixedOptions{
		Options: f.short(), Conns: 1, Rate: 50, Duration: 300 * time.Millisecond, Stay: time.Millisecond, Visitors: 20,
		QueryRate: 1000, QueryIDs: 1, KickRate: 5,
	})
	if err != nil || !only(r, FaultLate) || !strings.Contains(strings.Join(r.ErrorSamples, "\n"), "queries") || r.Queries[0].Rate > 90 {
		t.Errorf("%v, %s", err, r.Summary())
	}
}

// TestMixedInterrupt: an interrupt in the mix ends it with a partial result.
func TestMixedInterrupt(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f.onLogin = func(_ string, n int, answer []byte) []byte {
		if n == 50 {
			cancel()
		}
		return answer
	}
	r, err := Mixed(ctx, MixedOptions{Options: f.options(), Conns: 10, Rate: 200, Duration: time.Hour, Stay: time.Millisecond, Visitors: 20})
	if err != nil || r.OK || !r.Interrupted || r.Logins.OK < 50 {
		t.Errorf("%v, %+v", err, r)
	}
}

func TestMillion(t *testing.T) {
	f := newFake(t)
	f.onLogin = func(_ string, _ int, _ []byte) []byte {
		return codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, ServerTimeMS: 1, HeartbeatIntervalMS: 1000, SilenceTimeoutMS: 3000})
	}
	o := f.options()
	o.ServerPID = os.Getpid()
	r, err := Million(context.Background(), MillionOptions{Options: o, Conns: 50, Window: 7, Hold: 300 * time.Millisecond, Beat: time.Second, Silence: 3 * time.Second})
	if err != nil || !r.OK || r.Logins.OK != 50 || r.Drop.Users != 5 || r.Drop.Found != 5 || r.Stopped != "" {
		t.Fatalf("%v, %s", err, r.Summary())
	}
	whens := ""
	for _, s := range r.Snapshots {
		whens += s.When + ","
		if s.Heap != 3_500_000 || s.GCs != 7 || s.ServerRSS == 0 || s.MemTotal == 0 || s.Slab == 0 {
			t.Errorf("snapshot %+v", s)
		}
	}
	if !strings.HasPrefix(whens, "before,") || !strings.HasSuffix(whens, "all logged in,end of the hold,a tenth is gone,all gone,") {
		t.Errorf("snapshots %s", whens)
	}
}

// TestMillionMax: without a number of links the run stops where it must, and says why.
func TestMillionMax(t *testing.T) {
	f := newFake(t)
	f.onLogin = func(_ string, _ int, _ []byte) []byte {
		return codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, ServerTimeMS: 1, HeartbeatIntervalMS: 1000, SilenceTimeoutMS: 3000})
	}
	o := MillionOptions{Options: f.options(), Ceiling: 40, Hold: time.Millisecond, Beat: time.Second, Silence: 3 * time.Second}
	r, err := Million(context.Background(), o)
	if err != nil || !r.OK || r.Logins.OK != 40 || !strings.Contains(r.Stopped, "all 40 links") {
		t.Errorf("ceiling: %v, %s", err, r.Summary())
	}
	o.Ceiling, o.Window, o.Floor = 5000, 1, 0.9
	available, total, err := memAvailable()
	if err != nil {
		t.Fatal(err)
	}
	if float64(available) > 0.9*float64(total) {
		t.Skipf("%d of %d bytes are available: there is no floor to hit", available, total)
	}
	r, err = Million(context.Background(), o)
	if err != nil || !r.OK || r.Logins.OK == 0 || r.Logins.OK == 5000 || !strings.Contains(r.Stopped, "memory were left") {
		t.Errorf("floor: %v, %s", err, r.Summary())
	}
}

func TestNewOptionsRefused(t *testing.T) {
	ctx := context.Background()
	refused := func(what any, err error) {
		t.Helper()
		if !errors.Is(err, ErrOptions) {
			t.Errorf("%+v: %v", what, err)
		}
	}
	for _, o := range []HoldOptions{{Conns: 5, Low: 5}, {Rate: -1}, {BeatRate: -1}, {Settle: -1}, {Options: Options{AdminURL: "x"}}} {
		_, err := Hold(ctx, o)
		refused(o, err)
	}
	for _, o := range []StormOptions{{Conns: -1}, {Rates: []float64{1, -1}}} {
		_, err := Storm(ctx, o)
		refused(o, err)
	}
	for _, o := range []MassDropOptions{{Conns: -1}, {How: "sleep"}, {Silence: 2999 * time.Millisecond}, {Silence: 25 * time.Hour}, {Rate: -1}} {
		_, err := MassDrop(ctx, o)
		refused(o, err)
	}
	for _, o := range []KickOptions{{Conns: 5, Kicks: 6}, {KickRate: -1}, {KickConns: -1}, {Rate: -1}} {
		_, err := Kick(ctx, o)
		refused(o, err)
	}
	for _, o := range []MixedOptions{{Conns: -1}, {Visitors: 1}, {QueryIDs: 501}, {KickRate: 500, Rate: 500}, {Visitors: maxSigned}, {BeatRate: -1}, {QueryRate: -1}} {
		_, err := Mixed(ctx, o)
		refused(o, err)
	}
	for _, o := range []MillionOptions{{Conns: -1}, {Floor: 0.91}, {Beat: 1}, {Silence: time.Second}, {Window: -1}} {
		_, err := Million(ctx, o)
		refused(o, err)
	}
}
