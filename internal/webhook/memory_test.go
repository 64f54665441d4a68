package webhook

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func event(app uint32, user string, seq uint64) Event {
	return Event{Key: presence.Key{App: app, UserID: user}, Seq: seq, Epoch: 1, QueuedMS: int64(seq), Body: []byte(`{"x":1}`)}
}

// claimOne claims one event.
func claimOne(o Outbox, app uint32, nowMS int64) (e Event, more, ok bool) {
	batch, more := o.Claim(app, nowMS, 1)
	if len(batch) == 0 {
		return Event{}, more, false
	}
	return batch[0], more, true
}

func newMemory(t testing.TB, o MemoryOptions) *Memory {
	t.Helper()
	m, err := NewMemory(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Check(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func (m *Memory) add(t testing.TB, events ...Event) Shed {
	t.Helper()
	shed, err := m.Append(events, 1000)
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Check(); err != nil {
		t.Fatal(err)
	}
	return shed
}

// contents lists what the outbox holds as app/user/seq, by lane, each in order.
func (m *Memory) contents() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var all []string
	for k, l := range m.lanes {
		for n := l.head; n != nil; n = n.laneNext {
			all = append(all, fmt.Sprintf("%d/%s/%d", k.App, k.UserID, n.event.Seq))
		}
	}
	slices.Sort(all)
	return all
}

// TestCountBound: at the bound minus one and at the bound nothing gives way;
// beyond it exactly one event for each, and the alarm is set.
func TestCountBound(t *testing.T) {
	const bound = 10
	for n := bound - 1; n <= bound+1; n++ {
		m := newMemory(t, MemoryOptions{MaxEvents: bound})
		var shed Shed
		for i := range n {
			s := m.add(t, event(1, fmt.Sprint("u", i), 1))
			shed.Coalesced += s.Coalesced
			shed.Diverted += s.Diverted
		}
		s := m.Stats()
		over := max(0, n-bound)
		if shed != (Shed{Diverted: over}) || s.Events != min(n, bound) || s.DeadLetters != over || s.Full != (over > 0) {
			t.Errorf("%d events for a bound of %d: gave way %+v, state %+v", n, bound, shed, s)
		}
	}
}

func TestBytesBound(t *testing.T) {
	e := event(1, "u0", 1)
	for n := 4; n <= 6; n++ {
		m := newMemory(t, MemoryOptions{MaxBytes: 5 * e.size()})
		for i := range n {
			m.add(t, event(1, fmt.Sprint("u", i), 1))
		}
		if s := m.Stats(); s.Events != min(n, 5) || s.Bytes != int64(min(n, 5))*e.size() || s.DeadLetters != max(0, n-5) {
			t.Errorf("%d events for a bound of 5 events' bytes: state %+v", n, s)
		}
	}
	m := newMemory(t, MemoryOptions{MaxBytes: 100})
	if shed := m.add(t, e); shed.Diverted != 1 || m.Stats().Events != 0 {
		t.Errorf("an event larger than the outbox: %+v, %+v; want it diverted", shed, m.Stats())
	}
}

func TestDeadLettersBound(t *testing.T) {
	const bound = 5
	for n := bound - 1; n <= bound+1; n++ {
		m := newMemory(t, MemoryOptions{MaxDeadLetters: bound})
		for i := range n {
			m.add(t, event(uint32(1+i%2), "u", uint64(i+1)))
			e, _, _ := claimOne(m, uint32(1+i%2), 0)
			m.Bury([]Event{e}, CauseGaveUp, int64(i))
		}
		if s := m.Stats(); s.DeadLetters != min(n, bound) || s.DeadLettersLost != uint64(max(0, n-bound)) {
			t.Errorf("%d dead letters for a bound of %d: state %+v", n, bound, s)
		}
		var seqs []uint64
		for _, l := range append(m.DeadLetters(1, 0, 99), m.DeadLetters(2, 0, 1)...) {
			seqs = append(seqs, l.Event.Seq)
		}
		want := map[int][]uint64{4: {3, 1, 4}, 5: {5, 3, 1, 4}, 6: {5, 3, 6}}[n]
		if !slices.Equal(seqs, want) {
			t.Errorf("%d dead letters: newest first %v, want %v", n, seqs, want)
		}
	}
}

// TestWhoGivesWay is the documented answer of a full outbox, case by case.
func TestWhoGivesWay(t *testing.T) {
	a := func(user string, seq uint64) Event { return event(1, user, seq) }
	b := func(user string, seq uint64) Event { return event(2, user, seq) }
	for _, c := range []struct {
		name  string
		have  []Event
		claim int // so many of app 1 are out
		add   Event
		want  []string
		shed  Shed
	}{
		{"the lane's oldest, if it has one", []Event{a("u", 1), a("v", 1), a("v", 2), a("w", 1)}, 0, a("v", 3),
			[]string{"1/u/1", "1/v/2", "1/v/3", "1/w/1"}, Shed{Coalesced: 1}},
		{"not the one that is out", []Event{a("v", 1), a("v", 2), a("u", 1), a("w", 1)}, 1, a("v", 3),
			[]string{"1/u/1", "1/v/1", "1/v/3", "1/w/1"}, Shed{Coalesced: 1}},
		{"else the app's oldest", []Event{a("u", 1), a("v", 1), a("w", 1), a("x", 1)}, 0, a("y", 1),
			[]string{"1/v/1", "1/w/1", "1/x/1", "1/y/1"}, Shed{Diverted: 1}},
		{"which is merged if its user has a newer one", []Event{a("u", 1), a("u", 2), a("w", 1), a("x", 1)}, 0, a("y", 1),
			[]string{"1/u/2", "1/w/1", "1/x/1", "1/y/1"}, Shed{Coalesced: 1}},
		{"of those that are not out", []Event{a("u", 1), a("v", 1), a("w", 1), a("x", 1)}, 2, a("y", 1),
			[]string{"1/u/1", "1/v/1", "1/x/1", "1/y/1"}, Shed{Diverted: 1}},
		{"the larger backlog pays for the smaller", []Event{a("u", 1), b("z", 1), a("v", 1), a("w", 1)}, 0, b("z", 2),
			[]string{"1/v/1", "1/w/1", "2/z/1", "2/z/2"}, Shed{Diverted: 1}},
		{"a small app's backlog is safe from a large one", []Event{b("z", 1), a("u", 1), a("v", 1), a("w", 1)}, 0, a("x", 1),
			[]string{"1/v/1", "1/w/1", "1/x/1", "2/z/1"}, Shed{Diverted: 1}},
		{"the new one, if all are out", []Event{a("u", 1), a("v", 1), a("w", 1), a("x", 1)}, 4, a("y", 1),
			[]string{"1/u/1", "1/v/1", "1/w/1", "1/x/1"}, Shed{Diverted: 1}},
		{"another's, if all of the larger are out", []Event{b("z", 1), a("u", 1), a("v", 1), a("w", 1)}, 3, a("x", 1),
			[]string{"1/u/1", "1/v/1", "1/w/1", "1/x/1"}, Shed{Diverted: 1}},
	} {
		m := newMemory(t, MemoryOptions{MaxEvents: len(c.have)})
		m.add(t, c.have...)
		for range c.claim {
			if _, _, ok := claimOne(m, 1, 0); !ok {
				t.Fatalf("%s: nothing to claim", c.name)
			}
		}
		shed := m.add(t, c.add)
		if got := m.contents(); !slices.Equal(got, c.want) || shed != c.shed || !m.Stats().Full {
			t.Errorf("%s: %v, %+v, full %v; want %v, %+v", c.name, got, shed, m.Stats().Full, c.want, c.shed)
		}
	}
}

// TestManyApps: with more apps than are looked at, the bound holds and the
// large backlogs pay for nearly all.
func TestManyApps(t *testing.T) {
	const small, big = 10 * maxLook, 5000
	m := newMemory(t, MemoryOptions{MaxEvents: small + big})
	for i := range small {
		m.add(t, event(uint32(i+1), "u", 1))
	}
	events := make([]Event, big)
	for i := range events {
		events[i] = event(100_000, fmt.Sprint(i), 1)
	}
	m.add(t, events...)
	for i := range events {
		events[i].Key.UserID = fmt.Sprint("more", i)
	}
	if shed := m.add(t, events...); shed.Diverted != big {
		t.Errorf("%+v gave way to %d events", shed, big)
	}
	if s := m.Stats(); s.Events != small+big {
		t.Errorf("%d events, want %d", s.Events, small+big)
	}
	if left := len(m.Apps()); left != small+1 {
		t.Errorf("%d apps left, want all %d: the large backlog pays for itself", left, small+1)
	}
}

// TestFullClears: the alarm goes off when a tenth of the room is free.
func TestFullClears(t *testing.T) {
	m := newMemory(t, MemoryOptions{MaxEvents: 20})
	for i := range 21 {
		m.add(t, event(1, fmt.Sprint(i), 1))
	}
	for left := 19; left >= 17; left-- {
		e, _, _ := claimOne(m, 1, 0)
		m.Ack([]Event{e})
		if full := m.Stats().Full; full != (left > 18) {
			t.Errorf("alarm %v with %d of 20 events", full, left)
		}
	}
}

// model is the outbox by the simplest means: a list per user.
type model struct {
	lanes map[presence.Key][]Event
	out   map[presence.Key]bool
	until map[presence.Key]int64
}

// TestMemoryModel replays chance against the model: a lane hands out its oldest
// event only, once, when it is due, and nothing is lost or made up.
func TestMemoryModel(t *testing.T) {
	testModel(t, func(t *rapid.T) Outbox {
		m, err := NewMemory(MemoryOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return m
	})
}

func TestDurableModel(t *testing.T) {
	testModel(t, func(t *rapid.T) Outbox {
		store := newMemStorage()
		d, err := NewDurable(MemoryOptions{MaxBytes: 3 * (eventOverhead + 10)}, store, clock.System{})
		if err != nil {
			t.Fatal(err)
		}
		return recording{d, store}
	})
}

// recording is a Durable that records what it is to append, as commits do.
type recording struct {
	*Durable
	store *memStorage
}

// Append implements Outbox.
func (r recording) Append(events []Event, nowMS int64) (Shed, error) {
	r.store.Commit(func(w Writer) { r.Record(w, events) }, func(error) {})
	return r.Durable.Append(events, nowMS)
}

func testModel(t *testing.T, open func(*rapid.T) Outbox) {
	rapid.Check(t, func(t *rapid.T) {
		m := open(t)
		want := model{map[presence.Key][]Event{}, map[presence.Key]bool{}, map[presence.Key]int64{}}
		var claimed []Event
		seqs, nowMS := map[presence.Key]uint64{}, int64(1000) // NextMS has a use for small numbers
		app := rapid.Uint32Range(1, 3)
		take := func(t *rapid.T) Event {
			if len(claimed) == 0 {
				t.Skip("none is out")
			}
			i := rapid.IntRange(0, len(claimed)-1).Draw(t, "i")
			e := claimed[i]
			claimed = slices.Delete(claimed, i, i+1)
			delete(want.out, e.Key)
			return e
		}
		drop := func(k presence.Key) { want.lanes[k] = want.lanes[k][1:]; delete(want.until, k) }
		t.Repeat(map[string]func(*rapid.T){
			"append": func(t *rapid.T) {
				k := presence.Key{App: app.Draw(t, "app"), UserID: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "user")}
				seqs[k]++
				e := event(k.App, k.UserID, seqs[k])
				want.lanes[k] = append(want.lanes[k], e)
				if shed, err := m.Append([]Event{e}, nowMS); err != nil || shed.any() {
					t.Fatalf("Append: %+v, %v", shed, err)
				}
			},
			"claim": func(t *rapid.T) {
				a := app.Draw(t, "app")
				e, _, ok := claimOne(m, a, nowMS)
				due := want.due(a, nowMS)
				if ok != (len(due) > 0) {
					t.Fatalf("Claim of app %d = %v, runnable lanes: %v", a, ok, due)
				}
				if !ok {
					return
				}
				if !slices.Contains(due, e.Key) || want.lanes[e.Key][0].Seq != e.Seq {
					t.Fatalf("claimed event %d of %v, want the head of one of %v", e.Seq, e.Key, due)
				}
				want.out[e.Key] = true
				claimed = append(claimed, e)
			},
			"ack": func(t *rapid.T) { e := take(t); m.Ack([]Event{e}); drop(e.Key) },
			"bury": func(t *rapid.T) {
				e := take(t)
				m.Bury([]Event{e}, CauseGaveUp, nowMS)
				drop(e.Key)
				if l := m.DeadLetters(e.Key.App, 0, 1); len(l) != 1 || l[0].Event.Key != e.Key || l[0].Event.Seq != e.Seq {
					t.Fatalf("newest dead letter %+v, want event %d of %v", l, e.Seq, e.Key)
				}
			},
			"nack": func(t *rapid.T) {
				e := take(t)
				next := nowMS + rapid.Int64Range(-5, 50).Draw(t, "wait")
				want.lanes[e.Key][0].Attempts++
				want.until[e.Key] = next
				m.Nack([]Event{e}, next)
			},
			"stale": func(t *rapid.T) { // what is not out cannot be settled
				for k, l := range want.lanes {
					if len(l) > 0 && !want.out[k] {
						m.Ack(l[:1])
						m.Nack(l[:1], 0)
						m.Bury(l[:1], CauseGaveUp, nowMS)
					}
				}
			},
			"hurry": func(t *rapid.T) {
				a := app.Draw(t, "app")
				for k := range want.until {
					if k.App == a {
						delete(want.until, k)
					}
				}
				m.Hurry(a)
			},
			"advance": func(t *rapid.T) { nowMS += rapid.Int64Range(1, 40).Draw(t, "ms") },
			"": func(t *rapid.T) {
				if err := m.Check(); err != nil {
					t.Fatal(err)
				}
				events := 0
				for _, l := range want.lanes {
					events += len(l)
				}
				if s := m.Stats(); s.Events != events {
					t.Fatalf("%d events, want %d", s.Events, events)
				}
				for a := uint32(1); a <= 3; a++ {
					next := m.NextMS(a)
					if due := len(want.due(a, nowMS)) > 0; due != (next != 0 && next <= nowMS || next == 1) {
						t.Fatalf("NextMS of app %d = %d at %d, runnable now: %v", a, next, nowMS, due)
					}
				}
			},
		})
	})
}

// due lists the lanes of app that may hand out an event.
func (w *model) due(app uint32, nowMS int64) []presence.Key {
	var due []presence.Key
	for k, l := range w.lanes {
		if k.App == app && len(l) > 0 && !w.out[k] && w.until[k] <= nowMS {
			due = append(due, k)
		}
	}
	return due
}

// TestMemoryOptions: bounds that cannot be kept are refused with their values.
func TestMemoryOptions(t *testing.T) {
	for _, o := range []MemoryOptions{{MaxEvents: -1}, {MaxBytes: -1}, {MaxDeadLetters: -1}} {
		if _, err := NewMemory(o); err == nil {
			t.Errorf("NewMemory(%+v) succeeds", o)
		}
	}
}

func BenchmarkMemoryAppendClaimAck(b *testing.B) {
	m := newMemory(b, MemoryOptions{})
	users := make([]string, 1000)
	for i := range users {
		users[i] = fmt.Sprintf("user-%011d", i)
	}
	b.ReportAllocs()
	for i := uint64(1); b.Loop(); i++ {
		e := event(1, users[i%1000], i)
		m.Append([]Event{e}, 0)
		c, _, _ := claimOne(m, 1, 0)
		m.Ack([]Event{c})
	}
}

// TestFullPolicies: what a full outbox does under each setting.
func TestFullPolicies(t *testing.T) {
	fill := func(full FullPolicy) (*Memory, Shed) {
		m := newMemory(t, MemoryOptions{MaxEvents: 4, Full: full})
		m.add(t, event(1, "u", 1), event(1, "u", 2), event(1, "v", 1), event(2, "z", 1))
		if m.Blocked(1) {
			t.Errorf("%s: blocked before it is full", full)
		}
		return m, m.add(t, event(1, "u", 3))
	}
	m, shed := fill(FullCoalesce)
	if got, want := m.contents(), []string{"1/u/2", "1/u/3", "1/v/1", "2/z/1"}; !slices.Equal(got, want) || shed != (Shed{Coalesced: 1}) || m.Blocked(1) {
		t.Errorf("coalesce: %v, %+v", got, shed)
	}
	m, shed = fill(FullDeadLetters)
	if got, want := m.contents(), []string{"1/u/2", "1/u/3", "1/v/1", "2/z/1"}; !slices.Equal(got, want) || shed != (Shed{Diverted: 1}) || m.Blocked(1) {
		t.Errorf("drop-oldest-to-dead-letters: %v, %+v", got, shed)
	}
	if l := m.DeadLetters(1, 0, 9); len(l) != 1 || l[0].Event.Seq != 1 || l[0].Cause != CauseFull {
		t.Errorf("drop-oldest-to-dead-letters: dead letters %+v", l)
	}
	m, shed = fill(FullBlock)
	if n := m.Stats().Events; n != 5 || shed != (Shed{}) || !m.Stats().Full {
		t.Errorf("block-logins: %d events, %+v, %+v", n, shed, m.Stats())
	}
	if !m.Blocked(1) || m.Blocked(2) || m.Blocked(3) {
		t.Errorf("block-logins: blocked %v %v %v, want only the app with the backlog", m.Blocked(1), m.Blocked(2), m.Blocked(3))
	}
	for i := range 3 {
		m.add(t, event(2, fmt.Sprint(i), 1))
	}
	if !m.Blocked(3) {
		t.Error("block-logins: not all are blocked at twice the bound")
	}
	for m.Stats().Events > 3 {
		e, _, _ := claimOne(m, 1, 0)
		if e.Seq == 0 {
			e, _, _ = claimOne(m, 2, 0)
		}
		m.Ack([]Event{e})
	}
	if m.Stats().Full || m.Blocked(1) || m.Blocked(2) {
		t.Errorf("block-logins: blocked with a tenth of the room free: %+v", m.Stats())
	}
}
