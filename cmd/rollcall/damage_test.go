package main

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/store"
)

// storeFiles is what a store's folder holds, but for the lock.
func storeFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() == "LOCK" || e.Name() == "BALLAST" {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		all[e.Name()] = string(b)
	}
	return all
}

// refused starts a server on a damaged store: it ends with one line on the console
// that says what to do, and changes no file.
func refused(t *testing.T, dir string, want ...string) {
	t.Helper()
	at := filepath.Join(dir, "data", "store")
	before := storeFiles(t, at)
	s, err := startServer(devArgs(dir)...)
	if err == nil {
		s.kill(t)
		t.Fatal("it started")
	}
	for _, part := range append(want, "restore a backup") {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error lacks %q:\n%v", part, err)
		}
	}
	if strings.Contains(err.Error(), "goroutine") || strings.Contains(err.Error(), ".go:") || strings.Count(err.Error(), "\n") > 6 {
		t.Errorf("the error is\n%v", err)
	}
	if !reflect.DeepEqual(before, storeFiles(t, at)) {
		t.Error("the store was changed")
	}
}

// TestDamagedStore: by what the docs say of a lost marker and of a damaged log.
func TestDamagedStore(t *testing.T) {
	dir := t.TempDir()
	at := filepath.Join(dir, "data", "store")
	s, err := startServer(devArgs(dir)...)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 40 {
		login(t, s.addr["native"], fmt.Sprintf("user%02d", i), codec.Android).heartbeat(t)
	}
	s.kill(t)

	markers, err := filepath.Glob(filepath.Join(at, "marker.manifest.*"))
	if err != nil || len(markers) != 1 {
		t.Fatalf("markers %q, %v", markers, err)
	}
	if err := os.Rename(markers[0], filepath.Join(dir, "marker")); err != nil {
		t.Fatal(err)
	}
	refused(t, dir, "the manifest marker is missing", "nothing was changed", "move the folder away")
	offline(t, exitError, "the manifest marker is missing", "store", "check", "--data-dir", filepath.Join(dir, "data"))
	offline(t, exitError, "restore a backup", "store", "repair", "--data-dir", filepath.Join(dir, "data"))
	if err := os.Rename(filepath.Join(dir, "marker"), markers[0]); err != nil {
		t.Fatal(err)
	}

	damageLog(t, at)
	refused(t, dir, `"rollcall store check"`, `"rollcall store repair"`, ".log")
	data := filepath.Join(dir, "data")
	out := offline(t, exitError, "lost: all that was written after 20", "store", "check", "--data-dir", data)
	if strings.Contains(out, "carrier") || strings.Contains(out, "rollcall store check") || strings.Contains(out, "users: 0") || strings.Contains(out, "users: 40") {
		t.Errorf("store check says\n%s", out)
	}
	out = offline(t, exitError, "the new store holds:", "store", "repair", "--data-dir", data)
	if !strings.Contains(out, "lost: all that was written after 20") || !strings.Contains(out, "apps: 1") || strings.Contains(out, "users: 0") {
		t.Errorf("store repair says\n%s", out)
	}
	offline(t, exitOK, "the store is sound", "store", "check", "--data-dir", data)
	again := reopen(t, dir)
	waitStatus(t, again, "user00", "Online")
}

// damageLog alters the newest log in the middle of what it holds.
func damageLog(t *testing.T, at string) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(at, "*.log"))
	if err != nil || len(logs) == 0 {
		t.Fatalf("logs %q, %v", logs, err)
	}
	log := logs[len(logs)-1]
	b, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	b[len(strings.TrimRight(string(b), "\x00"))/2] ^= 0x40
	if err := os.WriteFile(log, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestFirstStartOnAFullDisk says that it is the disk.
func TestFirstStartOnAFullDisk(t *testing.T) {
	s, err := startServer(append(devArgs(t.TempDir()), "--store-min-free", "1099511627776")...)
	if err == nil {
		s.kill(t)
		t.Skip("the disk has more than 1 TiB free")
	}
	if !strings.Contains(err.Error(), "cannot create app 1400000000: the disk has ") || !strings.Contains(err.Error(), "store-min-free") || strings.Contains(err.Error(), "try again") {
		t.Errorf("got %v", err)
	}
}

// TestLostInWords: ranges of keys are no words for an operator.
func TestLostInWords(t *testing.T) {
	s := survey{counts: storeCounts{store.PrefixUsers: 18}}
	for _, c := range []struct {
		l    store.Loss
		want string
	}{
		{store.Loss{Upper: []byte("mboot\x00"), Why: "w"}, "all there was of apps, dead letters, event log: w"},
		{store.Loss{Lower: []byte("d\x01"), Upper: []byte("u\x01"), Why: "w"}, "all there was of outbox, dead letters, event log; some of users: w"},
		{store.Loss{Lower: []byte("u\x01"), Why: "w"}, "some of users: w"},
		{store.Loss{Lower: []byte("ma"), Upper: []byte("mb"), Why: "w"}, "facts about the node's runs: w"},
		{store.Loss{Newest: true, Why: "w"}, "all that was written last: w"},
	} {
		if got := s.lost(c.l); got != c.want {
			t.Errorf("%+v: %q, want %q", c.l, got, c.want)
		}
	}
	s.alive = time.Unix(1_700_000_000, 0)
	if got := s.lost(store.Loss{Newest: true, Why: "w"}); got != "all that was written after 2023-11-14T22:13:20Z (the last sign of life that is left): w" {
		t.Errorf("%q", got)
	}
}
