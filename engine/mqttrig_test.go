package engine

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// mqttRig is a rig whose listener speaks MQTT.
func mqttRig(tb testing.TB, change ...func(*Options)) *rig {
	return newRig(tb, slices.Insert(change, 0, func(o *Options) {
		o.Listeners = []Listener{{Name: "mqtt", Address: "127.0.0.1:1", Protocol: presence.ProtocolMQTT}}
	})...)
}

// mqttEnd is a client's end that speaks MQTT.
type mqttEnd struct {
	*link
	v mqtt.Version
}

func (r *rig) mqttOpen(v mqtt.Version) *mqttEnd { return &mqttEnd{r.open(), v} }

// connection is a CONNECT to be made.
type connection struct {
	user, client, password string
	resume                 bool
	keepAliveS             uint16
	props                  string // encoded, without their length
	userProps              []string
}

// phone is the connection of user alice's phone.
func phone(v mqtt.Version) connection {
	return connection{user: mqtt.UserName(testApp, "alice", codec.Android), client: "d1", password: string(sign("alice")), keepAliveS: 60}
}

func mqttString(s string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(s)))) + s
}

func mqttPacket(first byte, parts ...string) []byte {
	body := strings.Join(parts, "")
	return append(binary.AppendUvarint([]byte{first}, uint64(len(body))), body...)
}

func mqttProps(v mqtt.Version, props string) string {
	if v == mqtt.V311 {
		return ""
	}
	return string(binary.AppendUvarint(nil, uint64(len(props)))) + props
}

func userProp(key, value string) string { return "\x26" + mqttString(key) + mqttString(value) }

// packet encodes the CONNECT.
func (c connection) packet(v mqtt.Version) []byte {
	flags := byte(0xc2)
	if c.resume {
		flags = 0xc0
	}
	for i := 0; i+1 < len(c.userProps); i += 2 {
		c.props += userProp(c.userProps[i], c.userProps[i+1])
	}
	return mqttPacket(0x10, mqttString("MQTT"), string([]byte{byte(v), flags, byte(c.keepAliveS >> 8), byte(c.keepAliveS)}),
		mqttProps(v, c.props), mqttString(c.client), mqttString(c.user), mqttString(c.password))
}

// connect sends the CONNECT.
func (k *mqttEnd) connect(c connection) { k.send(c.packet(k.v)...) }

// in logs alice's phone in.
func (k *mqttEnd) enter() *packets.Packet {
	k.tb.Helper()
	k.connect(phone(k.v))
	return k.wantConnack(0)
}

// next takes the next packet that the client got.
func (k *mqttEnd) next(t mqtt.Type) *packets.Packet {
	k.tb.Helper()
	pk, rest := nextMQTT(k.tb, k.v, k.conn.out)
	if pk == nil || mqtt.Type(pk.FixedHeader.Type) != t {
		k.tb.Fatalf("got %x, want %v", k.conn.out, t)
	}
	k.conn.out = rest
	return pk
}

// nextMQTT decodes the server's first packet in p, nil if there is none.
func nextMQTT(tb testing.TB, v mqtt.Version, p []byte) (*packets.Packet, []byte) {
	tb.Helper()
	if len(p) == 0 {
		return nil, nil
	}
	n, size := binary.Uvarint(p[1:])
	if size <= 0 || len(p) < 1+size+int(n) {
		tb.Fatalf("%x is no whole packet", p)
	}
	pk := &packets.Packet{ProtocolVersion: byte(v)}
	if err := pk.FixedHeader.Decode(p[0]); err != nil {
		tb.Fatal(err)
	}
	pk.FixedHeader.Remaining = int(n)
	body := bytes.Clone(p[1+size : 1+size+int(n)])
	decode := map[mqtt.Type]func([]byte) error{
		mqtt.CONNACK: pk.ConnackDecode, mqtt.DISCONNECT: pk.DisconnectDecode, mqtt.PUBLISH: pk.PublishDecode,
		mqtt.SUBACK: pk.SubackDecode, mqtt.UNSUBACK: pk.UnsubackDecode, mqtt.PINGRESP: pk.PingrespDecode,
		mqtt.PUBACK: pk.PubackDecode, mqtt.PUBREC: pk.PubackDecode, mqtt.PUBCOMP: pk.PubackDecode,
	}[mqtt.Type(pk.FixedHeader.Type)]
	if decode == nil {
		tb.Fatalf("the server sent %x", p)
	}
	if err := decode(body); err != nil {
		tb.Fatalf("%x: %v", p, err)
	}
	return pk, p[1+size+int(n):]
}

func (k *mqttEnd) wantConnack(code byte) *packets.Packet {
	k.tb.Helper()
	pk := k.next(mqtt.CONNACK)
	if pk.ReasonCode != code {
		k.tb.Fatalf("CONNACK %#x %q, want %#x", pk.ReasonCode, pk.Properties.ReasonString, code)
	}
	return pk
}

// wantEnd checks that the link ended: on 5.0 with a DISCONNECT, on 3.1.1 silently.
func (k *mqttEnd) wantEnd(reason byte) *packets.Packet {
	k.tb.Helper()
	var pk *packets.Packet
	if k.v == mqtt.V5 {
		if pk = k.next(mqtt.DISCONNECT); pk.ReasonCode != reason {
			k.tb.Fatalf("DISCONNECT %#x %q, want %#x", pk.ReasonCode, pk.Properties.ReasonString, reason)
		}
	}
	k.wantClosed()
	return pk
}

func (k *mqttEnd) wantClosed() {
	k.tb.Helper()
	k.wantNothing()
	if !k.conn.fin && !k.conn.closed {
		k.tb.Fatalf("the link is open, %s", k.s.State())
	}
}

func propsOf(pk *packets.Packet) map[string]string {
	m := make(map[string]string)
	for _, p := range pk.Properties.User {
		m[p.Key] = p.Val
	}
	return m
}

func ticketText(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// bothVersions runs f for 3.1.1 and 5.0.
func bothVersions(t *testing.T, f func(t *testing.T, v mqtt.Version)) {
	t.Run("3.1.1", func(t *testing.T) { f(t, mqtt.V311) })
	t.Run("5.0", func(t *testing.T) { f(t, mqtt.V5) })
}

var (
	pingreq        = []byte{0xc0, 0}
	disconnectGood = []byte{0xe0, 0}
)
