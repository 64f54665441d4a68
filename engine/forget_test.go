package engine

import (
	"context"
	"io"
	"log/slog"
	"net"
	"testing"

	"github.com/panjf2000/gnet/v2"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// connAddr is what the reactor's connection of a user says of its client.
func (s *server) connAddr(t *testing.T, user string) (addr net.Addr) {
	t.Helper()
	s.onConn(t, user, func(c Conn) { addr = c.RemoteAddr() })
	return addr
}

// onConn runs f on the loop of a user's link.
func (s *server) onConn(t *testing.T, user string, f func(c Conn)) {
	t.Helper()
	id := s.dir.linkOf(user)
	for _, d := range *s.reactor.drivers.Load() {
		if !d.fields.known {
			t.Fatal("this gnet keeps its addresses elsewhere: see addressFields")
		}
		if d.loop != s.core.loops[id.Loop()] {
			continue
		}
		done := make(chan struct{})
		run := gnet.RunnableFunc(func(context.Context) error {
			f(d.loop.slab.get(id).conn)
			close(done)
			return nil
		})
		if err := d.el.Execute(t.Context(), run); err != nil {
			t.Fatal(err)
		}
		<-done
		return
	}
	t.Fatalf("no loop has the link of %s", user)
}

// After its login a link no longer holds its client's address, and lives on as
// before: it is told apart, beats, gets more than the socket takes, ends.
func TestForgetAddr(t *testing.T) {
	s := startServer(t)
	c := s.dial(t)
	c.login("alice")
	if addr := s.connAddr(t, "alice"); addr != nil {
		t.Errorf("the connection still holds %v", addr)
	}
	if got, want := s.dir.addrOf("alice").String(), c.conn.LocalAddr().String(); got != want {
		t.Errorf("the directory was told %s, want %s", got, want)
	}
	c.send(heartbeat)
	c.want(codec.TypeHeartbeatOK)
	const much = 8 << 20 // for two socket buffers: gnet sends the rest when it may
	s.onConn(t, "alice", func(c Conn) {
		if _, err := c.Write(make([]byte, much)); err != nil || c.OutboundBuffered() == 0 {
			t.Errorf("%v, %d bytes wait", err, c.OutboundBuffered())
		}
	})
	if _, err := io.CopyN(io.Discard, c.conn, much); err != nil {
		t.Fatal(err)
	}
	c.send(logout)
	c.want(codec.TypeLogoutOK)
	c.wantEOF()

	c = s.dial(t)
	c.login("bob")
	_ = c.conn.SetLinger(0)
	_ = c.conn.Close() // RST
	eventually(t, "no links", func() bool { return s.Stats().Links["native"] == 0 })
	if r := s.dir.leftBy("bob"); r != presence.LeaveLinkClosed {
		t.Errorf("left by %v", r)
	}
}

// A log for debugging names the client at the end of its link, so it is kept.
func TestForgetAddrNotWhileDebugging(t *testing.T) {
	s := startServer(t, func(o *Options) {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, &slog.HandlerOptions{Level: slog.LevelDebug}))
	})
	c := s.dial(t)
	c.login("alice")
	if addr := s.connAddr(t, "alice"); addr == nil || addr.String() != c.conn.LocalAddr().String() {
		t.Errorf("the connection holds %v, want %v", addr, c.conn.LocalAddr())
	}
}

// A connection that is built otherwise is left alone.
func TestForgetAddrUnknown(t *testing.T) {
	type other struct {
		remote     any
		remoteAddr net.Addr
	}
	addr := &net.TCPAddr{Port: 1}
	c := &other{remote: addr, remoteAddr: addr}
	for _, conn := range []any{nil, 1, *c, c, &addr} {
		f := addressFieldsOf(conn)
		if f.known {
			t.Errorf("%T is taken for gnet's", conn)
		}
		f.forget(conn)
	}
	if c.remote != addr || c.remoteAddr != addr {
		t.Error("an unknown connection was changed")
	}
}
