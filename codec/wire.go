package codec

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The bodies are decoded and encoded by hand, because the generated code
// allocates for each string. The tests hold the two to each other: what one
// accepts the other accepts, with the same values.

// errBody is the root of all body errors.
var errBody = errors.New("malformed body")

// field is one decoded field of a body.
type field struct {
	num   protowire.Number
	wire  protowire.Type
	value uint64 // VarintType
	data  []byte // BytesType, aliases the body
}

// eachField calls fn for each varint and bytes field of body, skips the rest,
// and stops at the first error.
func eachField(body []byte, fn func(field) error) error {
	for len(body) > 0 {
		num, wire, n := protowire.ConsumeTag(body)
		if n < 0 {
			return fmt.Errorf("%w: no field tag %d bytes before the end", errBody, len(body))
		}
		if num > protowire.MaxValidNumber {
			return fmt.Errorf("%w: field number %d is over %d", errBody, num, protowire.MaxValidNumber)
		}
		f := field{num: num, wire: wire}
		body = body[n:]
		switch wire {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(body)
		case protowire.BytesType:
			f.data, n = protowire.ConsumeBytes(body)
		default:
			n = protowire.ConsumeFieldValue(num, wire, body)
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d of wire type %d does not end well", errBody, num, wire)
		}
		if err := fn(f); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// want reports whether the field has the wire type w; one that has not is an
// unknown field by the rules of Protocol Buffers, and skipped.
func (f field) want(w protowire.Type) bool { return f.wire == w }

func (f field) uint32(dst *uint32) error {
	if f.want(protowire.VarintType) {
		*dst = uint32(f.value)
	}
	return nil
}

func (f field) int64(dst *int64) error {
	if f.want(protowire.VarintType) {
		*dst = int64(f.value)
	}
	return nil
}

func (f field) bool(dst *bool) error {
	if f.want(protowire.VarintType) {
		*dst = f.value != 0
	}
	return nil
}

// platform keeps a number outside the table as 0, unknown.
func (f field) platform(dst *Platform) error {
	if !f.want(protowire.VarintType) {
		return nil
	}
	*dst = 0
	// Enums are 32 bits wide: as the generated code does, forget the rest.
	if v := uint32(f.value); v < uint32(len(platformNames)) {
		*dst = Platform(v)
	}
	return nil
}

func (f field) bytes(dst *[]byte) error {
	if f.want(protowire.BytesType) {
		*dst = f.data
	}
	return nil
}

func (f field) text(dst *[]byte) error {
	if !f.want(protowire.BytesType) {
		return nil
	}
	if !utf8.Valid(f.data) {
		return fmt.Errorf("%w: field %d is not UTF-8", errBody, f.num)
	}
	*dst = f.data
	return nil
}

func (f field) string(dst *string) error {
	var b []byte
	if err := f.text(&b); err != nil {
		return err
	}
	if f.want(protowire.BytesType) {
		*dst = string(b)
	}
	return nil
}

func (f field) kicked(dst *[]KickedInstance) error {
	if !f.want(protowire.BytesType) {
		return nil
	}
	var k KickedInstance
	if err := k.unmarshal(f.data); err != nil {
		return err
	}
	if len(*dst) < MaxKicked {
		*dst = append(*dst, k)
	}
	return nil
}

func appendUint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.VarintType)
	return protowire.AppendVarint(dst, v)
}

func appendBool(dst []byte, num protowire.Number, v bool) []byte {
	if !v {
		return dst
	}
	return appendUint(dst, num, 1)
}

func appendBytes(dst []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendBytes(dst, v)
}

// appendText appends v, which is for people to read, cut to max bytes at a rune
// and with U+FFFD for what is not UTF-8: the other side would refuse the frame.
func appendText(dst []byte, num protowire.Number, v string, max int) []byte {
	if v = CutText(v, max); v == "" {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendString(dst, v)
}

// CutText cuts a text for people to at most max bytes, at a rune, with U+FFFD for
// what is not UTF-8.
func CutText(v string, max int) string {
	if len(v) <= max && utf8.ValidString(v) {
		return v
	}
	v = strings.ToValidUTF8(v, "\uFFFD")
	for len(v) > max {
		_, n := utf8.DecodeLastRuneInString(v)
		v = v[:len(v)-n]
	}
	return v
}

func uintSize(num protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}
