package engine

import (
	"cmp"
	"fmt"
	"math"
	"net"
	"net/netip"
	"unicode/utf8"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/storm"
	"github.com/rollcall-im/rollcall/internal/ticket"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// loginCall is a login on its way through the Directory.
type loginCall struct {
	op       directory.LoginOp
	item     item
	loop     *Loop
	app      *directory.App // the settings that the login was checked with
	sig      []byte         // the UserSig to fall back on if the ticket turns out revoked
	sigEndMS int64          // end of the UserSig that stands behind the login, 0 = unknown
	flight   storm.Flight
}

// credential is what a login has proved.
type credential struct {
	presence.Credential
	sigEndMS int64
}

// refusal says no to a login. The zero value is a yes.
type refusal struct {
	code    codec.Code
	text    string
	retryMS int64 // 0 = the usual time
}

// tryLogin hands the login to the Directory unless there is a reason to refuse it.
func (l *Loop) tryLogin(s *Session, m *codec.Login) refusal {
	t, no := l.tenants.find(l.core.o.Directory, m.SDKAppID)
	if no.code != 0 {
		return no
	}
	if !t.app.OriginAllowed(l.parts.takeOrigin(s)) {
		return refusal{code: codec.CodeOrigin}
	}
	s.user = string(m.UserID)
	s.app, s.platform = m.SDKAppID, presence.Platform(m.Platform)
	device := string(m.DeviceID)
	addr := addrPort(s.conn.RemoteAddr())
	cred, no := l.authenticate(s, device, m, t, addr.Addr())
	if no.code != 0 {
		return no
	}
	l.decide(s, device, m, t.app, cred, addr)
	return refusal{}
}

// checkFields looks for a field that is missing or out of bounds.
func checkFields(m *codec.Login) refusal {
	bad := func(format string, args ...any) refusal {
		return refusal{code: codec.CodeBadParameter, text: fmt.Sprintf(format, args...)}
	}
	switch {
	case m.SDKAppID == 0:
		return bad("sdk_app_id is missing")
	case !presence.ValidUserID(m.UserID):
		return bad("user_id %q is not 1 to %d bytes of 0x20 to 0x7e", brief(m.UserID), presence.MaxUserID)
	case !presence.Platform(m.Platform).Valid():
		return bad("platform is missing or not in the table")
	case len(m.DeviceID) == 0 || len(m.DeviceID) > presence.MaxDeviceID:
		return bad("device_id has %d bytes, want 1 to %d", len(m.DeviceID), presence.MaxDeviceID)
	case len(m.SDKVersion) > presence.MaxSDKVersion:
		return bad("sdk_version has %d bytes, want at most %d", len(m.SDKVersion), presence.MaxSDKVersion)
	case len(m.DeviceModel) > presence.MaxDeviceModel:
		return bad("device_model has %d bytes, want at most %d", len(m.DeviceModel), presence.MaxDeviceModel)
	}
	return refusal{}
}

// brief cuts a client's value for a text that goes back to it.
func brief(b []byte) []byte {
	const most = 48
	if len(b) <= most {
		return b
	}
	b = b[:most]
	for len(b) > 0 && !utf8.Valid(b) {
		b = b[:len(b)-1]
	}
	return b
}

// authenticate checks what the login shows, presence.md section 4: a resume's
// ticket, else the UserSig. Whether either is revoked is for the Directory to say.
func (l *Loop) authenticate(s *Session, device string, m *codec.Login, t *tenant, addr netip.Addr) (credential, refusal) {
	if m.Resume && len(m.Ticket) > 0 {
		c := ticket.Claims{
			App: m.SDKAppID, UserID: s.user, Platform: uint8(s.platform), DeviceID: device, Epoch: t.app.TicketEpoch,
		}
		if ticket.Verify(m.Ticket, &t.app.TicketKey, &c, l.now.WallMS) == nil {
			return credential{presence.Credential{ByTicket: true, TicketSeq: c.Seq}, c.SigEndMS}, refusal{}
		}
	}
	return l.verifySig(s, m.UserSig, m.Resume, t, addr)
}

// verifySig checks the UserSig, unless it is one that was found good before. A
// resume that comes without one, and so has nothing that is good, is told 70003.
//
// Who failed too often is not listened to for a while, but for what is known to be
// good: neither a ticket nor a UserSig of the cache ever gets here.
func (l *Loop) verifySig(s *Session, sig []byte, resume bool, t *tenant, addr netip.Addr) (credential, refusal) {
	if resume && len(sig) == 0 {
		return credential{}, refusal{code: codec.CodeSigMalformed, text: "there is neither a good session ticket nor a UserSig"}
	}
	c := usersig.Check{AppID: s.app, UserID: s.user, Secrets: t.secrets, NowS: l.now.WallMS / 1000}
	var key usersig.CacheKey
	if cache := l.core.sigs; cache != nil {
		key = cache.Key(sig, &c, t.fingerprint)
		if r, ok := cache.Get(key, c.NowS); ok {
			l.tally.sigHits++
			return credential{presence.Credential{SigTimeS: r.TimeS}, endMS(r.EndS)}, refusal{}
		}
		l.tally.sigMisses++
	}
	if no := l.barred(s, addr); no.code != 0 {
		return credential{}, no
	}
	r := usersig.Verify(sig, &c)
	l.tried(s, addr, r.Code)
	if r.Code != usersig.OK {
		return credential{}, refusal{code: codec.Code(r.Code), text: r.Text}
	}
	if l.core.sigs != nil {
		l.core.sigs.Put(key, &r)
	}
	return credential{presence.Credential{SigTimeS: r.TimeS}, endMS(r.EndS)}, refusal{}
}

// barred refuses a login from where too many have failed.
func (l *Loop) barred(s *Session, addr netip.Addr) refusal {
	p := l.core.penalties
	if p.Idle() || within(l.core.o.UnlimitedNetworks, addr) {
		return refusal{}
	}
	user, ip := p.Barred(p.Origin(s.app, s.user, addr), l.now.MonoMS)
	switch {
	case user == 0 && ip == 0:
		return refusal{}
	case user >= ip:
		l.core.m.barredUser.Inc()
	default:
		l.core.m.barredAddress.Inc()
	}
	return refusal{code: codec.CodeTooManyFailures, retryMS: max(user, ip) + l.rng.Int64N(1000)}
}

// tried notes how a UserSig turned out. Where an address stands for many, as that of a
// load balancer does, one of them must not have the others refused.
func (l *Loop) tried(s *Session, addr netip.Addr, code usersig.Code) {
	p := l.core.penalties
	switch {
	case within(l.core.o.UnlimitedNetworks, addr):
	case code != usersig.OK:
		p.Failed(p.Origin(s.app, s.user, addr), code == usersig.Expired, l.now.MonoMS)
	case !p.Idle():
		p.Passed(p.Origin(s.app, s.user, addr), l.now.MonoMS)
	}
}

// endMS turns Unix seconds into milliseconds; a time beyond what fits is the last that does.
func endMS(s int64) int64 {
	if s > math.MaxInt64/1000 {
		return math.MaxInt64
	}
	return s * 1000
}

// decide asks the Directory. From here on an end of the link means a Leave.
func (l *Loop) decide(s *Session, device string, m *codec.Login, app *directory.App, cred credential, addr netip.AddrPort) {
	s.state = stateDeciding
	c, lis := l.newLoginCall(), l.listener(s)
	c.app, c.sigEndMS = app, cred.sigEndMS
	if cred.ByTicket && len(m.UserSig) > 0 {
		c.sig = append(c.sig[:0], m.UserSig...)
	}
	c.op.Key = presence.Key{App: s.app, UserID: s.user}
	c.op.Login = presence.Login{
		Device: presence.Device{Platform: s.platform, ID: device, SDKVersion: l.words.word(m.SDKVersion), Model: l.words.word(m.DeviceModel)},
		Resume: m.Resume,
		Cred:   cred.Credential,
		Link: presence.Link{
			Node: l.core.o.Node, ID: s.id, Protocol: lis.Protocol, Listener: lis.Name,
			Addr: addr, ConnectedMS: l.connectedMS(s),
		},
		NowMS: l.now.WallMS,
	}
	if !l.debugs() { // the log of its end names the client
		l.io().ForgetAddr(s.conn)
	}
	l.arm(s, l.core.o.DecideTimeout)
	l.issueLogin(c)
}

func (l *Loop) issueLogin(c *loginCall) {
	l.pendingLogins.Add(1)
	c.flight = l.turns.limit.Begin(l.now.MonoMS)
	l.core.o.Directory.Login(&c.op)
}

// connectedMS is when the link was accepted, WallMS.
func (l *Loop) connectedMS(s *Session) int64 {
	return l.now.WallMS - (l.now.MonoMS - l.acceptedMS(s))
}

// addrPort is a client's address; one of IPv4 in IPv6 clothes is told as IPv4.
func addrPort(a net.Addr) netip.AddrPort {
	tcp, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// loginDone is the Directory's answer. If the link has ended meanwhile there is
// nothing to do: its Leave was issued behind this Login.
func (l *Loop) loginDone(c *loginCall) {
	l.pendingLogins.Add(-1)
	decided := c.op.Code != directory.CodeUnavailable
	l.turns.limit.End(l.now.MonoMS, c.flight, decided)
	if decided {
		l.turns.meter.Add(l.now.MonoMS)
	}
	s := l.slab.get(c.op.Login.Link.ID)
	if s == nil || s.state != stateDeciding {
		l.recycleLogin(c)
		return
	}
	fx := l.effects()
	if no, again := l.judge(s, c); again {
		return
	} else if no.code != 0 {
		fx.retryMS = max(fx.retryMS, uint32(min(c.op.RetryAfterMS, math.MaxUint32)))
		l.refuseLogin(s, no, fx)
	} else {
		l.admitLogin(s, c, fx)
		l.resumeMQTT(s, fx)
	}
	l.recycleLogin(c)
	l.apply(s, fx)
}

// judge turns the Directory's code into a yes (no.code == 0) or no. If the ticket
// is revoked the login is tried again with the UserSig.
func (l *Loop) judge(s *Session, c *loginCall) (no refusal, again bool) {
	switch c.op.Code {
	case presence.CodeOK:
		return refusal{}, false
	case presence.CodeTicketRevoked:
		return l.retryWithSig(s, c)
	case directory.CodeUnavailable:
		return refusal{code: codec.CodeUnavailable, text: c.op.Text}, false
	}
	code := codec.Code(c.op.Code)
	if _, known := code.Info(); !known || c.op.Code < 0 {
		l.core.o.Logger.Error("the directory answered a login with an unknown code", "code", c.op.Code)
		return refusal{code: codec.CodeUnavailable}, false
	}
	return refusal{code: code}, false
}

func (l *Loop) retryWithSig(s *Session, c *loginCall) (no refusal, again bool) {
	if !c.op.Login.Cred.ByTicket {
		return refusal{code: codec.CodeUnavailable}, false // no directory does that
	}
	t, no := l.tenants.find(l.core.o.Directory, s.app)
	if no.code != 0 {
		return no, false
	}
	cred, no := l.verifySig(s, c.sig, c.op.Login.Resume, t, c.op.Login.Link.Addr.Addr())
	if no.code != 0 {
		return no, false
	}
	c.app, c.sig, c.sigEndMS = t.app, c.sig[:0], cred.sigEndMS
	c.op.Login.Cred, c.op.Login.NowMS = cred.Credential, l.now.WallMS
	c.clearResult()
	l.issueLogin(c)
	return refusal{}, true
}

func (l *Loop) refuseLogin(s *Session, no refusal, fx *effects) {
	l.core.m.login(no.code)
	if no.retryMS > 0 {
		fx.retryMS = uint32(min(no.retryMS, math.MaxUint32))
	}
	s.refuse(no.code, no.text, fx)
}

// admitLogin tells the client of its instance and starts the silence time-out.
func (l *Loop) admitLogin(s *Session, c *loginCall, fx *effects) {
	l.core.m.login(0)
	l.authenticated(s)
	fx.redirect = l.listener(s).redirect // if the node stops meanwhile
	times := c.app.Timeouts.Of(s.platform)
	silenceMS := max(uint32(times.SilenceMS), l.promisedSilenceMS(s))
	if c.app.CloseOnSigEnd {
		s.sigEndS = uint32(min(c.sigEndMS/1000+min(c.sigEndMS%1000, 1), math.MaxUint32))
	}
	d := &c.op.Decision
	ok := &l.loginOK // of the loop: a dialect's message escapes
	*ok = codec.LoginOK{
		InstID:              d.Inst.InstID,
		ServerTimeMS:        l.now.WallMS,
		HeartbeatIntervalMS: uint32(times.HeartbeatMS),
		SilenceTimeoutMS:    silenceMS,
		TakenBack:           d.TakenBack,
		Kicked:              ok.Kicked[:0],
	}
	ok.Ticket = l.newTicket(s, c)
	for i := range d.Kicked {
		ok.Kicked = append(ok.Kicked, codec.KickedInstance{Platform: codec.Platform(d.Kicked[i].Device.Platform), InstID: d.Kicked[i].InstID})
	}
	s.decided(ok, fx)
	if s.state == stateOnline {
		s.until = silenceMS
		l.wheel.Schedule(s.id.Slot(), l.nextLook(s))
	}
}

// newTicket makes the session ticket: good for the app's time, but never longer
// than the UserSig that stands behind the login.
func (l *Loop) newTicket(s *Session, c *loginCall) []byte {
	l.scratch = ticket.Append(l.scratch[:0], &c.app.TicketKey, &ticket.Claims{
		App: s.app, UserID: s.user, Platform: uint8(s.platform), DeviceID: c.op.Login.Device.ID,
		InstID: c.op.Decision.Inst.InstID, Seq: c.op.Seq, Epoch: c.app.TicketEpoch,
		ExpiresMS: min(l.now.WallMS+c.app.Timeouts.TicketTTLMS, cmp.Or(c.sigEndMS, math.MaxInt64)),
		SigEndMS:  c.sigEndMS,
	})
	return l.scratch
}

// maxIdleCalls bounds the calls that a loop keeps for reuse: those of a step, by
// the default Batch.
const maxIdleCalls = 512

func (l *Loop) newLoginCall() *loginCall {
	if n := len(l.logins); n > 0 {
		c := l.logins[n-1]
		l.logins = l.logins[:n-1]
		return c
	}
	c := &loginCall{loop: l}
	c.item.login = c
	c.op.Done = func(*directory.LoginOp) { c.loop.post(&c.item) }
	return c
}

func (l *Loop) recycleLogin(c *loginCall) {
	if len(l.logins) >= maxIdleCalls {
		return
	}
	c.app, c.sig = nil, c.sig[:0]
	if cap(c.sig) > keptRequest {
		c.sig = nil
	}
	c.op.Key, c.op.Login = presence.Key{}, presence.Login{}
	c.clearResult()
	l.logins = append(l.logins, c)
}

// clearResult clears what the Directory filled in.
func (c *loginCall) clearResult() {
	c.op.Code, c.op.RetryAfterMS, c.op.Text, c.op.Seq, c.op.Next = 0, 0, "", 0, nil
	c.op.Decision = presence.LoginDecision{}
}
