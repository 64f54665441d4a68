package engine

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// late is how much later than due the engine may act: the wheel's tick and ours.
const late = 128*time.Millisecond + tickInterval

// The first frame, here the login, must be complete within FirstFrameTimeout of the accept.
func TestFirstFrameDeadline(t *testing.T) {
	in := loginFrame(activeLogin("alice", codec.Android, "d1"))
	for _, c := range []struct {
		at time.Duration
		in bool
	}{{4999 * time.Millisecond, true}, {5000 * time.Millisecond, false}, {5001 * time.Millisecond, false}} {
		r := newRig(t)
		k := r.open()
		r.clk.Advance(time.Second)
		k.send(in[:10]...) // bytes alone do not extend it
		r.clk.Advance(c.at - time.Second)
		k.send(in[10:]...)
		if !c.in {
			if no := k.wantRefused(codec.CodeLoginTimeout); !no.MayReconnect {
				t.Fatalf("%+v", no)
			}
			k.wantState("draining")
			r.wantCloses(closeFirstFrame, 1)
			r.wantLog()
			continue
		}
		k.want(codec.TypeLoginOK, nil)
	}

	r := newRig(t)
	k := r.open()
	k.send(in[:len(in)-1]...)
	r.advance(4999 * time.Millisecond)
	k.wantState("new")
	r.advance(1*time.Millisecond + late)
	k.wantRefused(codec.CodeLoginTimeout)
	k.wantState("draining")
	if !k.conn.fin || k.conn.closed {
		t.Fatal("want a half-close")
	}
	r.advance(time.Second + late)
	if !k.conn.closed {
		t.Fatal("a client that does not close is not closed")
	}
	r.wantCloses(closeFirstFrame, 1)
	r.wantLog()
}

// A client whose first frame is no login, where the protocol has such, has
// LoginTimeout for the login, from the accept on.
func TestLoginDeadline(t *testing.T) {
	r := newRig(t)
	k := r.open()
	r.clk.Advance(4 * time.Second)
	r.loop.heard(k.s)
	r.advance(5999 * time.Millisecond)
	k.wantState("new")
	r.advance(time.Millisecond + late)
	if no := k.wantRefused(codec.CodeLoginTimeout); !no.MayReconnect {
		t.Fatalf("%+v", no)
	}
	r.wantCloses(closeLoginTimeout, 1)

	k = r.open()
	r.clk.Advance(4 * time.Second)
	r.loop.heard(k.s)
	r.clk.Advance(5999 * time.Millisecond)
	k.login("alice", codec.Android, "d1")
	if got, want := r.dir.logins[0].Link.ConnectedMS, r.core.Now().WallMS-9999; got != want {
		t.Fatalf("connected at %d, want %d", got, want)
	}
}

// FirstFrameTimeout is at most LoginTimeout.
func TestFirstFrameWithinLogin(t *testing.T) {
	r := newRig(t, func(o *Options) { o.LoginTimeout, o.FirstFrameTimeout = 2*time.Second, 7*time.Second })
	k := r.open()
	r.advance(2*time.Second + late)
	k.wantState("draining")
}

// Not even by a fraction of a millisecond, wherever in the wheel's tick it is due.
func TestSilenceBetweenMilliseconds(t *testing.T) {
	const silence, links = 60 * time.Second, 128
	r := newRig(t)
	all := make([]*link, links)
	for i := range all {
		all[i] = r.open()
		all[i].login(fmt.Sprintf("u%d", i), codec.Web, "d1")
	}
	r.clk.Advance(900 * time.Microsecond)
	end := make([]time.Time, links)
	for i, k := range all {
		k.send(heartbeat...)
		end[i] = r.clk.Now().Add(silence)
		r.clk.Advance(time.Millisecond)
	}
	r.clk.Advance(end[0].Sub(r.clk.Now()) - 800*time.Microsecond)
	for !r.clk.Now().After(end[links-1].Add(time.Second)) {
		r.run()
		for i, k := range all {
			if k.s.State() == "free" && r.clk.Now().Before(end[i]) {
				t.Fatalf("link %d is closed %v before its time-out is over", i, end[i].Sub(r.clk.Now()))
			}
		}
		r.clk.Advance(100 * time.Microsecond)
	}
	r.wantCloses(closeSilent, links)
}

// The silence time-out of every platform: never early, at most 1 s late, from
// the last bytes, whatever they are.
func TestSilence(t *testing.T) {
	for _, p := range codec.Platforms() {
		t.Run(p.String(), func(t *testing.T) {
			r := newRig(t, func(o *Options) { o.MinProgress = -1 }) // half a frame has all the time there is
			silence := 400 * time.Second
			if p == codec.Web || p == codec.MiniProgram {
				silence = 60 * time.Second
			}
			for _, life := range []struct {
				name string
				send []byte
			}{{"login", nil}, {"heartbeat", heartbeat}, {"half a header", []byte{byte(codec.TypeHeartbeat), codec.Version << 4}}} {
				k := r.open()
				k.login("alice", p, "d1")
				r.advance(silence - 1300*time.Millisecond)
				if life.send != nil {
					k.send(life.send...)
					r.advance(silence - 1*time.Millisecond)
				} else {
					r.advance(1299 * time.Millisecond)
				}
				k.wantState("online")
				r.wantLog("login alice")
				r.advance(time.Millisecond + late)
				k.wantState("free")
				r.wantLog("leave alice TimeOut")
				if !k.conn.closed {
					t.Fatal("not closed")
				}
			}
			r.wantCloses(closeSilent, 3)
		})
	}
}

// When the machine stood still, bytes may have arrived that nobody looked at
// yet: such a link is not silent.
func TestStalledLoop(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Web, "d1")
	k.conn.unread = true
	r.clk.Advance(10 * time.Minute)
	r.run()
	k.wantState("online")
	k.conn.unread = false
	r.advance(59 * time.Second)
	k.wantState("online")
	r.advance(time.Second + late)
	k.wantState("free")
}

// A heartbeat only stamps: the wheel is touched when the old time comes.
func TestHeartbeatLeavesWheelAlone(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Web, "d1")
	visits := 0
	for range 59 {
		r.clk.Advance(time.Second)
		k.send(heartbeat...)
		v, _ := r.loop.wheel.Advance(r.core.Now().MonoMS, 1000, r.loop.due)
		visits += v
	}
	if visits != 0 {
		t.Fatalf("%d visits before the time-out would have come", visits)
	}
}

// Many links that fall silent together are worked off in bounded steps.
func TestMassExpiry(t *testing.T) {
	const n, batch = 100, 7
	r := newRig(t, func(o *Options) { o.Batch = batch })
	for i := range n {
		r.open().login(fmt.Sprintf("u%d", i), codec.Web, "d1")
	}
	r.clk.Advance(61 * time.Second)
	before := len(r.dir.leaves)
	steps := 0
	for more := true; more; steps++ {
		more = r.loop.Run(r.core.Now())
		if done := len(r.dir.leaves) - before; done > batch {
			t.Fatalf("%d time-outs in one step of %d", done, batch)
		}
		before = len(r.dir.leaves)
	}
	r.wantCloses(closeSilent, n)
	if steps < n/batch {
		t.Fatalf("%d steps", steps)
	}
}

func TestDecideTimeout(t *testing.T) {
	r := newRig(t)
	r.dir.hold = true
	k := r.open()
	r.advance(4 * time.Second)
	k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
	r.advance(9999 * time.Millisecond)
	k.wantState("deciding")
	r.advance(time.Millisecond + late)
	if no := k.wantRefused(codec.CodeUnavailable); !no.MayReconnect || no.RetryAfterMS == 0 {
		t.Fatalf("%+v", no)
	}
	r.wantLog("login alice", "leave alice LinkClosed") // so that a late yes leaves nobody Online
	r.dir.release()
	r.run()
	k.wantNothing()
	r.wantCloses(closeDecideTimeout, 1)
	if r.core.PendingLogins() != 0 {
		t.Fatalf("%d logins pending", r.core.PendingLogins())
	}
}

// CloseOnSigEnd ends the link with its UserSig, at most 60 s late, and not otherwise.
func TestCloseOnSigEnd(t *testing.T) {
	for _, on := range []bool{false, true} {
		r := newRig(t)
		app := r.dir.apps[testApp].Clone()
		app.CloseOnSigEnd = on
		r.dir.apps[testApp] = app
		k := r.open()
		m := activeLogin("alice", codec.Android, "d1")
		m.UserSig = signAt("alice", testStart, 90*time.Second)
		k.send(loginFrame(m)...)
		k.want(codec.TypeLoginOK, nil)
		for range 89 {
			r.advance(time.Second)
			k.send(heartbeat...)
			k.want(codec.TypeHeartbeatOK, nil)
		}
		r.advance(60 * time.Second)
		if !on {
			k.wantState("online")
			continue
		}
		k.wantForced(codec.CodeSigEnded)
		r.wantLog("login alice", "leave alice LinkClosed")
		r.wantCloses(closeSigEnded, 1)
	}
}

// A UserSig that never ends in practice does not end the link.
func TestCloseOnSigEndFarAway(t *testing.T) {
	for _, expireS := range []int64{1 << 32, math.MaxInt64 / 1000, math.MaxInt64 - 1, math.MaxInt64} {
		r := newRig(t)
		app := r.dir.apps[testApp].Clone()
		app.CloseOnSigEnd = true
		r.dir.apps[testApp] = app
		sig, err := usersig.Sign(app.Keys[0].Secret, testApp, "alice", testStart.Unix(), expireS, nil)
		if err != nil {
			t.Fatal(err)
		}
		k := r.open()
		m := activeLogin("alice", codec.Android, "d1")
		m.UserSig = []byte(sig)
		k.send(loginFrame(m)...)
		k.want(codec.TypeLoginOK, nil)
		r.advance(61 * time.Second)
		k.wantState("online")
	}
}

// A resume by ticket carries the end of the UserSig on; silence still counts.
func TestCloseOnSigEndOfTicket(t *testing.T) {
	r := newRig(t)
	app := r.dir.apps[testApp].Clone()
	app.CloseOnSigEnd = true
	r.dir.apps[testApp] = app
	k := r.open()
	m := activeLogin("alice", codec.Android, "d1") // goodTicket's UserSig lasts two hours
	m.Resume, m.Ticket, m.UserSig = true, goodTicket(1), nil
	k.send(loginFrame(m)...)
	k.want(codec.TypeLoginOK, nil)
	r.advance(399 * time.Second)
	k.wantState("online")
	k.send(heartbeat...)
	k.want(codec.TypeHeartbeatOK, nil)
	r.advance(401 * time.Second)
	k.wantState("free")
	r.wantCloses(closeSilent, 1)
}

// Each cause of a notice: frame first, then a half-close, what comes in is
// discarded, the close after at most DrainTimeout, and no Leave.
func TestForcedOffline(t *testing.T) {
	for _, c := range []struct {
		cause  directory.NoticeCause
		code   codec.Code
		reason closeReason
	}{
		{directory.CauseAnotherLogin, codec.CodeAnotherLogin, closeAnotherLogin},
		{directory.CauseReplaced, codec.CodeReplaced, closeReplaced},
		{directory.CauseREST, codec.CodeKickedREST, closeKicked},
		{directory.CauseAccountDeleted, codec.CodeAccountDeleted, closeAccountDeleted},
		{directory.CausePolicyChange, codec.CodePolicyChange, closePolicyChange},
	} {
		t.Run(c.code.String(), func(t *testing.T) {
			r := newRig(t)
			k := r.open()
			k.login("alice", codec.Android, "d1")
			wakes := r.drv.wakes
			r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: c.cause, By: presence.Device{Platform: presence.IPad, Model: "Tablet"}, TimeMS: 12345}})
			if r.drv.wakes != wakes+1 {
				t.Fatalf("%d wakes for one batch", r.drv.wakes-wakes)
			}
			k.wantNothing()
			r.run()
			m := k.wantForced(c.code)
			if m.ByPlatform != codec.IPad || m.ByDeviceModel != "Tablet" || m.TimeMS != 12345 || m.MayReconnect {
				t.Fatalf("%+v", m)
			}
			if !k.conn.fin || k.conn.closed {
				t.Fatal("want a half-close, so that the notice arrives")
			}
			k.send(heartbeat...)
			k.send(0, 0, 0)
			k.wantNothing()
			r.advance(999 * time.Millisecond)
			k.wantState("draining")
			r.advance(time.Millisecond + late)
			if !k.conn.closed {
				t.Fatal("not closed after DrainTimeout")
			}
			r.wantLog("login alice")
			r.wantCloses(c.reason, 1)
		})
	}
}

// A client that does not read gets its FIN when all is written, or is cut off.
func TestForcedOfflineSlowReader(t *testing.T) {
	for _, reads := range []bool{true, false} {
		r := newRig(t)
		k := r.open()
		k.login("alice", codec.Android, "d1")
		k.conn.stuck = true
		r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseREST}})
		r.run()
		r.advance(500 * time.Millisecond)
		if k.conn.fin || k.conn.closed {
			t.Fatal("FIN before all was written")
		}
		if reads {
			k.conn.buffered = 0
			r.advance(flushPollMS*time.Millisecond + late)
			if !k.conn.fin || k.conn.closed {
				t.Fatal("no FIN after all was written")
			}
			k.fin()
			continue
		}
		r.advance(500*time.Millisecond + late)
		if !k.conn.closed {
			t.Fatal("not closed after DrainTimeout")
		}
	}
}

// A notice that the Directory sends right behind the answer to the login reaches
// the client behind its LoginOK.
func TestLoginOKPrecedesForcedOffline(t *testing.T) {
	for _, inside := range []bool{true, false} {
		r := newRig(t)
		r.dir.hold = !inside
		k := r.open()
		if inside {
			done := false
			r.dir.decide = func(op *directory.LoginOp) {
				id := op.Login.Link.ID
				r.clk.AfterFunc(0, func() { r.core.ForcedOffline([]directory.Notice{{Link: id, Cause: directory.CauseReplaced}}) })
				done = true
			}
			k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
			if !done {
				t.Fatal("not decided")
			}
			r.clk.Advance(0)
		} else {
			k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
			r.dir.release()
			r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseReplaced}})
		}
		r.run()
		k.want(codec.TypeLoginOK, nil)
		k.wantForced(codec.CodeReplaced)
		k.wantNothing()
		r.wantLog("login alice")
	}
}

// Notices for links that are gone, of other nodes' making, or logging out.
func TestStaleNotices(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Android, "d1")
	r.dir.hold = true
	k.send(logout...)
	r.core.ForcedOffline([]directory.Notice{
		{Link: presence.MakeLinkID(200, 0, 1)},
		{Link: presence.MakeLinkID(0, 1<<24-1, 1)},
		{Link: 0},
		{Link: k.s.ID()},
	})
	r.run()
	if n := r.core.m.noticesStale.Get(); n != 4 {
		t.Fatalf("%d stale notices counted", n)
	}
	k.wantNothing()
	r.dir.release()
	r.run()
	k.want(codec.TypeLogoutOK, nil)
}

// The node stops: every link is told, in bounded steps, nothing is left, and
// whoever waits is answered.
func TestDrain(t *testing.T) {
	const n = 50
	r := newRig(t, func(o *Options) { o.Batch = 7 })
	var online []*link
	for i := range n {
		k := r.open()
		k.login(fmt.Sprintf("u%d", i), codec.Android, "d1")
		online = append(online, k)
	}
	silent := r.open()
	r.dir.log = nil
	r.dir.hold = true
	pending := r.open()
	pending.send(loginFrame(activeLogin("pending", codec.Android, "d1"))...)
	never := r.open()
	never.send(loginFrame(activeLogin("never", codec.Android, "d1"))...)
	leaving := online[0]
	leaving.send(logout...)

	r.core.Drain()
	r.run()
	spread := make(map[uint32]bool)
	for _, k := range online[1:] {
		m := k.wantForced(codec.CodeServerDraining)
		if !m.MayReconnect || m.RetryAfterMS < 1000 || m.RetryAfterMS > 10_000 {
			t.Fatalf("%+v", m)
		}
		spread[m.RetryAfterMS] = true
		k.wantState("draining")
	}
	if len(spread) < n/2 {
		t.Fatalf("%d retry times for %d links: they all come back at once", len(spread), n)
	}
	if no := silent.wantRefused(codec.CodeServerDraining); !no.MayReconnect || no.RetryAfterMS == 0 {
		t.Fatalf("%+v", no)
	}
	if s, refusal := r.loop.Open(&fakeConn{}, 0, r.core.Now()); s != nil || len(refusal) == 0 {
		t.Fatal("a connection was let in")
	}
	pending.wantState("deciding")
	pending.wantNothing()
	r.dir.answerLogin(r.dir.heldLogins[0])
	r.run()
	pending.want(codec.TypeLoginOK, nil) // it is in: its ticket takes it back
	pending.wantForced(codec.CodeServerDraining)
	r.dir.answerLeave(r.dir.heldLeaves[0])
	r.run()
	leaving.want(codec.TypeLogoutOK, nil)

	r.advance(time.Second + late)
	never.wantRefused(codec.CodeServerDraining)
	select {
	case <-r.core.Empty():
		t.Fatal("empty with links open")
	default:
	}
	r.advance(time.Second + late)
	if r.core.Links() != 0 {
		t.Fatalf("%d links left", r.core.Links())
	}
	<-r.core.Empty()
	r.wantLog("login pending", "login never", "leave u0 Logout")
	r.wantCloses(closeDraining, n-1+3)
}

func TestDrainWithoutLinks(t *testing.T) {
	r := newRig(t)
	r.core.Drain()
	r.core.Drain()
	<-r.core.Empty()
}

// More completions than a batch holds: the rest is for the Run that was asked for.
func TestCompletionsInBatches(t *testing.T) {
	const n, batch = 20, 4
	r := newRig(t, func(o *Options) { o.Batch = batch })
	r.dir.hold = true
	var links []*link
	for i := range n {
		k := r.open()
		k.send(loginFrame(activeLogin(fmt.Sprintf("u%d", i), codec.Android, "d1"))...)
		links = append(links, k)
	}
	wakes := r.drv.wakes
	r.dir.release()
	if r.drv.wakes != wakes+1 {
		t.Fatalf("%d wakes for one batch of answers", r.drv.wakes-wakes)
	}
	online := func() (n int) {
		for _, k := range links {
			if k.s.State() == "online" {
				n++
			}
		}
		return n
	}
	for want := batch; want <= n; want += batch {
		more := r.loop.Run(r.core.Now())
		if got := online(); got != want || more != (want < n) {
			t.Fatalf("%d answered, more %t; want %d", got, more, want)
		}
	}
	// A call in between works some off, and asks for a Run only if it leaves any.
	r.dir.hold = false
	wakes = r.drv.wakes
	links[0].send(heartbeat...)
	if r.drv.wakes != wakes {
		t.Fatal("woken with nothing to do")
	}
}
