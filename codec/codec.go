// Package codec is the native wire protocol: length-prefixed frames with
// Protocol Buffers bodies. It does no I/O. docs/protocol.md describes it for
// those who write clients in other languages.
//
// Flow, client to server:
//
//	Login, then any number of Heartbeat, then Logout or a closed socket
//
// Flow, server to client:
//
//	LoginOK or LoginRefused or Redirect; HeartbeatOK for each Heartbeat;
//	LogoutOK for Logout; ForcedOffline at any time after LoginOK
//
// Frame:
//
//	byte 0    type
//	byte 1    version (high 4 bits, 1) and flags (low 4 bits)
//	byte 2-3  length of the body in bytes, big endian
//	byte 4-   body
//
// Decoders alias their input: what they return is valid as long as the input is.
package codec

import (
	"encoding/binary"
	"fmt"
)

// Version is the protocol version in the header of every frame.
const Version = 1

// HeaderSize is the size of a frame's header in bytes.
const HeaderSize = 4

// Limits of a whole frame in bytes, header included.
const (
	MaxFrameBeforeLogin = 8 << 10
	MaxFrame            = 64<<10 - 1 + HeaderSize // a full 16-bit length
)

// Type is a frame's type. 1..63 go from client to server, 65..127 from server to client.
type Type uint8

// The frame types.
const (
	TypeLogin     Type = 1 // body Login
	TypeHeartbeat Type = 2 // no body
	TypeLogout    Type = 3 // no body

	TypeLoginOK       Type = 65 // body LoginOK
	TypeLoginRefused  Type = 66 // body LoginRefused; then the server closes
	TypeHeartbeatOK   Type = 67 // no body
	TypeForcedOffline Type = 68 // body ForcedOffline; then the server closes
	TypeRedirect      Type = 69 // body Redirect; then the server closes
	TypeLogoutOK      Type = 70 // no body; then the server closes
)

// FlagOptional marks a frame that a receiver who does not know its type skips.
const FlagOptional = 1

// String names the type for logs.
func (t Type) String() string {
	switch t {
	case TypeLogin:
		return "Login"
	case TypeHeartbeat:
		return "Heartbeat"
	case TypeLogout:
		return "Logout"
	case TypeLoginOK:
		return "LoginOK"
	case TypeLoginRefused:
		return "LoginRefused"
	case TypeHeartbeatOK:
		return "HeartbeatOK"
	case TypeForcedOffline:
		return "ForcedOffline"
	case TypeRedirect:
		return "Redirect"
	case TypeLogoutOK:
		return "LogoutOK"
	}
	return fmt.Sprintf("Type(%d)", uint8(t))
}

// Frame is one decoded frame. Body aliases the input of Next.
type Frame struct {
	Type  Type
	Flags uint8 // low 4 bits
	Body  []byte
}

// Optional reports whether a receiver that does not know the type may skip the frame.
func (f Frame) Optional() bool { return f.Flags&FlagOptional != 0 }

// FrameError says why bytes are no frame; Code is what the link is closed with.
type FrameError struct {
	Code Code
	Text string
}

// Error implements error.
func (e *FrameError) Error() string { return e.Text }

// Next decodes the first frame in buf. n is the number of bytes it took; n == 0
// with a nil error means that the frame is not complete yet. max is the largest
// frame allowed, header included. A header that can never become a good frame is
// refused as soon as it is there, before its body. The error is a *FrameError.
func Next(buf []byte, max int) (f Frame, n int, err error) {
	if len(buf) >= 2 && buf[1]>>4 != Version {
		return Frame{}, 0, &FrameError{CodeBadVersion, fmt.Sprintf("frame of protocol version %d, this server speaks %d", buf[1]>>4, Version)}
	}
	if len(buf) < HeaderSize {
		return Frame{}, 0, nil
	}
	n = HeaderSize + int(binary.BigEndian.Uint16(buf[2:]))
	if n > max {
		return Frame{}, 0, &FrameError{CodeFrameTooLarge, fmt.Sprintf("frame of %d bytes, at most %d are allowed here", n, max)}
	}
	if len(buf) < n {
		return Frame{}, 0, nil
	}
	return Frame{Type: Type(buf[0]), Flags: buf[1] & 0xf, Body: buf[HeaderSize:n:n]}, n, nil
}

// AppendHeader appends the header of a frame with a body of n bytes, n < 65,536.
func AppendHeader(dst []byte, t Type, flags uint8, n int) []byte {
	return append(dst, byte(t), Version<<4|flags&0xf, byte(n>>8), byte(n))
}

// AppendEmpty appends a frame without a body: Heartbeat, HeartbeatOK, Logout, LogoutOK.
func AppendEmpty(dst []byte, t Type) []byte { return AppendHeader(dst, t, 0, 0) }

// begin appends a header whose length end fills in.
func begin(dst []byte, t Type) []byte { return AppendHeader(dst, t, 0, 0) }

// end fills in the length of the frame that begins at start.
func end(dst []byte, start int) []byte {
	n := len(dst) - start - HeaderSize
	if n > 0xffff {
		panic(fmt.Sprintf("codec: body of %d bytes", n))
	}
	binary.BigEndian.PutUint16(dst[start+2:], uint16(n))
	return dst
}
