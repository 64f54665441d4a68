package shard

import "unsafe"

// prefetch starts to load the line at p and does not wait for it. Go exports no
// such thing; a plain early load does wait once the reorder buffer is full,
// which two lookups fill.
//
//go:noescape
func prefetch(p unsafe.Pointer)
