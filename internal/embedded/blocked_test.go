package embedded

import (
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// TestLoginsBlocked: while an app's logins are blocked they are told to come
// back, and nothing else of it, nor any other app, is affected.
func TestLoginsBlocked(t *testing.T) {
	var blocked uint32
	set := metrics.NewSet()
	d, err := New(Options{Metrics: set, Shards: 4, LoginsBlocked: func(app uint32) bool { return app == blocked }})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for app := uint32(1); app <= 2; app++ {
		d.UpdateApp(&directory.UpdateAppOp{SDKAppID: app, Create: true, Mutate: func(*directory.App) error { return nil }, Done: func(op *directory.UpdateAppOp) {
			if op.Err != nil {
				t.Fatal(op.Err)
			}
		}})
	}
	login := func(app uint32) directory.LoginOp {
		op := directory.LoginOp{Key: presence.Key{App: app, UserID: "u"}, Login: presence.Login{
			Device: presence.Device{Platform: presence.Android, ID: "d"},
			Link:   presence.Link{Node: 1, ID: presence.MakeLinkID(0, app, 1)}, Cred: presence.Credential{SigTimeS: 1}, NowMS: 1000,
		}}
		told := 0
		op.Done = func(*directory.LoginOp) { told++ }
		d.Login(&op)
		if told != 1 {
			t.Fatalf("told %d times", told)
		}
		return op
	}
	if op := login(1); op.Code != presence.CodeOK {
		t.Fatalf("a login that nothing blocks: code %d", op.Code)
	}
	blocked = 1
	if op := login(1); op.Code != directory.CodeUnavailable || op.RetryAfterMS != defaultRetryAfter.Milliseconds() || op.Text != "the webhook outbox is full" {
		t.Errorf("blocked: code %d, retry after %d ms, %q", op.Code, op.RetryAfterMS, op.Text)
	}
	if op := login(2); op.Code != presence.CodeOK {
		t.Errorf("another app: code %d", op.Code)
	}
	leave := directory.LeaveOp{Key: presence.Key{App: 1, UserID: "u"}, Platform: presence.Android, Node: 1, Link: presence.MakeLinkID(0, 1, 1), Reason: directory.LeaveLogout, NowMS: 2000}
	d.Leave(&leave)
	if !leave.Changed {
		t.Error("a blocked app's users cannot leave")
	}
	blocked = 0
	if op := login(1); op.Code != presence.CodeOK {
		t.Errorf("unblocked: code %d", op.Code)
	}
	if n := set.Counter("rollcall_directory_logins_blocked_total").Get(); n != 1 {
		t.Errorf("%d logins counted as blocked, want 1", n)
	}
}
