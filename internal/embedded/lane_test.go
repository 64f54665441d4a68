package embedded

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// What is pushed while the lane is being let go is not left lying: in each
// round two goroutines push at the same time, and nobody pushes after them.
func TestNoPushIsLost(t *testing.T) {
	const rounds = 20_000
	b := newBed(t, Options{})
	var arrived atomic.Int64
	var wg sync.WaitGroup
	// Each wait has a minute of its own: only a push that is lost takes so long,
	// however slow the machine is.
	await := func(cond func() bool) bool {
		deadline := time.Now().Add(time.Minute)
		for n := 0; !cond(); n++ {
			runtime.Gosched()
			if n%1024 == 1023 && time.Now().After(deadline) {
				return false
			}
		}
		return true
	}
	for range 2 {
		wg.Go(func() {
			var answered atomic.Int64
			op := &directory.KickOp{Key: key("nobody"), Done: func(*directory.KickOp) { answered.Add(1) }}
			for r := int64(1); r <= rounds; r++ {
				b.Kick(op)
				if !await(func() bool { return answered.Load() == r }) {
					t.Errorf("round %d: not answered", r)
					return
				}
				arrived.Add(1)
				if !await(func() bool { return arrived.Load() >= 2*r }) {
					return
				}
			}
		})
	}
	wg.Wait()
	if n := arrived.Load(); n != 2*rounds {
		t.Fatalf("%d of %d answers", n, 2*rounds)
	}
}

// A refused login leaves nothing behind in what is used again.
func TestRecycledDecisionsAreClean(t *testing.T) {
	b := newBed(t, Options{})
	multi, _ := presence.Preset(presence.PresetMulti)
	b.update(&directory.UpdateAppOp{SDKAppID: app, Mutate: b.setPolicy(multi)})
	for _, p := range []presence.Platform{presence.Android, presence.IPhone, presence.Windows} {
		b.login("alice", "d1", p)
	}
	resume := b.loginOp("bob", "d1", presence.Android)
	resume.Login.Cred = presence.Credential{ByTicket: true, TicketSeq: 99}
	b.Login(resume)
	if got := b.login("carol", "d1", presence.Android); got.Seq != 1 || got.Decision.Inst.InstID != 1 {
		t.Errorf("carol's first login: %+v, sequence %d", got.Decision, got.Seq)
	}
	b.mustBe("bob", "70107")
	dc := newDecision(kindLogin, key("x"), nil, 0)
	if len(dc.user.Instances) != 0 || dc.user.Registered || dc.doomed || dc.changed || dc.kicked != nil {
		t.Errorf("a recycled decision holds %+v", dc)
	}
	for _, in := range dc.user.Instances[:cap(dc.user.Instances)] {
		if in != (presence.Instance{}) {
			t.Errorf("a recycled decision keeps %+v", in)
		}
	}
}

// probe is an action that does something while it is being decided, and registers the user.
type probe struct{ do func() }

func (p probe) decide(dc *decision, _ *tenant, out []presence.Transition) (bool, []presence.Transition) {
	p.do()
	dc.user.Registered = true
	return true, out
}

func (probe) tell() {}

func (probe) fail(*Directory) {}

// The batch in flight lands while the next one is being filled: that one must
// be handed over by whoever fills it, for nobody else comes.
func TestLandingWhileDeciding(t *testing.T) {
	j := &heldJournal{}
	b := newBed(t, Options{Journal: j})
	b.login("alice", "d1", presence.Android)
	b.submit(newDecision(kindImport, key("bob"), probe{func() { j.settle(t, nil) }}, 0), false)
	b.mustSay("alice Login 1", "login 1: 0")
	if err := b.Check(); err != nil {
		t.Error(err)
	}
	if n := j.len(); n != 1 {
		t.Fatalf("%d batches were handed over after the landing, want 1", n)
	}
	j.settle(t, nil)
	b.mustBe("bob", "Offline")
}

// A decision that is being taken may call the directory: what it asks comes later, in order.
func TestCallsWhileDeciding(t *testing.T) {
	b := newBed(t, Options{})
	b.submit(newDecision(kindImport, key("bob"), probe{func() {
		b.login("bob", "d1", presence.Android)
		b.kick("bob")
	}}, 0), false)
	b.mustSay("bob Login 1", "bob Logout 2", "login 1: 0", "notice 1", "kick: 0")
}
