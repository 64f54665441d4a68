// Package directorytest is the conformance suite of the directory seam: what
// engine and API rely on, whoever keeps presence.
package directorytest

import (
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
)

// Options is what the suite asks of the directory that it opens.
type Options struct {
	Clock clock.Clock              // virtual; drives expiry
	Sink  directory.TransitionSink // told of each committed transition
}

// Start is where the suite's virtual clock begins. It lies on a full second.
var Start = time.UnixMilli(1_700_000_000_000)

// Run runs the suite. open returns a fresh, empty directory and closes it, with
// whatever consistency check it has, in a cleanup.
func Run(t *testing.T, open func(t *testing.T, o Options) directory.Directory) {
	for _, c := range []struct {
		name string
		run  func(*world)
	}{
		{"login", loginRegisters},
		{"login/unknown app", loginUnknownApp},
		{"login/no UserID", loginBadUserID},
		{"login/policy kicks", loginKicks},
		{"login/policy leaves others", loginLeavesOthers},
		{"login/same device", loginSameDevice},
		{"login/kicks PushOnline", loginKicksPushOnline},
		{"login/policy change applies to the next", loginAfterPolicyChange},
		{"resume", resumeMatrix},
		{"leave", leaveRows},
		{"leave/stale", leaveStale},
		{"leave/by the link alone", leaveByLink},
		{"leave/without Done", leaveWithoutDone},
		{"kick/all", kickAll},
		{"kick/one", kickOne},
		{"kick/unknown", kickUnknown},
		{"kick/cut-off", kickCutoff},
		{"kick/tickets by sequence", kickTickets},
		{"query", queryOrder},
		{"query/room is reused", queryReuse},
		{"query/ids are not kept", queryKeepsNoIDs},
		{"accounts", accountsLife},
		{"accounts/bounds", accountsBounds},
		{"accounts/delete", accountsDelete},
		{"accounts/profiles", accountsProfiles},
		{"apps", appsLife},
		{"apps/refusals", appsRefusals},
		{"apps/concurrent updates", appsConcurrent},
		{"apps/watchers", appsWatchers},
		{"policy/dry run and enforce", enforceSweeps},
		{"policy/dry run of nonsense", dryRunRefusals},
		{"users", usersPages},
		{"users/refusals", usersRefusals},
		{"users/while changing", usersWhileChanging},
		{"user", userDetails},
		{"expiry", expiryOnTime},
		{"expiry/came back", expiryCameBack},
		{"expiry/event", expiryEvent},
		{"expiry/many", expiryMany},
		{"follow", followChanges},
		{"follow/end", followEnd},
		{"follow/whom", followWhom},
		{"follow/refusals", followRefusals},
		{"follow/no gap", followNoGap},
		{"order/leave after login", orderLeaveAfterLogin},
		{"order/done before notice", orderDoneBeforeNotice},
		{"order/transitions", orderTransitions},
		{"order/calls from Done", orderReentrant},
		{"watch/stop", watchStop},
		{"watch/nodes", watchNodes},
		{"no aliasing", noAliasing},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(newWorld(t, open)) })
	}
}
