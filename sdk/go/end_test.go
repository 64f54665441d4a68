package rollcall

import (
	"context"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// logout calls Logout on its own goroutine.
func (fx *fixture) logout(ctx context.Context) chan error {
	done := make(chan error, 1)
	go func() { done <- fx.client.Logout(ctx) }()
	return done
}

func TestLogout(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.welcome(false, "")
		done := fx.logout(t.Context())
		p.expect(codec.TypeLogout)
		synctest.Wait()
		select {
		case err := <-done:
			t.Fatalf("Logout returned %v before the server answered", err)
		default:
		}
		p.send(codec.AppendEmpty(nil, codec.TypeLogoutOK))
		p.gone()
		if err := <-done; err != nil {
			t.Errorf("Logout returned %v", err)
		}
		if err := fx.wait(); err != nil {
			t.Errorf("Run returned %v", err)
		}
		if err := fx.client.Logout(t.Context()); err != nil {
			t.Errorf("another Logout returned %v", err)
		}
	})
}

// Two callers, one logout.
func TestLogoutTwice(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.welcome(false, "")
		a, b := fx.logout(t.Context()), fx.logout(t.Context())
		p.expect(codec.TypeLogout)
		p.send(codec.AppendEmpty(nil, codec.TypeLogoutOK))
		p.gone()
		if errA, errB := <-a, <-b; errA != nil || errB != nil {
			t.Errorf("Logout returned %v and %v", errA, errB)
		}
	})
}

// A logout is the last frame: no heartbeat follows it, nor resets its time.
func TestLogoutWithoutAnswer(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.accept()
		p.wantLogin(false, "")
		p.send(codec.AppendLoginOK(nil, &codec.LoginOK{InstID: 1, Ticket: []byte("t1"), HeartbeatIntervalMS: 2000}))
		p.expect(codec.TypeHeartbeat)
		done := fx.logout(t.Context())
		p.expect(codec.TypeLogout)
		p.send(codec.AppendEmpty(nil, codec.TypeHeartbeatOK)) // the answer to the heartbeat
		p.gone()
		fx.wantElapsed(2*time.Second + DefaultAnswerTimeout)
		p = fx.welcome(true, "t1") // and again
		p.expect(codec.TypeLogout)
		p.send(codec.AppendEmpty(nil, codec.TypeLogoutOK))
		if err := <-done; err != nil {
			t.Errorf("Logout returned %v", err)
		}
	})
}

// The link was lost before the answer: had the logout been done?
func TestLogoutLost(t *testing.T) {
	lose := func(fx *fixture) (done chan error, p *peer) {
		fx.begin(fx.t.Context())
		p = fx.welcome(false, "")
		done = fx.logout(fx.t.Context())
		p.expect(codec.TypeLogout)
		p.conn.Close()
		p = fx.accept()
		p.wantLogin(true, "t1")
		return done, p
	}
	check := func(fx *fixture, done chan error) {
		if err := <-done; err != nil {
			fx.t.Errorf("Logout returned %v", err)
		}
		if err := fx.wait(); err != nil {
			fx.t.Errorf("Run returned %v", err)
		}
	}
	run(t, func(t *testing.T, fx *fixture) { // no
		done, p := lose(fx)
		p.ok()
		p.expect(codec.TypeLogout)
		p.send(codec.AppendEmpty(nil, codec.TypeLogoutOK))
		check(fx, done)
	})
	run(t, func(t *testing.T, fx *fixture) { // yes, and another device has the place
		done, p := lose(fx)
		p.send(codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeKickedOffline}))
		check(fx, done)
	})
	run(t, func(t *testing.T, fx *fixture) { // nobody can tell
		done, p := lose(fx)
		p.send(codec.AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeSigExpired}))
		var refused *RefusedError
		if err := <-done; !errors.As(err, &refused) {
			t.Errorf("Logout returned %v", err)
		}
	})
}

func TestLogoutGivenUp(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		p := fx.welcome(false, "")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		done := fx.logout(ctx)
		p.expect(codec.TypeLogout)
		if err := <-done; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Logout returned %v", err)
		}
		p.conn.Close()
		p = fx.welcome(true, "t1")
		p.expect(codec.TypeHeartbeat) // nobody wants the logout any more
		done = fx.logout(t.Context()) // until somebody does
		p.expect(codec.TypeLogout)
		p.send(codec.AppendEmpty(nil, codec.TypeLogoutOK))
		if err := <-done; err != nil {
			t.Errorf("Logout returned %v", err)
		}
	})
}

func TestLogoutWithoutLink(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.begin(t.Context())
		done := fx.logout(t.Context()) // not logged in yet
		p := fx.accept()
		p.wantLogin(false, "")
		p.ok()
		p.expect(codec.TypeLogout)
		p.send(codec.AppendEmpty(nil, codec.TypeLogoutOK))
		if err := <-done; err != nil {
			t.Errorf("Logout returned %v", err)
		}
	})
	run(t, func(t *testing.T, fx *fixture) {
		fx.dialErr = errors.New("no route")
		fx.begin(t.Context())
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := <-fx.logout(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Logout returned %v", err)
		}
		done := fx.logout(t.Context())
		fx.client.Close()
		if err := <-done; err != ErrClosed {
			t.Errorf("Logout returned %v after Close", err)
		}
	})
}

// Close and the context end Run whatever it is doing.
func TestEndAnywhere(t *testing.T) {
	cause := errors.New("enough")
	states := map[string]func(*fixture){
		"before anything": func(*fixture) {},
		"logging in":      func(fx *fixture) { fx.accept().wantLogin(false, "") },
		"not even read":   func(fx *fixture) { fx.accept() },
		"online":          func(fx *fixture) { fx.welcome(false, "") },
		"heartbeat sent":  func(fx *fixture) { fx.welcome(false, "").expect(codec.TypeHeartbeat) },
		"heartbeat stuck": func(fx *fixture) { fx.welcome(false, ""); time.Sleep(2*time.Minute + time.Second) },
		"waiting":         func(fx *fixture) { fx.welcome(false, "").conn.Close(); synctest.Wait() },
		"again online":    func(fx *fixture) { fx.welcome(false, "").conn.Close(); fx.welcome(true, "t1") },
		"frame in flight": func(fx *fixture) {
			p := fx.welcome(false, "")
			go p.conn.Write(make([]byte, 1<<16)) //nolint:errcheck // it fails when the client is gone
		},
	}
	for name, reach := range states {
		t.Run(name+" close", func(t *testing.T) {
			run(t, func(t *testing.T, fx *fixture) {
				fx.begin(t.Context())
				reach(fx)
				at := time.Since(fx.start)
				fx.client.Close()
				fx.client.Close()
				if err := fx.wait(); err != ErrClosed {
					t.Errorf("Run returned %v", err)
				}
				fx.wantElapsed(at) // at once, whatever it waits for
			})
		})
		t.Run(name+" context", func(t *testing.T) {
			run(t, func(t *testing.T, fx *fixture) {
				ctx, cancel := context.WithCancelCause(t.Context())
				fx.begin(ctx)
				reach(fx)
				at := time.Since(fx.start)
				cancel(cause)
				if err := fx.wait(); err != cause {
					t.Errorf("Run returned %v", err)
				}
				fx.wantElapsed(at)
			})
		})
	}
}

func TestCloseWhileDialing(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.opts.Dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
		fx.begin(t.Context())
		time.Sleep(DefaultDialTimeout + 500*time.Millisecond) // a dial that timed out
		if s := fx.saw().statuses[1]; s.Status != Waiting || !errors.Is(s.Err, context.DeadlineExceeded) {
			t.Errorf("status %+v", s)
		}
		time.Sleep(time.Second) // in the next
		fx.client.Close()
		if err := fx.wait(); err != ErrClosed {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestCloseBeforeRun(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		c, err := New(fx.opts)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		if err := c.Logout(t.Context()); err != ErrClosed {
			t.Errorf("Logout returned %v", err)
		}
		if err := c.Run(t.Context()); err != ErrClosed {
			t.Errorf("Run returned %v", err)
		}
		if err := c.Run(t.Context()); err == nil || err == ErrClosed {
			t.Errorf("a second Run returned %v", err)
		}
		if got := fx.saw().logins; len(got) > 0 {
			t.Errorf("a closed client logged in: %v", got)
		}
	})
}

// Callbacks may close the client.
func TestCloseFromCallback(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.opts.OnLogin = func(Login) { fx.client.Close() }
		fx.begin(t.Context())
		fx.welcome(false, "").gone()
		if err := fx.wait(); err != ErrClosed {
			t.Errorf("Run returned %v", err)
		}
	})
}

// The server's word outweighs a Close that comes with it.
func TestCloseWithLastWord(t *testing.T) {
	run(t, func(t *testing.T, fx *fixture) {
		fx.opts.OnForcedOffline = func(*ForcedOfflineError) {
			fx.client.Close()
			synctest.Wait()
		}
		fx.begin(t.Context())
		fx.welcome(false, "").send(codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeKickedREST}))
		var forced *ForcedOfflineError
		if err := fx.wait(); !errors.As(err, &forced) {
			t.Errorf("Run returned %v", err)
		}
	})
}

// The same over real sockets, with the default dialer.
func TestLoopback(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := New(Options{
		Addr: ln.Addr().String(), SDKAppID: 1, UserID: "u", UserSig: StaticUserSig("s"), Platform: codec.Linux, DeviceID: "d",
		BackoffMin: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ran := make(chan error, 1)
	go func() { ran <- c.Run(t.Context()) }()

	accept := func() *peer {
		conn, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &peer{t: t, conn: conn}
	}
	p := accept()
	p.wantLogin(false, "")
	p.ok()
	p.conn.(*net.TCPConn).SetLinger(0) // RST
	p.conn.Close()
	p = accept()
	p.wantLogin(true, "t1")
	p.ok()
	done := make(chan error, 1)
	go func() { done <- c.Logout(t.Context()) }()
	p.expect(codec.TypeLogout)
	p.send(codec.AppendEmpty(nil, codec.TypeLogoutOK))
	if err := <-done; err != nil {
		t.Errorf("Logout returned %v", err)
	}
	if err := <-ran; err != nil {
		t.Errorf("Run returned %v", err)
	}
}
