package webhook

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// A dump shows of each key what it is about, and finds one that is damaged.
func TestDescribeRecord(t *testing.T) {
	e := Event{Key: presence.Key{App: 7, UserID: "alice"}, Seq: 3, QueuedMS: 5, Body: []byte(`{"Info":1}`)}
	l := DeadLetter{ID: 9, Event: e, Cause: CauseFull, DeadMS: 6}
	event := appendEvent(nil, &e)
	for _, c := range []struct {
		key, value []byte
		want       string // "" = damaged
	}{
		{outboxKey(e.Key, 3), event, `"Seq":3,"ID":"` + e.ID() + `","QueuedMS":5,"Event":{"Info":1}`},
		{outboxKey(e.Key, 4), event, ""},
		{outboxKey(e.Key, 3), event[1:], ""},
		{deadKey(7, 9), appendLetter(nil, &l), `"LetterID":9,"Cause":"full","DeadMS":6`},
		{deadKey(7, 9), nil, ""},
		{logKey(7, 12), event, `"Position":12`},
		{logKey(7, 12), nil, ""},
		{logEndKey(7), nil, ""},
		{[]byte{kindLog, 5}, event, ""},
	} {
		got, err := DescribeRecord(c.key, c.value)
		text, jerr := json.Marshal(got)
		if jerr != nil {
			t.Fatal(jerr)
		}
		switch {
		case c.want == "" && !errors.Is(err, ErrCorrupt):
			t.Errorf("key %x, value %x: %v", c.key, c.value, err)
		case c.want != "" && (err != nil || !strings.Contains(string(text), c.want)):
			t.Errorf("key %x: %s, %v, want %s", c.key, text, err, c.want)
		}
	}
	if got, err := DescribeRecord([]byte("ualice"), nil); got != nil || err != nil {
		t.Errorf("somebody else's key: %v, %v", got, err)
	}
}
