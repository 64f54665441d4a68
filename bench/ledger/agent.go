package ledger

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// agent is one user with all devices, and the part of the backend that deals
// with it. It does one thing after another and writes each down.
type agent struct {
	d   *driver
	t   *tenant
	u   *User
	rng *rand.Rand
	dev []device

	quiet  bool // it does not come back after the last kill
	failed bool // it met what it cannot go on from; the report says what
}

// device is what a device remembers.
type device struct {
	link   *link // nil: away
	sigS   int64 // TLS.time of its UserSig
	sig    string
	ticket []byte // the newest one
}

// agedS is how old UserSigs are at the beginning: any kick ends them.
const agedS = 3600

func newAgent(d *driver, t *tenant, u *User, rng *rand.Rand) *agent {
	a := &agent{d: d, t: t, u: u, rng: rng, dev: make([]device, len(u.Devices))}
	for i := range a.dev {
		a.resign(i, time.Now().Unix()-agedS)
	}
	return a
}

func (a *agent) resign(i int, atS int64) {
	a.dev[i].sigS, a.dev[i].sig = atS, a.t.sign(a.u.ID, atS)
}

// run acts until the run comes to rest. Links stay as they are.
func (a *agent) run(ctx context.Context) {
	life := -1
	for !a.failed {
		rest := time.NewTimer(time.Duration(a.rng.Int64N(2*int64(a.d.o.Calm) + 1)))
		select {
		case <-rest.C:
		case <-a.d.ending:
			rest.Stop()
			return
		case <-ctx.Done():
			rest.Stop()
			a.failed = true
			return
		}
		p := a.d.await(ctx)
		if p == nil {
			a.failed = true
			return
		}
		if p.life != life {
			if a.restarted(p); a.quiet && a.d.isLast(p) {
				return
			}
			life = p.life
			continue
		}
		a.act(ctx, p)
	}
}

// restarted lets some of the devices whose link a dead server has taken along
// come back at once; the others are away. Those of a quiet user are away for good
// after the last kill: the server alone can tell that they are.
func (a *agent) restarted(p *process) {
	var lost []int
	for i := range a.dev {
		if l := a.dev[i].link; l != nil && l.p != p {
			l.conn.Close()
			a.dev[i].link = nil
			lost = append(lost, i)
		}
	}
	for _, i := range lost {
		if a.rng.IntN(10) < 6 && !a.failed && !(a.quiet && a.d.isLast(p)) {
			a.login(p, i, true)
		}
	}
}

// act does one thing.
func (a *agent) act(ctx context.Context, p *process) {
	i := a.rng.IntN(len(a.dev))
	on := a.dev[i].link != nil
	switch what := a.rng.IntN(100); {
	case what < 10:
		a.look(ctx, p)
	case what < 14:
		a.revoke(ctx, p, Kick)
	case what < 16:
		a.revoke(ctx, p, Delete)
	case what < 18:
		a.imports(ctx, p)
	case on && what < 40:
		a.logout(p, i)
	case on && what < 75:
		a.leave(ctx, p, i)
	default:
		a.login(p, i, !on && a.rng.IntN(2) == 0)
	}
}

// begin opens a step. Its times are the driver's clock: the server runs on the same machine.
func begin(kind Kind, dev int, p *process) Step {
	return Step{Kind: kind, Dev: dev, Life: p.life, FromMS: time.Now().UnixMilli(), Outcome: Unknown}
}

// end closes a step that was answered, or that will never be.
func (a *agent) end(s Step, o Outcome) {
	s.ToMS, s.Outcome = time.Now().UnixMilli(), o
	a.u.Steps = append(a.u.Steps, s)
	if o == Done && s.Kind != Look && s.Kind != Drop {
		a.d.ack()
	}
}

// unanswered closes a step whose answer did not come: the server's end must be why.
func (a *agent) unanswered(s Step, p *process, err error) {
	if errors.Is(err, errNotSent) {
		if !p.over(a.d.o.AnswerTimeout) {
			a.fail(Unanswered, "user %d/%s: %v: %v, and the server lives", a.t.ID, a.u.ID, s.Kind, err)
		}
		return
	}
	if !p.over(a.d.o.AnswerTimeout) {
		a.fail(Unanswered, "user %d/%s: %v: %v, and the server lives", a.t.ID, a.u.ID, s.Kind, err)
	}
	a.end(s, Unknown)
}

func (a *agent) fail(kind, format string, args ...any) {
	a.failed = true
	a.d.found(kind, format, args...)
}

// login logs device i in on a new link.
func (a *agent) login(p *process, i int, resume bool) {
	dev := &a.dev[i]
	s := begin(Login, i, p)
	s.Resume = resume
	m := codec.Login{
		SDKAppID: a.t.ID, UserID: []byte(a.u.ID), Platform: a.u.Devices[i].Platform, DeviceID: []byte(a.u.Devices[i].ID),
		SDKVersion: []byte("1.0"), DeviceModel: []byte("ledger"), Resume: resume,
	}
	with := a.rng.IntN(5) // of a resume: 0, 1 the ticket alone; 2 the UserSig alone; else both
	if resume && dev.ticket != nil && with != 2 {
		m.Ticket, s.Ticket = dev.ticket, true
	}
	if !s.Ticket || with > 1 {
		m.UserSig, s.SigS = []byte(dev.sig), dev.sigS
	}
	l, err := dial(p, a.d.o.AnswerTimeout)
	if err != nil {
		a.unanswered(s, p, err)
		return
	}
	f, err := l.ask(codec.AppendLogin(nil, &m), a.d.o.AnswerTimeout)
	switch {
	case err == nil && f.Type == codec.TypeLoginOK:
		a.loggedIn(s, p, l, f.Body)
	case err == nil && f.Type == codec.TypeLoginRefused:
		l.conn.Close()
		a.refused(s, p, f.Body)
	default:
		l.conn.Close()
		a.unanswered(s, p, fmt.Errorf("%v %w", f.Type, err))
	}
}

func (a *agent) loggedIn(s Step, p *process, l *link, body []byte) {
	var m codec.LoginOK
	if err := m.Unmarshal(body); err != nil {
		a.fail(WrongAnswer, "user %d/%s: LoginOK: %v", a.t.ID, a.u.ID, err)
		return
	}
	s.InstID, s.TakenBack, s.Kicked = m.InstID, m.TakenBack, m.Kicked
	a.end(s, Done)
	dev := &a.dev[s.Dev]
	old := dev.link
	dev.link, dev.ticket, l.id = l, append([]byte(nil), m.Ticket...), m.InstID
	if old != nil {
		a.notice(old, p, codec.CodeReplaced)
	}
	for _, k := range m.Kicked {
		for i := range a.dev {
			if other := a.dev[i].link; i != s.Dev && other != nil && other.id == k.InstID {
				a.dev[i].link = nil
				a.notice(other, p, codec.CodeAnotherLogin)
			}
		}
	}
}

// refused closes a login that was not let in. What says to come back later is no answer.
func (a *agent) refused(s Step, p *process, body []byte) {
	var m codec.LoginRefused
	err := m.Unmarshal(body)
	switch {
	case err != nil:
		a.fail(WrongAnswer, "user %d/%s: LoginRefused: %v", a.t.ID, a.u.ID, err)
		return
	case m.MayReconnect:
		a.unanswered(s, p, fmt.Errorf("refused with %d %s", m.Code, m.Text))
		return
	}
	s.Code = int(m.Code)
	a.end(s, Refused)
	switch s.Code {
	case codeNothingGood:
		a.dev[s.Dev].ticket = nil
	case codeRevoked: // the backend gives out a new UserSig
		a.resign(s.Dev, time.Now().Unix())
		a.dev[s.Dev].ticket = nil
	}
}

// notice reads why the server has ended a link.
func (a *agent) notice(l *link, p *process, want codec.Code) {
	defer l.reset()
	got, err := l.notice(a.d.o.AnswerTimeout)
	if err == nil && got == want || p.expected.Load() {
		return
	}
	a.d.found(NoticeMissing, "user %d/%s: instance %d should be told %v: got %v, %v", a.t.ID, a.u.ID, l.id, want, got, err)
}

func (a *agent) logout(p *process, i int) {
	l := a.dev[i].link
	a.dev[i].link = nil
	defer l.reset()
	s := begin(Logout, i, p)
	f, err := l.ask(codec.AppendEmpty(nil, codec.TypeLogout), a.d.o.AnswerTimeout)
	if err == nil && f.Type == codec.TypeLogoutOK {
		a.end(s, Done)
		return
	}
	a.unanswered(s, p, fmt.Errorf("%v %w", f.Type, err))
}

// leave closes a device's link, by FIN or RST, and mostly waits until the server shows it.
func (a *agent) leave(ctx context.Context, p *process, i int) {
	l := a.dev[i].link
	a.dev[i].link = nil
	s := begin(Drop, i, p)
	if a.rng.IntN(2) == 0 {
		l.reset()
	} else {
		l.conn.Close()
	}
	a.end(s, Done)
	if a.rng.IntN(10) < 7 {
		a.untilGone(ctx, p, l.id)
	}
}

// pollEvery is the pitch of reading until something shows.
const pollEvery = 5 * time.Millisecond

// untilGone reads until the instance is not Online any more.
func (a *agent) untilGone(ctx context.Context, p *process, id uint32) {
	deadline := time.Now().Add(a.d.o.AnswerTimeout)
	for {
		s := begin(Look, 0, p)
		r, err := a.d.read(ctx, p, a.t, a.u.ID)
		if err != nil {
			a.lookFailed(s, p, err)
			return
		}
		s.Seen = r
		switch {
		case !r.online(id):
			a.end(s, Done)
			return
		case time.Now().After(deadline):
			a.end(s, Done)
			a.fail(GhostOnline, "user %d/%s: instance %d is Online %v after its link was closed", a.t.ID, a.u.ID, id, a.d.o.AnswerTimeout)
			return
		}
		time.Sleep(pollEvery)
	}
}

// online reports whether the reading shows the instance Online.
func (r *Reading) online(id uint32) bool {
	for _, in := range r.Insts {
		if in.InstID == id && in.Status == statusOnline {
			return true
		}
	}
	return false
}

func (a *agent) look(ctx context.Context, p *process) {
	s := begin(Look, 0, p)
	r, err := a.d.read(ctx, p, a.t, a.u.ID)
	if err != nil {
		a.lookFailed(s, p, err)
		return
	}
	s.Seen = r
	a.end(s, Done)
}

// lookFailed is a query without an answer: it changes nothing.
func (a *agent) lookFailed(s Step, p *process, err error) {
	if !p.over(a.d.o.AnswerTimeout) {
		a.fail(Unanswered, "user %d/%s: %v: %v, and the server lives", a.t.ID, a.u.ID, s.Kind, err)
	}
}

// revoke kicks the user over REST, or deletes the account. All links end with a notice.
func (a *agent) revoke(ctx context.Context, p *process, kind Kind) {
	s := begin(kind, 0, p)
	command, want := "im_open_login_svc/kick", codec.CodeKickedREST
	var in any = map[string]any{"UserID": a.u.ID}
	if kind == Delete {
		command, want = "im_open_login_svc/account_delete", codec.CodeAccountDeleted
		in = map[string]any{"DeleteItem": []map[string]any{{"UserID": a.u.ID}}}
	}
	if a.backend(ctx, s, p, command, in) != Done {
		return
	}
	for i := range a.dev {
		if l := a.dev[i].link; l != nil {
			a.dev[i].link = nil
			a.notice(l, p, want)
		}
	}
}

func (a *agent) imports(ctx context.Context, p *process) {
	a.backend(ctx, begin(Import, 0, p), p, "im_open_login_svc/account_import", map[string]any{"UserID": a.u.ID})
}

// backend makes a REST call about the user and writes down its outcome.
func (a *agent) backend(ctx context.Context, s Step, p *process, command string, in any) Outcome {
	answer, err := a.d.rest(ctx, p, a.t, command, in)
	if err != nil {
		a.unanswered(s, p, err)
		return Unknown
	}
	code := answer.ErrorCode
	if code == 0 && len(answer.ResultItem) > 0 {
		code = answer.ResultItem[0].ResultCode
	}
	switch code {
	case 0:
		a.end(s, Done)
		return Done
	case 70169, 70202, 70500, 90992, 90994, 90995, 91000:
		a.unanswered(s, p, fmt.Errorf("%d %s", code, answer.ErrorInfo))
		return Unknown
	}
	s.Code = code
	a.end(s, Refused)
	return Refused
}
