package embedded

import (
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Accounts implements directory.Directory.
func (d *Directory) Accounts(op *directory.AccountsOp) {
	op.Results = append(op.Results[:0], make([]int, len(op.UserIDs))...)
	switch {
	case d.apps.tenant(op.App) == nil:
		op.Code = directory.CodeUnknownApp
	case len(op.UserIDs) > directory.MaxAccounts || op.Action < directory.AccountsImport || op.Action > directory.AccountsDelete,
		op.Profiles != nil && len(op.Profiles) != len(op.UserIDs):
		op.Code = directory.CodeBadRequest
	default:
		op.Code = presence.CodeOK
	}
	switch {
	case op.Code != presence.CodeOK || len(op.UserIDs) == 0:
		op.Done(op)
	case op.Action == directory.AccountsCheck:
		d.checkAccounts(op)
		op.Done(op)
	default:
		d.changeAccounts(op)
	}
}

// checkAccounts reads; it decides nothing.
func (d *Directory) checkAccounts(op *directory.AccountsOp) {
	d.table.Lookup(op.App, op.UserIDs, func(i int, u *presence.User) {
		op.Results[i] = presence.CodeAccountNotExist
		if u != nil && u.Registered {
			op.Results[i] = presence.CodeOK
		}
	})
}

// changeAccounts makes a decision of each account: each is atomic by itself.
func (d *Directory) changeAccounts(op *directory.AccountsOp) {
	k := kindImport
	if op.Action == directory.AccountsDelete {
		k = kindDelete
	}
	call := &accountsCall{op: op, accounts: make([]account, len(op.UserIDs))}
	call.left.Store(int32(len(op.UserIDs)))
	for i, id := range op.UserIDs {
		a := &call.accounts[i]
		a.call, a.i = call, i
		key := presence.Key{App: op.App, UserID: id}
		if !presence.ValidUserID(id) || !a.profile().Valid() {
			a.answer(directory.CodeBadRequest)
		} else if !d.submit(newDecision(k, key, a, op.NowMS), false) {
			a.fail(d)
		}
	}
}

// accountsCall collects the answers about the accounts of one op.
type accountsCall struct {
	op       *directory.AccountsOp
	accounts []account
	left     atomic.Int32
}

// account is the action of one account of an AccountsOp.
type account struct {
	call *accountsCall
	i    int
	code int
}

func (a *account) decide(dc *decision, _ *tenant, out []presence.Transition) (bool, []presence.Transition) {
	a.code = presence.CodeOK
	if dc.kind == kindImport {
		return a.register(&dc.user), out
	}
	if !dc.user.Registered {
		a.code = presence.CodeAccountNotExist
		return false, out
	}
	dc.cause = directory.CauseAccountDeleted
	dc.kicked, out = dc.user.Delete(dc.key, dc.nowMS, out)
	return true, out
}

// register makes the account exist, with the profile that the import brought.
func (a *account) register(u *presence.User) (changed bool) {
	changed = !u.Registered
	u.Registered = true
	p := a.profile()
	for _, f := range []struct{ to, from *string }{{&u.Nick, p.Nick}, {&u.FaceURL, p.FaceURL}} {
		if f.from != nil && *f.from != *f.to {
			*f.to = *f.from
			changed = true
		}
	}
	return changed
}

// profile is what the import says of the account.
func (a *account) profile() *directory.Profile {
	if profiles := a.call.op.Profiles; profiles != nil {
		return &profiles[a.i]
	}
	return &directory.Profile{}
}

func (a *account) tell() { a.answer(a.code) }

func (a *account) fail(*Directory) { a.answer(directory.CodeUnavailable) }

// answer ends the op with the answer about its last account.
func (a *account) answer(code int) {
	op := a.call.op
	op.Results[a.i] = code
	if a.call.left.Add(-1) == 0 {
		op.Done(op)
	}
}
