package shard

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// The stream of a record, in order. Numbers are varints, zigzag where they may
// be negative.
//
//	wide     Seq, LastSeenMS, user's status, and with an instance its InstID, platform, status
//	count    if there are 7 instances or more
//	others   per instance but the first: platform and status in one byte, or 0xff
//	         and both; InstID
//	custom   size, bytes                                  (what queries ask ends here)
//	policy   bits: which of EventSeq, LastInstID, CutoffS, RevokedSeq, Nick,
//	         FaceURL follow; the last two are size and bytes
//	device   per instance: bits, LoginMS, PushUntilMS (from LoginMS), device id,
//	         SDK version, model, listener, protocol, node, link id (8 bytes),
//	         address, ConnectedMS (from LoginMS)
//
// A plain record has no policy and device parts.

// Bits of the policy part.
const (
	hasEventSeq = 1 << iota
	hasLastInstID
	hasCutoff
	hasRevoked
	hasNick
	hasFaceURL
)

// Bits of a device part; the form of the address is above them.
const (
	hasPush = 1 << iota
	hasNode
	hasLink
	hasConnected
	addrShift = 4
)

// Forms of an address.
const (
	addrNone = iota // the zero AddrPort
	addrPort        // no address, but a port
	addr4
	addr6
	addrZone
)

// Forms of a device id: most are hexadecimal, and take half the bytes then.
const (
	idRaw = iota
	idHexLower
	idHexUpper
	idUUIDLower
	idUUIDUpper
	idFormBits = 3
)

const escape = 0xff

func appendUser(b []byte, t *names, u *presence.User, wide bool) []byte {
	if wide {
		b = appendWide(b, u)
	}
	if n := len(u.Instances); n >= manyInstances {
		b = binary.AppendUvarint(b, uint64(n))
	}
	for i := 1; i < len(u.Instances); i++ {
		in := &u.Instances[i]
		if p, s := in.Device.Platform, in.Status; p > 15 || s > 14 {
			b = append(b, escape, byte(p), byte(s))
		} else {
			b = append(b, byte(p)<<4|byte(s))
		}
		b = binary.AppendUvarint(b, uint64(in.InstID))
	}
	if u.CustomStatus != "" {
		b = binary.AppendUvarint(b, uint64(len(u.CustomStatus)))
		b = append(b, u.CustomStatus...)
	}
	if isPlain(u) {
		return b
	}
	b = appendPolicy(b, u)
	for i := range u.Instances {
		b = appendDevice(b, t, &u.Instances[i])
	}
	return b
}

func appendWide(b []byte, u *presence.User) []byte {
	b = binary.AppendUvarint(b, u.Seq)
	b = binary.AppendVarint(b, u.LastSeenMS)
	b = append(b, byte(u.Status()))
	if len(u.Instances) > 0 {
		in := &u.Instances[0]
		b = binary.AppendUvarint(b, uint64(in.InstID))
		b = append(b, byte(in.Device.Platform), byte(in.Status))
	}
	return b
}

func appendPolicy(b []byte, u *presence.User) []byte {
	b = append(b, byte(flagBit(u.EventSeq != 0)*hasEventSeq|flagBit(u.LastInstID != 0)*hasLastInstID|
		flagBit(u.CutoffS != 0)*hasCutoff|flagBit(u.RevokedSeq != 0)*hasRevoked|
		flagBit(u.Nick != "")*hasNick|flagBit(u.FaceURL != "")*hasFaceURL))
	if u.EventSeq != 0 {
		b = binary.AppendUvarint(b, u.EventSeq)
	}
	if u.LastInstID != 0 {
		b = binary.AppendUvarint(b, uint64(u.LastInstID))
	}
	if u.CutoffS != 0 {
		b = binary.AppendVarint(b, u.CutoffS)
	}
	if u.RevokedSeq != 0 {
		b = binary.AppendUvarint(b, u.RevokedSeq)
	}
	for _, text := range [...]string{u.Nick, u.FaceURL} {
		if text != "" {
			b = binary.AppendUvarint(b, uint64(len(text)))
			b = append(b, text...)
		}
	}
	return b
}

func appendDevice(b []byte, t *names, in *presence.Instance) []byte {
	l := &in.Link
	form := addrForm(l.Addr)
	b = append(b, byte(flagBit(in.PushUntilMS != 0)*hasPush|flagBit(l.Node != 0)*hasNode|flagBit(l.ID != 0)*hasLink|
		flagBit(l.ConnectedMS != 0)*hasConnected)|form<<addrShift)
	b = binary.AppendVarint(b, in.LoginMS)
	if in.PushUntilMS != 0 {
		b = binary.AppendVarint(b, in.PushUntilMS-in.LoginMS)
	}
	b = appendID(b, in.Device.ID)
	b = appendName(b, t, in.Device.SDKVersion)
	b = appendName(b, t, in.Device.Model)
	b = appendName(b, t, l.Listener)
	b = append(b, byte(l.Protocol))
	if l.Node != 0 {
		b = binary.AppendUvarint(b, uint64(l.Node))
	}
	if l.ID != 0 {
		b = binary.LittleEndian.AppendUint64(b, uint64(l.ID))
	}
	b = appendAddr(b, t, l.Addr, form)
	if l.ConnectedMS != 0 {
		b = binary.AppendVarint(b, l.ConnectedMS-in.LoginMS)
	}
	return b
}

// appendName appends a string that others are likely to have too: 0 for none,
// an even number for one of the names, an odd one for the bytes themselves.
func appendName(b []byte, t *names, s string) []byte {
	if s == "" {
		return append(b, 0)
	}
	if n, ok := t.number(s); ok {
		return binary.AppendUvarint(b, uint64(n+1)<<1)
	}
	b = binary.AppendUvarint(b, uint64(len(s))<<1|1)
	return append(b, s...)
}

func addrForm(a netip.AddrPort) byte {
	switch ip := a.Addr(); {
	case a == netip.AddrPort{}:
		return addrNone
	case !ip.IsValid():
		return addrPort
	case ip.Is4():
		return addr4
	case ip.Zone() == "":
		return addr6
	}
	return addrZone
}

func appendAddr(b []byte, t *names, a netip.AddrPort, form byte) []byte {
	switch form {
	case addrNone:
		return b
	case addr4:
		ip := a.Addr().As4()
		b = append(b, ip[:]...)
	case addr6, addrZone:
		ip := a.Addr().As16()
		b = append(b, ip[:]...)
	}
	if form == addrZone {
		b = appendName(b, t, a.Addr().Zone())
	}
	return binary.LittleEndian.AppendUint16(b, a.Port())
}

// appendID appends a device id: its size and form, then its bytes, two digits in one if they are hexadecimal.
func appendID(b []byte, id string) []byte {
	form := idForm(id)
	b = binary.AppendUvarint(b, uint64(len(id))<<idFormBits|uint64(form))
	if form == idRaw {
		return append(b, id...)
	}
	var high byte
	half := false
	for i := range len(id) {
		if id[i] == '-' {
			continue
		}
		d := id[i] & 15
		if id[i] > '9' {
			d += 9
		}
		if half = !half; half {
			high = d << 4
		} else {
			b = append(b, high|d)
		}
	}
	return b
}

func idForm(id string) int {
	uuid := len(id) == 36 && id[8] == '-' && id[13] == '-' && id[18] == '-' && id[23] == '-'
	if !uuid && len(id)%2 != 0 || id == "" {
		return idRaw
	}
	lower, upper, hyphens := false, false, 0
	for i := range len(id) {
		switch c := id[i]; {
		case c >= '0' && c <= '9':
		case c >= 'a' && c <= 'f':
			lower = true
		case c >= 'A' && c <= 'F':
			upper = true
		case c == '-' && uuid:
			hyphens++
		default:
			return idRaw
		}
	}
	switch {
	case lower && upper, uuid && hyphens != 4:
		return idRaw
	case uuid && upper:
		return idUUIDUpper
	case uuid:
		return idUUIDLower
	case upper:
		return idHexUpper
	}
	return idHexLower
}

// reader takes a stream apart. It trusts it: it is of a record that was read whole.
type reader struct {
	b     []byte
	names *names
	// text, if not nil, is where strings are put that are lent: valid until it
	// is written again. Else each string gets memory of its own.
	text *[]byte
}

func (r *reader) byte() byte {
	c := r.b[0]
	r.b = r.b[1:]
	return c
}

func (r *reader) uint() uint64 {
	if c := r.b[0]; c < 0x80 {
		r.b = r.b[1:]
		return uint64(c)
	}
	x, n := binary.Uvarint(r.b)
	r.b = r.b[n:]
	return x
}

func (r *reader) int() int64 {
	x := r.uint()
	return int64(x>>1) ^ -int64(x&1)
}

func (r *reader) bytes(n int) []byte {
	b := r.b[:n]
	r.b = r.b[n:]
	return b
}

// string makes a string of b; old, if it is the same, saves the memory.
func (r *reader) string(b []byte, old string) string {
	if r.text != nil {
		from := len(*r.text)
		*r.text = append(*r.text, b...)
		return lend((*r.text)[from:])
	}
	if string(b) == old {
		return old
	}
	return string(b)
}

// user fills u, reusing its Instances.
func (r *reader) user(w *words, u *presence.User) {
	instances, custom, nick, faceURL := u.Instances, u.CustomStatus, u.Nick, u.FaceURL
	*u = presence.User{Registered: w.bit(bitRegistered), Seq: w.seq(), LastSeenMS: w.lastSeenMS()}
	n := w.instances()
	first := presence.Instance{InstID: w.instID(), Status: w.status(), Device: presence.Device{Platform: w.platform()}}
	if w.bit(bitWide) {
		u.Seq, u.LastSeenMS = r.uint(), r.int()
		r.byte()
		if n > 0 {
			first.InstID = uint32(r.uint())
			first.Device.Platform, first.Status = presence.Platform(r.byte()), presence.Status(r.byte())
		}
	}
	if n == manyInstances {
		n = int(r.uint())
	}
	u.Instances = slices.Grow(instances[:0], n)[:n]
	for i := range u.Instances {
		in := first
		if i > 0 {
			in.Device.Platform, in.Status, in.InstID = r.other()
		}
		old := &u.Instances[i]
		old.InstID, old.Status, old.Device.Platform = in.InstID, in.Status, in.Device.Platform
	}
	if w.bit(bitCustom) {
		u.CustomStatus = r.string(r.bytes(int(r.uint())), custom)
	}
	if w.bit(bitPlain) {
		return
	}
	r.policy(u, nick, faceURL)
	for i := range u.Instances {
		r.device(&u.Instances[i])
	}
}

func (r *reader) other() (presence.Platform, presence.Status, uint32) {
	c := r.byte()
	p, s := presence.Platform(c>>4), presence.Status(c&15)
	if c == escape {
		p, s = presence.Platform(r.byte()), presence.Status(r.byte())
	}
	return p, s, uint32(r.uint())
}

// policy takes nick and faceURL for the memory they are in, if they are the same.
func (r *reader) policy(u *presence.User, nick, faceURL string) {
	has := r.byte()
	if has&hasEventSeq != 0 {
		u.EventSeq = r.uint()
	}
	if has&hasLastInstID != 0 {
		u.LastInstID = uint32(r.uint())
	}
	if has&hasCutoff != 0 {
		u.CutoffS = r.int()
	}
	if has&hasRevoked != 0 {
		u.RevokedSeq = r.uint()
	}
	if has&hasNick != 0 {
		u.Nick = r.string(r.bytes(int(r.uint())), nick)
	}
	if has&hasFaceURL != 0 {
		u.FaceURL = r.string(r.bytes(int(r.uint())), faceURL)
	}
}

func (r *reader) device(in *presence.Instance) {
	has := r.byte()
	in.LoginMS, in.PushUntilMS = r.int(), 0
	if has&hasPush != 0 {
		in.PushUntilMS = in.LoginMS + r.int()
	}
	in.Device.ID = r.id(in.Device.ID)
	in.Device.SDKVersion = r.name(in.Device.SDKVersion)
	in.Device.Model = r.name(in.Device.Model)
	l := &in.Link
	listener := r.name(l.Listener)
	*l = presence.Link{Listener: listener, Protocol: presence.Protocol(r.byte())}
	if has&hasNode != 0 {
		l.Node = uint32(r.uint())
	}
	if has&hasLink != 0 {
		l.ID = presence.LinkID(binary.LittleEndian.Uint64(r.bytes(8)))
	}
	l.Addr = r.addr(has >> addrShift)
	if has&hasConnected != 0 {
		l.ConnectedMS = in.LoginMS + r.int()
	}
}

func (r *reader) name(old string) string {
	switch x := r.uint(); {
	case x == 0:
		return ""
	case x&1 == 0:
		return r.names.name(uint32(x>>1) - 1)
	default:
		return r.string(r.bytes(int(x>>1)), old)
	}
}

func (r *reader) addr(form byte) netip.AddrPort {
	var ip netip.Addr
	switch form {
	case addrNone:
		return netip.AddrPort{}
	case addr4:
		ip = netip.AddrFrom4([4]byte(r.bytes(4)))
	case addr6:
		ip = netip.AddrFrom16([16]byte(r.bytes(16)))
	case addrZone:
		ip = netip.AddrFrom16([16]byte(r.bytes(16))).WithZone(string([]byte(r.name(""))))
	}
	return netip.AddrPortFrom(ip, binary.LittleEndian.Uint16(r.bytes(2)))
}

func (r *reader) id(old string) string {
	x := r.uint()
	n, form := int(x>>idFormBits), x&(1<<idFormBits-1)
	if form == idRaw {
		return r.string(r.bytes(n), old)
	}
	digits := "0123456789abcdef"
	if form == idHexUpper || form == idUUIDUpper {
		digits = "0123456789ABCDEF"
	}
	uuid := form == idUUIDLower || form == idUUIDUpper
	bytes := n / 2
	if uuid {
		bytes = 16
	}
	var room [64]byte
	text := room[:0]
	for i, c := range r.bytes(bytes) {
		if uuid && (i == 4 || i == 6 || i == 8 || i == 10) {
			text = append(text, '-')
		}
		text = append(text, digits[c>>4], digits[c&15])
	}
	return r.string(text, old)
}
