package engine

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
)

// logins opens n links that log in at once, as user from, from+1, ...
func (r *rig) logins(from, n int) (all []*link) {
	for i := range n {
		k := r.open()
		k.send(loginFrame(activeLogin(fmt.Sprintf("u%d", from+i), codec.Android, "d1"))...)
		all = append(all, k)
	}
	return all
}

func (r *rig) wantWaiting(n int) {
	r.tb.Helper()
	if got := r.loop.turns.queue.Len(); got != n {
		r.tb.Fatalf("%d logins wait, want %d", got, n)
	}
}

// answerNext has the directory answer the oldest n logins that it holds.
func (r *rig) answerNext(n int) {
	for range min(n, len(r.dir.heldLogins)) {
		op := r.dir.heldLogins[0]
		r.dir.heldLogins = r.dir.heldLogins[1:]
		r.dir.answerLogin(op)
	}
}

// issued lists the users whose logins the directory was asked about, and forgets them.
func (r *rig) issued() (users []string) {
	for _, line := range r.dir.log {
		var user string
		if n, _ := fmt.Sscanf(line, "login %s", &user); n == 1 {
			users = append(users, user)
		}
	}
	r.dir.log = nil
	return users
}

// Between two Runs a loop takes no more logins than a slice, whatever arrives; what
// else arrives is served at once.
func TestLoginsComeInSlices(t *testing.T) {
	r := newRig(t, func(o *Options) { o.LoginSlice = 8 })
	old := r.open()
	old.login("old", codec.Android, "d1")
	r.run()
	r.issued()
	woken := r.drv.wakes
	all := r.logins(0, 100)
	if got := len(r.issued()); got != 8 {
		t.Fatalf("%d logins taken at once, want a slice of 8", got)
	}
	r.wantWaiting(92)
	if r.drv.wakes != woken+1 {
		t.Fatalf("the loop was woken %d times, want once for all", r.drv.wakes-woken)
	}
	old.send(heartbeat...)
	old.want(codec.TypeHeartbeatOK, nil)
	r.core.ForcedOffline([]directory.Notice{{Link: old.s.ID(), Cause: directory.CauseREST}})
	for i := 1; r.loop.Run(r.core.Now()); i++ {
		if got := len(r.issued()); got != 8 {
			t.Fatalf("Run %d took %d logins, want 8", i, got)
		}
		old.wantState("draining") // the kick did not wait
	}
	for i, k := range all {
		if k.s.State() != "online" {
			t.Fatalf("login %d is %s", i, k.s.State())
		}
	}
	r.wantWaiting(0)
}

// What is beyond what the directory may have at a time waits, and goes on in order
// as answers come.
func TestLoginsWaitForTheDirectory(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxPendingLogins = 4 })
	r.dir.hold = true
	r.logins(0, 10)
	r.run()
	r.wantWaiting(6)
	if got := r.issued(); !slices.Equal(got, []string{"u0", "u1", "u2", "u3"}) {
		t.Fatalf("issued %v", got)
	}
	r.answerNext(3)
	r.run()
	if got := r.issued(); !slices.Equal(got, []string{"u4", "u5", "u6"}) {
		t.Fatalf("issued %v: the wait is short, the oldest go first", got)
	}
	// A login that comes now does not overtake those who wait, room or not.
	r.answerNext(1)
	r.logins(10, 1)
	r.run()
	if got := r.issued(); !slices.Equal(got, []string{"u7"}) {
		t.Fatalf("issued %v", got)
	}
	r.dir.hold = false
	r.dir.release()
	r.run()
	r.wantWaiting(0)
	if got := r.core.m.logins[0].Get(); got != 11 {
		t.Fatalf("%d logins are decided, want 11", got)
	}
}

// Overrun, the newest go first; the rest is sent away after LoginQueueTime, and was
// not even looked at.
func TestOverrunLoginsAreShed(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxPendingLogins = 2 })
	r.dir.hold = true
	r.logins(0, 2)
	bad := r.open()
	forged := activeLogin("u2", codec.Android, "d1")
	forged.UserSig = []byte("no UserSig")
	bad.send(loginFrame(forged)...)
	old := r.logins(3, 3)
	r.advance(500 * time.Millisecond)
	fresh := r.logins(6, 2)
	r.issued()
	verified := r.core.m.sigMisses.Get()
	r.answerNext(1)
	r.run()
	if got := r.issued(); !slices.Equal(got, []string{"u7"}) {
		t.Fatalf("issued %v, want the newest", got)
	}
	r.advance(400 * time.Millisecond)
	for _, k := range append(old, bad) {
		k.wantState("deciding")
		k.wantNothing()
	}
	r.advance(100 * time.Millisecond)
	for _, k := range append(old, bad) {
		no := k.wantRefused(codec.CodeOverloaded)
		if !no.MayReconnect || no.RetryAfterMS < 1000 || no.RetryAfterMS > 3000 {
			t.Fatalf("%+v", no)
		}
		k.wantState("draining")
	}
	fresh[0].wantState("deciding") // it has 500 ms more
	r.wantWaiting(1)
	if got := r.core.m.shedLate.Get(); got != 4 {
		t.Fatalf("%d shed, want 4", got)
	}
	if got := r.core.m.sigMisses.Get() - verified; got != 1 {
		t.Fatalf("%d UserSigs were looked at, want that of the one who went on", got)
	}
	r.wantCloses(closeRefused, 4)
	if len(r.dir.leaves) != 0 {
		t.Fatal("the directory was told of the end of a link that it does not know")
	}
	r.answerNext(9)
	r.run()
}

// More than a step's worth that have waited too long are all sent away now, in steps.
func TestManyLateLoginsAreShed(t *testing.T) {
	for _, n := range []int{4, 5, 11} {
		r := newRig(t, func(o *Options) { o.MaxPendingLogins, o.Batch = 1, 4 })
		r.dir.hold = true
		r.logins(0, 1+n)
		r.clk.Advance(r.core.o.LoginQueueTime)
		for more := true; more; more = r.loop.Run(r.core.Now()) {
			if got := r.core.m.shedLate.Get(); got%4 != 0 && got != uint64(n) {
				t.Fatalf("%d shed in a step", got)
			}
		}
		if got := r.core.m.shedLate.Get(); got != uint64(n) {
			t.Errorf("%d of %d are shed", got, n)
		}
		r.dir.hold = false
		r.dir.release()
		r.run()
	}
}

// A full queue lets its oldest go.
func TestFullQueueShedsTheOldest(t *testing.T) {
	for _, n := range []int{3, 4, 5} {
		r := newRig(t, func(o *Options) { o.MaxPendingLogins, o.MaxWaitingLogins = 1, 4 })
		r.dir.hold = true
		all := r.logins(0, 1+n)
		for i, k := range all[1:] {
			if i < n-4 {
				k.wantRefused(codec.CodeOverloaded)
			} else {
				k.wantState("deciding")
				k.wantNothing()
			}
		}
		if got := r.core.m.shedFull.Get(); got != uint64(max(n-4, 0)) {
			t.Fatalf("%d waited: %d shed", n, got)
		}
		r.dir.hold = false
		r.dir.release()
		r.run()
	}
}

// What happens to a link while its login waits.
func TestWhileALoginWaits(t *testing.T) {
	wait := func() (*rig, *link) {
		r := newRig(t, func(o *Options) { o.MaxPendingLogins = 1 })
		r.dir.hold = true
		first := r.logins(0, 1)[0]
		first.wantState("deciding")
		k := r.logins(1, 1)[0]
		r.issued()
		return r, k
	}
	goOn := func(r *rig) {
		r.dir.hold = false
		r.dir.release()
		r.run()
	}
	t.Run("heartbeats and a logout wait with it", func(t *testing.T) {
		r, k := wait()
		k.send(heartbeat...)
		k.send(heartbeat...)
		k.send(logout...)
		k.wantNothing()
		goOn(r)
		k.want(codec.TypeLoginOK, nil)
		k.want(codec.TypeHeartbeatOK, nil)
		k.want(codec.TypeHeartbeatOK, nil)
		k.want(codec.TypeLogoutOK, nil)
		r.wantLog("login u1", "leave u1 Logout")
	})
	t.Run("the client closes", func(t *testing.T) {
		r, k := wait()
		k.fin()
		k.wantState("free")
		goOn(r)
		r.wantLog() // neither a Login nor a Leave
	})
	t.Run("the client closes and another takes its slot", func(t *testing.T) {
		r, k := wait()
		k.fin()
		other := r.open()
		if other.s.ID().Slot() != k.s.ID().Slot() {
			t.Fatal("another slot")
		}
		goOn(r)
		other.wantState("new")
		r.wantLog()
	})
	t.Run("a second login", func(t *testing.T) {
		r, k := wait()
		k.send(loginFrame(activeLogin("u1", codec.Android, "d1"))...)
		k.wantRefused(codec.CodeUnexpectedFrame)
		goOn(r)
		r.wantLog()
	})
	t.Run("the node stops", func(t *testing.T) {
		r, k := wait()
		r.core.Drain()
		r.run()
		k.wantRefused(codec.CodeServerDraining)
		goOn(r)
		r.wantLog()
	})
	t.Run("the app goes", func(t *testing.T) {
		r, k := wait()
		delete(r.dir.apps, testApp)
		goOn(r)
		k.wantRefused(codec.CodeUnknownApp)
		r.wantLog()
	})
	for _, first := range []time.Duration{5 * time.Second, 10 * time.Second} { // at most the login's
		t.Run(fmt.Sprint("the deadline passes, ", first), func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.MaxPendingLogins, o.FirstFrameTimeout, o.DecideTimeout = 1, first, time.Minute })
			r.dir.hold = true
			r.logins(0, 1)
			k := r.open()
			r.advance(first - 100*time.Millisecond)
			k.send(loginFrame(activeLogin("u1", codec.Android, "d1"))...)
			r.advance(900 * time.Millisecond)
			k.wantState("deciding")
			goOn(r)
			k.want(codec.TypeLoginOK, nil)
			if got := r.dir.logins[1].Link.ConnectedMS; got != testStart.UnixMilli() {
				t.Fatalf("connected at %d, want %d", got, testStart.UnixMilli())
			}
		})
	}
}

// A link that was told its end while its login waited is closed like any other: a
// client that does not close must not keep its place for ever.
func TestSentAwayWhileWaitingEnds(t *testing.T) {
	for name, end := range map[string]func(r *rig, k *link){
		"shed":          func(r *rig, _ *link) { r.advance(r.core.o.LoginQueueTime) },
		"fault":         func(_ *rig, k *link) { k.send(loginFrame(activeLogin("u1", codec.Android, "d1"))...) },
		"the node ends": func(r *rig, _ *link) { r.core.Drain(); r.run() },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.MaxPendingLogins, o.DecideTimeout = 1, time.Minute })
			r.dir.hold = true
			r.logins(0, 1)
			k := r.logins(1, 1)[0]
			end(r, k)
			k.wantState("draining")
			r.advance(r.core.o.DrainTimeout + 200*time.Millisecond)
			if k.wantState("free"); !k.conn.closed {
				t.Error("the connection is open")
			}
			r.dir.hold = false
			r.dir.release()
			r.run()
		})
	}
}

// What waits is a copy: the reactor's buffer is used again at once.
func TestWaitingLoginIsACopy(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxPendingLogins = 1 })
	r.dir.hold = true
	r.logins(0, 1)
	for round := range 3 { // requests are used again
		k := r.open()
		m := activeLogin(fmt.Sprintf("user-%d", round), codec.Web, fmt.Sprintf("device-%d", round))
		m.Resume, m.Ticket = true, []byte("no ticket")
		frame := loginFrame(m)
		r.loop.Data(k.s, frame, r.core.Now())
		for i := range frame {
			frame[i] = 0xee
		}
		r.answerNext(1)
		r.run()
		got := r.dir.logins[len(r.dir.logins)-1]
		if got.Device.ID != string(m.DeviceID) || got.Device.SDKVersion != "1.2.3" || got.Device.Model != "Model 9" || !got.Resume {
			t.Fatalf("round %d: %+v", round, got)
		}
	}
	r.dir.release()
	r.run()
}

// Every member of a login that aliases what the client has sent is copied.
func TestWaitingLoginCopiesAll(t *testing.T) {
	var r loginRequest
	copied := map[any]bool{}
	for _, f := range r.fields() {
		copied[f] = true
	}
	v := reflect.ValueOf(&r.m).Elem()
	for i := range v.NumField() {
		switch f := v.Field(i); f.Kind() {
		case reflect.Slice:
			if p, ok := f.Addr().Interface().(*[]byte); !ok || !copied[p] {
				t.Errorf("codec.Login.%s is not copied", v.Type().Field(i).Name)
			}
		case reflect.Pointer, reflect.Map, reflect.Interface, reflect.Struct, reflect.Array:
			t.Errorf("codec.Login.%s: is it copied?", v.Type().Field(i).Name)
		}
	}
}

// LoginRate is kept, and used.
func TestLoginRate(t *testing.T) {
	const rate = 200
	r := newRig(t, func(o *Options) { o.LoginRate, o.LoginQueueTime, o.MaxLinks = rate, time.Minute, 8000 })
	r.clk.Advance(time.Second)
	r.run()
	n := 0
	for range 100 { // 10 s, offered three times the rate
		r.logins(n, 3*rate/10)
		n += 3 * rate / 10
		for range 20 {
			r.clk.Advance(5 * time.Millisecond)
			r.run()
		}
	}
	ok := r.core.m.logins[0].Get()
	if ok > 10*rate+rate/5 || ok < 10*rate-rate/10 { // a fifth of a second may be saved up
		t.Errorf("%d logins in 10 s, want %d", ok, 10*rate)
	}
}

// shortly answers each login some time later, no more than perMS of them each millisecond.
type shortly struct {
	*fakeDirectory
	perMS float64
	quota float64
}

func (d *shortly) tick(r *rig) {
	d.quota = min(d.quota+d.perMS, d.perMS+1)
	n := min(int(d.quota), len(d.heldLogins))
	r.answerNext(n)
	d.quota -= float64(n)
}

// Goodput of a directory that can do 2,000 logins a second, offered more and more:
// it stays where it was at its best. Nobody who is let in has waited for long, all
// heartbeats are answered in the step in which they come, kicks soon.
func TestGoodputHoldsInAStorm(t *testing.T) {
	const capacity = 2 // per ms
	goodput := map[int]float64{}
	for _, load := range []int{1, 3} {
		r := newRig(t, func(o *Options) { o.MaxLinks = 15_000 })
		d := &shortly{fakeDirectory: r.dir, perMS: capacity}
		r.dir.hold = true
		crowd := r.open()
		crowd.send(loginFrame(activeLogin("old", codec.Android, "d1"))...)
		d.tick(r)
		d.tick(r)
		r.run()
		crowd.want(codec.TypeLoginOK, nil)
		var before uint64
		n := 0
		var under []*link
		for ms := range 4000 {
			if ms == 2000 {
				before = r.core.m.logins[0].Get()
			}
			for range load * capacity {
				k := r.open()
				k.send(loginFrame(activeLogin(fmt.Sprintf("u%d", n), codec.Android, "d1"))...)
				under = append(under, k)
				n++
			}
			crowd.send(heartbeat...)
			crowd.want(codec.TypeHeartbeatOK, nil)
			r.clk.Advance(time.Millisecond)
			d.tick(r)
			r.loop.Run(r.core.Now())
			under = slices.DeleteFunc(under, func(k *link) bool {
				if k.conn.out != nil { // answered: the client goes
					k.fin()
					return true
				}
				return false
			})
			d.heldLeaves = nil
		}
		goodput[load] = float64(r.core.m.logins[0].Get()-before) / 2
		if got := len(d.heldLogins); got > 1000 {
			t.Errorf("%d times: %d logins are with the directory, half a second's", load, got)
		}
		for _, k := range under {
			k.fin()
		}
		crowd.fin()
	}
	for load, got := range goodput {
		if got < 0.9*1000*capacity {
			t.Errorf("%d times its capacity offered: %.0f logins/s of %d", load, got, 1000*capacity)
		}
	}
}

// openAt opens a link from an address.
func (r *rig) openAt(addr string) *link {
	k := r.open()
	k.conn.addr = net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr))
	return k
}

func (k *link) tries(user string, sig []byte) {
	m := activeLogin(user, codec.Android, "d1")
	m.UserSig = sig
	k.send(loginFrame(m)...)
	k.takesTurn(k.s)
}

// Who fails too often is refused unseen, for longer each time; who is known to be
// good is let in all the same, and nobody else is touched.
func TestFailuresBar(t *testing.T) {
	r := newRig(t, func(o *Options) { o.UserFailures, o.IPFailures = 3, 20 })
	const evil, home = "203.0.113.9:1", "192.0.2.1:1"
	k := r.openAt(evil)
	ok := k.login("alice", codec.Android, "d1") // alice was there once
	k.fin()
	for range 3 {
		r.openAt(evil).tries("alice", []byte("forged"))
	}
	k = r.openAt(evil)
	k.tries("alice", []byte("forged"))
	no := k.wantRefused(codec.CodeTooManyFailures)
	if !no.MayReconnect || no.RetryAfterMS < 1000 || no.RetryAfterMS > 2000 {
		t.Fatalf("%+v", no)
	}
	if got := r.core.m.barredUser.Get(); got != 1 {
		t.Fatalf("%d barred by user", got)
	}
	// A UserSig that is good but was never seen waits like the others.
	k = r.openAt(evil)
	k.tries("alice", signAt("alice", testStart.Add(-time.Second), time.Hour))
	k.wantRefused(codec.CodeTooManyFailures)
	// One that was seen, a ticket, another user there, and alice elsewhere do not.
	k = r.openAt(evil)
	k.login("alice", codec.Android, "d1")
	k = r.openAt(evil)
	m := activeLogin("alice", codec.Android, "d1")
	m.UserSig, m.Resume, m.Ticket = nil, true, ok.Ticket
	k.send(loginFrame(m)...)
	k.takesTurn(k.s)
	k.want(codec.TypeLoginOK, nil)
	r.openAt(evil).login("bob", codec.Android, "d1")
	k = r.openAt(home)
	k.tries("alice", signAt("alice", testStart.Add(-2*time.Second), time.Hour))
	k.want(codec.TypeLoginOK, nil)
	// The penalty ends, and the next is longer.
	r.advance(time.Second)
	k = r.openAt(evil)
	k.tries("alice", []byte("forged"))
	k.wantRefused(codec.CodeSigMalformed)
	k = r.openAt(evil)
	k.tries("alice", []byte("forged"))
	if no := k.wantRefused(codec.CodeTooManyFailures); no.RetryAfterMS < 2000 {
		t.Fatalf("%+v", no)
	}
	// Many users' failures bar the address.
	for i := range 20 {
		r.openAt(evil).tries(fmt.Sprint("user", i), []byte("forged"))
	}
	before := r.core.m.barredAddress.Get()
	k = r.openAt(evil)
	k.tries("carol", sign("carol"))
	k.wantRefused(codec.CodeTooManyFailures)
	if got := r.core.m.barredAddress.Get(); got != before+1 {
		t.Fatalf("%d barred by address, then %d", before, got)
	}
}

// Failures from networks that are not limited bar nobody: their addresses stand for many.
func TestFailuresOfUnlimitedNetworks(t *testing.T) {
	r := newRig(t, func(o *Options) {
		o.UserFailures, o.IPFailures = 3, 6
		o.UnlimitedNetworks = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	})
	for _, c := range []struct {
		addr string
		want codec.Code
	}{{"203.0.113.9:1", codec.CodeSigMalformed}, {"203.0.114.9:1", codec.CodeTooManyFailures}} {
		for range 10 {
			r.openAt(c.addr).tries("alice", []byte("forged"))
		}
		k := r.openAt(c.addr)
		k.tries("alice", []byte("forged"))
		k.wantRefused(c.want)
	}
}

// Less than 0 turns both off.
func TestFailuresNeedNotBar(t *testing.T) {
	r := newRig(t, func(o *Options) { o.UserFailures, o.IPFailures, o.MaxLinks = -1, -1, 3000 })
	for range 1000 {
		k := r.open()
		k.tries("alice", []byte("forged"))
		k.wantRefused(codec.CodeSigMalformed)
		k.fin()
	}
}

// A UserSig is verified once, as long as the app's keys are the same.
func TestVerifiedUserSigsAreRemembered(t *testing.T) {
	r := newRig(t)
	want := func(hits, misses uint64) {
		t.Helper()
		r.run()
		if h, m := r.core.m.sigHits.Get(), r.core.m.sigMisses.Get(); h != hits || m != misses {
			t.Fatalf("%d hits and %d misses, want %d and %d", h, m, hits, misses)
		}
	}
	login := func() *link {
		k := r.open()
		k.tries("alice", sign("alice"))
		return k
	}
	login().want(codec.TypeLoginOK, nil)
	want(0, 1)
	k := login()
	k.want(codec.TypeLoginOK, nil)
	want(1, 1)
	if a, b := r.dir.logins[0].Cred, r.dir.logins[1].Cred; a != b {
		t.Fatalf("the directory is told %+v and %+v", a, b)
	}
	app := r.dir.apps[testApp].Clone()
	app.Keys[0].Secret = "another secret of sixteen bytes"
	r.dir.apps[testApp] = app
	login().wantRefused(codec.CodeSigMismatch)
	want(1, 2)
	app = app.Clone()
	app.Keys[0].Secret = testSecret
	r.dir.apps[testApp] = app
	login().want(codec.TypeLoginOK, nil)
	want(2, 2)
	r.clk.Advance(25 * time.Hour)
	login().wantRefused(codec.CodeSigExpired)
	want(2, 3)
}

func TestSigCacheOff(t *testing.T) {
	r := newRig(t, func(o *Options) { o.SigCache = -1 })
	for range 3 {
		r.open().login("alice", codec.Android, "d1")
	}
	r.run()
	if h, m := r.core.m.sigHits.Get(), r.core.m.sigMisses.Get(); h != 0 || m != 0 {
		t.Fatalf("%d hits, %d misses", h, m)
	}
}

// A node that stops with many links spreads them over the time that their logins take.
func TestDrainSpreadsByLinks(t *testing.T) {
	const n, rate = 900, 50
	for _, redirect := range []string{"", "other.example:7700"} {
		r := newRig(t, func(o *Options) { o.LoginRate, o.DrainRedirect, o.LoginQueueTime = rate, redirect, time.Minute })
		var all []*link
		for i := range n {
			r.clk.Advance(time.Second / rate)
			k := r.open()
			k.tries(fmt.Sprintf("u%d", i), sign(fmt.Sprintf("u%d", i)))
			k.want(codec.TypeLoginOK, nil)
			all = append(all, k)
		}
		unborn := r.open()
		r.core.Drain()
		r.run()
		var per [24]int // seconds, 18 of them if all of the rate were spare
		told := func(k *link, online bool) uint32 {
			if redirect != "" {
				var m codec.Redirect
				k.want(codec.TypeRedirect, &m)
				if m.Address != redirect {
					t.Fatalf("%+v", m)
				}
				return m.RetryAfterMS
			}
			if online {
				return k.wantForced(codec.CodeServerDraining).RetryAfterMS
			}
			return k.wantRefused(codec.CodeServerDraining).RetryAfterMS
		}
		for _, k := range all {
			ms := told(k, true)
			if ms < 1000 || ms >= 24_000 {
				t.Fatalf("told to wait %d ms", ms)
			}
			per[ms/1000]++
			k.wantState("draining")
		}
		told(unborn, false)
		for s, k := range per[1:18] {
			if k > rate*3/2 || k < rate/2 {
				t.Errorf("redirect %q: %d come back in second %d, want about %d: %v", redirect, k, s+1, rate, per)
			}
		}
		r.wantCloses(closeDraining, n+1)
		_, late := r.loop.Open(&fakeConn{}, 0, r.core.Now()) // it comes while the node stops
		told(&link{rig: r, conn: &fakeConn{out: late}}, false)
	}
}

// The gauges tell of those who wait.
func TestTurnGauges(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxPendingLogins = 2 })
	r.dir.hold = true
	r.logins(0, 5)
	r.loop.Run(r.core.Now())
	q := &r.loop.turns
	if q.seenWaiting.Load() != 3 || q.seenLimit.Load() != 2 {
		t.Fatalf("%d waiting, limit %d", q.seenWaiting.Load(), q.seenLimit.Load())
	}
	r.dir.hold = false
	r.dir.release()
	r.run()
}

// Both kinds of credentials that a returning client may have, and the first login.
func BenchmarkCredential(b *testing.B) {
	for _, c := range []struct {
		name   string
		cache  int
		ticket bool
	}{{"UserSigFirst", -1, false}, {"UserSigAgain", 1 << 16, false}, {"Ticket", -1, true}} {
		b.Run(c.name, func(b *testing.B) {
			r := newRig(b, func(o *Options) {
				o.Directory, o.SigCache = yesDirectory{newFakeDirectory()}, c.cache
			})
			r.loop.Attach(&quietDriver{})
			frames := make([][]byte, 1000)
			for i := range frames {
				m := activeLogin(fmt.Sprintf("user-%011d", i), codec.Android, "0b9f8a66-42a5-4d1e-9f0e-6d1f6a1c2b3d")
				if c.ticket {
					k := r.open()
					m.Resume, m.Ticket = true, k.login(string(m.UserID), m.Platform, string(m.DeviceID)).Ticket
					k.fin()
				}
				frames[i] = loginFrame(m)
			}
			now := r.core.Now()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				s, conn := r.quietLink()
				r.loop.Data(s, frames[i%len(frames)], now)
				r.takesTurn(s)
				if s.State() != "online" {
					b.Fatal(s.State())
				}
				r.loop.Closed(s, conn, errFIN, now)
				i++
			}
		})
	}
}

// A login that waits takes the origin of its WebSocket handshake with it: nothing
// of that stays on a link that is logged in.
func TestWaitingLoginOfAPage(t *testing.T) {
	for _, allowed := range []bool{true, false} {
		r := newWSRig(t, func(o *Options) { o.MaxPendingLogins = 1 })
		app := r.dir.apps[testApp].Clone()
		app.AllowedOrigins = []string{"https://chat.example.com"}
		r.dir.apps[testApp] = app
		r.dir.hold = true
		r.logins(0, 1)
		origin := "https://chat.example.com"
		if !allowed {
			origin = "https://evil.example.com"
		}
		k := r.openWS().upgrade(wsJSONName, origin)
		k.say(k.loginBytes(activeLogin("alice", codec.Web, "d1")))
		k.wantState("deciding")
		r.wantWaiting(1)
		r.dir.hold = false
		r.dir.release()
		r.run()
		if allowed {
			k.wantAnswers("LoginOK")
		} else {
			k.wantAnswers("LoginRefused OriginNotAllowed", "close 1008 OriginNotAllowed")
		}
		if n := len(r.loop.parts.bySlot); n != 0 {
			t.Errorf("allowed: %v, %d parts are kept", allowed, n)
		}
	}
}
