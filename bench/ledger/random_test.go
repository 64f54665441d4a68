package ledger

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// world plays a user on a server that keeps its word: the real rules, and kills
// that lose nothing but answers. It writes the history that a driver would.
type world struct {
	r     *rand.Rand
	h     *History
	u     *User
	user  presence.User
	rules presence.Settings
	nowMS int64
	links int
	up    map[int]presence.LinkID // by device, as its client believes
	lost  []lostLink
	sigs  []int64
	known []uint64 // by device: the user's Seq at the issue of its ticket, 0 = none
}

// lostLink is a link that is gone and that the server finds gone at dueMS.
type lostLink struct {
	dev   int
	link  presence.LinkID
	dueMS int64
}

const worldGraceMS = 2000

func newWorld(seed uint64) *world {
	w := &world{r: rand.New(rand.NewPCG(seed, 3)), nowMS: 100_000, up: make(map[int]presence.LinkID)}
	p := Policy{[]string{"single", "dual", "triple", "multi"}[w.r.IntN(4)], 1 + w.r.IntN(2)}
	spec := presence.PolicySpec{Preset: p.Preset, Limits: map[string]int{"Web": p.Web}}
	w.rules = presence.Settings{PushRetentionMS: 1 << 40}
	w.rules.Policy, _ = spec.Policy()
	w.u = &User{ID: "alice", App: &App{ID: 1, Policies: []PolicyChange{{Policy: p, Outcome: Done}}}}
	all := codec.Platforms()
	for i := range 2 + w.r.IntN(3) {
		w.u.Devices = append(w.u.Devices, Device{all[w.r.IntN(len(all))], fmt.Sprint(i)})
		w.sigs, w.known = append(w.sigs, 1), append(w.known, 0)
	}
	w.h = &History{GraceMS: worldGraceMS, Lives: []Life{{FromMS: w.nowMS}}, Users: []*User{w.u}}
	return w
}

func (w *world) life() int { return len(w.h.Lives) - 1 }

// pass lets time pass, and what falls due in it happen.
func (w *world) pass(ms int64) {
	end := w.nowMS + ms
	slices.SortStableFunc(w.lost, func(a, b lostLink) int { return int(a.dueMS - b.dueMS) })
	for len(w.lost) > 0 && w.lost[0].dueMS <= end {
		l := w.lost[0]
		w.lost = w.lost[1:]
		w.nowMS = max(w.nowMS, l.dueMS)
		_, ts := w.user.Leave(presence.Key{}, &w.rules, &presence.Leave{
			Platform: presence.Platform(w.u.Devices[l.dev].Platform), Link: l.link, Reason: presence.LeaveLinkClosed, NowMS: w.nowMS,
		}, nil)
		w.tell(ts)
	}
	w.nowMS = end
}

// tell delivers the events, some of them twice.
func (w *world) tell(ts []presence.Transition) {
	for i := range ts {
		t := &ts[i]
		if t.EventSeq == 0 {
			continue
		}
		platform := t.Inst.Device.Platform
		e := Event{TimeMS: t.TimeMS, Action: t.Action.String(), Reason: t.Reason.String(), OptPlatform: platform.WebhookName(), InstID: t.Inst.InstID, Platform: platform.String()}
		if t.ByREST {
			e.OptPlatform = "RESTAPI"
		}
		for _, k := range t.Kicked {
			e.Kicked = append(e.Kicked, k.Device.Platform.KickedName())
		}
		r := Receipt{Seq: t.EventSeq, ID: fmt.Sprintf("m%d", t.EventSeq), Body: fmt.Sprint(e), Accepted: true, Event: e}
		if w.r.IntN(10) == 0 {
			again := r
			again.Accepted = false
			w.u.Receipts = append(w.u.Receipts, again)
		}
		w.u.Receipts = append(w.u.Receipts, r)
	}
}

// kill ends the life and begins the next one. Links that are gone but not told of
// wait for the grace then, with all others.
func (w *world) kill() {
	w.h.Lives[w.life()].ToMS = w.nowMS
	w.nowMS += 1 + w.r.Int64N(100)
	w.h.Lives = append(w.h.Lives, Life{FromMS: w.nowMS})
	due := w.nowMS + worldGraceMS + 5
	for i := range w.lost {
		w.lost[i].dueMS = due
	}
	for dev := range w.u.Devices {
		if link, ok := w.up[dev]; ok {
			w.lost = append(w.lost, lostLink{dev, link, due})
		}
	}
	clear(w.up)
}

// step does one thing; cut: the server is killed before it answers, after the
// decision or before it.
func (w *world) step(cut bool) {
	dev := w.r.IntN(len(w.u.Devices))
	_, up := w.up[dev]
	s := Step{Dev: dev, Life: w.life(), FromMS: w.nowMS, Outcome: Done}
	w.pass(1)
	takesPlace := !cut || w.r.IntN(2) == 0
	switch what := w.r.IntN(20); {
	case what < 2:
		s.Kind = Kick
		w.revoke(&s, takesPlace)
	case what < 3:
		s.Kind = Delete
		w.revoke(&s, takesPlace)
	case what < 4:
		s.Kind = Import
		if takesPlace {
			w.user.Registered = true
		}
	case what < 7:
		s.Kind, cut = Look, false
		s.Seen = w.reading()
	case up && what < 10:
		s.Kind = Logout
		link := w.up[dev]
		delete(w.up, dev)
		if takesPlace {
			_, ts := w.user.Leave(presence.Key{}, &w.rules, &presence.Leave{Platform: presence.Platform(w.u.Devices[dev].Platform), Link: link, Reason: presence.LeaveLogout, NowMS: w.nowMS}, nil)
			w.tell(ts)
		} else {
			w.lost = append(w.lost, lostLink{dev, link, w.nowMS + 1<<40}) // the kill sets when
		}
	case up && what < 14:
		s.Kind, cut = Drop, false
		w.lost = append(w.lost, lostLink{dev, w.up[dev], w.nowMS + w.r.Int64N(30)})
		delete(w.up, dev)
	default:
		s.Kind = Login
		w.login(&s, takesPlace, cut)
	}
	w.pass(1)
	if s.ToMS = w.nowMS; cut {
		s = Step{Kind: s.Kind, Dev: s.Dev, Life: s.Life, FromMS: s.FromMS, ToMS: s.ToMS, Outcome: Unknown, Resume: s.Resume, Ticket: s.Ticket, SigS: s.SigS}
	}
	w.u.Steps = append(w.u.Steps, s)
	if cut {
		w.kill()
	}
}

func (w *world) login(s *Step, takesPlace, cut bool) {
	d := w.u.Devices[s.Dev]
	s.Resume = w.r.IntN(2) == 0
	s.SigS = w.sigs[s.Dev]
	cred := presence.Credential{SigTimeS: s.SigS}
	if s.Ticket = s.Resume && w.known[s.Dev] > 0; s.Ticket && w.known[s.Dev] >= w.user.RevokedSeq {
		cred = presence.Credential{ByTicket: true, TicketSeq: w.known[s.Dev]}
	}
	if !takesPlace {
		return
	}
	w.links++
	link := presence.Link{ID: presence.LinkID(w.links)}
	got, ts := w.user.Login(presence.Key{}, &w.rules, &presence.Login{
		Device: presence.Device{Platform: presence.Platform(d.Platform), ID: d.ID}, Resume: s.Resume, Cred: cred, Link: link, NowMS: w.nowMS,
	}, nil)
	w.tell(ts)
	if got.Code != presence.CodeOK {
		s.Outcome, s.Code = Refused, got.Code
		if !cut && got.Code == presence.CodeSigRevoked {
			w.sigs[s.Dev] = w.nowMS/1000 + 1
		}
		return
	}
	s.InstID, s.TakenBack = got.Inst.InstID, got.TakenBack
	w.up[s.Dev] = link.ID
	for _, k := range got.Kicked {
		s.Kicked = append(s.Kicked, codec.KickedInstance{Platform: codec.Platform(k.Device.Platform), InstID: k.InstID})
		for dev := range w.u.Devices {
			if w.up[dev] == k.Link.ID {
				delete(w.up, dev)
			}
		}
	}
	if !cut {
		w.known[s.Dev] = w.user.Seq
	}
}

func (w *world) revoke(s *Step, takesPlace bool) {
	switch {
	case !w.user.Registered:
		s.Outcome, s.Code = Refused, codeNoAccount
		return
	case !takesPlace:
		return
	}
	var ts []presence.Transition
	if s.Kind == Kick {
		_, ts = w.user.KickAll(presence.Key{}, w.nowMS, nil)
	} else {
		_, ts = w.user.Delete(presence.Key{}, w.nowMS, nil)
	}
	w.tell(ts)
	clear(w.up)
}

func (w *world) reading() Reading {
	r := Reading{Known: w.user.Registered, Status: w.user.Status().String()}
	if r.Known {
		for _, in := range w.user.Instances {
			r.Insts = append(r.Insts, Seen{in.InstID, in.Device.Platform.QueryName(), in.Status.String(), ""})
		}
	}
	return r
}

// end comes to rest and reads the user for the last time.
func (w *world) end() {
	w.pass(worldGraceMS * 2)
	c := ConsoleUser{Known: true, Registered: w.user.Registered, EventSeq: w.user.EventSeq, CutoffS: w.user.CutoffS}
	for _, in := range w.user.Instances {
		c.Insts = append(c.Insts, Seen{in.InstID, in.Device.Platform.String(), in.Status.String(), in.Device.ID})
	}
	w.u.Final = &Final{Rest: w.reading(), Console: c}
	w.h.Lives[w.life()].ToMS = w.nowMS
}

func play(seed uint64) *world {
	w := newWorld(seed)
	for range 10 + w.r.IntN(40) {
		w.step(w.r.IntN(12) == 0)
		w.pass(w.r.Int64N(40))
		if w.r.IntN(15) == 0 {
			w.pass(worldGraceMS)
		}
		if w.r.IntN(25) == 0 {
			w.kill()
		}
	}
	w.end()
	return w
}

// TestKeptWord: a server that keeps its word is never blamed, whatever the kills cut off.
func TestKeptWord(t *testing.T) {
	unknown, acks, events := 0, 0, 0
	for seed := range uint64(1000) {
		r := Check(play(seed).h)
		if len(r.Violations) > 0 {
			t.Fatalf("seed %d: %v", seed, r.Violations)
		}
		unknown, acks, events = unknown+r.Unknown, acks+r.Acks, events+r.Events
	}
	if unknown < 1000 || acks < 10_000 || events < 10_000 {
		t.Errorf("%d unknown, %d acks, %d events: too few to prove anything", unknown, acks, events)
	}
}

// TestBrokenWord: the same histories with one thing lost. It must be found each time.
func TestBrokenWord(t *testing.T) {
	for name, harm := range map[string]func(w *world) bool{
		"the event of a login is lost with the login": func(w *world) bool {
			return w.lose(func(e *Event) bool { return e.Action == "Login" && w.acked(Login, e) })
		},
		"the event of a logout is lost with the logout": func(w *world) bool {
			return w.lose(func(e *Event) bool { return e.Action == "Logout" && e.OptPlatform != "RESTAPI" && w.acked(Logout, e) })
		},
		"an event is not delivered": func(w *world) bool {
			if len(w.u.Receipts) == 0 {
				return false
			}
			seq := w.u.Receipts[w.r.IntN(len(w.u.Receipts))].Seq
			w.u.Receipts = slices.DeleteFunc(w.u.Receipts, func(r Receipt) bool { return r.Seq == seq })
			return true
		},
		"an instance is gone at the end": func(w *world) bool {
			if len(w.u.Final.Console.Insts) == 0 {
				return false
			}
			w.u.Final.Console.Insts = w.u.Final.Console.Insts[1:]
			return true
		},
		"a cut-off is lost at the end": func(w *world) bool {
			for _, s := range w.u.Steps {
				if s.Kind == Kick && s.Outcome == Done {
					w.u.Final.Console.CutoffS = 0
					return true
				}
			}
			return false
		},
		"a live link is Offline at the end": func(w *world) bool {
			f := &w.u.Final.Rest
			if len(w.up) == 0 {
				return false
			}
			f.Insts = slices.DeleteFunc(f.Insts, func(in Seen) bool { return in.Status == "Online" })
			return true
		},
		"a query shows one too many": func(w *world) bool {
			for i := range w.u.Steps {
				if s := &w.u.Steps[i]; s.Kind == Look && s.Seen.Known {
					s.Seen.Insts = append(slices.Clone(s.Seen.Insts), Seen{999, "Web", "Online", ""})
					return true
				}
			}
			return false
		},
	} {
		t.Run(name, func(t *testing.T) {
			harmed := 0
			for seed := range uint64(500) {
				w := play(seed)
				if !harm(w) {
					continue
				}
				harmed++
				if r := Check(w.h); len(r.Violations) == 0 {
					t.Fatalf("seed %d: nothing was found", seed)
				}
			}
			if harmed < 100 {
				t.Errorf("only %d histories were harmed", harmed)
			}
		})
	}
}

// acked reports whether the event tells of an acknowledged step.
func (w *world) acked(kind Kind, e *Event) bool {
	return slices.ContainsFunc(w.u.Steps, func(s Step) bool {
		return s.Kind == kind && s.Outcome == Done && s.FromMS <= e.TimeMS && e.TimeMS <= s.ToMS
	})
}

// lose takes the last event that is one of those out of all that the server ever
// knew: later ones count on without it.
func (w *world) lose(which func(e *Event) bool) bool {
	for i := len(w.u.Receipts) - 1; i >= 0; i-- {
		if !which(&w.u.Receipts[i].Event) {
			continue
		}
		seq := w.u.Receipts[i].Seq
		w.u.Receipts = slices.DeleteFunc(w.u.Receipts, func(r Receipt) bool { return r.Seq == seq })
		for j := range w.u.Receipts {
			if r := &w.u.Receipts[j]; r.Seq > seq {
				r.Seq--
			}
		}
		w.u.Final.Console.EventSeq--
		return true
	}
	return false
}
