package webhook

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
)

// Every record that a dispatcher writes is sound and can be shown; with a byte
// less none is. What New refuses is what CheckRecord finds.
func TestInspect(t *testing.T) {
	store := newMemStorage()
	d, err := NewDurable(MemoryOptions{}, store, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	log, err := newEventLog(store, 10, 7, false)
	if err != nil {
		t.Fatal(err)
	}
	var events []Event
	for seq := uint64(1); seq <= 2; seq++ {
		ts := login(1, "u", seq)
		events = append(events, newEvent(&ts, 7, 1000))
	}
	store.Commit(func(w Writer) {
		d.Record(w, events)
		log.record(w, []recordedEvent{{event: events[0]}, {event: events[1]}})
	}, func(error) {})
	if _, err := d.Append(events, 1000); err != nil {
		t.Fatal(err)
	}
	batch, _ := d.Claim(1, 1000, 1)
	d.Bury(batch, CauseGaveUp, 2000)
	d.Close(time.Second)
	kinds := map[byte]int{}
	for key, value := range store.visible {
		kinds[key[0]]++
		record, err := DescribeRecord([]byte(key), []byte(value))
		if err != nil || record == nil {
			t.Errorf("key %q: %v, %v", key, record, err)
		}
		if text, err := json.Marshal(record); err != nil {
			t.Errorf("key %q: %s, %v", key, text, err)
		}
		for _, bad := range [][2]string{{key, value[:len(value)-1]}, {key + "x", value}, {key, ""}, {key[:1], value}} {
			if err := CheckRecord([]byte(bad[0]), []byte(bad[1])); !errors.Is(err, ErrCorrupt) {
				t.Errorf("key %q with value %q: %v", bad[0], bad[1], err)
			}
		}
	}
	if kinds[kindOutbox] != 2 || kinds[kindDead] != 1 || kinds[kindLog] != 3 {
		t.Errorf("the store has %v", kinds)
	}
	for _, key := range []string{"", "u123", "mboot"} {
		if record, err := DescribeRecord([]byte(key), nil); record != nil || err != nil {
			t.Errorf("key %q of somebody else: %v, %v", key, record, err)
		}
	}
}
