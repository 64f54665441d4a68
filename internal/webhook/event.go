package webhook

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strconv"
	"unicode/utf8"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// command is the one callback command there is.
const command = "State.StateChange"

// Event is one transition that the app's receiver is to be told of. It is
// rendered once, so that every attempt sends the same body; what belongs to an
// attempt (Sign, RequestTime, signature) is not in it.
type Event struct {
	Key presence.Key
	// Seq is the user's EventSeq: dense, so the next event of a lane is Seq+1.
	Seq uint64
	// Epoch tells apart counts that began anew: a node without a store counts
	// from 1 again after a restart and must not reuse the ids of its last life.
	Epoch uint64
	// QueuedMS is when the event was accepted, Unix milliseconds. Its age counts from here.
	QueuedMS    int64
	OptPlatform string // as in the query string
	ClientIP    netip.Addr
	Body        []byte
	// Attempts is how often delivery has failed.
	Attempts int
	// Newest says that those of the user's events that wait give way to this one.
	Newest bool
	// Replayed says that it was a dead letter: younger events may have gone before it.
	Replayed bool
}

// ID is the webhook-id: the same for every attempt at the event, and different
// for any two events. It hides the UserID, which may hold a full stop: the
// signed text is split at those.
func (e *Event) ID() string {
	h := sha256.New()
	var n [20]byte
	binary.BigEndian.PutUint64(n[0:], e.Epoch)
	binary.BigEndian.PutUint32(n[8:], e.Key.App)
	binary.BigEndian.PutUint64(n[12:], e.Seq)
	h.Write(n[:])
	h.Write([]byte(e.Key.UserID))
	return "msg_" + hex.EncodeToString(h.Sum(nil)[:16])
}

// IP is the client's address as requests tell it, "" if there is none.
func (e *Event) IP() string {
	if !e.ClientIP.IsValid() {
		return ""
	}
	return e.ClientIP.String()
}

// size is what the event counts for against MaxBytes.
func (e *Event) size() int64 {
	return int64(eventOverhead + len(e.Body) + len(e.Key.UserID))
}

// eventOverhead covers the structures around an event: Event, list node, its share of a lane.
const eventOverhead = 384

// newEvent renders t, which has an EventSeq.
func newEvent(t *presence.Transition, epoch uint64, nowMS int64) Event {
	return Event{
		Key:         t.Key,
		Seq:         t.EventSeq,
		Epoch:       epoch,
		QueuedMS:    nowMS,
		OptPlatform: optPlatform(t),
		ClientIP:    t.Inst.Link.Addr.Addr().Unmap().WithZone(""),
		Body:        appendBody(make([]byte, 0, 256), t),
	}
}

// byREST is the OptPlatform of a change over REST or the console.
const byREST = "RESTAPI"

func optPlatform(t *presence.Transition) string {
	if t.ByREST {
		return byREST
	}
	return t.Inst.Device.Platform.WebhookName()
}

// appendBody appends the JSON body. The members come in the order of the
// published example, ours after them.
func appendBody(b []byte, t *presence.Transition) []byte {
	b = append(b, `{"CallbackCommand":"`+command+`","EventTime":`...)
	b = strconv.AppendInt(b, t.TimeMS, 10)
	b = append(b, `,"Info":{"Action":`...)
	b = appendString(b, t.Action.String())
	b = append(b, `,"To_Account":`...)
	b = appendString(b, t.Key.UserID)
	b = append(b, `,"Reason":`...)
	b = appendString(b, t.Reason.String())
	if t.Action == presence.ActionCustomStatus {
		b = append(b, `,"CustomStatus":`...)
		b = appendString(b, t.CustomStatus)
	}
	b = appendInstance(b, &t.Inst)
	b = append(b, '}')
	b = appendKicked(b, t)
	b = append(b, `,"EventSeq":`...)
	b = strconv.AppendUint(b, t.EventSeq, 10)
	return append(b, '}')
}

// appendInstance tells which instance it was. A custom status set over REST speaks of none.
func appendInstance(b []byte, inst *presence.Instance) []byte {
	if inst.InstID == 0 {
		return b
	}
	b = append(b, `,"InstID":`...)
	b = strconv.AppendUint(b, uint64(inst.InstID), 10)
	b = append(b, `,"Platform":`...)
	return appendString(b, inst.Device.Platform.String())
}

func appendKicked(b []byte, t *presence.Transition) []byte {
	if t.Action != presence.ActionLogin || len(t.Kicked) == 0 {
		return b
	}
	b = append(b, `,"KickedDevice":[`...)
	for i := range t.Kicked {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"Platform":`...)
		b = appendString(b, t.Kicked[i].Device.Platform.KickedName())
		b = append(b, '}')
	}
	return append(b, ']')
}

// appendString appends s as a JSON string. What is not UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			b = appendASCII(b, c)
			i++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		b = utf8.AppendRune(b, r)
		i += n
	}
	return append(b, '"')
}

func appendASCII(b []byte, c byte) []byte {
	switch {
	case c == '"' || c == '\\':
		return append(b, '\\', c)
	case c < 0x20:
		return append(b, '\\', 'u', '0', '0', '0'+c>>4, "0123456789abcdef"[c&15])
	}
	return append(b, c)
}
