package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// Any byte stream, cut anywhere, gives answers or a counted close: never a
// panic, never more held than a frame, nothing after the last frame, and at the
// end a directory that was told of every end.
func FuzzStream(f *testing.F) {
	in := loginFrame(activeLogin("alice", codec.Android, "d1"))
	resume := activeLogin("alice", codec.Android, "d1")
	resume.Resume, resume.Ticket = true, goodTicket(1)
	optional := append(codec.AppendHeader(nil, 40, codec.FlagOptional, 300), make([]byte, 300)...)
	for _, seed := range [][]byte{
		in, heartbeat, logout, loginFrame(resume),
		bytes.Join([][]byte{in, heartbeat, logout}, nil),
		bytes.Join([][]byte{in, optional, heartbeat, in}, nil),
		bytes.Join([][]byte{in, bytes.Repeat(heartbeat, 70)}, nil),
		{1, 0x10, 0xff, 0xff}, {0}, {1, 0x20}, codec.AppendHeader(nil, 40, 0, 65535),
	} {
		for _, hold := range []bool{false, true} {
			f.Add(seed, uint8(7), hold)
			f.Add(seed, uint8(255), hold)
		}
	}
	set := metrics.NewSet() // making one takes most of the time
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8, hold bool) {
		r := newRig(t, func(o *Options) { o.Metrics = set })
		before := closes(r)
		r.dir.hold = hold
		k := r.open()
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), int(cut)+1)
			k.send(rest[:n]...)
			rest = rest[n:]
			checkHeld(t, k)
		}
		r.dir.hold = false
		r.dir.release()
		r.run()
		frames := checkAnswers(t, k.conn.out)
		if k.s.State() == "draining" && (!k.conn.fin || frames == 0) {
			t.Fatal("the link ends without a frame that says why, or without FIN")
		}
		for range 3 { // leave or drain, then silence, whatever the state
			r.clk.Advance(401 * time.Second)
			r.run()
		}
		if r.core.Links() != 0 {
			t.Fatalf("the link is still %s", k.s.State())
		}
		if n := closes(r) - before; n != 1 {
			t.Fatalf("%d closes counted for one link", n)
		}
		checkLeaves(t, r)
	})
}

// checkHeld checks what the link left unread: less than a frame before the login,
// less than a header after it, and nothing at the end.
func checkHeld(t *testing.T, k *link) {
	t.Helper()
	limit := map[string]int{"new": codec.MaxFrameBeforeLogin, "deciding": codec.HeaderSize, "online": codec.HeaderSize}[k.s.State()]
	if len(k.in) >= max(limit, 1) {
		t.Fatalf("%d bytes held in state %s", len(k.in), k.s.State())
	}
}

// checkAnswers checks that out is whole frames of the server's, a closing one last.
func checkAnswers(t *testing.T, out []byte) (frames int) {
	t.Helper()
	for last := false; len(out) > 0; frames++ {
		f, n, err := codec.Next(out, codec.MaxFrame)
		if err != nil || n == 0 {
			t.Fatalf("answer %x: %v", out, err)
		}
		if last {
			t.Fatalf("%v after the last frame", f.Type)
		}
		info, ok := f.Type.Info()
		if !ok || info.FromClient {
			t.Fatalf("answered with %v", f.Type)
		}
		last = info.Last
		out = out[n:]
	}
	return frames
}

func closes(r *rig) (sum uint64) {
	for _, c := range r.core.m.closes {
		sum += c.Get()
	}
	return sum
}

// checkLeaves checks that the link's only login, if there was one, has its leave.
func checkLeaves(t *testing.T, r *rig) {
	t.Helper()
	if len(r.dir.logins) != len(r.dir.leaves) || len(r.dir.logins) > 1 {
		t.Fatalf("the directory was asked %q", r.dir.log)
	}
}
