package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/webhook"
)

// TestWebhookCommands: what a dead receiver did not take is listed, replayed and skipped.
func TestWebhookCommands(t *testing.T) {
	s := running(t, startServer)
	admin := s.addr["admin"]
	// Nobody listens on port 1, and it is given up after a second.
	put, err := http.NewRequest("PUT", "http://"+admin+"/console/v1/apps/1400000000/webhook", strings.NewReader(`{"URL":"http://127.0.0.1:1/","GiveUpMS":1000}`))
	if err != nil {
		t.Fatal(err)
	}
	put.Header.Set("Authorization", "Bearer dev")
	res, err := http.DefaultClient.Do(put)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	command := func(args ...string) (string, int) {
		var out strings.Builder
		e := env{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(string) (string, bool) { return "", false }}
		code := run(e, append([]string{"webhook", args[0], "--admin", admin}, args[1:]...))
		return out.String(), code
	}
	var page struct {
		DeadLetters []struct {
			ID     uint64
			UserID string
		}
		Next string
	}
	list := func(args ...string) int {
		out, code := command(append([]string{"dead-letters"}, args...)...)
		page.DeadLetters, page.Next = nil, ""
		if err := json.Unmarshal([]byte(out), &page); err != nil || code != exitOK {
			t.Fatalf("%s: %v", out, err)
		}
		return len(page.DeadLetters)
	}
	for i := range 3 {
		login(t, s.addr["native"], fmt.Sprint("user", i), codec.Android)
	}
	for list() != 3 {
		time.Sleep(10 * time.Millisecond) // the condition is another process's
	}
	if list("--limit", "2"); len(page.DeadLetters) != 2 || page.Next == "" {
		t.Errorf("first page %+v", page)
	}
	if list("--limit", "2", "--after", page.Next); len(page.DeadLetters) != 1 {
		t.Errorf("second page %+v", page)
	}
	for _, c := range []struct {
		args []string
		want string
		code int
	}{
		{[]string{"skip", "1"}, "skipped 1\n", exitOK},
		{[]string{"skip", "1"}, "skipped 0\nrollcall webhook: 1 of 1 are no dead letters of app 1400000000\n", exitError},
		{[]string{"replay", "2"}, "replayed 1\n", exitOK},
		{[]string{"skip", "3"}, "skipped 1\n", exitOK},
	} {
		if out, code := command(c.args...); out != c.want || code != c.code {
			t.Errorf("%v: %q with code %d, want %q with %d", c.args, out, code, c.want, c.code)
		}
	}
	for list() != 1 {
		time.Sleep(10 * time.Millisecond) // the replayed one is given up again
	}
	if out, _ := command("replay", "--all"); out != "replayed 1\n" {
		t.Errorf("replay --all: %q", out)
	}
}

// TestRefusedReceiverNamesTheSetting: who may not use an address is told what would allow it.
func TestRefusedReceiverNamesTheSetting(t *testing.T) {
	hooks, err := webhook.New(webhook.Options{App: func(uint32) *directory.App { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	n := &node{webhook: hooks}
	for url, want := range map[string]string{
		"http://127.0.0.1:8000/": "webhook target is not allowed: 127.0.0.1 is a loopback address; serve --webhook-allow-loopback allows it",
		"http://localhost/":      `webhook target is not allowed: "localhost" is a loopback address; serve --webhook-allow-loopback allows it`,
		"http://10.1.2.3/":       "webhook target is not allowed: 10.1.2.3 is a private or link-local address; serve --webhook-allow-private allows it",
		"http://224.0.0.1/":      "webhook target is not allowed: 224.0.0.1 is no host",
	} {
		if err := n.checkWebhook(url); fmt.Sprint(err) != want {
			t.Errorf("%s: %v, want %s", url, err, want)
		}
	}
}
