// Package ws is the framing of WebSocket, RFC 6455: the opening handshake,
// frames, messages put together from fragments, closing. It does no I/O: it takes
// slices and appends to slices.
//
// A server:
//
//	n, err := HeadEnd(p)                       // 0: more must come
//	dst, hs, err := Upgrade(dst, p[:n], protocols)
//	m, n, err := reader.Take(p, Limit{FromClient, 64 << 10})   // a message, a part of one, a ping, a close
//	start := len(dst); dst = append(dst, ...); dst = Wrap(dst, start, Binary)
//	dst = AppendClose(dst, CloseGoingAway, "why")
//
// A client has AppendRequest and CheckAnswer for the handshake, and Mask for what
// it sends. No extension is offered or taken, so the reserved bits are always 0.
package ws

import (
	"encoding/binary"
	"fmt"
)

// Op is a frame's opcode, section 5.2.
type Op byte

// The opcodes.
const (
	Continuation Op = 0x0
	Text         Op = 0x1
	Binary       Op = 0x2
	Close        Op = 0x8
	Ping         Op = 0x9
	Pong         Op = 0xa
)

// Control reports whether the frame is a control frame, section 5.5.
func (o Op) Control() bool { return o&0x8 != 0 }

// known reports whether the opcode means anything, section 5.2.
func (o Op) known() bool { return o <= Binary || (o >= Close && o <= Pong) }

// Bounds of section 5.
const (
	MaxHeader  = 14  // 2, 8 of length, 4 of mask
	MaxControl = 125 // payload of a control frame
	maxReason  = MaxControl - 2
)

// Status codes of section 7.4.1 and of the registry that it founds.
const (
	CloseNormal        = 1000
	CloseGoingAway     = 1001
	CloseProtocol      = 1002
	CloseUnsupported   = 1003 // a kind of data that is not taken here
	CloseNoStatus      = 1005 // never on the wire: the Close frame had no code
	CloseBadPayload    = 1007
	ClosePolicy        = 1008
	CloseTooBig        = 1009
	CloseInternal      = 1011
	CloseRestart       = 1012
	CloseTryAgainLater = 1013
)

// Error says why a link cannot go on; Code is what the Close frame says.
type Error struct {
	Code uint16
	Text string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

func errorf(code uint16, format string, args ...any) *Error {
	return &Error{code, fmt.Sprintf(format, args...)}
}

// validCode reports whether a Close frame may carry the code, section 7.4: the
// ones that are defined and not reserved, those of libraries and private ones.
func validCode(code uint16) bool {
	switch code {
	case 1004, CloseNoStatus, 1006, 1015:
		return false
	}
	return (code >= 1000 && code <= 1014) || (code >= 3000 && code <= 4999)
}

// ParseClose reads the payload of a Close frame, section 5.5.1. The code is
// CloseNoStatus if there is none. The reason aliases payload.
func ParseClose(payload []byte) (code uint16, reason []byte, err *Error) {
	switch {
	case len(payload) == 0:
		return CloseNoStatus, nil, nil
	case len(payload) == 1:
		return 0, nil, errorf(CloseProtocol, "a Close frame of one byte, its code has two")
	}
	code, reason = binary.BigEndian.Uint16(payload), payload[2:]
	if !validCode(code) {
		return 0, nil, errorf(CloseProtocol, "a Close frame with code %d, which nobody may send", code)
	}
	if !validText(reason) {
		return 0, nil, errorf(CloseBadPayload, "the reason of a Close frame is not UTF-8")
	}
	return code, reason, nil
}

// AppendClose appends a server's Close frame. A code that may not be sent gives
// one without a code; a reason is cut at what fits, at a rune.
func AppendClose(dst []byte, code uint16, reason string) []byte {
	start := len(dst)
	if validCode(code) {
		dst = binary.BigEndian.AppendUint16(dst, code)
		dst = append(dst, cut(reason, maxReason)...)
	}
	return Wrap(dst, start, Close)
}
