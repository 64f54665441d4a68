package engine

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/ticket"
)

func TestLoginAnswer(t *testing.T) {
	r := newRig(t)
	r.dir.decide = func(op *directory.LoginOp) {
		op.Seq = 42
		op.Decision.Inst.InstID = 9
		op.Decision.Kicked = []presence.Instance{
			{InstID: 3, Device: presence.Device{Platform: presence.IPad}},
			{InstID: 5, Device: presence.Device{Platform: presence.Android}},
		}
	}
	k := r.open()
	r.clk.Advance(1500 * time.Millisecond)
	ok := k.login("alice", codec.Android, "d1")
	if ok.InstID != 9 || ok.TakenBack || ok.ServerTimeMS != r.clk.Now().UnixMilli() || ok.HeartbeatIntervalMS != 120_000 || ok.SilenceTimeoutMS != 400_000 {
		t.Fatalf("LoginOK %+v", ok)
	}
	if fmt.Sprint(ok.Kicked) != "[{iPad 3} {Android 5}]" {
		t.Fatalf("kicked %v", ok.Kicked)
	}
	k.wantState("online")

	got := r.dir.logins[0]
	want := presence.Login{
		Device: presence.Device{Platform: presence.Android, ID: "d1", SDKVersion: "1.2.3", Model: "Model 9"},
		Cred:   presence.Credential{SigTimeS: testStart.Unix()},
		Link: presence.Link{
			Node: testNode, ID: k.s.ID(), Protocol: presence.ProtocolNative, Listener: "native",
			Addr: netip.MustParseAddrPort("192.0.2.1:4711"), ConnectedMS: testStart.UnixMilli(),
		},
		NowMS: r.clk.Now().UnixMilli(),
	}
	if got != want {
		t.Fatalf("the directory got %+v, want %+v", got, want)
	}
	if k.conn.addr != nil {
		t.Error("the connection was not told that its address is not asked any more")
	}
	if got.Link.ID.Gen() == 0 {
		t.Fatal("generation 0")
	}

	app := r.dir.apps[testApp]
	c := ticket.Claims{App: testApp, UserID: "alice", Platform: uint8(codec.Android), DeviceID: "d1", Epoch: app.TicketEpoch}
	if err := ticket.Verify(ok.Ticket, &app.TicketKey, &c, r.clk.Now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	sigEnd := testStart.Add(24 * time.Hour).UnixMilli()
	if c.InstID != 9 || c.Seq != 42 || c.SigEndMS != sigEnd || c.ExpiresMS != sigEnd {
		t.Fatalf("ticket %+v; it must end with the UserSig at %d", c, sigEnd)
	}
}

// The ticket lives as long as the app says if the UserSig lives longer.
func TestTicketLifetime(t *testing.T) {
	r := newRig(t)
	app := r.dir.apps[testApp].Clone()
	app.Timeouts.TicketTTLMS = 3_600_000
	r.dir.apps[testApp] = app
	ok := r.open().login("alice", codec.Web, "d1")
	c := ticket.Claims{App: testApp, UserID: "alice", Platform: uint8(codec.Web), DeviceID: "d1"}
	if err := ticket.Verify(ok.Ticket, &app.TicketKey, &c, 0); err != nil {
		t.Fatal(err)
	}
	if want := r.clk.Now().UnixMilli() + 3_600_000; c.ExpiresMS != want {
		t.Fatalf("the ticket expires at %d, want %d", c.ExpiresMS, want)
	}
	if ok.HeartbeatIntervalMS != 20_000 || ok.SilenceTimeoutMS != 60_000 {
		t.Fatalf("Web: LoginOK %+v", ok)
	}
}

// What is wrong with a login decides its code. None of these reaches the Directory.
func TestRefusedBeforeDirectory(t *testing.T) {
	withoutKey := directory.NewApp(2)
	for _, c := range []struct {
		name   string
		change func(*codec.Login)
		code   codec.Code
		text   string
	}{
		{"no app", func(m *codec.Login) { m.SDKAppID = 0 }, codec.CodeBadParameter, "sdk_app_id"},
		{"no user", func(m *codec.Login) { m.UserID = nil }, codec.CodeBadParameter, "user_id"},
		{"user too long", func(m *codec.Login) { m.UserID = []byte(strings.Repeat("u", 33)) }, codec.CodeBadParameter, "1 to 32"},
		{"user not printable", func(m *codec.Login) { m.UserID = []byte("al\x1fice") }, codec.CodeBadParameter, `al\x1fice`},
		{"no platform", func(m *codec.Login) { m.Platform = 0 }, codec.CodeBadParameter, "platform"},
		{"no device", func(m *codec.Login) { m.DeviceID = nil }, codec.CodeBadParameter, "device_id has 0 bytes"},
		{"device too long", func(m *codec.Login) { m.DeviceID = []byte(strings.Repeat("d", 65)) }, codec.CodeBadParameter, "device_id has 65 bytes"},
		{"version too long", func(m *codec.Login) { m.SDKVersion = []byte(strings.Repeat("v", 33)) }, codec.CodeBadParameter, "sdk_version has 33 bytes"},
		{"model too long", func(m *codec.Login) { m.DeviceModel = []byte(strings.Repeat("m", 65)) }, codec.CodeBadParameter, "device_model has 65 bytes"},
		{"unknown app", func(m *codec.Login) { m.SDKAppID = 1 }, codec.CodeUnknownApp, ""},
		{"app without key", func(m *codec.Login) { m.SDKAppID = 2 }, codec.CodeAppWithoutKey, ""},
		{"empty sig", func(m *codec.Login) { m.UserSig = nil }, codec.CodeSigEmpty, "empty"},
		{"active with a ticket only", func(m *codec.Login) { m.UserSig, m.Ticket = nil, goodTicket(1) }, codec.CodeSigEmpty, "empty"},
		{"malformed sig", func(m *codec.Login) { m.UserSig = []byte("!") }, codec.CodeSigMalformed, "malformed"},
		{"other user's sig", func(m *codec.Login) { m.UserSig = sign("bob") }, codec.CodeSigOtherUser, "bob"},
		{"expired sig", func(m *codec.Login) { m.UserSig = signAt("alice", testStart.Add(-time.Hour), time.Minute) }, codec.CodeSigExpired, ""},
		{"resume with nothing", func(m *codec.Login) { m.Resume, m.UserSig = true, nil }, codec.CodeSigMalformed, "neither"},
		{"resume with a bad ticket only", func(m *codec.Login) { m.Resume, m.UserSig, m.Ticket = true, nil, []byte("x") }, codec.CodeSigMalformed, "neither"},
		{"resume, neither good", func(m *codec.Login) { m.Resume, m.UserSig, m.Ticket = true, sign("bob"), []byte("x") }, codec.CodeSigOtherUser, "bob"},
		{"resume, expired both", func(m *codec.Login) {
			m.Resume, m.Ticket = true, ticketUntil(1, testStart.Add(-time.Second))
			m.UserSig = signAt("alice", testStart.Add(-time.Hour), time.Minute)
		}, codec.CodeSigExpired, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.dir.apps[2] = withoutKey
			m := activeLogin("alice", codec.Android, "d1")
			c.change(m)
			k := r.open()
			k.send(loginFrame(m)...)
			no := k.wantRefused(c.code)
			if !strings.Contains(no.Text, c.text) || no.MayReconnect || no.RetryAfterMS != 0 {
				t.Fatalf("%+v, want the text to say %q, and no reconnecting", no, c.text)
			}
			k.wantState("draining")
			if !k.conn.fin || k.conn.closed {
				t.Fatal("want a half-close, so that the refusal arrives")
			}
			k.fin()
			r.wantLog()
			r.wantCloses(closeRefused, 1)
			if n := r.core.m.logins[c.code].Get(); n != 1 {
				t.Fatalf("logins with code %d counted: %d", c.code, n)
			}
		})
	}
}

// goodTicket is alice's, on Android d1, issued at seq.
func goodTicket(seq uint64) []byte { return ticketUntil(seq, testStart.Add(time.Hour)) }

func ticketUntil(seq uint64, end time.Time) []byte {
	return ticket.Append(nil, &[32]byte{1, 2, 3}, &ticket.Claims{
		App: testApp, UserID: "alice", Platform: uint8(codec.Android), DeviceID: "d1", InstID: 1, Seq: seq,
		ExpiresMS: end.UnixMilli(), SigEndMS: testStart.Add(2 * time.Hour).UnixMilli(),
	})
}

// The answers of the Directory and what the client is told.
func TestRefusedByDirectory(t *testing.T) {
	for _, c := range []struct {
		answer    int
		code      codec.Code
		reconnect bool
	}{
		{presence.CodeKickedOffline, codec.CodeKickedOffline, false},
		{presence.CodeSigRevoked, codec.CodeSigExpired, false},
		{directory.CodeUnknownApp, codec.CodeUnknownApp, false},
		{directory.CodeUnavailable, codec.CodeUnavailable, true},
		{presence.CodeTicketRevoked, codec.CodeUnavailable, true}, // there was no ticket
		{12345, codec.CodeUnavailable, true},
	} {
		t.Run(fmt.Sprint(c.answer), func(t *testing.T) {
			r := newRig(t)
			r.dir.decide = func(op *directory.LoginOp) { op.Code, op.RetryAfterMS = c.answer, 60_000 }
			k := r.open()
			k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
			no := k.wantRefused(c.code)
			if no.MayReconnect != c.reconnect || (no.RetryAfterMS >= 60_000) != c.reconnect {
				t.Fatalf("%+v", no)
			}
			k.wantState("draining")
			k.fin()
			r.wantLog("login alice") // nothing to leave
		})
	}
}

// What the Directory knows of why a login has to wait, the client is told, and the next one is not.
func TestRefusedSaysWhy(t *testing.T) {
	r := newRig(t)
	for _, c := range []struct{ why, told string }{
		{"the node is read-only", "the node is read-only"},
		{"", "the login could not be decided or stored now"},
	} {
		r.dir.decide = func(op *directory.LoginOp) {
			op.Code = directory.CodeUnavailable
			if c.why != "" {
				op.Text = c.why
			}
		}
		k := r.open()
		k.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
		if no := k.wantRefused(codec.CodeUnavailable); no.Text != c.told {
			t.Errorf("told %q, want %q", no.Text, c.told)
		}
	}
}

// A resume's credentials: which one goes to the Directory, and what is tried
// after the Directory found the ticket revoked.
func TestResumeCredentials(t *testing.T) {
	good := goodTicket(17)
	for _, c := range []struct {
		name         string
		ticket       []byte
		sig          []byte
		revoked      bool // the Directory does not take tickets
		want         []presence.Credential
		code         codec.Code
		afterRevoked bool
	}{
		{"good ticket, no sig", good, nil, false, []presence.Credential{{ByTicket: true, TicketSeq: 17}}, 0, false},
		{"good ticket, bad sig is not looked at", good, []byte("!"), false, []presence.Credential{{ByTicket: true, TicketSeq: 17}}, 0, false},
		{"no ticket, good sig", nil, sign("alice"), false, []presence.Credential{{SigTimeS: testStart.Unix()}}, 0, false},
		{"forged ticket, good sig", append([]byte{1}, good[1:48]...), sign("alice"), false, []presence.Credential{{SigTimeS: testStart.Unix()}}, 0, false},
		{"expired ticket, good sig", ticketUntil(1, testStart.Add(-time.Second)), sign("alice"), false, []presence.Credential{{SigTimeS: testStart.Unix()}}, 0, false},
		{"revoked ticket, good sig", good, sign("alice"), true, []presence.Credential{{ByTicket: true, TicketSeq: 17}, {SigTimeS: testStart.Unix()}}, 0, true},
		{"revoked ticket, bad sig", good, sign("bob"), true, []presence.Credential{{ByTicket: true, TicketSeq: 17}}, codec.CodeSigOtherUser, true},
		{"revoked ticket, no sig", good, nil, true, []presence.Credential{{ByTicket: true, TicketSeq: 17}}, codec.CodeSigMalformed, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRig(t)
			r.dir.decide = func(op *directory.LoginOp) {
				if c.revoked && op.Login.Cred.ByTicket {
					op.Code = presence.CodeTicketRevoked
				}
			}
			m := activeLogin("alice", codec.Android, "d1")
			m.Resume, m.Ticket, m.UserSig = true, c.ticket, c.sig
			k := r.open()
			k.send(loginFrame(m)...)
			var got []presence.Credential
			for i := range r.dir.logins {
				got = append(got, r.dir.logins[i].Cred)
				if !r.dir.logins[i].Resume {
					t.Error("the Directory was not told of the resume")
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Fatalf("credentials %+v, want %+v", got, c.want)
			}
			if c.code != 0 {
				k.wantRefused(c.code)
				return
			}
			k.want(codec.TypeLoginOK, nil)
		})
	}
}

// The ticket of a resume by ticket ends with the UserSig that stood behind the first login.
func TestTicketOfResume(t *testing.T) {
	r := newRig(t)
	m := activeLogin("alice", codec.Android, "d1")
	m.Resume, m.Ticket, m.UserSig = true, goodTicket(1), nil
	k := r.open()
	k.send(loginFrame(m)...)
	var ok codec.LoginOK
	k.want(codec.TypeLoginOK, &ok)
	app := r.dir.apps[testApp]
	c := ticket.Claims{App: testApp, UserID: "alice", Platform: uint8(codec.Android), DeviceID: "d1"}
	if err := ticket.Verify(ok.Ticket, &app.TicketKey, &c, r.clk.Now().UnixMilli()); err != nil {
		t.Fatal(err)
	}
	if want := testStart.Add(2 * time.Hour).UnixMilli(); c.ExpiresMS != want || c.SigEndMS != want {
		t.Fatalf("ticket %+v, want its end at %d", c, want)
	}
}

// A FIN while the Directory is asked again with the UserSig: the Leave is behind
// the first Login, so a second one must not follow it.
func TestFINBetweenTicketAndSig(t *testing.T) {
	r := newRig(t)
	r.dir.hold = true
	r.dir.decide = func(op *directory.LoginOp) { op.Code = presence.CodeTicketRevoked }
	m := activeLogin("alice", codec.Android, "d1")
	m.Resume, m.Ticket = true, goodTicket(1)
	k := r.open()
	k.send(loginFrame(m)...)
	k.fin()
	r.dir.release()
	r.run()
	r.wantLog("login alice", "leave alice LinkClosed")
}

// An app that changes its keys and time-outs: the next login sees them, a link
// keeps what it was told.
func TestAppChange(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.login("alice", codec.Android, "d1")
	app := r.dir.apps[testApp].Clone()
	app.Timeouts.Mobile = directory.ClassTimeouts{HeartbeatMS: 1000, SilenceMS: 2000}
	app.Keys[0].Secret = "another"
	r.dir.apps[testApp] = app
	r.core.AppChanged(app)

	k2 := r.open()
	k2.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
	k2.wantRefused(codec.CodeSigMismatch)

	app = app.Clone()
	app.Keys = append(app.Keys, directory.Key{ID: 2, Secret: testSecret})
	r.dir.apps[testApp] = app
	k3 := r.open()
	if ok := k3.login("bob", codec.Android, "d1"); ok.SilenceTimeoutMS != 2000 {
		t.Fatalf("%+v", ok)
	}
	r.advance(3 * time.Second)
	k3.wantState("free")
	k.wantState("online")
	delete(r.dir.apps, testApp)
	k4 := r.open()
	k4.send(loginFrame(activeLogin("alice", codec.Android, "d1"))...)
	k4.wantRefused(codec.CodeUnknownApp)
}

func TestMaxPendingLogins(t *testing.T) {
	r := newRig(t, func(o *Options) { o.MaxPendingLogins = 3 })
	r.dir.hold = true
	var links []*link
	for i := range 4 {
		k := r.open()
		k.send(loginFrame(activeLogin(fmt.Sprintf("u%d", i), codec.Android, "d1"))...)
		links = append(links, k)
	}
	links[3].wantState("deciding")
	r.advance(time.Second)
	if no := links[3].wantRefused(codec.CodeOverloaded); !no.MayReconnect || no.RetryAfterMS < 1000 {
		t.Fatalf("%+v", no)
	}
	if r.core.PendingLogins() != 3 {
		t.Fatalf("%d pending", r.core.PendingLogins())
	}
	r.dir.hold = false
	r.dir.release()
	r.run()
	for _, k := range links[:3] {
		k.wantState("online")
	}
	r.open().login("u4", codec.Android, "d1")
}

func TestBodyThatDoesNotDecode(t *testing.T) {
	r := newRig(t)
	k := r.open()
	k.send(append(codec.AppendHeader(nil, codec.TypeLogin, 0, 2), 0xff, 0xff)...)
	k.wantRefused(codec.CodeMalformedBody)
	r.wantCloses(closeProtocol, 1)
}
