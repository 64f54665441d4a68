package ledger

import (
	"fmt"
	"slices"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
)

// The devices of the story.
const (
	phone = iota
	tab
)

// story is a history of one user in which all is right: two devices log in, the
// server is killed and started again, the tab comes back within the grace and the
// phone does not, the user is kicked over REST, both log in anew, the tab's link
// is lost. Its steps are named by their index.
func story() *History {
	app := &App{ID: 1, Policies: []PolicyChange{{Policy: Policy{"multi", 1}, Outcome: Done}}}
	u := &User{App: app, ID: "alice", Devices: []Device{{codec.Android, "phone-1"}, {codec.Web, "tab-1"}}}
	both := Reading{Known: true, Status: "Online", Insts: []Seen{{1, "Android", "Online", ""}, {2, "Web", "Online", ""}}}
	u.Steps = []Step{
		0: {Kind: Login, Dev: phone, FromMS: 1000, ToMS: 1002, Outcome: Done, SigS: 0 + 1, InstID: 1},
		1: {Kind: Login, Dev: tab, FromMS: 1100, ToMS: 1102, Outcome: Done, SigS: 1, InstID: 2},
		2: {Kind: Look, FromMS: 1200, ToMS: 1202, Outcome: Done, Seen: both},
		// Killed at 10,000.
		3: {Kind: Login, Dev: tab, Life: 1, FromMS: 10_500, ToMS: 10_502, Outcome: Done, Resume: true, Ticket: true, InstID: 2, TakenBack: true},
		4: {Kind: Look, Life: 1, FromMS: 10_600, ToMS: 10_602, Outcome: Done, Seen: both},
		5: {Kind: Kick, Life: 1, FromMS: 13_000, ToMS: 13_002, Outcome: Done},
		6: {Kind: Login, Dev: phone, Life: 1, FromMS: 13_100, ToMS: 13_102, Outcome: Refused, Code: codeRevoked, Resume: true, Ticket: true, SigS: 1},
		7: {Kind: Login, Dev: phone, Life: 1, FromMS: 14_000, ToMS: 14_002, Outcome: Done, SigS: 14, InstID: 3},
		8: {Kind: Login, Dev: tab, Life: 1, FromMS: 14_100, ToMS: 14_102, Outcome: Done, SigS: 14, InstID: 4},
		9: {Kind: Drop, Dev: tab, Life: 1, FromMS: 14_200, ToMS: 14_200, Outcome: Done},
	}
	tell(u, 1001, "Login", "Register", "Android", 1, "Android")
	tell(u, 1101, "Login", "Register", "Web", 2, "Web")
	tell(u, 10_501, "Login", "Register", "Web", 2, "Web")
	tell(u, 12_200, "Disconnect", "LinkClose", "Android", 1, "Android")
	tell(u, 13_001, "Logout", "Unregister", "RESTAPI", 1, "Android")
	tell(u, 13_001, "Logout", "Unregister", "RESTAPI", 2, "Web")
	tell(u, 14_001, "Login", "Register", "Android", 3, "Android")
	tell(u, 14_101, "Login", "Register", "Web", 4, "Web")
	tell(u, 14_201, "Disconnect", "LinkClose", "Web", 4, "Web")
	u.Final = &Final{
		Rest: Reading{Known: true, Status: "Online", Insts: []Seen{{3, "Android", "Online", ""}}},
		Console: ConsoleUser{Known: true, Registered: true, EventSeq: 9, CutoffS: 13,
			Insts: []Seen{{3, "Android", "Online", "phone-1"}}},
	}
	return &History{GraceMS: 2000, Lives: []Life{{0, 10_000}, {10_100, 20_000}}, Users: []*User{u}}
}

// tell appends the receipt of the user's next event.
func tell(u *User, ms int64, action, reason, opt string, inst uint32, platform string, kicked ...string) {
	seq := uint64(len(u.Receipts) + 1)
	u.Receipts = append(u.Receipts, Receipt{Seq: seq, ID: fmt.Sprintf("%s-%d", u.ID, ms*1000+int64(seq)), Body: fmt.Sprint(ms, action, inst), Accepted: true,
		Event: Event{TimeMS: ms, Action: action, Reason: reason, OptPlatform: opt, InstID: inst, Platform: platform, Kicked: kicked}})
}

// forget takes events out as a server would that never had them: the others count on without.
func forget(u *User, seqs ...uint64) {
	u.Receipts = slices.DeleteFunc(u.Receipts, func(r Receipt) bool { return slices.Contains(seqs, r.Seq) })
	renumber(u)
}

func renumber(u *User) {
	for i := range u.Receipts {
		u.Receipts[i].Seq = uint64(i + 1)
	}
	u.Final.Console.EventSeq = uint64(len(u.Receipts))
}

// insert adds an event behind the one with the given EventSeq.
func insert(u *User, after int, ms int64, action, reason, opt string, inst uint32, platform string) {
	tell(u, ms, action, reason, opt, inst, platform)
	last := u.Receipts[len(u.Receipts)-1]
	u.Receipts = slices.Insert(u.Receipts[:len(u.Receipts)-1], after, last)
	renumber(u)
}

func kinds(r *Report) (out []string) {
	for _, v := range r.Violations {
		out = append(out, v.Kind)
	}
	return out
}

// TestViolations breaks the story in each way in which a server could break its word.
func TestViolations(t *testing.T) {
	for _, c := range []struct {
		name, want string
		do         func(h *History, u *User)
	}{
		{"a login is lost, with its event", LostAck, func(_ *History, u *User) {
			u.Steps = u.Steps[:9]
			forget(u, 8, 9)
		}},
		{"a login is lost after one that was cut off", LostAck, func(_ *History, u *User) {
			u.Steps = slices.Insert(u.Steps, 3, Step{Kind: Login, Dev: tab, FromMS: 9990, ToMS: 10_010, Outcome: Unknown, SigS: 1})
			u.Receipts[2].Event.TimeMS = 9991
		}},
		{"a logout is lost, with its event", LostAck, func(_ *History, u *User) {
			u.Steps = append(u.Steps, Step{Kind: Logout, Dev: phone, Life: 1, FromMS: 15_000, ToMS: 15_002, Outcome: Done})
		}},
		{"an instance is forgotten at the restart", LostAck, func(_ *History, u *User) {
			u.Steps[3].TakenBack, u.Steps[3].InstID = false, 5
		}},
		{"an instance is forgotten, its login time too", LostAck, func(_ *History, u *User) { u.Steps[3].TakenBack = false }},
		{"a ticket is dead after the restart", LostAck, func(_ *History, u *User) {
			u.Steps[3] = Step{Kind: Login, Dev: tab, Life: 1, FromMS: 10_500, ToMS: 10_502, Outcome: Refused, Code: codeNothingGood, Resume: true, Ticket: true}
		}},
		{"a resume is told that its instance is gone", LostAck, func(_ *History, u *User) {
			u.Steps[3].Outcome, u.Steps[3].Code = Refused, codeKickedOffline
		}},
		{"an account is forgotten", LostAck, func(_ *History, u *User) { u.Steps[5].Outcome, u.Steps[5].Code = Refused, codeNoAccount }},
		{"a PushOnline instance is forgotten", LostAck, func(_ *History, u *User) { forget(u, 5) }},
		{"the account is gone at the end", LostAck, func(_ *History, u *User) { u.Final.Rest.Known = false }},
		{"the console does not know the user", LostAck, func(_ *History, u *User) { u.Final.Console.Known = false }},
		{"a kick's cut-off is lost", LostCutoff, func(_ *History, u *User) {
			s := &u.Steps[6]
			s.Outcome, s.Code, s.Resume, s.Ticket, s.InstID = Done, 0, false, false, 3
			insert(u, 6, 13_101, "Login", "Register", "Android", 3, "Android")
		}},
		{"a kick ends no ticket", LostCutoff, func(_ *History, u *User) { u.Steps[6].Outcome, u.Steps[6].InstID = Done, 3 }},
		{"the console shows no cut-off", LostCutoff, func(_ *History, u *User) { u.Final.Console.CutoffS = 0 }},
		{"an event in the middle never came", MissingEvent, func(_ *History, u *User) { u.Receipts = slices.Delete(u.Receipts, 4, 5) }},
		{"the last event never came", MissingEvent, func(_ *History, u *User) { u.Receipts = u.Receipts[:8] }},
		{"an event was never taken", MissingEvent, func(_ *History, u *User) { u.Receipts[8].Accepted = false }},
		{"a gap in EventSeq", MissingEvent, func(_ *History, u *User) {
			for i := 5; i < len(u.Receipts); i++ {
				u.Receipts[i].Seq++
			}
			u.Final.Console.EventSeq++
		}},
		{"a status changes and no event tells of it", MissingEvent, func(_ *History, u *User) {
			forget(u, 4)
			u.Steps[4].Seen.Insts = []Seen{{1, "Android", "PushOnline", ""}, {2, "Web", "Online", ""}}
		}},
		{"a lost link is never told of", MissingEvent, func(_ *History, u *User) { forget(u, 9) }},
		{"an event overtakes", Reordered, func(_ *History, u *User) { u.Receipts[4], u.Receipts[5] = u.Receipts[5], u.Receipts[4] }},
		{"an event is sent while the one before is not taken", Reordered, func(_ *History, u *User) {
			again := u.Receipts[4]
			u.Receipts[4].Accepted = false
			u.Receipts = slices.Insert(u.Receipts, 6, again)
		}},
		{"EventSeq begins anew after the restart", SeqBackwards, func(_ *History, u *User) {
			for i := 2; i < len(u.Receipts); i++ {
				u.Receipts[i].Seq -= 2
			}
			u.Final.Console.EventSeq = 7
		}},
		{"EventSeq begins anew, and a login is not told of", LostAck, func(_ *History, u *User) {
			for i := 2; i < len(u.Receipts); i++ {
				u.Receipts[i].Seq -= 2
			}
			u.Receipts = slices.Delete(u.Receipts, 7, 8)
		}},
		{"the console counts less than was told", SeqBackwards, func(_ *History, u *User) { u.Final.Console.EventSeq = 8 }},
		{"an event comes again with another id", ChangedRepeat, func(_ *History, u *User) {
			again := u.Receipts[3]
			again.ID = "other"
			u.Receipts = slices.Insert(u.Receipts, 4, again)
		}},
		{"an event comes again with another body", ChangedRepeat, func(_ *History, u *User) {
			again := u.Receipts[3]
			again.Body = "other"
			u.Receipts = slices.Insert(u.Receipts, 4, again)
		}},
		{"two events with one id", IDReused, func(_ *History, u *User) { u.Receipts[3].ID = u.Receipts[2].ID }},
		{"an event that nothing has caused", PhantomEvent, func(_ *History, u *User) {
			insert(u, 9, 15_000, "Logout", "Unregister", "RESTAPI", 3, "Android")
		}},
		{"a time-out of a client that was not silent", PhantomEvent, func(_ *History, u *User) { u.Receipts[3].Event.Reason = "TimeOut" }},
		{"a Disconnect of a device that came back within the grace", FalseDisconnect, func(_ *History, u *User) {
			insert(u, 4, 12_200, "Disconnect", "LinkClose", "Web", 2, "Web")
		}},
		{"a Disconnect of a live link, as the last event", FalseDisconnect, func(_ *History, u *User) {
			insert(u, 9, 15_000, "Disconnect", "LinkClose", "Android", 3, "Android")
		}},
		{"a Disconnect of a link that is up when the server is killed", FalseDisconnect, func(_ *History, u *User) { u.Receipts[3].Event.TimeMS = 9_999 }},
		{"a Disconnect before the grace is over", EarlyDisconnect, func(_ *History, u *User) { u.Receipts[3].Event.TimeMS = 12_099 }},
		{"Online after the grace, and nobody is there", GhostOnline, func(_ *History, u *User) {
			forget(u, 9)
			u.Final.Rest.Insts = append(u.Final.Rest.Insts, Seen{4, "Web", "Online", ""})
		}},
		{"Online in a query, and kicked before", GhostOnline, func(_ *History, u *User) {
			u.Steps = slices.Insert(u.Steps, 6, Step{Kind: Look, Life: 1, FromMS: 13_050, ToMS: 13_051, Outcome: Done, Seen: u.Steps[2].Seen})
		}},
		{"Online in the console alone", GhostOnline, func(_ *History, u *User) {
			u.Final.Console.Insts = append(u.Final.Console.Insts, Seen{4, "Web", "Online", "tab-1"})
		}},
		{"PushOnline, and should be gone", GhostInstance, func(_ *History, u *User) {
			u.Final.Rest.Insts = append(u.Final.Rest.Insts, Seen{1, "Android", "PushOnline", ""})
		}},
		{"away after the grace, and the client is there", FalseOffline, func(_ *History, u *User) {
			u.Final.Rest.Status, u.Final.Rest.Insts[0].Status = "PushOnline", "PushOnline"
		}},
		{"gone at the end, and the client is there", FalseOffline, func(_ *History, u *User) { u.Final.Rest.Insts = nil }},
		{"away in a query, and the client came back", FalseOffline, func(_ *History, u *User) {
			u.Steps[4].Seen = Reading{Known: true, Status: "PushOnline", Insts: []Seen{{1, "Android", "PushOnline", ""}}}
		}},
		{"an InstID again", InstReused, func(_ *History, u *User) {
			u.Steps[7].InstID, u.Receipts[6].Event.InstID = 1, 1
		}},
		{"a login kicks whom the policy lets be", WrongAnswer, func(_ *History, u *User) {
			u.Steps[8].Kicked = []codec.KickedInstance{{Platform: codec.Android, InstID: 3}}
		}},
		{"a login pushes nobody out, and the policy says so", LostAck, func(_ *History, u *User) { u.App.Policies[0].Preset = "single" }},
		{"refused for no reason", WrongAnswer, func(_ *History, u *User) { u.Steps[8].Outcome, u.Steps[8].Code = Refused, 70009 }},
		{"the user's status is not that of the instances", WrongAnswer, func(_ *History, u *User) { u.Final.Rest.Status = "PushOnline" }},
		{"another device in the console", WrongAnswer, func(_ *History, u *User) { u.Final.Console.Insts[0].DeviceID = "phone-2" }},
		{"found at once", NoticeMissing, func(h *History, _ *User) { h.Found = []Violation{{Kind: NoticeMissing}} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := story()
			c.do(h, h.Users[0])
			if r := Check(h); !slices.Contains(kinds(r), c.want) {
				t.Errorf("found %v, want %s", r.Violations, c.want)
			}
		})
	}
}

// TestFutures: what is allowed, because nobody can know better.
func TestFutures(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(h *History, u *User)
	}{
		{"the story", func(*History, *User) {}},
		{"an event comes again, all the same", func(_ *History, u *User) { u.Receipts = append(u.Receipts, u.Receipts[2:]...) }},
		{"an event is taken at the second try", func(_ *History, u *User) {
			first := u.Receipts[4]
			first.Accepted = false
			u.Receipts = slices.Insert(u.Receipts, 4, first)
		}},
		{"a login was cut off and took place", func(_ *History, u *User) {
			u.Steps[1].Outcome, u.Steps[1].InstID = Unknown, 0
			u.Steps = slices.Delete(u.Steps, 2, 3)
			u.Steps[2].SigS, u.Steps[2].Ticket = 1, false // no ticket came
		}},
		{"a login was cut off and did not take place", func(_ *History, u *User) {
			u.Steps = slices.Insert(u.Steps, 3, Step{Kind: Login, Dev: tab, FromMS: 9990, ToMS: 10_010, Outcome: Unknown, SigS: 1})
		}},
		{"a kick was cut off and took place", func(_ *History, u *User) { u.Steps[5].Outcome = Unknown }},
		{"a kick was cut off and did not take place", func(_ *History, u *User) {
			u.Steps = slices.Insert(u.Steps, 3, Step{Kind: Kick, FromMS: 9990, ToMS: 10_010, Outcome: Unknown})
		}},
		{"a deletion was cut off and did not take place", func(_ *History, u *User) {
			u.Steps = slices.Insert(u.Steps, 3, Step{Kind: Delete, FromMS: 9990, ToMS: 10_010, Outcome: Unknown})
		}},
		{"a logout was cut off and did not take place", func(_ *History, u *User) {
			u.Steps = slices.Insert(u.Steps, 3, Step{Kind: Logout, Dev: phone, FromMS: 9990, ToMS: 10_010, Outcome: Unknown})
		}},
		{"a link was lost and the server was killed before it told", func(_ *History, u *User) {
			u.Steps = slices.Insert(u.Steps, 3, Step{Kind: Drop, Dev: phone, FromMS: 9990, ToMS: 9990, Outcome: Done})
		}},
		{"a link was lost and the server told at once", func(_ *History, u *User) {
			u.Steps = slices.Insert(u.Steps, 3, Step{Kind: Drop, Dev: phone, FromMS: 9990, ToMS: 9990, Outcome: Done})
			u.Receipts[2], u.Receipts[3] = u.Receipts[3], u.Receipts[2]
			u.Receipts[2].Event.TimeMS = 9991
			renumber(u)
			u.Steps[5].Seen.Insts = []Seen{{1, "Android", "PushOnline", ""}, {2, "Web", "Online", ""}}
		}},
		{"a query that overlaps the Disconnect sees either", func(_ *History, u *User) {
			s := Step{Kind: Look, Life: 1, FromMS: 12_199, ToMS: 12_201, Outcome: Done, Seen: Reading{Known: true, Status: "Online"}}
			s.Seen.Insts = []Seen{{1, "Android", "PushOnline", ""}, {2, "Web", "Online", ""}}
			u.Steps = slices.Insert(u.Steps, 5, s)
		}},
		{"a policy that was being changed", func(_ *History, u *User) {
			u.App.Policies = append(u.App.Policies, PolicyChange{Policy: Policy{"single", 1}, FromMS: 1050, ToMS: 1150, Outcome: Unknown},
				PolicyChange{Policy: Policy{"dual", 1}, FromMS: 1160, ToMS: 1170, Outcome: Done})
		}},
		{"the run breaks off before all events have arrived", func(_ *History, u *User) {
			u.Receipts, u.Final = u.Receipts[:3], nil
		}},
		{"the account is deleted at the end", func(_ *History, u *User) {
			u.Steps = append(u.Steps, Step{Kind: Delete, Life: 1, FromMS: 15_000, ToMS: 15_002, Outcome: Done})
			tell(u, 15_001, "Logout", "Unregister", "RESTAPI", 3, "Android")
			u.Final = &Final{}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := story()
			c.do(h, h.Users[0])
			if r := Check(h); len(r.Violations) > 0 {
				t.Errorf("found %v", r.Violations)
			}
		})
	}
}

// TestCounts: what the report says of a run in which all was right.
func TestCounts(t *testing.T) {
	h := story()
	u := h.Users[0]
	u.Receipts = append(u.Receipts, u.Receipts[8])
	u.Steps[5].Outcome = Unknown
	r := Check(h)
	if r.Acks != 5 || r.Unknown != 1 || r.Events != 9 || r.Repeats != 1 || len(r.Violations) > 0 {
		t.Errorf("%+v", r)
	}
}
