package engine

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func decimal(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

func TestMQTTLogin(t *testing.T) {
	bothVersions(t, func(t *testing.T, v mqtt.Version) {
		r := mqttRig(t)
		k := r.mqttOpen(v)
		c := phone(v)
		if v == mqtt.V5 {
			c.userProps = []string{"sdk-version", "1.2.3", "device-model", "Model 9"}
		}
		k.connect(c)
		pk := k.wantConnack(0)
		k.wantState("online")
		got := r.dir.logins[0]
		want := presence.Device{Platform: presence.Android, ID: "d1"}
		if v == mqtt.V5 {
			want.SDKVersion, want.Model = "1.2.3", "Model 9"
			props := propsOf(pk)
			if pk.Properties.ServerKeepAlive != 120 || props["inst-id"] != "1" || props["ticket"] == "" || props["silence-timeout-ms"] != "400000" {
				t.Errorf("CONNACK %+v", pk.Properties)
			}
		}
		if got.Device != want || got.Resume || got.Link.Protocol != presence.ProtocolMQTT || got.Link.Listener != "mqtt" || got.Cred.ByTicket {
			t.Errorf("the login is %+v", got)
		}
		k.send(pingreq...)
		k.next(mqtt.PINGRESP)
		if r.loop.mqtt != nil {
			t.Errorf("an idle link has %d states", len(r.loop.mqtt))
		}
		k.send(disconnectGood...) // 0x00 is a logout
		k.wantClosed()
		r.wantLog("login alice", "leave alice Logout")
		r.wantCloses(closeLogout, 1)
	})
}

// Clean Session / Clean Start 0 is a resume. A good UserSig stands for a missing
// ticket, a good ticket for the UserSig. No subscription outlives its link, so Session
// Present is 0; on 5.0 taken-back is what the directory says.
func TestMQTTResume(t *testing.T) {
	bothVersions(t, func(t *testing.T, v mqtt.Version) {
		for _, takenBack := range []bool{false, true} {
			r := mqttRig(t)
			r.dir.decide = func(op *directory.LoginOp) { op.Decision.TakenBack = takenBack }
			k := r.mqttOpen(v)
			c := phone(v)
			c.resume = true
			k.connect(c)
			pk := k.wantConnack(0)
			if pk.SessionPresent { // [MQTT-3.2.2-3]
				t.Error("Session Present is 1")
			}
			if got := propsOf(pk)["taken-back"]; v == mqtt.V5 && got != fmt.Sprint(takenBack) {
				t.Errorf("taken-back is %q, want %v", got, takenBack)
			}
			if got := r.dir.logins[0]; !got.Resume || got.Cred.ByTicket {
				t.Errorf("the login is %+v", got)
			}
		}
	})
	r := mqttRig(t)
	k := r.mqttOpen(mqtt.V5)
	c := phone(mqtt.V5)
	c.resume, c.password, c.userProps = true, "", []string{"ticket", ticketText(goodTicket(1))}
	k.connect(c)
	k.wantConnack(0)
	if got := r.dir.logins[0]; !got.Cred.ByTicket || got.Cred.TicketSeq != 1 {
		t.Errorf("the login is %+v", got)
	}
}

// What is refused at CONNECT, and how each version is told.
func TestMQTTRefusedLogin(t *testing.T) {
	code := func(c int) func(*rig) {
		return func(r *rig) { r.dir.decide = func(op *directory.LoginOp) { op.Code = c } }
	}
	for _, tc := range []struct {
		name      string
		change    func(*connection)
		rig       func(*rig)
		code      codec.Code
		v5, v311  byte // v311 0: just closed
		reconnect bool
	}{
		{name: "no client id [MQTT-3.1.3-8]", change: func(c *connection) { c.client = "" }, code: codec.CodeBadParameter, v5: 0x85, v311: 2},
		{name: "client id too long [MQTT-3.1.3-8]", change: func(c *connection) { c.client = strings.Repeat("d", 65) }, code: codec.CodeBadParameter, v5: 0x85, v311: 2},
		{name: "user name", change: func(c *connection) { c.user = "alice" }, code: codec.CodeBadParameter, v5: 0x86, v311: 4},
		{name: "no password", change: func(c *connection) { c.password = "" }, code: codec.CodeSigEmpty, v5: 0x86, v311: 4},
		{name: "password", change: func(c *connection) { c.password = "nonsense" }, code: codec.CodeSigMalformed, v5: 0x86, v311: 4},
		{name: "another user's UserSig", change: func(c *connection) { c.password = string(sign("bob")) }, code: codec.CodeSigOtherUser, v5: 0x86, v311: 4},
		{name: "expired UserSig", change: func(c *connection) { c.password = string(signAt("alice", testStart.Add(-48*time.Hour), time.Hour)) }, code: codec.CodeSigExpired, v5: 0x87, v311: 5},
		{name: "unknown app", change: func(c *connection) { c.user = "7/alice/Android" }, code: codec.CodeUnknownApp, v5: 0x86, v311: 4},
		{name: "keep alive", change: func(c *connection) { c.keepAliveS = 801 }, code: codec.CodeBadParameter, v5: 0x83, v311: 2},
		{name: "kicked while offline", rig: code(presence.CodeKickedOffline), code: codec.CodeKickedOffline, v5: 0x87, v311: 5},
		{name: "unavailable", rig: code(directory.CodeUnavailable), code: codec.CodeUnavailable, v5: 0x88, v311: 3, reconnect: true},
	} {
		bothVersions(t, func(t *testing.T, v mqtt.Version) {
			r := mqttRig(t)
			if tc.rig != nil {
				tc.rig(r)
			}
			k := r.mqttOpen(v)
			c := phone(v)
			if tc.change != nil {
				tc.change(&c)
			}
			k.connect(c)
			if v == mqtt.V311 {
				k.wantConnack(tc.v311)
			} else {
				pk := k.wantConnack(tc.v5)
				props := propsOf(pk)
				if props["code"] != decimal(uint32(tc.code)) || (props["may-reconnect"] == "true") != tc.reconnect || (props["retry-after-ms"] != "") != tc.reconnect || pk.Properties.ReasonString == "" || pk.SessionPresent {
					t.Errorf("%s: CONNACK %+v", tc.name, pk)
				}
			}
			k.wantClosed() // [MQTT-3.2.2-7]
			if got := r.core.m.logins[tc.code].Get(); got != 1 {
				t.Errorf("%s: %d logins counted with code %d", tc.name, got, tc.code)
			}
			if len(r.dir.leaves) > 0 {
				t.Errorf("%s: %q", tc.name, r.dir.log)
			}
		})
	}
}

// A refusal, too, is no larger than what the client takes. [MQTT-3.1.2-24]
func TestMQTTRefusalFits(t *testing.T) {
	for name, tc := range map[string]struct {
		max    byte
		change func(*connection)
		reason byte
	}{
		"user name":               {64, func(c *connection) { c.user = "alice" }, 0x86},
		"client id":               {64, func(c *connection) { c.client = "" }, 0x85},
		"keep alive":              {64, func(c *connection) { c.keepAliveS = 801 }, 0x83},
		"UserSig":                 {64, func(c *connection) { c.password = "nonsense" }, 0x86},
		"its maximum":             {63, func(*connection) {}, 0x95},
		"a maximum that fits now": {5, func(*connection) {}, 0x95},
	} {
		r := mqttRig(t)
		k := r.mqttOpen(mqtt.V5)
		c := phone(mqtt.V5)
		c.props = "\x27\x00\x00\x00" + string([]byte{tc.max})
		tc.change(&c)
		k.connect(c)
		if n := len(k.conn.out); n > int(tc.max) {
			t.Errorf("%s: a CONNACK of %d bytes, the client takes %d", name, n, tc.max)
		}
		k.wantConnack(tc.reason)
		k.fin()
		if len(r.loop.mqtt) != 0 {
			t.Errorf("%s: %d states are left", name, len(r.loop.mqtt))
		}
	}
}

// CONNECTs that no client should send.
func TestMQTTBadConnect(t *testing.T) {
	good := phone(mqtt.V5).packet(mqtt.V5)
	reserved := bytes.Clone(good)
	flagsAt := bytes.Index(good, []byte("MQTT")) + 5
	reserved[flagsAt] |= 1
	version := func(v byte) []byte {
		p := bytes.Clone(good)
		p[flagsAt-1] = v
		return p
	}
	for _, tc := range []struct {
		name string
		p    []byte
		want []byte // the answer; a prefix of it
	}{
		{"not CONNECT first [MQTT-3.1.0-1]", pingreq, nil},
		{"HTTP", []byte("GET / HTTP/1.1\r\n\r\n"), nil},
		{"a TLS ClientHello", []byte("\x16\x03\x01\x00\x05"), nil},
		{"another name [MQTT-3.1.2-1]", mqttPacket(0x10, mqttString("MQTX"), "\x05\xc2\x00\x00\x00"), nil},
		{"version 6 [MQTT-3.1.2-2]", version(6), []byte{0x20, 2, 0, 1}},
		{"MQTT 3.1", mqttPacket(0x10, mqttString("MQIsdp"), "\x03\xc2\x00\x00"), []byte{0x20, 2, 0, 1}},
		{"reserved flag [MQTT-3.1.2-3]", reserved, []byte{0x20}},
		{"too large", append([]byte{0x10, 0x80, 0x80, 0x04}, make([]byte, 9000)...), nil},
	} {
		r := mqttRig(t)
		k := r.mqttOpen(mqtt.V5)
		k.send(tc.p...)
		if !bytes.HasPrefix(k.conn.out, tc.want) || tc.want == nil && len(k.conn.out) > 0 {
			t.Errorf("%s: answered with %x", tc.name, k.conn.out)
		}
		if !k.conn.fin {
			t.Errorf("%s: the link is open", tc.name)
		}
		r.wantCloses(closeProtocol, 1)
		r.wantLog()
	}
}

// Nothing depends on how the stream is cut: CONNECT, PINGREQ and DISCONNECT come
// byte by byte.
func TestMQTTByteByByte(t *testing.T) {
	bothVersions(t, func(t *testing.T, v mqtt.Version) {
		r := mqttRig(t)
		k := r.mqttOpen(v)
		for _, b := range bytes.Join([][]byte{phone(v).packet(v), pingreq, pingreq, disconnectGood}, nil) {
			k.send(b)
		}
		k.wantConnack(0)
		k.next(mqtt.PINGRESP)
		k.next(mqtt.PINGRESP)
		k.wantClosed()
		r.wantLog("login alice", "leave alice Logout")
	})
}

func TestMQTTForcedOffline(t *testing.T) {
	for cause, tc := range map[directory.NoticeCause]struct {
		reason byte
		code   codec.Code
	}{
		directory.CauseAnotherLogin:   {0x8e, codec.CodeAnotherLogin},
		directory.CauseReplaced:       {0x8e, codec.CodeReplaced}, // [MQTT-3.1.4-3]
		directory.CauseREST:           {0x98, codec.CodeKickedREST},
		directory.CauseAccountDeleted: {0x98, codec.CodeAccountDeleted},
		directory.CausePolicyChange:   {0x98, codec.CodePolicyChange},
	} {
		bothVersions(t, func(t *testing.T, v mqtt.Version) {
			r := mqttRig(t)
			k := r.mqttOpen(v)
			k.enter()
			n := directory.Notice{Link: k.s.ID(), Cause: cause, TimeMS: 1_740_000_000_000}
			if cause == directory.CauseAnotherLogin {
				n.By = presence.Device{Platform: presence.IPad, Model: "iPad Pro"}
			}
			r.core.ForcedOffline([]directory.Notice{n})
			r.run()
			pk := k.wantEnd(tc.reason)
			r.wantLog("login alice")
			if v == mqtt.V311 {
				return
			}
			props := propsOf(pk)
			if props["code"] != decimal(uint32(tc.code)) || props["time"] != "1740000000000" || props["may-reconnect"] != "false" || pk.Properties.ReasonString == "" {
				t.Errorf("DISCONNECT %+v", pk.Properties)
			}
			if by := cause == directory.CauseAnotherLogin; (props["by-platform"] == "iPad") != by || (props["by-device-model"] == "iPad Pro") != by {
				t.Errorf("DISCONNECT %+v", pk.Properties)
			}
		})
	}
}

// The node stops: links that are logged in hear it, those that connect are told to
// come back, those that have said nothing are closed.
func TestMQTTDrain(t *testing.T) {
	bothVersions(t, func(t *testing.T, v mqtt.Version) {
		r := mqttRig(t)
		silent, in, deciding := r.mqttOpen(v), r.mqttOpen(v), r.mqttOpen(v)
		in.enter()
		r.dir.hold = true
		c := phone(v)
		c.user, c.password = mqtt.UserName(testApp, "bob", codec.Android), string(sign("bob"))
		deciding.connect(c)
		r.core.Drain()
		r.run()
		silent.wantClosed()
		if pk := in.wantEnd(0x8b); pk != nil && propsOf(pk)["may-reconnect"] != "true" {
			t.Errorf("DISCONNECT %+v", pk.Properties)
		}
		r.advance(2 * time.Second)
		if v == mqtt.V5 {
			deciding.wantConnack(0x88)
		} else {
			deciding.wantConnack(3)
		}
		deciding.wantClosed()
		conn := &fakeConn{}
		if s, refusal := r.loop.Open(conn, 0, r.core.Now()); s != nil || len(refusal) > 0 { // nobody has said CONNECT
			t.Errorf("a late one is told %x", refusal)
		}
		r.dir.release()
		r.run()
	})
}

// The node stops and names another: 0x9C with a Server Reference, whose port is that
// of the client's own listener.
func TestMQTTRedirect(t *testing.T) {
	for to, want := range map[string]string{"other.example:7700": "other.example:1", "[2001:db8::7]:7700": "[2001:db8::7]:1"} {
		bothVersions(t, func(t *testing.T, v mqtt.Version) {
			r := mqttRig(t, func(o *Options) { o.DrainRedirect = to })
			in, silent := r.mqttOpen(v), r.mqttOpen(v)
			in.enter()
			r.core.Drain()
			r.run()
			silent.wantClosed()
			pk := in.wantEnd(0x9c)
			if v == mqtt.V5 && (pk.Properties.ServerReference != want || propsOf(pk)["retry-after-ms"] == "") {
				t.Errorf("DISCONNECT %+v", pk.Properties)
			}
		})
	}
}

// A login that must wait for its turn keeps what its CONNECT said, and what came
// behind it.
func TestMQTTWaitsForTurn(t *testing.T) {
	r := mqttRig(t, func(o *Options) { o.LoginSlice = 1 })
	r.dir.state = aliceState(1)
	r.dir.hold = true
	first, second := r.mqttOpen(mqtt.V5), r.mqttOpen(mqtt.V5)
	r.loop.turns.slice = 0
	first.connect(phone(mqtt.V5))
	c := phone(mqtt.V5)
	c.client, c.keepAliveS = "d2", 800
	c.props = "\x27\x00\x00\x02\x00"
	second.send(append(c.packet(mqtt.V5), subscribePacket(mqtt.V5, 1, 0, "presence/alice")...)...)
	if len(r.dir.logins) != 0 {
		t.Fatal("nobody waits")
	}
	r.dir.hold = false
	r.run()
	r.run()
	r.dir.release()
	r.run()
	first.wantConnack(0)
	if n := len(second.conn.out); n == 0 {
		t.Fatal("the second is not answered")
	}
	if pk := second.wantConnack(0); propsOf(pk)["silence-timeout-ms"] != "1200000" {
		t.Errorf("CONNACK %+v", pk.Properties)
	}
	second.wantSuback(1, 0)
	second.wantStatus(true)
	if k := r.loop.mqtt[second.s.ID().Slot()]; k == nil || k.maxPacket != 512 {
		t.Errorf("the state is %+v", k)
	}
}

// Silence: the larger of the platform's time and 1.5 x keep alive.
func TestMQTTSilence(t *testing.T) {
	for _, tc := range []struct {
		platform   codec.Platform
		keepAliveS uint16
		want       time.Duration
	}{
		{codec.Android, 0, 400 * time.Second},
		{codec.Android, 60, 400 * time.Second},
		{codec.Android, 266, 400 * time.Second},
		{codec.Android, 268, 402 * time.Second},
		{codec.Android, 800, 1200 * time.Second},
		{codec.Web, 0, 60 * time.Second},
		{codec.Web, 40, 60 * time.Second},
		{codec.Web, 41, 61500 * time.Millisecond},
	} {
		bothVersions(t, func(t *testing.T, v mqtt.Version) {
			r := mqttRig(t)
			k := r.mqttOpen(v)
			c := phone(v)
			c.user, c.keepAliveS = mqtt.UserName(testApp, "alice", tc.platform), tc.keepAliveS
			k.connect(c)
			pk := k.wantConnack(0)
			if v == mqtt.V5 && propsOf(pk)["silence-timeout-ms"] != decimal(uint32(tc.want.Milliseconds())) {
				t.Errorf("%v, keep alive %d s: told %s", tc.platform, tc.keepAliveS, propsOf(pk)["silence-timeout-ms"])
			}
			r.advance(tc.want - tickInterval)
			k.send(pingreq...) // [MQTT-3.1.2-20]: any packet is life
			k.next(mqtt.PINGRESP)
			r.advance(tc.want - tickInterval)
			k.wantState("online")
			r.advance(time.Second)
			if !k.conn.closed {
				t.Errorf("%v, keep alive %d s: the link is %s", tc.platform, tc.keepAliveS, k.s.State())
			}
			r.wantLog("login alice", "leave alice TimeOut")
		})
	}
}

// How a client leaves: 0x00 logs out, anything else only ends the link.
func TestMQTTDisconnect(t *testing.T) {
	expiry := "\x11\x00\x00\x00\x3c"
	for _, tc := range []struct {
		name   string
		v      mqtt.Version
		props  string // of CONNECT
		p      []byte
		leave  string
		reason byte // of the server's DISCONNECT, 0: none
	}{
		{"3.1.1", mqtt.V311, "", disconnectGood, "Logout", 0},
		{"5.0", mqtt.V5, "", disconnectGood, "Logout", 0},
		{"0x00", mqtt.V5, "", mqttPacket(0xe0, "\x00"), "Logout", 0},
		{"0x00 with a reason", mqtt.V5, "", mqttPacket(0xe0, "\x00", mqttProps(mqtt.V5, "\x1f"+mqttString("bye"))), "Logout", 0},
		{"with will", mqtt.V5, "", mqttPacket(0xe0, "\x04"), "LinkClosed", 0},
		{"an error of the client", mqtt.V5, "", mqttPacket(0xe0, "\x80", "\x00"), "LinkClosed", 0},
		{"expiry, and CONNECT had one", mqtt.V5, expiry, mqttPacket(0xe0, "\x00", mqttProps(mqtt.V5, expiry)), "Logout", 0},
		{"expiry, and CONNECT had none", mqtt.V5, "", mqttPacket(0xe0, "\x00", mqttProps(mqtt.V5, expiry)), "LinkClosed", 0x82},
		{"malformed", mqtt.V5, "", mqttPacket(0xe0, "\x00", "\x01"), "LinkClosed", 0x81},
		{"malformed 3.1.1", mqtt.V311, "", mqttPacket(0xe0, "\x00"), "LinkClosed", 0},
		{"a server's reason", mqtt.V5, "", mqttPacket(0xe0, "\x8e"), "LinkClosed", 0x82},
	} {
		r := mqttRig(t)
		k := r.mqttOpen(tc.v)
		c := phone(tc.v)
		c.props = tc.props
		k.connect(c)
		k.wantConnack(0)
		k.send(append(tc.p, pingreq...)...) // [MQTT-3.14.4-1]: what follows is nothing
		if tc.reason != 0 {
			k.wantEnd(tc.reason)
		}
		k.wantClosed()
		r.wantLog("login alice", "leave alice "+tc.leave)
		k.fin()
		r.wantLog()
	}
	r := mqttRig(t)
	k := r.mqttOpen(mqtt.V5)
	k.enter()
	k.fin() // a closed socket
	r.wantLog("login alice", "leave alice LinkClosed")
}

// Clients need not wait for CONNACK (section 3.1.4).
func TestMQTTBeforeConnack(t *testing.T) {
	bothVersions(t, func(t *testing.T, v mqtt.Version) {
		r := mqttRig(t)
		r.dir.hold = true
		k := r.mqttOpen(v)
		unsubscribe := mqttPacket(0xa2, "\x00\x07", mqttProps(v, ""), mqttString("x"))
		k.send(bytes.Join([][]byte{phone(v).packet(v), unsubscribe, pingreq, unsubscribe}, nil)...)
		k.wantNothing() // [MQTT-3.2.0-1]
		if len(r.loop.mqtt) != 1 {
			t.Fatalf("%d states for packets that wait", len(r.loop.mqtt))
		}
		r.dir.hold = false
		r.dir.release()
		r.run()
		k.wantConnack(0)
		k.next(mqtt.PINGRESP)
		for range 2 {
			if pk := k.next(mqtt.UNSUBACK); pk.PacketID != 7 {
				t.Errorf("UNSUBACK of %d", pk.PacketID)
			}
		}
		if len(r.loop.mqtt) != 0 {
			t.Errorf("%d states of an idle link", len(r.loop.mqtt))
		}
	})
	bothVersions(t, func(t *testing.T, v mqtt.Version) { // a logout that cannot wait either
		r := mqttRig(t)
		r.dir.hold = true
		k := r.mqttOpen(v)
		k.send(bytes.Join([][]byte{phone(v).packet(v), mqttPacket(0xa2, "\x00\x07", mqttProps(v, ""), mqttString("x")), disconnectGood, {0xff, 0xff}}, nil)...)
		k.fin()
		r.dir.release()
		r.run()
		r.wantLog("login alice", "leave alice Logout")
		if len(r.loop.mqtt) != 0 {
			t.Errorf("%d states of a link that is gone", len(r.loop.mqtt))
		}
	})
	for n, good := range map[int]bool{mqtt.MaxBeforeLogin: true, mqtt.MaxBeforeLogin + 1: false} {
		r := mqttRig(t)
		r.dir.hold = true
		k := r.mqttOpen(mqtt.V5)
		k.connect(phone(mqtt.V5))
		big := mqttPacket(0x30, mqttString("a"), "\x00", strings.Repeat("x", mqtt.MaxBeforeLogin/2-7))
		k.send(big...)
		k.send(append(big[:1:1], mqttPacket(0x30, mqttString("a"), "\x00", strings.Repeat("x", n-len(big)-7))[1:]...)...)
		if good {
			k.wantState("deciding")
			continue
		}
		k.wantConnack(0x97)
		k.wantClosed()
		r.wantLog("login alice", "leave alice LinkClosed")
	}
	r := mqttRig(t) // pings have a bound of their own
	r.dir.hold = true
	k := r.mqttOpen(mqtt.V5)
	k.connect(phone(mqtt.V5))
	for range 65 {
		k.send(pingreq...)
	}
	k.wantConnack(0x82)
	k.wantClosed()
}

// A client's Maximum Packet Size is kept. [MQTT-3.1.2-24]
func TestMQTTMaximumPacketSize(t *testing.T) {
	size := func(n byte) string { return "\x27\x00\x00\x00" + string([]byte{n}) }
	r := mqttRig(t)
	k := r.mqttOpen(mqtt.V5)
	c := phone(mqtt.V5)
	c.props = size(mqtt.LeastPacket)
	k.connect(c)
	if n := len(k.conn.out); n > mqtt.LeastPacket {
		t.Errorf("a CONNACK of %d bytes", n)
	}
	if pk := k.wantConnack(0); pk.Properties.ServerKeepAlive != 120 || len(pk.Properties.User) > 0 { // [MQTT-3.2.2-20]
		t.Errorf("CONNACK %+v", pk.Properties)
	}
	r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseREST}})
	r.run()
	if pk := k.wantEnd(0x98); len(pk.Properties.User) > 0 || pk.Properties.ReasonString != "" { // [MQTT-3.14.2-3], [MQTT-3.14.2-4]
		t.Errorf("DISCONNECT %+v", pk.Properties)
	}
	k.fin()
	if len(r.loop.mqtt) != 0 {
		t.Errorf("%d states of links that are gone", len(r.loop.mqtt))
	}
	k = r.mqttOpen(mqtt.V5)
	c.props = size(mqtt.LeastPacket - 1)
	k.connect(c)
	k.wantConnack(0x95)
	k.wantClosed()
}

// The server is to blame: a login that is not decided, and one that comes too late.
func TestMQTTTimeouts(t *testing.T) {
	bothVersions(t, func(t *testing.T, v mqtt.Version) {
		r := mqttRig(t)
		k := r.mqttOpen(v)
		k.send(phone(v).packet(v)[:5]...)
		r.advance(11 * time.Second)
		k.wantClosed()
		r.wantCloses(closeFirstFrame, 1)
		r.dir.hold = true
		k = r.mqttOpen(v)
		k.connect(phone(v))
		r.advance(11 * time.Second)
		k.wantConnack(map[mqtt.Version]byte{mqtt.V311: 3, mqtt.V5: 0x88}[v])
		k.wantClosed()
		r.dir.release()
		r.run()
	})
}
