package embedded

import (
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Login implements directory.Directory.
func (d *Directory) Login(op *directory.LoginOp) {
	a := (*login)(op)
	if d.opts.LoginsBlocked(op.Key.App) {
		d.counters.loginsBlocked.Inc()
		a.refuse(d, textOutboxFull)
		return
	}
	if !d.submit(newDecision(kindLogin, op.Key, a, op.Login.NowMS), false) {
		a.fail(d)
	}
}

// Leave implements directory.Directory.
func (d *Directory) Leave(op *directory.LeaveOp) {
	a := (*leave)(op)
	if !d.submit(newDecision(kindLeave, op.Key, a, op.NowMS), true) {
		a.fail(d)
	}
}

// login is the action of a LoginOp.
type login directory.LoginOp

func (a *login) decide(dc *decision, app *tenant, out []presence.Transition) (bool, []presence.Transition) {
	if code := a.admissible(app); code != presence.CodeOK {
		a.Code, a.Decision, a.Seq = code, presence.LoginDecision{Code: code}, 0
		return false, out
	}
	a.Decision, out = dc.user.Login(dc.key, &app.settings, &a.Login, out)
	a.Code, a.Seq = a.Decision.Code, dc.user.Seq
	if a.Code != presence.CodeOK {
		return false, out
	}
	dc.cause = directory.CauseAnotherLogin
	dc.by = presence.Device{Platform: a.Login.Device.Platform, Model: a.Login.Device.Model}
	dc.kicked = a.Decision.Kicked
	if r := a.Decision.Replaced; r.ID != a.Login.Link.ID || r.Node != a.Login.Link.Node {
		dc.replaced = r
	}
	return true, out
}

// admissible reports what is wrong with a login before any rule of presence.
func (a *login) admissible(app *tenant) int {
	switch {
	case app == nil:
		return directory.CodeUnknownApp
	case !presence.ValidUserID(a.Key.UserID):
		return directory.CodeBadRequest
	}
	return presence.CodeOK
}

func (a *login) tell() { a.Done((*directory.LoginOp)(a)) }

// What clients are told of a login that has to wait.
const (
	textOutboxFull = "the webhook outbox is full"
	textReadOnly   = "the node is read-only"
)

func (a *login) fail(d *Directory) {
	text := ""
	if s := d.opts.Store; s != nil && s.Health().ReadOnly {
		text = textReadOnly
	}
	a.refuse(d, text)
}

func (a *login) refuse(d *Directory, text string) {
	a.Code, a.RetryAfterMS, a.Text = directory.CodeUnavailable, d.retryAfterMS(), text
	a.Decision, a.Seq = presence.LoginDecision{Code: directory.CodeUnavailable}, 0
	a.tell()
}

// leave is the action of a LeaveOp.
type leave directory.LeaveOp

func (a *leave) decide(dc *decision, app *tenant, out []presence.Transition) (bool, []presence.Transition) {
	l := presence.Leave{
		Platform: a.Platform, DeviceID: a.DeviceID,
		Node: a.Node, Link: a.Link, Reason: a.Reason, NowMS: a.NowMS,
	}
	a.Code = presence.CodeOK
	a.Changed, out = dc.user.Leave(dc.key, app.rules(), &l, out)
	return a.Changed, out
}

func (a *leave) tell() {
	if a.Done != nil {
		a.Done((*directory.LeaveOp)(a))
	}
}

func (a *leave) fail(*Directory) {
	a.Code, a.Changed = directory.CodeUnavailable, false
	a.tell()
}
