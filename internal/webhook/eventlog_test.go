package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// pull reads the log of app 1 from a cursor to its end and lists the events as user/seq.
func pull(t *testing.T, d *Dispatcher, after string, limit int) (events []string, next string, gap bool) {
	t.Helper()
	for {
		page, isCursor, err := d.Events(1, after, limit)
		if err != nil || !isCursor || len(page.Events) > limit {
			t.Fatalf("after %q: %d events, %v, %v", after, len(page.Events), isCursor, err)
		}
		for _, e := range page.Events {
			events = append(events, fmt.Sprintf("%s/%d", e.Event.Key.UserID, e.Event.Seq))
			if len(e.Event.Body) == 0 {
				t.Errorf("event %s has no body", events[len(events)-1])
			}
		}
		after, gap = page.Next, gap || page.Gap
		if !page.More {
			return events, after, gap
		}
	}
}

// TestLog: events are pulled once each, in order, whether delivered or not, also
// without a receiver; what is not kept any more is said.
func TestLog(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprint("durable ", durable), func(t *testing.T) {
			virtual(t, func(t *testing.T) {
				store := newMemStorage()
				r := newRig(t, func(o *Options) {
					o.LogEvents = 20
					if durable {
						o.Storage = store
					}
				})
				r.net.handle("hook.example", "192.0.2.1:80", ok)
				app := r.apps.put(1, "", nil)
				r.decide(store, login(1, "nobody", 1))
				app = app.Clone()
				app.Webhook.PullEvents = true
				r.apps.set[1] = app
				if events, _, gap := pull(t, r.d, "", 5); len(events) != 0 || gap {
					t.Errorf("before any: %v, %v", events, gap)
				}
				var want []string
				var cursors []string
				for seq := uint64(1); seq <= 30; seq++ {
					r.decide(store, login(1, "u", seq))
					want = append(want, fmt.Sprintf("u/%d", seq))
					_, next, _ := pull(t, r.d, "", 7)
					cursors = append(cursors, next)
				}
				if events, _, gap := pull(t, r.d, "", 7); !slices.Equal(events, want[10:]) || gap {
					t.Errorf("all: %v, %v; want the newest 20", events, gap)
				}
				if events, next, gap := pull(t, r.d, cursors[14], 3); !slices.Equal(events, want[15:]) || gap || next != cursors[29] {
					t.Errorf("after 15: %v, %v", events, gap)
				}
				if events, _, gap := pull(t, r.d, cursors[9], 30); !slices.Equal(events, want[10:]) || gap {
					t.Errorf("after 10, the last that fell out: %v, %v", events, gap)
				}
				if events, _, gap := pull(t, r.d, cursors[3], 30); !slices.Equal(events, want[10:]) || !gap {
					t.Errorf("after 4: %v, gap %v", events, gap)
				}
				if _, isCursor, _ := r.d.Events(1, "nonsense", 1); isCursor {
					t.Error("nonsense is a cursor")
				}
				if n := r.count(resultDelivered); n != 0 || r.count(resultNoURL) != 31 {
					t.Errorf("%d delivered, %d without a URL", n, r.count(resultNoURL))
				}
				r.stop()
				next := newIdleRig(t, func(o *Options) {
					o.LogEvents, o.Epoch = 5, 8
					if durable {
						o.Storage = store.crash()
					}
				})
				if durable {
					lossy := newIdleRig(t, func(o *Options) { o.LogEvents, o.Epoch, o.Storage, o.Lossy = 20, 8, store.crash(), true })
					if events, _, gap := pull(t, lossy.d, cursors[24], 30); !slices.Equal(events, want[10:]) || !gap {
						t.Errorf("in the next life of a lossy store: %v, gap %v", events, gap)
					}
				}
				events, _, gap := pull(t, next.d, cursors[24], 30)
				if durable && (!slices.Equal(events, want[25:]) || gap) || !durable && (len(events) != 0 || !gap) {
					t.Errorf("in the next life: %v, gap %v", events, gap)
				}
			})
		})
	}
}

// TestLogHidesWhatIsUnderWay: an event is shown when all before it are told, or
// their commits have failed; else a reader who saw it would miss them.
func TestLogHidesWhatIsUnderWay(t *testing.T) {
	store := newMemStorage()
	r := newRig(t, func(o *Options) { o.Storage = store })
	app := r.apps.put(1, "", nil)
	app.Webhook.PullEvents = true
	var ts [4][]presence.Transition
	for i := range ts {
		ts[i] = []presence.Transition{login(1, fmt.Sprint("u", i), 1)}
		store.Commit(func(w Writer) { r.d.Record(w, ts[i]) }, func(error) {})
	}
	show := func(want ...string) {
		t.Helper()
		if events, _, _ := pull(t, r.d, "", 2); !slices.Equal(events, want) {
			t.Errorf("shows %v, want %v", events, want)
		}
	}
	show()
	r.d.Transitions(ts[1])
	show()
	r.d.Transitions(ts[0])
	show("u0/1", "u1/1")
	r.d.Transitions(ts[3])
	show("u0/1", "u1/1")
	delete(store.visible, string(logKey(1, 3))) // as if its commit had failed
	store.sorted = nil
	r.d.Forget(ts[2])
	show("u0/1", "u1/1", "u3/1")
	store.unread = errors.New("I/O error")
	if _, _, err := r.d.Events(1, "", 5); err == nil {
		t.Error("no error of a store that cannot be read")
	}
}

// TestVolatileLogBound: in memory, all apps together keep so many, and the app
// with the most gives way.
func TestVolatileLogBound(t *testing.T) {
	l, err := newEventLog(nil, maxVolatileLog, 1, false)
	if err != nil {
		t.Fatal(err)
	}
	small := event(2, "u", 1)
	l.add(&small)
	for i := range maxVolatileLog + 10 {
		e := event(1, "u", uint64(i+1))
		l.add(&e)
	}
	if l.count != maxVolatileLog || l.apps[1].len() != maxVolatileLog-1 || l.apps[2].len() != 1 {
		t.Errorf("%d kept in all, %d of the large app, %d of the small one", l.count, l.apps[1].len(), l.apps[2].len())
	}
	off, _ := newEventLog(nil, -1, 1, false)
	off.add(&small)
	if page, _, _ := off.read(2, "", 9); len(page.Events) != 0 {
		t.Error("a log that is off keeps events")
	}
}

// TestBlockLogins: under block-logins nothing is lost while the receiver is
// down, logins are refused when the outbox is full, and are let in again.
func TestBlockLogins(t *testing.T) {
	virtual(t, func(t *testing.T) {
		store, l := newMemStorage(), newLedger()
		r := newRig(t, func(o *Options) { o.Storage, o.MaxEvents, o.Full = store, 50, FullBlock })
		r.net.listen("hook.example", "192.0.2.1:80", nil)
		r.apps.put(1, "http://hook.example/", nil)
		seqs := map[string]uint64{}
		refused := 0
		for i := range 100 {
			if r.d.LoginsBlocked(1) {
				refused++
				continue
			}
			user := fmt.Sprint("u", i%10)
			seqs[user]++
			r.decide(store, login(1, user, seqs[user]))
		}
		if refused != 49 { // the one that finds no room is taken
			t.Errorf("%d logins refused, want 49", refused)
		}
		r.net.handle("hook.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) { l.ack(l.see(req)); ok(w, req) })
		r.waitEmpty(time.Minute)
		if r.d.LoginsBlocked(1) || r.d.LoginsBlocked(2) {
			t.Error("logins are blocked by an empty outbox")
		}
		r.stop()
		l.check(t, seqs)
	})
}

func FuzzParseCursor(f *testing.F) {
	for _, text := range []string{"", "0-0", "zz-1", "-", "1-", "3w5e11264sgsf-1y2p0ij32e8e7", "01-1", "+1-1"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		epoch, position, isCursor := parseCursor(text)
		if isCursor && text != "" && (cursor(epoch, position) != text || position+1 == 0) {
			t.Errorf("%q is taken for position %d of %d", text, position, epoch)
		}
	})
}
