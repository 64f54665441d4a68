package admission

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// words are the 16 bytes of an address; one of IPv4 in IPv6 clothes is mapped.
func words(a netip.Addr) (hi, lo uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// hash is that of an address at a level; never 0.
func (g *Gate) hash(hi, lo uint64, level uint8) uint64 {
	const size = 17 // bytes of the message: address and level
	m := [3]uint64{hi, lo, size<<56 | uint64(level)}
	return max(sip(g.key, m[:]), 1)
}

func (g *Gate) shardOf(hash uint64) int { return int(hash >> 1 >> (63 - g.lead)) }

// sip is SipHash-2-4 of a message that is cut into blocks already (Aumasson and
// Bernstein, "SipHash: a fast short-input PRF", 2012): whoever does not know the
// key cannot find addresses that collide.
func sip(key [2]uint64, blocks []uint64) uint64 {
	v0, v1 := key[0]^0x736f6d6570736575, key[1]^0x646f72616e646f6d
	v2, v3 := key[0]^0x6c7967656e657261, key[1]^0x7465646279746573
	for _, m := range blocks {
		v3 ^= m
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
		v0 ^= m
	}
	v2 ^= 0xff
	for range 4 {
		v0, v1, v2, v3 = sipRound(v0, v1, v2, v3)
	}
	return v0 ^ v1 ^ v2 ^ v3
}

func sipRound(v0, v1, v2, v3 uint64) (uint64, uint64, uint64, uint64) {
	v0 += v1
	v1 = bits.RotateLeft64(v1, 13) ^ v0
	v0 = bits.RotateLeft64(v0, 32)
	v2 += v3
	v3 = bits.RotateLeft64(v3, 16) ^ v2
	v0 += v3
	v3 = bits.RotateLeft64(v3, 21) ^ v0
	v2 += v1
	v1 = bits.RotateLeft64(v1, 17) ^ v2
	v2 = bits.RotateLeft64(v2, 32)
	return v0, v1, v2, v3
}
