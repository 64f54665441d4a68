package engine

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
)

// raceEnabled is set by race_test.go.
var raceEnabled bool

// quietConn takes everything and keeps nothing.
type quietConn struct{ fakeConn }

func (c *quietConn) Write(p []byte) (int, error) { return len(p), nil }

// quietDriver does nothing.
type quietDriver struct{ fakeDriver }

func (*quietDriver) CloseWrite(Conn)  {}
func (*quietDriver) Close(Conn)       {}
func (*quietDriver) Unread(Conn) bool { return false }
func (*quietDriver) ForgetAddr(Conn)  {}

// yesDirectory says yes at once and keeps no record.
type yesDirectory struct{ *fakeDirectory }

func (d yesDirectory) Login(op *directory.LoginOp) {
	op.Decision.Inst.InstID = 1
	op.Done(op)
}

func (d yesDirectory) Leave(op *directory.LeaveOp) { op.Done(op) }

func quietRig(tb testing.TB) *rig {
	r := newRig(tb, func(o *Options) { o.Directory = yesDirectory{newFakeDirectory()} })
	r.loop.Attach(&quietDriver{})
	return r
}

func (r *rig) quietLink() (*Session, *quietConn) {
	c := &quietConn{}
	s, _ := r.loop.Open(c, 0, r.core.Now())
	return s, c
}

// A heartbeat, from the bytes to the answer, allocates nothing, nor does the
// step of the loop that finds nothing due.
func TestHeartbeatAllocatesNothing(t *testing.T) {
	r := quietRig(t)
	s, _ := r.quietLink()
	r.loop.Data(s, loginFrame(activeLogin("alice", codec.Android, "d1")), r.core.Now())
	if s.State() != "online" {
		t.Fatal(s.State())
	}
	now := r.core.Now()
	if n := testing.AllocsPerRun(1000, func() {
		now.MonoMS += 100
		r.loop.Data(s, heartbeat, now)
		r.loop.Run(now)
	}); n != 0 {
		t.Fatalf("%v allocations per heartbeat", n)
	}
}

func BenchmarkHeartbeat(b *testing.B) {
	r := quietRig(b)
	s, _ := r.quietLink()
	now := r.core.Now()
	r.loop.Data(s, loginFrame(activeLogin("alice", codec.Android, "d1")), now)
	b.ReportAllocs()
	for b.Loop() {
		now.MonoMS++
		r.loop.Data(s, heartbeat, now)
	}
}

// BenchmarkLogin is a link's whole life but for sockets and Directory: accept,
// Login with its UserSig check, LoginOK with its ticket, FIN.
func BenchmarkLogin(b *testing.B) {
	r := quietRig(b)
	frames := make([][]byte, 1000)
	for i := range frames {
		m := activeLogin(fmt.Sprintf("user-%011d", i), codec.Android, "0b9f8a66-42a5-4d1e-9f0e-6d1f6a1c2b3d")
		frames[i] = loginFrame(m)
	}
	now := r.core.Now()
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		s, c := r.quietLink()
		r.loop.Data(s, frames[i%len(frames)], now)
		r.takesTurn(s)
		if s.State() != "online" {
			b.Fatal(s.State())
		}
		r.loop.Closed(s, c, errFIN, now)
		i++
	}
}

var errFIN = fmt.Errorf("read: %w", io.EOF)

// BenchmarkNotice is a kick from the Directory's goroutine to the half-close.
func BenchmarkNotice(b *testing.B) {
	r := quietRig(b)
	in := loginFrame(activeLogin("alice", codec.Android, "d1"))
	now := r.core.Now()
	b.ReportAllocs()
	for b.Loop() {
		s, c := r.quietLink()
		r.loop.Data(s, in, now)
		r.takesTurn(s)
		r.core.ForcedOffline([]directory.Notice{{Link: s.ID(), Cause: directory.CauseAnotherLogin}})
		r.loop.Run(now)
		r.loop.Closed(s, c, errFIN, now)
	}
}

// BenchmarkSilence is the cost of a link that falls silent, the login not counted.
func BenchmarkSilence(b *testing.B) {
	const n = 900
	in := loginFrame(activeLogin("alice", codec.Web, "d1"))
	b.ReportAllocs()
	r := quietRig(b)
	for b.Loop() {
		b.StopTimer()
		for range n {
			s, _ := r.quietLink()
			r.loop.Data(s, in, r.core.Now())
			r.takesTurn(s)
		}
		r.clk.Advance(61 * time.Second)
		b.StartTimer()
		r.run()
		if r.core.Links() != 0 {
			b.Fatal(r.core.Links())
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/link")
}
