package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/webhook"
)

// mapStorage is a webhook.Storage in memory.
type mapStorage struct {
	mu sync.Mutex
	m  map[string]string
}

type mapWriter map[string]*string

func (w mapWriter) Set(key, value []byte) { v := string(value); w[string(key)] = &v }
func (w mapWriter) Delete(key []byte)     { w[string(key)] = nil }

// Commit implements webhook.Storage.
func (s *mapStorage) Commit(write func(webhook.Writer), done func(error)) {
	w := mapWriter{}
	write(w)
	s.mu.Lock()
	for k, v := range w {
		if v == nil {
			delete(s.m, k)
		} else {
			s.m[k] = *v
		}
	}
	s.mu.Unlock()
	done(nil)
}

// Scan implements webhook.Storage.
func (s *mapStorage) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var keys []string
	for k := range s.m {
		if k >= string(lower) && k < string(upper) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	for _, k := range keys {
		if !visit([]byte(k), []byte(s.m[k])) {
			break
		}
	}
	return nil
}

// recordingJournal fails every third commit. It is how a durable journal and the dispatcher meet: the events
// are part of the commit of their decisions.
type recordingJournal struct {
	storage *mapStorage
	hooks   *webhook.Dispatcher
	commits int
}

// Commit implements embedded.Journal. The lanes of a directory with one shard call it in turn.
func (j *recordingJournal) Commit(b *embedded.Batch, done func(error)) {
	if j.commits++; j.commits%3 == 0 {
		j.hooks.Record(mapWriter{}, b.Transitions) // into a commit that fails
		j.hooks.Forget(b.Transitions)
		done(errors.New("no space"))
		return
	}
	j.storage.Commit(func(w webhook.Writer) { j.hooks.Record(w, b.Transitions) }, done)
}

// TestEventsOfADirectory: each decision of a real directory leaves its event in
// the store, with the number that the user's state has, and nothing else does.
func TestEventsOfADirectory(t *testing.T) {
	storage := &mapStorage{m: map[string]string{}}
	var dir *embedded.Directory
	open := func() *webhook.Dispatcher {
		d, err := webhook.New(webhook.Options{App: func(id uint32) *directory.App { return dir.App(id) }, Storage: storage, AllowLoopback: true})
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	hooks := open()
	dir, err := embedded.New(embedded.Options{Sink: hooks, Shards: 1, Journal: &recordingJournal{storage: storage, hooks: hooks}})
	if err != nil {
		t.Fatal(err)
	}
	dir.UpdateApp(&directory.UpdateAppOp{SDKAppID: 1, Create: true, Mutate: func(a *directory.App) error {
		a.Webhook.URL = "http://127.0.0.1:1/"
		return nil
	}, Done: func(op *directory.UpdateAppOp) {
		if op.Err != nil {
			t.Fatal(op.Err)
		}
	}})
	refused := 0
	for i := range 60 {
		op := directory.LoginOp{Key: presence.Key{App: 1, UserID: fmt.Sprint("u", i%5)}, Login: presence.Login{
			Device: presence.Device{Platform: presence.Android, ID: fmt.Sprint("d", i%3)}, Cred: presence.Credential{SigTimeS: 1},
			Link: presence.Link{Node: 1, ID: presence.MakeLinkID(0, uint32(i+1), 1)}, NowMS: int64(i),
		}}
		op.Done = func(op *directory.LoginOp) {
			if op.Code != presence.CodeOK {
				refused++
			}
		}
		dir.Login(&op)
	}
	if refused == 0 || refused == 60 {
		t.Fatalf("%d of 60 logins were refused: the journal fails now and then", refused)
	}
	want := map[string]uint64{}
	for i := range 5 {
		op := directory.UserOp{Key: presence.Key{App: 1, UserID: fmt.Sprint("u", i)}, Done: func(*directory.UserOp) {}}
		dir.User(&op)
		want[op.Key.UserID] = op.User.EventSeq
	}
	events := 0
	for user, n := range want {
		events += int(n)
		for seq := uint64(1); seq <= n; seq++ {
			if !strings.Contains(strings.Join(told(t, hooks), " "), fmt.Sprintf("%s/%d", user, seq)) {
				t.Errorf("event %d of %s is not in the log", seq, user)
			}
		}
	}
	// The next life finds what this one has not delivered: all of it.
	if n := open().Stats().Outbox.Events; n != events || len(told(t, hooks)) != events || events != 60-refused {
		t.Errorf("%d events in the outbox and %d in the log after %d logins, want %d", n, len(told(t, hooks)), 60-refused, events)
	}
	if err := dir.Close(); err != nil {
		t.Error(err)
	}
}

// told lists the events of app 1 that can be pulled.
func told(t *testing.T, d *webhook.Dispatcher) (events []string) {
	t.Helper()
	page, _, err := d.Events(1, "", 1000)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range page.Events {
		events = append(events, fmt.Sprintf("%s/%d", e.Event.Key.UserID, e.Event.Seq))
	}
	return events
}
