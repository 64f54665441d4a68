// Package presence holds the pure rules of who is where: platforms, instances,
// the login policy and the transitions of one user. It reads no clock, socket,
// disk or random source: inputs and "now" go in, a new state and its effects
// come out. Times are Unix milliseconds unless a name says otherwise.
package presence

import "net/netip"

// Limits of the words that come from outside.
const (
	MaxUserID      = 32        // bytes of printable ASCII 0x20..0x7e
	MaxDeviceID    = 64        // bytes
	MaxSDKVersion  = 32        // bytes
	MaxDeviceModel = 64        // bytes
	MaxInstID      = 1<<31 - 1 // InstIDs are 1..MaxInstID
	MaxCustom      = 100       // bytes of custom status
	MaxNick        = 500       // bytes
	MaxFaceURL     = 500       // bytes
)

// ValidUserID reports whether s is a UserID: 1..32 bytes of 0x20..0x7e.
func ValidUserID[T string | []byte](s T) bool {
	if len(s) == 0 || len(s) > MaxUserID {
		return false
	}
	for i := range len(s) {
		if s[i] < 0x20 || s[i] > 0x7e {
			return false
		}
	}
	return true
}

// Key names a user: app and UserID.
type Key struct {
	App    uint32 // SDKAppID
	UserID string
}

// Status is the status of an instance or of a user.
type Status uint8

// The statuses. For an instance, Offline means none: such an instance is not kept.
const (
	Offline Status = iota
	PushOnline
	Online
)

// String returns the word of the API: Online, PushOnline or Offline.
func (s Status) String() string {
	switch s {
	case Online:
		return "Online"
	case PushOnline:
		return "PushOnline"
	}
	return "Offline"
}

// Protocol is the client protocol of a link.
type Protocol uint8

// The protocols.
const (
	ProtocolNative Protocol = 1 + iota
	ProtocolWS
	ProtocolMQTT
	NumProtocols // protocols are below this
)

// String returns the protocol's name as metrics and the console show it.
func (p Protocol) String() string {
	switch p {
	case ProtocolNative:
		return "native"
	case ProtocolWS:
		return "ws"
	case ProtocolMQTT:
		return "mqtt"
	}
	return "unknown"
}

// LinkID names a link within its node: loop (8 bits), slot (24 bits),
// generation (32 bits, never 0). It is never reused while the node runs, so a
// stale one can name nothing else. 0 is no link.
type LinkID uint64

// MakeLinkID packs a link id.
func MakeLinkID(loop uint8, slot uint32, gen uint32) LinkID {
	return LinkID(uint64(loop)<<56 | uint64(slot&0xffffff)<<32 | uint64(gen))
}

// Loop is the event loop that owns the link.
func (l LinkID) Loop() uint8 { return uint8(l >> 56) }

// Slot is the index of the session in its loop.
func (l LinkID) Slot() uint32 { return uint32(l>>32) & 0xffffff }

// Gen is the generation of the slot.
func (l LinkID) Gen() uint32 { return uint32(l) }

// Link is the live TCP connection behind an Online instance. On a PushOnline
// instance it is the last one, kept for its address; ID is then 0.
type Link struct {
	Node        uint32
	ID          LinkID
	Protocol    Protocol
	Listener    string         // name of the listener: "native", "native-tls", ...; interned
	Addr        netip.AddrPort // the client's address
	ConnectedMS int64
}

// Device is what a client says it runs on.
type Device struct {
	Platform   Platform
	ID         string // 1..64 bytes, stable per install
	SDKVersion string // 0..32 bytes
	Model      string // 0..64 bytes
}

// is reports whether the device has this key within its user.
func (d *Device) is(p Platform, id string) bool { return d.Platform == p && d.ID == id }

// Instance is one login of one device of one user. Its key within the user is
// (Platform, Device.ID).
type Instance struct {
	InstID  uint32 // 1..MaxInstID, unique within the user
	Status  Status // Online or PushOnline
	Device  Device
	LoginMS int64 // the policy's order; kept by a resume that takes the instance back
	Link    Link
	// PushUntilMS is when a PushOnline instance ends. On an orphan (Online, Link.ID
	// 0: an earlier run of the node held its link) it is when the link was last
	// known to be alive; 0 on any other Online one.
	PushUntilMS int64
}

// User is all that is kept about one user. The zero value is a user never heard of.
type User struct {
	Registered bool   // the account exists
	Seq        uint64 // grows with each transition and each revocation
	EventSeq   uint64 // dense count of events
	LastInstID uint32 // the InstID given last
	// CutoffS kills UserSigs whose TLS.time is before it (Unix seconds); it never moves back.
	CutoffS int64
	// RevokedSeq kills session tickets issued at a sequence number before it.
	RevokedSeq   uint64
	LastSeenMS   int64 // last time an instance was Online, 0 = never
	CustomStatus string
	Instances    []Instance // in order of login time, then InstID
	// Nick and FaceURL are what an import said. Nothing uses them; they are
	// forgotten when the account is deleted.
	Nick, FaceURL string
}

// Status is the user's status: Online before PushOnline before Offline.
func (u *User) Status() Status {
	s := Offline
	for i := range u.Instances {
		s = max(s, u.Instances[i].Status)
	}
	return s
}

// Clone returns a copy that shares nothing that is written later.
func (u *User) Clone() User {
	c := *u
	c.Instances = append([]Instance(nil), u.Instances...)
	return c
}

// Action is what happened, in the words of the webhook.
type Action uint8

// The actions.
const (
	ActionLogin Action = 1 + iota
	ActionLogout
	ActionDisconnect
	ActionKicked // by another login: listed in that login's KickedDevice, no event of its own
	ActionExpire // PushOnline retention ended: an event only if the app wants it
	ActionCustomStatus
)

// String returns the webhook's Info.Action. Expire has no published word; it is told as Disconnect.
func (a Action) String() string {
	switch a {
	case ActionLogin:
		return "Login"
	case ActionLogout:
		return "Logout"
	case ActionDisconnect, ActionExpire:
		return "Disconnect"
	case ActionKicked:
		return "Kicked"
	case ActionCustomStatus:
		return "CustomStatusChange"
	}
	return "unknown"
}

// Reason is why, in the words of the webhook.
type Reason uint8

// The reasons.
const (
	ReasonRegister Reason = 1 + iota
	ReasonUnregister
	ReasonLinkClose
	ReasonTimeOut
	ReasonSetCustomStatus
	ReasonAnotherLogin
)

// String returns the webhook's Info.Reason.
func (r Reason) String() string {
	switch r {
	case ReasonRegister:
		return "Register"
	case ReasonUnregister:
		return "Unregister"
	case ReasonLinkClose:
		return "LinkClose"
	case ReasonTimeOut:
		return "TimeOut"
	case ReasonSetCustomStatus:
		return "SetCustomStatus"
	case ReasonAnotherLogin:
		return "AnotherLogin"
	}
	return "unknown"
}

// Transition is one change of one instance.
type Transition struct {
	Key      Key
	Seq      uint64 // the user's sequence number after the change
	EventSeq uint64 // the user's event count if this is an event, else 0
	TimeMS   int64
	Action   Action
	Reason   Reason
	// Inst is the instance after the change; Inst.Status is Offline if it ended.
	// Inst.Link.Addr is its link's address, the last one after a time-out or
	// kick; Inst.Link.ID is 0 unless the instance is Online.
	Inst Instance
	// Before is the instance status before the change.
	Before Status
	// ByREST is set when the change came over REST or the console (OptPlatform=RESTAPI).
	ByREST bool
	// Kicked lists the instances that a Login pushed out, oldest login first, as
	// they were before. Shared with LoginDecision.Kicked: not to be written.
	Kicked []Instance
	// UserStatus and CustomStatus are the user's after the decision that this
	// change is part of: nobody sees the states between the changes of a decision.
	UserStatus   Status
	CustomStatus string
}

// Settings are the app's settings that the rules need.
type Settings struct {
	Policy          Policy
	PushRetentionMS int64 // how long PushOnline lasts after the link was lost
	MacPushOnline   bool
	ExpiryEvent     bool // emit an event when PushOnline expires
}

// Codes that a decision can answer. Numbers: rest.md section 1 and presence.md section 4.
const (
	CodeOK               = 0
	CodeKickedOffline    = 6208  // resume of an instance that is gone and that the policy has no room for
	CodeSigRevoked       = 70001 // UserSig issued before the cut-off
	CodeTicketRevoked    = -1    // internal: the ticket is revoked or of a lost state; try the UserSig
	CodeAccountNotExist  = 70107
	CodeInstanceNotExist = -2 // internal: the user has no such instance
)

// Credential is what was verified about a login before the decision.
type Credential struct {
	ByTicket  bool
	TicketSeq uint64 // sequence number at the ticket's issue
	SigTimeS  int64  // TLS.time of the UserSig, if not ByTicket
}

// Login is a login to decide on.
type Login struct {
	Device Device
	Resume bool // the client reconnects by itself: pushes nobody out
	Cred   Credential
	Link   Link
	NowMS  int64
}

// LoginDecision is the outcome of a login. With Code != CodeOK nothing changed.
type LoginDecision struct {
	Code      int
	Inst      Instance   // the new Online instance
	TakenBack bool       // a resume found its instance again
	Replaced  Link       // the same device's old link if it was still live (ID != 0): to be closed, no event
	Kicked    []Instance // pushed out by policy, oldest login first, as they were before
}
