package ws

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	gobwas "github.com/gobwas/ws"
)

// codeOf is the close code of an error, 0 for none.
func codeOf(err *Error) uint16 {
	if err == nil {
		return 0
	}
	return err.Code
}

func TestHeaderFaults(t *testing.T) {
	for _, c := range []struct {
		name string
		head []byte // a complete header, but for what spoils it
		from Side
		code uint16
		at   int // bytes after which it must be refused
	}{
		{"RSV1", []byte{0xc1}, FromClient, CloseProtocol, 1},
		{"RSV2", []byte{0xa1}, FromClient, CloseProtocol, 1},
		{"RSV3", []byte{0x91}, FromClient, CloseProtocol, 1},
		{"opcode 3", []byte{0x83}, FromClient, CloseProtocol, 1},
		{"opcode 11", []byte{0x8b}, FromClient, CloseProtocol, 1},
		{"ping in fragments", []byte{0x09}, FromClient, CloseProtocol, 1},
		{"no mask", []byte{0x81, 0x05}, FromClient, CloseProtocol, 2},
		{"mask from the server", []byte{0x81, 0x85}, FromServer, CloseProtocol, 2},
		{"ping of 126", []byte{0x89, 0xfe}, FromClient, CloseProtocol, 2},
		{"close of 64 bits", []byte{0x88, 0xff}, FromClient, CloseProtocol, 2},
		{"125 in 16 bits", []byte{0x82, 0xfe, 0, 125}, FromClient, CloseProtocol, 4},
		{"65535 in 64 bits", []byte{0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, FromClient, CloseProtocol, 10},
		{"highest bit", []byte{0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0}, FromClient, CloseProtocol, 10},
		{"one too many", []byte{0x82, 0xfe, 0x03, 0xe9}, FromClient, CloseTooBig, 4},
		{"2^63-1 bytes", []byte{0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, FromClient, CloseTooBig, 10},
	} {
		for n := range len(c.head) + 1 {
			h, size, err := NextHeader(c.head[:n], c.from, 1000)
			want := uint16(0)
			if n >= c.at {
				want = c.code
			}
			if codeOf(err) != want || size != 0 {
				t.Errorf("%s: after %d bytes %+v, %d, %v; want code %d", c.name, n, h, size, err, want)
			}
		}
	}
}

func TestHeaderLengths(t *testing.T) {
	mask := [4]byte{9, 8, 7, 6}
	for _, c := range []struct{ length, size int }{
		{0, 2}, {1, 2}, {125, 2}, {126, 4}, {127, 4}, {65535, 4}, {65536, 10}, {1 << 40, 10},
	} {
		for _, masked := range []bool{false, true} {
			in, from, size := Header{Fin: true, Op: Binary, Length: c.length}, FromServer, c.size
			if masked {
				in.Masked, in.Mask, from = true, mask, FromClient
				size += 4
			}
			b := AppendHeader([]byte("x"), in)[1:]
			if len(b) != size {
				t.Fatalf("%d bytes: a header of %d bytes, want %d", c.length, len(b), size)
			}
			for n := range len(b) + 1 {
				h, got, err := NextHeader(b[:n], from, c.length)
				switch {
				case err != nil, n < len(b) && got != 0, n == len(b) && (got != size || h != in):
					t.Fatalf("%d bytes, cut at %d: %+v, %d, %v", c.length, n, h, got, err)
				}
			}
			if _, _, err := NextHeader(b, from, c.length-1); c.length > 0 && codeOf(err) != CloseTooBig {
				t.Errorf("%d bytes where %d are allowed: %v", c.length, c.length-1, err)
			}
		}
	}
}

func TestWrapAndMask(t *testing.T) {
	for _, n := range []int{0, 1, 3, 7, 8, 9, 125, 126, 65535, 65536} {
		payload := bytes.Repeat([]byte{0xa5, 1, 2}, n/3+1)[:n]
		out := Wrap(append([]byte("before"), payload...), 6, Text)
		want := append([]byte("before"), AppendHeader(nil, Header{Fin: true, Op: Text, Length: n})...)
		if want = append(want, payload...); !bytes.Equal(out, want) {
			t.Fatalf("%d bytes: wrapped as %.40x", n, out)
		}
		mask := [4]byte{1, 0xff, 3, 0x80}
		out = Mask(append([]byte("before"), payload...), 6, Text, false, mask)
		h, size, err := NextHeader(out[6:], FromClient, n)
		if err != nil || h != (Header{Op: Text, Masked: true, Mask: mask, Length: n}) {
			t.Fatalf("%d bytes: masked with header %+v, %v", n, h, err)
		}
		for i, c := range out[6+size:] {
			if c != payload[i]^mask[i%4] {
				t.Fatalf("%d bytes: byte %d is %x", n, i, c)
			}
		}
	}
}

func TestClose(t *testing.T) {
	payload := func(code int, reason string) []byte {
		return append(binary.BigEndian.AppendUint16(nil, uint16(code)), reason...)
	}
	for _, c := range []struct {
		payload []byte
		code    uint16
		fault   uint16
	}{
		{nil, CloseNoStatus, 0},
		{[]byte{3}, 0, CloseProtocol},
		{payload(1000, ""), 1000, 0},
		{payload(1000, "bye"), 1000, 0},
		{payload(1003, "κόσμε"), 1003, 0},
		{payload(1000, "\xed\xa0\x80"), 0, CloseBadPayload},
		{payload(1000, "half \xce"), 0, CloseBadPayload},
		{payload(0, ""), 0, CloseProtocol}, {payload(999, ""), 0, CloseProtocol}, {payload(1004, ""), 0, CloseProtocol},
		{payload(1005, ""), 0, CloseProtocol}, {payload(1006, ""), 0, CloseProtocol}, {payload(1014, ""), 1014, 0},
		{payload(1015, ""), 0, CloseProtocol}, {payload(1016, ""), 0, CloseProtocol}, {payload(2999, ""), 0, CloseProtocol},
		{payload(3000, ""), 3000, 0}, {payload(3999, ""), 3999, 0}, {payload(4000, ""), 4000, 0}, {payload(4999, ""), 4999, 0},
		{payload(5000, ""), 0, CloseProtocol}, {payload(65535, ""), 0, CloseProtocol},
	} {
		code, reason, err := ParseClose(c.payload)
		if code != c.code || codeOf(err) != c.fault {
			t.Errorf("%q: %d %q, %v; want %d and fault %d", c.payload, code, reason, err, c.code, c.fault)
		}
		if err == nil && len(c.payload) > 2 && string(reason) != string(c.payload[2:]) {
			t.Errorf("%q has the reason %q", c.payload, reason)
		}
	}
}

func TestAppendClose(t *testing.T) {
	for _, c := range []struct {
		code   uint16
		reason string
		want   string // payload
	}{
		{1000, "", "\x03\xe8"},
		{4101, "AnotherLogin", "\x10\x05AnotherLogin"},
		{1005, "never on the wire", ""},
		{0, "", ""},
		{1000, string(bytes.Repeat([]byte("a"), 200)), "\x03\xe8" + string(bytes.Repeat([]byte("a"), 123))},
		{1000, string(bytes.Repeat([]byte("a"), 122)) + "é", "\x03\xe8" + string(bytes.Repeat([]byte("a"), 122))},
	} {
		out := AppendClose([]byte("x"), c.code, c.reason)[1:]
		h, n, err := NextHeader(out, FromServer, MaxControl)
		if err != nil || h.Op != Close || !h.Fin || string(out[n:]) != c.want || h.Length != len(c.want) {
			t.Errorf("%d %.20q: %x, %v", c.code, c.reason, out, err)
		}
	}
}

// FuzzHeader holds our decoder to the library's: what we take it reads alike, and
// what it refuses, or we do for a clause that it leaves to its caller, we refuse.
func FuzzHeader(f *testing.F) {
	f.Add([]byte{0x81, 0x85, 1, 2, 3, 4, 5, 6, 7, 8, 9}, true)
	f.Add([]byte{0x82, 0xfe, 0x01, 0x00, 1, 2, 3, 4}, true)
	f.Add([]byte{0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0}, false)
	f.Add([]byte{0x89, 0x00}, false)
	f.Fuzz(func(t *testing.T, p []byte, client bool) {
		from := FromServer
		if client {
			from = FromClient
		}
		h, n, err := NextHeader(p, from, 1<<40)
		theirs, theirErr := gobwas.ReadHeader(bytes.NewReader(p))
		switch {
		case err != nil && n != 0:
			t.Fatal("an error with a size")
		case err == nil && n == 0:
			if theirErr == nil {
				t.Fatalf("%x: incomplete for us, %+v for the library", p, theirs)
			}
		case err == nil:
			if theirErr != nil || theirs.Fin != h.Fin || byte(theirs.OpCode) != byte(h.Op) || theirs.Length != int64(h.Length) ||
				theirs.Masked != h.Masked || theirs.Mask != h.Mask || theirs.Rsv != 0 || h.Masked != client {
				t.Fatalf("%x: %+v for us, %+v %v for the library", p, h, theirs, theirErr)
			}
			if again := AppendHeader(nil, h); !bytes.Equal(again, p[:n]) {
				t.Fatalf("%x encodes again as %x", p[:n], again)
			}
			state := gobwas.StateClientSide
			if client {
				state = gobwas.StateServerSide
			}
			if err := gobwas.CheckHeader(theirs, state); err != nil && !errors.Is(err, gobwas.ErrProtocolContinuationUnexpected) {
				t.Fatalf("%x: the library says %v", p[:n], err)
			}
		}
		// The verdict does not wait for more than it needs, nor change with more.
		for cut := range min(len(p), MaxHeader) {
			_, m, e := NextHeader(p[:cut], from, 1<<40)
			if (e != nil && codeOf(e) != codeOf(err)) || (m != 0 && m != n) {
				t.Fatalf("%x: %d bytes say %d %v, all say %d %v", p, cut, m, e, n, err)
			}
		}
	})
}
