package shard

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// patience is how long a test waits for what must happen at once.
const patience = 30 * time.Second

// A writer that stops before any of its steps stops no reader: they finish, find
// everybody who is there, and agree on the user who is being written.
func TestParkedWriterStopsNobody(t *testing.T) {
	const residents, guests = 5, 300
	tab := newTable(t, 1)
	for i := range residents {
		put(tab, key(fmt.Sprint("resident", i)), 1)
	}
	type place struct {
		op string
		at step
	}
	parked := map[place]int{}
	for i := range guests * 3 {
		k := key(fmt.Sprint("guest", i%guests))
		op := []string{"insert", "replace", "remove"}[i/guests]
		before, after := [...]uint64{0, 1, 2}[i/guests], [...]uint64{1, 2, 0}[i/guests]
		tab.hook = func(at step) {
			parked[place{op, at}]++
			v := readAllParked(t, tab, k, residents)
			if v != before && v != after {
				t.Fatalf("%s of %v parked at step %d: readers found version %d", op, k, at, v)
			}
			if v == after {
				before = after // no way back
			}
		}
		if after == 0 {
			tab.Delete(k)
		} else {
			put(tab, k, after)
		}
	}
	for _, p := range []place{
		{"insert", stepWrite}, {"insert", stepCount}, {"insert", stepPublish}, {"insert", stepSettle}, {"insert", stepSwap}, {"insert", stepDone},
		{"replace", stepWrite}, {"replace", stepPublish}, {"replace", stepSettle},
		{"remove", stepClear}, {"remove", stepUncount}, {"remove", stepSwap}, {"remove", stepDone},
	} {
		if parked[p] == 0 {
			t.Errorf("no %s was parked at step %d", p.op, p.at)
		}
	}
}

// readAllParked reads with every operation while the writer is parked in the
// caller, and returns the version of k that they agree on.
func readAllParked(t *testing.T, tab *Table, k presence.Key, residents int) uint64 {
	ids := []string{k.UserID}
	for i := range residents {
		ids = append(ids, fmt.Sprint("resident", i))
	}
	gets, lookups, scans := make([]uint64, len(ids)), make([]uint64, len(ids)), make([]uint64, len(ids))
	readers := []func(){
		func() {
			for i, id := range ids {
				var u presence.User
				if tab.Get(key(id), &u) {
					gets[i] = u.Seq
				}
			}
		},
		func() {
			tab.Lookup(k.App, ids, func(i int, u *presence.User) {
				if u != nil {
					lookups[i] = u.Seq
				}
			})
		},
		func() {
			for c, done := (Cursor{}), false; !done; {
				c, done = tab.Scan(c, 2, func(at presence.Key, u *presence.User) {
					for i, id := range ids {
						if id == at.UserID {
							scans[i] += u.Seq
						}
					}
				})
			}
		},
	}
	done := make(chan struct{}, len(readers))
	for _, read := range readers {
		go func() { read(); done <- struct{}{} }()
	}
	for range readers {
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("a reader waits for a parked writer")
		}
	}
	for i := range ids {
		if gets[i] != lookups[i] || gets[i] != scans[i] || i > 0 && gets[i] != 1 {
			t.Fatalf("beside a parked writer %q: Get found %d, Lookup %d, Scan %d", ids[i], gets[i], lookups[i], scans[i])
		}
	}
	return gets[0]
}

// op is an operation on a register for porcupine.
type op struct {
	key   string
	write bool
	value uint64 // written; 0 by Delete
}

// registers: one per user, holding its version, 0 if it is unknown.
var registers = porcupine.Model{
	Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
		of := map[string][]porcupine.Operation{}
		for _, o := range history {
			k := o.Input.(op).key
			of[k] = append(of[k], o)
		}
		var parts [][]porcupine.Operation
		for _, p := range of {
			parts = append(parts, p)
		}
		return parts
	},
	Init: func() any { return uint64(0) },
	Step: func(state, input, output any) (bool, any) {
		if in := input.(op); in.write {
			return true, in.value
		}
		return state.(uint64) == output.(uint64), state
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %v", input, output) },
}

// recorder collects a history under a logical clock that all clients share.
type recorder struct {
	clock atomic.Int64
	mu    sync.Mutex
	all   []porcupine.Operation
}

// client returns what records one client's operations, and what hands them in.
func (r *recorder) client(id int) (record func(in op, do func() uint64), end func()) {
	var own []porcupine.Operation
	record = func(in op, do func() uint64) {
		call := r.clock.Add(1)
		out := do()
		own = append(own, porcupine.Operation{ClientId: id, Input: in, Call: call, Output: out, Return: r.clock.Add(1)})
	}
	end = func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.all = append(r.all, own...)
	}
	return record, end
}

// Put, Delete, Get and Lookup are linearizable, while the shard grows and
// shrinks under them, with hashes that collide and without.
func TestLinearizable(t *testing.T) {
	for round := range 8 {
		mask := masks[round%len(masks)]
		seed := uint64(time.Now().UnixNano())
		t.Run(fmt.Sprintf("mask=%#x", mask), func(t *testing.T) {
			t.Logf("seed %d", seed)
			tab := newTable(t, 1)
			tab.mask = mask
			var rec recorder
			runClients(tab, &rec, seed)
			if res := porcupine.CheckOperationsTimeout(registers, rec.all, patience); res != porcupine.Ok {
				t.Fatalf("history of %d operations: %v", len(rec.all), res)
			}
			n := overlaps(rec.all)
			t.Logf("%d operations, %d reads beside a write", len(rec.all), n)
			if n == 0 {
				t.Error("no read ran beside a write: the test shows nothing")
			}
		})
	}
}

// turnstile lets readers through in the numbers that the writer grants, so that
// they spread over all its steps however the scheduler favours them.
type turnstile struct {
	granted, entered, made atomic.Int64
	closed                 atomic.Bool
}

// enter waits for a grant; it returns false when there will be none.
func (g *turnstile) enter() bool {
	for n := g.entered.Add(1); n > g.granted.Load(); runtime.Gosched() {
		if g.closed.Load() {
			return false
		}
	}
	return true
}

// settle waits until the reads that were granted are made.
func (g *turnstile) settle() {
	for g.made.Load() < g.granted.Load() {
		runtime.Gosched()
	}
}

// runClients lets one writer and three readers work on six users. The writer
// stops at some of its steps until readers have come by.
func runClients(tab *Table, rec *recorder, seed uint64) {
	const writes, readers = 400, 3
	ids := userIDs("u", 6)
	var all sync.WaitGroup
	var gate turnstile
	for c := range readers {
		all.Go(func() {
			record, end := rec.client(c + 1)
			defer end()
			for rng := rand.New(rand.NewPCG(seed, uint64(c))); gate.enter(); gate.made.Add(1) {
				id := ids[rng.IntN(len(ids))]
				record(op{key: id}, func() uint64 { return readOne(tab, id, rng.IntN(2) == 0) })
			}
		})
	}
	record, end := rec.client(0)
	rng := rand.New(rand.NewPCG(seed, 99))
	hook := func(step) {
		gate.granted.Add(rng.Int64N(4))
		gate.settle()
	}
	for v := range uint64(writes) {
		in := op{key: ids[rng.IntN(len(ids))], write: true, value: v + 1}
		write := func() uint64 { put(tab, key(in.key), in.value); return 0 }
		if rng.IntN(3) == 0 {
			in.value = 0
			write = func() uint64 { tab.Delete(key(in.key)); return 0 }
		}
		gate.granted.Add(3) // these run when they like
		tab.hook = hook
		record(in, write)
		tab.hook = func(at step) {
			if at == stepSwap {
				hook(at)
			}
		}
		churn(tab, rng)
	}
	gate.settle()
	gate.closed.Store(true)
	all.Wait()
	end()
}

// overlaps counts the reads that ran beside a write of the same user.
func overlaps(all []porcupine.Operation) (n int) {
	for _, r := range all {
		if r.Input.(op).write {
			continue
		}
		for _, w := range all {
			if in := w.Input.(op); in.write && in.key == r.Input.(op).key && w.Call < r.Return && r.Call < w.Return {
				n++
				break
			}
		}
	}
	return n
}

// churn makes the shard grow or shrink now and then.
func churn(tab *Table, rng *rand.Rand) {
	switch rng.IntN(8) {
	case 0:
		for i := range 40 {
			put(tab, key(fmt.Sprint("filler", i)), 1)
		}
	case 1:
		for i := range 40 {
			tab.Delete(key(fmt.Sprint("filler", i)))
		}
	}
}

func readOne(tab *Table, id string, batch bool) (v uint64) {
	if !batch {
		var u presence.User
		if tab.Get(key(id), &u) {
			v = u.Seq
		}
		return v
	}
	tab.Lookup(7, []string{"nobody", id}, func(i int, u *presence.User) {
		if i == 1 && u != nil {
			v = u.Seq
		}
	})
	return v
}

// Readers and scans never miss a user who is there, nor see a torn one, while
// each of four shards has a writer that fills and drains it.
func TestStress(t *testing.T) {
	const shards, residents, fillers, rounds = 4, 300, 2000, 6
	tab := newTable(t, shards)
	home := func(k presence.Key) int { return tab.ShardOf(Hash(k)) }
	ids := userIDs("resident", residents)
	for _, id := range ids {
		put(tab, key(id), 1)
	}
	var writers, readers sync.WaitGroup
	var stop atomic.Bool
	for s := range shards {
		writers.Go(func() {
			for v := range uint64(rounds) {
				for i := range fillers {
					if k := key(fmt.Sprint("filler", i)); home(k) == s {
						put(tab, k, v+1)
					}
				}
				for i, id := range ids {
					if home(key(id)) == s && i%2 == 0 {
						put(tab, key(id), v+2)
					}
				}
				for i := range fillers {
					if k := key(fmt.Sprint("filler", i)); home(k) == s && !tab.Delete(k) {
						t.Errorf("%v is lost", k)
					}
				}
			}
		})
	}
	for _, read := range []func(*testing.T, *Table, []string){getAll, lookupAll, scanAll} {
		readers.Go(func() {
			for last := false; !last && !t.Failed(); {
				last = stop.Load() // once more when the writers are done
				read(t, tab, ids)
			}
		})
	}
	writers.Wait()
	stop.Store(true)
	readers.Wait()
	if tab.Len() != residents {
		t.Errorf("%d users are left, want %d", tab.Len(), residents)
	}
}

func getAll(t *testing.T, tab *Table, ids []string) {
	var u presence.User
	for _, id := range ids {
		if !tab.Get(key(id), &u) {
			t.Errorf("Get missed %s", id)
		} else if _, err := wholeVersion(&u); err != nil {
			t.Error(err)
		}
	}
}

func lookupAll(t *testing.T, tab *Table, ids []string) {
	tab.Lookup(7, ids, func(i int, u *presence.User) {
		if u == nil {
			t.Errorf("Lookup missed %s", ids[i])
		} else if _, err := wholeVersion(u); err != nil {
			t.Error(err)
		}
	})
}

func scanAll(t *testing.T, tab *Table, ids []string) {
	seen := map[string]int{}
	for c, done := (Cursor{}), false; !done; {
		c, done = tab.Scan(c, 50, func(k presence.Key, u *presence.User) {
			seen[k.UserID]++
			if _, err := wholeVersion(u); err != nil {
				t.Error(err)
			}
		})
	}
	for _, id := range ids {
		if seen[id] == 0 {
			t.Errorf("the scan skipped %s", id)
		}
	}
	for id, n := range seen {
		if n > 1 {
			t.Errorf("the scan saw %s %d times", id, n)
		}
	}
}
