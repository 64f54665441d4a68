package embedded

import (
	"slices"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
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
	d.table.Lookup(op.App, op.UserIDs, func(i int, u *presence.User) {
		fillState(&op.Users[i], u, op.Detail)
	})
	op.Done(op)
}

// fillState answers about one user into st, reusing its room.
func fillState(st *directory.UserState, u *presence.User, detail bool) {
	*st = directory.UserState{Instances: st.Instances[:0]}
	if u == nil || !u.Registered {
		st.Code = presence.CodeAccountNotExist
		return
	}
	st.Status, st.LastSeenMS, st.Seq = u.Status(), u.LastSeenMS, u.Seq
	if !detail {
		return
	}
	st.CustomStatus = u.CustomStatus
	for i := range u.Instances {
		in := &u.Instances[i]
		st.Instances = append(st.Instances, directory.InstanceState{
			InstID: in.InstID, Platform: in.Device.Platform, Status: in.Status,
		})
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
