package tlslink

import (
	"bytes"
	"errors"
	"testing"
)

// hello returns a ClientHello message of n bytes in records of at most cut bytes.
func helloWire(n, cut int) (p []byte) {
	message := append([]byte{messageHello, byte((n - 4) >> 16), byte((n - 4) >> 8), byte(n - 4)}, make([]byte, n-4)...)
	for len(message) > 0 {
		f := message[:min(cut, len(message))]
		message = message[len(f):]
		p = append(append(p, recordHandshake, 3, 1, byte(len(f)>>8), byte(len(f))), f...)
	}
	return p
}

func TestHelloComplete(t *testing.T) {
	const most = messageHeader + maxHello
	for _, tt := range []struct {
		name string
		p    []byte
		want error
	}{
		{"plain", helloWire(300, maxPlain), nil},
		{"cut in the header", helloWire(60, 1), nil},
		{"as many records as may be", helloWire(64*3, 3), nil},
		{"one record more", helloWire(64*3+1, 3), ErrHelloSize},
		{"longest", helloWire(most, maxPlain), nil},
		{"too long", helloWire(most+1, maxPlain), ErrHelloSize},
		{"a second message behind", append(helloWire(300, 200), 20, 3), nil},
		{"empty record", append([]byte{22, 3, 1, 0, 0}, helloWire(300, 200)...), ErrNotTLS},
		{"alert", []byte{21, 3, 1, 0, 2, 1, 0}, ErrNotTLS},
		{"alert between", append(helloWire(300, 200)[:205], 21), ErrNotTLS},
		{"version", []byte{22, 2}, ErrNotTLS},
		{"minor version", []byte{22, 3, 5}, ErrNotTLS},
		{"record too long", []byte{22, 3, 1, 0x40, 1}, ErrNotTLS},
		{"other message", []byte{22, 3, 1, 0, 4, 2}, ErrNotTLS},
	} {
		whole, err := helloComplete(tt.p)
		if !errors.Is(err, tt.want) || whole != (tt.want == nil) {
			t.Errorf("%s: %v, %v; want %v", tt.name, whole, err, tt.want)
		}
		// Byte by byte: nothing until the last one, or the error as soon as it shows.
		for i := range tt.p {
			whole, err := helloComplete(tt.p[:i])
			if err != nil && tt.want == nil || whole && i < len(tt.p)-2 {
				t.Errorf("%s: %v, %v after %d bytes", tt.name, whole, err, i)
				break
			}
		}
	}
}

func TestWholeRecords(t *testing.T) {
	record := []byte{23, 3, 3, 0, 2, 1, 2}
	two := bytes.Repeat(record, 2)
	for _, tt := range []struct {
		p    []byte
		want int
	}{
		{nil, 0},
		{record[:4], 0},
		{record[:6], 0},
		{record, 7},
		{two[:13], 7},
		{two, 14},
		{[]byte{23, 3, 3, 0, 0}, 5},
		{[]byte{23, 3, 3, 0x48, 0}, 0}, // the longest that is legal
		{append(bytes.Clone(record), 23, 3, 3, 0x48, 1), len(two) - 2}, // one more: shown at once
	} {
		if got := wholeRecords(tt.p); got != tt.want {
			t.Errorf("%x: %d, want %d", tt.p, got, tt.want)
		}
	}
}
