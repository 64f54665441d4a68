package embedded

import (
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/shard"
)

// pageWork bounds what one page may cost: users looked at and scan steps taken.
const pageWork = 8192

// Users implements directory.Directory. It reads committed states on the
// caller's goroutine; a page that used up its work is short and has a Next.
func (d *Directory) Users(op *directory.UsersOp) {
	op.Code, op.Users, op.Next = presence.CodeOK, op.Users[:0], ""
	var c shard.Cursor
	var err error
	if op.After != "" {
		c, err = shard.ParseCursor(op.After)
	}
	switch {
	case d.apps.tenant(op.App) == nil:
		op.Code = directory.CodeUnknownApp
	case err != nil || op.Limit < 1 || op.Limit > directory.MaxUsersPage:
		op.Code = directory.CodeBadRequest
	default:
		d.page(op, c)
	}
	op.Done(op)
}

// page fills op from cursor c on.
func (d *Directory) page(op *directory.UsersOp, c shard.Cursor) {
	work := 0
	visit := func(k presence.Key, u *presence.User) {
		work++
		if k.App == op.App && listed(u, op.Status) {
			op.Users = append(op.Users, directory.NamedUser{UserID: k.UserID, User: u.Clone()})
		}
	}
	for len(op.Users) < op.Limit && work < pageWork {
		var done bool
		if c, done = d.table.Scan(c, op.Limit-len(op.Users), visit); done {
			return
		}
		work++
	}
	op.Next = c.String()
}

// listed reports whether a list of the given status shows the user; Offline
// stands for any user with an instance.
func listed(u *presence.User, s presence.Status) bool {
	return len(u.Instances) > 0 && (s == presence.Offline || u.Status() == s)
}
