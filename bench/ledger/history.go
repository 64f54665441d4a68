package ledger

import "github.com/rollcall-im/rollcall/codec"

// History is what the clients, the receiver and the operator of a run have seen
// for themselves. Check judges it. Times are Unix milliseconds of the machine
// that ran both sides.
type History struct {
	GraceMS int64  // how long a device may stay away after a restart
	Lives   []Life // at least one, in order
	Users   []*User
	Found   []Violation // what was plain at once, without judging a history
}

// Life is one process of the server, from before it was started until it was
// dead. ToMS of the last one is the end of the run.
type Life struct{ FromMS, ToMS int64 }

// lifeAt is the index of the life in which a server's clock showed ms.
func (h *History) lifeAt(ms int64) int {
	life := 0
	for i := range h.Lives {
		if h.Lives[i].FromMS <= ms {
			life = i
		}
	}
	return life
}

// Outcome is what a caller knows of an operation.
type Outcome uint8

// The outcomes.
const (
	Done    Outcome = 1 + iota // acknowledged: it has happened and stays so
	Refused                    // answered: it has not happened
	Unknown                    // the server died before it answered: either may be
)

// App has users, and a login policy that changes while they log in.
type App struct {
	ID       uint32
	Policies []PolicyChange // the first one is in force from the beginning
}

// Policy is a preset with the number of Web instances that it allows.
type Policy struct {
	Preset string
	Web    int
}

// PolicyChange is one change of an app's policy. What was Unknown becomes Done
// or Refused once the policy was read back.
type PolicyChange struct {
	Policy
	FromMS, ToMS int64
	Outcome      Outcome
}

// during lists the policies that may have been in force at a moment from..to.
func (a *App) during(fromMS, toMS int64) (out []Policy) {
	for i := range a.Policies {
		c := &a.Policies[i]
		if c.Outcome == Refused || c.FromMS > toMS || a.replacedBefore(i, fromMS) {
			continue
		}
		out = append(out, c.Policy)
	}
	return out
}

// replacedBefore reports whether a later policy was surely in force before ms.
func (a *App) replacedBefore(i int, ms int64) bool {
	for _, later := range a.Policies[i+1:] {
		if later.Outcome == Done && later.ToMS < ms {
			return true
		}
	}
	return false
}

// User is one user's part of the history. Steps were taken one after another:
// each began after the one before had ended.
type User struct {
	App      *App
	ID       string
	Devices  []Device // at most 64
	Steps    []Step
	Receipts []Receipt
	Final    *Final // nil: the run did not come to its end
}

// Device is a client of the user.
type Device struct {
	Platform codec.Platform
	ID       string
}

// Kind is what a step was.
type Kind uint8

// The kinds.
const (
	Login  Kind = 1 + iota // a device logs in, active or by resume
	Logout                 // a device logs out
	Drop                   // a device closes its link, by FIN or RST
	Kick                   // the user is kicked over REST
	Delete                 // the account is deleted over REST
	Import                 // the account is imported over REST
	Look                   // the user's status is queried
)

var kindNames = [...]string{Login: "login", Logout: "logout", Drop: "drop", Kick: "kick", Delete: "delete", Import: "import", Look: "query"}

// String names the kind in texts.
func (k Kind) String() string { return kindNames[k] }

// Step is one thing that was done to a user.
type Step struct {
	Kind         Kind
	Dev          int // index of the device: Login, Logout, Drop
	Life         int // index of the life that was spoken to
	FromMS, ToMS int64
	Outcome      Outcome
	Code         int // of a refusal

	// Of a Login: what it showed and what it was told.
	Resume    bool
	Ticket    bool  // with the newest session ticket that the device has got
	SigS      int64 // TLS.time of its UserSig, 0 = none
	InstID    uint32
	TakenBack bool
	Kicked    []codec.KickedInstance

	Seen Reading // of a Look
}

// Reading is a user as a query tells it.
type Reading struct {
	Known  bool // the account exists
	Status string
	Insts  []Seen
}

// Seen is an instance as it was read. DeviceID is the console's alone.
type Seen struct {
	InstID   uint32
	Platform string // as queries spell it; the console has the platform's name
	Status   string
	DeviceID string
}

// Final is a user at the end of the run, when nothing was under way any more.
type Final struct {
	Rest    Reading
	Console ConsoleUser
}

// ConsoleUser is a user as the console tells it.
type ConsoleUser struct {
	Known      bool // the console knows the user; it may do so when the account is gone
	Registered bool
	EventSeq   uint64
	CutoffS    int64
	Insts      []Seen
}

// Receipt is one webhook request that reached the receiver.
type Receipt struct {
	Seq      uint64 // EventSeq
	ID       string // webhook-id
	Body     string // as it was, or its digest
	Accepted bool   // it was answered with success
	Event    Event
}

// Event is what a request tells.
type Event struct {
	TimeMS         int64
	Action, Reason string
	OptPlatform    string
	InstID         uint32
	Platform       string
	Kicked         []string // KickedDevice.Platform
}
