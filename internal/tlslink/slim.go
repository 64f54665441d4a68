package tlslink

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"unsafe"
)

// This file is all that reaches into tls.Conn. Once a handshake is done a server's
// tls.Conn goes on holding what it will not use again: the buffer of the wire's
// bytes, as large as the largest record so far, the buffer of handshake messages,
// as large as the ClientHello, and what a client would want to export or resume.
// That is 2 to 4 KB for each idle link; a hundred thousand hold 300 MB of it. The
// library has no way to let go, so we clear the fields ourselves. What go1.26 does
// with them on a server after the handshake:
//
//   - rawInput, input: bytes.Buffer and bytes.Reader (into the former). readRecord
//     fills the one and sets the other, only inside Read. Between reads both are
//     empty here, as we show whole records and read until there are none: their
//     memory is free to go. While a link reads, rawInput is lent memory of the pool,
//     so that a heartbeat allocates nothing.
//   - hand: bytes.Buffer of handshake messages. Empty but for a message that spans
//     records, which a client may send after the handshake (KeyUpdate).
//   - ekm, a closure that holds secrets: only ConnectionState hands it out. Nobody
//     asks for it here after slim.
//   - resumptionSecret: read by clients only, of a NewSessionTicket.
//   - serverName, ocspResponse: for ConnectionState only.
//
// The offsets come from reflection. If a field has another name or type, none is
// touched, links cost what they cost, and TestSlimLayout fails.
type connFields struct {
	known                 bool
	rawInput, input, hand uintptr
	ekm, serverName       uintptr
	secret, ocsp          uintptr
}

type ekmFunc = func(label string, context []byte, length int) ([]byte, error)

var slimmed = connFieldsOf(reflect.TypeFor[tls.Conn]())

// connFieldsOf looks for the fields in a struct like tls.Conn.
func connFieldsOf(t reflect.Type) (f connFields) {
	f.known = true
	offset := func(name string, want reflect.Type) uintptr {
		s, ok := t.FieldByName(name)
		f.known = f.known && ok && len(s.Index) == 1 && s.Type == want
		return s.Offset
	}
	f.rawInput = offset("rawInput", reflect.TypeFor[bytes.Buffer]())
	f.input = offset("input", reflect.TypeFor[bytes.Reader]())
	f.hand = offset("hand", reflect.TypeFor[bytes.Buffer]())
	f.ekm = offset("ekm", reflect.TypeFor[ekmFunc]())
	f.serverName = offset("serverName", reflect.TypeFor[string]())
	f.secret = offset("resumptionSecret", reflect.TypeFor[[]byte]())
	f.ocsp = offset("ocspResponse", reflect.TypeFor[[]byte]())
	return f
}

func fieldOf[T any](c *tls.Conn, offset uintptr) *T {
	return (*T)(unsafe.Add(unsafe.Pointer(c), offset))
}

// slim lets go of what the handshake left in c, whose handshake is done and which
// nobody reads.
func (f *connFields) slim(c *tls.Conn) {
	if !f.known {
		return
	}
	f.reclaim(c, false)
	*fieldOf[ekmFunc](c, f.ekm) = nil
	*fieldOf[string](c, f.serverName) = ""
	*fieldOf[[]byte](c, f.secret) = nil
	*fieldOf[[]byte](c, f.ocsp) = nil
}

// lend gives c, which holds no bytes, memory to read into.
func (f *connFields) lend(c *tls.Conn, memory []byte) {
	if f.known {
		*fieldOf[bytes.Buffer](c, f.rawInput) = *bytes.NewBuffer(memory[:0])
	}
}

// empty reports whether c certainly holds no bytes that Read would return.
func (f *connFields) empty(c *tls.Conn) bool {
	return f.known && fieldOf[bytes.Buffer](c, f.rawInput).Len() == 0 && fieldOf[bytes.Reader](c, f.input).Len() == 0
}

// reclaim lets go of c's buffers and reports whether lent memory may be used
// again. Only a link that ended may have unread bytes; it is not read any more.
func (f *connFields) reclaim(c *tls.Conn, ended bool) bool {
	if !f.known {
		return true // nothing was lent
	}
	raw, input, hand := fieldOf[bytes.Buffer](c, f.rawInput), fieldOf[bytes.Reader](c, f.input), fieldOf[bytes.Buffer](c, f.hand)
	if hand.Len() == 0 {
		*hand = bytes.Buffer{}
	}
	if !ended && (raw.Len() > 0 || input.Len() > 0) {
		return false
	}
	*raw, *input = bytes.Buffer{}, bytes.Reader{}
	return true
}
