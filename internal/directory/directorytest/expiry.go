package directorytest

import (
	"fmt"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

const retention = 7 * 24 * time.Hour

// expiryOnTime: never early, at most 1 s late.
func expiryOnTime(w *world) {
	w.clock.Advance(123 * time.Millisecond)
	w.setPolicy(presence.PresetMulti, nil)
	w.leave(w.login("alice", device(presence.Android, "d1")), directory.LeaveLinkClosed)
	w.clock.Advance(time.Hour)
	w.leave(w.login("alice", device(presence.IPad, "d2")), directory.LeaveTimeOut)
	w.told.take()

	w.clock.Advance(retention - time.Hour - time.Millisecond)
	if n := len(w.query("alice").Users[0].Instances); n != 2 {
		w.Fatalf("1 ms before the first is due: %d instances", n)
	}
	w.clock.Advance(time.Second + time.Millisecond)
	w.awaitTransitions(1)
	w.mustTell("Disconnect/TimeOut Android:Offline<-PushOnline event=0")
	w.mustBe("alice", presence.PushOnline)

	w.clock.Advance(time.Hour - time.Second - time.Millisecond)
	w.mustBe("alice", presence.PushOnline)
	w.clock.Advance(time.Second + time.Millisecond)
	w.awaitTransitions(1)
	w.mustTell("Disconnect/TimeOut iPad:Offline<-PushOnline event=0")
	w.mustBe("alice", presence.Offline)
}

func (w *world) awaitTransitions(n int) {
	w.Helper()
	w.await(fmt.Sprintf("%d transitions", n), func() bool {
		w.told.mu.Lock()
		defer w.told.mu.Unlock()
		return len(w.told.transitions) >= n
	})
}

// expiryCameBack: who is back is not expired, and its next absence has a full
// retention of its own. One who is kicked is not expired either.
func expiryCameBack(w *world) {
	phone := device(presence.Android, "d1")
	w.leave(w.login("alice", phone), directory.LeaveLinkClosed)
	w.leave(w.login("bob", phone), directory.LeaveLinkClosed)
	w.clock.Advance(retention - time.Second)
	back := w.login("alice", phone)
	w.kick("bob", 0)
	w.told.take()
	w.clock.Advance(time.Minute)
	w.mustBe("alice", presence.Online)
	w.leave(back, directory.LeaveLinkClosed)
	w.clock.Advance(retention - time.Millisecond)
	w.mustBe("alice", presence.PushOnline)
	w.mustTell("Disconnect/LinkClose Android:PushOnline<-Online event=4")
	w.clock.Advance(time.Second + time.Millisecond)
	w.awaitTransitions(1)
	w.mustBe("alice", presence.Offline)
	w.mustTell("Disconnect/TimeOut Android:Offline<-PushOnline event=0")
}

// expiryEvent: an event if the app wants that; a change of the retention counts from the next lost link on.
func expiryEvent(w *world) {
	w.leave(w.login("early", device(presence.Android, "d1")), directory.LeaveLinkClosed)
	w.mustUpdate(app, false, func(a *directory.App) error {
		a.ExpiryEvent, a.MacPushOnline, a.Timeouts.PushRetentionMS = true, true, 60_000
		return nil
	})
	w.leave(w.login("late", device(presence.Mac, "d1")), directory.LeaveLinkClosed)
	w.told.take()
	w.clock.Advance(61 * time.Second)
	w.awaitTransitions(1)
	w.mustTell("Disconnect/TimeOut Mac:Offline<-PushOnline event=3")
	w.mustBe("early", presence.PushOnline)
	w.clock.Advance(retention)
	w.awaitTransitions(1)
	w.mustTell("Disconnect/TimeOut Android:Offline<-PushOnline event=3")
}

// expiryMany: what falls due together is worked off, all of it and nothing else.
func expiryMany(w *world) {
	const users = 2000
	for i := range users {
		op := w.login(fmt.Sprintf("u%d", i), device(presence.IPhone, "d1"))
		if i%4 != 0 {
			w.leave(op, directory.LeaveTimeOut)
		}
	}
	w.told.take()
	w.clock.Advance(retention + time.Second)
	w.awaitTransitions(users * 3 / 4)
	w.await("the expired are gone", func() bool { return len(w.allUsers(presence.Offline, 1000)) == users/4 })
	if ts, _ := w.told.take(); len(ts) != users*3/4 {
		w.Fatalf("%d transitions", len(ts))
	}
}
