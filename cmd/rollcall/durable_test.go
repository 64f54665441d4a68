package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/store"
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

// TestCheckFindsWhatAStartRefuses: whatever the record is of, the check says so,
// and what a repair leaves can be started.
func TestCheckFindsWhatAStartRefuses(t *testing.T) {
	for _, key := range []string{"u\x00", "a\x00", "mboot", "malive/12345678", "o\x00", "d\x00", "e\x00\x00\x00\x00\x07"} {
		t.Run(fmt.Sprintf("%q", key), func(t *testing.T) {
			dir := t.TempDir()
			data := filepath.Join(dir, "data")
			s, err := store.Open(store.Options{Dir: storeDir(data), MinFree: -1, Ballast: -1})
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			s.Commit(func(w store.Writer) { w.Set([]byte(key), []byte("?")) }, func(err error) { done <- err })
			if err := errors.Join(<-done, s.Close()); err != nil {
				t.Fatal(err)
			}
			if refused, err := startServer(devArgs(dir)...); err == nil {
				refused.kill(t)
				t.Error("the server starts")
			}
			offline(t, exitError, "bad records: 1", "store", "check", "--data-dir", data)
			offline(t, exitOK, `"Fault":`, "store", "dump", "--data-dir", data)
			offline(t, exitError, "lost parts: 1", "store", "repair", "--data-dir", data)
			offline(t, exitOK, "the store is sound", "store", "check", "--data-dir", data)
			reopen(t, dir)
		})
	}
}

// TestOverdueAtStart: users whose retention ended while nobody ran expire at
// once, which is before the node has all its parts; each is told.
func TestOverdueAtStart(t *testing.T) {
	const users = 300
	dir := t.TempDir()
	s, err := store.Open(store.Options{Dir: storeDir(dir), MinFree: -1, Ballast: -1})
	if err != nil {
		t.Fatal(err)
	}
	past := time.Unix(1_650_000_000, 0)
	d, err := embedded.New(embedded.Options{Store: s, Clock: clock.NewManual(past)})
	if err != nil {
		t.Fatal(err)
	}
	var answers sync.WaitGroup
	answers.Add(1 + 2*users)
	d.UpdateApp(&directory.UpdateAppOp{SDKAppID: 7, Create: true, NowMS: past.UnixMilli(), Done: func(*directory.UpdateAppOp) { answers.Done() }, Mutate: func(a *directory.App) error {
		a.Webhook.URL, a.ExpiryEvent = "http://127.0.0.1:1/", true
		return nil
	}})
	for i := range users {
		key, dev := presence.Key{App: 7, UserID: fmt.Sprint("u", i)}, presence.Device{Platform: presence.Android, ID: "d"}
		link := presence.Link{Node: 1, ID: presence.MakeLinkID(0, uint32(i+1), 1)}
		for d.App(7) == nil {
			time.Sleep(time.Millisecond)
		}
		d.Login(&directory.LoginOp{Key: key, Done: func(*directory.LoginOp) { answers.Done() }, Login: presence.Login{
			Device: dev, Cred: presence.Credential{SigTimeS: past.Unix()}, Link: link, NowMS: past.UnixMilli(),
		}})
		d.Leave(&directory.LeaveOp{Key: key, Platform: dev.Platform, DeviceID: dev.ID, Node: 1, Link: link.ID, Reason: presence.LeaveLinkClosed, NowMS: past.UnixMilli(), Done: func(*directory.LeaveOp) { answers.Done() }})
	}
	answers.Wait()
	if err := errors.Join(d.Close(), s.Close()); err != nil {
		t.Fatal(err)
	}

	c, err := loadConfig(env{stdout: io.Discard, stderr: io.Discard, getenv: func(string) (string, bool) { return "", false }}, "serve", []string{"--dev", "--data-dir", dir})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{log: slog.New(slog.DiscardHandler), metrics: metrics.NewSet()}
	budget := splitFiles(1024, c)
	if err := errors.Join(n.startStore(c, budget), n.startDirectory(c, budget)); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(deadline); n.webhook.Stats().Outbox.Events < users && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if got := n.webhook.Stats().Outbox.Events; got != users {
		t.Errorf("%d events of %d users who expired", got, users)
	}
	if err := n.stop(time.Second); err != nil {
		t.Error(err)
	}
}

// TestStoreKeepsItsOwner: what root makes in the store of a server that runs as
// somebody else is that user's; else the server could not open it again.
func TestStoreKeepsItsOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("wants root")
	}
	const nobody = 65534
	dir := t.TempDir()
	data := filepath.Join(dir, "data")
	s, err := store.Open(store.Options{Dir: storeDir(data), MinFree: -1, Ballast: -1})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	owned := func(visit func(path string, uid uint32)) {
		err := filepath.WalkDir(storeDir(data), func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err == nil {
				visit(path, info.Sys().(*syscall.Stat_t).Uid)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	owned(func(path string, _ uint32) {
		if err := os.Lchown(path, nobody, nobody); err != nil {
			t.Fatal(err)
		}
	})
	if err := os.Remove(filepath.Join(storeDir(data), "LOCK")); err != nil { // a restored copy has none
		t.Fatal(err)
	}
	for _, args := range [][]string{{"check"}, {"dump"}, {"backup", "--to", filepath.Join(dir, "copy")}, {"repair"}} {
		offline(t, exitOK, "", append(append([]string{"store"}, args...), "--data-dir", data)...)
		owned(func(path string, uid uint32) {
			if uid != nobody {
				t.Errorf("after %q %s belongs to %d", args[0], path, uid)
			}
		})
	}
}

// TestPatientBackup: a copy to another disk may take longer than other calls.
func TestPatientBackup(t *testing.T) {
	for patient, want := range map[bool]time.Duration{false: callTimeout, true: 0} {
		c, err := (&httpFlags{patient: patient}).client("http://127.0.0.1:1")
		if err != nil || c.Timeout != want {
			t.Errorf("patient %t: time-out %v, %v", patient, c.Timeout, err)
		}
	}
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
