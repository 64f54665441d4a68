package webhook

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// decide is what a directory does with the transitions of a decision.
func (r *rig) decide(store *memStorage, ts ...presence.Transition) {
	if r.d.durable == nil {
		r.d.Transitions(ts)
		return
	}
	store.Commit(func(w Writer) { r.d.Record(w, ts) }, func(err error) {
		if err != nil {
			r.d.Forget(ts)
			return
		}
		r.d.Transitions(ts)
	})
}

func newDurable(t testing.TB, o MemoryOptions, store *memStorage) *Durable {
	t.Helper()
	d, err := NewDurable(o, store, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Check(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// TestKilledAnywhere: whatever the receiver does and wherever the node is
// killed, every committed event is told at least once, in order per user,
// without a gap, with the same id and body.
func TestKilledAnywhere(t *testing.T) {
	for seed := range uint64(30) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			virtual(t, func(t *testing.T) { killedAnywhere(t, seed) })
		})
	}
}

func killedAnywhere(t *testing.T, seed uint64) {
	rng, mu := rand.New(rand.NewPCG(seed, 0)), &sync.Mutex{}
	dice := func(n int) int { mu.Lock(); defer mu.Unlock(); return rng.IntN(n) }
	l, store, seqs := newLedger(), newMemStorage(), map[string]uint64{}
	l.repeats = true
	handler := moody(l, rng, mu)
	for life := range 6 {
		r := newIdleRig(t, func(o *Options) {
			o.Storage, o.Epoch, o.MaxBytes = store, uint64(life+1), 5*eventOverhead
			o.Rand = rand.New(rand.NewPCG(seed, uint64(life)))
		})
		r.net.handle("hook.example", "192.0.2.1:80", handler)
		r.apps.put(1, "http://hook.example/", nil)
		r.d.Start()
		for range 20 {
			if dice(4) == 0 {
				store.hold()
			}
			for range dice(5) {
				user := fmt.Sprint("user", dice(5))
				ts := []presence.Transition{login(1, user, seqs[user]+1)}
				if dice(8) == 0 { // a commit that fails: the user's next event has the same number
					store.setFail(errors.New("no space"))
					r.decide(store, ts...)
					store.setFail(nil)
					continue
				}
				seqs[user]++
				r.decide(store, ts...)
			}
			time.Sleep(time.Duration(dice(3000)) * time.Millisecond)
			if dice(3) > 0 {
				store.release()
			}
		}
		if life == 5 {
			store.release()
			r.waitEmpty(6 * time.Hour)
			r.stop()
			if n := store.keys(kindOutbox) + store.keys(kindDead); n != 0 {
				t.Errorf("%d keys left in the store of an empty outbox", n)
			}
			break
		}
		store = store.crash()
		r.kill()
		// What was not durable has not happened: the counts are those of the store.
		for user := range seqs {
			seqs[user] = l.known(user)
		}
		for _, seq := range leftIn(t, store) {
			seqs[seq.Key.UserID] = max(seqs[seq.Key.UserID], seq.Seq)
		}
	}
	maps.DeleteFunc(seqs, func(_ string, n uint64) bool { return n == 0 })
	l.check(t, seqs)
}

// leftIn lists the events in a store.
func leftIn(t *testing.T, store *memStorage) (all []Event) {
	t.Helper()
	err := store.Scan([]byte{kindOutbox}, []byte{kindOutbox + 1}, func(_, value []byte) bool {
		e, err := decodeEvent(value)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e)
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestEveryAppendIsKept: of very many events, none is missing after a crash.
func TestEveryAppendIsKept(t *testing.T) {
	const n = 30_000
	virtual(t, func(t *testing.T) {
		store := newMemStorage()
		r := newRig(t, func(o *Options) { o.Storage = store })
		r.net.handle("dead.example", "192.0.2.1:80", hang)
		r.apps.put(1, "http://dead.example/", nil)
		for i := range n / 100 {
			var ts []presence.Transition
			for j := range 100 {
				ts = append(ts, login(1, fmt.Sprint("u", j), uint64(i+1)))
			}
			r.decide(store, ts...)
		}
		next := store.crash()
		r.kill()
		d := newDurable(t, MemoryOptions{}, next)
		if s := d.Stats(); s.Events != n || s.Lanes != 100 {
			t.Fatalf("%+v left behind, want %d events of 100 users", s, n)
		}
		for range 100 {
			batch, _ := d.Claim(1, 0, n/100)
			for i := range batch {
				if batch[i].Seq != uint64(i+1) || batch[i].Key != batch[0].Key || len(batch[i].Body) == 0 {
					t.Fatalf("event %d of %q is claimed at place %d with %d bytes", batch[i].Seq, batch[i].Key.UserID, i, len(batch[i].Body))
				}
			}
			d.Ack(batch)
		}
		if n := next.keys(kindOutbox); n != 0 {
			t.Errorf("%d keys left", n)
		}
	})
}

// TestNotBeforeTheCommit: nothing is told of a decision whose commit is under way or has failed.
func TestNotBeforeTheCommit(t *testing.T) {
	virtual(t, func(t *testing.T) {
		store, l := newMemStorage(), newLedger()
		r := newRig(t, func(o *Options) { o.Storage = store })
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) { l.ack(l.see(req)); ok(w, req) })
		r.apps.put(1, "http://hook.example/", nil)
		store.hold()
		r.decide(store, login(1, "u", 1))
		synctest.Wait()
		if n := l.seen(); n != 0 {
			t.Errorf("%d requests before the commit", n)
		}
		store.release()
		synctest.Wait()
		store.setFail(errors.New("no space"))
		r.decide(store, login(1, "u", 2))
		store.setFail(nil)
		synctest.Wait()
		if n := l.seen(); n != 1 {
			t.Errorf("%d requests after a commit and a failed one, want 1", n)
		}
		r.apps.put(1, "", nil)
		r.decide(store, login(1, "u", 2)) // no receiver, nothing is recorded
		if r.d.recorded.count.Load() != 0 || len(r.d.recorded.m) != 0 {
			t.Errorf("recorded and never told: %v", r.d.recorded.m)
		}
		r.stop()
		l.check(t, map[string]uint64{"u": 1})
		if n := store.keys(kindOutbox); n != 0 {
			t.Errorf("%d events left in the store", n)
		}
	})
}

// TestSettlementsAreKept: what the store could not take is written when it is
// well again, once, and in as few commits as come together.
func TestSettlementsAreKept(t *testing.T) {
	virtual(t, func(t *testing.T) {
		store := newMemStorage()
		r := newRig(t, func(o *Options) { o.Storage = store })
		r.net.handle("hook.example", "192.0.2.1:80", ok)
		r.apps.put(1, "http://hook.example/", nil)
		store.hold()
		var ts []presence.Transition
		ts = append(ts, logins(1, 50)...)
		store.Commit(func(w Writer) { r.d.Record(w, ts) }, func(error) {})
		store.release()
		store.setFail(errors.New("no space"))
		r.d.Transitions(ts)
		r.waitEmpty(time.Second)
		if n, s := store.keys(kindOutbox), r.d.Stats().Outbox; n != 50 || s.StoreFailures == 0 {
			t.Errorf("%d events in a store that takes nothing, want 50; %+v", n, s)
		}
		store.setFail(nil)
		before := store.made()
		time.Sleep(2 * retryCommit)
		if n := store.keys(kindOutbox); n != 0 || store.made()-before > 3 {
			t.Errorf("%d events left in the store after %d commits", n, store.made()-before)
		}
		r.stop()
	})
}

// TestCloseWrites: a stop waits for the settlements, and calls the store no more
// after it; one that hangs holds it up for the grace.
func TestCloseWrites(t *testing.T) {
	virtual(t, func(t *testing.T) {
		store := newMemStorage()
		r := newRig(t, func(o *Options) { o.Storage = store })
		r.net.handle("hook.example", "192.0.2.1:80", ok)
		r.apps.put(1, "http://hook.example/", nil)
		r.decide(store, logins(1, 20)...)
		store.hold() // the first settlements are under way, the others wait for them
		synctest.Wait()
		time.AfterFunc(time.Second, store.release)
		begin := time.Now()
		r.stop()
		if took := time.Since(begin); took > time.Second || store.keys(kindOutbox) != 0 {
			t.Errorf("stopped after %v with %d events in the store", took, store.keys(kindOutbox))
		}
		made := store.made()
		time.Sleep(time.Minute)
		if n := store.made(); n != made {
			t.Errorf("%d commits after the stop", n-made)
		}

		r = newRig(t, func(o *Options) { o.Storage = store })
		r.net.handle("hook.example", "192.0.2.1:80", ok)
		r.apps.put(1, "http://hook.example/", nil)
		r.decide(store, login(1, "user0", 2))
		store.hold()
		synctest.Wait()
		begin = time.Now()
		r.stop()
		if took := time.Since(begin); took > r.d.o.CloseGrace {
			t.Errorf("stopped after %v", took)
		}
		store.release()
	})
}

// TestSpilledBodies: bodies beyond the memory bound come from the store, in
// order, and a store that cannot be read holds the lane up, not more.
func TestSpilledBodies(t *testing.T) {
	store := newMemStorage()
	d := newDurable(t, MemoryOptions{MaxBytes: 5 * (eventOverhead + 20)}, store)
	o := recording{d, store}
	for seq := uint64(1); seq <= 40; seq++ {
		for _, user := range []string{"a", "b"} {
			e := event(1, user, seq)
			e.Body = fmt.Appendf(nil, `{"of":%q,"n":%d}`, user, seq)
			if _, err := o.Append([]Event{e}, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	store.unread = errors.New("I/O error")
	for range 2 { // the first ones have their bodies in memory
		batch, _ := d.Claim(1, 0, 1)
		d.Ack(batch)
	}
	for range 4 {
		batch, _ := d.Claim(1, 0, 1)
		d.Ack(batch)
	}
	store.unread = nil
	next := map[string]uint64{}
	for nowMS := int64(0); d.Stats().Events > 0; nowMS += 1000 {
		for batch, _ := d.Claim(1, nowMS, 1); len(batch) > 0; batch, _ = d.Claim(1, nowMS, 1) {
			e := batch[0]
			if seq := next[e.Key.UserID]; seq != 0 && e.Seq != seq || string(e.Body) != fmt.Sprintf(`{"of":%q,"n":%d}`, e.Key.UserID, e.Seq) {
				t.Fatalf("event %d of %s with body %s, want event %d", e.Seq, e.Key.UserID, e.Body, seq)
			}
			next[e.Key.UserID] = e.Seq + 1
			d.Ack(batch)
		}
	}
	if next["a"] != 41 || next["b"] != 41 {
		t.Errorf("ended before events %v, want 41", next)
	}
	if d.unreadable.Load() == 0 {
		t.Error("no read failed")
	}
}

// TestAgesAcrossRestart: the lists of the apps are by age again, and a clock set
// back does not turn a lane round.
func TestAgesAcrossRestart(t *testing.T) {
	store := newMemStorage()
	o := recording{newDurable(t, MemoryOptions{}, store), store}
	for _, e := range []struct {
		user string
		seq  uint64
		ms   int64
	}{{"z", 1, 10}, {"a", 1, 20}, {"m", 1, 30}, {"m", 2, 5}, {"b", 1, 25}} {
		ev := event(1, e.user, e.seq)
		ev.QueuedMS = e.ms
		o.Append([]Event{ev}, 0)
	}
	d := newDurable(t, MemoryOptions{}, store.crash())
	var got []string
	for n := d.apps[1].oldest; n != nil; n = n.appNext {
		got = append(got, fmt.Sprint(n.event.Key.UserID, n.event.Seq))
	}
	if want := []string{"z1", "a1", "b1", "m1", "m2"}; !slices.Equal(got, want) {
		t.Errorf("by age %v, want %v", got, want)
	}
	small := newDurable(t, MemoryOptions{MaxEvents: 2}, store.crash())
	if s := small.Stats(); s.Events != 2 || s.DeadLetters != 3 || !s.Full {
		t.Errorf("with room for 2: %+v", s)
	}
}

// TestDeadLettersAreKept: dead letters, their replay and their end survive crashes.
func TestDeadLettersAreKept(t *testing.T) {
	store := newMemStorage()
	o := recording{newDurable(t, MemoryOptions{}, store), store}
	for seq := uint64(1); seq <= 6; seq++ {
		e := event(1, "u", seq)
		o.Append([]Event{e}, 0)
		batch, _ := o.Claim(1, 0, 1)
		o.Bury(batch, CauseGaveUp, 77)
	}
	store = store.crash()
	d := newDurable(t, MemoryOptions{}, store)
	letters := d.DeadLetters(1, 0, 4)
	if len(letters) != 4 || letters[0].Event.Seq != 6 || letters[0].DeadMS != 77 || letters[0].Cause != CauseGaveUp || string(letters[0].Event.Body) != `{"x":1}` {
		t.Fatalf("dead letters after a crash: %+v", letters)
	}
	if older := d.DeadLetters(1, letters[3].ID, 4); len(older) != 2 || older[1].Event.Seq != 1 {
		t.Fatalf("the page behind: %+v", older)
	}
	// Replay goes by age, ahead of what is younger; its commit is the end of the letter.
	recording{d, store}.Append([]Event{event(1, "u", 9)}, 0)
	if n, err := d.Replay(1, []uint64{letters[0].ID, letters[2].ID, 999}, 10, 5000); n != 2 || err != nil {
		t.Fatalf("replayed %d, %v", n, err)
	}
	if n := d.Skip(1, nil, 2); n != 2 {
		t.Fatalf("skipped %d, want 2", n)
	}
	if n := d.Skip(2, nil, 9); n != 0 {
		t.Fatalf("skipped %d of another app", n)
	}
	next := newDurable(t, MemoryOptions{}, store.crash())
	batch, _ := next.Claim(1, 0, 10)
	var seqs []uint64
	for i := range batch {
		seqs = append(seqs, batch[i].Seq)
		if len(batch[i].Body) == 0 || batch[i].Seq != 9 && batch[i].QueuedMS != 5000 {
			t.Errorf("replayed %+v", batch[i])
		}
	}
	if !slices.Equal(seqs, []uint64{4, 6, 9}) || next.Stats().DeadLetters != 2 {
		t.Errorf("queued %v, %d dead letters; want 4, 6, 9 and 2", seqs, next.Stats().DeadLetters)
	}
	next.Ack(batch)
	if n := next.keep.storage.(*memStorage).keys(kindOutbox); n != 2 {
		t.Errorf("%d events in the store, want those of 2 dead letters", n)
	}
}

// TestReplayWithoutRoom: what does not fit stays a dead letter.
func TestReplayWithoutRoom(t *testing.T) {
	for name, o := range map[string]Outbox{
		"memory": newMemory(t, MemoryOptions{MaxEvents: 3}),
		"durable": func() Outbox {
			s := newMemStorage()
			return recording{newDurable(t, MemoryOptions{MaxEvents: 3}, s), s}
		}(),
	} {
		for seq := uint64(1); seq <= 5; seq++ {
			o.Append([]Event{event(1, "u", seq)}, 0)
			batch, _ := o.Claim(1, 0, 1)
			o.Bury(batch, CauseGaveUp, 0)
		}
		n, err := o.Replay(1, nil, 100, 0)
		if s := o.Stats(); n != 3 || !errors.Is(err, ErrFull) || s.Events != 3 || s.DeadLetters != 2 {
			t.Errorf("%s: replayed %d of 5 with room for 3: %v, %+v", name, n, err, s)
		}
	}
}

// TestCorruptStore: what cannot be read is said, with its key, and nothing starts.
func TestCorruptStore(t *testing.T) {
	for key, value := range map[string]string{
		string(outboxKey(presence.Key{App: 1, UserID: "u"}, 1)): "\x07",
		string(deadKey(1, 1)): "",
		string(logEndKey(1)):  "\x01",
	} {
		store := newMemStorage()
		store.visible[key] = value
		_, err := New(Options{App: newApps().get, Storage: store})
		if !errors.Is(err, ErrCorrupt) {
			t.Errorf("key %x with value %x: %v", key, value, err)
		}
	}
}

// TestCoalesce: an app that wants only the newest state gets it when its
// receiver is back, and nothing else of what waited.
func TestCoalesce(t *testing.T) {
	virtual(t, func(t *testing.T) {
		store := newMemStorage()
		r := newRig(t, func(o *Options) { o.Storage = store })
		var got []uint64
		var well atomic.Bool
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			if !well.Load() {
				w.WriteHeader(500)
				return
			}
			got = append(got, newLedger().see(req).EventSeq)
			ok(w, req)
		})
		r.apps.put(1, "http://hook.example/", func(w *directory.Webhook) { w.Coalesce = true })
		for seq := uint64(1); seq <= 20; seq++ {
			r.decide(store, login(1, "u", seq))
			time.Sleep(time.Second)
		}
		if s := r.d.Stats().Outbox; s.Events != 1 || s.Full || store.keys(kindOutbox) != 1 {
			t.Errorf("%d events wait, %d in the store, want the newest: %+v", s.Events, store.keys(kindOutbox), s)
		}
		well.Store(true)
		r.waitEmpty(time.Hour)
		if !slices.Equal(got, []uint64{20}) || r.count(resultMerged) != 19 || r.count(resultCoalesced) != 0 {
			t.Errorf("told %v, merged %d", got, r.count(resultMerged))
		}
		r.stop()
	})
}

func FuzzDecodeEvent(f *testing.F) {
	e := newEvent(&presence.Transition{Key: presence.Key{App: 1, UserID: "u"}, EventSeq: 3, Action: presence.ActionLogin}, 5, 6)
	f.Add(appendEvent(nil, &e))
	f.Add([]byte{})
	f.Add([]byte{eventVersion})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := decodeEvent(b)
		if err != nil {
			return
		}
		again, err := decodeEvent(appendEvent(nil, &e))
		if err != nil || again.ID() != e.ID() || string(again.Body) != string(e.Body) || again.QueuedMS != e.QueuedMS || again.IP() != e.IP() {
			t.Errorf("%+v, encoded and decoded: %+v, %v", e, again, err)
		}
	})
}

func FuzzDecodeLetter(f *testing.F) {
	l := DeadLetter{ID: 3, Cause: CauseFull, DeadMS: 5, Event: event(1, "u", 7)}
	f.Add(deadKey(1, 3), appendLetter(nil, &l))
	f.Add([]byte("d"), []byte{letterVersion})
	f.Fuzz(func(t *testing.T, key, b []byte) {
		l, err := decodeLetter(key, b)
		if err != nil {
			return
		}
		again, err := decodeLetter(deadKey(l.Event.Key.App, l.ID), appendLetter(nil, &l))
		if err != nil || again.Cause != l.Cause || again.Event.Seq != l.Event.Seq || again.DeadMS != l.DeadMS {
			t.Errorf("%+v, encoded and decoded: %+v, %v", l, again, err)
		}
	})
}
