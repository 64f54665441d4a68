package webhook

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// gauge counts sockets from before they are made until after they are closed.
type gauge struct{ now, most atomic.Int64 }

// dial counts the connection that open makes.
func (g *gauge) dial(open func() (net.Conn, error)) (net.Conn, error) {
	storeMax(&g.most, g.now.Add(1))
	c, err := open()
	if err != nil {
		g.now.Add(-1)
		return nil, err
	}
	return &gaugedConn{Conn: c, end: sync.OnceFunc(func() { g.now.Add(-1) })}, nil
}

type gaugedConn struct {
	net.Conn
	end func()
}

// Close implements net.Conn.
func (c *gaugedConn) Close() error {
	defer c.end()
	return c.Conn.Close()
}

// TestFilesPerAttempt: whatever apps do with their URLs, there are never more
// connections than FilesPerAttempt leaves room for.
func TestFilesPerAttempt(t *testing.T) {
	const nApps, rounds = 12, 30
	for _, inFlight := range []int{1, 2, 7} {
		virtual(t, func(t *testing.T) {
			var g gauge
			r := newRig(t, func(o *Options) {
				dial := o.Network.Dial
				o.MaxInFlight = inFlight
				o.Network.Dial = func(ctx context.Context, a netip.AddrPort) (net.Conn, error) {
					return g.dial(func() (net.Conn, error) {
						time.Sleep(time.Duration(a.Port()%7) * time.Millisecond)
						return dial(ctx, a)
					})
				}
			})
			slow := func(w http.ResponseWriter, req *http.Request) {
				time.Sleep(20 * time.Millisecond)
				ok(w, req)
			}
			for port := range nApps {
				r.net.handle("hook.example", fmt.Sprintf("192.0.2.1:%d", 80+port), slow)
			}
			for round := range rounds { // faster than idle connections end by themselves
				for app := range nApps {
					r.apps.put(uint32(app+1), fmt.Sprintf("http://hook.example:%d/%d", 80+app, round/2), nil)
					r.d.Transitions(logins(uint32(app+1), 3))
				}
				time.Sleep(25 * time.Millisecond)
			}
			r.waitEmpty(time.Hour)
			limit := int64(inFlight * (FilesPerAttempt - resolverSocketsPerAttempt))
			if most := g.most.Load(); most > limit || most < int64(inFlight) {
				t.Errorf("up to %d connections with %d attempts at once, want at most %d", most, inFlight, limit)
			}
			r.stop()
			if n := g.now.Load(); n != 0 {
				t.Errorf("%d connections left", n)
			}
		})
	}
}

// TestFormerURLKeepsNoConnection: a connection to a URL that its app has given up
// meanwhile is closed with the attempt, not kept idle.
func TestFormerURLKeepsNoConnection(t *testing.T) {
	virtual(t, func(t *testing.T) {
		r := newRig(t, nil)
		r.net.handle("old.example", "192.0.2.1:80", func(w http.ResponseWriter, req *http.Request) {
			time.Sleep(time.Second)
			ok(w, req)
		})
		r.net.handle("new.example", "192.0.2.2:80", ok)
		r.apps.put(1, "http://old.example/", nil)
		r.d.Transitions(logins(1, 1))
		synctest.Wait()
		r.apps.put(1, "http://new.example/", nil)
		r.d.Transitions(logins(1, 2)[1:])
		synctest.Wait()
		if n := r.d.Stats().Connections; n != 2 {
			t.Fatalf("%d connections with one attempt at each URL, want 2", n)
		}
		time.Sleep(1100 * time.Millisecond)
		if s := r.d.Stats(); s.Connections != 1 || s.Outbox.Events != 0 {
			t.Errorf("state %+v once the old attempt has ended, want the new URL's connection only", s)
		}
		r.stop()
	})
}

// TestResolverBound: look-ups that nobody answers take no more sockets than
// allowed, and none once nobody waits for them.
func TestResolverBound(t *testing.T) {
	refused := func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
	_, _ = newResolver(1, refused).LookupNetIP(t.Context(), "ip", "x.example.") // the package net makes its state outside the bubble
	synctest.Test(t, func(t *testing.T) {
		const limit, lookups = 4, 10
		var g gauge
		r := newResolver(limit, func(context.Context, string, string) (net.Conn, error) {
			return g.dial(func() (net.Conn, error) {
				here, there := net.Pipe()
				go func() { _, _ = io.Copy(io.Discard, there); there.Close() }()
				return here, nil
			})
		})
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		for i := range lookups {
			wg.Go(func() {
				if _, err := r.LookupNetIP(ctx, "ip", fmt.Sprintf("h%d.example.", i)); err == nil {
					t.Error("found what nobody has told")
				}
			})
		}
		synctest.Wait()
		if now := g.now.Load(); now != limit {
			t.Errorf("%d sockets, want %d", now, limit)
		}
		cancel()
		wg.Wait()
		synctest.Wait()
		if now, most := g.now.Load(), g.most.Load(); now != 0 || most != limit {
			t.Errorf("%d sockets left of up to %d, want none of %d", now, most, limit)
		}
	})
}

// TestResolver: names are found over datagrams, as usual.
func TestResolver(t *testing.T) {
	server, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { serveNames(server, netip.MustParseAddr("192.0.2.9")) })
	t.Cleanup(func() { server.Close(); wg.Wait() })
	var networks sync.Map
	r := newResolver(2, func(ctx context.Context, network, _ string) (net.Conn, error) {
		networks.Store(network, true)
		return new(net.Dialer).DialContext(ctx, network, server.LocalAddr().String())
	})
	for i := range 5 { // more sockets than places in all
		addrs, err := r.LookupNetIP(t.Context(), "ip", fmt.Sprintf("h%d.example.", i))
		if err != nil || len(addrs) != 1 || addrs[0].Unmap() != netip.MustParseAddr("192.0.2.9") {
			t.Fatalf("found %v, %v", addrs, err)
		}
	}
	if _, tcp := networks.Load("tcp"); tcp {
		t.Error("the resolver took a datagram socket for a stream")
	}
}

// serveNames answers each question for an IPv4 address with ip, others with nothing.
func serveNames(c *net.UDPConn, ip netip.Addr) {
	buf := make([]byte, 1500)
	for {
		n, from, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		end := 12 // of the question: its name, type, class
		for end < n && buf[end] != 0 {
			end += int(buf[end]) + 1
		}
		end += 5
		if end > n {
			continue
		}
		answer := append([]byte(nil), buf[:end]...)
		answer[2] |= 0x80                                 // an answer
		copy(answer[6:12], []byte{0, 0, 0, 0, 0, 0})      // no records
		if binary.BigEndian.Uint16(answer[end-4:]) == 1 { // type A
			answer[7] = 1
			answer = append(answer, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4)
			answer = append(answer, ip.AsSlice()...)
		}
		_, _ = c.WriteToUDPAddrPort(answer, from)
	}
}
