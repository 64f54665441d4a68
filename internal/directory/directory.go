// Package directory is the seam between those who need presence (engine, API)
// and those who keep it (embedded on one node, later a cluster). Nothing else
// writes presence: a decision is taken once, atomically for the user, made
// durable where durability is on, and only then told.
//
// Calls are asynchronous. Each op carries its input, a Done function and room
// for its result. Done is called exactly once, on any goroutine, possibly
// before the call returns; it must not block. The op belongs to the directory
// from the call until Done, and to the caller again from Done on, so ops may be
// pooled. Strings and slices inside an op are kept by the directory: the caller
// must not hand in memory that it reuses. Only QueryOp.UserIDs are not kept.
//
// Calls about one link take effect in the order in which they were issued: a
// Leave never overtakes its Login.
package directory

import (
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Directory answers who is where and decides who may be. Implementations pass
// directorytest.Run.
type Directory interface {
	// Login decides on a login, kicks whom the policy says, and answers when
	// that is durable.
	Login(*LoginOp)
	// Leave ends or downgrades the instance that op.Link carries. A link that is
	// no longer the instance's link changes nothing.
	Leave(*LeaveOp)
	// Kick ends one instance or all instances of a user.
	Kick(*KickOp)
	// Query answers the presence of many users, in order.
	Query(*QueryOp)
	// Accounts imports, checks or deletes accounts.
	Accounts(*AccountsOp)
	// Follow has the watcher of a link's node told of each change of a user, or no
	// longer.
	Follow(*FollowOp)

	// App returns the app's settings from local memory without waiting, nil if
	// the app is unknown. The result is immutable.
	App(sdkAppID uint32) *App
	// Apps returns all apps ordered by SDKAppID.
	Apps() []*App
	// UpdateApp creates or changes an app.
	UpdateApp(*UpdateAppOp)

	// Users pages through the users of an app.
	Users(*UsersOp)
	// User answers all that is known about one user.
	User(*UserOp)
	// DryRun counts whom a policy would kick now.
	DryRun(*DryRunOp)

	// Watch registers the node's engine; what it must do for kicked links
	// arrives there. The returned function ends the watch.
	Watch(node uint32, w Watcher) (stop func())
}

// Error is a directory failure with the code that the outside gets: 0 is
// success; else a number of rest.md section 1 or presence.md section 4, or one
// of presence's internal codes.
type Error struct {
	Code int
	Text string
}

// Error implements error.
func (e *Error) Error() string { return e.Text }

// Codes of failures that are not the caller's fault; the caller may retry.
const (
	CodeUnavailable = 70169 // the commit failed or a bounded queue is full
	CodeUnknownApp  = 70020
	CodeBadRequest  = 70402
	CodeConflict    = 70500
)

// MaxAccounts is the most accounts of an AccountsOp, MaxUsersPage the most users of a UsersOp.
const (
	MaxAccounts  = 100
	MaxUsersPage = 1000
)

// LoginOp is one login.
type LoginOp struct {
	Key   presence.Key
	Login presence.Login
	Done  func(*LoginOp)

	// Result.
	Code         int // presence.CodeOK, CodeKickedOffline, CodeSigRevoked, CodeTicketRevoked, CodeUnavailable, CodeUnknownApp
	RetryAfterMS int64
	Text         string // with CodeUnavailable: why, where more is known than the code says
	Decision     presence.LoginDecision
	Seq          uint64 // the user's sequence number after the login: the ticket's

	Ctx any    // the caller's; the directory does not read it
	Tag uint64 // the caller's
	// Next links the op into an implementation's queue while it owns the op.
	Next *LoginOp
}

// LeaveReason says how a link's instance ended.
type LeaveReason = presence.LeaveReason

// The reasons.
const (
	LeaveLogout     = presence.LeaveLogout     // the client logged out: none
	LeaveLinkClosed = presence.LeaveLinkClosed // FIN, RST, socket error, or closed by us for a fault of the client: PushOnline or none
	LeaveTimeOut    = presence.LeaveTimeOut    // silent for too long: PushOnline or none
)

// LeaveOp ends what a link stood for. Key, Platform and the link name it; a
// DeviceID that is not "" must be its too. An engine has a million links and does
// not keep theirs.
type LeaveOp struct {
	Key      presence.Key
	Platform presence.Platform
	DeviceID string
	Node     uint32
	Link     presence.LinkID
	Reason   LeaveReason
	NowMS    int64
	Done     func(*LeaveOp) // may be nil

	// Result.
	Code    int  // CodeOK, or CodeUnavailable: nothing was changed, the Leave must be issued again
	Changed bool // false: stale, nothing was changed
}

// KickOp ends instances over REST or the console.
type KickOp struct {
	Key    presence.Key
	InstID uint32 // one instance; 0 = all, and then earlier UserSigs and tickets die
	NowMS  int64
	Done   func(*KickOp)

	// Result.
	Code   int // CodeOK, CodeAccountNotExist, CodeInstanceNotExist, CodeUnavailable
	Kicked []presence.Instance
}

// QueryOp asks for many users of one app. Users[i] answers UserIDs[i].
type QueryOp struct {
	App uint32
	// UserIDs are not kept beyond Done: they may lie in memory that the caller
	// uses again then, and not before, whether or not it still waits for Done.
	UserIDs []string
	Detail  bool // fill Instances and CustomStatus
	Done    func(*QueryOp)

	// Result. The caller provides Users and Room for reuse; the directory sets
	// their lengths. What Users refer to is valid until the op is issued again.
	Code  int
	Users []UserState
	Room  []InstanceState // what the Instances of Users are parts of
}

// UserState is the answer about one user.
type UserState struct {
	Code         int // CodeOK, CodeAccountNotExist, or 90992 where this user's part of the directory is away
	Status       presence.Status
	LastSeenMS   int64
	Seq          uint64
	CustomStatus string
	Instances    []InstanceState // with Detail; order of login time, then InstID
}

// InstanceState is what a query tells of an instance.
type InstanceState struct {
	InstID   uint32
	Platform presence.Platform
	Status   presence.Status
}

// AccountsAction is what to do with accounts.
type AccountsAction uint8

// The actions.
const (
	AccountsImport AccountsAction = 1 + iota
	AccountsCheck
	AccountsDelete
)

// AccountsOp handles up to 100 accounts of one app. Each is atomic by itself.
type AccountsOp struct {
	App     uint32
	Action  AccountsAction
	UserIDs []string
	// Profiles are what an import says of each account beside its UserID; nil = nothing.
	Profiles []Profile
	NowMS    int64
	Done     func(*AccountsOp)

	// Result.
	Code    int   // CodeOK, CodeUnknownApp, CodeBadRequest (more than MaxAccounts, unknown action, a number of profiles that is not that of the accounts)
	Results []int // per UserID: CodeOK (for check: imported), CodeAccountNotExist, CodeBadRequest (no UserID, too long a profile), CodeUnavailable
}

// Profile is what an import says of an account: up to presence.MaxNick and
// presence.MaxFaceURL bytes. Nil leaves what is there.
type Profile struct{ Nick, FaceURL *string }

// Valid reports whether the profile is within its bounds.
func (p *Profile) Valid() bool {
	return (p.Nick == nil || len(*p.Nick) <= presence.MaxNick) && (p.FaceURL == nil || len(*p.FaceURL) <= presence.MaxFaceURL)
}

// UpdateAppOp creates or changes an app. Mutate runs, possibly more than once,
// on a private copy; what it returns ends the op. The change is durable before Done.
type UpdateAppOp struct {
	SDKAppID uint32
	Create   bool             // fail if it exists; else fail if it does not
	Mutate   func(*App) error // nil error: commit
	Enforce  bool             // sweep the users who break the new policy, in bounded steps
	NowMS    int64
	Done     func(*UpdateAppOp)

	// Result.
	Err    error // *Error or what Mutate returned
	App    *App
	Kicked uint64 // with Enforce: instances kicked by the sweep
}

// UsersOp lists users of an app that have instances, in an unspecified but
// stable order.
type UsersOp struct {
	App    uint32
	Status presence.Status // Online, PushOnline; Offline = any user with an instance
	Limit  int             // 1..MaxUsersPage
	After  string          // cursor of an earlier answer, "" = from the start
	Done   func(*UsersOp)

	// Result.
	Code  int // CodeOK, CodeUnknownApp, CodeBadRequest (limit or cursor)
	Users []NamedUser
	Next  string // cursor; "" = the end. A page may be short, even empty, and still have a Next.
}

// NamedUser is a user with its name.
type NamedUser struct {
	UserID string
	User   presence.User
}

// UserOp asks for everything about one user.
type UserOp struct {
	Key  presence.Key
	Done func(*UserOp)

	// Result.
	Code int           // CodeOK, CodeAccountNotExist, CodeUnknownApp
	User presence.User // of a deleted account what outlives it: its cut-off
}

// DryRunOp counts what a policy would kick now.
type DryRunOp struct {
	App    uint32
	Policy presence.Policy
	Done   func(*DryRunOp)

	// Result.
	Code      int    // CodeOK, CodeUnknownApp, CodeBadRequest (no valid policy), CodeUnavailable (too many at once)
	Users     uint64 // users who would lose an instance
	Instances uint64 // instances that would be kicked
}

// FollowOp has a link told of the changes of a user: it gets the user's state now,
// and from then on the node's watcher each committed change, until the op with End.
// A link may follow any number of users, each of them once: following again just
// gets the state anew. It is for the engine to end what it began, also when the
// link ends, and to bound both.
type FollowOp struct {
	Key  presence.Key
	Node uint32
	Link presence.LinkID
	End  bool            // follow no longer
	Done func(*FollowOp) // may be nil

	// Result.
	Code int // CodeOK, CodeUnknownApp, CodeUnavailable: nothing was begun; an End always takes effect
	// User is the state that the changes to come start from; not with End. It is
	// not Registered if nobody knows the user.
	User presence.User
}

// Change is what one decision changed about a user that a link follows.
type Change struct {
	Link presence.LinkID
	// Transitions are in the order of their Seq, none is left out. They and User,
	// the user's state after them, are shared: not to be written.
	Transitions []presence.Transition
	User        *presence.User
}

// NoticeCause is why a link is forced offline.
type NoticeCause uint8

// The causes.
const (
	CauseAnotherLogin NoticeCause = 1 + iota // the policy: By says who
	CauseReplaced                            // the same device logged in again
	CauseREST                                // kicked over REST or the console
	CauseAccountDeleted
	CausePolicyChange
)

// Notice tells the engine that a link lost its instance. The directory has
// already forgotten the link.
type Notice struct {
	Link   presence.LinkID
	Cause  NoticeCause
	By     presence.Device // with CauseAnotherLogin: platform and model of who came
	TimeMS int64
}

// Watcher is a node's engine. Its methods may be called on any goroutine, must
// not block, and own what they get.
type Watcher interface {
	// ForcedOffline delivers notices, in decision order per user. A notice never
	// arrives before the Done of the login of its own link was called.
	ForcedOffline([]Notice)
	// Changed delivers changes to links that follow, in decision order per user: all
	// of those after the state that the Done of the FollowOp told, and none before
	// it was called. What a notice and a change say of one decision comes in this
	// order.
	Changed([]Change)
	// AppChanged tells of new settings of an app.
	AppChanged(*App)
}

// TransitionSink is told of every committed transition. Calls about one user
// come in sequence order. It must not block. What the slice holds it may keep, the
// slice itself is the caller's again when the call returns.
type TransitionSink interface {
	Transitions([]presence.Transition)
}
