package mqtt

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
)

func TestConnect(t *testing.T) {
	ticket := []byte{0, 1, 0xff, 0xfe}
	login := codec.Login{SDKAppID: 1400000000, UserID: []byte("alice"), UserSig: []byte("sig"), Platform: codec.Android, DeviceID: []byte("d1")}
	full, resume, slashes := login, login, login
	full.SDKVersion, full.DeviceModel, full.Ticket = []byte("1.0"), []byte("Pixel 9"), ticket
	resume.Resume = true
	slashes.UserID = []byte("a/b//c")
	for _, tc := range []struct {
		name string
		p    []byte
		want Connect
	}{
		{"3.1.1", connect311(0xc2, phone...), Connect{Version: V311, Login: login, KeepAliveS: 60}},
		{"3.1.1 resume", connect311(0xc0, phone...), Connect{Version: V311, Login: resume, KeepAliveS: 60}},
		{"5.0", connect5(0xc2, props(), phone...), Connect{Version: V5, Login: login, KeepAliveS: 60}},
		{"5.0 resume", connect5(0xc0, props(), phone...), Connect{Version: V5, Login: resume, KeepAliveS: 60}},
		{"5.0 with everything", connect5(0xc2, props(
			user(PropSDKVersion, "0.9"), user(PropSDKVersion, "1.0"), user(PropDeviceModel, "Pixel 9"), user("other", "x"),
			user(PropTicket, base64.RawURLEncoding.EncodeToString(ticket)), "\x27\x00\x00\x00\x64", "\x11\x00\x00\x00\x01"), phone...),
			Connect{Version: V5, Login: full, KeepAliveS: 60, MaxPacket: 100, Expiry: true}},
		{"a UserID with slashes", connect311(0xc2, str("d1"), str("1400000000/a/b//c/Android"), str("sig")), Connect{Version: V311, Login: slashes, KeepAliveS: 60}},
		{"a will is no matter", connect311(0xee, str("d1"), str("gone"), str(""), str(aliceName), str("sig")), Connect{Version: V311, Login: login, KeepAliveS: 60}},
	} {
		m, err := parse(0, tc.p)
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		got := m.(Connect)
		wantLogin(t, tc.name, got.Login, tc.want.Login)
		if got.Version != tc.want.Version || got.KeepAliveS != tc.want.KeepAliveS || got.MaxPacket != tc.want.MaxPacket || got.Expiry != tc.want.Expiry {
			t.Errorf("%s: %+v", tc.name, got)
		}
	}
	// A ticket that is no base64 is a bad ticket, no bad packet.
	m, err := parse(0, connect5(0xc0, props(user(PropTicket, "=!")), phone...))
	if err != nil || string(m.(Connect).Login.Ticket) != "=!" {
		t.Errorf("a ticket that is no base64: %+v, %v", m, err)
	}
}

func TestRefusedConnect(t *testing.T) {
	name := func(s string) []byte { return connect311(0xc2, str("d1"), str(s), str("sig")) }
	name5 := func(s string) []byte { return connect5(0xc2, props(), str("d1"), str(s), str("sig")) }
	long := strings.Repeat("d", codec.MaxDeviceID+1)
	for _, tc := range []struct {
		name    string
		p       []byte
		version Version // 0: cannot be answered
		reason  byte
		ret     byte
	}{
		{"another protocol name [MQTT-3.1.2-1]", build(0x10, str("MQTX"), "\x05\xc2\x00\x00"), 0, ReasonMalformed, 0},
		{"no version", build(0x10, str("MQTT")), 0, ReasonMalformed, 0},
		{"nothing", build(0x10), 0, ReasonMalformed, 0},
		{"MQTT 3.1", build(0x10, str("MQIsdp"), "\x03\xc2\x00\x00", str("d1")), V311, ReasonBadVersion, ReturnBadVersion},
		{"version 3", build(0x10, str("MQTT"), "\x03\xc2\x00\x00"), V311, ReasonBadVersion, ReturnBadVersion},
		{"version 6 [MQTT-3.1.2-2]", build(0x10, str("MQTT"), "\x06\xc2\x00\x00"), V311, ReasonBadVersion, ReturnBadVersion},
		{"a bridge's version", build(0x10, str("MQTT"), "\x84\xc2\x00\x00"), V311, ReasonBadVersion, ReturnBadVersion},
		{"reserved flag [MQTT-3.1.2-3]", connect5(0xc3, props(), phone...), V5, ReasonMalformed, 0},
		{"reserved flag, 3.1.1: [MQTT-3.1.2-3]", connect311(0xc3, phone...), V311, ReasonMalformed, 0},
		{"Will QoS without a will [MQTT-3.1.2-11]", connect5(0xca, props(), phone...), V5, ReasonMalformed, 0},
		{"Will Retain without a will [MQTT-3.1.2-13]", connect5(0xe2, props(), phone...), V5, ReasonMalformed, 0},
		{"Will QoS 3 [MQTT-3.1.2-12]", connect5(0xde, props(), str("d1"), props(), str("w"), str("p"), str(aliceName), str("sig")), V5, ReasonMalformed, 0},
		{"a will topic with a wildcard [MQTT-4.7.0-1]", connect5(0xc6, props(), str("d1"), props(), str("w/#"), str("p"), str(aliceName), str("sig")), V5, ReasonMalformed, 0},
		{"no will topic [MQTT-4.7.3-1]", connect311(0xc6, str("d1"), str(""), str("p"), str(aliceName), str("sig")), V311, ReasonMalformed, 0},
		{"a will topic not UTF-8 [MQTT-3.1.3-11]", connect311(0xc6, str("d1"), str("\xff"), str("p"), str(aliceName), str("sig")), V311, ReasonMalformed, 0},
		{"a property of CONNECT in a will", connect5(0xc6, props(), str("d1"), props("\x21\x00\x01"), str("w"), str("p"), str(aliceName), str("sig")), V5, ReasonMalformed, 0},
		{"will properties missing [MQTT-3.1.2-9]", connect5(0xc6, props(), str("d1")), V5, ReasonMalformed, 0},
		{"no user name though flagged [MQTT-3.1.2-17]", connect5(0xc2, props(), str("d1")), V5, ReasonMalformed, 0},
		{"no password though flagged [MQTT-3.1.2-19]", connect5(0xc2, props(), str("d1"), str(aliceName)), V5, ReasonMalformed, 0},
		{"a password that is not flagged [MQTT-3.1.2-18]", connect5(0x82, props(), phone...), V5, ReasonMalformed, 0},
		{"a user name that is not flagged [MQTT-3.1.2-16]", connect5(0x02, props(), phone[:2]...), V5, ReasonMalformed, 0},
		{"a password without a user name, 3.1.1: [MQTT-3.1.2-22]", connect311(0x42, str("d1"), str("sig")), V311, ReasonMalformed, 0},
		{"a password without a user name in 5.0", connect5(0x42, props(), str("d1"), str("sig")), V5, ReasonBadUserName, ReturnBadUserName},
		{"client id not UTF-8 [MQTT-3.1.3-4]", connect5(0xc2, props(), str("\xff"), str(aliceName), str("sig")), V5, ReasonMalformed, 0},
		{"client id with U+0000 [MQTT-1.5.4-2]", connect311(0xc2, str("d\x00"), str(aliceName), str("sig")), V311, ReasonMalformed, 0},
		{"user name not UTF-8 [MQTT-3.1.3-12]", name5("1/\xff/Android"), V5, ReasonMalformed, 0},
		{"user name with U+0000, 3.1.1: [MQTT-3.1.3-11]", name("1/a\x00/Android"), V311, ReasonMalformed, 0},
		{"no client id [MQTT-3.1.3-8]", connect5(0xc2, props(), str(""), str(aliceName), str("sig")), V5, ReasonBadClientID, ReturnBadClientID},
		{"no client id, no clean session, 3.1.1: [MQTT-3.1.3-8]", connect311(0xc0, str(""), str(aliceName), str("sig")), V311, ReasonBadClientID, ReturnBadClientID},
		{"client id too long [MQTT-3.1.3-8]", connect5(0xc2, props(), str(long), str(aliceName), str("sig")), V5, ReasonBadClientID, ReturnBadClientID},
		{"no credentials", connect311(0x02, str("d1")), V311, ReasonBadUserName, ReturnBadUserName},
		{"user name without slashes", name("alice"), V311, ReasonBadUserName, ReturnBadUserName},
		{"user name with one slash", name5("1/Android"), V5, ReasonBadUserName, ReturnBadUserName},
		{"app 0", name("0/alice/Android"), V311, ReasonBadUserName, ReturnBadUserName},
		{"app too large", name("4294967296/alice/Android"), V311, ReasonBadUserName, ReturnBadUserName},
		{"app with a sign", name("+1/alice/Android"), V311, ReasonBadUserName, ReturnBadUserName},
		{"no app", name("/alice/Android"), V311, ReasonBadUserName, ReturnBadUserName},
		{"no UserID", name("1//Android"), V311, ReasonBadUserName, ReturnBadUserName},
		{"UserID too long", name("1/" + strings.Repeat("a", codec.MaxUserID+1) + "/Android"), V311, ReasonBadUserName, ReturnBadUserName},
		{"UserID not ASCII", name("1/é/Android"), V311, ReasonBadUserName, ReturnBadUserName},
		{"unknown platform", name("1/alice/android"), V311, ReasonBadUserName, ReturnBadUserName},
		{"enhanced authentication [MQTT-4.12.0-1]", connect5(0xc2, props("\x15"+str("SCRAM-SHA-1")), phone...), V5, ReasonBadAuthMethod, 0},
		{"Authentication Data alone", connect5(0xc2, props("\x16"+str("x")), phone...), V5, ReasonProtocolError, 0},
		{"Receive Maximum 0", connect5(0xc2, props("\x21\x00\x00"), phone...), V5, ReasonProtocolError, 0},
		{"Maximum Packet Size 0", connect5(0xc2, props("\x27\x00\x00\x00\x00"), phone...), V5, ReasonProtocolError, 0},
		{"Request Problem Information 2", connect5(0xc2, props("\x17\x02"), phone...), V5, ReasonProtocolError, 0},
		{"Session Expiry twice", connect5(0xc2, props("\x11\x00\x00\x00\x00", "\x11\x00\x00\x00\x00"), phone...), V5, ReasonProtocolError, 0},
		{"a user property not UTF-8 [MQTT-1.5.7-1]", connect5(0xc2, props(user("k", "\xff")), phone...), V5, ReasonMalformed, 0},
		{"more behind the password", connect5(0xc2, props(), str("d1"), str(aliceName), str("sig"), "x"), V5, ReasonMalformed, 0},
	} {
		h, err := Next(tc.p, 0, MaxBeforeLogin)
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		c, err := ParseConnect(h, tc.p[h.Size:])
		refused(t, tc.name, err, tc.reason, tc.ret)
		if c.Version != tc.version {
			t.Errorf("%s: to be answered as version %d, want %d", tc.name, c.Version, tc.version)
		}
	}
	for n := codec.MaxDeviceID - 1; n <= codec.MaxDeviceID; n++ {
		if _, err := parse(0, connect311(0xc2, str(strings.Repeat("d", n)), str(aliceName), str("sig"))); err != nil {
			t.Errorf("a client id of %d bytes: %v", n, err)
		}
	}
}

func TestUserName(t *testing.T) {
	for _, id := range []string{"alice", "a/b", "/", "//", " ", "~", strings.Repeat("/", codec.MaxUserID)} {
		for _, p := range codec.Platforms() {
			var m codec.Login
			if err := userName([]byte(UserName(7, id, p)), &m); err != nil || m.SDKAppID != 7 || string(m.UserID) != id || m.Platform != p {
				t.Errorf("%q on %v: %+v, %v", id, p, m, err)
			}
		}
	}
}

func TestTopics(t *testing.T) {
	for id, want := range map[string]string{
		"alice": "presence/alice", "a/b": "presence/a%2Fb", "+#%/": "presence/%2B%23%25%2F", " ": "presence/ ", "%2F": "presence/%252F",
	} {
		if got := Topic(id); got != want {
			t.Errorf("topic of %q: %q, want %q", id, got, want)
		}
	}
	for b := byte(0x20); b <= 0x7e; b++ {
		id := fmt.Sprintf("x%cy", b)
		if got, ok := TopicUser(Topic(id)); !ok || got != id {
			t.Errorf("%q: %q, %v", Topic(id), got, ok)
		}
	}
	for topic, want := range map[string]string{"presence/%61lice": "alice", "presence/a%2fb": "a/b", "presence/%7E": "~"} {
		if got, ok := TopicUser(topic); !ok || got != want {
			t.Errorf("%q: %q, %v, want %q", topic, got, ok, want)
		}
	}
	for _, topic := range []string{
		"", "presence", "presence/", "presence/a/b", "presence/+", "presence/#", "presences/a", "/presence/a", "Presence/a", "presence/%", "presence/%2", "presence/%2g",
		"presence/%g2", "presence/%00", "presence/%7f", "presence/é", "presence/" + strings.Repeat("a", codec.MaxUserID+1),
	} {
		if got, ok := TopicUser(topic); ok {
			t.Errorf("%q is taken for %q's", topic, got)
		}
	}
}

func FuzzTopic(f *testing.F) {
	f.Add("presence/a%2Fb")
	f.Add("presence/%")
	f.Fuzz(func(t *testing.T, topic string) {
		id, ok := TopicUser(topic)
		if !ok {
			return
		}
		if !validUserID([]byte(id)) {
			t.Fatalf("%q: %q is no UserID", topic, id)
		}
		if again, ok := TopicUser(Topic(id)); !ok || again != id {
			t.Fatalf("%q: %q became %q", topic, id, again)
		}
	})
}
