package embedded

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/directory/directorytest"
	"github.com/rollcall-im/rollcall/internal/presence"
)

const (
	app  = 1400000000
	node = 1
)

var errDisk = errors.New("no space left on device")

// bed is a directory under test with an app, a virtual clock and a log of what
// it told, in the order in which it told it.
type bed struct {
	testing.TB
	*Directory
	clock *clock.Manual
	links atomic.Uint32

	mu  sync.Mutex
	log []string
}

// newBed opens a directory with one app of preset single on one lane, unless o
// says otherwise. The app is there before the journal of o is asked anything.
func newBed(t testing.TB, o Options) *bed {
	t.Helper()
	b := &bed{TB: t, clock: clock.NewManual(directorytest.Start)}
	if o.Clock == nil {
		o.Clock = b.clock
	}
	if o.Shards == 0 {
		o.Shards = 1
	}
	if o.Sink == nil {
		o.Sink = b
	}
	journal := o.Journal
	o.Journal = nil
	b.Directory = open(t, o)
	b.Watch(node, b)
	if err := b.update(&directory.UpdateAppOp{SDKAppID: app, Create: true}).Err; err != nil {
		t.Fatal(err)
	}
	if journal != nil {
		b.opts.Journal = journal
	}
	b.said()
	return b
}

func (b *bed) say(format string, args ...any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.log = append(b.log, fmt.Sprintf(format, args...))
}

// said returns what was told since it was asked last.
func (b *bed) said() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	log := b.log
	b.log = nil
	return log
}

func (b *bed) mustSay(want ...string) {
	b.Helper()
	if got := b.said(); fmt.Sprint(got) != fmt.Sprint(want) {
		b.Fatalf("told:\n got %q\nwant %q", got, want)
	}
}

// Transitions implements directory.TransitionSink.
func (b *bed) Transitions(ts []presence.Transition) {
	for _, t := range ts {
		b.say("%s %s %d", t.Key.UserID, t.Action, t.Seq)
	}
}

// ForcedOffline implements directory.Watcher.
func (b *bed) ForcedOffline(ns []directory.Notice) {
	for _, n := range ns {
		b.say("notice %d", n.Link.Gen())
	}
}

// Changed implements directory.Watcher.
func (b *bed) Changed(cs []directory.Change) {
	for _, c := range cs {
		for _, t := range c.Transitions {
			b.say("change for %d: %s %s %d of %d", c.Link.Gen(), t.Key.UserID, t.Action, t.Seq, c.User.Seq)
		}
	}
}

// AppChanged implements directory.Watcher.
func (b *bed) AppChanged(a *directory.App) { b.say("app %d v%d", a.SDKAppID, a.Version) }

func key(user string) presence.Key { return presence.Key{App: app, UserID: user} }

// loginOp is a login on link number b.links, which its Done says.
func (b *bed) loginOp(user, dev string, p presence.Platform) *directory.LoginOp {
	n, now := b.links.Add(1), b.nowMS()
	op := &directory.LoginOp{Key: key(user), Login: presence.Login{
		Device: presence.Device{Platform: p, ID: dev},
		Cred:   presence.Credential{SigTimeS: now / 1000},
		Link:   presence.Link{Node: node, ID: presence.MakeLinkID(0, 0, n)},
		NowMS:  now,
	}}
	op.Done = func(op *directory.LoginOp) { b.say("login %d: %d", n, op.Code) }
	return op
}

// login issues a login and returns it; it may not be answered yet.
func (b *bed) login(user, dev string, p presence.Platform) *directory.LoginOp {
	op := b.loginOp(user, dev, p)
	b.Login(op)
	return op
}

func (b *bed) leaveOp(of *directory.LoginOp, r directory.LeaveReason) *directory.LeaveOp {
	l := &of.Login
	op := &directory.LeaveOp{
		Key: of.Key, Platform: l.Device.Platform, DeviceID: l.Device.ID,
		Node: l.Link.Node, Link: l.Link.ID, Reason: r, NowMS: b.nowMS(),
	}
	op.Done = func(op *directory.LeaveOp) { b.say("leave %d: %d %t", op.Link.Gen(), op.Code, op.Changed) }
	return op
}

func (b *bed) leave(of *directory.LoginOp, r directory.LeaveReason) *directory.LeaveOp {
	op := b.leaveOp(of, r)
	b.Leave(op)
	return op
}

func (b *bed) kick(user string) *directory.KickOp {
	op := &directory.KickOp{Key: key(user), NowMS: b.nowMS()}
	op.Done = func(op *directory.KickOp) { b.say("kick: %d", op.Code) }
	b.Kick(op)
	return op
}

// update makes an app update and waits for it.
func (b *bed) update(op *directory.UpdateAppOp) *directory.UpdateAppOp {
	b.Helper()
	if op.Mutate == nil {
		op.Mutate = func(*directory.App) error { return nil }
	}
	done := make(chan struct{})
	op.NowMS = b.nowMS()
	op.Done = func(*directory.UpdateAppOp) { close(done) }
	b.UpdateApp(op)
	b.wait("update", done)
	return op
}

func (b *bed) setPolicy(p presence.Policy) func(*directory.App) error {
	return func(a *directory.App) error { a.Policy = p; return nil }
}

func (b *bed) wait(what string, done <-chan struct{}) {
	b.Helper()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		b.Fatalf("%s: no Done", what)
	}
}

// status is what a query answers: a word, or the code.
func (b *bed) status(user string) string {
	op := &directory.QueryOp{App: app, UserIDs: []string{user}, Detail: true, Done: func(*directory.QueryOp) {}}
	b.Query(op)
	if u := op.Users[0]; u.Code != presence.CodeOK {
		return fmt.Sprint(u.Code)
	}
	return op.Users[0].Status.String()
}

func (b *bed) mustBe(user, want string) {
	b.Helper()
	if got := b.status(user); got != want {
		b.Fatalf("%s is %s, want %s", user, got, want)
	}
}

func (b *bed) await(what string, cond func() bool) {
	b.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !cond(); <-tick.C {
		if time.Now().After(end) {
			b.Fatalf("still not: %s", what)
		}
	}
}

// counter reads a counter of the directory's metrics.
func (b *bed) counter(name string) int { return int(b.opts.Metrics.Counter(name).Get()) }

// heldJournal keeps batches until the test settles them.
type heldJournal struct {
	mu   sync.Mutex
	held []heldBatch
	keys []string // of all users and apps that were ever handed over
}

type heldBatch struct {
	batch *Batch
	done  func(error)
}

func (j *heldJournal) Commit(b *Batch, done func(error)) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.held = append(j.held, heldBatch{b, done})
	for _, r := range b.Users {
		j.keys = append(j.keys, fmt.Sprintf("%s@%d", r.Key.UserID, r.User.Seq))
	}
	if b.App != nil {
		j.keys = append(j.keys, fmt.Sprintf("app@%d", b.App.Version))
	}
}

func (j *heldJournal) len() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.held)
}

// settle ends the oldest held batch.
func (j *heldJournal) settle(t testing.TB, err error) {
	t.Helper()
	j.mu.Lock()
	if len(j.held) == 0 {
		j.mu.Unlock()
		t.Fatal("the journal holds nothing")
	}
	h := j.held[0]
	j.held = j.held[1:]
	j.mu.Unlock()
	h.done(err)
}

// mustHaveSeen checks all that was ever handed over.
func (j *heldJournal) mustHaveSeen(t testing.TB, want ...string) {
	t.Helper()
	j.mu.Lock()
	defer j.mu.Unlock()
	if fmt.Sprint(j.keys) != fmt.Sprint(want) {
		t.Fatalf("the journal saw %q, want %q", j.keys, want)
	}
}
