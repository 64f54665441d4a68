package embedded

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/directory/directorytest"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// model is what the directory should know, in the plainest form: maps, and the
// policy as a list of groups. It shares no rule with the code under test.
type model struct {
	users  map[string]*modelUser
	groups [][]presence.Platform
	limits map[presence.Platform]int
}

type modelUser struct {
	account  bool
	cutoffS  int64
	insts    []modelInst // in order of login time, then InstID
	ticketOK map[uint64]bool
}

type modelInst struct {
	platform presence.Platform
	device   string
	link     presence.LinkID // 0: PushOnline
	loginMS  int64
	lostMS   int64
	instID   uint32
}

const modelRetentionMS = 3600_000

var modelPolicies = map[string][][]presence.Platform{
	presence.PresetSingle: {{presence.Android, presence.IPhone, presence.Windows, presence.Web}},
	presence.PresetDual:   {{presence.Android, presence.IPhone, presence.Windows}, {presence.Web}},
	presence.PresetTriple: {{presence.Android, presence.IPhone}, {presence.Windows}, {presence.Web}},
	presence.PresetMulti:  {{presence.Android}, {presence.IPhone}, {presence.Windows}, {presence.Web}},
}

func slot(p presence.Platform) presence.Platform {
	if p == presence.MiniProgram {
		return presence.Web
	}
	return p
}

// rivals reports whether the policy lets only one of the two slots be in.
func (m *model) rivals(a, b presence.Platform) bool {
	for _, g := range m.groups {
		if slices.Contains(g, a) && slices.Contains(g, b) {
			return a != b
		}
	}
	return false
}

// admit returns who would stay and who would go if a device came in last.
func (m *model) admit(insts []modelInst, p presence.Platform, device string) (stay, gone []modelInst) {
	same := 0
	for _, in := range insts {
		if slot(in.platform) == slot(p) && !(in.platform == p && in.device == device) {
			same++
		}
	}
	for _, in := range insts {
		own := in.platform == p && in.device == device
		switch {
		case own:
		case m.rivals(slot(in.platform), slot(p)):
			gone = append(gone, in)
			continue
		case slot(in.platform) == slot(p) && same >= m.limits[slot(p)]:
			same--
			gone = append(gone, in)
			continue
		}
		stay = append(stay, in)
	}
	return stay, gone
}

// survivors replays the logins under the policy.
func (m *model) survivors(insts []modelInst) (in []modelInst) {
	for _, i := range insts {
		in, _ = m.admit(in, i.platform, i.device)
		in = append(in, i)
	}
	return in
}

func (m *model) user(name string) *modelUser {
	u := m.users[name]
	if u == nil {
		u = &modelUser{ticketOK: map[uint64]bool{}}
		m.users[name] = u
	}
	return u
}

func (u *modelUser) find(p presence.Platform, device string) int {
	return slices.IndexFunc(u.insts, func(in modelInst) bool { return in.platform == p && in.device == device })
}

// revoke is a kick of all: tickets and UserSigs from before are dead.
func (u *modelUser) revoke(nowMS int64) {
	u.cutoffS = max(u.cutoffS, nowMS/1000)
	clear(u.ticketOK)
	u.insts = nil
}

func (u *modelUser) status() presence.Status {
	s := presence.Offline
	for _, in := range u.insts {
		if in.link != 0 {
			return presence.Online
		}
		s = presence.PushOnline
	}
	return s
}

// machine drives directory and model alike.
type machine struct {
	*rapid.T
	b *bed
	model
	tickets map[string][]uint64
	links   []directory.LoginOp // all that ever logged in
	notices map[presence.LinkID]bool
	want    map[presence.LinkID]bool
}

func (m *machine) pickUser() string {
	return rapid.SampledFrom([]string{"ann", "bob", "cid"}).Draw(m.T, "user")
}

func (m *machine) pickDevice() presence.Device {
	return presence.Device{
		Platform: rapid.SampledFrom([]presence.Platform{presence.Android, presence.IPhone, presence.Windows, presence.Web, presence.MiniProgram}).Draw(m.T, "platform"),
		ID:       rapid.SampledFrom([]string{"d1", "d2", "d3"}).Draw(m.T, "device"),
	}
}

func (m *machine) Login(t *rapid.T) {
	m.T = t
	name, dev := m.pickUser(), m.pickDevice()
	op := m.b.loginOp(name, dev.ID, dev.Platform)
	op.Login.Resume = rapid.Bool().Draw(t, "resume")
	op.Login.Cred.SigTimeS -= rapid.Int64Range(0, 5).Draw(t, "age of the UserSig")
	if seqs := m.tickets[name]; op.Login.Resume && len(seqs) > 0 {
		op.Login.Cred = presence.Credential{ByTicket: true, TicketSeq: rapid.SampledFrom(seqs).Draw(t, "ticket")}
	}
	code, kicked := m.expectLogin(m.user(name), op)
	m.b.Directory.Login(op)
	if op.Code != code {
		t.Fatalf("code %d, want %d", op.Code, code)
	}
	if code != presence.CodeOK {
		return
	}
	m.tickets[name] = append(m.tickets[name], op.Seq)
	m.user(name).ticketOK[op.Seq] = true
	m.links = append(m.links, *op)
	got := ids(op.Decision.Kicked)
	if !slices.Equal(got, kicked) {
		t.Fatalf("kicked %v, want %v", got, kicked)
	}
	u := m.user(name)
	in := &u.insts[u.find(dev.Platform, dev.ID)]
	if in.instID != 0 && in.instID != op.Decision.Inst.InstID {
		t.Fatalf("InstID %d became %d", in.instID, op.Decision.Inst.InstID)
	}
	in.instID = op.Decision.Inst.InstID
	slices.SortFunc(u.insts, func(a, b modelInst) int {
		return cmp.Or(cmp.Compare(a.loginMS, b.loginMS), cmp.Compare(a.instID, b.instID))
	})
}

// expectLogin changes the model as the login should change the directory.
func (m *machine) expectLogin(u *modelUser, op *directory.LoginOp) (code int, kicked []uint32) {
	l := &op.Login
	switch {
	case l.Cred.ByTicket && !u.ticketOK[l.Cred.TicketSeq]:
		return presence.CodeTicketRevoked, nil
	case !l.Cred.ByTicket && l.Cred.SigTimeS < u.cutoffS:
		return presence.CodeSigRevoked, nil
	}
	at := u.find(l.Device.Platform, l.Device.ID)
	stay, gone := m.admit(u.insts, l.Device.Platform, l.Device.ID)
	mine := modelInst{platform: l.Device.Platform, device: l.Device.ID, link: l.Link.ID, loginMS: l.NowMS}
	if at >= 0 {
		mine.instID = u.insts[at].instID
		if old := u.insts[at].link; old != 0 {
			m.want[old] = true
		}
	}
	if l.Resume && at >= 0 {
		mine.loginMS = u.insts[at].loginMS
		u.insts[at] = mine
		return presence.CodeOK, nil
	}
	if l.Resume && len(gone) > 0 {
		return presence.CodeKickedOffline, nil
	}
	u.account, u.insts = true, stay
	if at = u.find(mine.platform, mine.device); at >= 0 {
		u.insts = slices.Delete(u.insts, at, at+1)
	}
	u.insts = append(u.insts, mine)
	m.force(gone)
	for _, in := range gone {
		kicked = append(kicked, in.instID)
	}
	return presence.CodeOK, kicked
}

// force expects a notice for each that has a link.
func (m *machine) force(gone []modelInst) {
	for _, in := range gone {
		if in.link != 0 {
			m.want[in.link] = true
		}
	}
}

func (m *machine) Leave(t *rapid.T) {
	if len(m.links) == 0 {
		t.Skip("no links")
	}
	of := rapid.SampledFrom(m.links).Draw(t, "link")
	reason := rapid.SampledFrom([]directory.LeaveReason{directory.LeaveLogout, directory.LeaveLinkClosed, directory.LeaveTimeOut}).Draw(t, "reason")
	op := m.b.leaveOp(&of, reason)
	m.b.Directory.Leave(op)
	u := m.user(of.Key.UserID)
	at := slices.IndexFunc(u.insts, func(in modelInst) bool { return in.link == of.Login.Link.ID })
	if op.Changed != (at >= 0) {
		t.Fatalf("changed %t, want %t", op.Changed, at >= 0)
	}
	if at < 0 {
		return
	}
	if p := u.insts[at].platform; reason != directory.LeaveLogout && (p == presence.Android || p == presence.IPhone) {
		u.insts[at].link, u.insts[at].lostMS = 0, m.b.nowMS()
	} else {
		u.insts = slices.Delete(u.insts, at, at+1)
	}
}

func (m *machine) Kick(t *rapid.T) {
	m.T = t
	name := m.pickUser()
	op := m.b.kick(name)
	m.mustFind(op.Code, m.user(name), func(u *modelUser) {
		m.force(u.insts)
		u.revoke(m.b.nowMS())
	})
}

func (m *machine) KickOne(t *rapid.T) {
	m.T = t
	name := m.pickUser()
	u := m.user(name)
	if len(u.insts) == 0 {
		t.Skip("nobody in")
	}
	i := rapid.IntRange(0, len(u.insts)-1).Draw(t, "instance")
	op := &directory.KickOp{Key: key(name), InstID: u.insts[i].instID, NowMS: m.b.nowMS(), Done: func(*directory.KickOp) {}}
	m.b.Directory.Kick(op)
	if op.Code != presence.CodeOK || len(op.Kicked) != 1 {
		t.Fatalf("code %d, kicked %d", op.Code, len(op.Kicked))
	}
	m.force(u.insts[i : i+1])
	u.insts = slices.Delete(u.insts, i, i+1)
}

func (m *machine) mustFind(code int, u *modelUser, then func(*modelUser)) {
	want := presence.CodeOK
	if !u.account {
		want = presence.CodeAccountNotExist
	}
	if code != want {
		m.Fatalf("code %d, want %d", code, want)
	}
	if u.account {
		then(u)
	}
}

func (m *machine) Accounts(t *rapid.T) {
	m.T = t
	name := m.pickUser()
	op := &directory.AccountsOp{App: app, UserIDs: []string{name}, NowMS: m.b.nowMS(), Done: func(*directory.AccountsOp) {}}
	if rapid.Bool().Draw(t, "import") {
		op.Action = directory.AccountsImport
		m.b.Directory.Accounts(op)
		m.user(name).account = true
		return
	}
	op.Action = directory.AccountsDelete
	m.b.Directory.Accounts(op)
	m.mustFind(op.Results[0], m.user(name), func(u *modelUser) {
		m.force(u.insts)
		u.revoke(m.b.nowMS())
		u.account = false
	})
}

// Wait keeps to full seconds, on which the timer runs to the millisecond.
func (m *machine) Wait(t *rapid.T) {
	seconds := rapid.SampledFrom([]int64{1, 400, modelRetentionMS / 2000, modelRetentionMS / 1000}).Draw(t, "seconds")
	m.b.clock.Advance(time.Duration(seconds) * time.Second)
	for _, u := range m.users {
		u.insts = slices.DeleteFunc(u.insts, func(in modelInst) bool {
			return in.link == 0 && in.lostMS+modelRetentionMS <= m.b.nowMS()
		})
	}
}

func (m *machine) Policy(t *rapid.T) {
	preset := rapid.SampledFrom([]string{presence.PresetSingle, presence.PresetDual, presence.PresetTriple, presence.PresetMulti}).Draw(t, "preset")
	enforce := rapid.Bool().Draw(t, "enforce")
	m.groups = modelPolicies[preset]
	m.limits = map[presence.Platform]int{presence.Android: 1, presence.IPhone: 1, presence.Windows: 1, presence.Web: rapid.IntRange(1, 3).Draw(t, "web")}
	p, _ := presence.Preset(preset)
	p.Limits[presence.Web] = uint8(m.limits[presence.Web])
	if preset == presence.PresetMulti {
		m.limits[presence.Android] = 2
		p.Limits[presence.Android] = 2
	}
	kicked, users := 0, 0
	for _, u := range m.users {
		stay := m.survivors(u.insts)
		if n := len(u.insts) - len(stay); n > 0 {
			kicked += n
			users++
		}
		if enforce {
			m.force(slices.DeleteFunc(slices.Clone(u.insts), func(in modelInst) bool { return slices.Contains(stay, in) }))
			u.insts = stay
		}
	}
	done := make(chan struct{})
	dry := &directory.DryRunOp{App: app, Policy: p, Done: func(*directory.DryRunOp) { close(done) }}
	m.b.DryRun(dry)
	m.b.wait("dry run", done)
	if dry.Users != uint64(users) || dry.Instances != uint64(kicked) {
		t.Fatalf("dry run: %d instances of %d users, want %d of %d", dry.Instances, dry.Users, kicked, users)
	}
	op := m.b.update(&directory.UpdateAppOp{SDKAppID: app, Enforce: enforce, Mutate: m.b.setPolicy(p)})
	if op.Err != nil || enforce && op.Kicked != uint64(kicked) {
		t.Fatalf("%v, kicked %d, want %d", op.Err, op.Kicked, kicked)
	}
}

// ForcedOffline implements directory.Watcher.
func (m *machine) ForcedOffline(ns []directory.Notice) {
	for _, n := range ns {
		if m.notices[n.Link] {
			m.Errorf("link %d was forced offline twice", n.Link)
		}
		m.notices[n.Link] = true
	}
}

// Changed implements directory.Watcher.
func (m *machine) Changed([]directory.Change) {}

// AppChanged implements directory.Watcher.
func (m *machine) AppChanged(*directory.App) {}

// Check compares all that can be seen after each step.
func (m *machine) Check(t *rapid.T) {
	names := []string{"ann", "bob", "cid"}
	op := &directory.QueryOp{App: app, UserIDs: names, Detail: true, Done: func(*directory.QueryOp) {}}
	m.b.Query(op)
	var in []string
	for i, name := range names {
		u, got := m.user(name), op.Users[i]
		if (got.Code == presence.CodeOK) != u.account {
			t.Fatalf("%s: code %d, account %t", name, got.Code, u.account)
		}
		if u.account && (got.Status != u.status() || !slices.EqualFunc(got.Instances, u.insts, sameInst)) {
			t.Fatalf("%s: %+v, want %+v", name, got, u.insts)
		}
		if len(u.insts) > 0 {
			in = append(in, name)
		}
	}
	list := &directory.UsersOp{App: app, Limit: 1000, Done: func(*directory.UsersOp) {}}
	m.b.Users(list)
	var listed []string
	for _, u := range list.Users {
		listed = append(listed, u.UserID)
	}
	if slices.Sort(listed); !slices.Equal(listed, in) {
		t.Fatalf("listed %v, want %v", listed, in)
	}
	if fmt.Sprint(m.notices) != fmt.Sprint(m.want) {
		t.Fatalf("forced offline %v, want %v", m.notices, m.want)
	}
	if err := cmp.Or(m.b.Directory.Check(), m.b.checkRest()); err != nil {
		t.Fatal(err)
	}
}

func sameInst(got directory.InstanceState, want modelInst) bool {
	return got.InstID == want.instID && got.Platform == want.platform && (got.Status == presence.Online) == (want.link != 0)
}

// The whole directory against the model, step by step.
func TestModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		d, err := New(Options{Shards: 4, Clock: nil})
		if err != nil {
			rt.Fatal(err)
		}
		defer d.Close()
		b := &bed{TB: t, Directory: d, clock: clock.NewManual(directorytest.Start)}
		d.opts.Clock = b.clock
		m := &machine{T: rt, b: b, tickets: map[string][]uint64{}, notices: map[presence.LinkID]bool{}, want: map[presence.LinkID]bool{}}
		m.model = model{users: map[string]*modelUser{}, groups: modelPolicies[presence.PresetSingle]}
		m.limits = map[presence.Platform]int{presence.Android: 1, presence.IPhone: 1, presence.Windows: 1, presence.Web: 1}
		b.Watch(node, m)
		if op := b.update(&directory.UpdateAppOp{SDKAppID: app, Create: true, Mutate: func(a *directory.App) error {
			a.Timeouts.PushRetentionMS = modelRetentionMS
			return nil
		}}); op.Err != nil {
			rt.Fatal(op.Err)
		}
		rt.Repeat(map[string]func(*rapid.T){
			"login": m.Login, "login again": m.Login, "and again": m.Login, "leave": m.Leave, "kick": m.Kick, "kick one": m.KickOne,
			"accounts": m.Accounts, "wait": m.Wait, "policy": m.Policy, "": m.Check,
		})
	})
}
