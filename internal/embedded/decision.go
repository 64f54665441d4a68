package embedded

import (
	"sync"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// action is what is decided: it applies the rules, and answers whoever asked.
type action interface {
	// decide applies the rules to dc.user, which holds the user's newest state,
	// and says whether that changed anything; if not, dc.user is thrown away. The
	// app is nil if it is unknown.
	decide(dc *decision, app *tenant, out []presence.Transition) (changed bool, _ []presence.Transition)
	// tell answers: the decision is durable, or changed nothing.
	tell()
	// fail answers that nothing was changed and that it may be tried again.
	fail(d *Directory)
}

// decision is one decision about one user, from the call to Done.
type decision struct {
	next *decision // in the lane's mailbox or queue

	kind  kind
	key   presence.Key
	act   action
	nowMS int64
	// user is the user's state after the decision.
	user presence.User
	// delta is what the decision does to the lane's tally.
	delta tally
	// hadDue and dueMS are the user's next expiry before (whether it had one) and after.
	hadDue bool
	dueMS  int64
	// The transitions are batch.Transitions[from:to].
	from, to int
	changed  bool
	doomed   bool // built on a state whose commit failed

	// Whom it pushed out, for the notices.
	cause    directory.NoticeCause
	by       presence.Device
	kicked   []presence.Instance
	replaced presence.Link
}

var decisions = sync.Pool{New: func() any { return new(decision) }}

func newDecision(k kind, key presence.Key, act action, nowMS int64) *decision {
	dc := decisions.Get().(*decision)
	dc.kind, dc.key, dc.act, dc.nowMS = k, key, act, nowMS
	return dc
}

// keptInstances is the most instances that a recycled decision keeps room for.
const keptInstances = 16

func (dc *decision) recycle() {
	insts := dc.user.Instances
	clear(insts[:cap(insts)])
	if cap(insts) > keptInstances {
		insts = nil
	}
	*dc = decision{user: presence.User{Instances: insts[:0]}}
	decisions.Put(dc)
}

// copyUser copies src into dst, reusing the room in dst.Instances.
func copyUser(dst, src *presence.User) {
	insts := append(dst.Instances[:0], src.Instances...)
	*dst = *src
	dst.Instances = insts
}

// kind names a decision in the metrics.
type kind uint8

const (
	kindBarrier kind = iota // asks nothing and is not counted
	kindLogin
	kindLeave
	kindKick
	kindImport
	kindDelete
	kindExpire
	kindEnforce
	kindRestart
	kindFollow
	kindEnd
)

var kindNames = [kindEnd]string{
	kindLogin: "login", kindLeave: "leave", kindKick: "kick", kindImport: "import",
	kindDelete: "delete", kindExpire: "expire", kindEnforce: "enforce", kindRestart: "restart",
	kindFollow: "follow",
}
