package engine

import (
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec/mqtt"
)

// What is not offered, sent by a client that is logged in: how 5.0 is told, and that
// 3.1.1 is closed.
func TestMQTTRefused(t *testing.T) {
	publish := func(first byte, topic, id, props string) []byte {
		return mqttPacket(first, mqttString(topic), id, mqttProps(mqtt.V5, props), "payload")
	}
	for _, tc := range []struct {
		name   string
		p      []byte
		reason byte // of DISCONNECT
	}{
		{"a second CONNECT [MQTT-3.1.0-2]", phone(mqtt.V5).packet(mqtt.V5), 0x82},
		{"QoS 0 to presence/self", publish(0x30, "presence/self", "", ""), 0x87},
		{"QoS 0 to a user's presence", publish(0x30, "presence/alice", "", ""), 0x87},
		{"QoS 0 to any other topic", publish(0x30, "a/b", "", ""), 0x90},
		{"QoS 1, section 3.2.2.3.4", publish(0x32, "a/b", "\x00\x01", ""), 0x9b},
		{"QoS 2, section 3.2.2.3.4", publish(0x34, "presence/alice", "\x00\x01", ""), 0x9b},
		{"RETAIN, section 3.2.2.3.5", publish(0x31, "presence/self", "", ""), 0x9a},
		{"a Topic Alias, section 3.3.2.3.4", publish(0x30, "a", "", "\x23\x00\x01"), 0x94},
		{"only a Topic Alias", publish(0x30, "", "", "\x23\x00\x01"), 0x94},
		{"a topic with a wildcard [MQTT-3.3.2-2]", publish(0x30, "a/#", "", ""), 0x81},
		{"AUTH [MQTT-4.12.0-7]", mqttPacket(0xf0, "\x18", mqttProps(mqtt.V5, "\x15"+mqttString("X"))), 0x82},
		{"malformed AUTH", mqttPacket(0xf0, "\x18"), 0x81},
		{"PUBACK for nothing", mqttPacket(0x40, "\x00\x01"), 0x82},
		{"PUBREC for nothing", mqttPacket(0x50, "\x00\x01"), 0x82},
		{"PUBCOMP for nothing", mqttPacket(0x70, "\x00\x01"), 0x82},
		{"PUBREL without an identifier", mqttPacket(0x62, "\x00"), 0x81},
		{"a malformed PUBLISH", mqttPacket(0x30, "\x00\x09a"), 0x81},
		{"PINGREQ with a body", mqttPacket(0xc0, "x"), 0x81},
		{"a server's packet", []byte{0xd0, 0}, 0x82},
		{"reserved flags [MQTT-3.8.1-1]", []byte{0x80, 0}, 0x81},
		{"a packet too large", []byte{0x30, 0xfd, 0xff, 0x03}, 0x95},
		{"a length of 5 bytes", []byte{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}, 0x81},
	} {
		r := mqttRig(t)
		k := r.mqttOpen(mqtt.V5)
		k.enter()
		k.send(append(tc.p, pingreq...)...)
		pk := k.next(mqtt.DISCONNECT)
		if pk.ReasonCode != tc.reason || pk.Properties.ReasonString == "" || propsOf(pk)["code"] == "" {
			t.Errorf("%s: DISCONNECT %#x %+v, want %#x", tc.name, pk.ReasonCode, pk.Properties, tc.reason)
		}
		k.wantClosed()
		r.wantLog("login alice", "leave alice LinkClosed")
		r.wantCloses(closeProtocol, 1)
	}
	for name, p := range map[string][]byte{
		"a second CONNECT, 3.1.1: [MQTT-3.1.0-2]":    phone(mqtt.V311).packet(mqtt.V311),
		"PUBLISH of QoS 0, 3.1.1: [MQTT-3.3.5-2]":    mqttPacket(0x30, mqttString("presence/self"), "x"),
		"PUBLISH of QoS 1, 3.1.1: [MQTT-3.3.5-2]":    mqttPacket(0x32, mqttString("presence/self"), "\x00\x01"),
		"AUTH, which 3.1.1 has not":                  {0xf0, 0},
		"PUBACK for nothing":                         mqttPacket(0x40, "\x00\x01"),
		"reserved flags, 3.1.1: [MQTT-2.2.2-2]":      {0xc1, 0},
		"SUBSCRIBE with id 0, 3.1.1: [MQTT-4.8.0-1]": mqttPacket(0x82, "\x00\x00", mqttString("a"), "\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			r := mqttRig(t)
			k := r.mqttOpen(mqtt.V311)
			k.enter()
			k.send(p...)
			k.wantClosed()
			r.wantLog("login alice", "leave alice LinkClosed")
		})
	}
}

// A client that would set its custom status hears that it may not, and goes on.
func TestMQTTCustomStatus(t *testing.T) {
	r := mqttRig(t)
	k := r.mqttOpen(mqtt.V5)
	k.enter()
	k.send(mqttPacket(0x32, mqttString("presence/self"), "\x00\x07", "\x00", "busy")...)
	if pk := k.next(mqtt.PUBACK); pk.PacketID != 7 || pk.ReasonCode != 0x87 { // [MQTT-3.4.2-1]
		t.Errorf("PUBACK %+v", pk)
	}
	k.send(mqttPacket(0x34, mqttString("presence/self"), "\x00\x08", "\x00", "busy")...)
	if pk := k.next(mqtt.PUBREC); pk.PacketID != 8 || pk.ReasonCode != 0x87 { // [MQTT-3.5.2-1]
		t.Errorf("PUBREC %+v", pk)
	}
	k.send(mqttPacket(0x62, "\x00\x08")...)
	if pk := k.next(mqtt.PUBCOMP); pk.PacketID != 8 || pk.ReasonCode != 0x92 {
		t.Errorf("PUBCOMP %+v", pk)
	}
	k.wantState("online")
	// 3.1.1: a PUBREL is answered, whatever it is for. 3.1.1: [MQTT-3.6.4-1]
	old := r.mqttOpen(mqtt.V311)
	old.enter()
	old.send(mqttPacket(0x62, "\x00\x08")...)
	if pk := old.next(mqtt.PUBCOMP); pk.PacketID != 8 {
		t.Errorf("PUBCOMP %+v", pk)
	}
}

// A large packet is never held: a PUBLISH is refused by its beginning, wherever the
// stream is cut, and its rest is skipped.
func TestMQTTLargePackets(t *testing.T) {
	for _, chunk := range []int{1000, mqtt.MaxBeforeLogin - 1, mqtt.MaxBeforeLogin, 1 << 20} {
		r := mqttRig(t)
		k := r.mqttOpen(mqtt.V5)
		k.enter()
		p := mqttPacket(0x32, mqttString("presence/self"), "\x00\x07", "\x00", strings.Repeat("x", mqtt.MaxPacket-4-15-2-1))
		if len(p) != mqtt.MaxPacket {
			t.Fatalf("%d bytes", len(p))
		}
		for rest := append(p, pingreq...); len(rest) > 0; {
			n := min(chunk, len(rest))
			k.send(rest[:n]...)
			rest = rest[n:]
			if len(k.in) >= mqtt.MaxBeforeLogin {
				t.Fatalf("%d bytes held", len(k.in))
			}
		}
		if pk := k.next(mqtt.PUBACK); pk.PacketID != 7 || pk.ReasonCode != 0x87 {
			t.Errorf("PUBACK %+v", pk)
		}
		k.next(mqtt.PINGRESP)
		k.wantState("online")
	}
	for name, tc := range map[string]struct {
		p      []byte
		reason byte
	}{
		"PUBLISH of QoS 0":       {mqttPacket(0x30, mqttString("a"), "\x00", strings.Repeat("x", 9000)), 0x90},
		"a topic without an end": {mqttPacket(0x30, mqttString(strings.Repeat("a", 9000)), "\x00"), 0x81},
		"SUBSCRIBE":              {mqttPacket(0x82, "\x00\x01\x00", mqttString(strings.Repeat("a", 9000)), "\x00"), 0x97},
		"DISCONNECT":             {mqttPacket(0xe0, "\x00", mqttProps(mqtt.V5, userProp("k", strings.Repeat("a", 9000)))), 0x97},
	} {
		r := mqttRig(t)
		k := r.mqttOpen(mqtt.V5)
		k.enter()
		k.send(tc.p...)
		if pk := k.next(mqtt.DISCONNECT); pk.ReasonCode != tc.reason {
			t.Errorf("%s: DISCONNECT %#x, want %#x", name, pk.ReasonCode, tc.reason)
		}
		k.wantClosed()
	}
}
