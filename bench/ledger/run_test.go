package ledger

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/bench"
)

func TestOptions(t *testing.T) {
	for _, o := range []Options{{}, {Server: "x", Kills: -1}, {Server: "x", Users: MaxUsers + 1}, {Server: "x", Grace: -1}} {
		if _, err := Run(context.Background(), o); !errors.Is(err, bench.ErrOptions) {
			t.Errorf("%+v: %v", o, err)
		}
	}
}

// TestMemory plays against the real server with durability memory. As long as
// nobody kills it, nothing may be wrong; once it was killed, the ledger must find
// what it has lost: a test that could not fail would prove nothing.
func TestMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("builds and starts the server")
	}
	dir := t.TempDir()
	server := filepath.Join(dir, "rollcall")
	if out, err := exec.Command("go", "build", "-o", server, "github.com/rollcall-im/rollcall/cmd/rollcall").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	o := Options{Server: server, Seed: 1, Users: 12, Apps: 2, Durability: "memory", Calm: 20 * time.Millisecond, Acks: 200, Grace: time.Second}

	t.Run("alive", func(t *testing.T) {
		o := o
		o.Dir = filepath.Join(dir, "alive")
		r, err := Run(context.Background(), o)
		if err != nil || !r.OK || r.Ledger.Acks < 150 || r.Ledger.Events < 100 || r.Ledger.Kills != 0 {
			t.Errorf("%v\n%s", err, r.Summary())
		}
	})
	t.Run("killed", func(t *testing.T) {
		o := o
		o.Dir, o.Kills, o.SettleTimeout = filepath.Join(dir, "killed"), 2, time.Second
		r, err := Run(context.Background(), o)
		if err != nil {
			t.Fatal(err)
		}
		if r.OK || r.Ledger.Kills != 2 || r.Errors[LostSetting] == 0 || r.Errors[SeqBackwards]+r.Errors[LostAck]+r.Errors[MissingEvent] == 0 {
			t.Errorf("a server that keeps nothing passed\n%s", r.Summary())
		}
	})
}
