package tlslink

import (
	"encoding/binary"
	"errors"
)

// The framing of RFC 8446, 5.1 (and RFC 5246, 6.2.1):
//
//	record     type (1)  version (2)  length (2)  fragment
//	handshake  type (1)  length (3)   body        - a message; records may cut it anywhere
const (
	recordHeader    = 5
	recordHandshake = 22
	maxFragment     = 16384 + 2048 // of an encrypted record of TLS 1.2, the largest there is
	messageHeader   = 4
	messageHello    = 1
	maxPlain        = 16384 // of an unencrypted record
)

// Bounds of a ClientHello. Today's are 200 to 2,300 bytes: post-quantum key shares,
// encrypted names and tickets make them grow. maxHelloRecords bounds a client that
// cuts it small.
const (
	maxHello        = 16 << 10
	maxHelloRecords = 64
	maxHelloWire    = messageHeader + maxHello + maxHelloRecords*recordHeader
)

// Why a client's first bytes are refused.
var (
	// ErrNotTLS: what came is no ClientHello. Said at the first byte that is wrong.
	ErrNotTLS = errors.New("tlslink: not a ClientHello")
	// ErrHelloSize: the ClientHello is longer than we take, or cut into too many records.
	ErrHelloSize = errors.New("tlslink: the ClientHello is too long")
)

// helloComplete reports whether p, the first bytes of a client, holds all of its
// ClientHello. What can be seen to be wrong is refused at once. It looks at
// headers only, so a client that sends byte by byte makes us do little each time.
func helloComplete(p []byte) (bool, error) {
	want := messageHeader // of the message, its header included
	var head [messageHeader]byte
	got := 0
	for records := 0; ; records++ {
		n, err := helloRecord(p)
		if err != nil {
			return false, err
		}
		if len(p) < recordHeader {
			return false, nil
		}
		if records == maxHelloRecords {
			return false, ErrHelloSize
		}
		fragment := p[recordHeader:min(recordHeader+n, len(p))]
		if got < messageHeader {
			copy(head[got:], fragment)
		}
		got += len(fragment)
		if got > 0 && head[0] != messageHello {
			return false, ErrNotTLS
		}
		if got >= messageHeader {
			want = messageHeader + int(head[1])<<16 + int(binary.BigEndian.Uint16(head[2:]))
		}
		switch {
		case want > messageHeader+maxHello:
			return false, ErrHelloSize
		case len(fragment) < n:
			return false, nil // even if the message is: TLS wants whole records
		case got >= messageHeader && got >= want:
			return true, nil
		}
		p = p[recordHeader+n:]
	}
}

// helloRecord looks at the header, or what there is of it, of a record of a
// ClientHello and returns the length of the fragment. Versions 3.0 to 3.4 stand
// in it: it means nothing since RFC 8446.
func helloRecord(p []byte) (length int, err error) {
	switch {
	case len(p) > 0 && p[0] != recordHandshake,
		len(p) > 1 && p[1] != 3,
		len(p) > 2 && p[2] > 4:
		return 0, ErrNotTLS
	case len(p) < recordHeader:
		return 0, nil
	}
	length = int(binary.BigEndian.Uint16(p[3:]))
	if length == 0 || length > maxPlain { // an empty handshake record is illegal: RFC 8446, 5.1
		return 0, ErrNotTLS
	}
	return length, nil
}

// wholeRecords returns how many bytes of p are records that are complete.
func wholeRecords(p []byte) (n int) {
	for {
		r := wholeRecord(p[n:])
		if r == 0 {
			return n
		}
		n += r
	}
}

// wholeRecord returns the length of the record that p begins with, 0 if it is not
// complete. Of one whose length is illegal we do not wait for the end: TLS is to
// see, refuse and answer it.
func wholeRecord(p []byte) int {
	if len(p) < recordHeader {
		return 0
	}
	n := int(binary.BigEndian.Uint16(p[3:]))
	switch {
	case n > maxFragment:
		return len(p)
	case len(p) < recordHeader+n:
		return 0
	}
	return recordHeader + n
}
