package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/config"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/webhook"
)

// TestSecondServerRefused: two processes on one SO_REUSEPORT port would share the clients.
func TestSecondServerRefused(t *testing.T) {
	s := running(t, startServer)
	for _, name := range []string{"native", "ws", "api", "admin"} {
		_, err := startServer(devArgsAt(t.TempDir(), map[string]string{name: s.addr[name]})...)
		if err == nil || !exitedWith(err, exitError) {
			t.Errorf("second server on the %s port: got %v, want exit code %d", name, err, exitError)
		}
		if want := "cannot start: listen-" + name + " " + s.addr[name] + ": address already in use\n"; !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("second server on the %s port: got %v, want %q", name, err, want)
		}
	}
	login(t, s.addr["native"], "alice", codec.Web).heartbeat(t)
}

// TestTooManyLinks: the error names the setting and what it may be, once.
func TestTooManyLinks(t *testing.T) {
	_, err := startLimited(2048, append(devArgs(t.TempDir()), "--max-links", "100000")...)
	want := regexp.MustCompile(`\nrollcall serve: cannot start the engine: max-links is 100000, want 1 to [0-9]+ \(`)
	if !exitedWith(err, exitError) || !want.MatchString(fmt.Sprint(err)) {
		t.Errorf("got %v, want exit code %d and %s", err, exitError, want)
	}
}

func exitedWith(err error, code int) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == code
}

// TestDrain: on SIGTERM a client is told to come back, and the exit code is 0 (checked by running).
func TestDrain(t *testing.T) {
	s := running(t, startServer)
	l := login(t, s.addr["native"], "alice", codec.Android)
	if err := s.terminate(); err != nil {
		t.Fatalf("on SIGTERM the server ended with %v", err)
	}
	if log := s.log.String(); !strings.Contains(log, `"msg":"stopped"`) {
		t.Errorf("the last line of the log is not that it stopped:\n%s", log)
	}
	f, err := l.next()
	if err != nil || f.Type != codec.TypeForcedOffline {
		t.Fatalf("got %v, %v; want ForcedOffline", f.Type, err)
	}
	var m codec.ForcedOffline
	if err := m.Unmarshal(f.Body); err != nil || m.Code != codec.CodeServerDraining || !m.MayReconnect || m.RetryAfterMS == 0 {
		t.Errorf("got %+v, %v; want ServerDraining, may reconnect, with a time to wait", m, err)
	}
	if _, err := l.next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the notice: %v, want EOF", err)
	}
}

// TestCommandsToTry: no command is printed for a listener that is off, and each has its address where it is not the default.
func TestCommandsToTry(t *testing.T) {
	for _, tc := range []struct {
		native, api string
		want        []string
	}{
		{"127.0.0.1:7700", "127.0.0.1:7780", []string{"login --user alice --device phone-1", "login --user alice --device phone-2    #", "query alice", "connect --conns 1000 --hold 60s"}},
		{"127.0.0.1:1", "127.0.0.1:2", []string{"login --user alice --device phone-1 --addr 127.0.0.1:1", "--device phone-2 --addr 127.0.0.1:1    #", "query alice --api http://127.0.0.1:2", "--target 127.0.0.1:1 --api http://127.0.0.1:2"}},
		{"", "127.0.0.1:7780", []string{"query alice"}},
		{"127.0.0.1:7700", "", []string{"--device phone-1", "--device phone-2    #"}},
		{"", "", nil},
	} {
		said := commandsToTry(tc.native, tc.api)
		var got []string
		for line := range strings.Lines(said) {
			got = append(got, strings.TrimSuffix(line, "\n"))
		}
		if len(got) != len(tc.want) {
			t.Errorf("native %q, api %q: %d commands, want %d:\n%s", tc.native, tc.api, len(got), len(tc.want), said)
			continue
		}
		for i, want := range tc.want {
			if !strings.Contains(got[i], want) {
				t.Errorf("native %q, api %q: %q has no %q", tc.native, tc.api, got[i], want)
			}
		}
	}
}

// TestDrainRedirect: with drain-redirect a stop sends clients elsewhere.
func TestDrainRedirect(t *testing.T) {
	const elsewhere = "other.example:7700"
	s := running(t, startServer, "--drain-redirect", elsewhere)
	l := login(t, s.addr["native"], "alice", codec.Android)
	if err := s.terminate(); err != nil {
		t.Fatalf("on SIGTERM the server ended with %v", err)
	}
	if want := "stopping: clients are sent to " + elsewhere; !strings.Contains(s.log.String(), want) {
		t.Errorf("the log has no %q:\n%s", want, s.log)
	}
	f, err := l.next()
	if err != nil || f.Type != codec.TypeRedirect {
		t.Fatalf("got %v, %v; want Redirect", f.Type, err)
	}
	var m codec.Redirect
	if err := m.Unmarshal(f.Body); err != nil || m.Address != elsewhere || m.RetryAfterMS < 1000 {
		t.Errorf("got %+v, %v; want %s, with a time to wait", m, err, elsewhere)
	}
	if _, err := l.next(); !errors.Is(err, io.EOF) {
		t.Errorf("after the redirect: %v, want EOF", err)
	}
}

// TestRestart: the links that a stop closed do not keep the next server from the port.
func TestRestart(t *testing.T) {
	s := running(t, startServer)
	addr := s.addr["native"]
	l := login(t, addr, "alice", codec.Android)
	ended := make(chan error, 1)
	go func() { ended <- s.terminate() }()
	for err := error(nil); err == nil; {
		_, err = l.next()
	}
	l.conn.Close() // after the server's FIN: its end of the link is the one that lingers
	if err := <-ended; err != nil {
		t.Fatalf("on SIGTERM the server ended with %v", err)
	}
	again, err := startServer(devArgsAt(t.TempDir(), map[string]string{"native": addr})...)
	if err != nil {
		t.Fatalf("the second start: %v", err)
	}
	login(t, addr, "alice", codec.Android).heartbeat(t)
	if err := again.terminate(); err != nil {
		t.Errorf("on SIGTERM the second server ended with %v", err)
	}
}

// TestLostLink: an RST of a phone is PushOnline, of a desktop Offline.
func TestLostLink(t *testing.T) {
	s := running(t, startServer)
	for platform, want := range map[codec.Platform]string{codec.IPhone: "PushOnline", codec.Windows: "Offline"} {
		user := "u-" + platform.String()
		l := login(t, s.addr["native"], user, platform)
		waitStatus(t, s, user, "Online")
		l.reset(t)
		waitStatus(t, s, user, want)
	}
}

// TestMetricsDocumented holds docs/metrics.md to what a server that did some work exports.
func TestMetricsDocumented(t *testing.T) {
	s := running(t, startServer)
	login(t, s.addr["native"], "alice", codec.Android).heartbeat(t)
	waitStatus(t, s, "alice", "Online")
	exported := metricNames(get(t, "http://"+s.addr["admin"]+"/metrics"))
	if len(exported) < 20 {
		t.Fatalf("only %d metrics of ours are exported", len(exported))
	}
	doc := string(readFile(t, "../../docs/metrics.md"))
	for name := range exported {
		if !strings.Contains(doc, "`"+name) {
			t.Errorf("metric %s is not in docs/metrics.md", name)
		}
	}
}

var metricLine = regexp.MustCompile(`(?m)^(rollcall_[a-z_]+)`)

// metricNames returns our own names, those of a histogram's parts folded into one.
func metricNames(text string) map[string]bool {
	names := map[string]bool{}
	for _, m := range metricLine.FindAllString(text, -1) {
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			m = strings.TrimSuffix(m, part)
		}
		names[m] = true
	}
	return names
}

func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(fmt.Errorf("%s: %s, %w", url, resp.Status, err))
	}
	return string(b)
}

// TestNodesWhileStarting: the console may ask for nodes from the moment on at
// which the admin listener is there, before the engine accepts links.
func TestNodesWhileStarting(t *testing.T) {
	c, err := config.Load(config.Inputs{Args: devArgs(t.TempDir())[1:]})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{log: slog.New(slog.DiscardHandler), metrics: metrics.NewSet(), started: time.Now()}
	defer n.stop(deadline)
	budget := splitFiles(20000, c)
	for _, start := range []func(*config.Config, fileBudget) error{n.startStore, n.startDirectory, n.createApps, n.newEngine, n.startAPI} {
		if err := start(c, budget); err != nil {
			t.Fatal(err)
		}
	}
	req, err := http.NewRequest("GET", "http://"+n.api.Addr("admin")+"/console/v1/nodes", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+config.DevToken)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), `"native":0`) {
		t.Errorf("got %s %s, want 200 and no links", resp.Status, body)
	}
	if err := n.ready(); err == nil {
		t.Error("ready before the engine accepts links")
	}
}

// TestReserveCoversEverybody: what links leave is enough for all others at their bounds.
func TestReserveCoversEverybody(t *testing.T) {
	for _, files := range []int{256, 1024, 20000, 4000000} {
		c := &config.Config{
			APIConcurrency: 1024, ListenAPI: "a", ListenAdmin: "b", ListenAPITLS: config.Off, ListenAdminTLS: config.Off,
			Loops: 2, ListenNative: "c", ListenWS: "d", ListenMQTT: config.Off, ListenNativeTLS: "e", ListenWSTLS: config.Off, ListenMQTTTLS: config.Off,
		}
		b := splitFiles(files, c)
		c.Loops = 256 // each with its epoll, eventfd, three listeners, and one to be accepted and one to be closed
		if more := splitFiles(files, c); more.reserve != b.reserve+254*7 {
			t.Errorf("%d files: reserve %d with 2 loops, %d with 256", files, b.reserve, more.reserve)
		}
		if need := 2*b.perListener + webhook.FilesPerAttempt*b.attempts + filesMisc + b.store + storeMisc + 2*7; b.store < 16 || b.reserve < need || b.reserve > files*3/4 {
			t.Errorf("%d files: reserve %d, want at least %d and at most three quarters", files, b.reserve, need)
		}
	}
}
