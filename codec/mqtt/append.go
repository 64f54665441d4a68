package mqtt

import (
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rollcall-im/rollcall/codec"
)

// The Append functions append one packet of the server to dst, or nothing: to
// 3.1.1 what it has a packet for. They do not allocate unless dst must grow. For a
// client with a Maximum Packet Size Shrink comes behind them. Properties that may
// be left out, texts and user properties, stand last.

// User properties of CONNACK and DISCONNECT.
const (
	PropInstID         = "inst-id"
	PropTakenBack      = "taken-back"         // true or false: a resume found its instance again
	PropTime           = "time"               // Unix milliseconds
	PropSilenceTimeout = "silence-timeout-ms" // the link is lost when nothing came for so long
	PropKicked         = "kicked"             // <Platform>/<InstID>, one for each
	PropCode           = "code"               // docs/protocol.md
	PropMayReconnect   = "may-reconnect"      // true or false: by itself, with what it has
	PropRetryAfter     = "retry-after-ms"
	PropByPlatform     = "by-platform"
	PropByDeviceModel  = "by-device-model"
)

// begin appends the first byte of a packet; end puts the length behind it.
func begin(dst []byte, t Type, flags byte) []byte { return append(dst, byte(t)<<4|flags) }

// end puts the length of the packet that begins at start behind its first byte.
func end(dst []byte, start int) []byte { return prefix(dst, start+1) }

// prefix puts the length of what follows from at in front of it, as a variable
// byte integer.
func prefix(dst []byte, at int) []byte {
	var room [4]byte
	n := len(dst) - at
	size := binary.PutUvarint(room[:], uint64(n)) // the same encoding [MQTT-1.5.5-1]
	dst = append(dst, room[:size]...)
	copy(dst[at+size:], dst[at:at+n])
	copy(dst[at:], room[:size])
	return dst
}

func appendText[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, byte(len(s)>>8), byte(len(s)))
	return append(dst, s...)
}

func appendUser[T string | []byte](dst []byte, key string, value T) []byte {
	return appendText(appendText(append(dst, packets.PropUser), key), value)
}

func appendUserInt(dst []byte, key string, n int64) []byte {
	var room [20]byte
	return appendUser(dst, key, strconv.AppendInt(room[:0], n, 10))
}

func appendUserBool(dst []byte, key string, b bool) []byte {
	var room [5]byte
	return appendUser(dst, key, strconv.AppendBool(room[:0], b))
}

// clientText makes text fit for a client: UTF-8 without U+0000, at most max bytes.
func clientText(s string, max int) string {
	if len(s) > max {
		s = s[:max]
		for len(s) > 0 && !utf8.ValidString(s) {
			s = s[:len(s)-1]
		}
	}
	s, _, _ = strings.Cut(s, "\x00")
	if !utf8.ValidString(s) {
		return ""
	}
	return s
}

func appendReason(dst []byte, text string) []byte {
	if text = clientText(text, codec.MaxText); text == "" {
		return dst
	}
	return appendText(append(dst, packets.PropReasonString), text)
}

// offered are the properties of a CONNACK that tell what we do not offer: any
// session [section 3.2.2.3.2], QoS above 0 [MQTT-3.2.2-9], retained messages of
// clients, topic aliases, wildcard, shared and identified subscriptions.
func appendOffered(dst []byte) []byte {
	dst = append(dst, packets.PropSessionExpiryInterval, 0, 0, 0, 0,
		packets.PropReceiveMaximum, 0, 1,
		packets.PropMaximumQos, 0,
		packets.PropRetainAvailable, 0,
		packets.PropTopicAliasMaximum, 0, 0,
		packets.PropWildcardSubAvailable, 0,
		packets.PropSubIDAvailable, 0,
		packets.PropSharedSubAvailable, 0,
		packets.PropMaximumPacketSize)
	return binary.BigEndian.AppendUint32(dst, MaxPacket)
}

// AppendLoginOK appends the CONNACK that lets a client in. Session Present is 0
// [MQTT-3.2.2-3], 3.1.1: [MQTT-3.2.2-3]: what a session keeps are subscriptions, and
// ours end with the link. A client that is told 1 does not subscribe again.
func AppendLoginOK(dst []byte, v Version, m *codec.LoginOK) []byte {
	if v == V311 {
		return append(dst, byte(CONNACK)<<4, 2, 0, ReturnAccepted)
	}
	start := len(dst)
	dst = append(begin(dst, CONNACK, 0), 0, ReasonSuccess)
	props := len(dst)
	dst = append(dst, packets.PropServerKeepAlive)
	dst = binary.BigEndian.AppendUint16(dst, keepAliveS(m.HeartbeatIntervalMS))
	dst = appendLoginOK(appendOffered(dst), m)
	return end(prefix(dst, props), start)
}

func appendLoginOK(dst []byte, m *codec.LoginOK) []byte {
	dst = appendUserInt(dst, PropInstID, int64(m.InstID))
	if len(m.Ticket) > 0 {
		var room [codec.MaxTicket * 2]byte
		if n := base64.RawURLEncoding.EncodedLen(len(m.Ticket)); n <= len(room) {
			base64.RawURLEncoding.Encode(room[:n], m.Ticket)
			dst = appendUser(dst, PropTicket, room[:n])
		}
	}
	dst = appendUserBool(dst, PropTakenBack, m.TakenBack)
	dst = appendUserInt(dst, PropTime, m.ServerTimeMS)
	dst = appendUserInt(dst, PropSilenceTimeout, int64(m.SilenceTimeoutMS))
	for _, k := range m.Kicked[:min(len(m.Kicked), codec.MaxKicked)] {
		var room [64]byte
		value := append(append(room[:0], k.Platform.String()...), '/')
		dst = appendUser(dst, PropKicked, strconv.AppendUint(value, uint64(k.InstID), 10))
	}
	return dst
}

// keepAliveS is the heartbeat interval as a Server Keep Alive: never 0, which
// would turn it off.
func keepAliveS(ms uint32) uint16 { return uint16(min(max(ms/1000, 1), 1<<16-1)) }

// final is what a CONNACK or DISCONNECT that ends a link says.
type final struct {
	t         Type
	reason    byte
	text      string
	reference string // Server Reference
}

// appendFinal appends a CONNACK or DISCONNECT of 5.0 that ends a link.
func appendFinal(dst []byte, f *final, user func(dst []byte) []byte) []byte {
	start := len(dst)
	dst = begin(dst, f.t, 0)
	if f.t == CONNACK {
		dst = append(dst, 0) // [MQTT-3.2.2-6]
	}
	dst = append(dst, f.reason)
	props := len(dst)
	if f.reference != "" {
		dst = appendText(append(dst, packets.PropServerReference), f.reference)
	}
	dst = user(appendReason(dst, f.text))
	return end(prefix(dst, props), start)
}

func appendReturn(dst []byte, ret byte) []byte {
	if ret == 0 { // 3.1.1: [MQTT-3.2.2-6]
		return dst
	}
	return append(dst, byte(CONNACK)<<4, 2, 0, ret) // 3.1.1: [MQTT-3.2.2-4]
}

// AppendLoginRefused appends the CONNACK that refuses a login.
func AppendLoginRefused(dst []byte, v Version, m *codec.LoginRefused) []byte {
	reason, ret := refusalOf(m.Code)
	if v != V5 {
		return appendReturn(dst, ret)
	}
	f := final{t: CONNACK, reason: reason, text: m.Text}
	return appendFinal(dst, &f, func(dst []byte) []byte {
		return appendTerms(dst, m.Code, m.MayReconnect, m.RetryAfterMS)
	})
}

func appendTerms(dst []byte, code codec.Code, mayReconnect bool, retryMS uint32) []byte {
	dst = appendUserInt(dst, PropCode, int64(code))
	dst = appendUserBool(dst, PropMayReconnect, mayReconnect)
	if retryMS > 0 {
		dst = appendUserInt(dst, PropRetryAfter, int64(retryMS))
	}
	return dst
}

// AppendRefusal appends the answer to a client whose packet is refused: to one
// that is not logged in yet a CONNACK, else a DISCONNECT. [MQTT-3.14.0-1]
func AppendRefusal(dst []byte, v Version, loggedIn bool, e *Error) []byte {
	f := final{t: DISCONNECT, reason: e.Reason, text: e.Text}
	switch {
	case v == V311 && !loggedIn:
		return appendReturn(dst, e.Return)
	case v != V5:
		return dst
	case !loggedIn:
		f.t = CONNACK
	}
	return appendFinal(dst, &f, func(dst []byte) []byte { return appendTerms(dst, e.Code, false, 0) })
}

// AppendForcedOffline appends the DISCONNECT with which the server ends a link;
// 3.1.1 has none.
func AppendForcedOffline(dst []byte, v Version, m *codec.ForcedOffline) []byte {
	if v != V5 {
		return dst
	}
	f := final{t: DISCONNECT, reason: disconnectOf(m.Code), text: m.Text}
	return appendFinal(dst, &f, func(dst []byte) []byte {
		dst = appendTerms(dst, m.Code, m.MayReconnect, m.RetryAfterMS)
		if m.ByPlatform != 0 {
			dst = appendUser(dst, PropByPlatform, m.ByPlatform.String())
		}
		if model := clientText(m.ByDeviceModel, codec.MaxDeviceModel); model != "" {
			dst = appendUser(dst, PropByDeviceModel, model)
		}
		return appendUserInt(dst, PropTime, m.TimeMS)
	})
}

// AppendRedirect appends the CONNACK or DISCONNECT that sends a client to another
// server. Without an address, which means the same one, the server is just busy.
func AppendRedirect(dst []byte, v Version, loggedIn bool, m *codec.Redirect) []byte {
	f := final{t: DISCONNECT, reason: ReasonUseAnotherServer, reference: m.Address}
	switch {
	case v == V311 && !loggedIn:
		return appendReturn(dst, ReturnUnavailable)
	case v != V5:
		return dst
	case !loggedIn:
		f.t = CONNACK
	}
	if m.Address == "" || len(m.Address) > codec.MaxAddress {
		f.reason, f.reference = ReasonServerBusy, ""
	}
	return appendFinal(dst, &f, func(dst []byte) []byte {
		dst = appendUserBool(dst, PropMayReconnect, true)
		return appendUserInt(dst, PropRetryAfter, int64(m.RetryAfterMS))
	})
}

// AppendPingresp appends a PINGRESP.
func AppendPingresp(dst []byte) []byte { return append(dst, byte(PINGRESP)<<4, 0) }

// AppendSuback appends a SUBACK with a code for each filter, in their order. [MQTT-3.9.3-1]
func AppendSuback(dst []byte, v Version, id uint16, codes []byte) []byte {
	return appendCodes(dst, SUBACK, v, id, codes)
}

// AppendUnsuback appends an UNSUBACK; that of 3.1.1 has no codes.
func AppendUnsuback(dst []byte, v Version, id uint16, codes []byte) []byte {
	if v == V311 {
		codes = nil
	}
	return appendCodes(dst, UNSUBACK, v, id, codes)
}

func appendCodes(dst []byte, t Type, v Version, id uint16, codes []byte) []byte {
	start := len(dst)
	dst = append(begin(dst, t, 0), byte(id>>8), byte(id))
	if v == V5 {
		dst = append(dst, 0) // no properties [MQTT-2.2.2-1]
	}
	return end(append(dst, codes...), start)
}

// AppendAck appends a PUBACK, PUBREC or PUBCOMP. 3.1.1 has no reason in it.
func AppendAck(dst []byte, v Version, t Type, id uint16, reason byte) []byte {
	if v == V311 {
		return append(dst, byte(t)<<4, 2, byte(id>>8), byte(id))
	}
	return append(dst, byte(t)<<4, 3, byte(id>>8), byte(id), reason)
}

// AppendPublish appends a PUBLISH of QoS 0.
func AppendPublish(dst []byte, v Version, topic string, retain bool, payload []byte) []byte {
	start := len(dst)
	var flags byte // [MQTT-3.3.1-2]
	if retain {
		flags = 1
	}
	dst = appendText(begin(dst, PUBLISH, flags), topic)
	if v == V5 {
		dst = append(dst, 2, packets.PropPayloadFormat, 1) // UTF-8
	}
	return end(append(dst, payload...), start)
}
