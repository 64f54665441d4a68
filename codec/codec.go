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
//	LogoutOK for Logout; ForcedOffline or Redirect at any time after LoginOK
//
// Frame:
//
//	byte 0    type, never 0
//	byte 1    version (high 4 bits, 1) and flags (low 4 bits)
//	byte 2-3  length of the body in bytes, big endian
//	byte 4-   body
//
// Decoders alias their input: what they return is valid as long as the input is.
// The Append functions never fail: texts for people are cut to their limits, and
// a message that fits no frame appends nothing (Login.Check tells beforehand).
package codec

//go:generate protoc --proto_path=. --go_out=rollcallpb --go_opt=paths=source_relative rollcall.proto

import (
	"encoding/binary"
	"fmt"
)

// Version is the protocol version in the header of every frame.
const Version = 1

// HeaderSize is the size of a frame's header in bytes.
const HeaderSize = 4

// FlagOptional marks a frame that a receiver who does not know its type skips.
// The other flags are sent as 0 and not looked at.
const FlagOptional = 1

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
// refused as soon as the byte that spoils it is there, so the answer does not
// depend on how the stream was cut. The error is a *FrameError.
func Next(buf []byte, max int) (f Frame, n int, err error) {
	if len(buf) >= 1 && buf[0] == 0 {
		return Frame{}, 0, &FrameError{CodeMalformedFrame, "frame of type 0"}
	}
	if len(buf) >= 2 && buf[1]>>4 != Version {
		return Frame{}, 0, &FrameError{CodeBadVersion, fmt.Sprintf("frame of protocol version %d, want %d", buf[1]>>4, Version)}
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

// AppendHeader appends the header of a frame with a body of n bytes, n <= MaxBody.
func AppendHeader(dst []byte, t Type, flags uint8, n int) []byte {
	return append(dst, byte(t), Version<<4|flags&0xf, byte(n>>8), byte(n))
}

// AppendEmpty appends a frame without a body: Heartbeat, HeartbeatOK, Logout, LogoutOK.
func AppendEmpty(dst []byte, t Type) []byte { return AppendHeader(dst, t, 0, 0) }

// begin appends a header whose length end fills in.
func begin(dst []byte, t Type) []byte { return AppendHeader(dst, t, 0, 0) }

// end fills in the length of the frame that begins at start. A frame whose body
// is too large is taken back: a cut one would say something else than was meant.
func end(dst []byte, start int) []byte {
	n := len(dst) - start - HeaderSize
	if n > MaxBody {
		return dst[:start]
	}
	binary.BigEndian.PutUint16(dst[start+2:], uint16(n))
	return dst
}
