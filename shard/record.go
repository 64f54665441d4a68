package shard

import (
	"encoding/binary"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// A record is a line, and more lines chained to it if it has more to say:
//
//	head   0  stamp of the write, bit 0 set until it is settled
//	       1  app (low 32 bits), number of the next line or 0 (high 32)
//	       2  size of the UserID 6 bits, registered 1, instances 3 (7: 7 or
//	          more), wide 1, custom 1, platform 4, status 2, user's status 2,
//	          plain 1, Seq 43
//	       3  LastSeenMS 43, InstID 21
//	       4  the UserID, then the stream
//	more   0  the same stamp, settled
//	       1  number of the next line or 0 (low 32), stream (4 bytes)
//	       2  stream
//
// Platform, status and InstID are the first instance's. Numbers that do not fit
// their bits make the record wide: the stream begins with them. So an account
// that is Offline, and all that a query asks about a user with one instance,
// takes one line. The stream holds the rest: see stream.go.
//
// Stamps have bit 63 set and are never used twice, in whatever shard: shard
// number in bits 1 to 16, count of the shard's writes above.
const (
	wordStamp = iota
	wordLink
	wordHead
	wordSeen
	wordID
)

const (
	stampMark    = 1 << 63
	stampPending = 1       // not settled
	stampMore    = 1 << 62 // of a further line: never to be taken for a head

	seqBits    = 43
	seenBits   = 43
	instIDBits = 64 - seenBits

	bitPlain      = 43
	bitUserStatus = 44
	bitStatus     = 46
	bitPlatform   = 48
	bitCustom     = 52
	bitWide       = 53
	bitCount      = 54
	bitRegistered = 57
	bitSize       = 58

	manyInstances = 7

	headRoom = (8 - wordID) * 8 // bytes of UserID and stream in the head
	moreRoom = 6*8 + 4          // bytes of stream in each further line
)

// words is a line's contents.
type words [8]uint64

func (w *words) app() uint32     { return uint32(w[wordLink]) }
func (w *words) size() int       { return int(w[wordHead] >> bitSize) }
func (w *words) bit(n uint) bool { return w[wordHead]>>n&1 != 0 }
func (w *words) platform() presence.Platform {
	return presence.Platform(w[wordHead] >> bitPlatform & 15)
}
func (w *words) status() presence.Status { return presence.Status(w[wordHead] >> bitStatus & 3) }
func (w *words) userStatus() presence.Status {
	return presence.Status(w[wordHead] >> bitUserStatus & 3)
}
func (w *words) instances() int    { return int(w[wordHead] >> bitCount & 7) }
func (w *words) seq() uint64       { return w[wordHead] & (1<<seqBits - 1) }
func (w *words) lastSeenMS() int64 { return int64(w[wordSeen] >> instIDBits) }
func (w *words) instID() uint32    { return uint32(w[wordSeen] & (1<<instIDBits - 1)) }

// is reports whether the record is the user's.
func (w *words) is(p *probe) bool {
	if w.app() != p.app || w.size() != int(p.size) {
		return false
	}
	i := 0
	for ; i < int(p.size)/8; i++ {
		if w[wordID+i] != p.id[i] {
			return false
		}
	}
	rest := p.size % 8 * 8
	return rest == 0 || (w[wordID+i]^p.id[i])<<(64-rest) == 0
}

// idAndStream returns the bytes behind the fixed words.
func (w *words) idAndStream(buf *[headRoom]byte) []byte {
	for i := range headRoom / 8 {
		binary.LittleEndian.PutUint64(buf[8*i:], w[wordID+i])
	}
	return buf[:]
}

// key returns the user's name in memory of its own.
func (w *words) key() presence.Key {
	var buf [headRoom]byte
	return presence.Key{App: w.app(), UserID: string(w.idAndStream(&buf)[:w.size()])}
}

// head makes the fixed words of a record, but for stamp and link, and returns
// whether it is wide.
func (w *words) setHead(size uint8, u *presence.User) (wide bool) {
	var first presence.Instance
	if len(u.Instances) > 0 {
		first = u.Instances[0]
	}
	status := u.Status()
	wide = u.Seq >= 1<<seqBits || uint64(u.LastSeenMS) >= 1<<seenBits || first.InstID >= 1<<instIDBits ||
		first.Device.Platform > 15 || first.Status > 3 || status > 3
	h := uint64(size)<<bitSize | flagBit(u.Registered)<<bitRegistered | uint64(min(len(u.Instances), manyInstances))<<bitCount |
		flagBit(wide)<<bitWide | flagBit(u.CustomStatus != "")<<bitCustom | flagBit(isPlain(u))<<bitPlain
	if wide {
		w[wordHead], w[wordSeen] = h, 0
		return true
	}
	w[wordHead] = h | uint64(first.Device.Platform)<<bitPlatform | uint64(first.Status)<<bitStatus | uint64(status)<<bitUserStatus | u.Seq
	w[wordSeen] = uint64(u.LastSeenMS)<<instIDBits | uint64(first.InstID)
	return false
}

// isPlain reports whether the user is all said by what a query asks.
func isPlain(u *presence.User) bool {
	return len(u.Instances) == 0 && u.EventSeq == 0 && u.LastInstID == 0 && u.CutoffS == 0 && u.RevokedSeq == 0 &&
		u.Nick == "" && u.FaceURL == ""
}

func flagBit(b bool) uint64 {
	if b {
		return 1
	}
	return 0
}

// draft is a record in the making: its lines without stamps and links.
type draft struct {
	head   words
	stream []byte // behind the UserID
	tail   int    // where the stream goes on after the head
}

// draw drafts the record of a user.
func (d *draft) draw(t *Table, p *probe, u *presence.User) {
	wide := d.head.setHead(p.size, u)
	d.stream = appendUser(d.stream[:0], &t.names, u, wide)
	var buf [headRoom]byte
	for i, w := range p.id {
		binary.LittleEndian.PutUint64(buf[8*i:], w)
	}
	d.tail = copy(buf[p.size:], d.stream)
	for i := range headRoom / 8 {
		d.head[wordID+i] = binary.LittleEndian.Uint64(buf[8*i:])
	}
	d.head[wordLink] = uint64(p.app)
}

// more is the number of lines behind the head.
func (d *draft) more() int { return (len(d.stream) - d.tail + moreRoom - 1) / moreRoom }

// part returns the contents of further line number i.
func (d *draft) part(i int, stamp uint64, next uint32) (w words) {
	var buf [56]byte // words 1 to 7
	copy(buf[4:], d.stream[d.tail+i*moreRoom:])
	binary.LittleEndian.PutUint32(buf[:], next)
	w[wordStamp] = stamp | stampMore
	for j := range 7 {
		w[1+j] = binary.LittleEndian.Uint64(buf[8*j:])
	}
	return w
}

// appendPart appends the stream in a further line.
func appendPart(b []byte, w *words) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(w[1]>>32))
	for _, x := range w[2:] {
		b = binary.LittleEndian.AppendUint64(b, x)
	}
	return b
}

// write stores w, the stamp first: a reader that still takes the line for what
// it was sees the stamp change before anything else does.
func (l *line) write(w *words) {
	for i := range w {
		l[i].Store(w[i])
	}
}

// read loads all words. They belong together if the stamp is still there afterwards.
func (l *line) read(w *words) (whole bool) {
	v := l[wordStamp].Load()
	w[0] = v
	w[1], w[2], w[3], w[4], w[5], w[6], w[7] = l[1].Load(), l[2].Load(), l[3].Load(), l[4].Load(), l[5].Load(), l[6].Load(), l[7].Load()
	return v&stampMark != 0 && l[wordStamp].Load()|stampPending == v|stampPending
}
