package proxy

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

// feed shows a header byte by byte and holds Next to its promises: a good header
// is asked for until its last byte and means the same whatever follows; a bad one
// is refused at the byte that spoils it and never before.
func feed(t testing.TB, p []byte) (Header, int, error) {
	t.Helper()
	h, n, err := Next(p)
	limit := len(p)
	var refused *Error
	switch {
	case errors.As(err, &refused):
		limit = refused.At
		if refused.At >= len(p) || n != 0 {
			t.Fatalf("%q: refused at byte %d of %d, n %d", p, refused.At, len(p), n)
		}
	case err != nil:
		t.Fatalf("%q: %v is no *Error", p, err)
	case n > 0:
		limit = n - 1
	}
	if n > MaxV2 || n == 0 && err == nil && len(p) >= MaxV2 {
		t.Fatalf("%q: n %d of %d bytes: more than MaxV2 are asked for", p, n, len(p))
	}
	for i := range limit + 1 {
		if _, n, err := Next(p[:i]); n != 0 || err != nil {
			t.Fatalf("%q: %d, %v for the first %d bytes, the whole is %d, %v", p, n, err, i, limit, refused)
		}
	}
	for i := limit + 1; i <= len(p) && (n > 0 || err != nil); i++ {
		h2, n2, err2 := Next(p[:i])
		if n2 != n || !reflect.DeepEqual(h2, h) || !reflect.DeepEqual(err2, err) {
			t.Fatalf("%q: %v, %d, %v with %d bytes; %v, %d, %v with all", p, h2, n2, err2, i, h, n, err)
		}
	}
	return h, n, err
}

func ap(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func unhex(s string) []byte {
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		panic(err)
	}
	return b
}

// v2 is a version 2 header: signature, then bytes in hexadecimal.
func v2(s string) string { return v2Signature + string(unhex(s)) }

// TestGood has the headers of the specification and the edges of what it allows.
func TestGood(t *testing.T) {
	longest := "PROXY UNKNOWN " + strings.Repeat("ffff:", 7) + "ffff " + strings.Repeat("ffff:", 7) + "ffff 65535 65535\r\n"
	if len(longest) != MaxV1 {
		t.Fatal(len(longest))
	}
	none := netip.AddrPort{}
	for _, c := range []struct {
		name, header string
		version      uint8
		local        bool
		src, dst     netip.AddrPort
	}{
		{"2.1 example", "PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n", 1, false, ap("192.168.0.1:56324"), ap("192.168.0.11:443")},
		{"2.1 longest TCP4", "PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", 1, false, ap("255.255.255.255:65535"), ap("255.255.255.255:65535")},
		{"2.1 port and numbers 0", "PROXY TCP4 0.0.0.0 10.0.0.1 0 0\r\n", 1, false, ap("0.0.0.0:0"), ap("10.0.0.1:0")},
		{"2.1 longest TCP6", "PROXY TCP6 " + strings.Repeat("ffff:", 7) + "ffff " + strings.Repeat("ffff:", 7) + "ffff 65535 65535\r\n", 1, false,
			ap("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"), ap("[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535")},
		{"2.1 double colon", "PROXY TCP6 2001:DB8::1 :: 1 2\r\n", 1, false, ap("[2001:db8::1]:1"), ap("[::]:2")},
		{"2.1 double colon at the end", "PROXY TCP6 1:2:3:4:5:6:7:: fe80:: 1 2\r\n", 1, false, ap("[1:2:3:4:5:6:7:0]:1"), ap("[fe80::]:2")},
		{"mapped, as inet_ntop writes it", "PROXY TCP6 ::ffff:192.0.2.1 ::ffff:192.0.2.2 1 2\r\n", 1, false, ap("[::ffff:192.0.2.1]:1"), ap("[::ffff:192.0.2.2]:2")},
		{"2.1 UNKNOWN short", "PROXY UNKNOWN\r\n", 1, false, none, none},
		{"2.1 UNKNOWN longest", longest, 1, false, none, none},
		{"2.1 UNKNOWN with anything", "PROXY UNKNOWN a\rb\nc \x00\xff\r\n", 1, false, none, none},
		{"2.2 PROXY TCP4", v2("21 11 000c c0000201 c6336401 dc04 01bb"), 2, false, ap("192.0.2.1:56324"), ap("198.51.100.1:443")},
		{"2.2 PROXY UDP4", v2("21 12 000c c0000201 c6336401 dc04 01bb"), 2, false, ap("192.0.2.1:56324"), ap("198.51.100.1:443")},
		{"2.2 PROXY TCP6", v2("21 21 0024 20010db8000000000000000000000001 20010db8000000000000000000000002 0001 0002"), 2, false, ap("[2001:db8::1]:1"), ap("[2001:db8::2]:2")},
		{"2.2 PROXY UNIX", v2("21 31 00d8" + strings.Repeat("2f", 216)), 2, false, none, none},
		{"2.2 LOCAL", v2("20 00 0000"), 2, true, none, none},
		{"2.2 LOCAL, what follows is discarded", v2("20 11 000c c0000201 c6336401 dc04 01bb"), 2, true, none, none},
		{"2.2 LOCAL, family ignored", v2("20 ff 0003 aabbcc"), 2, true, none, none},
		{"2.2 UNSPEC", v2("21 00 0000"), 2, false, none, none},
		{"2.2 UNSPEC with unknown addresses", v2("21 00 0005 0102030405"), 2, false, none, none},
		{"2.2 AF_INET, protocol UNSPEC", v2("21 10 000c c0000201 c6336401 dc04 01bb"), 2, false, none, none},
		{"2.2 TLVs", v2("21 11 0016 c0000201 c6336401 dc04 01bb 01 0002 6832 04 0002 0000"), 2, false, ap("192.0.2.1:56324"), ap("198.51.100.1:443")},
		{"2.2 empty TLV", v2("21 11 000f c0000201 c6336401 dc04 01bb 04 0000"), 2, false, ap("192.0.2.1:56324"), ap("198.51.100.1:443")},
		{"longest", v2("21 11 0800 c0000201 c6336401 dc04 01bb 04 07f1" + strings.Repeat("00", 0x7f1)), 2, false, ap("192.0.2.1:56324"), ap("198.51.100.1:443")},
	} {
		t.Run(c.name, func(t *testing.T) {
			h, n, err := feed(t, []byte(c.header+"\r\nPROXY rest"))
			if err != nil || n != len(c.header) {
				t.Fatalf("%d, %v, want %d", n, err, len(c.header))
			}
			if h.Version != c.version || h.Local != c.local || h.Source != c.src || h.Destination != c.dst {
				t.Errorf("got %+v", h)
			}
		})
	}
}

// TestBad has what must be refused, and the byte at which it must.
func TestBad(t *testing.T) {
	for _, c := range []struct {
		name, header string
		reason       Reason
		at           int
	}{
		{"nothing of the kind", "GET / HTTP/1.1", NoHeader, 0},
		{"a native frame", "\x01\x10\x00\x05", NoHeader, 0},
		{"lower case", "Proxy TCP4", NoHeader, 1},
		{"no space", "PROXY\r\n", NoHeader, 5},
		{"blank line only", "\r\n\r\nGET", NoHeader, 4},
		{"2.1 family", "PROXY TCP5 ", BadLine, 9},
		{"2.1 family UDP", "PROXY UDP4 ", BadLine, 7},
		{"2.1 UNKNOWNs", "PROXY UNKNOWNX\r\n", BadLine, 13},
		{"2.1 CR without LF", "PROXY UNKNOWN\rx", BadLine, 14},
		{"2.1 LF alone", "PROXY UNKNOWN\nx", BadLine, 13},
		{"2.1 two spaces", "PROXY TCP4  1.2.3.4", BadLine, 11},
		{"2.1 heading zero", "PROXY TCP4 01.2.3.4", BadLine, 12},
		{"2.1 number above 255", "PROXY TCP4 1.256.3.4", BadLine, 15},
		{"2.1 three numbers", "PROXY TCP4 1.2.3 ", BadLine, 16},
		{"2.1 five numbers", "PROXY TCP4 1.2.3.4.", BadLine, 18},
		{"2.1 no number", "PROXY TCP4 1..2", BadLine, 13},
		{"2.1 not the family announced", "PROXY TCP4 2001:", BadLine, 14},
		{"2.1 v4 announced as v6", "PROXY TCP6 1.2.3.4", BadLine, 12},
		{"2.1 nine groups", "PROXY TCP6 1:2:3:4:5:6:7:8:", BadLine, 26},
		{"2.1 group of five", "PROXY TCP6 12345", BadLine, 15},
		{"2.1 two double colons", "PROXY TCP6 1::2::", BadLine, 16},
		{"2.1 three colons", "PROXY TCP6 1:::", BadLine, 14},
		{"2.1 one colon at the beginning", "PROXY TCP6 :1", BadLine, 12},
		{"2.1 one colon at the end", "PROXY TCP6 1:2: ", BadLine, 15},
		{"2.1 double colon for nothing", "PROXY TCP6 1:2:3:4::5:6:7:8", BadLine, 25},
		{"2.1 too few groups", "PROXY TCP6 1:2:3 ", BadLine, 16},
		{"2.1 zone", "PROXY TCP6 fe80::1%eth0 ", BadLine, 18},
		{"2.1 port above 65535", "PROXY TCP4 1.2.3.4 1.2.3.4 65536", BadLine, 31},
		{"2.1 port with a heading zero", "PROXY TCP4 1.2.3.4 1.2.3.4 00", BadLine, 28},
		{"2.1 no port", "PROXY TCP4 1.2.3.4 1.2.3.4 \r", BadLine, 27},
		{"2.1 no second port", "PROXY TCP4 1.2.3.4 1.2.3.4 1 \r", BadLine, 29},
		{"2.1 one port only", "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", BadLine, 28},
		{"2.1 negative port", "PROXY TCP4 1.2.3.4 1.2.3.4 -1", BadLine, 27},
		{"2.1 space behind", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", BadLine, 30},
		{"2.1 LF alone behind ports", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", BadLine, 30},
		{"2.1 CR alone behind ports", "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\rx", BadLine, 31},
		{"2.1 108 bytes", "PROXY UNKNOWN " + strings.Repeat("x", MaxV1-14-1) + "\r\n", BadLine, MaxV1 - 2},
		{"2.1 CR is byte 107's", "PROXY UNKNOWN " + strings.Repeat("x", MaxV1-14-2) + "\rx\n", BadLine, MaxV1 - 1},
		{"2.1 no end", "PROXY UNKNOWN " + strings.Repeat("x", 1000), BadLine, MaxV1 - 2},
		{"2.2 version 1", v2("11 11 000c"), BadVersion, 12},
		{"2.2 version 3", v2("31 11 000c"), BadVersion, 12},
		{"2.2 command", v2("22 11 000c"), BadCommand, 12},
		{"2.2 family", v2("21 41 000c"), BadFamily, 13},
		{"2.2 protocol", v2("21 13 000c"), BadFamily, 13},
		{"2.2 no room for addresses", v2("21 11 000b"), BadLength, 15},
		{"2.2 no room for v6 addresses", v2("21 21 0023"), BadLength, 15},
		{"2.2 no room for paths", v2("21 31 00d7"), BadLength, 15},
		{"too long by one", v2("21 11 0801"), BadLength, 15},
		{"far too long", v2("20 00 ffff"), BadLength, 14},
		{"2.2 a byte behind the addresses", v2("21 11 000d"), BadTLV, 15},
		{"2.2 two bytes behind the addresses", v2("21 11 000e"), BadTLV, 15},
		{"2.2 TLV longer than the header", v2("21 11 0010 c0000201 c6336401 dc04 01bb 01 0002"), BadTLV, 30},
		{"2.2 TLV far longer than the header", v2("21 11 0010 c0000201 c6336401 dc04 01bb 01 0100"), BadTLV, 29},
		{"2.2 TLV that leaves a byte", v2("21 11 0011 c0000201 c6336401 dc04 01bb 01 0001"), BadTLV, 30},
		{"2.2.3 checksum of 3 bytes", v2("21 11 0013 c0000201 c6336401 dc04 01bb 03 0003"), BadTLV, 30},
		{"2.2.3 checksum of 260 bytes", v2("21 11 0200 c0000201 c6336401 dc04 01bb 03 0104"), BadTLV, 29},
		{"2.2.3 wrong checksum", v2("21 11 0013 c0000201 c6336401 dc04 01bb 03 0004 00000000"), BadChecksum, 34},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, _, err := feed(t, []byte(c.header))
			var e *Error
			if !errors.As(err, &e) || e.Reason != c.reason || e.At != c.at {
				t.Errorf("%v (%+v), want %v at %d", err, e, c.reason, c.at)
			}
		})
	}
}

// TestChecksum has a header whose checksum was made by another implementation
// (HAProxy 2.6 with proxy-v2-options crc32c), and ours behind other extensions.
func TestChecksum(t *testing.T) {
	foreign := []byte(v2("21 11 0016 7f000007 7f000001 c8f9 74af 03 0004 332fc37b 05 0000"))
	if h, n, err := feed(t, foreign); err != nil || n != len(foreign) || h.Source != ap("127.0.0.7:51449") || h.Destination != ap("127.0.0.1:29871") {
		t.Fatalf("%+v, %d, %v", h, n, err)
	}
	tlvs := AppendTLV(AppendTLV(nil, 0x02, []byte("example.com")), 0x20, unhex("01 00000000 21 0007 544c5376312e33"))
	h := Header{Version: 2, Source: ap("192.0.2.1:56324"), Destination: ap("198.51.100.1:443"), TLVs: tlvs}
	good := AppendChecked([]byte("before"), &h)[len("before"):]
	got, n, err := feed(t, good)
	if err != nil || n != len(good) || got.Source != h.Source || !bytes.HasPrefix(got.TLVs, tlvs) {
		t.Fatalf("%+v, %d, %v", got, n, err)
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			// A change of the length asks for more bytes, one of the type takes the
			// checksum away, one of the command or transport its meaning.
			h, n, err := Next(bad)
			if err == nil && n > 0 && h.Source.IsValid() && i != len(good)-7 {
				t.Errorf("bit %d of byte %d: %+v was accepted", bit, i, h)
			}
		}
	}
	twice := AppendTLV(AppendTLV(nil, tlvCRC32C, make([]byte, 4)), tlvCRC32C, make([]byte, 4))
	var e *Error
	if _, _, err := feed(t, Append(nil, &Header{Version: 2, Source: h.Source, Destination: h.Destination, TLVs: twice})); !errors.As(err, &e) || e.Reason != BadTLV {
		t.Errorf("two checksums: %v", err)
	}
}

// TestAppend reads back what is written.
func TestAppend(t *testing.T) {
	for _, h := range []Header{
		{Version: 1, Source: ap("192.0.2.1:1"), Destination: ap("192.0.2.2:65535")},
		{Version: 1, Source: ap("[2001:db8::1]:1"), Destination: ap("[::]:0")},
		{Version: 1, Source: ap("[::ffff:1.2.3.4]:1"), Destination: ap("[::1]:0")},
		{Version: 1},
		{Version: 2, Source: ap("192.0.2.1:1"), Destination: ap("192.0.2.2:65535"), TLVs: []byte{}},
		{Version: 2, Source: ap("[2001:db8::1]:1"), Destination: ap("[::ffff:1.2.3.4]:0"), TLVs: AppendTLV(nil, 0xe0, []byte("x"))},
		{Version: 2, Local: true},
		{Version: 2},
	} {
		p := Append(nil, &h)
		got, n, err := feed(t, append(p, "rest"...))
		if err != nil || n != len(p) || !reflect.DeepEqual(got, h) {
			t.Errorf("%+v came back as %+v, %d of %d, %v", h, got, n, len(p), err)
		}
	}
}

// TestViable holds the grammar of addresses to the parser of net/netip: a
// beginning is refused exactly if nothing makes a good address of it.
func TestViable(t *testing.T) {
	const depth = 7
	more := []string{""}
	for _, first := range []string{"", "0", ":", "::", ":0", "0::", "::0", ".0", ".0.0", ".0.0.0", "0.0", "0.0.0", "0.0.0.0"} {
		for groups := range 8 {
			more = append(more, first+strings.Repeat(":0", groups))
		}
	}
	canBecome := func(s string, want func(netip.Addr) bool) bool {
		for _, m := range more {
			if a, err := netip.ParseAddr(s + m); err == nil && want(a) {
				return true
			}
		}
		return false
	}
	for _, family := range []struct {
		alphabet string
		spoils   func([]byte) int
		want     func(netip.Addr) bool
	}{
		{"0125.", spoilsIP4, netip.Addr.Is4},
		{"0a:.", spoilsIP6, netip.Addr.Is6},
	} {
		var walk func(s string)
		walk = func(s string) {
			viable := family.spoils([]byte(s)) < 0
			if viable != canBecome(s, family.want) {
				t.Errorf("%q: viable is %v", s, viable)
			}
			if !viable || len(s) == depth {
				return // nothing that follows helps, TestBad has the rest
			}
			for _, c := range family.alphabet {
				walk(s + string(c))
			}
		}
		walk("")
	}
	for _, s := range []string{"1:2:3:4:5:6:7:", "1:2:3:4:5:6:7::", "1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5::1.2.3.4", "::1:2:3:4:5:6:7", "1::3:4:5:6:7:8"} {
		if at := spoilsIP6([]byte(s)); at >= 0 {
			t.Errorf("%q is spoilt at %d", s, at)
		}
	}
	for s, want := range map[string]int{"1:2:3:4:5:6:7:8:": 15, "1:2:3:4:5:6:7:1.": 15, "1:2:3:4:5:6::1.": 14, "1:2:3:4:5:6:7::1": 15, "::f.": 3, "::1.2.3.256": 10, "1:2:3:4:5:6:1.2.3.4.": 19} {
		if at := spoilsIP6([]byte(s)); at != want {
			t.Errorf("%q is spoilt at %d, want %d", s, at, want)
		}
	}
}

// FuzzNext holds Next to its promises for anything, and what it accepts to Append.
func FuzzNext(f *testing.F) {
	for _, h := range []Header{
		{Version: 1, Source: ap("192.0.2.1:1"), Destination: ap("192.0.2.2:65535")},
		{Version: 1, Source: ap("[2001:db8::1]:1"), Destination: ap("[::ffff:1.2.3.4]:0")},
		{Version: 1},
		{Version: 2, Source: ap("192.0.2.1:1"), Destination: ap("192.0.2.2:65535"), TLVs: AppendTLV(nil, 0x04, []byte("pad"))},
		{Version: 2, Source: ap("[2001:db8::1]:1"), Destination: ap("[::1]:0")},
		{Version: 2, Local: true},
	} {
		f.Add(append(Append(nil, &h), "rest"...))
		if h.Version == 2 && h.Source.IsValid() {
			f.Add(AppendChecked(nil, &h))
		}
	}
	f.Add([]byte("PROXY UNKNOWN what ever\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		h, n, err := feed(t, p[:min(len(p), MaxV2+10)])
		if err != nil || n == 0 || !h.Source.IsValid() {
			return
		}
		again, m, err := Next(Append(nil, &h))
		if err != nil || m == 0 || again.Source != h.Source || again.Destination != h.Destination || !bytes.Equal(again.TLVs, h.TLVs) {
			t.Fatalf("%+v became %+v, %d, %v", h, again, m, err)
		}
	})
}
