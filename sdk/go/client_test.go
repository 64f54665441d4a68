package rollcall

import (
	"context"
	"errors"
	"net"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

func TestLoginThenResume(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.accept()
		m := p.wantLogin(false, "")
		if m.SDKAppID != 1400000000 || string(m.UserID) != "alice" || string(m.UserSig) != "sig" || m.Platform != codec.Android ||
			string(m.DeviceID) != "d1" || string(m.SDKVersion) != "1.0" || string(m.DeviceModel) != "Pixel" {
			t.Errorf("the login says %+v", m)
		}
		ok := okAnswer
		ok.Kicked = []codec.KickedInstance{{Platform: codec.IPhone, InstID: 3}}
		p.send(codec.AppendLoginOK(nil, &ok))
		synctest.Wait()
		want := Login{
			InstID: 7, Ticket: []byte("t1"), ServerTime: time.UnixMilli(1_800_000_000_123),
			HeartbeatInterval: 2 * time.Minute, SilenceTimeout: 400 * time.Second, Kicked: ok.Kicked,
		}
		if !reflect.DeepEqual(fx.saw().logins, []Login{want}) {
			t.Errorf("told of %+v, want %+v", fx.saw().logins, want)
		}

		p.conn.Close()
		p = fx.accept()
		fx.wantElapsed(time.Second) // the first back-off
		if m := p.wantLogin(true, "t1"); string(m.UserSig) != "sig" {
			t.Errorf("resume with UserSig %q", m.UserSig)
		}
		p.send(codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 7, Ticket: []byte("t2"), TakenBack: true, HeartbeatIntervalMS: 20_000}))
		if l := fx.saw().logins[1]; !l.Resumed || !l.TakenBack || l.InstID != 7 || string(l.Ticket) != "t2" {
			t.Errorf("told of %+v", l)
		}
		p.conn.Close()
		fx.welcome(true, "t2") // the newest ticket
	})
}

func TestStatuses(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		fx.welcome(false, "").conn.Close()
		fx.welcome(true, "t1")
		synctest.Wait()
		fx.client.Close()
		if err := fx.wait(); err != ErrClosed {
			t.Errorf("Run returned %v", err)
		}
		var got []string
		for _, s := range fx.saw().statuses {
			got = append(got, s.Status.String()+" "+s.Addr)
		}
		want := []string{"connecting a:7700", "online a:7700", "waiting ", "connecting a:7700", "online a:7700", "ended "}
		if !slices.Equal(got, want) {
			t.Errorf("statuses %q, want %q", got, want)
		}
		if s := fx.saw().statuses[2]; s.Wait != time.Second || s.Err == nil {
			t.Errorf("waiting: %+v", s)
		}
		if s := fx.saw().statuses[5]; s.Err != ErrClosed {
			t.Errorf("ended: %+v", s)
		}
	})
}

func TestTicketOfEarlierRun(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.opts.Ticket = []byte("kept")
		fx.opts.OnLogin = func(l Login) { clear(l.Ticket) }
		fx.begin(t.Context())
		clear(fx.opts.Ticket) // the client has its own
		fx.welcome(true, "kept").conn.Close()
		fx.welcome(true, "t1")
	})
	run(t, func(t *testing.T, fx *fixture) {
		fx.opts.Resume = true
		fx.begin(t.Context())
		fx.welcome(true, "")
	})
}

// A ticket over the limit is not kept: the login that carried it would not pass.
func TestTicketLimit(t *testing.T) {
	for _, n := range []int{codec.MaxTicket - 1, codec.MaxTicket, codec.MaxTicket + 1} {
		run(t, func(t *testing.T, fx *fixture) {
			fx.begin(t.Context())
			p := fx.accept()
			p.wantLogin(false, "")
			ticket := strings.Repeat("t", n)
			p.send(codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, Ticket: []byte(ticket)}))
			p.conn.Close()
			if n > codec.MaxTicket {
				ticket = ""
			}
			fx.welcome(true, ticket)
		})
	}
}

func TestHeartbeats(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.welcome(false, "")
		for i := range 3 {
			p.expect(codec.TypeHeartbeat)
			fx.wantElapsed(time.Duration(i+1) * 2 * time.Minute)
			p.send(codec.AppendEmpty(nil, codec.TypeHeartbeatOK))
		}
		p.expect(codec.TypeHeartbeat)
		p.gone() // no answer: the link is dead
		fx.wantElapsed(8*time.Minute + DefaultAnswerTimeout)
		fx.welcome(true, "t1")
		if err := fx.saw().statuses[2].Err; !errors.Is(err, ErrNoAnswer) {
			t.Errorf("waiting because of %v", err)
		}
	})
}

// Time runs from the first heartbeat without an answer, and any frame is one.
func TestHeartbeatAnswers(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.accept()
		p.wantLogin(false, "")
		p.send(codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, HeartbeatIntervalMS: 10_000}))
		p.expect(codec.TypeHeartbeat)
		p.send(codec.AppendHeader(nil, 99, codec.FlagOptional, 0))
		p.expect(codec.TypeHeartbeat) // 20 s
		p.expect(codec.TypeHeartbeat) // 30 s
		p.gone()
		fx.wantElapsed(20*time.Second + DefaultAnswerTimeout)
	})
}

func TestHeartbeatIntervalBounds(t *testing.T) {
	for ms, want := range map[uint32]time.Duration{
		0: minHeartbeat, 1: minHeartbeat, 999: minHeartbeat, 1000: time.Second, 1001: 1001 * time.Millisecond,
		3_599_999: maxHeartbeat - time.Millisecond, 3_600_000: maxHeartbeat, 3_600_001: maxHeartbeat, 1<<32 - 1: maxHeartbeat,
	} {
		run(t, func(t *testing.T, fx *fixture) {
			fx.begin(t.Context())
			p := fx.accept()
			p.wantLogin(false, "")
			p.send(codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, HeartbeatIntervalMS: ms}))
			p.expect(codec.TypeHeartbeat)
			fx.wantElapsed(want)
		})
	}
}

func TestBackoff(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.dialErr = errors.New("no route")
		fx.begin(t.Context())
		time.Sleep(5 * time.Minute)
		got := fx.saw().ceilings
		fx.locked(func() { fx.dialErr = nil })
		s := time.Second
		if want := []time.Duration{s, 2 * s, 4 * s, 8 * s, 16 * s, 32 * s, time.Minute, time.Minute, time.Minute, time.Minute}; !slices.Equal(got, want) {
			t.Errorf("back-off of %v, want %v", got, want)
		}
		// A login that is lost at once does not end the row; one that held does.
		fx.welcome(false, "").conn.Close()
		p := fx.welcome(true, "t1")
		time.Sleep(DefaultBackoffMax)
		p.conn.Close()
		fx.welcome(true, "t1")
		if got := fx.saw().ceilings[len(fx.saw().ceilings)-2:]; got[0] != time.Minute || got[1] != time.Second {
			t.Errorf("back-off of %v after a short and a long login", got)
		}
	})
}

func TestBackoffBounds(t *testing.T) {
	for _, b := range []backoff{{min: 1, max: 1 << 62}, {min: 3, max: 3}, {min: 1 << 62, max: 1<<63 - 1}} {
		b.jitter = func(max time.Duration) time.Duration {
			if max < b.min || max > b.max {
				t.Fatalf("between %d and %d: %d", b.min, b.max, max)
			}
			return max
		}
		for range 200 {
			b.next(0)
		}
	}
}

func TestDefaultJitter(t *testing.T) {
	o := Options{Addr: "a:1", SDKAppID: 1, UserID: "u", UserSig: StaticUserSig(""), Platform: codec.Web, DeviceID: "d"}
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	seen := make(map[time.Duration]bool)
	for range 200 {
		d := o.Jitter(4)
		if d < 0 || d >= 4 {
			t.Fatalf("jitter of %d in [0, 4)", d)
		}
		seen[d] = true
	}
	if len(seen) != 4 {
		t.Errorf("only %v in 200 tries", seen)
	}
}

func TestRefusedForGood(t *testing.T) {
	for _, code := range []codec.Code{codec.CodeSigExpired, codec.CodeKickedOffline, codec.CodeBadParameter} {
		run(t, func(t *testing.T, fx *fixture) {
			fx.begin(t.Context())
			fx.welcome(false, "").conn.Close()
			p := fx.accept()
			p.wantLogin(true, "t1")
			p.send(codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: code, Text: "so it is"}))
			p.gone()
			var refused *RefusedError
			if err := fx.wait(); !errors.As(err, &refused) || refused.Code != code || refused.Text != "so it is" || !refused.Resume {
				t.Errorf("Run returned %#v", err)
			}
		})
	}
}

func TestRefusedForNow(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.accept()
		p.wantLogin(false, "")
		p.send(codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeOverloaded, RetryAfterMS: 5000, MayReconnect: true}))
		p.gone()
		fx.welcome(false, "")           // still the login that a person asked for
		fx.wantElapsed(6 * time.Second) // never before what the server said, plus the back-off
		var refused *RefusedError
		if err := fx.saw().statuses[1].Err; !errors.As(err, &refused) || refused.RetryAfter != 5*time.Second {
			t.Errorf("waiting because of %v", err)
		}
	})
}

func TestForcedOffline(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.welcome(false, "")
		p.send(codec.AppendForcedOffline(nil, &codec.ForcedOffline{
			Code: codec.CodeAnotherLogin, Text: "bye", ByPlatform: codec.IPad, ByDeviceModel: "iPad 9", TimeMS: 1234,
		}))
		p.gone()
		want := &ForcedOfflineError{Code: codec.CodeAnotherLogin, Text: "bye", ByPlatform: codec.IPad, ByDeviceModel: "iPad 9", Time: time.UnixMilli(1234)}
		var forced *ForcedOfflineError
		if err := fx.wait(); !errors.As(err, &forced) || !reflect.DeepEqual(forced, want) {
			t.Errorf("Run returned %#v", err)
		}
		if len(fx.saw().forced) != 1 || fx.saw().forced[0] != forced {
			t.Errorf("told of %v", fx.saw().forced)
		}
	})
}

func TestForcedOfflineForNow(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.welcome(false, "")
		p.send(codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeServerDraining, MayReconnect: true, RetryAfterMS: 10_000}))
		p.gone()
		fx.welcome(true, "t1")
		fx.wantElapsed(11 * time.Second)
		if len(fx.saw().forced) != 1 || fx.saw().forced[0].RetryAfter != 10*time.Second {
			t.Errorf("told of %v", fx.saw().forced)
		}
	})
}

// The server's last word counts although a write has already failed.
func TestLastWordAfterFailedWrite(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		dial := fx.opts.Dial
		fx.opts.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := dial(ctx, network, addr)
			return &deaf{Conn: conn}, err
		}
		fx.begin(t.Context())
		p := fx.welcome(false, "")
		time.Sleep(2*time.Minute + time.Second) // a heartbeat, and it fails
		p.send(codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeKickedREST}))
		var forced *ForcedOfflineError
		if err := fx.wait(); !errors.As(err, &forced) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// deaf is a connection that fails to write all but the first time.
type deaf struct {
	net.Conn
	writes int
}

func (d *deaf) Write(b []byte) (int, error) {
	if d.writes++; d.writes > 1 {
		return 0, errors.New("broken pipe")
	}
	return d.Conn.Write(b)
}

func TestRedirect(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		redirect := func(addr string, afterMS uint32) []byte {
			return codec.AppendRedirect(nil, &codec.Redirect{Address: addr, RetryAfterMS: afterMS})
		}
		p := fx.accept()
		p.wantLogin(false, "")
		p.send(redirect("b:1", 0))
		p.gone()
		p = fx.welcome(false, "")
		fx.wantElapsed(0) // at login, at once
		p.send(redirect("c:1", 2000))
		p.gone()
		p = fx.welcome(true, "t1")
		fx.wantElapsed(3 * time.Second) // from a full server, spread
		p.conn.Close()
		p = fx.accept() // a lost link: the same server first
		p.wantLogin(true, "t1")
		p.conn.Close()
		p = fx.welcome(true, "t1") // it does not let us in: the address we were given
		if want := []string{"a:7700", "b:1", "c:1", "c:1", "a:7700"}; !slices.Equal(fx.saw().dialed, want) {
			t.Errorf("connected to %q, want %q", fx.saw().dialed, want)
		}
		for range 2 * maxRedirects { // nowhere: here again. With logins between, it is no circle
			p.send(redirect("", 0))
			p.gone()
			p = fx.welcome(true, "t1")
			if got := fx.saw().statuses; got[len(got)-3].Wait != time.Second {
				t.Errorf("after a redirect: %+v", got[len(got)-3])
			}
		}
	})
}

func TestRedirectCircle(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		for i := range 2 * (maxRedirects + 1) {
			p := fx.accept()
			p.wantLogin(false, "")
			p.send(codec.AppendRedirect(nil, &codec.Redirect{Address: "b:" + string(rune('1'+i))}))
			p.gone()
		}
		fx.welcome(false, "")
		if want := []string{"a:7700", "b:1", "b:2", "b:3", "a:7700", "b:5", "b:6", "b:7", "a:7700"}; !slices.Equal(fx.saw().dialed, want) {
			t.Errorf("connected to %q, want %q", fx.saw().dialed, want)
		}
		if want := []time.Duration{time.Second, 2 * time.Second}; !slices.Equal(fx.saw().ceilings, want) {
			t.Errorf("back-off of %v, want %v", fx.saw().ceilings, want)
		}
	})
}

func TestRedirectToSilence(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.accept()
		p.wantLogin(false, "")
		p.send(codec.AppendRedirect(nil, &codec.Redirect{Address: "b:1"}))
		p = fx.accept()
		p.wantLogin(false, "")
		p.gone()
		fx.welcome(false, "")
		if want := []string{"a:7700", "b:1", "a:7700"}; !slices.Equal(fx.saw().dialed, want) {
			t.Errorf("connected to %q, want %q", fx.saw().dialed, want)
		}
		if err := fx.saw().statuses[3].Err; !errors.Is(err, ErrNoAnswer) || !strings.Contains(err.Error(), `"b:1"`) {
			t.Errorf("waiting because of %v", err)
		}
	})
}

func TestRedirectToNowhere(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		dial := fx.opts.Dial
		fx.opts.Dial = func(ctx context.Context, network, addr string) (net.Conn, error) {
			if addr != "a:7700" {
				return nil, errors.New("no such host")
			}
			return dial(ctx, network, addr)
		}
		fx.begin(t.Context())
		p := fx.accept()
		p.wantLogin(false, "")
		p.send(codec.AppendRedirect(nil, &codec.Redirect{Address: "nowhere:1"}))
		fx.welcome(false, "")
	})
}

func TestUnknownFrames(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.accept()
		p.wantLogin(false, "")
		optional := append(codec.AppendHeader(nil, 99, codec.FlagOptional, 3), "abc"...)
		p.send(optional)
		p.ok()
		p.send(optional)
		p.expect(codec.TypeHeartbeat) // still there
		p.send(append(optional, codec.AppendEmpty(nil, codec.TypeHeartbeatOK)...))
		p.send(codec.AppendHeader(nil, 99, 0, 0))
		p.gone()
		fx.welcome(true, "t1")
	})
}

func TestBrokenServers(t *testing.T) {
	bad := codec.AppendHeader(nil, 0, 0, 1)
	for name, b := range map[string][]byte{
		"not our protocol":        []byte("HTTP/1.1 400 Bad Request\r\n\r\n"),
		"version 2":               {66, 0x20, 0, 0},
		"bad LoginOK":             append(codec.AppendHeader(nil, codec.TypeLoginOK, 0, 1), 0),
		"bad LoginRefused":        append(codec.AppendHeader(nil, codec.TypeLoginRefused, 0, 1), 0),
		"bad ForcedOffline":       append(codec.AppendHeader(nil, codec.TypeForcedOffline, 0, 1), 0),
		"bad Redirect":            append(codec.AppendHeader(nil, codec.TypeRedirect, 0, 1), 0),
		"LogoutOK nobody asked":   codec.AppendEmpty(nil, codec.TypeLogoutOK),
		"a client's frame":        codec.AppendEmpty(nil, codec.TypeHeartbeat),
		"frame of type 0":         bad,
		"second LoginOK":          append(codec.AppendLoginOK(nil, &okAnswer), codec.AppendLoginOK(nil, &okAnswer)...),
		"good, then not protocol": append(codec.AppendLoginOK(nil, &okAnswer), 0),
	} {
		run(t, func(t *testing.T, fx *fixture) {
			fx.begin(t.Context())
			p := fx.accept()
			p.wantLogin(false, "")
			p.send(b)
			p.gone()
			fx.accept() // after a back-off
			fx.wantElapsed(time.Second)
			var err error
			for _, s := range fx.saw().statuses {
				if s.Status == Waiting {
					err = s.Err
				}
			}
			if !errors.Is(err, ErrProtocol) {
				t.Errorf("%s: waiting because of %v", name, err)
			}
		})
	}
}

// Frames arrive the same in whatever pieces, also one larger than the buffer.
func TestPieces(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.accept()
		p.wantLogin(false, "")
		stream := append(codec.AppendHeader(nil, 99, codec.FlagOptional, codec.MaxBody), make([]byte, codec.MaxBody)...)
		stream = codec.AppendLoginOK(stream, &okAnswer)
		for i := range stream {
			p.send(stream[i : i+1])
		}
		p.expect(codec.TypeHeartbeat)
		p.send(append(stream[:codec.MaxFrame:codec.MaxFrame], codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: 1})...))
		var forced *ForcedOfflineError
		if err := fx.wait(); !errors.As(err, &forced) || forced.Code != 1 {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestNoAnswerToLogin(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.accept()
		p.wantLogin(false, "")
		p.gone()
		fx.wantElapsed(DefaultAnswerTimeout)
		fx.welcome(false, "")
	})
}

func TestServerThatReadsNothing(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		fx.accept() // a pipe has no buffer: the login cannot be written
		p := fx.accept()
		fx.wantElapsed(DefaultAnswerTimeout + time.Second)
		p.wantLogin(false, "")
	})
}

func TestUserSigFails(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		calls := 0
		fx.opts.UserSig = func(context.Context) (string, error) {
			if calls++; calls == 2 {
				return "good", nil
			}
			return "", errors.New("backend down")
		}
		fx.begin(t.Context())
		p := fx.accept() // the second try: no connection without a UserSig
		fx.wantElapsed(time.Second)
		if m := p.wantLogin(false, ""); string(m.UserSig) != "good" {
			t.Errorf("login with %q", m.UserSig)
		}
		p.ok()
		p.conn.Close()
		p = fx.accept() // the ticket is enough
		if m := p.wantLogin(true, "t1"); len(m.UserSig) != 0 {
			t.Errorf("resume with %q", m.UserSig)
		}
	})
}

// A resume without a ticket needs a UserSig like any login.
func TestUserSigFailsWithoutTicket(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.opts.Resume = true
		calls := 0
		fx.opts.UserSig = func(context.Context) (string, error) {
			if calls++; calls == 1 {
				return "", errors.New("backend down")
			}
			return "good", nil
		}
		fx.begin(t.Context())
		if m := fx.accept().wantLogin(true, ""); string(m.UserSig) != "good" {
			t.Errorf("resume with %q", m.UserSig)
		}
	})
}

func TestUserSigTooLarge(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.opts.UserSig = StaticUserSig(strings.Repeat("s", codec.MaxFrameBeforeLogin))
		fx.begin(t.Context())
		if err := fx.wait(); err == nil || !strings.Contains(err.Error(), "UserSig of 8192 bytes") {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestOptionsAreChecked(t *testing.T) {
	good := Options{Addr: "a:1", SDKAppID: 1, UserID: "u", UserSig: StaticUserSig("s"), Platform: codec.Web, DeviceID: "d"}
	for _, tc := range []struct {
		change func(*Options)
		want   string // part of the error, "" = good
	}{
		{func(*Options) {}, ""},
		{func(o *Options) { o.Addr = "" }, `""`},
		{func(o *Options) { o.Addr = "host" }, `"host"`},
		{func(o *Options) { o.SDKAppID = 0 }, "SDKAppID"},
		{func(o *Options) { o.UserID = "" }, "UserID"},
		{func(o *Options) { o.UserSig = nil }, "UserSig"},
		{func(o *Options) { o.Platform = 0 }, "platform 0"},
		{func(o *Options) { o.DeviceID = "" }, "device id"},
		{func(o *Options) { o.DeviceModel = strings.Repeat("m", 65) }, "device model"},
		{func(o *Options) { o.Ticket = make([]byte, codec.MaxTicket+1) }, "ticket of 257"},
		{func(o *Options) { o.DialTimeout = -1 }, "-1ns"},
		{func(o *Options) { o.AnswerTimeout = -1 }, "-1ns"},
		{func(o *Options) { o.BackoffMin = -1 }, "-1ns"},
		{func(o *Options) { o.BackoffMin, o.BackoffMax = 2, 1 }, "2ns and 1ns"},
		{func(o *Options) { o.BackoffMin = time.Hour }, ""}, // the default maximum follows
	} {
		o := good
		tc.change(&o)
		_, err := New(o)
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
			t.Errorf("%+v: %v, want %q", o, err, tc.want)
		}
	}
}

func TestErrorTexts(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want string
	}{
		{&RefusedError{Code: codec.CodeSigExpired}, "rollcall: login refused: 70001 SigExpired: the UserSig is expired or was issued before a kick"},
		{&RefusedError{Code: 6208, Text: "gone", Resume: true}, "rollcall: resume refused: 6208 KickedWhileOffline: gone"},
		{&ForcedOfflineError{Code: 9999, Text: "new"}, "rollcall: forced offline: 9999 Code(9999): new"},
		{&ForcedOfflineError{Code: 6001, Text: "x", ByPlatform: codec.Mac, ByDeviceModel: "Air"}, `rollcall: forced offline: 6001 AnotherLogin: x (by Mac "Air")`},
	} {
		if got := tc.err.Error(); got != tc.want {
			t.Errorf("%q, want %q", got, tc.want)
		}
	}
	for s := range Ended + 2 {
		if got := Status(s).String(); (got == "unknown") != (s == 0 || s > Ended) {
			t.Errorf("status %d is %q", s, got)
		}
	}
}
