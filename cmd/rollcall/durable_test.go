package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
)

// kill ends a server as a power switch would, as far as the process goes.
func (s *server) kill(t *testing.T) {
	t.Helper()
	s.end.Do(func() {
		if err := s.cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = s.cmd.Wait() // it says that it was killed
	})
}

// command runs a subcommand against a server's console and returns what it prints.
func (s *server) command(t *testing.T, args ...string) string {
	t.Helper()
	var out, errOut strings.Builder
	e := env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, getenv: func(string) (string, bool) { return "", false }}
	if code := run(e, append(args, "--admin", s.addr["admin"])); code != exitOK {
		t.Fatalf("rollcall %q: exit %d, %s", args, code, errOut.String())
	}
	return out.String()
}

// reopen starts a server on the data of an earlier one; it ends with the test.
func reopen(t *testing.T, dir string, extra ...string) *server {
	t.Helper()
	s, err := startServer(append(devArgs(dir), extra...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.terminate(); err != nil {
			t.Errorf("on SIGTERM the server ended with %v, want exit 0", err)
		}
	})
	return s
}

// TestKilledServerForgetsNothing: SIGKILL, then a start on the same data.
func TestKilledServerForgetsNothing(t *testing.T) {
	dir := t.TempDir()
	first, err := startServer(devArgs(dir)...)
	if err != nil {
		t.Fatal(err)
	}
	defer first.kill(t)
	first.command(t, "policy", "set", "--preset", "triple")
	login(t, first.addr["native"], "alice", codec.Android).heartbeat(t)
	gone := login(t, first.addr["native"], "bob", codec.IPhone)
	gone.reset(t)
	waitStatus(t, first, "bob", "PushOnline")
	first.kill(t)

	again := reopen(t, dir, "--restart-grace", "1h")
	waitStatus(t, again, "alice", "Online") // in its grace
	waitStatus(t, again, "bob", "PushOnline")
	if out := again.command(t, "policy", "get"); !strings.Contains(out, "triple") {
		t.Errorf("the policy is %s", out)
	}
	if log := again.log.String(); !strings.Contains(log, "the store remembers the app") {
		t.Errorf("the log does not say that the store's app counts:\n%s", log)
	}
	again.kill(t)

	settled := reopen(t, dir, "--restart-grace", "0s")
	waitStatus(t, settled, "alice", "PushOnline")
}

// TestBackupAndRestore: a copy of a running node, put in the place of its store,
// is the node as it was; by the steps of docs/durability.md.
func TestBackupAndRestore(t *testing.T) {
	dir := t.TempDir()
	data, saved := filepath.Join(dir, "data"), filepath.Join(dir, "saved")
	first := reopen(t, dir)
	gone := login(t, first.addr["native"], "alice", codec.Android)
	gone.reset(t)
	waitStatus(t, first, "alice", "PushOnline")
	first.command(t, "store", "backup", "--to", saved)
	login(t, first.addr["native"], "bob", codec.Android).heartbeat(t)
	if _, err := os.Stat(filepath.Join(saved, "LOCK")); err == nil {
		t.Error("the copy has the running server's lock")
	}
	if err := first.terminate(); err != nil {
		t.Fatal(err)
	}
	for _, step := range [][2]string{{filepath.Join(data, "store"), filepath.Join(data, "store.before")}, {saved, filepath.Join(data, "store")}} {
		if err := os.Rename(step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
	again := reopen(t, dir)
	waitStatus(t, again, "alice", "PushOnline")
	if got := queryStatus("http://"+again.addr["api"], "bob"); got == "Online" {
		t.Errorf("bob, who came after the copy, is %s", got)
	}
	if err := again.terminate(); err != nil {
		t.Fatal(err)
	}
	offline(t, exitOK, "copied the store", "store", "backup", "--data-dir", data, "--to", saved)
	offline(t, exitOK, "users: 1\n", "store", "check", "--data-dir", data)
	offline(t, exitOK, "the store is sound", "store", "check", "--data-dir", data)
	offline(t, exitOK, `"UserID":"alice"`, "store", "dump", "--data-dir", data, "--only", "users")
	if out := offline(t, exitOK, `"Secret":"(hidden)"`, "store", "dump", "--data-dir", data); strings.Contains(out, devKey) {
		t.Error("a dump shows a key")
	}
	offline(t, exitOK, "nothing is damaged, nothing was changed", "store", "repair", "--data-dir", data)
	offline(t, exitOK, "users: 1\n", "store", "check", "--data-dir", data)
	offline(t, exitUsage, "--to is needed", "store", "backup")
	offline(t, exitUsage, "want meta, users", "store", "dump", "--data-dir", data, "--only", "x")
	offline(t, exitOK, "the store is sound", "store", "check", "--data-dir", saved) // where it lies
	if out := offline(t, exitOK, `"TicketKey":"(hidden)"`, "store", "dump", "--data-dir", data, "--only", "apps"); strings.Contains(out, `"TicketKey":[`) {
		t.Errorf("a ticket key that looks like one: %s", out)
	}
	offline(t, exitError, "there is no store", "store", "check", "--data-dir", dir)
	offline(t, exitError, "there is no store", "store", "repair", "--data-dir", dir)
	offline(t, exitError, "there is no store", "store", "backup", "--data-dir", dir, "--to", filepath.Join(dir, "x"))
	running := reopen(t, dir)
	offline(t, exitError, "another process has it open", "store", "check", "--data-dir", data)
	offline(t, exitError, "another process has it open", "store", "repair", "--data-dir", data)
	out := offline(t, exitError, "leave --data-dir out", "store", "backup", "--data-dir", data, "--to", filepath.Join(dir, "x"))
	if strings.Contains(out, "temporarily unavailable") {
		t.Errorf("the system's words for a lock: %s", out)
	}
	waitStatus(t, running, "alice", "PushOnline")
}

// offline runs a command that needs no server and checks what it says.
func offline(t *testing.T, code int, want string, args ...string) string {
	t.Helper()
	var out strings.Builder
	e := env{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(string) (string, bool) { return "", false }}
	if got := run(e, args); got != code || !strings.Contains(out.String(), want) {
		t.Errorf("rollcall %q: exit %d, want %d and %q in\n%s", args, got, code, want, out.String())
	}
	return out.String()
}

// TestDurabilityMemory writes nothing, and says nothing of a store.
func TestDurabilityMemory(t *testing.T) {
	dir := t.TempDir()
	s := reopen(t, dir, "--durability", "memory")
	login(t, s.addr["native"], "alice", codec.Android).heartbeat(t)
	if found, _ := filepath.Glob(filepath.Join(dir, "*")); len(found) > 0 {
		t.Errorf("it wrote %q", found)
	}
	if metrics := get(t, "http://"+s.addr["admin"]+"/metrics"); strings.Contains(metrics, "rollcall_store_") {
		t.Error("it has metrics of a store")
	}
}

// TestTwoServersOnOneStore: the second says which store it is and ends.
func TestTwoServersOnOneStore(t *testing.T) {
	dir := t.TempDir()
	reopen(t, dir)
	second, err := startServer(devArgs(dir)...)
	if err == nil {
		second.kill(t)
		t.Fatal("a second server opened the store")
	}
	if text := err.Error(); !exitedWith(err, exitError) || !strings.Contains(text, "another process has it open") || !strings.Contains(text, filepath.Join(dir, "data", "store")) {
		t.Errorf("got %v", err)
	}
}

// TestHealthPages: both are open and say ok while all is well.
func TestHealthPages(t *testing.T) {
	s := running(t, startServer)
	for _, page := range []string{"/livez", "/readyz"} {
		if got := get(t, "http://"+s.addr["admin"]+page); got != "ok\n" {
			t.Errorf("%s says %q", page, got)
		}
	}
}

// TestDevStoreIsNotServedForReal: anybody can sign with the key that a development server leaves in
// its store, so a real one does not start on it until the key is retired.
func TestDevStoreIsNotServedForReal(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	if err := os.WriteFile(token, []byte("a-long-enough-token\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	serveForReal := func() (*server, error) {
		args := append(devArgs(dir), "--admin-token-file", token)
		return startServer(slices.DeleteFunc(args, func(a string) bool { return a == "--dev" })...)
	}
	if err := reopen(t, dir).terminate(); err != nil {
		t.Fatal(err)
	}
	s, err := serveForReal()
	if err == nil {
		s.kill(t)
		t.Fatal("it serves the app whose key is public")
	}
	if want := "cannot start the apps: app 1400000000 has the public key of --dev (key 1): use another --data-dir"; !exitedWith(err, exitError) || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want exit code %d and %q", err, exitError, want)
	}
	dev := reopen(t, dir)
	dev.command(t, "app", "add-key", "--key-out", filepath.Join(dir, "key"))
	dev.command(t, "app", "retire-key", "1")
	if err := dev.terminate(); err != nil {
		t.Fatal(err)
	}
	if s, err = serveForReal(); err != nil {
		t.Fatalf("with the public key retired: %v", err)
	}
	if err := s.terminate(); err != nil {
		t.Errorf("on SIGTERM the server ended with %v", err)
	}
}

// TestNoPlaceForTheStore: where the data directory cannot be made, the setting that moves it is named.
func TestNoPlaceForTheStore(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "data"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := startServer(devArgs(dir)...)
	if err == nil {
		s.kill(t)
		t.Fatal("it started in a file")
	}
	if !exitedWith(err, exitError) || !strings.Contains(err.Error(), "; --data-dir names another place") {
		t.Errorf("got %v", err)
	}
}
