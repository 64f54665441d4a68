package mqtt

import "github.com/mochi-mqtt/server/v2/packets"

// LeastPacket is the least Maximum Packet Size that a client may have, bytes: what
// it must hear fits into it.
const LeastPacket = 64

// Shrink makes p, packets of the Append functions, fit for a client that takes none
// of more than max bytes [MQTT-3.1.2-24]: texts and user properties are left out
// [MQTT-3.2.2-19], [MQTT-3.2.2-20], [MQTT-3.14.2-3], [MQTT-3.14.2-4]; a packet that
// is too large still counts as sent [MQTT-3.1.2-25]. It works in place.
func Shrink(p []byte, max uint32) []byte {
	out := p[:0]
	for len(p) > 0 {
		n, size, err := remaining(p[1:])
		if err != nil || size == 0 || 1+size+n > len(p) {
			return out // the Append functions make whole packets
		}
		total := 1 + size + n
		if uint64(total) > uint64(max) {
			out = appendShort(out, p[0], p[1+size:total], max)
		} else {
			out = append(out, p[:total]...)
		}
		p = p[total:]
	}
	return out
}

// appendShort appends a CONNACK or DISCONNECT without what may be left out, any
// other packet not at all. dst may end where body begins, or before.
func appendShort(dst []byte, first byte, body []byte, max uint32) []byte {
	fixed := 1 // the reason code
	switch Type(first >> 4) {
	case CONNACK:
		fixed = 2 // and the flags
	case DISCONNECT:
	default:
		return dst
	}
	_, size, _ := remaining(body[fixed:])
	props := body[fixed+size:]
	props = props[:needed(props)]
	var room [LeastPacket]byte // dst grows over what is read
	short := append(room[:0], body[:fixed]...)
	short = append(short, byte(len(props)))
	short = append(short, props...)
	if n := 2 + len(short); len(props) > 0x7f-3 || uint64(n) > uint64(max) {
		return dst
	}
	return append(append(dst, first, byte(len(short))), short...)
}

// needed is how many bytes of the properties of a server come before those that
// may be left out.
func needed(props []byte) int {
	r := reader{b: props}
	for len(r.b) > 0 {
		at := len(props) - len(r.b)
		switch r.byte("") {
		case packets.PropReasonString, packets.PropUser:
			return at
		case packets.PropServerReference:
			r.text("")
		case packets.PropSessionExpiryInterval, packets.PropMaximumPacketSize:
			r.uint32("")
		case packets.PropReceiveMaximum, packets.PropTopicAliasMaximum, packets.PropServerKeepAlive:
			r.uint16("")
		default:
			r.byte("")
		}
	}
	return len(props)
}
