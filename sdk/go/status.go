package rollcall

import (
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// Status is what the client is doing.
type Status uint8

// The statuses.
const (
	Connecting Status = 1 + iota // opening a link and logging in
	Online                       // logged in
	Waiting                      // for the next try
	Ended                        // Run is about to return
)

// String names the status.
func (s Status) String() string {
	switch s {
	case Connecting:
		return "connecting"
	case Online:
		return "online"
	case Waiting:
		return "waiting"
	case Ended:
		return "ended"
	}
	return "unknown"
}

// StatusChange is told to Options.OnStatus.
type StatusChange struct {
	Status Status
	Addr   string        // Connecting, Online: the server
	Err    error         // Waiting: why the last try or link ended; Ended: what Run returns
	Wait   time.Duration // Waiting: for how long
}

// Login is a login that the server let in.
type Login struct {
	InstID            uint32
	Ticket            []byte // for Options.Ticket of a later run; empty if the server gave none
	ServerTime        time.Time
	HeartbeatInterval time.Duration
	SilenceTimeout    time.Duration          // after this much silence the server gives the link up
	Kicked            []codec.KickedInstance // pushed out by this login, oldest login first
	Resumed           bool                   // this login was a resume
	TakenBack         bool                   // a resume found its instance again: same InstID as before
}
