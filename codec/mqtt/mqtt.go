// Package mqtt is MQTT 3.1.1 and 5.0 as far as presence needs it: the packets
// that clients send become a codec.Login, a Publish, a Subscribe ...; the messages
// of codec become the packets that clients understand. It does no I/O.
//
// Flow, client to server:
//
//	CONNECT, then any number of PINGREQ, SUBSCRIBE, UNSUBSCRIBE, then DISCONNECT or a closed socket
//
// Flow, server to client:
//
//	CONNACK; PINGRESP, SUBACK, UNSUBACK for each request; PUBLISH (QoS 0) of what is
//	subscribed to; on 5.0 DISCONNECT as the last packet, where 3.1.1 is just closed
//
// Packet:
//
//	byte 0    type (high 4 bits) and flags (low 4 bits)
//	byte 1-4  remaining length, a variable byte integer of 1 to 4 bytes
//	...       variable header and payload
//
// Fields are taken apart by github.com/mochi-mqtt/server/v2/packets. It trusts its
// input more than a server on the open net may (it indexes past the end of a
// SUBSCRIBE, reads properties beyond their length, takes some of them twice and
// drops reserved bits), so a packet is first walked by the grammar of the standard
// (grammar.go), and only one that is well-formed is handed to it.
//
// Numbers in square brackets are statements of MQTT 5.0, those behind "3.1.1:" of
// MQTT 3.1.1. Decoders alias their input: what they return is valid as long as
// the input is.
package mqtt

import (
	"fmt"

	"github.com/rollcall-im/rollcall/codec"
)

// Version is a protocol version as CONNECT names it; 0 before CONNECT.
type Version uint8

// The versions.
const (
	V311 Version = 4
	V5   Version = 5
)

// Limits of a whole packet in bytes, and of what one packet may ask for.
const (
	MaxBeforeLogin = codec.MaxFrameBeforeLogin
	MaxPacket      = 64 << 10 // told in CONNACK
	MaxFilters     = 64       // in a SUBSCRIBE or UNSUBSCRIBE
	MaxProperties  = 128      // in one packet
)

// Type is a packet's type.
type Type uint8

// The packet types.
const (
	CONNECT Type = 1 + iota
	CONNACK
	PUBLISH
	PUBACK
	PUBREC
	PUBREL
	PUBCOMP
	SUBSCRIBE
	SUBACK
	UNSUBSCRIBE
	UNSUBACK
	PINGREQ
	PINGRESP
	DISCONNECT
	AUTH
)

// typeInfo is a row of the table of packet types.
type typeInfo struct {
	name       string
	flags      byte // that the fixed header must have; not of PUBLISH
	fromClient bool
}

var types = [...]typeInfo{
	0:           {"type 0", 0, false},
	CONNECT:     {"CONNECT", 0, true},
	CONNACK:     {"CONNACK", 0, false},
	PUBLISH:     {"PUBLISH", 0, true},
	PUBACK:      {"PUBACK", 0, true},
	PUBREC:      {"PUBREC", 0, true},
	PUBREL:      {"PUBREL", 2, true}, // [MQTT-3.6.1-1]
	PUBCOMP:     {"PUBCOMP", 0, true},
	SUBSCRIBE:   {"SUBSCRIBE", 2, true}, // [MQTT-3.8.1-1]
	SUBACK:      {"SUBACK", 0, false},
	UNSUBSCRIBE: {"UNSUBSCRIBE", 2, true}, // [MQTT-3.10.1-1]
	UNSUBACK:    {"UNSUBACK", 0, false},
	PINGREQ:     {"PINGREQ", 0, true},
	PINGRESP:    {"PINGRESP", 0, false},
	DISCONNECT:  {"DISCONNECT", 0, true}, // [MQTT-3.14.1-1]
	AUTH:        {"AUTH", 0, true},       // [MQTT-3.15.1-1]
}

// String returns the type's name.
func (t Type) String() string {
	if int(t) < len(types) {
		return types[t].name
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// Error says why a client's packet is refused: Reason is for a CONNACK or
// DISCONNECT of 5.0, Return for a CONNACK of 3.1.1 (0: none fits, it is just
// closed [3.1.1: MQTT-3.2.2-6]), Code for our log and metrics.
type Error struct {
	Reason byte
	Return byte
	Code   codec.Code
	Text   string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

func malformed(format string, args ...any) *Error {
	return &Error{ReasonMalformed, 0, codec.CodeMalformedBody, fmt.Sprintf(format, args...)}
}

func violation(format string, args ...any) *Error {
	return &Error{ReasonProtocolError, 0, codec.CodeUnexpectedFrame, fmt.Sprintf(format, args...)}
}

// Header is the fixed header of a packet.
type Header struct {
	Type  Type
	Flags byte // low 4 bits of the first byte
	Size  int  // bytes of the header itself; 0: more must be seen
	Body  int  // bytes behind the header
}

// Total is the size of the whole packet in bytes.
func (h Header) Total() int { return h.Size + h.Body }

// Next reads the fixed header at the beginning of buf. Size is 0 if it is not
// complete yet. max is the largest packet allowed, header included. A header that
// can never become a good one is refused as soon as the byte that spoils it is
// there, so the answer does not depend on how the stream was cut.
func Next(buf []byte, v Version, max int) (h Header, err *Error) {
	if len(buf) == 0 {
		return Header{}, nil
	}
	h.Type, h.Flags = Type(buf[0]>>4), buf[0]&0xf
	if err := h.check(v); err != nil {
		return Header{}, err
	}
	n, size, err := remaining(buf[1:])
	if err != nil || size == 0 {
		return Header{}, err
	}
	h.Size, h.Body = 1+size, n
	if h.Total() > max {
		return Header{}, &Error{ReasonPacketTooLarge, 0, codec.CodeFrameTooLarge,
			fmt.Sprintf("%v of %d bytes, at most %d are allowed here", h.Type, h.Total(), max)}
	}
	return h, nil
}

// check looks at the first byte.
func (h Header) check(v Version) *Error {
	info := &types[h.Type]
	switch {
	case v == 0 && h.Type != CONNECT: // [MQTT-3.1.0-1]
		return &Error{ReasonProtocolError, 0, codec.CodeNotLoggedIn, fmt.Sprintf("the first packet must be CONNECT, not %v", h.Type)}
	case !info.fromClient, v == V311 && h.Type == AUTH:
		return violation("%v does not come from a client", h.Type)
	case h.Type == PUBLISH && h.Flags&6 == 6: // [MQTT-3.3.1-4]
		return malformed("PUBLISH with QoS 3")
	case h.Type == PUBLISH && h.Flags&0xe == 8: // [MQTT-3.3.1-2]
		return malformed("PUBLISH with DUP and QoS 0")
	case h.Type != PUBLISH && h.Flags != info.flags: // [MQTT-2.1.3-1]
		return malformed("%v with flags %x, want %x", h.Type, h.Flags, info.flags)
	}
	return nil
}

// remaining reads a remaining length: a variable byte integer. size is 0 if it is
// not complete.
func remaining(p []byte) (n, size int, err *Error) {
	for i, b := range p {
		n |= int(b&0x7f) << (7 * i)
		switch {
		case b < 0x80 && i > 0 && b == 0: // [MQTT-1.5.5-1]
			return 0, 0, malformed("a length that is not written in the fewest bytes")
		case b < 0x80:
			return n, i + 1, nil
		case i == 3:
			return 0, 0, malformed("a length of more than 4 bytes")
		}
	}
	return 0, 0, nil
}
