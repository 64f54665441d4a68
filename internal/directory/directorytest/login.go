package directorytest

import (
	"fmt"
	"strings"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

func loginRegisters(w *world) {
	if c := w.query("alice").Users[0].Code; c != presence.CodeAccountNotExist {
		w.Fatalf("before her first login: code %d", c)
	}
	op := w.login("alice", device(presence.Android, "d1"))
	in := op.Decision.Inst
	if in.InstID == 0 || in.Status != presence.Online || in.Link != op.Login.Link || in.LoginMS != w.nowMS() || op.Seq == 0 {
		w.Fatalf("decision %+v, seq %d", op.Decision, op.Seq)
	}
	w.mustTell("Login/Register Android:Online<-Offline event=1")
	got := w.query("alice").Users[0]
	want := []directory.InstanceState{{InstID: in.InstID, Platform: presence.Android, Status: presence.Online}}
	if got.Status != presence.Online || got.Seq != op.Seq || len(got.Instances) != 1 || got.Instances[0] != want[0] {
		w.Fatalf("query: %+v", got)
	}
}

func loginUnknownApp(w *world) {
	op := w.loginOp("alice", device(presence.Android, "d1"))
	op.Key.App = app + 1
	if w.do(op); op.Code != directory.CodeUnknownApp {
		w.Fatalf("code %d, want %d", op.Code, directory.CodeUnknownApp)
	}
	w.mustTell()
}

func loginBadUserID(w *world) {
	for _, id := range []string{"", "tab\tin it", strings.Repeat("x", presence.MaxUserID+1)} {
		if op := w.do(w.loginOp(id, device(presence.Android, "d1"))); op.Code != directory.CodeBadRequest {
			w.Errorf("login of %q: code %d, want %d", id, op.Code, directory.CodeBadRequest)
		}
	}
	longest := strings.Repeat("x", presence.MaxUserID)
	w.login(longest, device(presence.Android, "d1"))
	w.mustBe(longest, presence.Online)
}

func loginKicks(w *world) {
	first := w.login("alice", device(presence.Android, "d1"))
	w.told.take()
	second := w.login("alice", device(presence.Web, "d2"))
	if k := second.Decision.Kicked; len(k) != 1 || k[0].InstID != first.Decision.Inst.InstID {
		w.Fatalf("kicked %+v", k)
	}
	notices := w.mustTell(
		"Kicked/AnotherLogin Android:Offline<-Online event=0",
		"Login/Register Web:Online<-Offline event=2 kicked=Android")
	w.mustNotice(notices, directory.Notice{
		Link: first.Login.Link.ID, Cause: directory.CauseAnotherLogin, TimeMS: w.nowMS(),
		By: presence.Device{Platform: presence.Web, Model: "model of d2"},
	})
	if w.leave(first, directory.LeaveLinkClosed) {
		w.Fatal("the kicked link's end changed something")
	}
	w.mustBe("alice", presence.Online)
}

func loginLeavesOthers(w *world) {
	w.setPolicy(presence.PresetMulti, map[presence.Platform]uint8{presence.Web: 2})
	w.login("alice", device(presence.Android, "d1"))
	w.login("alice", device(presence.Web, "w1"))
	mini := w.login("alice", device(presence.MiniProgram, "m1"))
	w.login("bob", device(presence.Web, "w1"))
	w.told.take()
	w.clock.Advance(1e9)
	third := w.login("alice", device(presence.Web, "w2"))
	if k := third.Decision.Kicked; len(k) != 1 || k[0].Device.ID != "w1" {
		w.Fatalf("kicked %+v, want w1: the earliest on Web", k)
	}
	insts := w.query("alice").Users[0].Instances
	if len(insts) != 3 || insts[1].InstID != mini.Decision.Inst.InstID {
		w.Fatalf("left: %+v", insts)
	}
	w.mustBe("bob", presence.Online)
}

func loginSameDevice(w *world) {
	first := w.login("alice", device(presence.Android, "d1"))
	w.told.take()
	w.clock.Advance(5e9)
	second := w.login("alice", device(presence.Android, "d1"))
	if second.Decision.Inst.InstID != first.Decision.Inst.InstID || second.Decision.Replaced.ID != first.Login.Link.ID {
		w.Fatalf("decision %+v", second.Decision)
	}
	notices := w.mustTell("Login/Register Android:Online<-Online event=2")
	w.mustNotice(notices, directory.Notice{Link: first.Login.Link.ID, Cause: directory.CauseReplaced, TimeMS: w.nowMS()})
	if w.leave(first, directory.LeaveTimeOut) {
		w.Fatal("the replaced link's end changed something")
	}
	w.mustBe("alice", presence.Online)
	w.mustTell()
}

func loginKicksPushOnline(w *world) {
	first := w.login("alice", device(presence.IPhone, "d1"))
	w.leave(first, directory.LeaveLinkClosed)
	w.mustBe("alice", presence.PushOnline)
	w.told.take()
	w.login("alice", device(presence.Windows, "d2"))
	notices := w.mustTell(
		"Kicked/AnotherLogin iPhone:Offline<-PushOnline event=0",
		"Login/Register Windows:Online<-Offline event=3 kicked=iPhone")
	w.mustNotice(notices) // nobody is there to be told
}

func loginAfterPolicyChange(w *world) {
	w.setPolicy(presence.PresetMulti, nil)
	w.login("alice", device(presence.Android, "d1"))
	w.login("alice", device(presence.Windows, "d2"))
	w.told.take()
	w.setPolicy(presence.PresetSingle, nil)
	w.mustTell()
	op := w.login("alice", device(presence.Windows, "d2"))
	if k := op.Decision.Kicked; len(k) != 1 || k[0].Device.ID != "d1" {
		w.Fatalf("kicked %+v", k)
	}
}

// resumeMatrix is the table of presence.md section 4.
func resumeMatrix(w *world) {
	const (
		exists     = iota // Online, and Online again
		pushOnline        // lost its link
		goneRoom          // logged out, nobody else is in
		goneNoRoom        // kicked by another device
	)
	type credential int
	const (
		goodTicket credential = iota
		goodSig
		revokedTicket
		revokedSig
	)
	for i, c := range []struct {
		instance int
		cred     credential
		code     int
		back     bool
	}{
		{exists, goodTicket, presence.CodeOK, true},
		{exists, goodSig, presence.CodeOK, true},
		{exists, revokedTicket, presence.CodeTicketRevoked, false},
		{exists, revokedSig, presence.CodeSigRevoked, false},
		{pushOnline, goodTicket, presence.CodeOK, true},
		{pushOnline, goodSig, presence.CodeOK, true},
		{pushOnline, revokedTicket, presence.CodeTicketRevoked, false},
		{pushOnline, revokedSig, presence.CodeSigRevoked, false},
		{goneRoom, goodTicket, presence.CodeOK, false},
		{goneRoom, goodSig, presence.CodeOK, false},
		{goneRoom, revokedTicket, presence.CodeTicketRevoked, false},
		{goneRoom, revokedSig, presence.CodeSigRevoked, false},
		{goneNoRoom, goodTicket, presence.CodeKickedOffline, false},
		{goneNoRoom, goodSig, presence.CodeKickedOffline, false},
		{goneNoRoom, revokedTicket, presence.CodeTicketRevoked, false},
		{goneNoRoom, revokedSig, presence.CodeSigRevoked, false},
	} {
		user := fmt.Sprintf("u%d", i)
		dead := w.login(user, device(presence.Android, "d1"))
		w.kick(user, 0) // revokes what was issued until now
		w.clock.Advance(2e9)
		first := w.login(user, device(presence.Android, "d1"))
		switch c.instance {
		case pushOnline:
			w.leave(first, directory.LeaveTimeOut)
		case goneRoom:
			w.leave(first, directory.LeaveLogout)
		case goneNoRoom:
			w.login(user, device(presence.Web, "w1"))
		}
		w.clock.Advance(1e9)
		w.told.take()

		op := w.loginOp(user, device(presence.Android, "d1"))
		op.Login.Resume = true
		switch c.cred {
		case goodTicket:
			op.Login.Cred = presence.Credential{ByTicket: true, TicketSeq: first.Seq}
		case revokedTicket:
			op.Login.Cred = presence.Credential{ByTicket: true, TicketSeq: dead.Seq}
		case revokedSig:
			op.Login.Cred = presence.Credential{SigTimeS: dead.Login.NowMS/1000 - 1}
		}
		w.do(op)
		if op.Code != c.code || op.Decision.TakenBack != c.back {
			w.Errorf("row %d: code %d, taken back %t; want %d, %t", i, op.Code, op.Decision.TakenBack, c.code, c.back)
		}
		if in := op.Decision.Inst; c.back && (in.InstID != first.Decision.Inst.InstID || in.LoginMS != first.Decision.Inst.LoginMS) {
			w.Errorf("row %d: came back as %+v, was %+v", i, in, first.Decision.Inst)
		}
		if ts, _ := w.told.take(); (len(ts) == 0) != (c.code != presence.CodeOK) {
			w.Errorf("row %d: %d transitions with code %d", i, len(ts), op.Code)
		}
	}
}
