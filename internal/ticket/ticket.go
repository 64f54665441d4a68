// Package ticket makes and checks session tickets: what a client shows to
// resume its session without its UserSig. A ticket is opaque to the client,
// authenticated with a key of the app, and bound to app, user, platform and
// device without carrying them: they go into the MAC only.
//
// A ticket has 49 bytes, numbers big endian:
//
//	byte 0       version, 1
//	byte 1-4     InstID
//	byte 5-12    the user's sequence number at issue
//	byte 13-16   epoch of the app's keys at issue
//	byte 17-24   expiry, Unix milliseconds
//	byte 25-32   end of the UserSig it stands for, Unix milliseconds, 0 = unknown
//	byte 33-48   first 16 bytes of HMAC-SHA256 over a label, bytes 0-32 and the binding
package ticket

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"errors"
	"fmt"
)

// Size is the length of a ticket in bytes.
const Size = headSize + macSize

const (
	version  = 1
	headSize = 33
	macSize  = 16
	label    = "rollcall ticket\x00" // no other use of the key can make this MAC
)

// What Verify answers. ErrMismatch does not say which of the bindings failed:
// the MAC is all there is to see.
var (
	ErrMalformed = errors.New("ticket: malformed")
	ErrMismatch  = errors.New("ticket: not of this app, user and device")
	ErrRevoked   = errors.New("ticket: revoked with the app's keys")
	ErrExpired   = errors.New("ticket: expired")
)

// Claims is what a ticket says. Whether its user was kicked since is for the
// caller to judge, by Seq.
type Claims struct {
	// The binding.
	App      uint32
	UserID   string
	Platform uint8
	DeviceID string

	// What the ticket carries.
	InstID    uint32
	Seq       uint64 // the user's sequence number at issue
	Epoch     uint32 // epoch of the app's keys
	ExpiresMS int64  // Unix ms of the last moment it is good
	SigEndMS  int64  // Unix ms of the end of the UserSig, 0 = unknown
}

// Append appends the ticket that states c to dst. A ticket never outlives its
// UserSig: it expires at ExpiresMS or SigEndMS, whichever comes first. Under
// an all-zero key, which anybody could guess, nothing is appended.
func Append(dst []byte, key *[32]byte, c *Claims) []byte {
	if *key == ([32]byte{}) {
		return dst
	}
	expires := c.ExpiresMS
	if c.SigEndMS != 0 {
		expires = min(expires, c.SigEndMS)
	}
	var head [headSize]byte
	head[0] = version
	binary.BigEndian.PutUint32(head[1:], c.InstID)
	binary.BigEndian.PutUint64(head[5:], c.Seq)
	binary.BigEndian.PutUint32(head[13:], c.Epoch)
	binary.BigEndian.PutUint64(head[17:], uint64(expires))
	binary.BigEndian.PutUint64(head[25:], uint64(c.SigEndMS))
	sum := mac(key, &head, c)
	dst = append(dst, head[:]...)
	return append(dst, sum[:macSize]...)
}

// Verify checks that t is a ticket for the App, UserID, Platform, DeviceID and
// Epoch in c that is good at nowMS, and if so fills in the rest of c. The error
// is or wraps one of this package's; nothing a forger sends is believed, so a
// ticket is told to be revoked or expired only if it is authentic. On an error
// c is as it was. It does not keep t, and allocates nothing for a good ticket.
func Verify(t []byte, key *[32]byte, c *Claims, nowMS int64) error {
	if len(t) != Size {
		return fmt.Errorf("%w: %d bytes, want %d", ErrMalformed, len(t), Size)
	}
	if t[0] != version {
		return fmt.Errorf("%w: version %d, want %d", ErrMalformed, t[0], version)
	}
	head := (*[headSize]byte)(t)
	sum := mac(key, head, c)
	if subtle.ConstantTimeCompare(sum[:macSize], t[headSize:]) != 1 || *key == ([32]byte{}) {
		return ErrMismatch
	}
	if epoch := binary.BigEndian.Uint32(head[13:]); epoch != c.Epoch {
		return fmt.Errorf("%w: epoch %d, now is %d", ErrRevoked, epoch, c.Epoch)
	}
	expires := int64(binary.BigEndian.Uint64(head[17:]))
	if nowMS > expires {
		return fmt.Errorf("%w: %d ms ago", ErrExpired, nowMS-expires)
	}
	c.InstID = binary.BigEndian.Uint32(head[1:])
	c.Seq = binary.BigEndian.Uint64(head[5:])
	c.ExpiresMS = expires
	c.SigEndMS = int64(binary.BigEndian.Uint64(head[25:]))
	return nil
}

// macScratch holds the input of the inner hash for the longest valid names:
// pad 64, label 16, head 33, app 4, platform 1, lengths 8, UserID 32, device id
// 64. Longer names are bound just as well, but spill to the heap.
const macScratch = 256

// mac is HMAC-SHA256 (RFC 2104) over label, head and the binding in c. It is
// spelled out because crypto/hmac allocates; the tests hold it to crypto/hmac.
func mac(key *[32]byte, head *[headSize]byte, c *Claims) [sha256.Size]byte {
	var scratch [macScratch]byte
	b := appendPad(scratch[:0], key, 0x36)
	b = append(b, label...)
	b = append(b, head[:]...)
	b = binary.BigEndian.AppendUint32(b, c.App)
	b = append(b, c.Platform)
	// Lengths before the names: ("ab", "c") must not read as ("a", "bc").
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.UserID)))
	b = append(b, c.UserID...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(c.DeviceID)))
	b = append(b, c.DeviceID...)
	inner := sha256.Sum256(b)

	b = appendPad(scratch[:0], key, 0x5c)
	b = append(b, inner[:]...)
	return sha256.Sum256(b)
}

// appendPad appends the key, filled up with zeros to the block of SHA-256, with
// each byte XORed with pad.
func appendPad(b []byte, key *[32]byte, pad byte) []byte {
	for _, k := range key {
		b = append(b, k^pad)
	}
	for range sha256.BlockSize - len(key) {
		b = append(b, pad)
	}
	return b
}
