package embedded

import (
	"fmt"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// discard is a sink that keeps nothing.
type discard struct{}

func (discard) Transitions([]presence.Transition) {}

// benchBed is a bed with users of one Android instance each.
func benchBed(b *testing.B, users int, o Options) (*bed, []string) {
	o.Shards = 1024
	d := newBed(b, o)
	names := make([]string, users)
	for i := range names {
		names[i] = fmt.Sprintf("user%012d", i)
		op := benchLogin(d, names[i])
		d.Login(op)
		if op.Code != presence.CodeOK {
			b.Fatal(op.Code)
		}
	}
	return d, names
}

func benchLogin(d *bed, user string) *directory.LoginOp {
	op := d.loginOp(user, "6f1c2d3e-4a5b-4c6d-8e7f-001122334455", presence.Android)
	op.Done = func(*directory.LoginOp) {}
	return op
}

// A login and the end of its link, all told: two decisions.
func BenchmarkLoginLeave(b *testing.B) {
	for name, sink := range map[string]directory.TransitionSink{"no_sink": nil, "sink": discard{}} {
		b.Run(name, func(b *testing.B) {
			d, users := benchBed(b, 100_000, Options{Sink: discard{}})
			d.opts.Sink = sink
			in := benchLogin(d, users[0])
			out := d.leaveOp(in, directory.LeaveLogout)
			out.Done = nil
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				user := users[i*7919%len(users)]
				in.Key.UserID, out.Key.UserID = user, user
				in.Login.Link.ID++
				out.Link = in.Login.Link.ID
				d.Login(in)
				d.Leave(out)
			}
			if in.Code != presence.CodeOK || !out.Changed {
				b.Fatalf("login %d, leave %t", in.Code, out.Changed)
			}
		})
	}
}

// Many event loops at once.
func BenchmarkLoginLeaveParallel(b *testing.B) {
	d, users := benchBed(b, 100_000, Options{Sink: discard{}})
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		in := benchLogin(d, users[0])
		node := in.Login.Link.ID << 20
		for i := int(node >> 20); pb.Next(); i += 7919 {
			// The directory owns an op until Done, which another goroutine may call.
			in := *in
			answered := make(chan struct{})
			in.Done = func(*directory.LoginOp) { close(answered) }
			in.Key.UserID = users[i%len(users)]
			node++
			in.Login.Link.ID = node
			d.Login(&in)
			out := d.leaveOp(&in, directory.LeaveLogout)
			out.Done = nil
			d.Leave(out)
			<-answered
		}
	})
}

// What one querystate of 500 users costs below HTTP.
func BenchmarkQuery500(b *testing.B) {
	for _, n := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprintf("users=%d", n), func(b *testing.B) {
			if n > 100_000 && testing.Short() {
				b.Skip("a million users")
			}
			d, users := benchBed(b, n, Options{Sink: discard{}})
			op := &directory.QueryOp{App: app, UserIDs: make([]string, 500), Detail: true, Done: func(*directory.QueryOp) {}}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				for k := range op.UserIDs {
					op.UserIDs[k] = users[(i*500+k)*7919%len(users)]
				}
				d.Query(op)
			}
			if op.Users[499].Status != presence.Online {
				b.Fatalf("%+v", op.Users[499])
			}
		})
	}
}

// 20,000 users whose retention ends in the same moment: time per user.
func BenchmarkMassExpiry(b *testing.B) {
	const users = 20_000
	d, names := benchBed(b, users, Options{Sink: discard{}})
	var spent time.Duration
	n := 0
	for b.Loop() {
		for _, user := range names {
			in := benchLogin(d, user)
			d.Login(in)
			out := d.leaveOp(in, directory.LeaveTimeOut)
			out.Done = nil
			d.Leave(out)
		}
		begin := time.Now()
		d.clock.Advance(8 * 24 * time.Hour)
		d.await("all are gone", func() bool { return d.tallied(instancesPushOnline) == 0 })
		spent += time.Since(begin)
		n += users
	}
	b.ReportMetric(float64(spent.Nanoseconds())/float64(n), "ns/user")
	b.ReportMetric(float64(n)/spent.Seconds(), "users/s")
}
