package presence

import (
	"fmt"
	"testing"
)

// TestSettle: orphans are disconnected, each as its platform is when a link is
// lost, with the retention of the link's last sign of life; nobody else changes.
func TestSettle(t *testing.T) {
	const lost, now, kept = 1000, 50_000, 600_000
	in := func(id uint32, p Platform, s Status, link LinkID, until int64) Instance {
		return Instance{InstID: id, Status: s, Device: Device{Platform: p, ID: fmt.Sprint(id)}, LoginMS: int64(id), Link: Link{Node: 1, ID: link}, PushUntilMS: until}
	}
	u := User{Registered: true, Seq: 7, EventSeq: 3, LastSeenMS: 500, CustomStatus: "here", Instances: []Instance{
		in(1, Android, Online, 0, lost), in(2, Windows, Online, 0, lost), in(3, IPhone, Online, MakeLinkID(0, 1, 1), 0), in(4, IPad, PushOnline, 0, 70_000), in(5, Web, Online, 0, lost),
	}}
	k := Key{App: 1, UserID: "alice"}
	if u.Orphans() != 3 {
		t.Fatalf("%d orphans", u.Orphans())
	}
	n, out := u.Settle(k, &Settings{PushRetentionMS: kept}, now, nil)
	var got []string
	for _, tr := range out {
		got = append(got, fmt.Sprint(tr.Seq, tr.EventSeq, tr.Inst.InstID, tr.Action, tr.Reason, tr.Before, tr.Inst.Status, tr.Inst.PushUntilMS, tr.TimeMS, tr.UserStatus))
	}
	want := []string{
		"8 4 1 Disconnect LinkClose Online PushOnline 601000 50000 Online",
		"9 5 2 Disconnect LinkClose Online Offline 0 50000 Online",
		"10 6 5 Disconnect LinkClose Online Offline 0 50000 Online",
	}
	if n != 3 || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("settled %d:\n got %q\nwant %q", n, got, want)
	}
	if len(u.Instances) != 3 || u.Instances[0].InstID != 1 || u.Instances[1].Status != Online || u.Instances[2].PushUntilMS != 70_000 || u.LastSeenMS != lost || u.CustomStatus != "here" {
		t.Errorf("left: %+v", u)
	}
	if n, out := u.Settle(k, &Settings{PushRetentionMS: kept}, now, nil); n != 0 || len(out) != 0 || u.Seq != 10 {
		t.Errorf("settled %d again: %v", n, out)
	}
}
