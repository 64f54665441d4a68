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
	op.Room = op.Room[:0]
	d.table.LookupStatus(op.App, op.UserIDs, func(i int, s *shard.Summary) {
		fillState(op, &op.Users[i], s)
	})
	op.Done(op)
}

// fillState answers about one user into st. s is lent.
func fillState(op *directory.QueryOp, st *directory.UserState, s *shard.Summary) {
	if s == nil || !s.Registered {
		*st = directory.UserState{Code: presence.CodeAccountNotExist}
		return
	}
	*st = directory.UserState{Status: s.Status, LastSeenMS: s.LastSeenMS, Seq: s.Seq}
	if !op.Detail {
		return
	}
	st.CustomStatus = strings.Clone(s.CustomStatus)
	begin := len(op.Room)
	for _, in := range s.Instances {
		op.Room = append(op.Room, directory.InstanceState(in))
	}
	// If Room moved, what lies in the old one stays as it is.
	st.Instances = op.Room[begin:len(op.Room):len(op.Room)]
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
