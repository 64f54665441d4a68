package shard

import (
	"sync/atomic"
	"unsafe"
)

// Sizes of the arena. A line is a cache line, the unit that records and buckets
// are made of; a page is what a shard takes at a time; a chunk is what is taken
// from the system, the size of a huge page.
const (
	lineBytes  = 64
	pageBits   = 6
	pageLines  = 1 << pageBits
	chunkBits  = 15
	chunkLines = 1 << chunkBits
	chunkPages = chunkLines / pageLines
	chunkBytes = chunkLines * lineBytes
)

// line is a cache line. All of the table that readers see is made of lines, and
// every access to one is an atomic access to a word: what the race detector
// watches in tests is the code that ships.
type line [8]atomic.Uint64

// chunk is memory from the system, or from the Go heap as an object without pointers.
type chunk [chunkLines]line

// extent is a chunk and what is known about its pages.
type extent struct {
	lines *chunk // nil: given back (Go heap only)
	pages *[chunkPages]page
}

// page is what is known about a page. Fields of one page have different owners.
type page struct {
	// Owned by the shard that holds the page.
	free uint64 // a bit per line
	pos  uint32 // index in the shard's list of pages

	// Guarded by arena.mu.
	next, prev uint32 // in the list of free blocks of its order, for the first page of a block
	order      uint8  // of the free block that begins here
	isFree     bool   // a free block begins here
}

// nowhere is what a number that names no line leads to: all zero, never written.
// Only readers whose index was replaced get there, and they look again.
var nowhere line

// line returns line number n. Any n is good: see nowhere.
func (a *arena) line(n uint32) *line {
	dir := *a.dir.Load()
	c := n >> chunkBits
	if uint64(c) >= uint64(len(dir)) {
		return &nowhere
	}
	lines := dir[c].lines
	if lines == nil {
		return &nowhere
	}
	return &lines[n&(chunkLines-1)]
}

// page returns what is known about page number n, which exists.
func (a *arena) page(n uint32) *page {
	return &(*a.dir.Load())[n/chunkPages].pages[n%chunkPages]
}

// asChunk views memory as a chunk: the part of b that begins at a multiple of
// a chunk's size. b has the size of two chunks. TestLayout pins the sizes.
func asChunk(b []byte) *chunk {
	p := unsafe.Pointer(&b[0])
	skip := -uintptr(p) & (chunkBytes - 1)
	return (*chunk)(unsafe.Add(p, skip))
}

// chunkAsBytes is the way back, for calls to the system.
func chunkAsBytes(c *chunk) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(c)), chunkBytes)
}

// lend makes a string of b without a copy: it changes when b does.
func lend(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// stringBytes views s as bytes, which must not be written.
func stringBytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// touch starts to load l into the cache.
func touch(l *line) { prefetch(unsafe.Pointer(l)) }
