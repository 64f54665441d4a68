package tlslink

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// poolRig is a pool with links that come one after the other.
type poolRig struct {
	t     *testing.T
	set   *metrics.Set
	pool  *Pool
	s     *Server
	hello []byte
	rigs  []*rig
}

func newPoolRig(t *testing.T, o Options) *poolRig {
	p := &poolRig{t: t, set: metrics.NewSet(), hello: clientHello(t)}
	o.Metrics = p.set
	p.pool = mustPool(t, o)
	p.s = p.pool.Server(Config(certificate("ecdsa")))
	return p
}

// stuck returns a link whose client sends its ClientHello and nothing more.
func (p *poolRig) stuck() *rig {
	r := newRig(p.t, p.s)
	p.rigs = append(p.rigs, r)
	r.do(func() { r.arrive(p.hello) })
	synctest.Wait()
	return r
}

// honest lets a client connect in the background and returns where its result comes.
func (p *poolRig) honest() chan error {
	r := newRig(p.t, p.s)
	p.rigs = append(p.rigs, r)
	done := make(chan error, 1)
	go func() {
		c := r.client(clientConfig(tls.VersionTLS13))
		_, err := c.Write([]byte("x"))
		if err == nil {
			_, err = io.ReadFull(c, make([]byte, 1))
		}
		done <- err
	}()
	synctest.Wait()
	return done
}

func (p *poolRig) stop() {
	for _, r := range p.rigs {
		r.stop()
	}
	synctest.Wait()
	if running, queued := p.pool.counts(); running != 0 || queued != 0 {
		p.t.Errorf("at the end %d handshakes run, %d wait", running, queued)
	}
	if n := len(p.pool.computing); n > 0 {
		p.t.Errorf("at the end %d compute", n)
	}
}

func (p *poolRig) wantCounts(running, queued int) {
	p.t.Helper()
	if r, q := p.pool.counts(); r != running || q != queued {
		p.t.Errorf("%d handshakes run and %d wait, want %d and %d", r, q, running, queued)
	}
}

func (p *poolRig) wantFailures(reason string, want uint64) {
	p.t.Helper()
	if got := p.set.Counter(`rollcall_tls_failures_total{reason="` + reason + `"}`).Get(); got != want {
		p.t.Errorf("%s: counted %d, want %d", reason, got, want)
	}
}

// ended is how a link ended.
func (r *rig) endedWith() (err error) {
	r.do(func() { err = r.ended })
	return err
}

// Clients that are slow do not compute: with one place to compute and many of
// them, another client is served.
func TestSlowClientsDoNotCompute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolRig(t, Options{Compute: 1})
		defer p.stop()
		for range 20 {
			p.stuck()
		}
		p.wantCounts(20, 0)
		if err := <-p.honest(); err != nil {
			t.Error(err)
		}
		p.wantCounts(20, 0)
	})
}

// A handshake has 5 s from its ClientHello on, then its goroutine ends.
func TestTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolRig(t, Options{MaxHandshakes: 1})
		defer p.stop()
		running := p.stuck()
		queued := p.stuck()
		p.wantCounts(1, 1)
		time.Sleep(5*time.Second - time.Nanosecond)
		if running.endedWith() != nil || queued.endedWith() != nil {
			t.Error("a link ended before its time")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		for _, r := range []*rig{running, queued} {
			if err := r.endedWith(); !errors.Is(err, ErrTimeout) {
				t.Errorf("the link ended with %v, want the time-out", err)
			}
		}
		p.wantFailures("timeout", 2)
		p.wantCounts(0, 0)
	})
}

// Time before the ClientHello is complete is not counted, nor is there a goroutine.
func TestSlowHello(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolRig(t, Options{})
		defer p.stop()
		r := newRig(t, p.s)
		p.rigs = append(p.rigs, r)
		for i := range p.hello[:len(p.hello)-1] {
			r.do(func() { r.arrive(p.hello[i : i+1]) })
		}
		time.Sleep(time.Minute)
		p.wantCounts(0, 0)
		if r.endedWith() != nil {
			t.Error("the link ended")
		}
		r.do(func() { r.arrive(p.hello[len(p.hello)-1:]) })
		synctest.Wait()
		p.wantCounts(1, 0)
	})
}

// Beyond the bounds: queued, then refused; N-1, N, N+1.
func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolRig(t, Options{MaxHandshakes: 2, MaxQueued: 3})
		defer p.stop()
		for range 5 {
			if err := p.stuck().endedWith(); err != nil {
				t.Errorf("ended with %v", err)
			}
		}
		p.wantCounts(2, 3)
		if err := p.stuck().endedWith(); !errors.Is(err, ErrBusy) {
			t.Errorf("ended with %v, want busy", err)
		}
		p.wantFailures("busy", 1)
		p.rigs[3].do(p.rigs[3].link.Drop) // one that waits goes: there is room again
		p.wantCounts(2, 2)
		if err := p.stuck().endedWith(); err != nil {
			t.Errorf("ended with %v", err)
		}
		p.wantFailures("lost", 1)
	})
}

// One that waits for its client makes room for a newcomer, but only after a
// patience that no honest client needs, and only if there is no other room.
func TestEviction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolRig(t, Options{MaxHandshakes: 2, Patience: time.Second})
		defer p.stop()
		first := p.stuck()
		time.Sleep(time.Millisecond)
		second := p.stuck()
		time.Sleep(time.Second - 2*time.Millisecond)
		early := p.honest() // nobody has waited long enough
		p.wantCounts(2, 1)
		time.Sleep(time.Millisecond)
		late := p.honest() // now first has
		if err := first.endedWith(); !errors.Is(err, ErrEvicted) {
			t.Errorf("the slowest ended with %v, want evicted", err)
		}
		for i, done := range []chan error{early, late} {
			if err := <-done; err != nil {
				t.Errorf("honest client %d: %v", i, err)
			}
		}
		if err := second.endedWith(); err != nil {
			t.Errorf("the second ended with %v", err)
		}
		p.wantFailures("evicted", 1)
	})
}

// The queue is served oldest first, and newest first when it is overrun.
func TestQueueOrder(t *testing.T) {
	for _, tt := range []struct {
		waited time.Duration
		want   string
	}{{2500 * time.Millisecond, "abc"}, {2501 * time.Millisecond, "cba"}} {
		t.Run(tt.waited.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				pool := mustPool(t, Options{MaxHandshakes: 1})
				pool.running = 1
				names := map[*handshake]string{}
				for _, name := range []string{"a", "b", "c"} {
					l := pool.Server(Config(certificate("ecdsa"))).Link(nil)
					l.conn = tls.Server((*wire)(l), l.server.config)
					h := newHandshake(l, nil)
					names[h] = name
					if err := pool.start(h); err != nil {
						t.Fatal(err)
					}
					defer h.deadline.Stop()
				}
				time.Sleep(tt.waited)
				got := ""
				for range 3 {
					got += names[pool.next()]
				}
				if got != tt.want || pool.next() != nil || pool.running != 0 {
					t.Errorf("served %s, %d run; want %s and none", got, pool.running, tt.want)
				}
			})
		})
	}
}

// A link that is dropped in the midst of its handshake leaves nothing behind:
// while it waits for its client, for its turn to compute, for a goroutine.
func TestDropInHandshake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolRig(t, Options{MaxHandshakes: 2, Compute: 1})
		defer p.stop()
		waiting := p.stuck()
		p.pool.computing <- struct{}{} // somebody else computes
		turn := p.stuck()
		queued := p.stuck()
		p.wantCounts(2, 1)
		for _, r := range []*rig{queued, turn, waiting} {
			r.do(r.link.Drop)
			synctest.Wait()
		}
		<-p.pool.computing
		p.wantCounts(0, 0)
		p.wantFailures("lost", 3)
	})
}

// A client that sends on and on while its handshake waits is cut off: N, N+1.
func TestFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolRig(t, Options{MaxHandshakes: 1})
		defer p.stop()
		p.stuck()
		r := p.stuck()
		r.do(func() { r.arrive(make([]byte, maxAhead-len(p.hello))) })
		if err := r.endedWith(); err != nil {
			t.Fatal(err)
		}
		r.do(func() { r.arrive([]byte{0}) })
		if err := r.endedWith(); !errors.Is(err, ErrFlood) {
			t.Errorf("ended with %v, want flood", err)
		}
		p.wantFailures("flood", 1)
	})
}

// A storm of honest clients through narrow bounds: all are served.
func TestStorm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPoolRig(t, Options{MaxHandshakes: 3, Compute: 2})
		defer p.stop()
		var all []chan error
		for range 50 {
			all = append(all, p.honest())
		}
		for i, done := range all {
			if err := <-done; err != nil {
				t.Errorf("client %d: %v", i, err)
			}
		}
	})
}

func TestOptions(t *testing.T) {
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{Timeout: time.Hour + 1}, "tlslink: Timeout is 1h0m0.000000001s, want 1 ms to 1 h"},
		{Options{Patience: -1}, "tlslink: Patience is -1ns, want 1 ms to 1 h"},
		{Options{Compute: -1}, "tlslink: Compute is -1, want 1 to 1048576"},
		{Options{MaxHandshakes: 1<<20 + 1}, "tlslink: MaxHandshakes is 1048577, want 1 to 1048576"},
		{Options{MaxQueued: -2}, "tlslink: MaxQueued is -2, want 1 to 1048576"},
		{Options{}, "<nil>"},
	} {
		if _, err := NewPool(tt.o); fmt.Sprint(err) != tt.want {
			t.Errorf("%v, want %s", err, tt.want)
		}
	}
}
