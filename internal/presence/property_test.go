package presence

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// drawPolicy draws any policy that Validate admits.
func drawPolicy(t *rapid.T) Policy {
	name := rapid.SampledFrom([]string{"single", "dual", "triple", "multi", "custom"}).Draw(t, "preset")
	p := parsePolicy(name)
	native := 1
	if name == PresetMulti || name == PresetCustom {
		native = 3
	}
	for slot := range slotPlatforms {
		if name == PresetCustom {
			p.Groups[slot] = rapid.Uint8Range(1, 4).Draw(t, "group")
		}
		if slot == Web {
			p.Limits[slot] = rapid.Uint8Range(0, 4).Draw(t, "web limit")
		} else {
			p.Limits[slot] = uint8(rapid.IntRange(0, native).Draw(t, "limit"))
		}
	}
	if err := p.Validate(Ceilings{}); err != nil {
		t.Fatal(err)
	}
	return p
}

func drawDevice(t *rapid.T) Device {
	return Device{
		Platform: Platform(rapid.IntRange(1, NumPlatforms).Draw(t, "platform")),
		ID:       rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "device"),
	}
}

// TestSweepIsReplay holds Sweep's closed form to what it stands for.
func TestSweepIsReplay(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := drawPolicy(t)
		var insts []Instance
		seen := map[Device]bool{}
		for i := range rapid.IntRange(0, 12).Draw(t, "n") {
			d := drawDevice(t)
			if seen[d] {
				continue
			}
			seen[d] = true
			insts = append(insts, Instance{InstID: uint32(100 - i), Device: d, LoginMS: rapid.Int64Range(0, 5).Draw(t, "login")})
		}
		if got, want := p.Sweep(insts, nil), replay(&p, insts); !slices.Equal(got, want) {
			t.Fatalf("Sweep gives %v, replay %v of %v under %+v", got, want, insts, p)
		}
	})
}

// machine drives one user with random calls and holds what came of them to a
// model that knows only sets: who is in with which status, what was revoked.
type machine struct {
	k       Key
	s       Settings
	u       User
	nowMS   int64
	links   uint32
	lastSeq uint64
	events  uint64

	fixed   bool // the policy did not change since all complied: no state may break it
	in      map[Device]Status
	ids     map[Device]uint32
	link    map[Device]LinkID
	old     []past
	tickets []issued
	cutoffS int64
}

// past is a link that was an instance's once.
type past struct {
	d    Device
	link LinkID
}

type issued struct {
	d       Device
	seq     uint64
	revoked bool
}

func TestUserProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{
			k: Key{App: 1, UserID: "u"}, nowMS: 5_000_000, fixed: true,
			in: map[Device]Status{}, ids: map[Device]uint32{}, link: map[Device]LinkID{},
			s: Settings{
				Policy:          drawPolicy(t),
				PushRetentionMS: rapid.SampledFrom([]int64{0, 10_000}).Draw(t, "retention"),
				MacPushOnline:   rapid.Bool().Draw(t, "mac"),
				ExpiryEvent:     rapid.Bool().Draw(t, "expiry event"),
			},
		}
		t.Repeat(map[string]func(*rapid.T){
			"login":   m.login,
			"leave":   m.leave,
			"stale":   m.stale,
			"advance": m.advance,
			"kick":    m.kickAll,
			"inst":    m.kickInstance,
			"enforce": m.enforce,
			"policy": func(t *rapid.T) {
				m.s.Policy, m.fixed = drawPolicy(t), false
			},
			"": m.check,
		})
	})
}

// told checks the numbers of a decision's transitions.
func (m *machine) told(t *rapid.T, ts []Transition) {
	for i := range ts {
		tr := &ts[i]
		m.lastSeq++
		event := tr.Action == ActionLogin || tr.Action == ActionLogout || tr.Action == ActionDisconnect ||
			tr.Action == ActionExpire && m.s.ExpiryEvent
		if event {
			m.events++
		}
		if tr.Seq != m.lastSeq || event != (tr.EventSeq != 0) || event && tr.EventSeq != m.events {
			t.Fatalf("%s has seq %d event %d, want %d, %d", tr.Action, tr.Seq, tr.EventSeq, m.lastSeq, m.events)
		}
		if tr.Key != m.k || tr.TimeMS != m.nowMS || tr.UserStatus != m.u.Status() {
			t.Fatalf("%s of %v at %d, user %s", tr.Action, tr.Key, tr.TimeMS, tr.UserStatus)
		}
		d := Device{Platform: tr.Inst.Device.Platform, ID: tr.Inst.Device.ID}
		if tr.Before != m.in[d] {
			t.Fatalf("%s of %v: was %s, transition says %s", tr.Action, d, m.in[d], tr.Before)
		}
		if tr.Before != Offline && tr.Inst.InstID != m.ids[d] {
			t.Fatalf("%s of %v: InstID %d, was %d", tr.Action, d, tr.Inst.InstID, m.ids[d])
		}
		if tr.Inst.Status != Online && tr.Inst.Link.ID != 0 || tr.Inst.Status != PushOnline && tr.Inst.PushUntilMS != 0 {
			t.Fatalf("%s leaves a link or an end behind: %+v", tr.Action, tr.Inst)
		}
		if tr.Before == Online {
			m.old = append(m.old, past{d, m.link[d]})
		}
		m.in[d], m.ids[d], m.link[d] = tr.Inst.Status, tr.Inst.InstID, tr.Inst.Link.ID
		if tr.Inst.Status == Offline {
			delete(m.in, d)
		}
	}
}

// check compares the user with what the transitions told.
func (m *machine) check(t *rapid.T) {
	if err := checkUser(&m.u); err != nil {
		t.Fatal(err)
	}
	if m.u.Seq != m.lastSeq || m.u.EventSeq != m.events || m.u.CutoffS != m.cutoffS {
		t.Fatalf("seq %d events %d cut-off %d, want %d %d %d", m.u.Seq, m.u.EventSeq, m.u.CutoffS, m.lastSeq, m.events, m.cutoffS)
	}
	if len(m.u.Instances) != len(m.in) {
		t.Fatalf("%d instances, transitions told of %d", len(m.u.Instances), len(m.in))
	}
	for _, in := range m.u.Instances {
		if in.Status != m.in[in.Device] {
			t.Fatalf("%v is %s, transitions told %s", in.Device, in.Status, m.in[in.Device])
		}
	}
	if over := m.s.Policy.Sweep(m.u.Instances, nil); m.fixed && len(over) > 0 {
		t.Fatalf("%v of %v break the only policy there was, %+v", over, m.u.Instances, m.s.Policy)
	}
}

func (m *machine) login(t *rapid.T) {
	l := Login{Device: m.anyDevice(t), Resume: rapid.Bool().Draw(t, "resume"), NowMS: m.nowMS}
	want := m.credential(t, &l)
	m.links++
	l.Link = Link{Node: 1, ID: MakeLinkID(0, m.links, 1)}
	crowd := m.crowd(l.Device)
	_, present := m.in[l.Device]
	if want == CodeOK && l.Resume && !present && len(crowd) > 0 {
		want = CodeKickedOffline
	}
	before := m.u.Clone()

	d, ts := m.u.Login(m.k, &m.s, &l, nil)
	if d.Code != want {
		t.Fatalf("login %+v answers %d, want %d", l, d.Code, want)
	}
	if d.Code != CodeOK {
		if err := sameUser(&before, &m.u); err != nil || len(ts) > 0 {
			t.Fatalf("refused login changed the user: %v", err)
		}
		return
	}
	if d.TakenBack != (l.Resume && present) || present && d.Inst.InstID != m.ids[l.Device] {
		t.Fatalf("taken back %v as #%d, had %v #%d", d.TakenBack, d.Inst.InstID, present, m.ids[l.Device])
	}
	if d.TakenBack {
		crowd = nil
	}
	if got := devicesOf(d.Kicked); !slices.Equal(got, crowd) {
		t.Fatalf("kicked %v, want %v", got, crowd)
	}
	if live := m.in[l.Device] == Online; !live && d.Replaced != (Link{}) || live && d.Replaced.ID != m.link[l.Device] {
		t.Fatalf("replaced link %+v, had %v", d.Replaced, m.link[l.Device])
	}
	m.told(t, ts)
	m.tickets = append(m.tickets, issued{d: l.Device, seq: m.u.Seq})
	if !l.Resume && len(m.crowd(l.Device)) > 0 {
		t.Fatalf("after the login of %v too many are left: %v", l.Device, m.u.Instances)
	}
}

// credential draws one and answers what the login must answer for it.
func (m *machine) credential(t *rapid.T, l *Login) int {
	if len(m.tickets) > 0 && rapid.Bool().Draw(t, "by ticket") {
		k := rapid.SampledFrom(m.tickets).Draw(t, "ticket")
		l.Device, l.Cred = k.d, Credential{ByTicket: true, TicketSeq: k.seq}
		if k.revoked {
			return CodeTicketRevoked
		}
		return CodeOK
	}
	l.Cred.SigTimeS = m.nowMS/1000 + rapid.Int64Range(-3, 1).Draw(t, "sig age")
	if l.Cred.SigTimeS < m.cutoffS {
		return CodeSigRevoked
	}
	return CodeOK
}

// crowd is who must go for d: all on other platforms of its group, and of its
// own the earliest, one by one, until it fits.
func (m *machine) crowd(d Device) []Device {
	slot, p := d.Platform.Slot(), &m.s.Policy
	var gone []Instance
	var mine []Instance
	for _, in := range m.u.Instances {
		other := in.Device.Platform.Slot()
		switch {
		case in.Device == d:
		case other == slot:
			mine = append(mine, in)
		case p.Groups[other] == p.Groups[slot]:
			gone = append(gone, in)
		}
	}
	byLogin := func(a, b Instance) int { return compareLogin(&a, &b) }
	for len(mine) >= p.Limit(slot) {
		first := slices.MinFunc(mine, byLogin)
		gone = append(gone, first)
		mine = slices.DeleteFunc(mine, func(in Instance) bool { return in.InstID == first.InstID })
	}
	slices.SortFunc(gone, byLogin)
	return devicesOf(gone)
}

func devicesOf(insts []Instance) []Device {
	var ds []Device
	for _, in := range insts {
		ds = append(ds, in.Device)
	}
	return ds
}

// anyDevice draws a device, often one that is in.
func (m *machine) anyDevice(t *rapid.T) Device {
	if len(m.u.Instances) > 0 && rapid.Bool().Draw(t, "present") {
		return rapid.SampledFrom(m.u.Instances).Draw(t, "instance").Device
	}
	return drawDevice(t)
}

func (m *machine) leave(t *rapid.T) {
	online := slices.DeleteFunc(slices.Clone(m.u.Instances), func(in Instance) bool { return in.Status != Online })
	if len(online) == 0 {
		t.Skip("nobody is Online")
	}
	d := rapid.SampledFrom(online).Draw(t, "instance").Device
	reason := rapid.SampledFrom([]LeaveReason{LeaveLogout, LeaveLinkClosed, LeaveTimeOut}).Draw(t, "reason")
	changed, ts := m.u.Leave(m.k, &m.s, &Leave{Platform: d.Platform, DeviceID: d.ID, Node: 1, Link: m.link[d], Reason: reason, NowMS: m.nowMS}, nil)
	if !changed || len(ts) != 1 {
		t.Fatalf("leave of %v: changed %v, %d transitions", d, changed, len(ts))
	}
	m.told(t, ts)
	push := d.Platform.Class() == Mobile || d.Platform == Mac && m.s.MacPushOnline
	want := Offline
	if push && m.s.PushRetentionMS > 0 && reason != LeaveLogout {
		want = PushOnline
	}
	if m.in[d] != want {
		t.Fatalf("%v is %s after leave %d, want %s", d, m.in[d], reason, want)
	}
}

func (m *machine) stale(t *rapid.T) {
	if len(m.old) == 0 {
		t.Skip("no link of the past")
	}
	l := rapid.SampledFrom(m.old).Draw(t, "link")
	d, link := l.d, l.link
	if rapid.Bool().Draw(t, "no link") {
		d, link = m.anyDevice(t), 0
	}
	reason := rapid.SampledFrom([]LeaveReason{LeaveLogout, LeaveLinkClosed, LeaveTimeOut}).Draw(t, "reason")
	before := m.u.Clone()
	changed, ts := m.u.Leave(m.k, &m.s, &Leave{Platform: d.Platform, DeviceID: d.ID, Node: 1, Link: link, Reason: reason, NowMS: m.nowMS}, nil)
	if err := sameUser(&before, &m.u); changed || len(ts) > 0 || err != nil {
		t.Fatalf("stale leave of %v changed the user: %v", d, err)
	}
}

func (m *machine) advance(t *rapid.T) {
	m.nowMS += rapid.SampledFrom([]int64{1, 999, 1000, 9_999, 10_000}).Draw(t, "ms")
	due := map[Device]bool{}
	for _, in := range m.u.Instances {
		if in.Status == PushOnline && in.PushUntilMS <= m.nowMS {
			due[in.Device] = true
		}
	}
	n, ts := m.u.Expire(m.k, &m.s, m.nowMS, nil)
	m.told(t, ts)
	if n != len(due) || n != len(ts) {
		t.Fatalf("%d expired, told %d, want %d", n, len(ts), len(due))
	}
	for d := range due {
		if _, there := m.in[d]; there {
			t.Fatalf("%v did not expire", d)
		}
	}
}

func (m *machine) kickAll(t *rapid.T) {
	n := len(m.in)
	kick, registered := m.u.KickAll, m.u.Registered
	if rapid.Bool().Draw(t, "delete") {
		kick, registered = m.u.Delete, false
	}
	kicked, ts := kick(m.k, m.nowMS, nil)
	m.told(t, ts)
	if n == 0 {
		m.lastSeq++ // a revocation is a number of its own
	}
	if len(kicked) != n || len(ts) != n || len(m.in) != 0 || m.u.Registered != registered {
		t.Fatalf("kicked %d of %d, registered %v", len(kicked), n, m.u.Registered)
	}
	for i := range ts {
		if !ts[i].ByREST || ts[i].Action != ActionLogout {
			t.Fatalf("a kick is told as %s, by REST %v", ts[i].Action, ts[i].ByREST)
		}
	}
	m.cutoffS = max(m.cutoffS, m.nowMS/1000)
	for i := range m.tickets {
		m.tickets[i].revoked = true
	}
}

func (m *machine) kickInstance(t *rapid.T) {
	d := m.anyDevice(t)
	id, before := m.ids[d], m.in[d]
	in, ok, ts := m.u.KickInstance(m.k, id, m.nowMS, nil)
	if ok != (before != Offline) {
		t.Fatalf("kick of #%d (%v, %s): %v", id, d, before, ok)
	}
	if ok && (in.InstID != id || in.Status != before || len(ts) != 1) {
		t.Fatalf("kick of #%d gives %+v", id, in)
	}
	m.told(t, ts)
}

func (m *machine) enforce(t *rapid.T) {
	want := replay(&m.s.Policy, m.u.Instances)
	kicked, ts := m.u.Enforce(m.k, &m.s, m.nowMS, nil)
	m.told(t, ts)
	if len(kicked) != len(want) || len(ts) != len(want) {
		t.Fatalf("enforce kicked %d, want %d", len(kicked), len(want))
	}
	if again, ts := m.u.Enforce(m.k, &m.s, m.nowMS, nil); len(again) > 0 || len(ts) > 0 {
		t.Fatalf("enforce again kicked %v", again)
	}
	m.fixed = true // from here on none may break the present policy
}

// TestCloneShares holds that a clone is not written through.
func TestCloneShares(t *testing.T) {
	var u User
	s := Settings{Policy: parsePolicy("multi"), PushRetentionMS: 1}
	for i, p := range slots() {
		l := Login{Device: Device{Platform: p, ID: "d"}, Link: Link{Node: 1, ID: LinkID(i + 1)}, NowMS: int64(i)}
		u.Login(Key{}, &s, &l, nil)
	}
	before := u.Clone()
	want := fmt.Sprint(before)
	s.Policy = parsePolicy("single")
	u.Login(Key{}, &s, &Login{Device: Device{Platform: Mac, ID: "d"}, NowMS: 100, Link: Link{Node: 1, ID: 100}}, nil)
	u.KickAll(Key{}, 200, nil)
	if got := fmt.Sprint(before); got != want {
		t.Errorf("clone changed from %s to %s", want, got)
	}
}
