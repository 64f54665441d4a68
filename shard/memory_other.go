//go:build !linux

package shard

// Elsewhere chunks come from the Go heap.
const canMap = false

func mapChunk() (*chunk, []byte) { panic("shard: no mapped memory on this system") }

func makeHuge(*chunk) {}

func giveBack(*chunk) bool { return false }

func unmap([]byte) {}
