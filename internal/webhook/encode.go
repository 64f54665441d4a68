package webhook

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Bounds of what a stored event may hold.
const (
	eventVersion  = 1
	letterVersion = 1
	maxBody       = 64 << 10
	maxWord       = 64 // bytes of OptPlatform and of a cause
)

// ErrCorrupt is the root of errors about stored values that cannot be read.
var ErrCorrupt = errors.New("a stored webhook event is corrupt")

// appendEvent encodes e without its attempts, which are of one life:
//
//	version(1) app(4) seq(8) epoch(8) queuedMS(8) flags(1) UserID OptPlatform ClientIP Body
//
// where the last four are a length (uvarint) and bytes.
func appendEvent(b []byte, e *Event) []byte {
	b = append(b, eventVersion)
	b = binary.BigEndian.AppendUint32(b, e.Key.App)
	b = binary.BigEndian.AppendUint64(b, e.Seq)
	b = binary.BigEndian.AppendUint64(b, e.Epoch)
	b = binary.BigEndian.AppendUint64(b, uint64(e.QueuedMS))
	var flags byte
	if e.Replayed {
		flags |= flagReplayed
	}
	b = append(b, flags)
	b = appendBytes(b, e.Key.UserID)
	b = appendBytes(b, e.OptPlatform)
	b = appendBytes(b, e.ClientIP.AsSlice())
	return appendBytes(b, e.Body)
}

const flagReplayed = 1

func appendBytes[T string | []byte](b []byte, v T) []byte {
	b = binary.AppendUvarint(b, uint64(len(v)))
	return append(b, v...)
}

// decodeEvent reads what appendEvent wrote. The event shares nothing with b.
func decodeEvent(b []byte) (Event, error) {
	r := reader{b: b}
	if v := r.byte(); v != eventVersion {
		return Event{}, fmt.Errorf("%w: version %d, this program knows %d", ErrCorrupt, v, eventVersion)
	}
	var e Event
	e.Key.App = uint32(r.uint(4))
	e.Seq = r.uint(8)
	e.Epoch = r.uint(8)
	e.QueuedMS = int64(r.uint(8))
	flags := r.byte()
	e.Replayed = flags&flagReplayed != 0
	e.Key.UserID = string(r.bytes(presence.MaxUserID))
	e.OptPlatform = word(r.bytes(maxWord))
	ip := r.bytes(16)
	e.Body = append([]byte(nil), r.bytes(maxBody)...)
	if len(ip) > 0 {
		addr, ok := netip.AddrFromSlice(ip)
		r.bad = r.bad || !ok
		e.ClientIP = addr
	}
	if r.bad || len(r.b) != 0 || flags&^flagReplayed != 0 || e.Seq == 0 || !presence.ValidUserID(e.Key.UserID) {
		return Event{}, fmt.Errorf("%w: %d bytes", ErrCorrupt, len(b))
	}
	return e, nil
}

// words are the names that OptPlatform has: one copy of each is enough.
var words = func() map[string]string {
	m := map[string]string{byREST: byREST}
	for p := presence.Platform(1); p.Valid(); p++ {
		m[p.WebhookName()] = p.WebhookName()
	}
	return m
}()

func word(b []byte) string {
	if w, known := words[string(b)]; known {
		return w
	}
	return string(b)
}

// appendLetter encodes a dead letter but for its event, which is named:
//
//	version(1) seq(8) deadMS(8) UserID Cause
func appendLetter(b []byte, l *DeadLetter) []byte {
	b = append(b, letterVersion)
	b = binary.BigEndian.AppendUint64(b, l.Event.Seq)
	b = binary.BigEndian.AppendUint64(b, uint64(l.DeadMS))
	b = appendBytes(b, l.Event.Key.UserID)
	return appendBytes(b, l.Cause)
}

// decodeLetter reads a dead letter, the key of which names app and ID.
func decodeLetter(key, b []byte) (DeadLetter, error) {
	var l DeadLetter
	k := reader{b: key}
	kind := k.byte()
	l.Event.Key.App = uint32(k.uint(4))
	l.ID = k.uint(8)
	r := reader{b: b}
	version := r.byte()
	l.Event.Seq = r.uint(8)
	l.DeadMS = int64(r.uint(8))
	l.Event.Key.UserID = string(r.bytes(presence.MaxUserID))
	l.Cause = string(r.bytes(maxWord))
	if k.bad || kind != kindDead || len(k.b) != 0 || r.bad || version != letterVersion || len(r.b) != 0 || l.ID == 0 || !presence.ValidUserID(l.Event.Key.UserID) {
		return DeadLetter{}, fmt.Errorf("%w: dead letter %x", ErrCorrupt, key)
	}
	return l, nil
}

// reader takes an encoding apart; bad is set once it has ended too early.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || n > len(r.b) {
		r.bad = true
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

func (r *reader) byte() byte { return byte(r.uint(1)) }

func (r *reader) uint(size int) (v uint64) {
	for _, c := range r.take(size) {
		v = v<<8 | uint64(c)
	}
	return v
}

// bytes reads a length, at most max, and as many bytes.
func (r *reader) bytes(max int) []byte {
	n, used := binary.Uvarint(r.b)
	if r.bad || used <= 0 || n > uint64(max) {
		r.bad = true
		return nil
	}
	r.b = r.b[used:]
	return r.take(int(n))
}
