package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// StoredEvent is an event of the outbox or of a log as a dump shows it.
type StoredEvent struct {
	Key         presence.Key
	ID          string // webhook-id
	QueuedMS    int64
	ClientIP    string
	OptPlatform string
	Replayed    bool            `json:",omitempty"`
	Position    uint64          `json:",omitempty"` // in the log
	Event       json.RawMessage // the body
}

// StoredLetter is a dead letter as a dump shows it; its event is in the outbox.
type StoredLetter struct {
	ID       uint64
	Key      presence.Key
	EventSeq uint64
	Cause    string
	DeadMS   int64
}

// StoredLogEnd is where the log of an app ends.
type StoredLogEnd struct {
	App  uint32
	Next uint64 // position of the next event
}

// CheckRecord reports what is wrong with a record of a Storage: New would fail on
// it, or the event could not be told. Of other keys it knows nothing.
func CheckRecord(key, value []byte) error {
	_, err := DescribeRecord(key, value)
	return err
}

// DescribeRecord returns what a record of a Storage says, as a value for JSON: a
// StoredEvent, StoredLetter or StoredLogEnd; nil for a key of somebody else.
func DescribeRecord(key, value []byte) (any, error) {
	if len(key) == 0 {
		return nil, nil
	}
	switch key[0] {
	case kindOutbox:
		e, err := decodeEvent(value)
		if err == nil && !bytes.Equal(key, outboxKey(e.Key, e.Seq)) {
			err = fmt.Errorf("%w: it is event %d of %q", ErrCorrupt, e.Seq, e.Key.UserID)
		}
		return describeEvent(key, &e, 0, err)
	case kindDead:
		l, err := decodeLetter(key, value)
		if err != nil {
			return nil, err
		}
		return StoredLetter{l.ID, l.Event.Key, l.Event.Seq, l.Cause, l.DeadMS}, nil
	case kindLog:
		return describeLog(key, value)
	}
	return nil, nil
}

func describeLog(key, value []byte) (any, error) {
	if len(key) > 1 && key[1] == logEnd {
		app, a, err := decodeLogEnd(key, value)
		if err != nil {
			return nil, err
		}
		return StoredLogEnd{app, a.next}, nil
	}
	k := reader{b: key}
	k.take(2)
	app, position := uint32(k.uint(4)), k.uint(8)
	e, err := decodeEvent(value)
	if err == nil && (k.bad || !bytes.Equal(key, logKey(app, position)) || e.Key.App != app) {
		err = fmt.Errorf("%w: it is event %d of %q", ErrCorrupt, e.Seq, e.Key.UserID)
	}
	return describeEvent(key, &e, position, err)
}

func describeEvent(key []byte, e *Event, position uint64, err error) (any, error) {
	if err != nil {
		return nil, fmt.Errorf("key %q: %w", key, err)
	}
	s := StoredEvent{e.Key, e.ID(), e.QueuedMS, e.IP(), e.OptPlatform, e.Replayed, position, e.Body}
	if !json.Valid(s.Event) {
		return nil, fmt.Errorf("key %q: %w: its body is no JSON", key, ErrCorrupt)
	}
	return s, nil
}
