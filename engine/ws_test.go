package engine

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/ws"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func TestWSLife(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		r := newWSRig(t)
		k := r.openWS().upgrade(protocol, "")
		k.login("alice")
		link := r.dir.logins[0].Link
		if link.Protocol != presence.ProtocolWS || link.Listener != "ws" || link.Addr.String() != "192.0.2.1:4712" {
			t.Errorf("the link is %+v", link)
		}
		if n := r.core.LinksOf(presence.ProtocolWS); n != 1 {
			t.Errorf("%d links are counted", n)
		}
		k.say(k.empty(codec.TypeHeartbeat))
		k.wantAnswers("HeartbeatOK")
		k.say(k.empty(codec.TypeLogout))
		k.wantEnd("LogoutOK", "close 1000 LogoutOK")
		k.fin()
		r.wantLog("login alice", "leave alice Logout")
		r.wantCloses(closeLogout, 1)
	})
}

// A login is the same whatever carries it.
func TestWSLoginFields(t *testing.T) {
	r := newWSRig(t)
	m := activeLogin("alice", codec.Web, "d1")
	m.Resume, m.Ticket = true, goodTicket(1)
	native := r.open()
	native.send(loginFrame(m)...)
	for _, protocol := range wsProtocols {
		k := r.openWS().upgrade(protocol, "")
		k.say(k.loginBytes(m))
		k.wantAnswers("LoginOK")
	}
	for _, got := range r.dir.logins[1:] {
		got.Link = r.dir.logins[0].Link
		if got != r.dir.logins[0] {
			t.Errorf("%+v over WebSocket, %+v over TCP", got, r.dir.logins[0])
		}
	}
}

// Every end that has a code says it, and the Close frame has the table's.
func TestWSEndings(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		for _, c := range []struct {
			name string
			do   func(r *rig, k *wsLink)
			want []string
			why  closeReason
		}{
			{"another login", func(r *rig, k *wsLink) {
				r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseAnotherLogin, TimeMS: 5}})
			}, []string{"ForcedOffline AnotherLogin", "close 4101 AnotherLogin"}, closeAnotherLogin},
			{"kicked", func(r *rig, k *wsLink) {
				r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseREST}})
			}, []string{"ForcedOffline Kicked", "close 4103 Kicked"}, closeKicked},
			{"drain", func(r *rig, _ *wsLink) { r.core.Drain() }, []string{"ForcedOffline ServerDraining", "close 1001 ServerDraining"}, closeDraining},
			{"a second login", func(_ *rig, k *wsLink) { k.say(k.loginBytes(activeLogin("alice", codec.Web, "d1"))) },
				[]string{"ForcedOffline UnexpectedFrame", "close 4004 UnexpectedFrame"}, closeProtocol},
			{"a message of ours", func(_ *rig, k *wsLink) { k.say(k.empty(codec.TypeHeartbeatOK)) },
				[]string{"ForcedOffline UnexpectedFrame", "close 4004 UnexpectedFrame"}, closeProtocol},
			{"the other kind of message", func(_ *rig, k *wsLink) { k.send(wsFrame(ws.Text+ws.Binary-k.kind(), true, "{}")...) },
				[]string{"ForcedOffline UnsupportedData", "close 1003 UnsupportedData"}, closeProtocol},
		} {
			r := newWSRig(t)
			k := r.openWS().upgrade(protocol, "")
			k.login("alice")
			c.do(r, k)
			r.run()
			if got := k.answers(); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
			r.wantCloses(c.why, 1)
			k.send(wsFrame(ws.Close, true, "\x03\xe8")...) // the client's answer is discarded
			k.wantAnswers()
			k.fin()
		}
	})
}

func TestWSRefusals(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		for _, c := range []struct {
			name   string
			change func(*codec.Login)
			want   []string
		}{
			{"no app", func(m *codec.Login) { m.SDKAppID = 0 }, ends("LoginRefused", codec.CodeBadParameter)},
			{"another app", func(m *codec.Login) { m.SDKAppID = 5 }, ends("LoginRefused", codec.CodeUnknownApp)},
			{"no UserSig", func(m *codec.Login) { m.UserSig = nil }, ends("LoginRefused", codec.CodeSigEmpty)},
			{"another's", func(m *codec.Login) { m.UserSig = sign("bob") }, ends("LoginRefused", codec.CodeSigOtherUser)},
			{"expired", func(m *codec.Login) { m.UserSig = signAt("alice", testStart.Add(-time.Hour), time.Minute) }, []string{"LoginRefused SigExpired", "close 4301 SigExpired"}},
		} {
			r := newWSRig(t)
			k := r.openWS().upgrade(protocol, "")
			m := activeLogin("alice", codec.Web, "d1")
			c.change(m)
			k.say(k.loginBytes(m))
			if got := k.answers(); fmt.Sprint(got) != fmt.Sprint(c.want) || k.s.State() != "draining" {
				t.Errorf("%s: %q, want %q", c.name, got, c.want)
			}
			k.fin()
			r.wantLog()
		}
	})
}

// A client's Close is the end of the link, not a logout, in each state.
func TestWSClientCloses(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		r := newWSRig(t)
		early := r.openWS().upgrade(protocol, "")
		early.send(wsFrame(ws.Close, true, "\x03\xe9going")...)
		early.wantEnd("close 1001")
		early.fin()
		r.wantLog()

		k := r.openWS().upgrade(protocol, "")
		k.login("alice")
		k.send(wsFrame(ws.Close, true, "")...)
		k.wantEnd("close 1005")
		k.fin()
		r.wantLog("login alice", "leave alice LinkClosed")

		r.dir.hold = true
		waits := r.openWS().upgrade(protocol, "")
		waits.say(waits.loginBytes(activeLogin("bob", codec.Web, "d1")))
		waits.send(wsFrame(ws.Close, true, "\x0f\xa0")...)
		waits.wantEnd("close 4000")
		r.dir.release()
		r.run()
		waits.wantAnswers()
		waits.fin()
		r.wantLog("login bob", "leave bob LinkClosed")
		r.wantCloses(closeFIN, 3)
	})
}

// Pings and pongs are life, though nobody's business but the loop's.
func TestWSPingIsLife(t *testing.T) {
	for _, op := range []ws.Op{ws.Ping, ws.Pong} {
		r := newWSRig(t)
		k := r.openWS().upgrade(wsJSONName, "")
		k.login("alice")
		for range 4 {
			r.advance(50 * time.Second)
			k.send(wsFrame(op, true, "x")...)
		}
		k.wantState("online")
		r.advance(61 * time.Second)
		k.wantState("free")
		r.wantLog("login alice", "leave alice TimeOut")
	}
}

// What comes before the login's answer waits for it, as on a native link.
func TestWSPipelining(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		r := newWSRig(t)
		r.dir.hold = true
		k := r.openWS().upgrade(protocol, "")
		k.say(k.loginBytes(activeLogin("alice", codec.Web, "d1")))
		k.say(k.empty(codec.TypeHeartbeat))
		k.send(wsFrame(ws.Ping, true, "now")...)
		k.wantAnswers(`pong "now"`) // a control frame does not wait
		k.say(k.empty(codec.TypeHeartbeat))
		k.say(k.empty(codec.TypeLogout))
		k.say(k.loginBytes(activeLogin("alice", codec.Web, "d1"))) // nothing counts any more
		k.wantAnswers()
		r.dir.release()
		r.run()
		k.wantAnswers("LoginOK", "HeartbeatOK", "HeartbeatOK") // LogoutOK comes when the Directory has the Leave
		r.dir.release()
		r.run()
		k.wantEnd("LogoutOK", "close 1000 LogoutOK")
		k.fin()
	})
}

func TestWSJSONTypes(t *testing.T) {
	for _, c := range []struct {
		say  string
		want []string
	}{
		{`{"Type":"Subscribe","Optional":true}`, nil},
		{`{"Type":"Subscribe"}`, dies(codec.CodeUnexpectedFrame)},
		{`{"Type":"LoginOK","Optional":true}`, nil},
		{`{"Type":"Heartbeat","Optional":true}`, []string{"HeartbeatOK"}},
		{`{"Type":"heartbeat"}`, dies(codec.CodeUnexpectedFrame)},
		{`{"Type":"Heartbeat"`, dies(codec.CodeMalformedBody)},
		{`[{"Type":"Heartbeat"}]`, dies(codec.CodeMalformedBody)},
	} {
		r := newWSRig(t)
		k := r.openWS().upgrade(wsJSONName, "")
		k.login("alice")
		k.say([]byte(c.say))
		if got := k.answers(); fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: %q, want %q", c.say, got, c.want)
		}
		k.fin()
	}
}

// A binary message is one frame, whole and alone.
func TestWSOneFrameAMessage(t *testing.T) {
	twice := append(bytes.Clone(heartbeat), heartbeat...)
	for _, p := range [][]byte{{2}, heartbeat[:3], twice, append(bytes.Clone(heartbeat), 0), codec.AppendHeader(nil, codec.TypeLogin, 0, 5)} {
		for _, loggedIn := range []bool{false, true} {
			r := newWSRig(t)
			k := r.openWS().upgrade(wsNativeName, "")
			want := ends("LoginRefused", codec.CodeMalformedFrame)
			if loggedIn {
				k.login("alice")
				want = dies(codec.CodeMalformedFrame)
			}
			k.say(p)
			k.wantEnd(want...)
			k.fin()
		}
	}
}

// wantHTTP takes an HTTP answer and returns it.
func wantHTTP(t *testing.T, out []byte, status int) *http.Response {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out)), nil)
	if err != nil || answer.StatusCode != status {
		t.Fatalf("answered with %q, %v; want %d", out, err, status)
	}
	return answer
}

// Until the handshake is done the link is told in HTTP what it is told.
func TestWSHandshakeEnds(t *testing.T) {
	head := string(ws.AppendRequest(nil, &ws.Request{Host: "x", Protocols: wsProtocols}))
	for _, c := range []struct {
		name   string
		do     func(r *rig, k *wsLink)
		status int
		why    closeReason
	}{
		{"another path", func(_ *rig, k *wsLink) { k.send([]byte(strings.Replace(head, "/v1", "/", 1))...) }, 404, closeProtocol},
		{"another method", func(_ *rig, k *wsLink) { k.send([]byte(strings.Replace(head, "GET", "PUT", 1))...) }, 405, closeProtocol},
		{"no sub-protocol", func(_ *rig, k *wsLink) { k.send([]byte(strings.ReplaceAll(head, "rollcall", "other"))...) }, 400, closeProtocol},
		{"an older version", func(_ *rig, k *wsLink) { k.send([]byte(strings.Replace(head, ": 13", ": 8", 1))...) }, 426, closeProtocol},
		{"a native client", func(_ *rig, k *wsLink) { k.send(loginFrame(activeLogin("alice", codec.Web, "d1"))...) }, 400, closeProtocol},
		{"too much", func(_ *rig, k *wsLink) { k.send(bytes.Repeat([]byte("GET"), 3000)...) }, 431, closeProtocol},
		{"too late", func(r *rig, k *wsLink) {
			k.send([]byte(head[:len(head)-1])...)
			r.advance(5300 * time.Millisecond)
		}, 408, closeFirstFrame},
		{"silent", func(r *rig, _ *wsLink) { r.advance(5300 * time.Millisecond) }, 408, closeFirstFrame},
		{"the node stops", func(r *rig, _ *wsLink) {
			r.core.Drain()
			r.run()
		}, 503, closeDraining},
	} {
		r := newWSRig(t)
		k := r.openWS()
		c.do(r, k)
		wantHTTP(t, k.conn.out, c.status)
		if k.s.State() != "draining" || !k.conn.fin {
			t.Errorf("%s: the link is %s", c.name, k.s.State())
		}
		r.wantCloses(c.why, 1)
		k.fin()
		if n := r.core.m.upgrades[c.status]; n != nil && n.Get() != 1 {
			t.Errorf("%s: %d answers with %d counted", c.name, n.Get(), c.status)
		}
	}
}

func TestWSNoRoom(t *testing.T) {
	r := newWSRig(t, func(o *Options) { o.MaxLinks = 1 })
	k := r.open()
	s, refusal := r.loop.Open(&fakeConn{}, 1, r.core.Now())
	if s != nil {
		t.Fatal("let in")
	}
	answer := wantHTTP(t, refusal, 503)
	var seconds int
	if _, err := fmt.Sscan(answer.Header.Get("Retry-After"), &seconds); err != nil || seconds < 1 || seconds > 10 {
		t.Errorf("Retry-After %q", answer.Header.Get("Retry-After"))
	}
	k.fin()
}

// The login's deadline counts from the accept, handshake or not.
func TestWSLoginTimeout(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		r := newWSRig(t)
		k := r.openWS()
		r.advance(4 * time.Second)
		k.upgrade(protocol, "https://example.org")
		r.advance(5900 * time.Millisecond)
		k.send(wsFrame(ws.Ping, true, "")...)
		k.wantAnswers(`pong ""`)
		r.advance(400 * time.Millisecond)
		k.wantEnd(ends("LoginRefused", codec.CodeLoginTimeout)...)
		k.fin()
	})
}

// The handshake, a login and a heartbeat in one segment, or byte by byte.
func TestWSSplitAtEveryByte(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		var want string
		for _, cut := range []int{1 << 20, 1, 2, 3, 100} {
			r := newWSRig(t)
			k := r.openWS()
			k.json = protocol == wsJSONName
			stream := ws.AppendRequest(nil, &ws.Request{Host: "x", Protocols: []string{protocol}, Origin: "https://example.org"})
			for _, p := range [][]byte{k.loginBytes(activeLogin("alice", codec.Web, "d1")), k.empty(codec.TypeHeartbeat), k.empty(codec.TypeLogout)} {
				stream = append(stream, wsFrame(k.kind(), true, string(p))...)
			}
			for _, p := range pieces(stream, cut) {
				k.send(p...)
			}
			if want == "" {
				want = string(k.conn.out)
			}
			if string(k.conn.out) != want {
				t.Errorf("cut at %d: %q, want %q", cut, k.conn.out, want)
			}
			_, n, err := (&ws.Request{}).CheckAnswer(k.conn.out)
			if n == 0 || err != nil {
				t.Fatalf("the handshake: %v", err)
			}
			k.conn.out = k.conn.out[n:]
			k.wantAnswers("LoginOK", "HeartbeatOK", "LogoutOK", "close 1000 LogoutOK")
			k.fin()
		}
	})
}

// Unfinished messages of a loop have a bound together; who breaks it ends.
func TestWSPartialsBound(t *testing.T) {
	const most = 4096
	r := newWSRig(t, func(o *Options) { o.MaxPartialBytes = most })
	var links []*wsLink
	for i := range 3 {
		k := r.openWS().upgrade(wsJSONName, "")
		k.login(fmt.Sprintf("u%d", i))
		links = append(links, k)
	}
	long := oneText(beat(60_000))[0]
	links[0].send(long[:1000]...)
	links[1].send(long[:200]...)
	for _, k := range links[:2] {
		k.wantState("online")
	}
	if n := r.loop.parts.bytes; n < 1000 || n > most {
		t.Fatalf("%d bytes are counted", n)
	}
	links[2].send(long[:most]...)
	links[2].wantAnswers(dies(codec.CodeOverloaded)...)
	r.wantCloses(closeOverloaded, 1)
	links[2].wantState("draining")
	links[2].fin()
	if n := r.core.m.partialsFull.Get(); n != 1 {
		t.Errorf("%d counted", n)
	}
	links[1].send(long[200:900]...) // there is room again
	links[1].wantState("online")
	links[1].fin()
	links[0].fin()
	if r.loop.parts.bytes != 0 || len(r.loop.parts.bySlot) != 0 {
		t.Errorf("%d bytes of %d parts are left", r.loop.parts.bytes, len(r.loop.parts.bySlot))
	}
}

// Between two messages a link holds nothing: what it costs is its Session.
func TestWSIdleHoldsNothing(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		r := newWSRig(t)
		k := r.openWS().upgrade(protocol, "https://example.org")
		if len(r.loop.parts.bySlot) != 1 {
			t.Fatal("the origin is not kept until the login")
		}
		k.login("alice")
		beat := wsFrame(k.kind(), true, string(k.empty(codec.TypeHeartbeat)))
		k.send(beat[:len(beat)-1]...)
		if len(r.loop.parts.bySlot) != 1 || len(k.in) > 0 {
			t.Fatalf("the part of a message is not in progress; %d bytes unread", len(k.in))
		}
		k.send(beat[len(beat)-1])
		k.wantAnswers("HeartbeatOK")
		if len(r.loop.parts.bySlot) != 0 || r.loop.parts.bytes != 0 {
			t.Fatal("an idle link holds something")
		}
		k.fin()
	})
}

// A heartbeat costs no memory.
func TestWSHeartbeatAllocs(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		r := newWSRig(t)
		k := r.openWS().upgrade(protocol, "")
		k.login("alice")
		k.conn.out = make([]byte, 0, 1<<20)
		frame := wsFrame(k.kind(), true, string(k.empty(codec.TypeHeartbeat)))
		buf := make([]byte, len(frame))
		if n := testing.AllocsPerRun(100, func() {
			copy(buf, frame)
			r.loop.Data(k.s, buf, r.core.Now())
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
		if len(k.conn.out) == 0 {
			t.Error("no answer")
		}
		k.fin()
	})
}

// The origin of the handshake is held to the settings of the login's app.
func TestWSOrigins(t *testing.T) {
	eachSub(t, func(t *testing.T, protocol string) {
		r := newWSRig(t)
		app := r.dir.apps[testApp].Clone()
		app.AllowedOrigins = []string{"https://chat.example.com", "*.example.org"}
		r.dir.apps[testApp] = app
		for _, c := range []struct {
			origin string
			want   []string
		}{
			{"https://chat.example.com", []string{"LoginOK"}},
			{"https://www.example.org", []string{"LoginOK"}},
			{"", []string{"LoginOK"}},
			{"https://example.org", []string{"LoginRefused OriginNotAllowed", "close 1008 OriginNotAllowed"}},
			{"null", []string{"LoginRefused OriginNotAllowed", "close 1008 OriginNotAllowed"}},
		} {
			k := r.openWS().upgrade(protocol, c.origin)
			k.say(k.loginBytes(activeLogin("alice", codec.Web, "d1")))
			if got := k.answers(); fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("%q: %q, want %q", c.origin, got, c.want)
			}
			k.fin()
		}
		if n := r.core.m.logins[codec.CodeOrigin].Get(); n != 2 {
			t.Errorf("%d refusals counted", n)
		}
	})
}

// A message that has begun must go on, whether its frame or its fragments are
// awaited; pings between them are no reason to wait for ever.
func TestWSSlowSender(t *testing.T) {
	long := oneText(beat(5000))[0]
	for _, c := range []struct {
		name       string
		first      []byte
		more       func(i int) []byte // each second
		wantState  string
		wantCloses uint64
	}{
		{"a frame that stands still", long[:100], func(int) []byte { return nil }, "free", 1},
		{"a byte a second", long[:100], func(i int) []byte { return long[100+i : 101+i] }, "free", 1},
		{"fragments of a byte", fragments(ws.Text, beat(20), 5)[0], func(int) []byte { return wsFrame(ws.Continuation, false, " ") }, "free", 1},
		{"fast enough", long[:100], func(i int) []byte { return long[100+64*i : 164+64*i] }, "online", 0},
		{"whole messages", nil, func(int) []byte { return wsFrame(ws.Ping, true, "") }, "online", 0},
	} {
		r := newWSRig(t)
		k := r.openWS().upgrade(wsJSONName, "")
		k.login("alice")
		k.send(c.first...)
		for i := range 13 {
			r.advance(time.Second)
			if k.s.State() == "online" {
				k.send(c.more(i)...)
			}
		}
		k.wantState(c.wantState)
		r.wantCloses(closeSlowSender, c.wantCloses)
		k.fin()
	}
}

// A node that stops with somewhere to go sends each client to the port that its
// listener has here; where that is unknown, or no message can be said, it is told to come back.
func TestWSRedirect(t *testing.T) {
	for address, want := range map[string]string{":7701": "other.example:7701", ":0": ""} {
		r := newRig(t, func(o *Options) {
			o.Listeners = append(nativeAt(":7700"), Listener{Name: "ws", Address: address, Protocol: presence.ProtocolWS})
			o.DrainRedirect = "other.example:7800"
		})
		native := r.open()
		native.login("alice", codec.Android, "d1")
		unborn := r.openWS()
		k := r.openWS().upgrade(wsJSONName, "")
		k.login("bob")
		r.core.Drain()
		r.run()

		_, late := r.loop.Open(&fakeConn{}, 1, r.core.Now())
		wantHTTP(t, late, 503)

		var m codec.Redirect
		if native.want(codec.TypeRedirect, &m); m.Address != "other.example:7800" {
			t.Errorf("the native client is sent to %q", m.Address)
		}
		wantHTTP(t, unborn.conn.out, 503)
		if out := string(k.conn.out); want != "" && !strings.Contains(out, `{"Type":"Redirect","Address":"`+want+`"`) {
			t.Errorf("the WebSocket client of %s is told %q", address, out)
		}
		if want == "" {
			k.wantAnswers("ForcedOffline ServerDraining", "close 1001 ServerDraining")
		} else {
			k.wantAnswers("Redirect", "close 1001 Redirect")
		}
		for _, l := range []*link{native, unborn.link, k.link} {
			l.fin()
		}
	}
}
