package embedded

import (
	"fmt"
	"strings"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// expiryIndex orders users by their next expiry: a binary heap of slots. A user
// has at most one entry, however often its phone comes and goes.
type expiryIndex struct {
	slots []expirySlot
	free  []uint32
	heap  []uint32 // slots by due time
	ids   map[presence.Key]uint32
}

type expirySlot struct {
	key   presence.Key
	dueMS int64
	at    int // index in heap
}

// set makes the user expire at dueMS, or not at all.
func (x *expiryIndex) set(k presence.Key, dueMS int64) {
	id, known := x.ids[k]
	switch {
	case dueMS == noDue && known:
		x.remove(id)
	case dueMS == noDue:
	case known:
		x.slots[id].dueMS = dueMS
		x.fix(x.slots[id].at)
	default:
		x.add(k, dueMS)
	}
}

func (x *expiryIndex) add(k presence.Key, dueMS int64) {
	var id uint32
	if n := len(x.free); n > 0 {
		id, x.free = x.free[n-1], x.free[:n-1]
	} else {
		id = uint32(len(x.slots))
		x.slots = append(x.slots, expirySlot{})
	}
	if x.ids == nil {
		x.ids = make(map[presence.Key]uint32)
	}
	k.UserID = strings.Clone(k.UserID) // it stays for days: no larger text must hang on it
	x.ids[k] = id
	x.slots[id] = expirySlot{key: k, dueMS: dueMS, at: len(x.heap)}
	x.heap = append(x.heap, id)
	x.fix(len(x.heap) - 1)
}

func (x *expiryIndex) remove(id uint32) {
	at, last := x.slots[id].at, len(x.heap)-1
	x.swap(at, last)
	x.heap = x.heap[:last]
	if at < last {
		x.fix(at)
	}
	delete(x.ids, x.slots[id].key)
	x.slots[id] = expirySlot{}
	x.free = append(x.free, id)
}

// pop takes out a user who is due at nowMS.
func (x *expiryIndex) pop(nowMS int64) (presence.Key, bool) {
	if x.next() > nowMS {
		return presence.Key{}, false
	}
	id := x.heap[0]
	k := x.slots[id].key
	x.remove(id)
	return k, true
}

// next is the earliest due time.
func (x *expiryIndex) next() int64 {
	if len(x.heap) == 0 {
		return noDue
	}
	return x.slots[x.heap[0]].dueMS
}

func (x *expiryIndex) due(at int) int64 { return x.slots[x.heap[at]].dueMS }

func (x *expiryIndex) swap(i, j int) {
	x.heap[i], x.heap[j] = x.heap[j], x.heap[i]
	x.slots[x.heap[i]].at = i
	x.slots[x.heap[j]].at = j
}

// fix restores the order after the due time at one place changed.
func (x *expiryIndex) fix(at int) {
	for up := (at - 1) / 2; at > 0 && x.due(at) < x.due(up); up = (at - 1) / 2 {
		x.swap(at, up)
		at = up
	}
	for {
		least := at
		for child := 2*at + 1; child <= 2*at+2 && child < len(x.heap); child++ {
			if x.due(child) < x.due(least) {
				least = child
			}
		}
		if least == at {
			return
		}
		x.swap(at, least)
		at = least
	}
}

// check proves order and references.
func (x *expiryIndex) check() error {
	if len(x.heap) != len(x.ids) || len(x.heap)+len(x.free) != len(x.slots) {
		return fmt.Errorf("expiry index: %d in order, %d by user, %d free of %d slots", len(x.heap), len(x.ids), len(x.free), len(x.slots))
	}
	for at, id := range x.heap {
		s := &x.slots[id]
		if s.at != at || x.ids[s.key] != id {
			return fmt.Errorf("expiry index: user %q is at %d, its slot %d says %d", s.key.UserID, at, id, s.at)
		}
		if up := (at - 1) / 2; at > 0 && x.due(up) > s.dueMS {
			return fmt.Errorf("expiry index: user %q due at %d stands below one due at %d", s.key.UserID, s.dueMS, x.due(up))
		}
	}
	return nil
}
