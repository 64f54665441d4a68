package proxy

import (
	"encoding/binary"
	"hash/crc32"
	"net/netip"
)

// Version 2 is binary (2.2):
//
//	12 bytes  signature
//	 1        version 2 in the high four bits, command in the low four
//	 1        address family in the high four bits, transport protocol in the low four
//	 2        length of what follows, big endian
//	          source and destination address, source and destination port
//	          TLVs: type (1), length (2), value
const v2Signature = "\r\n\r\n\x00\r\nQUIT\n"

const (
	v2Fixed = 16 // bytes before the addresses

	offVersion = 12
	offFamily  = 13
	offLength  = 14

	commandLocal = 0x0
	commandProxy = 0x1

	familyUnspec = 0x0
	familyINET   = 0x1
	familyINET6  = 0x2
	familyUNIX   = 0x3

	transportUnspec = 0x0
	transportStream = 0x1
	transportDgram  = 0x2

	tlvHeader = 3
	tlvCRC32C = 0x03 // PP2_TYPE_CRC32C
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// addressSizes are the lengths of the two addresses and ports, by family.
var addressSizes = [...]int{familyUnspec: 0, familyINET: 12, familyINET6: 36, familyUNIX: 216}

func nextV2(p []byte) (Header, int, error) {
	if at := matches(p, v2Signature); at >= 0 {
		return Header{}, 0, spoilt(NoHeader, at, "it begins with neither version's signature")
	}
	if err := checkFixed(p); err != nil {
		return Header{}, 0, err
	}
	if len(p) < v2Fixed {
		return Header{}, 0, nil
	}
	n := v2Fixed + int(binary.BigEndian.Uint16(p[offLength:]))
	h := Header{Version: 2, Local: command(p) == commandLocal}
	if !addressed(p) {
		// LOCAL: the block is to be discarded, family included. UNSPEC: where
		// addresses of an unknown kind end and TLVs begin cannot be told.
		if len(p) < n {
			return Header{}, 0, nil
		}
		return h, n, nil
	}
	block := p[v2Fixed:min(n, len(p))]
	size := addressSizes[p[offFamily]>>4]
	if err := checkTLVs(p, v2Fixed+size, n); err != nil {
		return Header{}, 0, err
	}
	if len(p) < n {
		return Header{}, 0, nil // 2.2: no address is read before the whole block is there
	}
	h.Source, h.Destination = addressesV2(p[offFamily]>>4, block)
	h.TLVs = block[size:]
	return h, n, nil
}

func command(p []byte) byte { return p[offVersion] & 0xf }

// addressed reports whether the header's block begins with addresses whose length is known.
func addressed(p []byte) bool {
	family, transport := p[offFamily]>>4, p[offFamily]&0xf
	return command(p) == commandProxy && family != familyUnspec && transport != transportUnspec
}

// checkFixed looks at the fixed bytes behind the signature, as many as there are.
func checkFixed(p []byte) error {
	if len(p) > offVersion {
		if v := p[offVersion] >> 4; v != 2 {
			return spoilt(BadVersion, offVersion, "version %d, want 2", v)
		}
		if command(p) > commandProxy {
			return spoilt(BadCommand, offVersion, "command %d is unassigned", command(p))
		}
	}
	if len(p) > offFamily && command(p) == commandProxy {
		if family, transport := p[offFamily]>>4, p[offFamily]&0xf; family > familyUNIX || transport > transportDgram {
			return spoilt(BadFamily, offFamily, "family %d, protocol %d: unassigned", family, transport)
		}
	}
	if len(p) > offLength && int(p[offLength])<<8 > MaxV2-v2Fixed {
		return spoilt(BadLength, offLength, "it is longer than %d bytes", MaxV2)
	}
	if len(p) >= v2Fixed {
		return checkLength(p)
	}
	return nil
}

func checkLength(p []byte) error {
	n := int(binary.BigEndian.Uint16(p[offLength:]))
	if n > MaxV2-v2Fixed {
		return spoilt(BadLength, offLength+1, "it has %d bytes, want at most %d", v2Fixed+n, MaxV2)
	}
	if !addressed(p) {
		return nil
	}
	size := addressSizes[p[offFamily]>>4]
	if n < size {
		return spoilt(BadLength, offLength+1, "%d bytes cannot hold addresses of %d", n, size)
	}
	if ragged(n - size) {
		return spoilt(BadTLV, offLength+1, "%d bytes behind the addresses are no extensions", n-size)
	}
	return nil
}

// ragged reports whether so many bytes are neither nothing nor room for an extension.
func ragged(rest int) bool { return rest < 0 || rest > 0 && rest < tlvHeader }

// checkTLVs walks over the extensions, from offset from of the header of n
// bytes, as far as p goes. They must fill it, and a checksum must be right.
func checkTLVs(p []byte, from, n int) error {
	sum := 0 // offset of the checksum's value
	for from < n && from < len(p) {
		isSum := p[from] == tlvCRC32C
		if isSum && sum > 0 {
			return spoilt(BadTLV, from, "a second checksum")
		}
		if len(p) > from+1 {
			if least := int(p[from+1]) << 8; from+tlvHeader+least > n || isSum && least > 0 {
				return spoilt(BadTLV, from+1, "extension %#x has %d bytes or more, too many", p[from], least)
			}
		}
		if len(p) < from+tlvHeader {
			return nil
		}
		size := int(binary.BigEndian.Uint16(p[from+1:]))
		if ragged(n-from-tlvHeader-size) || isSum && size != crc32.Size {
			return spoilt(BadTLV, from+2, "extension %#x has %d bytes, they do not fit", p[from], size)
		}
		if isSum {
			sum = from + tlvHeader
		}
		from += tlvHeader + size
	}
	if sum > 0 && len(p) >= n && checksum(p[:n], sum) != binary.BigEndian.Uint32(p[sum:]) {
		return spoilt(BadChecksum, n-1, "the checksum is not that of the header")
	}
	return nil
}

// checksum is the CRC32c of a header whose checksum at offset at counts as zeroes (2.2.3).
func checksum(header []byte, at int) uint32 {
	var zeroes [crc32.Size]byte
	sum := crc32.Update(0, castagnoli, header[:at])
	sum = crc32.Update(sum, castagnoli, zeroes[:])
	return crc32.Update(sum, castagnoli, header[at+crc32.Size:])
}

// addressesV2 reads the addresses of a block that is long enough.
func addressesV2(family byte, b []byte) (source, destination netip.AddrPort) {
	port := func(at int) uint16 { return binary.BigEndian.Uint16(b[at:]) }
	switch family {
	case familyINET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b)), port(8)),
			netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:])), port(10))
	case familyINET6:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(b)), port(32)),
			netip.AddrPortFrom(netip.AddrFrom16([16]byte(b[16:])), port(34))
	}
	return netip.AddrPort{}, netip.AddrPort{} // Unix sockets: no address of the Internet
}
