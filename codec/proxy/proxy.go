// Package proxy reads and writes the header by which a load balancer tells a
// server whose connection it forwards: the PROXY protocol, versions 1 and 2. It
// knows bytes only; who may send a header, and for how long it may take, is for
// the caller to say.
//
// Clauses in comments are those of "The PROXY protocol", proxy-protocol.txt of
// HAProxy.
package proxy

import (
	"fmt"
	"net/netip"
)

// MaxV1 is the length of the longest line of version 1, its CRLF included (2.1).
const MaxV1 = 107

// MaxV2 bounds a header of version 2. The format has room for 65,551 bytes; what
// load balancers send, TLVs with names and certificates included, stays far
// below this, and a bound is what keeps a link from holding memory.
const MaxV2 = 16 + 2048

// Header is what a header says.
type Header struct {
	Version uint8 // 1 or 2

	// Local says that the proxy speaks for itself, for a health check mostly
	// (2.2, command LOCAL): the link's own addresses are the true ones.
	Local bool

	// Source and Destination are the client's address and the one that it
	// reached. Both are invalid if the proxy does not know them or they are not
	// of the Internet: LOCAL, UNKNOWN, UNSPEC, Unix sockets. The link's own
	// addresses hold then too.
	Source, Destination netip.AddrPort

	// TLVs are the extensions behind the addresses (2.2), a part of what Next was
	// given. Next has found them well-formed and their checksum, if there is one, right.
	TLVs []byte
}

// Reason is why a header is refused.
type Reason uint8

// The reasons.
const (
	NoHeader    Reason = iota // the bytes begin no header at all
	BadLine                   // version 1: the line is not as 2.1 wants it
	BadVersion                // version 2: the version in byte 13 is not 2
	BadCommand                // version 2: the command is unassigned
	BadFamily                 // version 2: the address family or protocol is unassigned
	BadLength                 // version 2: shorter than its addresses, or longer than MaxV2
	BadTLV                    // version 2: the extensions do not fill the header
	BadChecksum               // version 2: the CRC32c is not that of the header
	NumReasons
)

var reasonNames = [NumReasons]string{
	NoHeader: "no_header", BadLine: "bad_line", BadVersion: "bad_version", BadCommand: "bad_command",
	BadFamily: "bad_family", BadLength: "bad_length", BadTLV: "bad_tlv", BadChecksum: "bad_checksum",
}

// String is the reason as metrics name it.
func (r Reason) String() string { return reasonNames[r] }

// Error tells why a header is refused, and at which of its bytes.
type Error struct {
	Reason Reason
	At     int // offset of the byte that spoils it
	text   string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("PROXY header: %s (byte %d)", e.text, e.At) }

func spoilt(r Reason, at int, format string, args ...any) *Error {
	return &Error{r, at, fmt.Sprintf(format, args...)}
}

// Next reads the header that p begins with and returns its length. Without an
// error 0 means that p may be the beginning of a good one: show it again with
// what follows. No more than MaxV2 bytes are ever asked for. A beginning that no
// bytes can make good is refused as soon as it is seen (2.1: "as soon as
// possible, so that the sender gets a chance to notice").
//
// h.TLVs aliases p.
func Next(p []byte) (h Header, n int, err error) {
	if len(p) == 0 {
		return Header{}, 0, nil
	}
	switch p[0] {
	case v1Signature[0]:
		return nextV1(p)
	case v2Signature[0]:
		return nextV2(p)
	}
	return Header{}, 0, spoilt(NoHeader, 0, "it begins with neither version's signature")
}

// matches compares p with the signature as far as it goes. at is the offset of
// the first byte that differs, -1 if none does.
func matches(p []byte, signature string) (at int) {
	for i := range min(len(p), len(signature)) {
		if p[i] != signature[i] {
			return i
		}
	}
	return -1
}
