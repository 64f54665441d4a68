package embedded

import (
	"slices"
	"strings"

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
	op.Room = op.Room[:0]
	d.table.Lookup(op.App, op.UserIDs, func(i int, u *presence.User) {
		fillState(op, &op.Users[i], u)
	})
	op.Done(op)
}

// fillState answers about one user into st. u is lent.
func fillState(op *directory.QueryOp, st *directory.UserState, u *presence.User) {
	if u == nil || !u.Registered {
		*st = directory.UserState{Code: presence.CodeAccountNotExist}
		return
	}
	*st = directory.UserState{Status: u.Status(), LastSeenMS: u.LastSeenMS, Seq: u.Seq}
	if !op.Detail {
		return
	}
	st.CustomStatus = strings.Clone(u.CustomStatus)
	begin := len(op.Room)
	for i := range u.Instances {
		in := &u.Instances[i]
		op.Room = append(op.Room, directory.InstanceState{
			InstID: in.InstID, Platform: in.Device.Platform, Status: in.Status,
		})
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
