package ws

import (
	"encoding/binary"
	"math"
	"math/bits"

	"github.com/gobwas/ws"
)

// Side is who sends.
type Side uint8

// The sides.
const (
	FromClient Side = iota // every frame is masked, section 5.1
	FromServer             // none is
)

// Header is a frame's header.
type Header struct {
	Fin    bool
	Op     Op
	Masked bool
	Mask   [4]byte
	Length int // of the payload
}

// NextHeader reads the header of the frame that p begins with; n is its size, 0 if
// it is not all there. A header that can never become a good one is refused as
// soon as the byte that spoils it is there. The payload may have max bytes.
func NextHeader(p []byte, from Side, max int) (h Header, n int, err *Error) {
	if len(p) == 0 {
		return h, 0, nil
	}
	if err := h.first(p[0]); err != nil || len(p) < 2 {
		return h, 0, err
	}
	if err := h.second(p[1], from); err != nil {
		return h, 0, err
	}
	size, ext := 2+extended(p[1]), p[2:]
	if len(p) < size {
		return h, 0, nil
	}
	length, err := h.length(p[1]&0x7f, ext)
	if err != nil {
		return h, 0, err
	}
	if length > uint64(max) {
		return h, 0, errorf(CloseTooBig, "a payload of %d bytes, at most %d are allowed here", length, max)
	}
	h.Length = int(length)
	if h.Masked {
		if size += len(h.Mask); len(p) < size {
			return h, 0, nil
		}
		h.Mask = [4]byte(p[size-len(h.Mask):])
	}
	return h, size, nil
}

// first reads FIN, the reserved bits and the opcode.
func (h *Header) first(b byte) *Error {
	h.Fin, h.Op = b&0x80 != 0, Op(b&0xf)
	switch {
	case b&0x70 != 0: // section 5.2: MUST be 0 unless an extension says otherwise
		return errorf(CloseProtocol, "reserved bits are set and no extension was agreed on")
	case !h.Op.known():
		return errorf(CloseProtocol, "opcode %d is reserved", h.Op)
	case h.Op.Control() && !h.Fin: // section 5.5: MUST NOT be fragmented
		return errorf(CloseProtocol, "a control frame in fragments")
	}
	return nil
}

// second looks at the mask bit and at what the 7 bits of length give away.
func (h *Header) second(b byte, from Side) *Error {
	h.Masked = b&0x80 != 0
	switch {
	case from == FromClient && !h.Masked: // section 5.1: the server MUST close
		return errorf(CloseProtocol, "a client's frame without a mask")
	case from == FromServer && h.Masked:
		return errorf(CloseProtocol, "a server's frame with a mask")
	case h.Op.Control() && b&0x7f > MaxControl: // section 5.5
		return errorf(CloseProtocol, "a control frame with more than %d bytes", MaxControl)
	}
	return nil
}

// extended is how many bytes of length follow the second byte.
func extended(b byte) int {
	switch b & 0x7f {
	case 126:
		return 2
	case 127:
		return 8
	}
	return 0
}

// length reads the length; ext begins behind the second byte and is long enough.
// Section 5.2: the minimal number of bytes MUST be used, the highest bit MUST be 0.
func (h *Header) length(short byte, ext []byte) (uint64, *Error) {
	n := uint64(short)
	switch short {
	case 126:
		if n = uint64(binary.BigEndian.Uint16(ext)); n < 126 {
			return 0, errorf(CloseProtocol, "a length of %d in 16 bits", n)
		}
	case 127:
		n = binary.BigEndian.Uint64(ext)
		if bits.Len64(n) == 64 {
			return 0, errorf(CloseProtocol, "a length with its highest bit set")
		}
		if n <= math.MaxUint16 {
			return 0, errorf(CloseProtocol, "a length of %d in 64 bits", n)
		}
	}
	return n, nil
}

// AppendHeader appends a header, its length in as few bytes as it needs.
func AppendHeader(dst []byte, h Header) []byte {
	b := byte(h.Op)
	if h.Fin {
		b |= 0x80
	}
	var mask byte
	if h.Masked {
		mask = 0x80
	}
	switch {
	case h.Length < 126:
		dst = append(dst, b, mask|byte(h.Length))
	case h.Length <= math.MaxUint16:
		dst = append(dst, b, mask|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(h.Length))
	default:
		dst = append(dst, b, mask|127)
		dst = binary.BigEndian.AppendUint64(dst, uint64(h.Length))
	}
	if h.Masked {
		dst = append(dst, h.Mask[:]...)
	}
	return dst
}

// Wrap makes a server's whole frame of dst[start:], its payload.
func Wrap(dst []byte, start int, op Op) []byte {
	return wrap(dst, start, Header{Fin: true, Op: op})
}

// Mask makes a client's frame of dst[start:], its payload, and masks it. The mask
// must be random where somebody else chose the payload, section 10.3.
func Mask(dst []byte, start int, op Op, fin bool, mask [4]byte) []byte {
	Cipher(dst[start:], mask, 0)
	return wrap(dst, start, Header{Fin: fin, Op: op, Masked: true, Mask: mask})
}

func wrap(dst []byte, start int, h Header) []byte {
	h.Length = len(dst) - start
	var b [MaxHeader]byte
	head := AppendHeader(b[:0], h)
	dst = append(dst, head...) // makes room
	copy(dst[start+len(head):], dst[start:start+h.Length])
	copy(dst[start:], head)
	return dst
}

// Cipher masks or unmasks p, which begins at offset bytes of its frame's payload,
// section 5.3.
func Cipher(p []byte, mask [4]byte, offset int) { ws.Cipher(p, mask, offset) }
