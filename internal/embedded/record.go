package embedded

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/store"
)

// What the journal writes. A user is
//
//	key    'u', app (4 bytes, big endian), UserID
//	value  version (1 byte), then numbers as varints, zigzag where they may be negative:
//	       boot epoch of the write, bits (1 byte), Seq, EventSeq, LastInstID, RevokedSeq, CutoffS, LastSeenMS,
//	       custom status, nick, face URL if the bits say so, each size and bytes,
//	       number of instances, and per instance: platform, status (1 byte each), InstID, LoginMS,
//	       PushUntilMS, device id, SDK version, model, and of the link: protocol (1 byte), node,
//	       id (8 bytes), listener, ConnectedMS from LoginMS, address as netip.AddrPort marshals it
//
// and an app is
//
//	key    'a', SDKAppID (4 bytes, big endian)
//	value  version (1 byte), directory.App as JSON: apps are few, and a field that a later release adds is kept
//
// The numbers of platforms, statuses and protocols are part of the format.
const recordVersion = 1

const (
	recordRegistered = 1 << iota
	recordCustom
	recordNick
	recordFaceURL
)

func userKey(b []byte, k presence.Key) []byte {
	b = append(b, store.PrefixUsers)
	b = binary.BigEndian.AppendUint32(b, k.App)
	return append(b, k.UserID...)
}

func appKey(id uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{store.PrefixApps}, id)
}

var errRecord = errors.New("the record is damaged")

func parseUserKey(key []byte) (presence.Key, error) {
	if len(key) < 5 || key[0] != store.PrefixUsers || !presence.ValidUserID(key[5:]) {
		return presence.Key{}, fmt.Errorf("key %q: %w", key, errRecord)
	}
	return presence.Key{App: binary.BigEndian.Uint32(key[1:]), UserID: string(key[5:])}, nil
}

// appendRecord appends the value of a user that is written in a boot epoch.
func appendRecord(b []byte, epoch uint64, u *presence.User) []byte {
	b = append(b, recordVersion)
	b = binary.AppendUvarint(b, epoch)
	var bits byte
	for i, is := range [...]bool{u.Registered, u.CustomStatus != "", u.Nick != "", u.FaceURL != ""} {
		if is {
			bits |= 1 << i
		}
	}
	b = append(b, bits)
	b = binary.AppendUvarint(b, u.Seq)
	b = binary.AppendUvarint(b, u.EventSeq)
	b = binary.AppendUvarint(b, uint64(u.LastInstID))
	b = binary.AppendUvarint(b, u.RevokedSeq)
	b = binary.AppendVarint(b, u.CutoffS)
	b = binary.AppendVarint(b, u.LastSeenMS)
	for _, text := range [...]string{u.CustomStatus, u.Nick, u.FaceURL} {
		if text != "" {
			b = appendText(b, text)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(u.Instances)))
	for i := range u.Instances {
		b = appendInstance(b, &u.Instances[i])
	}
	return b
}

func appendInstance(b []byte, in *presence.Instance) []byte {
	b = append(b, byte(in.Device.Platform), byte(in.Status))
	b = binary.AppendUvarint(b, uint64(in.InstID))
	b = binary.AppendVarint(b, in.LoginMS)
	b = binary.AppendVarint(b, in.PushUntilMS)
	b = appendText(b, in.Device.ID)
	b = appendText(b, in.Device.SDKVersion)
	b = appendText(b, in.Device.Model)
	l := &in.Link
	b = append(b, byte(l.Protocol))
	b = binary.AppendUvarint(b, uint64(l.Node))
	b = binary.LittleEndian.AppendUint64(b, uint64(l.ID))
	b = appendText(b, l.Listener)
	b = binary.AppendVarint(b, l.ConnectedMS-in.LoginMS)
	var room [64]byte
	addr, _ := l.Addr.AppendBinary(room[:0]) // it has no way to fail
	return appendText(b, string(addr))
}

func appendText(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

// recordReader takes a value apart. After a fault it yields zeros, and says so
// at the end.
type recordReader struct {
	b   []byte
	bad bool
}

func (r *recordReader) fault() { r.b, r.bad = nil, true }

func (r *recordReader) byte() byte {
	if len(r.b) == 0 {
		r.fault()
		return 0
	}
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *recordReader) uint(max uint64) uint64 {
	x, n := binary.Uvarint(r.b)
	if n <= 0 || x > max {
		r.fault()
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *recordReader) int() int64 {
	x, n := binary.Varint(r.b)
	if n <= 0 {
		r.fault()
		return 0
	}
	r.b = r.b[n:]
	return x
}

func (r *recordReader) bytes() []byte {
	n := r.uint(uint64(len(r.b)))
	if n > uint64(len(r.b)) { // the number itself took some
		r.fault()
		return nil
	}
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

func (r *recordReader) text() string { return string(r.bytes()) }

const (
	anyUint64  = 1<<64 - 1
	anyUint32  = 1<<32 - 1
	leastBytes = 20 // of an instance: what bounds their number by the size of the value
)

// readRecord fills u, whose Instances it reuses, and returns the boot epoch of
// the write.
func readRecord(value []byte, u *presence.User) (epoch uint64, err error) {
	r := recordReader{b: value}
	if v := r.byte(); v != recordVersion {
		return 0, fmt.Errorf("%w: its version is %d, this release knows %d", errRecord, v, recordVersion)
	}
	instances := u.Instances[:0]
	*u = presence.User{}
	epoch = r.uint(anyUint64)
	bits := r.byte()
	u.Registered = bits&recordRegistered != 0
	u.Seq, u.EventSeq = r.uint(anyUint64), r.uint(anyUint64)
	u.LastInstID = uint32(r.uint(anyUint32))
	u.RevokedSeq = r.uint(anyUint64)
	u.CutoffS, u.LastSeenMS = r.int(), r.int()
	for _, f := range [...]struct {
		bit byte
		to  *string
	}{{recordCustom, &u.CustomStatus}, {recordNick, &u.Nick}, {recordFaceURL, &u.FaceURL}} {
		if bits&f.bit != 0 {
			*f.to = r.text()
		}
	}
	n := r.uint(uint64(len(r.b) / leastBytes))
	for range n {
		instances = append(instances, r.instance())
	}
	u.Instances = instances
	if r.bad || len(r.b) > 0 {
		return 0, errRecord
	}
	return epoch, nil
}

func (r *recordReader) instance() (in presence.Instance) {
	in.Device.Platform, in.Status = presence.Platform(r.byte()), presence.Status(r.byte())
	in.InstID = uint32(r.uint(presence.MaxInstID))
	in.LoginMS, in.PushUntilMS = r.int(), r.int()
	in.Device.ID, in.Device.SDKVersion, in.Device.Model = r.text(), r.text(), r.text()
	l := &in.Link
	l.Protocol, l.Node = presence.Protocol(r.byte()), uint32(r.uint(anyUint32))
	if len(r.b) < 8 {
		r.fault()
	} else {
		l.ID = presence.LinkID(binary.LittleEndian.Uint64(r.b))
		r.b = r.b[8:]
	}
	l.Listener = r.text()
	l.ConnectedMS = in.LoginMS + r.int()
	var addr netip.AddrPort
	if addr.UnmarshalBinary(r.bytes()) != nil {
		r.fault()
	}
	l.Addr = addr
	return in
}

// encodeApp returns the value of an app.
func encodeApp(a *directory.App) ([]byte, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("cannot encode SDKAppID %d: %w", a.SDKAppID, err)
	}
	return append([]byte{recordVersion}, text...), nil
}

func readApp(key, value []byte) (*directory.App, error) {
	if len(key) != 5 || len(value) == 0 {
		return nil, fmt.Errorf("app %q: %w", key, errRecord)
	}
	id := binary.BigEndian.Uint32(key[1:])
	if value[0] != recordVersion {
		return nil, fmt.Errorf("SDKAppID %d: %w: its version is %d, this release knows %d", id, errRecord, value[0], recordVersion)
	}
	a := new(directory.App)
	if err := json.Unmarshal(value[1:], a); err != nil {
		return nil, fmt.Errorf("SDKAppID %d: %w: %w", id, errRecord, err)
	}
	if a.SDKAppID != id {
		return nil, fmt.Errorf("SDKAppID %d: %w: it says that it is %d", id, errRecord, a.SDKAppID)
	}
	return a, nil
}
