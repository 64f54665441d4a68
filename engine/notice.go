package engine

import (
	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
)

// noticeRow says how a cause is told and counted.
type noticeRow struct {
	code codec.Code
	why  closeReason
}

var noticeRows = map[directory.NoticeCause]noticeRow{
	directory.CauseAnotherLogin:   {codec.CodeAnotherLogin, closeAnotherLogin},
	directory.CauseReplaced:       {codec.CodeReplaced, closeReplaced},
	directory.CauseREST:           {codec.CodeKickedREST, closeKicked},
	directory.CauseAccountDeleted: {codec.CodeAccountDeleted, closeAccountDeleted},
	directory.CausePolicyChange:   {codec.CodePolicyChange, closePolicyChange},
}

// notice tells a link that its instance is gone. A link that ended, or that is
// logging out, need not hear it.
func (l *Loop) notice(n *directory.Notice) {
	s := l.slab.get(n.Link)
	if s == nil || s.state != stateOnline {
		l.core.m.noticesStale.Inc()
		return
	}
	l.core.m.noticesTold.Inc()
	row, ok := noticeRows[n.Cause]
	if !ok {
		row = noticeRows[directory.CauseREST]
	}
	fx := l.effects()
	s.forcedOffline(&codec.ForcedOffline{
		Code:          row.code,
		ByPlatform:    codec.Platform(n.By.Platform),
		ByDeviceModel: n.By.Model,
		TimeMS:        n.TimeMS,
	}, row.why, fx)
	l.apply(s, fx)
}
