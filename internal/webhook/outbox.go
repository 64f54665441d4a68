package webhook

import "github.com/rollcall-im/rollcall/internal/presence"

// Outbox keeps events until they are delivered or given up. Events of one user
// form a lane: a lane hands out one event at a time, the oldest, and no other
// until that one is settled by Ack, Nack or Bury. Lanes are independent of each
// other, and apps too: the backlog of one never takes the room of another that
// holds less.
//
// NewMemory makes the one that forgets at a restart. A durable one writes what
// Append gets together with the decision that caused it, and must answer Claim
// with what an earlier life left behind; nothing here asks it to keep bodies in
// memory. Safe for concurrent use. No method waits for a receiver.
type Outbox interface {
	// Append adds events; those of one user in the order of their Seq. It owns
	// the events' memory from then on. What had to give way for them is told in Shed.
	Append(events []Event, nowMS int64) (Shed, error)
	// Claim hands out the oldest event of a lane of app that is runnable at
	// nowMS, lanes in turn. more reports that another lane is runnable too.
	Claim(app uint32, nowMS int64) (e Event, more, ok bool)
	// NextMS is when a lane of app that waits becomes runnable: in the past if
	// one is now, 0 if none waits. Claimed lanes do not count.
	NextMS(app uint32) int64
	// Ack forgets a claimed event: it is delivered, or not wanted any more.
	Ack(e *Event)
	// Nack returns a claimed event to its lane, one attempt older; the lane waits until nextMS.
	Nack(e *Event, nextMS int64)
	// Bury moves a claimed event to the dead letters.
	Bury(e *Event, cause string, nowMS int64)
	// Hurry makes every waiting lane of app runnable.
	Hurry(app uint32)
	// Apps lists the apps that have events, in no order.
	Apps() []uint32
	// DeadLetters returns up to max dead letters of app, the newest first.
	DeadLetters(app uint32, max int) []DeadLetter
	// Stats counts what is kept.
	Stats() OutboxStats
	// Check proves the structure consistent.
	Check() error
}

// Shed counts the events that gave way to others because the outbox was full.
// Both leave a gap in the user's EventSeq, by which the receiver can tell.
type Shed struct {
	// Coalesced events were dropped in favour of a newer one of the same user.
	Coalesced int
	// Diverted events went to the dead letters undelivered.
	Diverted int
}

func (s Shed) any() bool { return s.Coalesced+s.Diverted > 0 }

// OutboxStats is the size of an outbox.
type OutboxStats struct {
	Events      int
	Bytes       int64
	Lanes       int
	DeadLetters int
	// DeadLettersLost counts the dead letters that fell out of the list.
	DeadLettersLost uint64
	// OldestMS is the QueuedMS of the oldest event; 0 if there is none.
	OldestMS int64
	// Full is set from the moment an event had to give way until a tenth of the room is free again.
	Full bool
}

// DeadLetter is an event that was given up.
type DeadLetter struct {
	Event  Event
	Cause  string // CauseGaveUp or CauseFull
	DeadMS int64  // when, Unix milliseconds
}

// Causes of a dead letter.
const (
	CauseGaveUp = "gave_up" // older than the app's give-up age
	CauseFull   = "full"    // the outbox was full
)

// lane is the events of one user, oldest first. Guarded by the mutex of its outbox.
type lane struct {
	key        presence.Key
	app        *appQueue
	head, tail *node
	state      laneState
	nextMS     int64 // laneWaiting: when it becomes runnable
	heapIndex  int   // laneWaiting: place in app.waiting
	prev, next *lane // laneRunnable: neighbours in app.runnable
}

type laneState uint8

const (
	laneIdle     laneState = iota // has no event; about to be forgotten
	laneRunnable                  // in app.runnable
	laneClaimed                   // its head is out; in no list
	laneWaiting                   // in app.waiting
)

// node is one event in two lists: its lane's and its app's, both by age.
type node struct {
	event            Event
	lane             *lane
	laneNext         *node
	appPrev, appNext *node
}

// claimed reports whether the event is out for an attempt: it must not give way.
func (n *node) claimed() bool { return n.lane.state == laneClaimed && n.lane.head == n }
