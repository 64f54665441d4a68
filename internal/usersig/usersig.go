// Package usersig issues and verifies UserSigs (TLSSigAPIv2, rest.md section 5):
// base64 of zlib of a small JSON document that an HMAC-SHA256 signs.
//
// Verify is for hostile input: every size is bounded before and while
// inflating, the document is parsed strictly, the signature is compared in
// constant time, and nothing is allocated for a good one.
package usersig

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"sync"
)

// Code is the outcome of a verification, in the numbers of rest.md section 1.
type Code int

// The codes, in the order in which they are looked for, but for Expired, which
// comes last.
const (
	OK        Code = 0
	Expired   Code = 70001 // or issued before the cut-off
	Empty     Code = 70002
	Malformed Code = 70003
	Mismatch  Code = 70009
	OtherUser Code = 70013
	OtherApp  Code = 70014
)

// Bounds.
const (
	// MaxSize is the longest UserSig in bytes (rest.md section 5). One without a
	// buffer has about 220; one with a buffer of 200 bytes, as long as the
	// reference's SDKs make, about 500. Random buffers fit up to some 5,700 bytes,
	// in stored blocks, which the reference's Go module writes, up to some 4,400.
	// A Login frame of the native protocol leaves up to some 490 bytes less.
	MaxSize = 8192
	// MaxInflated is the longest document in bytes.
	MaxInflated = 8192
	// MaxAheadS is how far TLS.time may lie in the future, in seconds.
	MaxAheadS = 600

	maxPacked = MaxSize / 4 * 3
	// maxText is the longest signed text: all names, numbers and line ends, and
	// strings that were part of the document.
	maxText = MaxInflated + 256
)

// encoding is standard base64 with `+`->`*`, `/`->`-`, `=`->`_`.
var encoding = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789*-").WithPadding('_').Strict()

// Check says what a UserSig must be good for.
type Check struct {
	AppID  uint32
	UserID string
	// Secrets are the app's keys; any may have signed. An empty one never has.
	Secrets []string
	NowS    int64 // Unix seconds
	CutoffS int64 // UserSigs issued before this Unix second are dead; 0 = none
}

// Result is the outcome of Verify.
type Result struct {
	Code Code
	Text string // what was wrong with which value; "" if nothing was
	// With OK, Expired and Mismatch.
	TimeS int64 // TLS.time
	EndS  int64 // the last second at which it is valid: TLS.time + TLS.expire
	// KeyIndex is the index in Check.Secrets of the key that signed; -1 if none was found.
	KeyIndex int
}

// scratch is the memory of one verification.
type scratch struct {
	inflater inflater
	document document // aliases doc
	packed   [maxPacked]byte
	doc      [MaxInflated]byte
	text     [sha256.BlockSize + maxText]byte
	mac      [base64Size]byte
}

const base64Size = (sha256.Size + 2) / 3 * 4

var pool = sync.Pool{New: func() any { return new(scratch) }}

// Verify checks a UserSig. It does not keep sig. Safe for concurrent use.
func Verify(sig []byte, c *Check) Result {
	if len(sig) == 0 {
		return refuse(Empty, "the UserSig is empty")
	}
	if len(sig) > MaxSize {
		return refuse(Malformed, fmt.Sprintf("the UserSig has %d bytes, more than %d", len(sig), MaxSize))
	}
	sc := pool.Get().(*scratch)
	defer pool.Put(sc)
	if err := sc.parse(sig); err != nil {
		return refuse(Malformed, "the UserSig is malformed: "+err.Error())
	}
	return sc.check(&sc.document, c)
}

func refuse(code Code, text string) Result { return Result{Code: code, Text: text, KeyIndex: -1} }

var (
	errBase64 = errors.New("not base64 in the UserSig alphabet")
	errZlib   = errors.New("not one complete zlib stream")
	errLarge  = fmt.Errorf("inflates to more than %d bytes", MaxInflated)
)

// parse undoes base64, zlib and JSON.
func (sc *scratch) parse(sig []byte) error {
	// The decoder skips line ends wherever they are.
	for _, b := range sig {
		if b == '\n' || b == '\r' {
			return errBase64
		}
	}
	n, err := encoding.Decode(sc.packed[:], sig)
	if err != nil {
		return errBase64
	}
	n, err = sc.inflater.inflate(sc.doc[:], sc.packed[:n])
	if err != nil {
		return err
	}
	sc.document = document{}
	return sc.document.parse(sc.doc[:n])
}

// check judges a well-formed document.
func (sc *scratch) check(d *document, c *Check) Result {
	switch {
	case d.time > c.NowS && uint64(d.time)-uint64(c.NowS) > MaxAheadS:
		return refuse(Malformed, fmt.Sprintf("TLS.time %d is more than %d s after the server's time %d", d.time, MaxAheadS, c.NowS))
	case d.app != int64(c.AppID):
		return refuse(OtherApp, fmt.Sprintf("the UserSig is for sdkappid %d, not %d", d.app, c.AppID))
	case string(d.identifier) != c.UserID:
		return refuse(OtherUser, fmt.Sprintf("the UserSig is for UserID %q, not %q", brief(d.identifier), c.UserID))
	}
	r := Result{TimeS: d.time, EndS: addSaturated(d.time, d.expire), KeyIndex: sc.signer(d, c.Secrets)}
	switch {
	case r.KeyIndex < 0:
		r.Code = Mismatch
		r.Text = fmt.Sprintf("the signature of the UserSig of %q does not verify with a key of sdkappid %d", c.UserID, c.AppID)
	case c.NowS > r.EndS:
		r.Code = Expired
		r.Text = fmt.Sprintf("the UserSig of %q expired at %d, the server's time is %d", c.UserID, r.EndS, c.NowS)
	case c.CutoffS != 0 && d.time < c.CutoffS:
		r.Code = Expired
		r.Text = fmt.Sprintf("the UserSig of %q was issued at %d, before it was revoked at %d", c.UserID, d.time, c.CutoffS)
	}
	return r
}

// signer returns the index of the secret that signed d, -1 if none did.
func (sc *scratch) signer(d *document, secrets []string) int {
	n := len(appendText(sc.text[:sha256.BlockSize], d))
	for i, secret := range secrets {
		if secret == "" {
			continue
		}
		mac := sign(secret, sc.text[:n])
		base64.StdEncoding.Encode(sc.mac[:], mac[:])
		if subtle.ConstantTimeCompare(sc.mac[:], d.sig) == 1 {
			return i
		}
	}
	return -1
}

// appendText appends the text that is signed. The buffer is signed as it
// stands: its base64 text, whatever that is.
func appendText(b []byte, d *document) []byte {
	b = append(b, "TLS.identifier:"...)
	b = append(b, d.identifier...)
	b = append(b, "\nTLS.sdkappid:"...)
	b = strconv.AppendInt(b, d.app, 10)
	b = append(b, "\nTLS.time:"...)
	b = strconv.AppendInt(b, d.time, 10)
	b = append(b, "\nTLS.expire:"...)
	b = strconv.AppendInt(b, d.expire, 10)
	b = append(b, '\n')
	if d.has(fieldUserbuf) {
		b = append(b, "TLS.userbuf:"...)
		b = append(b, d.userbuf...)
		b = append(b, '\n')
	}
	return b
}

// sign returns the HMAC-SHA256 (RFC 2104) of text[sha256.BlockSize:]. It
// overwrites the block before it with the key's, so that each of the two hashes
// runs over one piece of memory and nothing is allocated, which crypto/hmac
// cannot do for a key of the moment.
func sign(secret string, text []byte) [sha256.Size]byte {
	var key [sha256.BlockSize]byte
	if len(secret) > len(key) {
		sum := sha256.Sum256([]byte(secret))
		copy(key[:], sum[:])
	} else {
		copy(key[:], secret)
	}
	for i, k := range key {
		text[i] = k ^ 0x36
	}
	inner := sha256.Sum256(text)
	var outer [sha256.BlockSize + sha256.Size]byte
	for i, k := range key {
		outer[i] = k ^ 0x5c
	}
	copy(outer[sha256.BlockSize:], inner[:])
	return sha256.Sum256(outer[:])
}

// addSaturated returns a + b, the nearest int64 if that is none.
func addSaturated(a, b int64) int64 {
	sum := a + b
	switch {
	case a > 0 && b > 0 && sum < 0:
		return 1<<63 - 1
	case a < 0 && b < 0 && sum >= 0:
		return -1 << 63
	}
	return sum
}

// brief cuts what a stranger wrote to a length that fits into an error text.
func brief(b []byte) []byte {
	const maxBrief = 64
	return b[:min(len(b), maxBrief)]
}
