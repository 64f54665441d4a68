package proxy

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
)

// Append appends the header that says h, for tests and tools. Version 1 has no
// LOCAL and no TLVs; a header without addresses is UNKNOWN there and UNSPEC in
// version 2. Source and Destination must be of one family, as the formats want.
func Append(dst []byte, h *Header) []byte {
	if h.Version == 1 {
		return appendV1(dst, h)
	}
	return appendV2(dst, h, h.TLVs)
}

// AppendChecked is Append of a version 2 header with a checksum behind its other TLVs (2.2.3).
func AppendChecked(dst []byte, h *Header) []byte {
	start := len(dst)
	tlvs := AppendTLV(append([]byte(nil), h.TLVs...), tlvCRC32C, make([]byte, crc32.Size))
	dst = appendV2(dst, h, tlvs)
	at := len(dst) - crc32.Size
	binary.BigEndian.PutUint32(dst[at:], checksum(dst[start:], at-start))
	return dst
}

// AppendTLV appends an extension.
func AppendTLV(dst []byte, typ byte, value []byte) []byte {
	dst = append(dst, typ)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value)))
	return append(dst, value...)
}

func appendV1(dst []byte, h *Header) []byte {
	if !h.Source.IsValid() {
		return append(dst, v1Signature+"UNKNOWN\r\n"...)
	}
	protocol := "TCP4"
	if h.Source.Addr().Is6() {
		protocol = "TCP6"
	}
	return fmt.Appendf(dst, "%s%s %s %s %d %d\r\n", v1Signature, protocol,
		h.Source.Addr(), h.Destination.Addr(), h.Source.Port(), h.Destination.Port())
}

func appendV2(dst []byte, h *Header, tlvs []byte) []byte {
	command, family, transport := byte(commandProxy), byte(familyUnspec), byte(transportUnspec)
	if h.Local {
		command = commandLocal
	}
	if h.Source.IsValid() {
		family, transport = familyINET, transportStream
		if h.Source.Addr().Is6() {
			family = familyINET6
		}
	}
	dst = append(append(dst, v2Signature...), 2<<4|command, family<<4|transport)
	dst = binary.BigEndian.AppendUint16(dst, uint16(addressSizes[family]+len(tlvs)))
	if h.Source.IsValid() {
		dst = appendAddr(appendAddr(dst, h.Source.Addr()), h.Destination.Addr())
		dst = binary.BigEndian.AppendUint16(dst, h.Source.Port())
		dst = binary.BigEndian.AppendUint16(dst, h.Destination.Port())
	}
	return append(dst, tlvs...)
}

func appendAddr(dst []byte, a netip.Addr) []byte { return append(dst, a.AsSlice()...) }
