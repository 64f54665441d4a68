package engine

import (
	"github.com/rollcall-im/rollcall/internal/presence"
)

// state is where a session is in its life.
//
//	new ----Login good----> deciding --Directory: yes--> online --Logout--> leaving
//	 |                         |                           |                  |
//	 +---------- refused, fault, notice, stop -------------+---- LogoutOK ----+
//	                           v
//	                        draining --client closed, DrainTimeout or maxDiscarded--> free
//
// FIN, RST, silence and a slow reader lead from any state to free.
type state uint8

const (
	stateFree     state = iota // no link: the slot waits for one
	stateNew                   // accepted, no Login yet
	stateDeciding              // the Directory has the login, or it waits for its turn (flagWaiting)
	stateOnline                // the link stands for an Online instance
	stateLeaving               // the Directory has the logout
	stateDraining              // told why it ends; FIN is sent as soon as all is written; what comes in is discarded, up to maxDiscarded
)

var stateNames = [...]string{"free", "new", "deciding", "online", "leaving", "draining"}

// String returns the state's name.
func (s state) String() string { return stateNames[s] }

// Session is the state of one link. There are millions: it fills one cache line,
// and what is needed only while a login is decided lies in its loginCall. It belongs to its loop; only ID and State
// are for others, and only between calls of the loop.
type Session struct {
	// Owned by the event loop.
	conn Conn
	user string // UserID
	id   presence.LinkID

	seen    moment // when bytes came last
	until   uint32 // when the state ends by itself, a moment; online: the silence time-out in milliseconds
	sigEndS uint32 // when the link must end with its UserSig, Unix seconds; 0 = never
	app     uint32

	rest     uint16 // bytes of an incomplete frame that Data left with its caller; with flagSkip, of a frame that are to come and to be discarded; draining: see discarded
	beats    uint16 // heartbeats to answer after LoginOK; draining: see discarded
	platform presence.Platform
	state    state
	flags    flags
	wire     wire
}

// moment is a MonoMS modulo 2^32. Which one is meant follows from the present,
// as all are near it.
type moment uint32

// near returns the MonoMS of a moment less than 24 days away, before or after.
func (m moment) near(nowMS int64) int64 { return nowMS + int64(int32(uint32(m)-uint32(nowMS))) }

type flags uint8

const (
	flagLogout        flags = 1 << iota // deciding: a Logout waits for the decision
	flagNodeStop                        // deciding: the node stops, tell it after the answer
	flagFIN                             // draining: FIN is sent
	flagSkip                            // rest is to be discarded
	flagHeard                           // the first frame was complete
	flagHeader                          // new: a PROXY header is to come first, which tells the client's address
	flagAuthenticated                   // the link is, or was, logged in
	flagWaiting                         // deciding: the login waits, the Directory does not know of it
)

// ID is the link's id; it names the slot's last or next link if the session is free.
func (s *Session) ID() presence.LinkID { return s.id }

// State is the name of the session's state: new, deciding, online, leaving,
// draining, or free after the link ended.
func (s *Session) State() string { return s.state.String() }

// held is how many bytes Data left with its caller.
func (s *Session) held() int {
	if s.has(flagSkip) {
		return 0
	}
	return int(s.rest)
}

// hold notes that n bytes are left with the caller of Data.
func (s *Session) hold(n int) {
	s.rest = uint16(n)
	s.flags &^= flagSkip
}

// discarded is how many bytes came of a client whose link has ended. A draining
// session has no other use for rest and beats.
func (s *Session) discarded() int { return int(s.beats)<<16 | int(s.rest) }

func (s *Session) setDiscarded(n int) { s.beats, s.rest = uint16(n>>16), uint16(n) }

// skip notes that the n bytes to come mean nothing.
func (s *Session) skip(n int) {
	s.hold(n)
	if n > 0 {
		s.flags |= flagSkip
	}
}

func (s *Session) has(f flags) bool { return s.flags&f != 0 }
