package engine

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/codec"
)

const (
	filesEnv   = "ROLLCALL_TEST_FILES" // set in the child of TestFilesExhausted
	filesLimit = 200
	filesSpare = 60
)

// serveWithFewFiles is the child: an engine with its default MaxLinks in a
// process that may open filesLimit files. It prints its address and ends when
// stdin does.
func serveWithFewFiles() int {
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: filesLimit, Max: filesLimit}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	e, err := New(Options{
		Listeners: nativeAt("127.0.0.1:0"), Loops: 2, FileReserve: filesSpare,
		Directory: yesDirectory{newFakeDirectory()},
	})
	if err == nil {
		err = e.Start()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(e.Addr("native"))
	ended := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(ended)
	}()
	select {
	case err := <-e.Stopped():
		fmt.Fprintln(os.Stderr, err)
		return 2
	case <-ended:
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = e.Shutdown(ctx)
	return 0
}

// gnet ends with all its links when accept finds no file left. A flood of
// connections at a process with few files must not cost a live link, and the
// server must take new ones when the flood is over.
func TestFilesExhausted(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^$")
	child.Env = append(os.Environ(), filesEnv+"=1")
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = stdin.Close()
		if err := child.Wait(); err != nil {
			t.Errorf("the server: %v", err)
		}
	}()
	addr, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	addr = addr[:len(addr)-1]

	const live = 40
	var clients []*client
	for i := range live {
		c := dialAddr(t, addr)
		c.login(fmt.Sprintf("u%d", i))
		clients = append(clients, c)
	}
	refused, open := flood(t, addr, 1000)
	if most := filesLimit - filesSpare - live; len(open) > most || len(open) == 0 {
		t.Fatalf("%d of the flood were refused and %d let in, at most %d fit", refused, len(open), most)
	}
	for _, c := range clients {
		c.send(heartbeat)
		c.want(codec.TypeHeartbeatOK)
	}
	for _, c := range open {
		_ = c.conn.Close()
	}
	eventually(t, "a new client is let in", func() bool { return dialAddr(t, addr).tryLogin("late") })
	for _, c := range clients {
		c.send(logout)
		c.want(codec.TypeLogoutOK)
	}
}

// flood opens n connections, then tries to log in on each.
func flood(t *testing.T, addr string, n int) (refused int, open []*client) {
	t.Helper()
	var all []*client
	for range n {
		conn, err := net.DialTimeout("tcp", addr, patience)
		if err != nil {
			refused++
			continue
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(patience))
		all = append(all, &client{t: t, conn: conn.(*net.TCPConn)})
	}
	for i, c := range all {
		if c.tryLogin(fmt.Sprintf("flood%d", i)) {
			open = append(open, c)
			continue
		}
		refused++
		_ = c.conn.Close()
	}
	return refused, open
}

// tryLogin reports whether a connection was let in.
func (c *client) tryLogin(user string) bool {
	m := activeLogin(user, codec.Android, "d1")
	m.UserSig = signAt(user, time.Now(), time.Hour)
	_, _ = c.stream().Write(loginFrame(m)) // fails if the link was refused and closed
	f, err := c.next()
	return err == nil && f.Type == codec.TypeLoginOK
}
