package directorytest

import (
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func kickAll(w *world) {
	w.setPolicy(presence.PresetMulti, nil)
	phone := w.login("alice", device(presence.Android, "d1"))
	w.leave(phone, directory.LeaveLinkClosed)
	w.clock.Advance(1e9)
	web := w.login("alice", device(presence.Web, "w1"))
	w.login("bob", device(presence.Web, "w1"))
	w.told.take()
	op := w.kick("alice", 0)
	if op.Code != presence.CodeOK || len(op.Kicked) != 2 || op.Kicked[0].Device.ID != "d1" || op.Kicked[1].Status != presence.Online {
		w.Fatalf("code %d, kicked %+v", op.Code, op.Kicked)
	}
	notices := w.mustTell(
		"Logout/Unregister Android:Offline<-PushOnline event=4 rest",
		"Logout/Unregister Web:Offline<-Online event=5 rest")
	w.mustNotice(notices, directory.Notice{Link: web.Login.Link.ID, Cause: directory.CauseREST, TimeMS: w.nowMS()})
	w.mustBe("alice", presence.Offline)
	w.mustBe("bob", presence.Online)
	if w.leave(web, directory.LeaveLinkClosed) {
		w.Fatal("the kicked link's end changed something")
	}
	if op := w.kick("alice", 0); op.Code != presence.CodeOK || len(op.Kicked) != 0 {
		w.Fatalf("kick of an Offline user: code %d, kicked %+v", op.Code, op.Kicked)
	}
}

func kickOne(w *world) {
	w.setPolicy(presence.PresetMulti, nil)
	phone := w.login("alice", device(presence.Android, "d1"))
	web := w.login("alice", device(presence.Web, "w1"))
	w.told.take()
	op := w.kick("alice", web.Decision.Inst.InstID)
	if op.Code != presence.CodeOK || len(op.Kicked) != 1 || op.Kicked[0].InstID != web.Decision.Inst.InstID {
		w.Fatalf("code %d, kicked %+v", op.Code, op.Kicked)
	}
	notices := w.mustTell("Logout/Unregister Web:Offline<-Online event=3 rest")
	w.mustNotice(notices, directory.Notice{Link: web.Login.Link.ID, Cause: directory.CauseREST, TimeMS: w.nowMS()})
	if op := w.kick("alice", web.Decision.Inst.InstID); op.Code != presence.CodeInstanceNotExist {
		w.Fatalf("second kick: code %d", op.Code)
	}
	// One instance revokes nothing: what was issued before still works.
	back := w.loginOp("alice", device(presence.Android, "d1"))
	back.Login.Resume, back.Login.Cred = true, presence.Credential{ByTicket: true, TicketSeq: phone.Seq}
	if w.do(back); back.Code != presence.CodeOK || !back.Decision.TakenBack {
		w.Fatalf("resume by ticket: code %d", back.Code)
	}
}

func kickUnknown(w *world) {
	if op := w.kick("nobody", 0); op.Code != presence.CodeAccountNotExist {
		w.Errorf("all: code %d", op.Code)
	}
	if op := w.kick("nobody", 1); op.Code != presence.CodeAccountNotExist {
		w.Errorf("one: code %d", op.Code)
	}
	w.mustTell()
	if c := w.query("nobody").Users[0].Code; c != presence.CodeAccountNotExist {
		w.Errorf("the kick made the account: code %d", c)
	}
}

// kickCutoff: a UserSig of the kick's second works, an older one is dead, and
// the cut-off never moves back, whatever the clock says.
func kickCutoff(w *world) {
	w.login("alice", device(presence.Web, "w1"))
	w.clock.Advance(10_500e6)
	w.kick("alice", 0)
	second := w.nowMS() / 1000
	w.kickAt("alice", 0, w.nowMS()-3600_000)
	for _, c := range []struct {
		sigTimeS int64
		code     int
	}{{second - 1, presence.CodeSigRevoked}, {second, presence.CodeOK}, {second + 1, presence.CodeOK}} {
		op := w.loginOp("alice", device(presence.Web, "w1"))
		op.Login.Cred.SigTimeS = c.sigTimeS
		if w.do(op); op.Code != c.code {
			w.Errorf("UserSig of %d s after the kick's second: code %d, want %d", c.sigTimeS-second, op.Code, c.code)
		}
	}
	if got := w.user("alice").User.CutoffS; got != second {
		w.Errorf("cut-off %d, want %d", got, second)
	}
}

// kickTickets: tickets die by sequence, even if the clock stands still.
func kickTickets(w *world) {
	old := w.login("alice", device(presence.Android, "d1"))
	w.kick("alice", 0)
	resume := func(seq uint64) int {
		op := w.loginOp("alice", device(presence.Android, "d1"))
		op.Login.Resume, op.Login.Cred = true, presence.Credential{ByTicket: true, TicketSeq: seq}
		return w.do(op).Code
	}
	if c := resume(old.Seq); c != presence.CodeTicketRevoked {
		w.Fatalf("ticket from before the kick: code %d", c)
	}
	fresh := w.login("alice", device(presence.Android, "d1"))
	if c := resume(fresh.Seq); c != presence.CodeOK {
		w.Fatalf("ticket from after the kick: code %d", c)
	}
	w.leave(w.login("alice", device(presence.Android, "d1")), directory.LeaveLogout)
	w.kick("alice", 0) // ends no instance, revokes all the same
	if c := resume(fresh.Seq); c != presence.CodeTicketRevoked {
		w.Fatalf("ticket from before the second kick: code %d", c)
	}
}
