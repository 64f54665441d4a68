package bench

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/codec/ws"
)

// others are the protocols besides the native one, which all other tests speak.
var others = []Protocol{WS, WSJSON, MQTT}

// speaking starts a fake of a protocol whose interval suits MQTT, which counts seconds.
func speaking(t *testing.T, p Protocol) *fake {
	f := newFake(t)
	f.protocol, f.beatMS = p, 1000
	return f
}

// TestProtocols: the scenarios pass in each protocol, however the answers are cut.
func TestProtocols(t *testing.T) {
	for _, p := range others {
		for _, drip := range []bool{false, true} {
			t.Run(fmt.Sprint(p, drip), func(t *testing.T) {
				f := speaking(t, p)
				f.drip = drip
				o := f.options()
				o.ServerPID = os.Getpid()
				r, err := Hold(context.Background(), HoldOptions{Options: o, Conns: 20, Low: 5, Settle: time.Millisecond, Hold: 300 * time.Millisecond, BeatRate: 200})
				if err != nil || !r.OK || r.Heartbeats.Answered == 0 {
					t.Errorf("hold: %v, %s", err, r.Summary())
				}
				r, err = Churn(context.Background(), ChurnOptions{Options: o, Rate: 200, Duration: 300 * time.Millisecond, Stay: 10 * time.Millisecond, Users: 30})
				if err != nil || !r.OK || r.Logouts == nil || r.Logouts.Count == 0 {
					t.Errorf("churn: %v, %s", err, r.Summary())
				}
				r, err = Kick(context.Background(), KickOptions{Options: o, Conns: 10, Kicks: 5, KickRate: 100})
				if err != nil || !r.OK || r.Kicks.Kicks != 5 {
					t.Errorf("kick: %v, %s", err, r.Summary())
				}
			})
		}
	}
}

// TestProtocolFaults: what goes wrong is told as it is in the native protocol.
func TestProtocolFaults(t *testing.T) {
	good := codec.LoginOK{InstID: 1, ServerTimeMS: 1, HeartbeatIntervalMS: 1000, SilenceTimeoutMS: 3000}
	forced := codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeAnotherLogin, Text: "another"})
	for _, c := range []struct {
		name   string
		answer []byte
		want   Fault
		says   string
	}{
		{"refused", codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeSigExpired, Text: "no"}), FaultLoginRefused, "70001"},
		{"redirected", append(codec.AppendLoginOK(nil, &good), codec.AppendRedirect(nil, &codec.Redirect{Address: "x:1"})...), FaultLoginRefused, "redirect"},
		{"forced offline", append(codec.AppendLoginOK(nil, &good), forced...), FaultForced, "6001"},
		{"somebody kicked", codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, ServerTimeMS: 1, HeartbeatIntervalMS: 1000, SilenceTimeoutMS: 3000,
			Kicked: []codec.KickedInstance{{Platform: codec.Web, InstID: 2}}}), FaultLoginAnswer, "InstID:2"},
		{"no frame", []byte("\xff\xff\xff\xff\xff\xff"), FaultFrame, ""},
	} {
		for _, p := range others {
			t.Run(c.name+"/"+string(p), func(t *testing.T) {
				f := speaking(t, p)
				f.onLogin = func(string, int, []byte) []byte { return c.answer }
				o := ConnectOptions{Options: f.options(), Conns: 3, Hold: time.Millisecond}
				r, err := Connect(context.Background(), o)
				if err != nil || r.OK || r.Errors[c.want] == 0 || !strings.Contains(fmt.Sprint(r.ErrorSamples), c.says) {
					t.Errorf("%v, %v, %v", err, r.Errors, r.ErrorSamples)
				}
			})
		}
	}
}

// TestNoUpgrade: a server that is no WebSocket server is told of by its words.
func TestNoUpgrade(t *testing.T) {
	f := newFake(t) // speaks native
	o := f.options()
	o.Protocol, o.AnswerTimeout = WS, 300*time.Millisecond
	r, err := Connect(context.Background(), ConnectOptions{Options: o, Conns: 1, Hold: time.Millisecond})
	if err != nil || r.OK || r.Errors[FaultLoginTimeout] != 1 {
		t.Errorf("%v, %v", err, r.Errors)
	}
	s := newTongue(WS, "host:1")
	if _, err := s.greeted([]byte("HTTP/1.1 503 Service Unavailable\r\n\r\n"), 0); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("%v", err)
	}
	answer, _, fault := ws.Upgrade(nil, s.greet(nil, 7), []string{subNative})
	if fault != nil {
		t.Fatal(fault)
	}
	if n, err := s.greeted(answer, 7); err != nil || n != len(answer) {
		t.Errorf("%d, %v", n, err)
	}
	if _, err := s.greeted(answer, 8); err == nil {
		t.Error("the answer to another request is accepted")
	}
	if _, err := newTongue(WSJSON, "host:1").greeted(answer, 7); err == nil {
		t.Error("the answer for another sub-protocol is accepted")
	}
}

// TestTonguesSplit: a message cut anywhere reads the same as whole, and garbage is an error.
func TestTonguesSplit(t *testing.T) {
	ok := codec.LoginOK{InstID: 1 << 31, ServerTimeMS: 5, HeartbeatIntervalMS: 120_000, SilenceTimeoutMS: 400_000, TakenBack: true, Ticket: []byte("ticket"),
		Kicked: []codec.KickedInstance{{Platform: codec.Web, InstID: 2}}}
	native := codec.AppendLoginOK(nil, &ok)
	for _, c := range []struct {
		p   Protocol
		say []byte
	}{
		{WS, (&wsSide{}).say(frameOf(native), native)},
		{WSJSON, (&wsSide{json: true}).say(frameOf(native), native)},
		{MQTT, sayMQTT(frameOf(native), native)},
	} {
		s := newTongue(c.p, "")
		for cut := range c.say {
			if h, err := s.next(c.say[:cut]); h.n != 0 || err != nil {
				t.Fatalf("%s: %d, %v for %d of %d bytes", c.p, h.n, err, cut, len(c.say))
			}
		}
		h, err := s.next(append(slices.Clone(c.say), c.say...))
		if err != nil || h.n != len(c.say) || !slices.Equal(h.frame.Body, frameOf(native).Body) {
			t.Errorf("%s: %+v, %v; want %x", c.p, h, err, native)
		}
	}
	for p, bad := range map[Protocol][]string{
		WS:     {"\x81\x02{}", "\x02\x01a", "\x82\x85\x00\x00\x00\x00", "\x82\x06\x10\x43\x00\x00xx", "\xc2\x00"},
		WSJSON: {"\x82\x02{}", "\x81\x02{}", "\x81\x02[]"},
		MQTT:   {"\x20\xff\xff\xff\xff", "\x20\x03\x00\x00\x01", "\x20\x05\x00\x00\x02\x13\x00", "\x30\x00", "\xe0\x06\x8e\x04\x26\x00\x05a", "\x20\x00", "\xd0\x01a"},
	} {
		for _, b := range bad {
			if h, err := newTongue(p, "").next([]byte(b)); err == nil {
				t.Errorf("%s: %x is taken for %+v", p, b, h)
			}
		}
	}
	if h, err := newTongue(MQTT, "").next([]byte{mqttDisconnect, 0}); err != nil || h.frame.Type != codec.TypeForcedOffline {
		t.Errorf("an empty DISCONNECT: %+v, %v", h, err)
	}
}

// TestLogIn: one login over a connection of any kind.
func TestLogIn(t *testing.T) {
	for _, p := range Protocols() {
		f := speaking(t, p)
		o := f.options()
		if err := o.validate(); err != nil {
			t.Fatal(err)
		}
		pop, err := newPopulation(&o, 1)
		if err != nil {
			t.Fatal(err)
		}
		var m codec.Login
		pop.login(0, &m)
		c, err := net.Dial("tcp", o.Target)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if err := LogIn(c, p, &m); err != nil {
			t.Errorf("%s: %v", p, err)
		}
	}
	c, server := net.Pipe()
	defer c.Close()
	go func() {
		buf := make([]byte, 4096)
		_, _ = server.Read(buf)
		_, _ = server.Write(codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeSigExpired, Text: "too old"}))
		_ = server.Close()
	}()
	if err := LogIn(c, Native, &codec.Login{UserID: []byte("x")}); err == nil || !strings.Contains(err.Error(), "70001 too old") {
		t.Errorf("%v", err)
	}
}

// TestMQTTLogin: CONNECT as the server reads it.
func TestMQTTLogin(t *testing.T) {
	m := codec.Login{SDKAppID: 5, UserID: []byte("a/b"), UserSig: []byte("sig"), Platform: codec.Web, DeviceID: []byte("d"), SDKVersion: []byte("1"), DeviceModel: []byte("M")}
	p := newTongue(MQTT, "").login(nil, &m)
	h, fault := mqtt.Next(p, 0, mqtt.MaxPacket)
	if fault != nil || h.Total() != len(p) {
		t.Fatal(h, fault)
	}
	c, fault := mqtt.ParseConnect(h, p[h.Size:])
	if fault != nil || !slices.Equal(codec.AppendLogin(nil, &c.Login), codec.AppendLogin(nil, &m)) {
		t.Errorf("%+v, %v", c, fault)
	}
}

// TestOptionsProtocol: the port follows the protocol.
func TestOptionsProtocol(t *testing.T) {
	for p, want := range map[Protocol]string{"": "127.0.0.1:7700", Native: "127.0.0.1:7700", WS: "127.0.0.1:7701", WSJSON: "127.0.0.1:7701", MQTT: "127.0.0.1:1883"} {
		o := Options{Protocol: p}
		if err := o.validate(); err != nil || o.Target != want {
			t.Errorf("%q: %s, %v", p, o.Target, err)
		}
	}
	for p, want := range map[Protocol]string{"": "127.0.0.1:8700", WS: "127.0.0.1:8701", WSJSON: "127.0.0.1:8701", MQTT: "127.0.0.1:8883"} {
		o := Options{Protocol: p, TLS: &tls.Config{}}
		if err := o.validate(); err != nil || o.Target != want {
			t.Errorf("%q over TLS: %s, %v", p, o.Target, err)
		}
	}
	o := Options{Protocol: "gopher"}
	if err := o.validate(); err == nil || !strings.Contains(err.Error(), `"gopher"; there are native, ws, ws-json, mqtt`) {
		t.Errorf("%v", err)
	}
}
