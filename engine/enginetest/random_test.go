package enginetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// TestRandomNode lets random clients, kicks, failing commits and time loose on a
// node and holds what was told to what must be true of it:
//
//   - the transitions of a user are numbered without a hole, events densely;
//   - replayed, they are at any moment a state that the policy allows, and at rest
//     the state that a query answers;
//   - a link gets one answer to its login, nothing before it and nothing after
//     the frame that ends it;
//   - at rest a link is online exactly if it stands for an Online instance
//     (Node.Check), and when all clients are gone, everybody is Offline.
func TestRandomNode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		policy, _ := presence.Preset(rapid.SampledFrom([]string{"single", "dual", "triple", "multi"}).Draw(t, "preset"))
		policy.Limits[presence.Web] = rapid.Uint8Range(1, 3).Draw(t, "web limit")
		r := &ledger{t: t, policy: policy, users: map[presence.Key]*account{}}
		n, err := New(Options{Sink: r, Loops: rapid.IntRange(1, 3).Draw(t, "loops")})
		if err != nil {
			t.Fatal(err)
		}
		s := &simulation{node: n, ledger: r}
		if _, err := n.UpdateApp(false, func(a *directory.App) { a.Policy = policy }); err != nil {
			t.Fatal(err)
		}
		t.Repeat(map[string]func(*rapid.T){
			"login":   s.login,
			"lose":    s.lose,
			"logout":  func(t *rapid.T) { s.pick(t).Send(codec.AppendEmpty(nil, codec.TypeLogout)) },
			"beat":    func(t *rapid.T) { s.pick(t).Send(codec.AppendEmpty(nil, codec.TypeHeartbeat)) },
			"kick":    s.kick,
			"delete":  s.delete,
			"hold":    func(*rapid.T) { n.Journal.Hold() },
			"release": func(*rapid.T) { n.Release(nil) },
			"fail":    func(*rapid.T) { n.Release(errors.New("disk full")) },
			"advance": s.advance,
			"rest":    s.rest,
		})
		s.rest(t)
		s.end(t)
	})
}

// ledger replays transitions.
type ledger struct {
	t      *rapid.T
	policy presence.Policy
	users  map[presence.Key]*account
}

type account struct {
	seq, events uint64
	in          map[uint32]presence.Instance // by InstID
}

// Transitions implements directory.TransitionSink.
func (r *ledger) Transitions(ts []presence.Transition) {
	for i := range ts {
		r.transition(&ts[i])
	}
}

func (r *ledger) transition(t *presence.Transition) {
	a := r.users[t.Key]
	if a == nil {
		a = &account{in: map[uint32]presence.Instance{}}
		r.users[t.Key] = a
	}
	// A kick of a user without instances takes a number without a transition.
	if t.Seq <= a.seq || t.EventSeq != 0 && t.EventSeq != a.events+1 {
		r.t.Fatalf("%s of %s: seq %d event %d after %d, %d", t.Action, t.Key.UserID, t.Seq, t.EventSeq, a.seq, a.events)
	}
	if was := a.in[t.Inst.InstID].Status; was != t.Before {
		r.t.Fatalf("%s of %s #%d: from %s, told was %s", t.Action, t.Key.UserID, t.Inst.InstID, t.Before, was)
	}
	a.seq, a.events = t.Seq, max(a.events, t.EventSeq)
	if t.Inst.Status == presence.Offline {
		delete(a.in, t.Inst.InstID)
	} else {
		a.in[t.Inst.InstID] = t.Inst
	}
	if over := r.policy.Sweep(slices.Collect(maps.Values(a.in)), nil); len(over) > 0 {
		r.t.Fatalf("after %s of %s the policy is broken: %v", t.Action, t.Key.UserID, a.in)
	}
}

// simulation is a node and its clients.
type simulation struct {
	node    *Node
	ledger  *ledger
	devices []*Device
	links   []*Link
}

func (s *simulation) device(t *rapid.T) *Device {
	user := rapid.SampledFrom([]string{"alice", "bob"}).Draw(t, "user")
	p := rapid.SampledFrom([]presence.Platform{
		presence.Android, presence.IPad, presence.Mac, presence.Web, presence.MiniProgram,
	}).Draw(t, "platform")
	id := rapid.SampledFrom([]string{"x", "y"}).Draw(t, "device")
	for _, d := range s.devices {
		if d.UserID == user && d.Platform == p && d.ID == id {
			return d
		}
	}
	d := &Device{UserID: user, Platform: p, ID: id}
	s.devices = append(s.devices, d)
	return d
}

func (s *simulation) login(t *rapid.T) {
	d := s.device(t)
	c := Credentials{Resume: rapid.Bool().Draw(t, "resume"), SigAge: time.Duration(rapid.IntRange(0, 3).Draw(t, "sig age")) * time.Second}
	if c.Resume {
		c.Ticket = d.Ticket
	}
	l := s.node.Connect()
	l.Stubborn, l.Beats = rapid.Bool().Draw(t, "stubborn"), rapid.Bool().Draw(t, "beats")
	s.links = append(s.links, l)
	if err := l.Login(d, c); err != nil {
		t.Fatal(err)
	}
}

func (s *simulation) pick(t *rapid.T) *Link {
	live := slices.DeleteFunc(slices.Clone(s.links), (*Link).Gone)
	if len(live) == 0 {
		t.Skip("no link")
	}
	return rapid.SampledFrom(live).Draw(t, "link")
}

func (s *simulation) lose(t *rapid.T) {
	s.pick(t).Lose(rapid.SampledFrom([]error{FIN, RST}).Draw(t, "how"))
}

func (s *simulation) kick(t *rapid.T) {
	s.node.Directory.Kick(&directory.KickOp{
		Key:    presence.Key{App: SDKAppID, UserID: s.device(t).UserID},
		InstID: rapid.Uint32Range(0, 3).Draw(t, "inst"),
		NowMS:  s.node.nowMS(), Done: func(*directory.KickOp) {},
	})
	s.node.settle()
}

func (s *simulation) delete(t *rapid.T) {
	s.node.Directory.Accounts(&directory.AccountsOp{
		App: SDKAppID, Action: directory.AccountsDelete, UserIDs: []string{s.device(t).UserID},
		NowMS: s.node.nowMS(), Done: func(*directory.AccountsOp) {},
	})
	s.node.settle()
}

func (s *simulation) advance(t *rapid.T) {
	s.node.Advance(rapid.SampledFrom([]time.Duration{
		time.Millisecond, time.Second, 10 * time.Second, time.Minute, 200 * time.Second, 401 * time.Second,
	}).Draw(t, "time"))
	s.node.Told()
}

// rest lets what is pending come to its end, and compares.
func (s *simulation) rest(t *rapid.T) {
	s.node.Release(nil)
	s.node.Advance(time.Second) // what failed is tried again
	if err := s.node.Check(); err != nil {
		t.Fatal(err)
	}
	for _, l := range s.links {
		if err := grammar(l.Frames()); err != nil {
			t.Fatalf("link %d got %v: %v", l.Number(), l.Frames(), err)
		}
	}
	for key, a := range s.ledger.users {
		if got, want := s.queried(key), a.state(); got != want {
			t.Fatalf("%s is %s, transitions told %s", key.UserID, got, want)
		}
	}
}

// grammar checks the frames of one link.
func grammar(frames []codec.Type) error {
	for i, f := range frames {
		info, ok := f.Info()
		switch {
		case !ok || info.FromClient:
			return fmt.Errorf("frame %d is none of a server", i)
		case info.Last && i < len(frames)-1:
			return fmt.Errorf("frames after %v", f)
		case i == 0 && f != codec.TypeLoginOK && f != codec.TypeLoginRefused:
			return fmt.Errorf("%v before the login's answer", f)
		case i > 0 && (f == codec.TypeLoginOK || f == codec.TypeLoginRefused):
			return fmt.Errorf("a second answer to the login")
		}
	}
	return nil
}

func (s *simulation) queried(k presence.Key) string {
	op := &directory.UserOp{Key: k, Done: func(*directory.UserOp) {}}
	s.node.Directory.User(op)
	return describe(op.User.Instances)
}

func (a *account) state() string {
	return describe(slices.SortedFunc(maps.Values(a.in), func(x, y presence.Instance) int {
		return int(x.LoginMS-y.LoginMS)*1_000_000 + int(x.InstID) - int(y.InstID)
	}))
}

func describe(insts []presence.Instance) string {
	var text string
	for _, in := range insts {
		text += fmt.Sprintf("#%d %s %s on %x; ", in.InstID, in.Device.Platform, in.Status, in.Link.ID)
	}
	return text
}

// end lets all clients vanish and time do the rest.
func (s *simulation) end(t *rapid.T) {
	for _, l := range s.links {
		l.Beats = false
	}
	s.node.Advance(401 * time.Second)
	s.node.Advance(7*24*time.Hour + time.Minute)
	if err := s.node.Close(); err != nil {
		t.Fatal(err)
	}
	if links := s.node.Core.Links(); links != 0 {
		t.Fatalf("%d links are left", links)
	}
	for key, a := range s.ledger.users {
		if len(a.in) > 0 {
			t.Fatalf("%s is still in: %s", key.UserID, a.state())
		}
	}
}
