package webhook

import "errors"

// Outbox keeps events until they are delivered or given up. Events of one user
// form a lane: a lane hands out one event at a time, the oldest, and no other
// until that one is settled by Ack, Nack or Bury. Lanes are independent of each
// other, and apps too: the backlog of one never takes the room of another that
// holds less.
//
// NewMemory makes the one that forgets at a restart. A durable one writes what
// Append gets together with the decision that caused it, and must answer Claim
// with what an earlier life left behind: Durable. Safe for concurrent use. No method waits for a receiver.
type Outbox interface {
	// Append adds events; those of one user in the order of their Seq. It owns
	// the events' memory from then on. What had to give way for them is told in Shed.
	Append(events []Event, nowMS int64) (Shed, error)
	// Claim hands out the events of one request: of lanes of app that are
	// runnable at nowMS, in turn, up to max events, from each its oldest ones in
	// order. With max 1 that is one event of one lane. What was handed out
	// together stays together until it is settled, unless max has become smaller.
	// more reports that another lane is runnable too. The batch is the caller's;
	// it is empty if there is nothing to do.
	Claim(app uint32, nowMS int64, max int) (batch []Event, more bool)
	// NextMS is when a lane of app that waits becomes runnable: in the past if
	// one is now, 0 if none waits. Claimed lanes do not count.
	NextMS(app uint32) int64
	// Ack forgets claimed events: they are delivered, or not wanted any more.
	Ack(batch []Event)
	// Nack returns a claimed batch, one attempt older; its lanes wait until nextMS.
	Nack(batch []Event, nextMS int64)
	// Bury moves claimed events to the dead letters. They may be the first ones
	// of their lanes in a batch; the rest of it stays claimed.
	Bury(batch []Event, cause string, nowMS int64)
	// Hurry makes every waiting lane of app runnable.
	Hurry(app uint32)
	// Apps lists the apps that have events, in no order.
	Apps() []uint32
	// DeadLetters returns up to max dead letters of app with an ID below before
	// (0 = all), the newest first.
	DeadLetters(app uint32, before uint64, max int) []DeadLetter
	// Replay queues dead letters of app again, as new as nowMS, each ahead of
	// the younger events of its user that are not out; Skip forgets them. They
	// take those that ids names, or the oldest ones up to max if ids is nil, and
	// return how many they found. Replay stops where there is no room: ErrFull.
	Replay(app uint32, ids []uint64, max int, nowMS int64) (int, error)
	Skip(app uint32, ids []uint64, max int) int
	// Blocked reports whether app must not cause further events for now: only
	// with FullBlock, and only while the outbox is full.
	Blocked(app uint32) bool
	// Stats counts what is kept.
	Stats() OutboxStats
	// Check proves the structure consistent.
	Check() error
}

// FullPolicy is what a full outbox does with an event more.
type FullPolicy string

// The policies. Whatever gives way is of the app with the largest backlog, and counted.
const (
	// FullCoalesce drops an older event of the same user, or moves the oldest
	// one to the dead letters if its user has no newer one.
	FullCoalesce FullPolicy = "coalesce"
	// FullDeadLetters moves the oldest event to the dead letters.
	FullDeadLetters FullPolicy = "drop-oldest-to-dead-letters"
	// FullBlock keeps all: it is the logins that have to wait, see Blocked. What
	// other changes cause is taken above the bound: those that are left are no
	// more than the instances there are.
	FullBlock FullPolicy = "block-logins"
)

// Shed counts the events that gave way to others. All leave a gap in the user's
// EventSeq, by which the receiver can tell.
type Shed struct {
	// Coalesced events were dropped in favour of a newer one of the same user
	// because the outbox was full.
	Coalesced int
	// Diverted events went to the dead letters undelivered because it was full.
	Diverted int
	// Merged events were dropped for a newer one because their app wants only the newest.
	Merged int
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
	// Full is set from the moment an event had to give way, or logins to wait,
	// until a tenth of the room is free again.
	Full bool
	// StoreFailures counts the commits and reads that the store of a Durable failed.
	StoreFailures uint64
}

// DeadLetter is an event that was given up.
type DeadLetter struct {
	ID     uint64 // grows with each; unique within the outbox
	Event  Event
	Cause  string // CauseGaveUp or CauseFull
	DeadMS int64  // when, Unix milliseconds
}

// Causes of a dead letter.
const (
	CauseGaveUp = "gave_up" // older than the app's give-up age
	CauseFull   = "full"    // the outbox was full
)

// ErrFull says that the outbox has no room for what was to be replayed.
var ErrFull = errors.New("the webhook outbox is full")
