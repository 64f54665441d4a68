package mqtt

import (
	"bytes"
	"encoding/binary"
	"unicode/utf8"
)

// reader walks the body of a packet. The first fault stays; what is read after it
// is empty.
type reader struct {
	b   []byte
	err *Error
}

func (r *reader) fail(e *Error) {
	if r.err == nil {
		r.b, r.err = nil, e
	}
}

func (r *reader) take(n int, what string) []byte {
	if n > len(r.b) {
		r.fail(malformed("%s is cut off", what))
		return nil
	}
	p := r.b[:n:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) byte(what string) byte {
	if p := r.take(1, what); p != nil {
		return p[0]
	}
	return 0
}

func (r *reader) uint16(what string) uint16 {
	if p := r.take(2, what); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (r *reader) uint32(what string) uint32 {
	if p := r.take(4, what); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

// binary reads bytes behind a 16-bit length.
func (r *reader) binary(what string) []byte {
	return r.take(int(r.uint16(what)), what)
}

// text reads a UTF-8 encoded string.
func (r *reader) text(what string) []byte {
	p := r.binary(what)
	switch {
	case !utf8.Valid(p): // [MQTT-1.5.4-1]; it refuses surrogates too
		r.fail(malformed("%s is not UTF-8", what))
	case bytes.IndexByte(p, 0) >= 0: // [MQTT-1.5.4-2]
		r.fail(malformed("%s holds U+0000", what))
	}
	return p
}

// varint reads a variable byte integer.
func (r *reader) varint(what string) int {
	n, size, err := remaining(r.b)
	switch {
	case err != nil:
		r.fail(err)
	case size == 0:
		r.fail(malformed("%s is cut off", what))
	default:
		r.b = r.b[size:]
	}
	return n
}

// id reads a packet identifier.
func (r *reader) id(t Type) uint16 {
	id := r.uint16("the packet identifier")
	if id == 0 { // [MQTT-2.2.1-3], 3.1.1: [MQTT-2.3.1-1]
		r.fail(violation("%v with the packet identifier 0", t))
	}
	return id
}

// end checks that nothing is left.
func (r *reader) end(t Type) {
	if len(r.b) > 0 {
		r.fail(malformed("%v with %d bytes behind its end", t, len(r.b)))
	}
}

// kind is how the value of a property is written.
type kind uint8

const (
	kindBool kind = 1 + iota // a byte, 0 or 1
	kindUint16
	kindUint32
	kindVarint
	kindText
	kindBinary
	kindPair
)

// property is a row of the table of properties, MQTT 5.0 section 2.2.2.2.
type property struct {
	name string
	kind kind
	in   uint32 // bit of each packet that it may be in, wills as bit 0
	zero bool   // 0 is a good value of a number
	many bool   // it may be there more than once
}

// will stands for the properties of a will among the packet types.
const will Type = 0

func in(types ...Type) (set uint32) {
	for _, t := range types {
		set |= 1 << t
	}
	return set
}

// properties are those that a client may send, by identifier. An identifier that
// is not here is unknown, or for servers only.
var properties = [...]property{
	0x01: {"Payload Format Indicator", kindBool, in(PUBLISH, will), true, false},
	0x02: {"Message Expiry Interval", kindUint32, in(PUBLISH, will), true, false},
	0x03: {"Content Type", kindText, in(PUBLISH, will), true, false},
	0x08: {"Response Topic", kindText, in(PUBLISH, will), true, false},
	0x09: {"Correlation Data", kindBinary, in(PUBLISH, will), true, false},
	0x0b: {"Subscription Identifier", kindVarint, in(SUBSCRIBE), false, false}, // of PUBLISH it is for servers only [MQTT-3.3.4-6]
	0x11: {"Session Expiry Interval", kindUint32, in(CONNECT, DISCONNECT), true, false},
	0x15: {"Authentication Method", kindText, in(CONNECT, AUTH), true, false},
	0x16: {"Authentication Data", kindBinary, in(CONNECT, AUTH), true, false},
	0x17: {"Request Problem Information", kindBool, in(CONNECT), true, false},
	0x18: {"Will Delay Interval", kindUint32, in(will), true, false},
	0x19: {"Request Response Information", kindBool, in(CONNECT), true, false},
	0x1f: {"Reason String", kindText, in(PUBACK, PUBREC, PUBREL, PUBCOMP, DISCONNECT, AUTH), true, false},
	0x21: {"Receive Maximum", kindUint16, in(CONNECT), false, false},
	0x22: {"Topic Alias Maximum", kindUint16, in(CONNECT), true, false},
	0x23: {"Topic Alias", kindUint16, in(PUBLISH), true, false}, // 0 and more are refused by their own code
	0x26: {"User Property", kindPair, in(CONNECT, PUBLISH, PUBACK, PUBREC, PUBREL, PUBCOMP, SUBSCRIBE, UNSUBSCRIBE, DISCONNECT, AUTH, will), true, true},
	0x27: {"Maximum Packet Size", kindUint32, in(CONNECT), false, false},
}

// propertySet tells which properties were there, by identifier.
type propertySet uint64

func (s propertySet) has(id byte) bool { return s&(1<<id) != 0 }

// properties walks the properties of a packet.
func (r *reader) properties(t Type) (seen propertySet) {
	inner := reader{b: r.take(r.varint("the property length"), "the properties"), err: r.err}
	for count := 0; len(inner.b) > 0; count++ {
		if count == MaxProperties {
			inner.fail(violation("%v with more than %d properties", t, MaxProperties))
			break
		}
		inner.property(t, &seen)
	}
	if inner.err != nil {
		r.fail(inner.err)
	}
	return seen
}

func (r *reader) property(t Type, seen *propertySet) {
	id := r.varint("a property identifier")
	if r.err != nil {
		return
	}
	if id >= len(properties) || properties[id].in&in(t) == 0 { // section 2.2.2.2: malformed
		r.fail(malformed("%v with a property %#x, which it may not have", packetName(t), id))
		return
	}
	p := &properties[id]
	if seen.has(byte(id)) && !p.many {
		r.fail(violation("%v with two properties %s", packetName(t), p.name))
		return
	}
	*seen |= 1 << id
	r.value(p)
}

func (r *reader) value(p *property) {
	n := uint64(1)
	switch p.kind {
	case kindBool:
		if b := r.byte(p.name); b > 1 {
			r.fail(violation("%s is %d, want 0 or 1", p.name, b))
		}
	case kindUint16:
		n = uint64(r.uint16(p.name))
	case kindUint32:
		n = uint64(r.uint32(p.name))
	case kindVarint:
		n = uint64(r.varint(p.name))
	case kindText:
		r.text(p.name)
	case kindBinary:
		r.binary(p.name)
	case kindPair: // [MQTT-1.5.7-1]
		r.text(p.name)
		r.text(p.name)
	}
	if n == 0 && !p.zero {
		r.fail(violation("%s is 0", p.name))
	}
}

func packetName(t Type) string {
	if t == will {
		return "a will"
	}
	return t.String()
}
