package proxy

import (
	"bytes"
	"net/netip"
)

// Version 1 is a line of text (2.1):
//
//	PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n
//	PROXY TCP6 2001:db8::1 2001:db8::2 56324 443\r\n
//	PROXY UNKNOWN\r\n
//	PROXY UNKNOWN anything\r\n
//
// A prefix is judged field by field by a grammar of its bytes; the values are
// made when the line is complete.
const v1Signature = "PROXY "

// field is what stands between two separators of the line.
type field struct {
	prefix func([]byte) int // offset of the first byte at which no good value begins so, -1 if there is none
	ends   func([]byte) bool
}

var (
	fieldIP4  = field{spoilsIP4, isAddr}
	fieldIP6  = field{spoilsIP6, isAddr}
	fieldPort = field{spoilsPort, func(b []byte) bool { return len(b) > 0 }}

	fieldsTCP4 = [...]field{fieldIP4, fieldIP4, fieldPort, fieldPort}
	fieldsTCP6 = [...]field{fieldIP6, fieldIP6, fieldPort, fieldPort}
)

func nextV1(p []byte) (Header, int, error) {
	if at := matches(p, v1Signature); at >= 0 {
		return Header{}, 0, spoilt(NoHeader, at, "it begins with neither version's signature")
	}
	if len(p) < len(v1Signature) {
		return Header{}, 0, nil
	}
	p = p[:min(len(p), MaxV1)]
	h, n, at := lineV1(p)
	if last := MaxV1 - 2; n == 0 && len(p) > last && p[last] != '\r' && (at < 0 || at > last) {
		at = last // 2.1: the CRLF must be among the first 107 bytes
	}
	if n == 0 && at < 0 && len(p) == MaxV1 {
		at = MaxV1 - 1
	}
	if at >= 0 {
		return Header{}, 0, spoilt(BadLine, at, "the line is not as version 1 wants it")
	}
	return h, n, nil
}

// lineV1 reads the line behind the signature. at is the offset of the byte that
// spoils it, -1 if none does.
func lineV1(p []byte) (h Header, n, at int) {
	const start = len(v1Signature)
	furthest := 0
	for _, protocol := range []string{"TCP4 ", "TCP6 ", "UNKNOWN"} {
		at := matches(p[start:], protocol)
		if at >= 0 {
			furthest = max(furthest, at)
			continue
		}
		if len(p) < start+len(protocol) {
			return Header{}, 0, -1
		}
		switch from := start + len(protocol); protocol {
		case "TCP4 ":
			return addressesV1(p, from, fieldsTCP4[:])
		case "TCP6 ":
			return addressesV1(p, from, fieldsTCP6[:])
		default:
			return unknownV1(p, from)
		}
	}
	return Header{}, 0, start + furthest
}

// unknownV1 skips what follows UNKNOWN: all before the CRLF is to be ignored, and
// a CR or LF alone does not end the line (2.1).
func unknownV1(p []byte, from int) (h Header, n, at int) {
	if len(p) <= from {
		return Header{}, 0, -1
	}
	if c := p[from]; c != ' ' && c != '\r' {
		return Header{}, 0, from
	}
	if p[from] == '\r' && len(p) > from+1 && p[from+1] != '\n' {
		return Header{}, 0, from + 1
	}
	if i := bytes.Index(p[from:], []byte("\r\n")); i >= 0 {
		return Header{Version: 1}, from + i + 2, -1
	}
	return Header{}, 0, -1
}

// addressesV1 reads the four fields from offset from on, each behind exactly one
// space, and the CRLF.
func addressesV1(p []byte, from int, fields []field) (h Header, n, at int) {
	var values [4][]byte
	for i, f := range fields {
		end := byte(' ')
		if i == len(fields)-1 {
			end = '\r'
		}
		size := bytes.IndexByte(p[from:], end)
		value := p[from:]
		if size >= 0 {
			value = value[:size]
		}
		if at := f.prefix(value); at >= 0 {
			return Header{}, 0, from + at
		}
		if size < 0 {
			return Header{}, 0, -1
		}
		if !f.ends(value) {
			return Header{}, 0, from + size
		}
		values[i] = value
		from += size + 1
	}
	if len(p) <= from {
		return Header{}, 0, -1
	}
	if p[from] != '\n' {
		return Header{}, 0, from
	}
	h = Header{Version: 1, Source: addrPort(values[0], values[2]), Destination: addrPort(values[1], values[3])}
	return h, from + 1, -1
}

// addrPort makes an address of two fields that have been found good.
func addrPort(addr, port []byte) netip.AddrPort {
	ip, _ := netip.ParseAddr(string(addr))
	n := 0
	for _, c := range port {
		n = n*10 + int(c-'0')
	}
	return netip.AddrPortFrom(ip, uint16(n))
}

// isAddr reports whether b, a beginning of an address, is a whole one.
func isAddr(b []byte) bool {
	_, err := netip.ParseAddr(string(b))
	return err == nil
}

// spoilsPort wants a decimal number up to 65535 without a heading zero.
func spoilsPort(b []byte) int { return spoilsNumber(b, 65535) }

// spoilsNumber is for decimal numbers from 0 to most without a heading zero.
func spoilsNumber(b []byte, most int) int {
	n := 0
	for i, c := range b {
		if c < '0' || c > '9' || i > 0 && n == 0 {
			return i
		}
		if n = n*10 + int(c-'0'); n > most {
			return i
		}
	}
	return -1
}

// spoilsIP4 wants four numbers up to 255 with dots between.
func spoilsIP4(b []byte) int {
	from := 0
	for part := 1; ; part++ {
		size := bytes.IndexByte(b[from:], '.')
		value := b[from:]
		if size >= 0 {
			value = value[:size]
		}
		if at := spoilsNumber(value, 255); at >= 0 {
			return from + at
		}
		if size < 0 {
			return -1
		}
		if size == 0 || part == 4 {
			return from + size
		}
		from += size + 1
	}
}

// spoilsIP6 wants groups of up to four hexadecimal digits with colons between,
// of which one double colon may stand for the zeroes of at least one group. The
// last two groups may be written like an IPv4 address: 2.1 does not say so, but
// what makes the text of a mapped address for the proxies writes them so.
func spoilsIP6(b []byte) int {
	groups, digits := 0, 0 // groups begun; digits of the one that runs
	most := 8              // groups that may be written out
	for i, c := range b {
		switch {
		case isHex(c):
			if digits == 0 {
				groups++
			}
			digits++
			if digits > 4 || groups > most || i == 1 && b[0] == ':' {
				return i
			}
		case c == ':' && digits > 0: // the group ends, another must follow
			digits = 0
			if groups == most {
				return i
			}
		case c == ':' && i == 0: // a double colon must come of it
		case c == ':' && most == 8: // the double colon: behind a colon, as no group runs
			most = 7
		case c == '.' && digits > 0 && (groups == 7 && most == 8 || groups < 7 && most == 7):
			// What looked like hexadecimal was good until this dot.
			if at := spoilsIP4(b[i-digits:]); at >= 0 {
				return max(i, i-digits+at)
			}
			return -1
		default:
			return i
		}
	}
	return -1
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}
