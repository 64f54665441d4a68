package embedded

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestOptions(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{MaxPending: -1}, "MaxPending must be 1 to 1073741824, or 0 for the default 1024, got -1"},
		{Options{Step: -1}, "Step must be"},
		{Options{Step: 1<<20 + 1}, "got 1048577"},
		{Options{MaxApps: -1}, "MaxApps must be"},
		{Options{MaxUpdates: -1}, "MaxUpdates must be"},
		{Options{MaxSweeps: 1025}, "MaxSweeps must be"},
		{Options{Shards: 3}, "Shards must be a power of two up to 65536, or 0 for the default, got 3"},
		{Options{Shards: 1 << 17}, "Shards must be"},
		{Options{RetryAfter: -time.Second}, "RetryAfter must not be negative, got -1s"},
		{Options{Ceilings: presence.Ceilings{Web: 101}}, "got 101"},
	} {
		if _, err := New(c.o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
	d := open(t, Options{})
	if d.opts.MaxPending != 1024 || d.opts.Step != 256 || len(d.lanes) != 1024 || d.retryAfterMS() != 2000 {
		t.Errorf("defaults: %+v", d.opts)
	}
}

// A lane holds MaxPending decisions. Over it logins, kicks and account calls
// are refused at once; a Leave is taken.
func TestMaxPending(t *testing.T) {
	const most = 4
	j := &heldJournal{}
	b := newBed(t, Options{MaxPending: most})
	alice := b.login("alice", "d1", presence.Android)
	b.said()
	b.opts.Journal = j
	for i := range most - 1 {
		b.login(fmt.Sprintf("u%d", i), "d1", presence.Android)
	}
	if got := b.login("n", "d1", presence.Android); b.pending() != most || got.Code != 0 {
		t.Fatalf("decision %d of %d was refused, %d pend", most, most, b.pending())
	}
	b.mustSay()
	over := b.login("over", "d1", presence.Android)
	b.mustSay(fmt.Sprintf("login %d: 70169", over.Login.Link.ID.Gen()))
	if over.RetryAfterMS != 2000 {
		t.Errorf("retry after %d ms", over.RetryAfterMS)
	}
	b.kick("alice")
	b.mustSay("kick: 70169")
	var results []int
	b.Accounts(&directory.AccountsOp{
		App: app, Action: directory.AccountsImport, UserIDs: []string{"x", "y"},
		Done: func(op *directory.AccountsOp) { results = op.Results },
	})
	if fmt.Sprint(results) != "[70169 70169]" {
		t.Errorf("accounts: %v", results)
	}
	b.leave(alice, directory.LeaveLogout)
	if b.pending() != most+1 {
		t.Errorf("the Leave was not taken: %d pend", b.pending())
	}
	for kind, want := range map[string]int{"login": 1, "kick": 1, "import": 2, "leave": 0} {
		if n := b.counter(`rollcall_directory_shed_total{kind="` + kind + `"}`); n != want {
			t.Errorf("%d shed of kind %s, want %d", n, kind, want)
		}
	}
	for j.len() > 0 {
		j.settle(t, nil)
	}
	b.mustBe("alice", "Offline")
	b.mustBe("n", "Online")
	b.mustBe("over", "70107")
	if b.login("over", "d1", presence.Android); b.pending() != 1 {
		t.Errorf("the room did not come back: %d pend", b.pending())
	}
	j.settle(t, nil)
}

func TestMaxUpdates(t *testing.T) {
	const most = 3
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j, MaxUpdates: most})
	codes := map[int]int{}
	issue := func() {
		op := &directory.UpdateAppOp{SDKAppID: app, Mutate: func(*directory.App) error { return nil }}
		op.Done = func(op *directory.UpdateAppOp) {
			var de *directory.Error
			errors.As(op.Err, &de)
			if de == nil {
				de = &directory.Error{}
			}
			codes[de.Code]++
		}
		b.UpdateApp(op)
	}
	for range most + 1 { // one is at the journal
		issue()
	}
	if len(codes) != 0 {
		t.Fatalf("answered %v", codes)
	}
	issue()
	if codes[directory.CodeUnavailable] != 1 || b.counter(`rollcall_directory_shed_total{kind="update_app"}`) != 1 {
		t.Fatalf("over the limit: %v", codes)
	}
	for range most + 1 {
		j.settle(t, nil)
	}
	if codes[0] != most+1 || b.App(app).Version != most+2 {
		t.Fatalf("answered %v, version %d", codes, b.App(app).Version)
	}
}

func TestMaxApps(t *testing.T) {
	b := newBed(t, Options{MaxApps: 3})
	for id := uint32(1); id <= 3; id++ {
		err := b.update(&directory.UpdateAppOp{SDKAppID: id, Create: true}).Err
		if (err == nil) != (id <= 2) { // the bed has one already
			t.Errorf("app %d: %v", id, err)
		}
	}
	if err := b.update(&directory.UpdateAppOp{SDKAppID: 1}).Err; err != nil {
		t.Errorf("change at the limit: %v", err)
	}
}

// Without random bytes there is no ticket key, and without that no app.
func TestNoAppWithoutTicketKey(t *testing.T) {
	b := newBed(t, Options{Rand: bytes.NewReader(make([]byte, 32+31))}) // the bed's app takes 32
	if b.App(app).TicketKey != ([32]byte{}) {
		t.Fatal("the key is not what Rand gave")
	}
	err := b.update(&directory.UpdateAppOp{SDKAppID: 5, Create: true}).Err
	if !errors.Is(err, io.ErrUnexpectedEOF) || b.App(5) != nil {
		t.Fatalf("with 31 bytes: %v", err)
	}
}

func TestMaxSweeps(t *testing.T) {
	b := newBed(t, Options{MaxSweeps: 2})
	dry := func() (code int) {
		done := make(chan struct{})
		op := &directory.DryRunOp{App: app, Done: func(*directory.DryRunOp) { close(done) }}
		b.DryRun(op)
		b.wait("dry run", done)
		return op.Code
	}
	for taken := range 2 {
		if code := dry(); code != presence.CodeOK {
			t.Errorf("with %d running: code %d", taken, code)
		}
		b.startSweep()
	}
	if code := dry(); code != directory.CodeUnavailable {
		t.Errorf("over the limit: code %d", code)
	}
	before := b.App(app)
	if err := b.update(&directory.UpdateAppOp{SDKAppID: app, Enforce: true}).Err; err == nil || b.App(app) != before {
		t.Errorf("enforce over the limit: %v", err)
	}
	if n := b.counter("rollcall_directory_sweeps_shed_total"); n != 2 {
		t.Errorf("%d shed", n)
	}
	b.endSweep()
	b.endSweep()
	if code := dry(); code != presence.CodeOK {
		t.Errorf("the places did not come back: code %d", code)
	}
}

// A caller is not kept for more than a step: what others pile up on the lane
// while it works, a goroutine goes on with.
func TestCallersAreNotKept(t *testing.T) {
	b := newBed(t, Options{Step: 16})
	var stop atomic.Bool
	var rounds atomic.Int64
	ended := make(chan struct{})
	var again func(*directory.LoginOp)
	again = func(*directory.LoginOp) {
		if stop.Load() {
			close(ended)
			return
		}
		rounds.Add(1)
		op := b.loginOp("busy", "d1", presence.Android)
		op.Done = again
		b.Login(op)
	}
	returned := make(chan struct{})
	go func() {
		first := b.loginOp("busy", "d1", presence.Android)
		first.Done = again
		b.Login(first)
		close(returned)
	}()
	b.wait("the caller who started it all", returned)
	// The lane is not idle for a moment, and yet others have their turn.
	answered := make(chan struct{})
	op := b.loginOp("alice", "d1", presence.Android)
	op.Done = func(*directory.LoginOp) { close(answered) }
	b.Login(op)
	b.wait("another user's login", answered)
	stop.Store(true)
	b.wait("the chain", ended)
	if rounds.Load() < 16 {
		t.Errorf("only %d rounds", rounds.Load())
	}
	b.await("rest", func() bool { return b.pending() == 0 })
}

func TestClosed(t *testing.T) {
	b := newBed(t, Options{})
	op := b.login("alice", "d1", presence.Android)
	b.said()
	for range 2 {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
	b.login("bob", "d1", presence.Android)
	b.leave(op, directory.LeaveLogout)
	b.kick("alice")
	b.mustSay("login 2: 70169", "leave 1: 70169 false", "kick: 70169")
	if err := b.update(&directory.UpdateAppOp{SDKAppID: app}).Err; err == nil {
		t.Error("an app was updated")
	}
	done := false
	b.DryRun(&directory.DryRunOp{App: app, Done: func(op *directory.DryRunOp) { done = op.Code == directory.CodeUnavailable }})
	if !done || len(b.sweeps) != 0 {
		t.Error("a dry run was started")
	}
	b.mustBe("alice", "Online") // reading goes on
	b.clock.Advance(time.Hour)
}

// Close ends a sweep that waits for the journal.
func TestCloseEndsSweeps(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	b.login("alice", "d1", presence.Android)
	done := make(chan struct{})
	op := &directory.UpdateAppOp{SDKAppID: app, Enforce: true, Mutate: func(*directory.App) error { return nil }, Done: func(*directory.UpdateAppOp) { close(done) }}
	b.UpdateApp(op)
	login := j.held[0]
	j.held = j.held[1:]
	j.settle(t, nil)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b.wait("enforce", done)
	if op.Err == nil || !strings.Contains(op.Err.Error(), "closed") {
		t.Errorf("enforce: %v", op.Err)
	}
	login.done(nil) // what the journal still held is answered
	b.mustBe("alice", "Online")
}

// The gauges are exact and in the metrics under the names that are documented.
func TestMetrics(t *testing.T) {
	b := newBed(t, Options{Shards: 4})
	dual, _ := presence.Preset(presence.PresetDual)
	b.update(&directory.UpdateAppOp{SDKAppID: app, Mutate: b.setPolicy(dual)})
	for i := range 10 {
		b.leave(b.login(fmt.Sprintf("u%d", i), "d1", presence.Android), directory.LeaveTimeOut)
	}
	for i := range 4 {
		b.login(fmt.Sprintf("u%d", i), "w1", presence.Web)
	}
	b.login("u0", "w1", presence.Web)
	b.login("u1", "w2", presence.Web)
	b.kick("u2")
	b.kick("nobody")
	b.Accounts(&directory.AccountsOp{App: app, Action: directory.AccountsImport, UserIDs: []string{"i1", "i2", "i2"}, Done: func(*directory.AccountsOp) {}})
	b.Accounts(&directory.AccountsOp{App: app, Action: directory.AccountsDelete, UserIDs: []string{"u3", "u4"}, Done: func(*directory.AccountsOp) {}})
	var out bytes.Buffer
	b.opts.Metrics.Write(&out)
	for _, line := range []string{
		`rollcall_apps 1`,
		`rollcall_users{status="online"} 2`,
		`rollcall_users{status="push_online"} 5`,
		`rollcall_users{status="offline"} 3`,
		`rollcall_instances{status="online"} 2`,
		`rollcall_instances{status="push_online"} 7`,
		`rollcall_directory_pending 0`,
		`rollcall_decisions_total{kind="login",result="changed"} 16`,
		`rollcall_decisions_total{kind="leave",result="changed"} 10`,
		`rollcall_decisions_total{kind="kick",result="changed"} 1`,
		`rollcall_decisions_total{kind="kick",result="unchanged"} 1`,
		`rollcall_decisions_total{kind="import",result="changed"} 2`,
		`rollcall_decisions_total{kind="import",result="unchanged"} 1`,
		`rollcall_decisions_total{kind="delete",result="changed"} 2`,
		`rollcall_notices_total{cause="replaced"} 1`,
		`rollcall_notices_total{cause="another_login"} 1`,
		`rollcall_notices_total{cause="rest"} 1`,
		`rollcall_notices_total{cause="account_deleted"} 1`,
		`rollcall_notices_dropped_total 0`,
	} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("no line %q", line)
		}
	}
	b.Watch(node, b)()
	b.kick("u0")
	if n := b.counter("rollcall_notices_dropped_total"); n != 1 {
		t.Errorf("%d notices dropped", n)
	}
}
