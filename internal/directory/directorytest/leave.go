package directorytest

import (
	"fmt"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func leaveRows(w *world) {
	for i, c := range []struct {
		platform presence.Platform
		reason   directory.LeaveReason
		status   presence.Status
		told     string
	}{
		{presence.Android, directory.LeaveLogout, presence.Offline, "Logout/Unregister Android:Offline<-Online event=2"},
		{presence.Android, directory.LeaveLinkClosed, presence.PushOnline, "Disconnect/LinkClose Android:PushOnline<-Online event=2"},
		{presence.Android, directory.LeaveTimeOut, presence.PushOnline, "Disconnect/TimeOut Android:PushOnline<-Online event=2"},
		{presence.Windows, directory.LeaveLogout, presence.Offline, "Logout/Unregister Windows:Offline<-Online event=2"},
		{presence.Windows, directory.LeaveLinkClosed, presence.Offline, "Disconnect/LinkClose Windows:Offline<-Online event=2"},
		{presence.Windows, directory.LeaveTimeOut, presence.Offline, "Disconnect/TimeOut Windows:Offline<-Online event=2"},
		{presence.Mac, directory.LeaveLinkClosed, presence.Offline, "Disconnect/LinkClose Mac:Offline<-Online event=2"},
		{presence.Web, directory.LeaveLinkClosed, presence.Offline, "Disconnect/LinkClose Web:Offline<-Online event=2"},
		{presence.Web, directory.LeaveTimeOut, presence.Offline, "Disconnect/LinkClose Web:Offline<-Online event=2"},
		{presence.MiniProgram, directory.LeaveTimeOut, presence.Offline, "Disconnect/LinkClose MiniProgram:Offline<-Online event=2"},
	} {
		user := fmt.Sprintf("u%d", i)
		op := w.login(user, device(c.platform, "d1"))
		w.told.take()
		if !w.leave(op, c.reason) {
			w.Fatalf("row %d: nothing was changed", i)
		}
		w.mustTell(c.told)
		w.mustBe(user, c.status)
		if w.leave(op, c.reason) {
			w.Fatalf("row %d: leaving twice changed something", i)
		}
		w.mustTell()
	}
}

func leaveStale(w *world) {
	op := w.login("alice", device(presence.Android, "d1"))
	other := w.login("bob", device(presence.Android, "d1"))
	w.told.take()
	for name, spoil := range map[string]func(*directory.LeaveOp){
		"another link": func(l *directory.LeaveOp) { l.Link = other.Login.Link.ID },
		"no link":      func(l *directory.LeaveOp) { l.Link = 0 },
		"another node": func(l *directory.LeaveOp) { l.Node++ },
		"device":       func(l *directory.LeaveOp) { l.DeviceID = "d2" },
		"platform":     func(l *directory.LeaveOp) { l.Platform = presence.IPhone },
		"unknown user": func(l *directory.LeaveOp) { l.Key.UserID = "carol" },
		"unknown app":  func(l *directory.LeaveOp) { l.Key.App++ },
	} {
		for _, reason := range []directory.LeaveReason{directory.LeaveLogout, directory.LeaveLinkClosed, directory.LeaveTimeOut} {
			l := w.leaveOp(op, reason)
			spoil(l)
			if w.doLeave(l) {
				w.Errorf("%s, reason %d: something was changed", name, reason)
			}
		}
	}
	w.mustTell()
	w.mustBe("alice", presence.Online)
}

func leaveWithoutDone(w *world) {
	op := w.login("alice", device(presence.Web, "w1"))
	w.d.Leave(w.leaveOp(op, directory.LeaveLogout))
	w.await("alice is Offline", func() bool { return w.query("alice").Users[0].Status == presence.Offline })
}

// An engine does not keep device ids: the link says which of a user's devices it was.
func leaveByLink(w *world) {
	w.setPolicy(presence.PresetMulti, nil)
	w.login("alice", device(presence.Android, "d1"))
	web := w.login("alice", device(presence.Web, "w1"))
	l := w.leaveOp(web, directory.LeaveLinkClosed)
	l.DeviceID = ""
	if !w.doLeave(l) {
		w.Error("the Leave changed nothing")
	}
	if w.doLeave(l) {
		w.Error("the second Leave changed something")
	}
	got := w.user("alice").User.Instances
	if len(got) != 1 || got[0].Device.ID != "d1" || got[0].Status != presence.Online {
		w.Errorf("alice has %+v, want d1 Online alone", got)
	}
	l.Platform = presence.Android
	if w.doLeave(l) {
		w.Error("a Leave of the other platform changed something")
	}
}
