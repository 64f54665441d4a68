package directorytest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

const (
	app   = 1400000000
	node  = 7
	limit = 30 * time.Second // for what should take no time
)

// world is a directory with a virtual clock, an app with preset single, and a
// record of all that it told.
type world struct {
	*testing.T
	d     directory.Directory
	clock *clock.Manual
	told  *record
	links atomic.Uint32
	stop  func() // ends the watch of node
}

func newWorld(t *testing.T, open func(*testing.T, Options) directory.Directory) *world {
	w := &world{T: t, clock: clock.NewManual(Start), told: &record{answered: map[presence.LinkID]bool{}}}
	w.d = open(t, Options{Clock: w.clock, Sink: w.told})
	w.stop = w.d.Watch(node, w.told)
	w.mustUpdate(app, true, func(*directory.App) error { return nil })
	return w
}

func (w *world) nowMS() int64 { return w.clock.Now().UnixMilli() }

// record is sink, watcher and a note of the logins that were answered.
type record struct {
	mu          sync.Mutex
	transitions []presence.Transition
	notices     []directory.Notice
	changes     []directory.Change
	apps        []*directory.App
	answered    map[presence.LinkID]bool
	early       []presence.LinkID // links that got a notice before the answer to their login
}

func (r *record) Transitions(ts []presence.Transition) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.transitions = append(r.transitions, ts...)
}

func (r *record) ForcedOffline(ns []directory.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range ns {
		if !r.answered[n.Link] {
			r.early = append(r.early, n.Link)
		}
	}
	r.notices = append(r.notices, ns...)
}

func (r *record) Changed(cs []directory.Change) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.changes = append(r.changes, cs...)
}

func (r *record) AppChanged(a *directory.App) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.apps = append(r.apps, a)
}

func (r *record) answer(op *directory.LoginOp) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answered[op.Login.Link.ID] = true
}

// take returns what was told since the last take.
func (r *record) take() ([]presence.Transition, []directory.Notice) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ts, ns := r.transitions, r.notices
	r.transitions, r.notices = nil, nil
	return ts, ns
}

// await waits until cond holds.
func (w *world) await(what string, cond func() bool) {
	w.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !cond(); <-tick.C {
		if time.Now().After(end) {
			w.Fatalf("after %s still not: %s", limit, what)
		}
	}
}

// completion is a Done that counts.
type completion struct {
	w    *world
	what string
	n    atomic.Int32
	ch   chan struct{}
}

func (w *world) completion(what string) *completion {
	return &completion{w: w, what: what, ch: make(chan struct{})}
}

func (c *completion) done() {
	if c.n.Add(1) == 1 {
		close(c.ch)
	} else {
		c.w.Errorf("%s: Done was called %d times", c.what, c.n.Load())
	}
}

func (c *completion) wait() {
	c.w.Helper()
	select {
	case <-c.ch:
	case <-time.After(limit):
		c.w.Fatalf("%s: no Done after %s", c.what, limit)
	}
}

// link returns a new link on the watched node.
func (w *world) link() presence.Link {
	n := w.links.Add(1)
	return presence.Link{
		Node: node, ID: presence.MakeLinkID(1, n, 1), Protocol: presence.ProtocolNative,
		Listener: "native", ConnectedMS: w.nowMS(),
	}
}

func key(user string) presence.Key { return presence.Key{App: app, UserID: user} }

func device(p presence.Platform, id string) presence.Device {
	return presence.Device{Platform: p, ID: id, SDKVersion: "8.1.0", Model: "model of " + id}
}

// loginOp is an active login by a UserSig of this second on a new link.
func (w *world) loginOp(user string, dev presence.Device) *directory.LoginOp {
	return &directory.LoginOp{Key: key(user), Login: presence.Login{
		Device: dev, Cred: presence.Credential{SigTimeS: w.nowMS() / 1000}, Link: w.link(), NowMS: w.nowMS(),
	}}
}

// do issues the login and waits for its answer.
func (w *world) do(op *directory.LoginOp) *directory.LoginOp {
	w.Helper()
	c := w.issue(op)
	c.wait()
	return op
}

func (w *world) issue(op *directory.LoginOp) *completion {
	c := w.completion(fmt.Sprintf("login of %s on %s", op.Key.UserID, op.Login.Device.ID))
	op.Done = func(got *directory.LoginOp) {
		if got != op {
			w.Errorf("%s: Done got another op", c.what)
		}
		w.told.answer(op)
		c.done()
	}
	w.d.Login(op)
	return c
}

// login logs a device in, which must succeed.
func (w *world) login(user string, dev presence.Device) *directory.LoginOp {
	w.Helper()
	op := w.do(w.loginOp(user, dev))
	if op.Code != presence.CodeOK {
		w.Fatalf("login of %s on %s: code %d", user, dev.ID, op.Code)
	}
	return op
}

func (w *world) leaveOp(of *directory.LoginOp, reason directory.LeaveReason) *directory.LeaveOp {
	l := &of.Login
	return &directory.LeaveOp{
		Key: of.Key, Platform: l.Device.Platform, DeviceID: l.Device.ID,
		Node: l.Link.Node, Link: l.Link.ID, Reason: reason, NowMS: w.nowMS(),
	}
}

// leave ends the link of a login and returns whether that changed anything.
func (w *world) leave(of *directory.LoginOp, reason directory.LeaveReason) bool {
	w.Helper()
	return w.doLeave(w.leaveOp(of, reason))
}

func (w *world) doLeave(op *directory.LeaveOp) bool {
	w.Helper()
	c := w.completion("leave of " + op.DeviceID)
	op.Done = func(*directory.LeaveOp) { c.done() }
	w.d.Leave(op)
	c.wait()
	if op.Code != presence.CodeOK {
		w.Fatalf("%s: code %d", c.what, op.Code)
	}
	return op.Changed
}

func (w *world) kick(user string, instID uint32) *directory.KickOp {
	w.Helper()
	return w.kickAt(user, instID, w.nowMS())
}

func (w *world) kickAt(user string, instID uint32, nowMS int64) *directory.KickOp {
	w.Helper()
	c := w.completion("kick of " + user)
	op := &directory.KickOp{Key: key(user), InstID: instID, NowMS: nowMS, Done: func(*directory.KickOp) { c.done() }}
	w.d.Kick(op)
	c.wait()
	return op
}

func (w *world) query(users ...string) *directory.QueryOp {
	w.Helper()
	return w.doQuery(&directory.QueryOp{App: app, UserIDs: users, Detail: true})
}

func (w *world) doQuery(op *directory.QueryOp) *directory.QueryOp {
	w.Helper()
	c := w.completion("query")
	op.Done = func(*directory.QueryOp) { c.done() }
	w.d.Query(op)
	c.wait()
	return op
}

// mustBe checks a user's status; Offline stands for an account that exists.
func (w *world) mustBe(user string, want presence.Status) {
	w.Helper()
	if got := w.query(user).Users[0]; got.Code != presence.CodeOK || got.Status != want {
		w.Fatalf("%s: status %s (code %d), want %s", user, got.Status, got.Code, want)
	}
}

func (w *world) accounts(a directory.AccountsAction, users ...string) *directory.AccountsOp {
	w.Helper()
	c := w.completion("accounts")
	op := &directory.AccountsOp{App: app, Action: a, UserIDs: users, NowMS: w.nowMS(), Done: func(*directory.AccountsOp) { c.done() }}
	w.d.Accounts(op)
	c.wait()
	return op
}

// importProfiles imports alice with a profile, or more than there are accounts.
func (w *world) importProfiles(profiles ...directory.Profile) *directory.AccountsOp {
	w.Helper()
	c := w.completion("import")
	op := &directory.AccountsOp{
		App: app, Action: directory.AccountsImport, UserIDs: []string{"alice"}, Profiles: profiles,
		NowMS: w.nowMS(), Done: func(*directory.AccountsOp) { c.done() },
	}
	w.d.Accounts(op)
	c.wait()
	return op
}

func (w *world) update(op *directory.UpdateAppOp) *directory.UpdateAppOp {
	w.Helper()
	c := w.completion(fmt.Sprintf("update of app %d", op.SDKAppID))
	op.NowMS = w.nowMS()
	op.Done = func(*directory.UpdateAppOp) { c.done() }
	w.d.UpdateApp(op)
	c.wait()
	return op
}

func (w *world) mustUpdate(id uint32, create bool, mutate func(*directory.App) error) *directory.App {
	w.Helper()
	op := w.update(&directory.UpdateAppOp{SDKAppID: id, Create: create, Mutate: mutate})
	if op.Err != nil {
		w.Fatalf("update of app %d: %v", id, op.Err)
	}
	return op.App
}

// setPolicy gives the app a preset with limits.
func (w *world) setPolicy(preset string, limits map[presence.Platform]uint8) {
	w.Helper()
	w.mustUpdate(app, false, func(a *directory.App) error { a.Policy = policy(preset, limits); return nil })
}

func policy(preset string, limits map[presence.Platform]uint8) presence.Policy {
	p, ok := presence.Preset(preset)
	if !ok {
		panic("no preset " + preset)
	}
	for slot, n := range limits {
		p.Limits[slot] = n
	}
	return p
}

func (w *world) users(op *directory.UsersOp) *directory.UsersOp {
	w.Helper()
	c := w.completion("users")
	op.Done = func(*directory.UsersOp) { c.done() }
	w.d.Users(op)
	c.wait()
	return op
}

// allUsers pages through the app's users and returns their names, sorted.
func (w *world) allUsers(s presence.Status, limit int) (names []string) {
	w.Helper()
	for after := ""; ; {
		op := w.users(&directory.UsersOp{App: app, Status: s, Limit: limit, After: after})
		if op.Code != presence.CodeOK || len(op.Users) > limit {
			w.Fatalf("users after %q: code %d, %d users, limit %d", after, op.Code, len(op.Users), limit)
		}
		for _, u := range op.Users {
			names = append(names, u.UserID)
		}
		if after = op.Next; after == "" {
			slices.Sort(names)
			return names
		}
	}
}

func (w *world) user(name string) *directory.UserOp {
	w.Helper()
	c := w.completion("user")
	op := &directory.UserOp{Key: key(name), Done: func(*directory.UserOp) { c.done() }}
	w.d.User(op)
	c.wait()
	return op
}

func (w *world) dryRun(p presence.Policy) *directory.DryRunOp {
	w.Helper()
	c := w.completion("dry run")
	op := &directory.DryRunOp{App: app, Policy: p, Done: func(*directory.DryRunOp) { c.done() }}
	w.d.DryRun(op)
	c.wait()
	return op
}

// shape is a transition in short: "Login/Register Android:Online<-Offline event=1".
func shape(t presence.Transition) string {
	s := fmt.Sprintf("%s/%s %s:%s<-%s event=%d", t.Action, t.Reason, t.Inst.Device.Platform, t.Inst.Status, t.Before, t.EventSeq)
	if t.ByREST {
		s += " rest"
	}
	for _, k := range t.Kicked {
		s += fmt.Sprintf(" kicked=%s", k.Device.Platform)
	}
	return s
}

// mustTell checks the transitions told since the last take and returns the notices.
func (w *world) mustTell(want ...string) []directory.Notice {
	w.Helper()
	ts, notices := w.told.take()
	got := make([]string, len(ts))
	for i, t := range ts {
		got[i] = shape(t)
		if t.Key.App != app {
			w.Errorf("transition %s is of app %d", got[i], t.Key.App)
		}
	}
	if !slices.Equal(got, want) {
		w.Fatalf("transitions:\n got %q\nwant %q", got, want)
	}
	return notices
}

// mustNotice checks one notice.
func (w *world) mustNotice(got []directory.Notice, want ...directory.Notice) {
	w.Helper()
	if !slices.Equal(got, want) {
		w.Fatalf("notices:\n got %+v\nwant %+v", got, want)
	}
}
