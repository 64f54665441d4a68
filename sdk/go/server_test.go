package rollcall

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-im/rollcall/codec"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fixture is a client in a synctest bubble, and the server's side of its links.
// Time is virtual: it passes only when everybody waits.
type fixture struct {
	t      *testing.T
	start  time.Time
	opts   Options
	client *Client
	dials  chan net.Conn // the server's ends
	ran    chan struct{} // closed when Run has returned
	runErr error

	mu      sync.Mutex
	dialErr error // for the next dials
	seen    seen
}

// seen is what a client did.
type seen struct {
	dialed   []string        // addresses, in order
	ceilings []time.Duration // what jitter was asked for
	statuses []StatusChange
	logins   []Login
	forced   []*ForcedOfflineError
}

// saw waits until the client does nothing more by itself and returns what it did.
func (fx *fixture) saw() seen {
	synctest.Wait()
	fx.mu.Lock()
	defer fx.mu.Unlock()
	return fx.seen
}

// run runs f with a fixture in a bubble.
func run(t *testing.T, f func(*testing.T, *fixture)) {
	synctest.Test(t, func(t *testing.T) {
		fx := &fixture{t: t, start: time.Now(), dials: make(chan net.Conn, 16), ran: make(chan struct{})}
		fx.opts = Options{
			Addr: "a:7700", SDKAppID: 1400000000, UserID: "alice", UserSig: StaticUserSig("sig"),
			Platform: codec.Android, DeviceID: "d1", SDKVersion: "1.0", DeviceModel: "Pixel",
			Dial: fx.dial, Jitter: fx.jitter,
			OnStatus:        func(s StatusChange) { fx.locked(func() { fx.seen.statuses = append(fx.seen.statuses, s) }) },
			OnLogin:         func(l Login) { fx.locked(func() { fx.seen.logins = append(fx.seen.logins, l) }) },
			OnForcedOffline: func(e *ForcedOfflineError) { fx.locked(func() { fx.seen.forced = append(fx.seen.forced, e) }) },
		}
		f(t, fx)
	})
}

func (fx *fixture) locked(f func()) {
	fx.mu.Lock()
	defer fx.mu.Unlock()
	f()
}

// begin makes the client and runs it; it is closed at the end of the test.
func (fx *fixture) begin(ctx context.Context) {
	fx.t.Helper()
	var err error
	if fx.client, err = New(fx.opts); err != nil {
		fx.t.Fatal(err)
	}
	go func() {
		defer close(fx.ran)
		fx.runErr = fx.client.Run(ctx)
	}()
	fx.t.Cleanup(func() {
		fx.client.Close()
		<-fx.ran
	})
}

func (fx *fixture) dial(_ context.Context, network, addr string) (net.Conn, error) {
	fx.mu.Lock()
	defer fx.mu.Unlock()
	fx.seen.dialed = append(fx.seen.dialed, addr)
	if network != "tcp" {
		return nil, errors.New("network " + network)
	}
	if fx.dialErr != nil {
		return nil, fx.dialErr
	}
	ours, theirs := net.Pipe()
	fx.dials <- theirs
	return ours, nil
}

// jitter waits the whole of what it may, and notes how much that is.
func (fx *fixture) jitter(max time.Duration) time.Duration {
	fx.locked(func() { fx.seen.ceilings = append(fx.seen.ceilings, max) })
	return max
}

// wantElapsed checks how much virtual time has passed since the test began.
func (fx *fixture) wantElapsed(want time.Duration) {
	fx.t.Helper()
	if got := time.Since(fx.start); got != want {
		fx.t.Fatalf("%v have passed, want %v", got, want)
	}
}

// wait waits for Run to return.
func (fx *fixture) wait() error {
	<-fx.ran
	return fx.runErr
}

// peer is the server's side of one link.
type peer struct {
	t    *testing.T
	conn net.Conn
	buf  []byte
}

// patience is how long the server's side waits, in virtual time, before a test fails.
const patience = 3 * time.Hour

// accept waits for the client to connect.
func (fx *fixture) accept() *peer {
	fx.t.Helper()
	select {
	case conn := <-fx.dials:
		fx.t.Cleanup(func() { conn.Close() })
		conn.SetReadDeadline(time.Now().Add(patience))
		return &peer{t: fx.t, conn: conn}
	case <-time.After(patience):
		fx.t.Fatalf("the client does not connect: %+v", fx.saw().statuses)
		return nil
	}
}

// next reads one frame.
func (p *peer) next() codec.Frame {
	p.t.Helper()
	for {
		f, n, err := codec.Next(p.buf, codec.MaxFrame)
		if err != nil {
			p.t.Fatal(err)
		}
		if n > 0 {
			p.buf = p.buf[n:]
			return f
		}
		b := make([]byte, 512)
		n, err = p.conn.Read(b)
		if err != nil {
			p.t.Fatalf("the client sends nothing more: %v", err)
		}
		p.buf = append(p.buf, b[:n]...)
	}
}

func (p *peer) expect(want codec.Type) {
	p.t.Helper()
	if f := p.next(); f.Type != want {
		p.t.Fatalf("the client sent %v, want %v", f.Type, want)
	}
}

// gone waits for the client to close the link.
func (p *peer) gone() {
	p.t.Helper()
	if n, err := p.conn.Read(make([]byte, 1)); err != io.EOF {
		p.t.Fatalf("read %d bytes, %v, want the client to close the link", n, err)
	}
}

func (p *peer) send(b []byte) {
	p.t.Helper()
	if _, err := p.conn.Write(b); err != nil {
		p.t.Fatalf("the client does not read: %v", err)
	}
}

// wantLogin reads the login.
func (p *peer) wantLogin(resume bool, ticket string) codec.Login {
	p.t.Helper()
	f := p.next()
	var m codec.Login
	if err := m.Unmarshal(f.Body); f.Type != codec.TypeLogin || err != nil {
		p.t.Fatalf("the client sent %v, %v, want a login", f.Type, err)
	}
	if m.Resume != resume || string(m.Ticket) != ticket {
		p.t.Fatalf("login with resume %v and ticket %q, want %v and %q", m.Resume, m.Ticket, resume, ticket)
	}
	return m
}

var okAnswer = codec.LoginOK{InstID: 7, Ticket: []byte("t1"), ServerTimeMS: 1_800_000_000_123, HeartbeatIntervalMS: 120_000, SilenceTimeoutMS: 400_000}

func (p *peer) ok() { p.t.Helper(); p.send(codec.AppendLoginOK(nil, &okAnswer)) }

// welcome accepts a link and lets its login in.
func (fx *fixture) welcome(resume bool, ticket string) *peer {
	fx.t.Helper()
	p := fx.accept()
	p.wantLogin(resume, ticket)
	p.ok()
	return p
}
