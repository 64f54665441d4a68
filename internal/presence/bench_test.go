package presence

import "testing"

// BenchmarkLoginLeave is the common life: a login, then the link is lost.
func BenchmarkLoginLeave(b *testing.B) {
	k := Key{App: 1400000000, UserID: "user-00000000001"}
	s := Settings{Policy: parsePolicy("triple"), PushRetentionMS: 1000}
	d := Device{Platform: Android, ID: "0f3c7a52-9b1e-4d0a-8d33-6a4f1f2b7c11", SDKVersion: "1.2.3", Model: "Pixel 9"}
	login := Login{Device: d, Link: Link{Node: 1, ID: 1}}
	leave := Leave{Platform: d.Platform, DeviceID: d.ID, Node: 1, Link: 1, Reason: LeaveLinkClosed}
	var u User
	out := make([]Transition, 0, 4)
	b.ReportAllocs()
	for b.Loop() {
		_, out = u.Login(k, &s, &login, out[:0])
		_, out = u.Leave(k, &s, &leave, out)
	}
}

// BenchmarkLoginKicks is two devices that push each other out.
func BenchmarkLoginKicks(b *testing.B) {
	k := Key{App: 1400000000, UserID: "user-00000000001"}
	s := Settings{Policy: parsePolicy("single")}
	logins := []Login{
		{Device: Device{Platform: Android, ID: "a"}, Link: Link{Node: 1, ID: 1}},
		{Device: Device{Platform: IPad, ID: "b"}, Link: Link{Node: 1, ID: 2}},
	}
	var u User
	out := make([]Transition, 0, 4)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		_, out = u.Login(k, &s, &logins[i&1], out[:0])
	}
}

func TestLoginLeaveAllocateNothing(t *testing.T) {
	s := Settings{Policy: parsePolicy("triple"), PushRetentionMS: 1000}
	login := Login{Device: Device{Platform: Android, ID: "a"}, Link: Link{Node: 1, ID: 1}}
	leave := Leave{Platform: Android, DeviceID: "a", Node: 1, Link: 1, Reason: LeaveLinkClosed}
	var u User
	out := make([]Transition, 0, 4)
	n := testing.AllocsPerRun(100, func() {
		_, out = u.Login(Key{}, &s, &login, out[:0])
		_, out = u.Leave(Key{}, &s, &leave, out)
	})
	if n != 0 {
		t.Errorf("login and leave without kicks allocate %v times", n)
	}
}
