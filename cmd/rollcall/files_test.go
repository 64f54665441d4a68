package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// TestFilesExhausted floods every listener of a server that may open few files.
// A link that is logged in must live through it, be answered and be told Online.
func TestFilesExhausted(t *testing.T) {
	const files, live, flood = 256, 20, 600
	s := running(t, func(args ...string) (*server, error) { return startLimited(files, args...) })
	var links []*testLink
	for i := range live {
		links = append(links, login(t, s.addr["native"], fmt.Sprintf("live%d", i), codec.Android))
	}
	for _, listener := range []string{"native", "ws", "api", "admin"} {
		conns := floodWith(t, s.addr[listener], flood)
		for _, l := range links {
			l.heartbeat(t)
		}
		for _, c := range conns {
			c.Close()
		}
	}
	all := floodWith(t, s.addr["native"], flood)
	all = append(all, floodWith(t, s.addr["ws"], flood)...)
	all = append(all, floodWith(t, s.addr["api"], flood)...)
	all = append(all, floodWith(t, s.addr["admin"], flood)...)
	for _, l := range links {
		l.heartbeat(t)
	}
	for _, c := range all {
		c.Close()
	}
	for i := range live {
		waitStatus(t, s, fmt.Sprintf("live%d", i), "Online")
	}
	login(t, s.addr["native"], "latecomer", codec.Android).heartbeat(t)
	if log := s.log.String(); strings.Contains(log, `"level":"ERROR"`) {
		t.Errorf("the server logged errors:\n%s", log)
	}
}

// floodWith opens n connections that say nothing. Those that are refused or closed are what we want to see.
func floodWith(t *testing.T, addr string, n int) []net.Conn {
	t.Helper()
	var conns []net.Conn
	for range n {
		c, err := net.DialTimeout("tcp", addr, deadline)
		if err != nil {
			continue
		}
		conns = append(conns, c)
	}
	if len(conns) == 0 {
		t.Fatalf("not one of %d connections to %s was accepted", n, addr)
	}
	return conns
}

// testLink is a client that speaks the protocol and nothing more.
type testLink struct {
	conn net.Conn
	user string
	buf  []byte
}

// login logs a user in, trying again while the server has no room.
func login(t *testing.T, addr, user string, p codec.Platform) *testLink {
	t.Helper()
	sig, err := usersig.Sign(devKey, devApp, user, time.Now().Unix(), 3600, nil)
	if err != nil {
		t.Fatal(err)
	}
	m := codec.Login{SDKAppID: devApp, UserID: []byte(user), UserSig: []byte(sig), Platform: p, DeviceID: []byte("dev-" + user)}
	for end := time.Now().Add(deadline); ; {
		conn, err := net.DialTimeout("tcp", addr, deadline)
		if err != nil {
			t.Fatal(err)
		}
		l := &testLink{conn: conn, user: user}
		if _, err := conn.Write(codec.AppendLogin(nil, &m)); err == nil {
			if f, err := l.next(); err == nil && f.Type == codec.TypeLoginOK {
				t.Cleanup(func() { conn.Close() })
				return l
			}
		}
		conn.Close()
		if time.Now().After(end) {
			t.Fatalf("%s could not log in", user)
		}
	}
}

// next reads one frame; it is valid until the next call.
func (l *testLink) next() (codec.Frame, error) {
	l.conn.SetReadDeadline(time.Now().Add(deadline))
	for {
		f, n, err := codec.Next(l.buf, codec.MaxFrame)
		if err != nil {
			return f, err
		}
		if n > 0 {
			l.buf = l.buf[n:]
			return f, nil
		}
		var chunk [4096]byte
		k, err := l.conn.Read(chunk[:])
		if err != nil {
			return f, err
		}
		l.buf = append(l.buf[:len(l.buf):len(l.buf)], chunk[:k]...)
	}
}

func (l *testLink) heartbeat(t *testing.T) {
	t.Helper()
	if _, err := l.conn.Write(codec.AppendEmpty(nil, codec.TypeHeartbeat)); err != nil {
		t.Fatalf("%s lost its link: %v", l.user, err)
	}
	if f, err := l.next(); err != nil || f.Type != codec.TypeHeartbeatOK {
		t.Fatalf("%s got %v, %v for its heartbeat", l.user, f.Type, err)
	}
}

// waitStatus asks over REST until the user has the status.
func waitStatus(t *testing.T, s *server, user, want string) {
	t.Helper()
	var last string
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		if last = queryStatus("http://"+s.addr["api"], user); last == want {
			return
		}
	}
	t.Fatalf("%s is %q, want %s", user, last, want)
}

// queryStatus returns the status that rollcall query prints, "" if there is none.
func queryStatus(api, user string) string {
	var out strings.Builder
	e := env{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(string) (string, bool) { return "", false }}
	run(e, []string{"query", user, "--api", api})
	if f := strings.Fields(out.String()); len(f) > 1 {
		return f[1]
	}
	return ""
}

// reset closes the link by RST.
func (l *testLink) reset(t *testing.T) {
	t.Helper()
	if err := l.conn.(*net.TCPConn).SetLinger(0); err != nil {
		t.Fatal(err)
	}
	l.conn.Close()
}

func readFile(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
