package embedded

import (
	"slices"
	"strings"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/shard"
)

// Query implements directory.Directory. It reads committed states on the
// caller's goroutine and waits for nobody.
func (d *Directory) Query(op *directory.QueryOp) {
	op.Code = presence.CodeOK
	if d.apps.tenant(op.App) == nil {
		op.Code, op.Users = directory.CodeUnknownApp, op.Users[:0]
		op.Done(op)
		return
	}
	op.Users = slices.Grow(op.Users[:0], len(op.UserIDs))[:len(op.UserIDs)]
	d.table.LookupStatus(op.App, op.UserIDs, func(i int, s *shard.Summary) {
		fillState(&op.Users[i], s, op.Detail)
	})
	op.Done(op)
}

// fillState answers about one user into st, reusing its room. s is lent.
func fillState(st *directory.UserState, s *shard.Summary, detail bool) {
	custom := st.CustomStatus
	*st = directory.UserState{Instances: st.Instances[:0]}
	if s == nil || !s.Registered {
		st.Code = presence.CodeAccountNotExist
		return
	}
	st.Status, st.LastSeenMS, st.Seq = s.Status, s.LastSeenMS, s.Seq
	if !detail {
		return
	}
	if st.CustomStatus = custom; custom != s.CustomStatus {
		st.CustomStatus = strings.Clone(s.CustomStatus)
	}
	for _, in := range s.Instances {
		st.Instances = append(st.Instances, directory.InstanceState(in))
	}
}

// User implements directory.Directory.
func (d *Directory) User(op *directory.UserOp) {
	op.Code, op.User = presence.CodeOK, presence.User{}
	switch {
	case d.apps.tenant(op.Key.App) == nil:
		op.Code = directory.CodeUnknownApp
	case !d.table.Get(op.Key, &op.User):
		op.Code, op.User = presence.CodeAccountNotExist, presence.User{}
	case !op.User.Registered:
		op.Code = presence.CodeAccountNotExist // with its cut-off, which outlives the account
	}
	op.Done(op)
}
