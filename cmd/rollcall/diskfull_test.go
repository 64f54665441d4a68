package main

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// TestFullDisk: a disk that fills up makes the node read-only. Links live on,
// queries are answered, new logins are told when to come back, and health and
// metrics say so. With room again it goes on by itself, and remembers across a
// SIGKILL what it acknowledged and only that.
func TestFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs wants root")
	}
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=192m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no tmpfs: %s", out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	})
	s := reopen(t, dir, "--store-min-free", "16777216")
	alice := login(t, s.addr["native"], "alice", codec.Android)

	ballast := filepath.Join(dir, "somebody-elses")
	fillUp(t, ballast)
	waitPage(t, s, "/readyz", http.StatusServiceUnavailable)
	refused := refusedLogin(t, s.addr["native"], "bob")
	if refused.Code != codec.CodeUnavailable || refused.RetryAfterMS == 0 || !refused.MayReconnect {
		t.Errorf("a login on a full disk was answered %+v", refused)
	}
	alice.heartbeat(t)
	waitStatus(t, s, "alice", "Online")
	if got := queryStatus("http://"+s.addr["api"], "bob"); got == "Online" {
		t.Error("bob, who was refused, is Online")
	}
	if m := get(t, "http://"+s.addr["admin"]+"/metrics"); !strings.Contains(m, "\nrollcall_store_read_only 1\n") {
		t.Error("the metrics do not say that the store is read-only")
	}
	waitPage(t, s, "/livez", http.StatusOK)

	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	waitPage(t, s, "/readyz", http.StatusOK)
	login(t, s.addr["native"], "carol", codec.IPhone).heartbeat(t)
	alice.heartbeat(t)
	s.kill(t)

	again := reopen(t, dir, "--store-min-free", "16777216", "--restart-grace", "0s")
	for user, want := range map[string]string{"alice": "PushOnline", "carol": "PushOnline"} {
		waitStatus(t, again, user, want)
	}
	if got := queryStatus("http://"+again.addr["api"], "bob"); strings.HasSuffix(got, "nline") {
		t.Errorf("bob, who was refused, is %s after the restart", got)
	}
	if err := again.terminate(); err != nil { // before the disk goes
		t.Error(err)
	}
}

// fillUp writes a file until the disk has no room.
func fillUp(t *testing.T, name string) {
	t.Helper()
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for chunk := make([]byte, 1<<16); err == nil; _, err = f.Write(chunk) {
	}
}

// waitPage waits until a page of the admin listener answers with that status.
func waitPage(t *testing.T, s *server, page string, want int) {
	t.Helper()
	var last string
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		resp, err := http.Get("http://" + s.addr["admin"] + page)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode == want {
			return
		}
		last = resp.Status + " " + string(body)
	}
	t.Fatalf("%s is %s, want %d", page, last, want)
}

// refusedLogin logs a user in, who must be refused.
func refusedLogin(t *testing.T, addr, user string) (m codec.LoginRefused) {
	t.Helper()
	sig, err := usersig.Sign(devKey, devApp, user, time.Now().Unix(), 3600, nil)
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", addr, deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := &testLink{conn: conn, user: user}
	_, err = conn.Write(codec.AppendLogin(nil, &codec.Login{
		SDKAppID: devApp, UserID: []byte(user), UserSig: []byte(sig), Platform: codec.Android, DeviceID: []byte("dev-" + user),
	}))
	if err != nil {
		t.Fatal(err)
	}
	f, err := l.next()
	if err != nil || f.Type != codec.TypeLoginRefused {
		t.Fatalf("%s got %v, %v, want LoginRefused", user, f.Type, err)
	}
	if err := m.Unmarshal(f.Body); err != nil {
		t.Fatal(err)
	}
	return m
}
