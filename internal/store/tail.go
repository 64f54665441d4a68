package store

import (
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// The last log may end in a write that a crash cut off, which counts as its end.
// A damaged one must not: each chunk of a log says how far the log was durable
// when it was written, and one that says so of what lies behind the fault shows
// that it was whole once. Pebble looks for such a chunk in the blocks after that of
// the fault, and a small log has one block only; here the last block is looked at.
//
// What was written after the last such chunk, the last group in most cases, can be
// told from a torn write by nothing.
const (
	logBlock    = 32 << 10
	chunkHeader = 19 // sum (4), length (2), kind (1), log (4), how far it was durable (8)
	// The kinds of chunks that say how far the log was durable.
	firstSyncKind, lastSyncKind = 9, 12
)

// promised reports whether a chunk in the last block of log n says that more was
// durable than what ends at end, behind which nothing can be read.
func promised(f vfs.File, n uint64, end int64) (bool, error) {
	info, err := f.Stat()
	if err != nil {
		return false, err
	}
	start := max(end, (info.Size()-1)/logBlock*logBlock)
	block := make([]byte, max(0, info.Size()-start))
	if read, err := f.ReadAt(block, start); err != nil && err != io.EOF {
		return false, err
	} else if read < len(block) {
		block = block[:read]
	}
	for ; len(block) >= chunkHeader; block = block[1:] {
		kind, length := block[6], int(binary.LittleEndian.Uint16(block[4:]))
		if kind < firstSyncKind || kind > lastSyncKind || chunkHeader+length > len(block) ||
			binary.LittleEndian.Uint32(block[7:]) != uint32(n) || binary.LittleEndian.Uint64(block[11:]) <= uint64(start) {
			continue
		}
		if binary.LittleEndian.Uint32(block) == chunkSum(block[6:chunkHeader+length]) {
			return true, nil
		}
	}
	return false, nil
}

// chunkSum is the sum of a chunk, cooked as LevelDB does.
func chunkSum(b []byte) uint32 {
	sum := crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))
	return (sum>>15 | sum<<17) + 0xa282ead8
}
