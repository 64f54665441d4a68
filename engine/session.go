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
//	                        draining --client closed, or DrainTimeout--> free
//
// FIN, RST, silence and a slow reader lead from any state to free.
type state uint8

const (
	stateFree     state = iota // no link: the slot waits for one
	stateNew                   // accepted, no Login yet
	stateDeciding              // the Directory has the login
	stateOnline                // the link stands for an Online instance
	stateLeaving               // the Directory has the logout
	stateDraining              // told why it ends; FIN is sent as soon as all is written; what comes in is discarded
)

var stateNames = [...]string{"free", "new", "deciding", "online", "leaving", "draining"}

// String returns the state's name.
func (s state) String() string { return stateNames[s] }

// Session is the state of one link. It belongs to its loop; only ID and State
// are for others, and only between calls of the loop.
type Session struct {
	// Owned by the event loop.
	conn  Conn
	ident string // UserID followed by the device id: one object for both
	call  *loginCall
	id    presence.LinkID

	seenMS   int64 // when bytes came last, MonoMS
	dueMS    int64 // when the state ends by itself, MonoMS; in online silenceMS tells
	sigEndMS int64 // when the link must end with its UserSig, WallMS; 0 = never

	app       uint32
	silenceMS uint32 // silence time-out
	held      uint32 // bytes of an incomplete frame that Data left with its caller
	skip      uint32 // bytes of an unknown frame that are still to come and to be discarded
	beats     uint16 // heartbeats to answer after LoginOK
	userLen   uint8  // bytes of ident that are the UserID
	platform  presence.Platform
	state     state
	flags     flags
}

type flags uint8

const (
	flagLogout   flags = 1 << iota // deciding: a Logout waits for the decision
	flagNodeStop                   // deciding: the node stops, tell it after the answer
	flagFIN                        // draining: FIN is sent
)

// ID is the link's id; it names the slot's last or next link if the session is free.
func (s *Session) ID() presence.LinkID { return s.id }

// State is the name of the session's state: new, deciding, online, leaving,
// draining, or free after the link ended.
func (s *Session) State() string { return s.state.String() }

func (s *Session) userID() string   { return s.ident[:s.userLen] }
func (s *Session) deviceID() string { return s.ident[s.userLen:] }

func (s *Session) has(f flags) bool { return s.flags&f != 0 }
