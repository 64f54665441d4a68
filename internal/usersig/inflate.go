package usersig

import (
	"encoding/binary"
	"hash/adler32"
	"math/bits"
)

// inflater undoes zlib (RFC 1950) into memory of the caller and allocates
// nothing. A UserSig inflates to less than 200 bytes, mostly from one block with
// its own codes, so the cost is in reading those codes: compress/flate fills
// tables of 512 entries whatever the codes need, and allocates second-level
// tables. Here a table is as large as the block's longest code asks for, up to
// tableBits, and the rare longer codes are decoded bit by bit.
//
// It takes exactly the streams that compress/zlib takes, a fuzz target holds it
// to that, and never writes beyond the end of dst.
type inflater struct {
	in      bitReader
	literal huffman
	dist    huffman
	lengths [maxLiterals + maxDistances]uint8
}

// Sizes of RFC 1951, 3.2.
const (
	maxLiterals   = 286
	maxDistances  = 30
	endOfBlock    = 256
	maxCodeLength = 15
	tableBits     = 9
)

// inflate writes what the zlib stream in src holds to dst and returns its
// length. src must be one whole stream, checksum included, and nothing more.
func (f *inflater) inflate(dst, src []byte) (int, error) {
	if len(src) < 2 || src[0]&15 != 8 || src[0]>>4 > 7 || binary.BigEndian.Uint16(src)%31 != 0 || src[1]&0x20 != 0 {
		return 0, errZlib // no deflate, a bad header, or a preset dictionary
	}
	f.in = bitReader{src: src[2:]}
	n, err := f.blocks(dst)
	if err != nil {
		return 0, err
	}
	sum := f.in.rest()
	if len(sum) != adler32.Size || binary.BigEndian.Uint32(sum) != adler32.Checksum(dst[:n]) {
		return 0, errZlib
	}
	return n, nil
}

// blocks inflates blocks up to and with the last one.
func (f *inflater) blocks(dst []byte) (n int, err error) {
	for last := false; !last; {
		head, ok := f.in.take(3)
		if !ok {
			return 0, errZlib
		}
		last = head&1 == 1
		if n, err = f.block(dst, n, head>>1); err != nil {
			return 0, err
		}
	}
	return n, nil
}

// block inflates a block of the given type to dst[n:] and returns the new n.
func (f *inflater) block(dst []byte, n int, kind uint64) (int, error) {
	switch kind {
	case 0:
		return f.stored(dst, n)
	case 1:
		return f.coded(dst, n, &fixedLiteral, &fixedDist)
	case 2:
		if !f.readCodes() {
			return n, errZlib
		}
		return f.coded(dst, n, &f.literal, &f.dist)
	}
	return n, errZlib
}

// stored copies a block without compression (3.2.4).
func (f *inflater) stored(dst []byte, n int) (int, error) {
	b := f.in.rest()
	if len(b) < 4 {
		return n, errZlib
	}
	size := binary.LittleEndian.Uint16(b)
	if size != ^binary.LittleEndian.Uint16(b[2:]) || int(size) > len(b)-4 {
		return n, errZlib
	}
	if int(size) > len(dst)-n {
		return n, errLarge
	}
	n += copy(dst[n:], b[4:4+size])
	f.in = bitReader{src: b[4+size:]}
	return n, nil
}

// Base values and extra bits of lengths and distances (3.2.5).
var (
	lengthBase  = [29]uint16{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lengthExtra = [29]uint8{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase    = [maxDistances]uint16{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra   = [maxDistances]uint8{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}
)

// coded inflates a block of literals and matches.
func (f *inflater) coded(dst []byte, n int, literal, dist *huffman) (int, error) {
	in := &f.in
	for {
		sym := literal.read(in)
		switch {
		case sym < 0 || sym >= maxLiterals:
			return n, errZlib
		case sym == endOfBlock:
			return n, nil
		case sym < endOfBlock:
			if n == len(dst) {
				return n, errLarge
			}
			dst[n] = byte(sym)
			n++
			continue
		}
		length, distance, ok := in.match(sym-endOfBlock-1, dist)
		if !ok || distance > n {
			return n, errZlib
		}
		if length > len(dst)-n {
			return n, errLarge
		}
		// Byte by byte: a match may repeat what it has just written.
		for end := n + length; n < end; n++ {
			dst[n] = dst[n-distance]
		}
	}
}

// match reads the rest of a length and its distance.
func (in *bitReader) match(index int, dist *huffman) (length, distance int, ok bool) {
	extra, ok := in.take(uint(lengthExtra[index]))
	if !ok {
		return 0, 0, false
	}
	length = int(lengthBase[index]) + int(extra)
	sym := dist.read(in)
	if sym < 0 || sym >= maxDistances {
		return 0, 0, false
	}
	extra, ok = in.take(uint(distExtra[sym]))
	return length, int(distBase[sym]) + int(extra), ok
}

// codeOrder is the order in which the lengths of the code lengths' own code come (3.2.7).
var codeOrder = [19]uint8{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}

// readCodes reads the codes of a block (3.2.7).
func (f *inflater) readCodes() bool {
	head, ok := f.in.take(14)
	if !ok {
		return false
	}
	literals, distances, lengths := int(head&31)+257, int(head>>5&31)+1, int(head>>10)+4
	if literals > maxLiterals || distances > maxDistances {
		return false
	}
	var own [len(codeOrder)]uint8
	for _, i := range codeOrder[:lengths] {
		n, ok := f.in.take(3)
		if !ok {
			return false
		}
		own[i] = uint8(n)
	}
	// The space of the distance code serves the code lengths' code first.
	if !f.dist.build(own[:]) || !f.readLengths(f.lengths[:literals+distances]) {
		return false
	}
	return f.literal.build(f.lengths[:literals]) && f.dist.build(f.lengths[literals:literals+distances])
}

// readLengths reads code lengths, which f.dist codes.
func (f *inflater) readLengths(lengths []uint8) bool {
	for i := 0; i < len(lengths); {
		sym := f.dist.read(&f.in)
		switch {
		case sym < 0:
			return false
		case sym <= maxCodeLength:
			lengths[i] = uint8(sym)
			i++
			continue
		case sym == 16 && i == 0:
			return false
		}
		run := repeats[sym-16]
		extra, ok := f.in.take(run.extra)
		times := run.base + int(extra)
		if !ok || times > len(lengths)-i {
			return false
		}
		var length uint8
		if sym == 16 {
			length = lengths[i-1]
		}
		for end := i + times; i < end; i++ {
			lengths[i] = length
		}
	}
	return true
}

// repeats are the runs of code lengths 16, 17 and 18.
var repeats = [3]struct {
	base  int
	extra uint
}{{3, 2}, {3, 3}, {11, 7}}

// huffman decodes one canonical code.
type huffman struct {
	mask   uint64                    // of the bits that index table
	table  [1 << tableBits]uint16    // by the next bits: symbol<<4 | length; 0 = a longer code, or none
	count  [maxCodeLength + 1]uint16 // codes of each length
	symbol [288]uint16               // symbols by code
}

// build makes the code with the given lengths; false if they make none. Only a
// code of one symbol may be incomplete, or one of none, which must not be used.
func (h *huffman) build(lengths []uint8) bool {
	h.count = [maxCodeLength + 1]uint16{}
	longest := uint8(0)
	for _, n := range lengths {
		h.count[n]++
		longest = max(longest, n)
	}
	h.count[0] = 0
	// next is the first code of each length, at the index of its first symbol in offset.
	var next, offset [maxCodeLength + 2]uint16
	for n := 1; n <= int(longest); n++ {
		next[n+1] = (next[n] + h.count[n]) << 1
		offset[n+1] = offset[n] + h.count[n]
		if next[n]+h.count[n] > 1<<n {
			return false
		}
	}
	complete := longest > 0 && next[longest]+h.count[longest] == 1<<longest
	if !complete && longest > 0 && (longest != 1 || h.count[1] != 1) {
		return false
	}
	width := min(longest, tableBits)
	h.mask = 1<<width - 1
	clear(h.table[:1<<width])
	for sym, n := range lengths {
		if n == 0 {
			continue
		}
		h.symbol[offset[n]] = uint16(sym)
		offset[n]++
		code := next[n]
		next[n]++
		if n > width {
			continue
		}
		entry := uint16(sym)<<4 | uint16(n)
		for i := bits.Reverse16(code) >> (16 - n); int(i) < 1<<width; i += 1 << n {
			h.table[i] = entry
		}
	}
	return true
}

// read reads a symbol; -1 if there is none.
func (h *huffman) read(in *bitReader) int {
	in.fill()
	entry := h.table[in.bits&h.mask]
	if n := uint(entry & 15); n != 0 {
		if n > in.n {
			return -1
		}
		in.drop(n)
		return int(entry >> 4)
	}
	return h.readLong(in)
}

// readLong reads a symbol bit by bit: among the codes of each length in turn,
// which are consecutive numbers.
func (h *huffman) readLong(in *bitReader) int {
	code, first, index := 0, 0, 0
	for n := uint(1); n <= maxCodeLength && n <= in.n; n++ {
		code |= int(in.bits >> (n - 1) & 1)
		count := int(h.count[n])
		if code < first+count {
			in.drop(n)
			return int(h.symbol[index+code-first])
		}
		index += count
		first = (first + count) << 1
		code <<= 1
	}
	return -1
}

// The fixed codes (3.2.6).
var fixedLiteral, fixedDist huffman

func init() {
	var lengths [288]uint8
	for i := range lengths {
		switch {
		case i < 144:
			lengths[i] = 8
		case i < 256:
			lengths[i] = 9
		case i < 280:
			lengths[i] = 7
		default:
			lengths[i] = 8
		}
	}
	fixedLiteral.build(lengths[:])
	for i := range 32 {
		lengths[i] = 5
	}
	fixedDist.build(lengths[:32])
}

// bitReader reads bits, least significant first.
type bitReader struct {
	src  []byte
	pos  int    // of the next byte that is not in bits
	bits uint64 // the next n bits; those above n are not to be read
	n    uint
}

// fill makes sure that 56 bits are there, or all that are left.
func (in *bitReader) fill() {
	if in.n >= 48 {
		return
	}
	if len(in.src)-in.pos >= 8 {
		in.bits |= binary.LittleEndian.Uint64(in.src[in.pos:]) << in.n
		in.pos += int((63 - in.n) >> 3)
		in.n |= 56
		return
	}
	for in.n <= 56 && in.pos < len(in.src) {
		in.bits |= uint64(in.src[in.pos]) << in.n
		in.pos++
		in.n += 8
	}
}

func (in *bitReader) drop(n uint) {
	in.bits >>= n
	in.n -= n
}

// take reads n bits, at most 14.
func (in *bitReader) take(n uint) (uint64, bool) {
	in.fill()
	if n > in.n {
		return 0, false
	}
	v := in.bits & (1<<n - 1)
	in.drop(n)
	return v, true
}

// rest returns the bytes from the next byte boundary on.
func (in *bitReader) rest() []byte { return in.src[in.pos-int(in.n/8):] }
