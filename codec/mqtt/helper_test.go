package mqtt

import (
	"bytes"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rollcall-im/rollcall/codec"
)

// build makes a packet: the first byte, then its parts behind their length.
func build(first byte, parts ...string) []byte {
	return end(append([]byte{first}, strings.Join(parts, "")...), 0)
}

// str is a string or binary of a packet.
func str(s string) string { return string(appendText(nil, s)) }

// props are properties behind their length.
func props(p ...string) string {
	return string(prefix([]byte(strings.Join(p, "")), 0))
}

func user(key, value string) string { return "\x26" + str(key) + str(value) }

// connect5 and connect311 are the CONNECT of a phone: flags, properties (5.0), payload.
func connect5(flags byte, properties string, payload ...string) []byte {
	return build(0x10, str("MQTT"), "\x05"+string([]byte{flags}), "\x00\x3c", properties, strings.Join(payload, ""))
}

func connect311(flags byte, payload ...string) []byte {
	return build(0x10, str("MQTT"), "\x04"+string([]byte{flags}), "\x00\x3c", strings.Join(payload, ""))
}

const aliceName = "1400000000/alice/Android"

var phone = []string{str("d1"), str(aliceName), str("sig")}

// parse decodes one whole packet of a client.
func parse(v Version, p []byte) (any, *Error) {
	h, err := Next(p, v, MaxPacket)
	if err != nil {
		return nil, err
	}
	if h.Size == 0 || h.Total() > len(p) {
		return nil, nil
	}
	return parseBody(v, h, p[h.Size:h.Total()])
}

func parseBody(v Version, h Header, body []byte) (any, *Error) {
	switch h.Type {
	case CONNECT:
		return box(ParseConnect(h, body))
	case PUBLISH:
		return box(ParsePublish(h, v, body))
	case SUBSCRIBE:
		return box(ParseSubscribe(h, v, body))
	case UNSUBSCRIBE:
		return box(ParseUnsubscribe(h, v, body))
	case DISCONNECT:
		return box(ParseDisconnect(h, v, body))
	case PINGREQ:
		return PINGREQ, CheckPing(body)
	case AUTH:
		return AUTH, CheckAuth(body)
	}
	return box(ParseAck(h, v, body))
}

func box[T any](m T, err *Error) (any, *Error) { return m, err }

// decode takes the server's packets in p apart with a decoder that is not ours.
func decode(t testing.TB, v Version, p []byte) (all []*packets.Packet) {
	t.Helper()
	for len(p) > 0 {
		n, size, err := remaining(p[1:])
		if err != nil || size == 0 || len(p) < 1+size+n {
			t.Fatalf("%x is no whole packet", p)
		}
		pk := &packets.Packet{ProtocolVersion: byte(v)}
		if err := pk.FixedHeader.Decode(p[0]); err != nil {
			t.Fatal(err)
		}
		pk.FixedHeader.Remaining = n
		body := p[1+size : 1+size+n]
		p = p[1+size+n:]
		switch Type(pk.FixedHeader.Type) {
		case CONNACK:
			wantGood(t, pk.ConnackDecode(body))
		case DISCONNECT:
			wantGood(t, pk.DisconnectDecode(body))
		case PUBLISH:
			wantGood(t, pk.PublishDecode(body))
		case SUBACK:
			wantGood(t, pk.SubackDecode(body))
		case UNSUBACK:
			wantGood(t, pk.UnsubackDecode(body))
		case PUBACK, PUBREC, PUBCOMP:
			wantGood(t, pk.PubackDecode(body))
		case PINGRESP:
		default:
			t.Fatalf("the server sent a packet of type %d", pk.FixedHeader.Type)
		}
		all = append(all, pk)
	}
	return all
}

func wantGood(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// userProps are the user properties of a packet; several of one key are joined.
func userProps(pk *packets.Packet) map[string]string {
	m := make(map[string]string)
	for _, p := range pk.Properties.User {
		if old, ok := m[p.Key]; ok {
			m[p.Key] = old + " " + p.Val
			continue
		}
		m[p.Key] = p.Val
	}
	return m
}

func refused(t *testing.T, name string, err *Error, reason, ret byte) {
	t.Helper()
	if err == nil {
		t.Errorf("%s: taken", name)
		return
	}
	if err.Reason != reason || err.Return != ret || err.Text == "" || strings.Contains(err.Text, disagrees) {
		t.Errorf("%s: reason %#x, return %d, %q; want %#x, %d", name, err.Reason, err.Return, err.Text, reason, ret)
	}
	if _, ok := err.Code.Info(); !ok {
		t.Errorf("%s: code %d is not in the table", name, err.Code)
	}
}

func wantLogin(t *testing.T, name string, got, want codec.Login) {
	t.Helper()
	if got.SDKAppID != want.SDKAppID || got.Platform != want.Platform || got.Resume != want.Resume ||
		!bytes.Equal(got.UserID, want.UserID) || !bytes.Equal(got.UserSig, want.UserSig) || !bytes.Equal(got.DeviceID, want.DeviceID) ||
		!bytes.Equal(got.SDKVersion, want.SDKVersion) || !bytes.Equal(got.DeviceModel, want.DeviceModel) || !bytes.Equal(got.Ticket, want.Ticket) {
		t.Errorf("%s: %+v, want %+v", name, got, want)
	}
}
