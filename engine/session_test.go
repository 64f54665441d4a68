package engine

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestHeartbeat(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Android, "d1")
	k.send(bytes.Repeat(heartbeat, 3)...)
	for range 3 {
		k.want(codec.TypeHeartbeatOK, nil)
	}
	k.wantNothing()
	r.wantLog("login alice") // heartbeats are nobody else's business
	r.run()
	if n := r.core.m.heartbeats.Get(); n != 3 {
		t.Fatalf("%d heartbeats counted", n)
	}
	k.fin()
}

func TestLogout(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Android, "d1")
	r.dir.hold = true
	k.send(append(logout, heartbeat...)...)
	k.wantState("leaving")
	k.wantNothing() // LogoutOK says that the instance is gone: not before the Directory does
	r.advance(time.Second)
	k.wantNothing()
	r.dir.release()
	r.run()
	k.want(codec.TypeLogoutOK, nil)
	k.wantNothing()
	if !k.conn.fin {
		t.Fatal("no half-close after LogoutOK")
	}
	k.fin()
	r.wantLog("login alice", "leave alice Logout")
	r.wantCloses(closeLogout, 1)
	r.wantCloses(closeFIN, 0)
}

// The Leave names the link, the instance and the time.
func TestLeaveOp(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Mac, "d1")
	r.clk.Advance(time.Minute)
	id := k.s.ID()
	k.fin()
	got := r.dir.leaves[0]
	got.Done = nil
	want := directory.LeaveOp{
		Key: presence.Key{App: testApp, UserID: "alice"}, Platform: presence.Mac,
		Node: testNode, Link: id, Reason: presence.LeaveLinkClosed, NowMS: testStart.Add(time.Minute).UnixMilli(),
	}
	if fmt.Sprintf("%+v", got) != fmt.Sprintf("%+v", want) {
		t.Fatalf("got %+v, want %+v", got, want)
	}
}

// How a link is lost, and in which state.
func TestLost(t *testing.T) {
	for _, e := range []struct {
		err  error
		want closeReason
	}{
		{io.EOF, closeFIN}, {syscall.ECONNRESET, closeReset}, {syscall.EPIPE, closeReset},
		{fmt.Errorf("read: %w", syscall.ETIMEDOUT), closeError}, {errors.New("x"), closeError},
	} {
		t.Run(e.err.Error(), func(t *testing.T) {
			r := newRig(t)
			lose := func(k *link) { r.loop.Closed(k.s, k.conn, e.err, r.core.Now()); k.wantState("free") }

			k := r.open()
			lose(k)
			r.wantLog()

			k = r.open()
			k.login("alice", codec.Android, "d1")
			lose(k)
			r.wantLog("login alice", "leave alice LinkClosed")
			r.wantCloses(e.want, 2)

			r.dir.hold = true
			k = r.open()
			k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
			lose(k)
			r.dir.release()
			r.run()
			r.wantLog("login alice", "leave alice LinkClosed")
			r.dir.release()
			r.run()
			r.wantCloses(e.want, 3)
			if r.core.Links() != 0 {
				t.Fatalf("%d links", r.core.Links())
			}
		})
	}
}

// The reactor's own end is no disconnect.
func TestReactorEnds(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Android, "d1")
	r.loop.Closed(k.s, k.conn, nil, r.core.Now())
	r.wantLog("login alice")
	r.wantCloses(closeStopped, 1)
}

// Frames that a client sends before its login is decided are answered after
// LoginOK, in order, and none is lost.
func TestPipelining(t *testing.T) {
	frames := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	in := loginFrame(activeLogin("alice", codec.Android, "d1"))
	optional := codec.AppendHeader(nil, 40, codec.FlagOptional, 0)
	ok, beat, out := codec.TypeLoginOK, codec.TypeHeartbeatOK, codec.TypeLogoutOK
	for _, c := range []struct {
		name string
		send []byte
		want []codec.Type
		log  []string
	}{
		{"heartbeats", frames(in, heartbeat, heartbeat), []codec.Type{ok, beat, beat}, []string{"login alice"}},
		{"optional frames", frames(in, optional, heartbeat, optional), []codec.Type{ok, beat}, []string{"login alice"}},
		{"logout", frames(in, logout), []codec.Type{ok, out}, []string{"login alice", "leave alice Logout"}},
		{"heartbeat, logout, more", frames(in, heartbeat, logout, heartbeat, logout, in), []codec.Type{ok, beat, out}, []string{"login alice", "leave alice Logout"}},
	} {
		for _, held := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s held=%t", c.name, held), func(t *testing.T) {
				r := newRig(t)
				r.dir.hold = held
				k := r.open()
				k.send(c.send...)
				if held {
					k.wantNothing()
					k.wantState("deciding")
					r.wantLog("login alice")
					r.dir.log = []string{"login alice"}
					r.dir.hold = false
					r.dir.release()
					r.run()
				}
				for _, f := range c.want {
					k.want(f, nil)
				}
				k.wantNothing()
				r.wantLog(c.log...)
				k.fin()
			})
		}
	}
}

// A client that logs out and closes before it was logged in has logged out.
func TestFINAfterPipelinedLogout(t *testing.T) {
	r := newRig(t)
	r.dir.hold = true
	k := r.open()
	k.send(append(loginFrame(activeLogin("alice", codec.Android, "d1")), logout...)...)
	k.fin()
	r.dir.release()
	r.run()
	r.wantLog("login alice", "leave alice Logout")
}

// A LinkID names one link only: what was meant for a slot's last link does not
// reach its next.
func TestStaleCompletions(t *testing.T) {
	r := newRig(t)
	r.dir.hold = true
	a := r.open()
	a.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
	id := a.s.ID()
	a.fin()

	b := r.open() // same slot
	if b.s != a.s || b.s.ID() == id || b.s.ID().Slot() != id.Slot() {
		t.Fatalf("ids %x then %x: want the same slot with another generation", uint64(id), uint64(b.s.ID()))
	}
	b.send(loginFrame(activeLogin("bob", codec.Android, "d1"))...)
	for _, op := range r.dir.heldLogins {
		if op.Login.Link.ID == id {
			r.dir.answerLogin(op)
		}
	}
	r.run()
	b.wantNothing()
	b.wantState("deciding")
	r.dir.heldLogins = r.dir.heldLogins[1:]
	r.dir.release()
	r.run()
	b.want(codec.TypeLoginOK, nil)

	r.core.ForcedOffline([]directory.Notice{{Link: id, Cause: directory.CauseREST}})
	r.run()
	b.wantNothing()
	b.wantState("online")
	if n := r.core.m.noticesStale.Get(); n != 1 {
		t.Fatalf("%d stale notices counted", n)
	}
}

// A logout's answer that comes after its link was lost belongs to nobody.
func TestStaleLogoutAnswer(t *testing.T) {
	r := newRig(t)
	a := r.open()
	a.login("alice", codec.Android, "d1")
	r.dir.hold = true
	a.send(logout...)
	a.fin()
	b := r.open()
	r.dir.hold = false
	b.login("bob", codec.Android, "d1")
	r.dir.hold = true
	b.send(logout...)
	r.dir.answerLeave(r.dir.heldLeaves[0])
	r.run()
	b.wantState("leaving")
	b.wantNothing()
	r.dir.answerLeave(r.dir.heldLeaves[1])
	r.run()
	b.want(codec.TypeLogoutOK, nil)
	r.dir.heldLeaves = nil
}

// What is not allowed where, the code that says so, and that it ends the instance.
func TestProtocolFaults(t *testing.T) {
	header := func(t codec.Type, flags uint8, n int) []byte { return codec.AppendHeader(nil, t, flags, n) }
	in := loginFrame(activeLogin("alice", codec.Android, "d1"))
	for _, c := range []struct {
		name   string
		state  string
		send   []byte
		code   codec.Code
		reason closeReason
	}{
		{"heartbeat first", "new", heartbeat, codec.CodeNotLoggedIn, closeProtocol},
		{"logout first", "new", logout, codec.CodeNotLoggedIn, closeProtocol},
		{"unknown first", "new", header(40, 0, 0), codec.CodeNotLoggedIn, closeProtocol},
		{"optional first", "new", header(40, codec.FlagOptional, 0), codec.CodeNotLoggedIn, closeProtocol},
		{"a server's frame first", "new", header(codec.TypeLoginOK, 0, 0), codec.CodeNotLoggedIn, closeProtocol},
		{"version 2", "new", []byte{1, 0x20, 0, 0}, codec.CodeBadVersion, closeProtocol},
		{"type 0", "new", []byte{0, 0x10, 0, 0}, codec.CodeMalformedFrame, closeProtocol},
		{"too large", "new", header(codec.TypeLogin, 0, codec.MaxFrameBeforeLogin-codec.HeaderSize+1), codec.CodeFrameTooLarge, closeProtocol},

		{"login twice", "deciding", in, codec.CodeUnexpectedFrame, closeProtocol},
		{"unknown", "deciding", header(40, 0, 0), codec.CodeUnexpectedFrame, closeProtocol},
		{"heartbeat with a body", "deciding", append(header(codec.TypeHeartbeat, 0, 1), 0), codec.CodeMalformedBody, closeProtocol},
		{"too large", "deciding", header(40, codec.FlagOptional, codec.MaxFrameBeforeLogin), codec.CodeFrameTooLarge, closeProtocol},

		{"login again", "online", in, codec.CodeUnexpectedFrame, closeProtocol},
		{"unknown", "online", header(40, 0, 0), codec.CodeUnexpectedFrame, closeProtocol},
		{"a server's frame", "online", header(codec.TypeHeartbeatOK, 0, 0), codec.CodeUnexpectedFrame, closeProtocol},
		{"heartbeat with a body", "online", append(header(codec.TypeHeartbeat, codec.FlagOptional, 1), 0), codec.CodeMalformedBody, closeProtocol},
		{"logout with a body", "online", append(header(codec.TypeLogout, 0, 1), 0), codec.CodeMalformedBody, closeProtocol},
		{"heartbeat with a body to come", "online", header(codec.TypeHeartbeat, 0, codec.MaxBody), codec.CodeMalformedBody, closeProtocol},
		{"unknown with a body to come", "deciding", header(40, 0, 1000), codec.CodeUnexpectedFrame, closeProtocol},
		{"unknown with a body to come", "online", header(40, 0, codec.MaxBody), codec.CodeUnexpectedFrame, closeProtocol},
		{"version 0", "online", []byte{2, 0}, codec.CodeBadVersion, closeProtocol},
	} {
		t.Run(c.state+" "+c.name, func(t *testing.T) {
			r := newRig(t)
			k := r.open()
			var log []string
			switch c.state {
			case "deciding":
				r.dir.hold = true
				k.send(in...)
				log = []string{"login alice", "leave alice LinkClosed"}
			case "online":
				k.login("alice", codec.Android, "d1")
				log = []string{"login alice", "leave alice LinkClosed"}
			}
			k.wantState(c.state)
			k.send(c.send...)
			if c.state == "online" {
				k.wantForced(c.code)
			} else {
				k.wantRefused(c.code)
			}
			k.wantNothing()
			k.wantState("draining")
			r.wantCloses(c.reason, 1)
			k.send(in...) // discarded
			k.send(bytes.Repeat([]byte{0}, 100_000)...)
			k.wantNothing()
			if len(k.in) != 0 {
				t.Fatalf("%d bytes were left unread", len(k.in))
			}
			r.dir.release()
			r.run()
			r.wantLog(log...)
			k.wantNothing()
			k.fin()
		})
	}
}

// Frames of an unknown type that may be skipped are, at any size, without being held.
func TestSkippedFrames(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Android, "d1")
	big := append(codec.AppendHeader(nil, 40, codec.FlagOptional, codec.MaxBody), make([]byte, codec.MaxBody)...)
	for cut := codec.HeaderSize; cut < len(big); cut += 1000 {
		k.send(big[:cut]...)
		if len(k.in) != 0 {
			t.Fatalf("%d bytes of a frame that nobody will look at are held", len(k.in))
		}
		k.send(big[cut:]...)
		k.send(heartbeat...)
		k.want(codec.TypeHeartbeatOK, nil)
	}
	k.wantNothing()
	r.run()
	if n := r.core.m.skipped.Get(); n != 66 {
		t.Fatalf("%d skipped frames counted", n)
	}
}

func TestMaxPipelined(t *testing.T) {
	const most = 5
	for n := most - 1; n <= most+1; n++ {
		r := newRig(t, func(o *Options) { o.MaxPipelined = most })
		r.dir.hold = true
		k := r.open()
		k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
		k.send(bytes.Repeat(heartbeat, n)...)
		if n > most {
			k.wantRefused(codec.CodeUnexpectedFrame)
			r.wantLog("login alice", "leave alice LinkClosed")
			continue
		}
		r.dir.release()
		r.run()
		k.want(codec.TypeLoginOK, nil)
		for range n {
			k.want(codec.TypeHeartbeatOK, nil)
		}
		k.wantNothing()
	}
}

// However the stream is cut, the answers are the same, and an idle link holds nothing.
func TestSplitAtEveryByte(t *testing.T) {
	stream := bytes.Join([][]byte{
		loginFrame(activeLogin("alice", codec.Android, "d1")), heartbeat,
		append(codec.AppendHeader(nil, 40, codec.FlagOptional, 3), 1, 2, 3), heartbeat, logout,
	}, nil)
	var want []byte
	for cut := range len(stream) + 1 {
		r := newRig(t)
		k := r.open()
		k.send(stream[:cut]...)
		k.send(stream[cut:]...)
		if cut == 0 {
			want = k.conn.out
		}
		if !bytes.Equal(k.conn.out, want) {
			t.Fatalf("cut at %d: %x, want %x", cut, k.conn.out, want)
		}
	}
	r := newRig(t)
	k := r.open()
	for _, b := range stream {
		k.send(b)
	}
	if !bytes.Equal(k.conn.out, want) || len(k.in) != 0 {
		t.Fatalf("byte by byte: %x, want %x", k.conn.out, want)
	}
	r.run()
	if n := int(r.core.m.received.Get()); n != len(stream) {
		t.Fatalf("%d bytes counted as received, %d were sent", n, len(stream))
	}
}

// A link that reads nothing is closed when more than OutboundCap bytes wait for it.
func TestSlowReader(t *testing.T) {
	const outCap = 40
	for n := outCap/4 - 1; n <= outCap/4+1; n++ {
		r := newRig(t, func(o *Options) { o.OutboundCap = outCap })
		k := r.open()
		k.login("alice", codec.Android, "d1")
		k.conn.stuck = true
		k.send(bytes.Repeat(heartbeat, n)...)
		if 4*n <= outCap {
			k.wantState("online")
			continue
		}
		k.wantState("free")
		if !k.conn.closed {
			t.Fatal("not closed")
		}
		r.wantLog("login alice", "leave alice LinkClosed")
		r.wantCloses(closeSlowReader, 1)
	}
}

// A write that finds the link broken ends it, once.
func TestWriteFails(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Android, "d1")
	k.conn.onWrite = func() { r.loop.Closed(k.s, k.conn, syscall.EPIPE, r.core.Now()) }
	k.send(bytes.Join([][]byte{heartbeat, heartbeat}, nil)...)
	k.wantState("free")
	r.wantLog("login alice", "leave alice LinkClosed")
	r.wantCloses(closeReset, 1)

	// The same with a notice, which would go on to half-close.
	k = r.open()
	k.login("alice", codec.Android, "d1")
	k.conn.onWrite = func() { r.loop.Closed(k.s, k.conn, syscall.EPIPE, r.core.Now()) }
	r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseREST}})
	r.run()
	k.wantState("free")
	if k.conn.fin {
		t.Fatal("half-closed a connection that was closed")
	}
}

// Without a Leave that is taken, a dead link would stay Online.
func TestLeaveIsRetried(t *testing.T) {
	r := newRig(t)
	down := true
	r.dir.leave = func(op *directory.LeaveOp) {
		if down {
			op.Code = directory.CodeUnavailable
		}
	}
	k := r.open()
	k.login("alice", codec.Android, "d1")
	k.fin()
	lostAt := r.clk.Now().UnixMilli()
	r.advance(1200 * time.Millisecond)
	r.wantLog("login alice", "leave alice LinkClosed", "leave alice LinkClosed", "leave alice LinkClosed")
	down = false
	r.advance(time.Minute)
	r.wantLog("leave alice LinkClosed")
	if last := r.dir.leaves[len(r.dir.leaves)-1]; last.NowMS != lostAt {
		t.Fatalf("the retried leave says %d, the link was lost at %d", last.NowMS, lostAt)
	}
	if n := r.core.m.leavesRetried.Get(); n != 3 {
		t.Fatalf("%d retries counted", n)
	}
}

// While the Directory is away, however many Leaves wait, a batch of them asks in
// every interval. When it is back all of them are issued, in bounded steps, once.
func TestLeavesWaitTogether(t *testing.T) {
	const n, batch = 100, 7
	r := newRig(t, func(o *Options) { o.Batch = batch })
	links := make([]*link, n)
	for i := range links {
		links[i] = r.open()
		links[i].login(fmt.Sprintf("u%d", i), codec.Android, "d1")
	}
	r.dir.leave = func(op *directory.LeaveOp) { op.Code = directory.CodeUnavailable }
	for _, k := range links {
		k.fin()
	}
	r.dir.log = nil
	r.advance(10 * leaveRetryMS * time.Millisecond)
	if asked := len(r.dir.log); asked != 10*batch {
		t.Fatalf("%d leaves were issued in 10 intervals, want %d each", asked, batch)
	}
	r.dir.leave, r.dir.log = nil, nil
	r.clk.Advance(leaveRetryMS * time.Millisecond)
	for more := true; more; {
		before := len(r.dir.log)
		more = r.loop.Run(r.core.Now())
		if step := len(r.dir.log) - before; step > batch {
			t.Fatalf("%d leaves in one step of %d", step, batch)
		}
	}
	left := map[string]bool{}
	for _, entry := range r.dir.log {
		left[entry] = true
	}
	if len(r.dir.log) != n || len(left) != n {
		t.Fatalf("%d leaves of %d users for %d links", len(r.dir.log), len(left), n)
	}
}

func TestMaxPendingLeaves(t *testing.T) {
	const most = 3
	for n := most - 1; n <= most+1; n++ {
		r := newRig(t, func(o *Options) { o.MaxPendingLeaves = most })
		r.dir.leave = func(op *directory.LeaveOp) { op.Code = directory.CodeUnavailable }
		for i := range n {
			k := r.open()
			k.login(fmt.Sprintf("u%d", i), codec.Android, "d1")
			k.fin()
		}
		if got, want := r.core.m.leavesDropped.Get(), uint64(max(n-most, 0)); got != want {
			t.Fatalf("%d leaves: %d dropped, want %d", n, got, want)
		}
	}
}

// A logout that the Directory cannot take is not confirmed.
func TestLogoutUnavailable(t *testing.T) {
	r := newRig(t)
	r.dir.leave = func(op *directory.LeaveOp) { op.Code = directory.CodeUnavailable }
	k := r.open()
	k.login("alice", codec.Android, "d1")
	k.send(logout...)
	r.advance(4900 * time.Millisecond)
	k.wantState("leaving")
	r.advance(500 * time.Millisecond)
	k.wantState("free")
	k.wantNothing()
	r.wantCloses(closeLeaveTimeout, 1)
	r.dir.leave, r.dir.log = nil, nil
	r.advance(time.Second)
	r.wantLog("leave alice Logout")
}

// MaxLinks counts all that are open; the one beyond is told why.
func TestMaxLinks(t *testing.T) {
	const most = 3
	r := newRig(t, func(o *Options) { o.MaxLinks = most })
	var links []*link
	for range most {
		links = append(links, r.open())
	}
	conn := &fakeConn{}
	s, refusal := r.loop.Open(conn, 0, r.core.Now())
	if s != nil {
		t.Fatalf("link %d was let in", most+1)
	}
	k := &link{rig: r, conn: &fakeConn{out: refusal}}
	if no := k.wantRefused(codec.CodeServerFull); !no.MayReconnect || no.RetryAfterMS < 1000 || no.RetryAfterMS > 10_000 {
		t.Fatalf("%+v", no)
	}
	if n := r.core.m.refused[refusedFull].Get(); n != 1 {
		t.Fatalf("%d refused counted", n)
	}
	links[0].fin()
	r.open()
	if s, _ := r.loop.Open(conn, 0, r.core.Now()); s != nil {
		t.Fatal("the limit was forgotten")
	}
}

// What waits in the queue while a connection is refused does not spoil the refusal.
func TestRefusalWithWork(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxLinks = 1 })
	k := r.open()
	k.login("alice", codec.Android, "d1")
	r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseREST}})
	_, refusal := r.loop.Open(&fakeConn{}, 0, r.core.Now())
	k.wantForced(codec.CodeKickedREST)
	(&link{rig: r, conn: &fakeConn{out: refusal}}).wantRefused(codec.CodeServerFull)
}

// The debug log says why each link ended, and nothing that is secret.
func TestLogOfEnds(t *testing.T) {
	var b bytes.Buffer
	r := newRig(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	m := activeLogin("alice", codec.Android, "d1")
	k := r.open()
	k.send(loginFrame(m)...)
	k.fin()
	m.Platform = 0
	k = r.open()
	k.send(loginFrame(m)...)
	k.fin()
	log := b.String()
	for _, want := range []string{"reason=fin code=0 app=1400000000 user=alice", "reason=login_refused code=4008", "client=192.0.2.1:4711"} {
		if !strings.Contains(log, want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}
	if n := strings.Count(log, "\n"); n != 2 || strings.Contains(log, string(m.UserSig)) {
		t.Errorf("%d lines for two links:\n%s", n, log)
	}
}

// What a link costs besides gnet's own: this, 8 bytes in the wheel and the names.
func TestSessionSize(t *testing.T) {
	if size := unsafe.Sizeof(Session{}); size > 64 {
		t.Fatalf("a session has %d bytes, want at most 64", size)
	}
}

// A moment names one MonoMS, at the bounds of what is near and around 2^32.
func TestMoment(t *testing.T) {
	for _, now := range []int64{0, 1, 1<<31 - 1, 1 << 31, 1<<32 - 1, 1 << 32, 1<<32 + 1, 1_900_000_000_000} {
		for _, d := range []int64{-1 << 31, -1, 0, 1, 1000, 1<<31 - 1} {
			if got := moment(now + d).near(now); got != now+d {
				t.Errorf("at %d, %d ms from now is %d", now, d, got)
			}
		}
	}
}
