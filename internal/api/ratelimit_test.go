package api

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// TestRateLimits counts each command to its limit within one second, one below,
// at and above it.
func TestRateLimits(t *testing.T) {
	r := newRESTRig(t, func(o *Options, a *directory.App) {
		a.Limits = directory.Limits{CallsPerSecond: 3, BatchCallsPerSecond: 2}
	})
	for command, limit := range map[string]int{
		queryCommand: 3, kickCommand: 3, importCommand: 3, multiCommand: 2, checkCommand: 2, deleteCommand: 2,
	} {
		for i := range limit + 2 {
			a := r.post(command, `[]`)
			if over := a.ErrorCode == 60007; over != (i >= limit) {
				t.Errorf("%s, call %d of a limit of %d: %d %q", command, i+1, limit, a.ErrorCode, a.ErrorInfo)
			}
		}
		r.clock.Advance(time.Second/time.Duration(limit) - time.Millisecond)
		r.post(command, `[]`).want(t, 60007)
		r.clock.Advance(2 * time.Millisecond)
		if a := r.post(command, `[]`); a.ErrorCode == 60007 {
			t.Errorf("%s: nothing was earned: %q", command, a.ErrorInfo)
		}
		r.post(command, `[]`).want(t, 60007)
	}
	r.clock.Advance(time.Hour)
	for range 3 { // two names, one call, one rate; an hour's rest earns a second's worth
		r.post("openim/querystate", `[]`).want(t, 90001)
	}
	r.post(queryCommand, `[]`).want(t, 60007)
}

// TestRateOfEachApp: one app's calls are not another's.
func TestRateOfEachApp(t *testing.T) {
	r := newRESTRig(t, nil)
	now := r.clock.Now()
	l := &r.server.rest.rates
	if !l.take(1, 0, now, 1) || l.take(1, 0, now, 1) {
		t.Error("app 1 must have exactly one call")
	}
	if !l.take(2, 0, now, 1) || !l.take(1, 1, now, 1) {
		t.Error("another app, another command have their own")
	}
}

func TestRateUnlimited(t *testing.T) {
	for name, change := range map[string]func(*Options, *directory.App){
		"0": func(o *Options, a *directory.App) { a.Limits = directory.Limits{} },
		"dev": func(o *Options, a *directory.App) {
			o.Dev, a.Limits = true, directory.Limits{CallsPerSecond: 1, BatchCallsPerSecond: 1}
		},
	} {
		r := newRESTRig(t, change)
		for range 300 {
			r.post(queryCommand, `[]`).want(t, 90001)
			r.post(checkCommand, `[]`).want(t, 60003)
		}
		if t.Failed() {
			t.Fatal(name)
		}
	}
}

func TestBucket(t *testing.T) {
	at := func(ms int) int64 { return 1e18 + int64(ms)*1e6 }
	var b bucket
	for i, step := range []struct {
		ms   int
		rate float64
		want bool
	}{
		{0, 0.5, true}, {0, 0.5, false}, {1999, 0.5, false}, {2001, 0.5, true}, // less than one a second
		{1000, 0.5, false},                                       // the clock went back: nothing earned, nothing lost
		{60_000, 2, true}, {60_000, 2, true}, {60_000, 2, false}, // no more than a second's worth
	} {
		if got := b.take(at(step.ms), step.rate); got != step.want {
			t.Errorf("step %d: %v", i, got)
		}
	}
}

// TestLockout: ten failures within a minute lock out that caller and no other.
func TestLockout(t *testing.T) {
	r := newRESTRig(t, func(o *Options, a *directory.App) { a.Administrators = []string{testAdmin, "other"} })
	r.addApp(7, nil)
	bad := setParam("usersig", "xxx")
	good := func() restAnswer { return r.post(checkCommand, `[]`) }
	r.sendSpoilt(checkCommand, `[]`, dropParam("usersig")).want(t, 70002) // no verification, so no failure
	for range maxFailures {
		good().want(t, 60003)
		r.sendSpoilt(checkCommand, `[]`, bad).want(t, 70003)
	}
	for range 3 {
		good().want(t, 70050)
		r.sendSpoilt(checkCommand, `[]`, bad).want(t, 70050)
	}
	r.sendSpoilt(checkCommand, `[]`, setParam("identifier", "other"), setParam("usersig", r.sig("other"))).want(t, 60003)
	r.sendSpoilt(checkCommand, `[]`, setParam("sdkappid", "7")).want(t, 70014)
	r.mem.from("192.0.2.2")
	r.client.CloseIdleConnections()
	good().want(t, 60003)
	r.mem.from("192.0.2.1")
	r.client.CloseIdleConnections()
	r.clock.Advance(lockout - time.Millisecond)
	good().want(t, 70050)
	r.clock.Advance(time.Millisecond)
	good().want(t, 60003)
	r.sendSpoilt(checkCommand, `[]`, bad).want(t, 70003) // the count begins anew
	good().want(t, 60003)
}

// TestFailureWindow: failures that are a minute apart do not add up.
func TestFailureWindow(t *testing.T) {
	who := caller{ip: netip.MustParseAddr("192.0.2.1"), app: 1, identifier: "a"}
	for _, tt := range []struct {
		apart time.Duration
		want  bool
	}{
		{0, true}, {(failureWindow - time.Nanosecond) / (maxFailures - 1), true},
		{failureWindow/(maxFailures-1) + time.Millisecond, false}, {time.Hour, false}, {-time.Second, false},
	} {
		table := newFailureTable(10, metrics.NewSet())
		now := testStart
		for i := range maxFailures {
			if i > 0 {
				now = now.Add(tt.apart)
			}
			if table.locked(who, now) {
				t.Fatalf("%v apart: locked after %d", tt.apart, i)
			}
			table.failed(who, now)
		}
		if got := table.locked(who, now); got != tt.want {
			t.Errorf("%v apart: locked %v, want %v", tt.apart, got, tt.want)
		}
	}
}

// TestFailureTableBound: a flood of callers stays within the bound; the one
// remembered longest goes first.
func TestFailureTableBound(t *testing.T) {
	const limit = 5
	m := metrics.NewSet()
	table := newFailureTable(limit, m)
	who := func(i int) caller { return caller{app: 1, identifier: fmt.Sprint(i)} }
	lock := func(i int) {
		for range maxFailures {
			table.failed(who(i), testStart)
		}
	}
	for n := range 3 * limit {
		lock(n)
		if want := min(n+1, limit); len(table.records) != want || len(table.order) != want {
			t.Fatalf("after %d callers: %d records, %d in order", n+1, len(table.records), len(table.order))
		}
		for i := range n + 1 {
			if got, want := table.locked(who(i), testStart), i > n-limit; got != want {
				t.Fatalf("after %d callers: caller %d locked %v, want %v", n+1, i, got, want)
			}
		}
	}
	if got := m.Counter("rollcall_rest_failure_records_evicted_total").Get(); got != 2*limit {
		t.Errorf("%d evictions counted, want %d", got, 2*limit)
	}
}

// TestSigCacheBound: the cache forgets, and what it forgot is verified again.
func TestSigCacheBound(t *testing.T) {
	const limit = 3
	r := newRESTRig(t, func(o *Options, a *directory.App) { o.MaxSigs = limit })
	for i := range 3 * limit {
		for range 2 {
			r.sendSpoilt(checkCommand, `[]`, setParam("usersig", r.sigAt(testAdmin, testStart.Unix()-int64(i)))).want(t, 60003)
		}
		if got, want := len(r.server.rest.sigs.entries), min(i+1, limit); got != want {
			t.Errorf("after %d UserSigs: %d entries, want %d", i+1, got, want)
		}
	}
	if got := r.metrics.Counter("rollcall_rest_sig_cache_evicted_total").Get(); got != 2*limit {
		t.Errorf("%d evictions counted, want %d", got, 2*limit)
	}
}

// TestSigCacheBinds: a remembered UserSig is good only for whom it was.
func TestSigCacheBinds(t *testing.T) {
	r := newRESTRig(t, func(o *Options, a *directory.App) { a.Administrators = []string{testAdmin, "other"} })
	r.addApp(7, nil)
	r.post(checkCommand, `[]`).want(t, 60003)
	r.sendSpoilt(checkCommand, `[]`, setParam("identifier", "other")).want(t, 70013)
	r.sendSpoilt(checkCommand, `[]`, setParam("sdkappid", "7")).want(t, 70014)
}
