package usersig

import (
	"bytes"
	"compress/flate"
	"compress/zlib"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
	"time"
)

// libraryInflate is what inflate must do, by compress/zlib.
func libraryInflate(src []byte) ([]byte, error) {
	r := bytes.NewReader(src)
	z, err := zlib.NewReader(r)
	if err != nil {
		return nil, err
	}
	out, err := io.ReadAll(io.LimitReader(z, MaxInflated+1))
	switch {
	case len(out) > MaxInflated:
		return nil, errLarge
	case err != nil:
		return nil, err
	case r.Len() > 0:
		return nil, errZlib
	}
	return out, nil
}

// sameAsLibrary inflates src both ways. Where the library finds a stream too
// large, a fault in what it did not read may be found here.
func sameAsLibrary(t *testing.T, src []byte) {
	t.Helper()
	want, wantErr := libraryInflate(src)
	dst := make([]byte, MaxInflated)
	n, err := new(inflater).inflate(dst, src)
	if (err == nil) != (wantErr == nil) || err == nil && !bytes.Equal(dst[:n], want) {
		t.Fatalf("%x:\n here %v %q\nthere %v %q", src, err, dst[:n], wantErr, want)
	}
}

// TestInflateAgainstLibrary: streams of all levels and kinds, whole and damaged.
func TestInflateAgainstLibrary(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	var b bytes.Buffer
	for i := range 800 {
		b.Reset()
		z := writer(t, &b, rnd.IntN(12)-2)
		for range 1 + rnd.IntN(3) { // several blocks
			if _, err := z.Write(randomText(rnd)); err != nil {
				t.Fatal(err)
			}
			if rnd.IntN(2) == 0 {
				if err := z.Flush(); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := z.Close(); err != nil {
			t.Fatal(err)
		}
		src := b.Bytes()
		sameAsLibrary(t, src)
		for range 5 {
			bad := bytes.Clone(src)
			for range 1 + rnd.IntN(2) {
				bad[rnd.IntN(len(bad))] ^= 1 << rnd.IntN(8)
			}
			sameAsLibrary(t, bad)
		}
		sameAsLibrary(t, src[:rnd.IntN(len(src))])
		if i%100 == 0 {
			sameAsLibrary(t, append(src, byte(i)))
		}
	}
}

// randomText returns up to some thousand bytes, of few or many values, with repeats.
func randomText(rnd *rand.Rand) []byte {
	b := make([]byte, rnd.IntN(1<<rnd.IntN(13)))
	values := 1 + rnd.IntN(256)
	for i := range b {
		if i > 0 && rnd.IntN(4) > 0 {
			b[i] = b[rnd.IntN(i)]
		} else {
			b[i] = byte(rnd.IntN(values))
		}
	}
	return b
}

// bitWriter makes streams that no compressor makes.
type bitWriter struct {
	b []byte
	n uint
}

// put appends bits, least significant first.
func (w *bitWriter) put(v uint64, n uint) *bitWriter {
	for ; n > 0; n-- {
		if w.n%8 == 0 {
			w.b = append(w.b, 0)
		}
		w.b[len(w.b)-1] |= byte(v&1) << (w.n % 8)
		w.n++
		v >>= 1
	}
	return w
}

// code appends a Huffman code, most significant first.
func (w *bitWriter) code(v uint64, n uint) *bitWriter {
	for ; n > 0; n-- {
		w.put(v>>(n-1), 1)
	}
	return w
}

// TestInflateOddBlocks: what the format allows or forbids and no compressor writes.
func TestInflateOddBlocks(t *testing.T) {
	fixed := func() *bitWriter { return new(bitWriter).put(0x9c78, 16).put(1, 1).put(1, 2) }
	dynamic := func(literals, distances, lengths uint64) *bitWriter {
		return new(bitWriter).put(0x9c78, 16).put(1, 1).put(2, 2).put(literals-257, 5).put(distances-1, 5).put(lengths-4, 4)
	}
	for name, w := range map[string]*bitWriter{
		"reserved block type":              new(bitWriter).put(0x9c78, 16).put(1, 1).put(3, 2).put(0, 40),
		"nothing":                          fixed().code(0, 7).put(0, 5).put(0x01000000, 32),
		"literal 286":                      fixed().code(0b11000110, 8).put(0, 40),
		"literal 287":                      fixed().code(0b11000111, 8).put(0, 40),
		"distance before the start":        fixed().code(0b00110000, 8).code(1, 7).code(1, 5).put(0, 40),
		"distance 30":                      fixed().code(0b00110000, 8).code(1, 7).code(30, 5).put(0, 40),
		"287 literals":                     dynamic(287, 1, 4).put(0, 60),
		"31 distances":                     dynamic(257, 31, 4).put(0, 60),
		"no code lengths":                  dynamic(257, 1, 4).put(0, 60),
		"repeat of nothing":                dynamic(257, 1, 4).put(1, 3).put(0, 9).put(0, 1).put(0, 60),
		"code lengths beyond their number": dynamic(257, 1, 18).put(0, 3).put(0, 3).put(1, 3).put(1<<45>>3, 42).put(0, 3).put(^uint64(0), 60),
		"stored, lengths differ":           new(bitWriter).put(0x9c78, 16).put(1, 8).put(1, 16).put(1, 16).put(0, 64),
		"stored, cut":                      new(bitWriter).put(0x9c78, 16).put(1, 8).put(2, 16).put(0xfffd, 16).put(0, 8),
		"window of 64 KiB":                 new(bitWriter).put(0x88, 8).put(0x1c, 8).put(3, 3).put(0, 7),
	} {
		t.Run(name, func(t *testing.T) { sameAsLibrary(t, w.b) })
	}
}

// TestInflateLongCodes: codes longer than the table is wide.
func TestInflateLongCodes(t *testing.T) {
	var text []byte
	for i, n := 0, 1; i < 14; i, n = i+1, n*2 { // frequencies that make codes of up to 13 bits
		text = append(text, bytes.Repeat([]byte{byte('a' + i)}, min(n, 4000))...)
	}
	rand.New(rand.NewPCG(1, 2)).Shuffle(len(text), func(i, j int) { text[i], text[j] = text[j], text[i] })
	text = text[:MaxInflated]
	var b bytes.Buffer
	z, err := zlib.NewWriterLevel(&b, flate.HuffmanOnly)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(text); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	f, dst := new(inflater), make([]byte, MaxInflated)
	n, err := f.inflate(dst, b.Bytes())
	if err != nil || !bytes.Equal(dst[:n], text) {
		t.Fatalf("%d bytes, %v", n, err)
	}
	long := 0
	for i := tableBits + 1; i <= maxCodeLength; i++ {
		long += int(f.literal.count[i])
	}
	if long == 0 {
		t.Error("the stream had no long code")
	}
}

// FuzzInflate holds inflate to compress/zlib. The checksum is made right, so
// that the fuzzer gets past it.
func FuzzInflate(f *testing.F) {
	raw, err := encoding.DecodeString(vectorSig)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	for level := -2; level < 10; level++ {
		var b bytes.Buffer
		z, err := zlib.NewWriterLevel(&b, level)
		if err != nil {
			f.Fatal(err)
		}
		fmt.Fprint(z, vectorDoc, vectorDoc)
		if err := z.Close(); err != nil {
			f.Fatal(err)
		}
		f.Add(b.Bytes())
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		sameAsLibrary(t, src)
		if len(src) < 6 {
			return
		}
		// The same without a checksum to guess: both must make the same of the body.
		body := src[2 : len(src)-4]
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(bytes.NewReader(body)), MaxInflated+1))
		dst := make([]byte, MaxInflated)
		in := &inflater{in: bitReader{src: body}}
		n, err := in.blocks(dst)
		if wantErr == nil && len(want) <= MaxInflated && (err != nil || !bytes.Equal(dst[:n], want)) {
			t.Fatalf("%x: %v %q, there %q", body, err, dst[:n], want)
		}
		if err == nil && (wantErr != nil || !bytes.Equal(dst[:n], want)) {
			t.Fatalf("%x: %q, there %v %q", body, dst[:n], wantErr, want)
		}
	})
}

func BenchmarkInflate(b *testing.B) {
	sigs, _ := benchSigs(b, 1000)
	var packed [][]byte
	for _, s := range sigs {
		raw := make([]byte, len(s))
		n, err := encoding.Decode(raw, s)
		if err != nil {
			b.Fatal(err)
		}
		packed = append(packed, raw[:n])
	}
	dst := make([]byte, MaxInflated)
	b.Run("own", func(b *testing.B) {
		f, i := new(inflater), 0
		b.ReportAllocs()
		for b.Loop() {
			if _, err := f.inflate(dst, packed[i]); err != nil {
				b.Fatal(err)
			}
			i = (i + 1) % len(packed)
		}
	})
	b.Run("library", func(b *testing.B) {
		var src bytes.Reader
		src.Reset(packed[0])
		z, err := zlib.NewReader(&src)
		if err != nil {
			b.Fatal(err)
		}
		i := 0
		b.ReportAllocs()
		for b.Loop() {
			src.Reset(packed[i])
			if err := z.(zlib.Resetter).Reset(&src, nil); err != nil {
				b.Fatal(err)
			}
			if _, err := io.ReadFull(z, dst); err != io.ErrUnexpectedEOF {
				b.Fatal(err)
			}
			i = (i + 1) % len(packed)
		}
	})
}
