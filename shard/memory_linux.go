package shard

import (
	"fmt"
	"syscall"
)

// populateWrite is MADV_POPULATE_WRITE (Linux 5.14): fault pages in without touching them.
const populateWrite = 23

// mapChunk takes a chunk from the system, outside the Go heap: it may lie in a
// huge page, and does not count when the collector decides how much garbage to
// let be. mapping is what unmap wants.
func mapChunk() (c *chunk, mapping []byte) {
	b, err := syscall.Mmap(-1, 0, 2*chunkBytes, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE|syscall.MAP_NORESERVE)
	if err != nil {
		panic(fmt.Sprintf("shard: cannot map %d bytes: %s", 2*chunkBytes, err))
	}
	return asChunk(b), b
}

// makeHuge asks for a huge page under c and faults it in. Either may fail: then
// c has small pages, faulted in when used.
func makeHuge(c *chunk) {
	_ = syscall.Madvise(chunkAsBytes(c), syscall.MADV_HUGEPAGE)
	_ = syscall.Madvise(chunkAsBytes(c), populateWrite)
}

// giveBack returns c's memory to the system. It stays mapped and reads as zeros.
func giveBack(c *chunk) bool {
	return syscall.Madvise(chunkAsBytes(c), syscall.MADV_DONTNEED) == nil
}

func unmap(mapping []byte) { _ = syscall.Munmap(mapping) }

const canMap = true
