package ws

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// run feeds a stream in pieces of cut bytes and writes down what it gives; the
// last line is the error's code, if there was one. It checks the bounds on the way.
func run(tb testing.TB, stream []byte, cut int, l Limit) (got []string) {
	tb.Helper()
	var r Reader
	var unread []byte
	for rest := slices.Clone(stream); len(rest) > 0; {
		n := min(cut, len(rest))
		unread = append(unread, rest[:n]...)
		rest = rest[n:]
		for len(unread) > 0 {
			before := bytes.Clone(unread)
			m, n, err := r.Take(unread, l)
			if err != nil {
				return append(got, fmt.Sprint(err.Code))
			}
			if !bytes.Equal(unread[n:], before[n:]) {
				tb.Fatal("Take changed what it did not take")
			}
			if n == 0 {
				if len(unread) >= MaxHeader+MaxControl {
					tb.Fatalf("%d bytes wait to be taken", len(unread))
				}
				break
			}
			if m.Op != Continuation {
				got = append(got, fmt.Sprintf("%d %q", m.Op, m.Payload))
			}
			if len(r.buf) > l.Max {
				tb.Fatalf("%d bytes held, %d are allowed", len(r.buf), l.Max)
			}
			if r.Idle() && (r.Held() > 0 || r.left > 0 || r.op != Continuation) {
				tb.Fatalf("idle and not empty: %+v", r)
			}
			unread = unread[n:]
		}
	}
	return got
}

// frame is a client's frame.
func frame(op Op, fin bool, payload string) []byte {
	return Mask([]byte(payload), 0, op, fin, [4]byte{0x37, 0xfa, 0x21, 0x3d})
}

func TestReader(t *testing.T) {
	long := strings.Repeat("0123456789", 7000) // 70,000
	cat := func(frames ...[]byte) []byte { return slices.Concat(frames...) }
	for _, c := range []struct {
		name   string
		stream []byte
		want   []string
	}{
		{"empty text", frame(Text, true, ""), []string{`1 ""`}},
		{"two messages", cat(frame(Text, true, "ab"), frame(Binary, true, "\x00\xff")), []string{`1 "ab"`, `2 "\x00\xff"`}},
		{"three fragments", cat(frame(Binary, false, "ab"), frame(Continuation, false, ""), frame(Continuation, true, "cd")), []string{`2 "abcd"`}},
		{"empty fragments", cat(frame(Text, false, ""), frame(Continuation, false, ""), frame(Continuation, true, "")), []string{`1 ""`}},
		{"a ping between", cat(frame(Text, false, "ab"), frame(Ping, true, "p"), frame(Continuation, true, "cd")), []string{`9 "p"`, `1 "abcd"`}},
		{"close", frame(Close, true, "\x03\xe8bye"), []string{`8 "\x03\xe8bye"`}},
		{"at the limit", frame(Binary, true, long[:65536]), []string{fmt.Sprintf("2 %q", long[:65536])}},
		{"beyond it", frame(Binary, true, long[:65537]), []string{"1009"}},
		{"at the limit in two", cat(frame(Binary, false, long[:65530]), frame(Continuation, true, "abcdef")), []string{fmt.Sprintf("2 %q", long[:65530]+"abcdef")}},
		{"beyond it in two", cat(frame(Binary, false, long[:65530]), frame(Continuation, true, "abcdefg")), []string{"1009"}},
		{"a ping at the limit", cat(frame(Binary, false, long[:65536]), frame(Ping, true, "p")), []string{`9 "p"`}},
		{"continuation of nothing", frame(Continuation, true, "ab"), []string{"1002"}},
		{"text inside text", cat(frame(Text, false, "ab"), frame(Text, true, "cd")), []string{"1002"}},
		{"a rune over fragments", cat(frame(Text, false, "\xce"), frame(Continuation, true, "\xba")), []string{`1 "κ"`}},
		{"a rune over three", cat(frame(Text, false, "\xf0"), frame(Continuation, false, "\x9f\x98"), frame(Continuation, true, "\x80")), []string{`1 "😀"`}},
		{"half a rune at the end", frame(Text, true, "a\xce"), []string{"1007"}},
		{"half a rune at the end of two", cat(frame(Text, false, "a"), frame(Continuation, true, "\xce")), []string{"1007"}},
		{"half a rune, then an empty end", cat(frame(Text, false, "a\xce"), frame(Continuation, true, "")), []string{"1007"}},
		{"bad text is found before the end", frame(Text, false, "a\xff"), []string{"1007"}},
		{"bytes may be anything", frame(Binary, true, "a\xff"), []string{`2 "a\xff"`}},
	} {
		for _, cut := range []int{1, 2, 3, 5, 7, 100, 4096, 1 << 20} {
			if got := run(t, c.stream, cut, Limit{FromClient, 65536}); !slices.Equal(got, c.want) {
				t.Errorf("%s cut at %d: %.200q, want %.200q", c.name, cut, got, c.want)
			}
		}
	}
}

// A text that goes wrong is refused with the byte that spoils it, though its frame
// has more to come.
func TestTextFailsFast(t *testing.T) {
	b := frame(Text, true, "ab\xff and much more")
	var r Reader
	if _, n, err := r.Take(slices.Clone(b[:8]), Limit{FromClient, 100}); n != 8 || err != nil {
		t.Fatalf("two good bytes: %d, %v", n, err)
	}
	if _, _, err := r.Take(slices.Clone(b[8:9]), Limit{FromClient, 100}); codeOf(err) != CloseBadPayload {
		t.Fatalf("the bad byte: %v", err)
	}
}

// Texts of random bytes, cut at random, get the verdict of utf8.Valid.
func TestTextRandom(t *testing.T) {
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	pieces := []string{"a", "é", "κ", "€", "😀", "\xc3", "\xe2\x82", "\xf0\x9f", "\x80", "\xff", "\xed\xa0\x80", "\xf4\x90\x80\x80", "\xc0\x80"}
	for range 20_000 {
		var text string
		for range rng.IntN(6) {
			i := rng.IntN(5)
			if rng.IntN(4) == 0 {
				i = rng.IntN(len(pieces))
			}
			text += pieces[i]
		}
		var stream []byte
		op := Text
		for rest := text; ; op = Continuation {
			n := rng.IntN(len(rest) + 1)
			fin := n == len(rest)
			stream = append(stream, frame(op, fin, rest[:n])...)
			if rest = rest[n:]; fin {
				break
			}
		}
		want := []string{fmt.Sprintf("1 %q", text)}
		if !utf8.ValidString(text) {
			want = []string{"1007"}
		}
		if got := run(t, stream, 1+rng.IntN(8), Limit{FromClient, 100}); !slices.Equal(got, want) {
			t.Fatalf("seed %d: %q gives %q, want %q", seed, text, got, want)
		}
	}
}

// FuzzReader: whatever comes, what a stream gives does not depend on how it was cut.
func FuzzReader(f *testing.F) {
	f.Add(frame(Text, true, "hello"), uint8(0))
	f.Add(slices.Concat(frame(Text, false, "he"), frame(Ping, true, ""), frame(Continuation, true, "llo")), uint8(3))
	f.Add(slices.Concat(frame(Binary, false, strings.Repeat("x", 300)), frame(Continuation, true, "y")), uint8(6))
	f.Add(frame(Close, true, "\x03\xe8"), uint8(1))
	f.Add(frame(Text, true, "\xce\xba\xff"), uint8(1))
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8) {
		l := Limit{FromClient, 500}
		want := run(t, stream, 1<<20, l)
		for _, n := range []int{1, int(cut) + 1} {
			if got := run(t, stream, n, l); !slices.Equal(got, want) {
				t.Fatalf("%x cut at %d gives %q, whole %q", stream, n, got, want)
			}
		}
	})
}

// FuzzCipher holds the masking to section 5.3, byte by byte.
func FuzzCipher(f *testing.F) {
	f.Add([]byte("some text that is longer than sixteen bytes"), uint32(0x01020304), uint8(3))
	f.Fuzz(func(t *testing.T, p []byte, mask uint32, offset uint8) {
		key := [4]byte{byte(mask >> 24), byte(mask >> 16), byte(mask >> 8), byte(mask)}
		got := bytes.Clone(p)
		Cipher(got, key, int(offset))
		for i := range p {
			if got[i] != p[i]^key[(i+int(offset))%4] {
				t.Fatalf("byte %d of %d at offset %d", i, len(p), offset)
			}
		}
	})
}
