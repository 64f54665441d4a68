package mqtt

import (
	"bytes"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rollcall-im/rollcall/codec"
)

// Reason codes of CONNACK and DISCONNECT, MQTT 5.0 sections 3.2.2.2 and 3.14.2.1 (those of servers).
var (
	connackReasons    = []byte{0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9f}
	disconnectReasons = []byte{0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2}
)

// Each code has what the standard allows in its place. [MQTT-3.2.2-8]
func TestCodes(t *testing.T) {
	for _, info := range codec.Codes {
		m := info.MQTT
		if !slices.Contains(connackReasons, m.Connack) || !slices.Contains(disconnectReasons, m.Disconnect) || m.Connack311 > ReturnNotAuthorized {
			t.Errorf("%s: %+v", info.Name, m)
		}
		refused := decode(t, V5, AppendLoginRefused(nil, V5, &codec.LoginRefused{Code: info.Code, Text: info.Text}))[0]
		forced := decode(t, V5, AppendForcedOffline(nil, V5, &codec.ForcedOffline{Code: info.Code, Text: info.Text}))[0]
		if refused.ReasonCode != m.Connack || forced.ReasonCode != m.Disconnect {
			t.Errorf("%s: %#x and %#x sent, %+v in the table", info.Name, refused.ReasonCode, forced.ReasonCode, m)
		}
		got := AppendLoginRefused(nil, V311, &codec.LoginRefused{Code: info.Code})
		if want := []byte{0x20, 2, 0, m.Connack311}; m.Connack311 == 0 && got != nil || m.Connack311 != 0 && !bytes.Equal(got, want) {
			t.Errorf("%s on 3.1.1: %x", info.Name, got)
		}
	}
	unknown := decode(t, V5, AppendLoginRefused(nil, V5, &codec.LoginRefused{Code: 1}))[0]
	if unknown.ReasonCode != ReasonUnspecified {
		t.Errorf("an unknown code: %#x", unknown.ReasonCode)
	}
}

func TestLoginOK(t *testing.T) {
	m := codec.LoginOK{
		InstID: 7, Ticket: []byte{0xff, 0xfe, 0xfd}, ServerTimeMS: 1_800_000_000_123, HeartbeatIntervalMS: 120_999, SilenceTimeoutMS: 400_000, TakenBack: true,
		Kicked: []codec.KickedInstance{{Platform: codec.Web, InstID: 3}, {Platform: codec.IPad, InstID: 4}},
	}
	pk := decode(t, V5, AppendLoginOK(nil, V5, &m))[0]
	p := &pk.Properties
	if pk.SessionPresent || pk.ReasonCode != 0 || p.ServerKeepAlive != 120 || !p.MaximumQosFlag || p.MaximumQos != 0 || !p.RetainAvailableFlag || p.RetainAvailable != 0 ||
		!p.WildcardSubAvailableFlag || p.WildcardSubAvailable != 0 || !p.SubIDAvailableFlag || p.SubIDAvailable != 0 || !p.SharedSubAvailableFlag || p.SharedSubAvailable != 0 ||
		p.TopicAliasMaximum != 0 || p.ReceiveMaximum != 1 || p.MaximumPacketSize != MaxPacket || !p.SessionExpiryIntervalFlag || p.SessionExpiryInterval != 0 {
		t.Errorf("CONNACK %+v", pk)
	}
	want := map[string]string{PropInstID: "7", PropTicket: "__79", PropTakenBack: "true", PropTime: "1800000000123", PropSilenceTimeout: "400000", PropKicked: "Web/3 iPad/4"}
	for key, value := range want {
		if got := userProps(pk)[key]; got != value {
			t.Errorf("%s is %q, want %q", key, got, value)
		}
	}
	if got := AppendLoginOK([]byte("x"), V311, &m); !bytes.Equal(got, []byte("x\x20\x02\x00\x00")) { // whatever was taken back
		t.Errorf("3.1.1: %x", got)
	}
	m.TakenBack = false
	if got := userProps(decode(t, V5, AppendLoginOK(nil, V5, &m))[0])[PropTakenBack]; got != "false" {
		t.Errorf("taken-back is %q", got)
	}
	for ms, want := range map[uint32]uint16{0: 1, 999: 1, 1000: 1, 20_000: 20, 65_535_999: 65535, 1 << 31: 65535} {
		m := codec.LoginOK{HeartbeatIntervalMS: ms}
		if got := decode(t, V5, AppendLoginOK(nil, V5, &m))[0].Properties.ServerKeepAlive; got != want {
			t.Errorf("heartbeat interval %d ms: keep alive %d s, want %d", ms, got, want)
		}
	}
	m.Kicked, m.Ticket = make([]codec.KickedInstance, codec.MaxKicked+1), make([]byte, codec.MaxTicket)
	if pk := decode(t, V5, AppendLoginOK(nil, V5, &m))[0]; strings.Count(userProps(pk)[PropKicked], "unknown/0") != codec.MaxKicked {
		t.Error("not the first MaxKicked are told")
	}
}

func TestForcedOffline(t *testing.T) {
	m := codec.ForcedOffline{
		Code: codec.CodeAnotherLogin, Text: "another device", ByPlatform: codec.IPad, ByDeviceModel: "iPad\x00 Pro", TimeMS: 5, MayReconnect: true, RetryAfterMS: 9,
	}
	pk := decode(t, V5, AppendForcedOffline(nil, V5, &m))[0]
	got := userProps(pk)
	for key, value := range map[string]string{
		PropCode: "6001", PropByPlatform: "iPad", PropByDeviceModel: "iPad", PropTime: "5", PropMayReconnect: "true", PropRetryAfter: "9",
	} {
		if got[key] != value {
			t.Errorf("%s is %q, want %q", key, got[key], value)
		}
	}
	if pk.ReasonCode != 0x8e || pk.Properties.ReasonString != "another device" || Type(pk.FixedHeader.Type) != DISCONNECT {
		t.Errorf("%+v", pk)
	}
	if got := AppendForcedOffline(nil, V311, &m); got != nil { // 3.1.1 has none from servers
		t.Errorf("3.1.1: %x", got)
	}
	m = codec.ForcedOffline{Code: codec.CodeKickedREST, Text: strings.Repeat("é", 200)}
	pk = decode(t, V5, AppendForcedOffline(nil, V5, &m))[0]
	if got := userProps(pk); got[PropMayReconnect] != "false" || len(got) != 3 || pk.Properties.ReasonString != strings.Repeat("é", codec.MaxText/2) {
		t.Errorf("%+v", pk.Properties)
	}
}

func TestRedirectAndRefusal(t *testing.T) {
	e := &Error{ReasonBadClientID, ReturnBadClientID, codec.CodeBadParameter, "text"}
	for _, tc := range []struct {
		name      string
		p         []byte
		v         Version
		t         Type // 0: nothing
		reason    byte
		reference string
	}{
		{"redirect at login", AppendRedirect(nil, V5, false, &codec.Redirect{Address: "h:1", RetryAfterMS: 3}), V5, CONNACK, 0x9c, "h:1"},
		{"redirect later", AppendRedirect(nil, V5, true, &codec.Redirect{Address: "h:1", RetryAfterMS: 3}), V5, DISCONNECT, 0x9c, "h:1"},
		{"redirect to the same", AppendRedirect(nil, V5, true, &codec.Redirect{RetryAfterMS: 3}), V5, DISCONNECT, 0x89, ""},
		{"redirect too long", AppendRedirect(nil, V5, true, &codec.Redirect{Address: strings.Repeat("h", codec.MaxAddress+1), RetryAfterMS: 3}), V5, DISCONNECT, 0x89, ""},
		{"redirect at login, 3.1.1", AppendRedirect(nil, V311, false, &codec.Redirect{Address: "h:1"}), V311, CONNACK, ReturnUnavailable, ""},
		{"redirect later, 3.1.1", AppendRedirect(nil, V311, true, &codec.Redirect{Address: "h:1"}), V311, 0, 0, ""},
		{"redirect before CONNECT", AppendRedirect(nil, 0, false, &codec.Redirect{}), 0, 0, 0, ""},
		{"refusal at login", AppendRefusal(nil, V5, false, e), V5, CONNACK, ReasonBadClientID, ""},
		{"refusal later", AppendRefusal(nil, V5, true, e), V5, DISCONNECT, ReasonBadClientID, ""},
		{"refusal at login, 3.1.1", AppendRefusal(nil, V311, false, e), V311, CONNACK, ReturnBadClientID, ""},
		{"refusal without a code, 3.1.1", AppendRefusal(nil, V311, false, malformed("x")), V311, 0, 0, ""},
		{"refusal later, 3.1.1", AppendRefusal(nil, V311, true, e), V311, 0, 0, ""},
		{"refusal before CONNECT", AppendRefusal(nil, 0, false, e), 0, 0, 0, ""},
	} {
		if tc.t == 0 {
			if len(tc.p) > 0 {
				t.Errorf("%s: %x", tc.name, tc.p)
			}
			continue
		}
		pk := decode(t, tc.v, tc.p)[0]
		if Type(pk.FixedHeader.Type) != tc.t || pk.ReasonCode != tc.reason || pk.Properties.ServerReference != tc.reference {
			t.Errorf("%s: %+v", tc.name, pk)
		}
		if tc.v == V5 && strings.HasPrefix(tc.name, "redirect") && userProps(pk)[PropRetryAfter] != "3" {
			t.Errorf("%s: %+v", tc.name, pk.Properties)
		}
	}
}

func TestAnswers(t *testing.T) {
	for name, tc := range map[string]struct {
		p    []byte
		want string
	}{
		"PINGRESP":           {AppendPingresp(nil), "\xd0\x00"},
		"SUBACK":             {AppendSuback(nil, V5, 0x102, []byte{0, 0x87}), "\x90\x05\x01\x02\x00\x00\x87"},
		"SUBACK of 3.1.1":    {AppendSuback(nil, V311, 0x102, []byte{0, 0x80}), "\x90\x04\x01\x02\x00\x80"},
		"UNSUBACK":           {AppendUnsuback(nil, V5, 0x102, []byte{0, 0x11}), "\xb0\x05\x01\x02\x00\x00\x11"},
		"UNSUBACK of 3.1.1":  {AppendUnsuback(nil, V311, 0x102, []byte{0, 0x11}), "\xb0\x02\x01\x02"},
		"PUBACK":             {AppendAck(nil, V5, PUBACK, 0x102, 0x87), "\x40\x03\x01\x02\x87"},
		"PUBCOMP of 3.1.1":   {AppendAck(nil, V311, PUBCOMP, 0x102, 0x92), "\x70\x02\x01\x02"},
		"PUBLISH of 3.1.1":   {AppendPublish(nil, V311, "a", true, []byte("{}")), "\x31\x05\x00\x01a{}"},
		"PUBLISH":            {AppendPublish(nil, V5, "a", false, []byte("{}")), "\x30\x08\x00\x01a\x02\x01\x01{}"},
		"PUBLISH that fits":  {Shrink(AppendPublish(nil, V5, "a", false, []byte("{}")), 10), "\x30\x08\x00\x01a\x02\x01\x01{}"},
		"PUBLISH too large ": {Shrink(AppendPublish(nil, V5, "a", false, []byte("{}")), 9), ""},
	} {
		if string(tc.p) != tc.want {
			t.Errorf("%s: %x, want %x", name, tc.p, tc.want)
		}
		decode(t, map[bool]Version{true: V311, false: V5}[strings.Contains(name, "3.1.1")], tc.p)
	}
	long := AppendPublish(nil, V311, "a", false, make([]byte, 20_000))
	if pk := decode(t, V311, long)[0]; len(pk.Payload) != 20_000 {
		t.Errorf("%d bytes of 20,000", len(pk.Payload))
	}
}

// A client's Maximum Packet Size is kept to the byte, for each of several packets
// that are sent at once. [MQTT-3.1.2-24]
func TestMaximumPacketSize(t *testing.T) {
	pong := AppendPingresp(nil)
	for name, full := range map[string][]byte{
		"LoginOK":          AppendLoginOK(nil, V5, &codec.LoginOK{InstID: 1, Ticket: []byte("t"), Kicked: make([]codec.KickedInstance, 1000)}),
		"LoginRefused":     AppendLoginRefused(nil, V5, &codec.LoginRefused{Code: codec.CodeSigExpired, Text: "expired"}),
		"ForcedOffline":    AppendForcedOffline(nil, V5, &codec.ForcedOffline{Code: codec.CodeKickedREST, Text: "kicked"}),
		"Redirect":         AppendRedirect(nil, V5, true, &codec.Redirect{Address: "host:1", RetryAfterMS: 1}),
		"Redirect at once": AppendRedirect(nil, V5, false, &codec.Redirect{Address: "host:1", RetryAfterMS: 1}),
		"Refusal":          AppendRefusal(nil, V5, true, violation("text")),
	} {
		least := len(Shrink(bytes.Clone(full), uint32(len(full)-1)))
		if least <= 0 || least > LeastPacket {
			t.Errorf("%s: %d bytes, %d without what may be left out", name, len(full), least)
		}
		for max := 2; max <= len(full)+1; max++ {
			if max > 2*LeastPacket && max < len(full)-1 {
				continue
			}
			want := len(full)
			if max < least {
				want = 0
			} else if max < len(full) {
				want = least
			}
			p := Shrink(slices.Concat(pong, full, pong), uint32(max))
			if len(p) != want+2*len(pong) || !bytes.HasPrefix(p, pong) || !bytes.HasSuffix(p, pong) {
				t.Fatalf("%s: %d bytes at a limit of %d, want %d and two PINGRESP", name, len(p), max, want)
			}
			got := decode(t, V5, p)
			if want > 0 && (got[1].ReasonCode != decode(t, V5, full)[0].ReasonCode || got[1].Properties.ServerReference != decode(t, V5, full)[0].Properties.ServerReference) {
				t.Fatalf("%s: at a limit of %d: %+v", name, max, got[1])
			}
		}
	}
	long := AppendRedirect(nil, V5, true, &codec.Redirect{Address: strings.Repeat("h", codec.MaxAddress)})
	if p := Shrink(long, LeastPacket); len(p) > 0 {
		t.Errorf("a Server Reference of %d bytes became %x", codec.MaxAddress, p)
	}
}

func TestAppendAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, 4096)
	ok := codec.LoginOK{InstID: 7, Ticket: make([]byte, 80), ServerTimeMS: 1_800_000_000_123, HeartbeatIntervalMS: 120_000, SilenceTimeoutMS: 400_000}
	forced := codec.ForcedOffline{Code: codec.CodeAnotherLogin, Text: "another device", ByPlatform: codec.IPad, ByDeviceModel: "iPad", TimeMS: 5}
	payload := make([]byte, 300)
	for name, f := range map[string]func(){
		"LoginOK":       func() { buf = AppendLoginOK(buf[:0], V5, &ok) },
		"ForcedOffline": func() { buf = AppendForcedOffline(buf[:0], V5, &forced) },
		"Publish":       func() { buf = AppendPublish(buf[:0], V5, "presence/alice", false, payload) },
		"Pingresp":      func() { buf = AppendPingresp(buf[:0]) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Texts that come from elsewhere make no packet that a client must refuse.
func FuzzAppendTexts(f *testing.F) {
	f.Add("a\xff", "b\x00", uint32(0))
	f.Fuzz(func(t *testing.T, text, model string, max uint32) {
		p := AppendForcedOffline(nil, V5, &codec.ForcedOffline{Code: codec.CodeAnotherLogin, Text: text, ByDeviceModel: model})
		if p = Shrink(p, max); uint32(len(p)) > max {
			t.Fatalf("%d bytes at a limit of %d", len(p), max)
		}
		for _, pk := range decode(t, V5, p) {
			if pk.FixedHeader.Type != packets.Disconnect {
				t.Fatalf("type %d", pk.FixedHeader.Type)
			}
		}
	})
}
