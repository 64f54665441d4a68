//go:build !amd64

package shard

import (
	"sync/atomic"
	"unsafe"
)

// prefetch is an early load: not waited for until the processor runs out of room.
func prefetch(p unsafe.Pointer) { (*atomic.Uint64)(p).Load() }
