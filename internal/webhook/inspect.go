package webhook

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// StoredEvent is what a dump shows of a key of the outbox, the dead letters or the
// log.
type StoredEvent struct {
	Key      presence.Key
	Seq      uint64          `json:",omitempty"` // the user's EventSeq
	ID       string          `json:",omitempty"` // the webhook-id
	QueuedMS int64           `json:",omitempty"`
	Replayed bool            `json:",omitempty"`
	Event    json.RawMessage `json:",omitempty"` // the body of the request

	LetterID uint64 `json:",omitempty"` // of a dead letter; its event is in the outbox, by Seq
	Cause    string `json:",omitempty"`
	DeadMS   int64  `json:",omitempty"`

	Position uint64 `json:",omitempty"` // in the log of its app
	Next     uint64 `json:",omitempty"` // of the end of a log: the position after it
}

// DescribeRecord returns what a key of ours says, as a value for JSON; nil for
// a key of somebody else.
func DescribeRecord(key, value []byte) (any, error) {
	if len(key) == 0 {
		return nil, nil
	}
	switch {
	case key[0] == kindOutbox:
		e, err := decodeEvent(value)
		if err == nil && !slices.Equal(key, outboxKey(e.Key, e.Seq)) {
			err = fmt.Errorf("%w: key %x", ErrCorrupt, key)
		}
		return describeEvent(&e, 0), err
	case key[0] == kindDead:
		l, err := decodeLetter(key, value)
		return &StoredEvent{Key: l.Event.Key, Seq: l.Event.Seq, LetterID: l.ID, Cause: l.Cause, DeadMS: l.DeadMS}, err
	case key[0] == kindLog && len(key) == 6 && key[1] == logEnd:
		app, end, err := decodeLogEnd(key, value)
		return &StoredEvent{Key: presence.Key{App: app}, Next: end.next}, err
	case key[0] == kindLog && len(key) == 14 && key[1] == logEntry:
		e, err := decodeEvent(value)
		return describeEvent(&e, binary.BigEndian.Uint64(key[6:])), err
	case key[0] == kindLog:
		return nil, fmt.Errorf("%w: key %x", ErrCorrupt, key)
	}
	return nil, nil
}

func describeEvent(e *Event, position uint64) *StoredEvent {
	s := &StoredEvent{Key: e.Key, Seq: e.Seq, ID: e.ID(), QueuedMS: e.QueuedMS, Replayed: e.Replayed, Position: position}
	if json.Valid(e.Body) {
		s.Event = e.Body
	}
	return s
}
