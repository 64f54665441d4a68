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
func (s *server) connAddr(t *testing.T, user string) net.Addr {
	t.Helper()
	id := s.dir.linkOf(user)
	for _, d := range *s.reactor.drivers.Load() {
		if !d.fields.known {
			t.Fatal("this gnet keeps its addresses elsewhere: see addressFields")
		}
		if d.loop != s.core.loops[id.Loop()] {
			continue
		}
		addr := make(chan net.Addr, 1)
		ask := gnet.RunnableFunc(func(context.Context) error {
			addr <- d.loop.slab.get(id).conn.RemoteAddr()
			return nil
		})
		if err := d.el.Execute(t.Context(), ask); err != nil {
			t.Fatal(err)
		}
		return <-addr
	}
	t.Fatalf("no loop has the link of %s", user)
	return nil
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
