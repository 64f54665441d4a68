package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
)

// TestPresetsDocumented: the page and the API description have the rows that policy set --help has.
func TestPresetsDocumented(t *testing.T) {
	for _, name := range []string{"../../docs/policy.md", "../../internal/api/openapi.yaml"} {
		text := string(readFile(t, name))
		for _, r := range presetRows() {
			row := fmt.Sprintf("| `%s` | %s | %s |", r[0], r[1], r[2])
			if name != "../../docs/policy.md" {
				row = strings.Replace(row, "by --file", "in Groups", 1)
			}
			if !strings.Contains(text, row+"\n") {
				t.Errorf("%s has no row %s", name, row)
			}
		}
	}
}

// TestPresetRowsAreAccepted: what the table allows, the policy's own check allows, and one more it refuses.
func TestPresetRowsAreAccepted(t *testing.T) {
	s := running(t, startServer)
	set := func(preset string, limits string) error {
		var out strings.Builder
		e := env{stdin: strings.NewReader(""), stdout: &out, stderr: &out, getenv: func(string) (string, bool) { return "", false }}
		if run(e, []string{"policy", "set", "--admin", s.addr["admin"], "--preset", preset, "--limit", limits}) != exitOK {
			return fmt.Errorf("%s", &out)
		}
		return nil
	}
	form := regexp.MustCompile(`^Web 1 to ([0-9]+), others 1(?: to ([0-9]+))?$`)
	for _, r := range presetRows()[:4] {
		m := form.FindStringSubmatch(r[2])
		if m == nil {
			t.Fatalf("limits %q cannot be read", r[2])
		}
		var web, others int
		fmt.Sscan(m[1], &web)
		if fmt.Sscan(m[2], &others); others == 0 {
			others = 1
		}
		if err := set(r[0], fmt.Sprintf("Web=%d,Mac=%d", web, others)); err != nil {
			t.Errorf("%s with the highest limits of the table: %v", r[0], err)
		}
		if set(r[0], fmt.Sprintf("Web=%d", web+1)) == nil || set(r[0], fmt.Sprintf("Mac=%d", others+1)) == nil {
			t.Errorf("%s with more than the table allows is accepted", r[0])
		}
	}
}

// TestCurlExamples runs the curl commands of the pages against a server.
func TestCurlExamples(t *testing.T) {
	for _, tool := range []string{"curl", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("CI installs %s, and it is not here", tool)
			}
			t.Skip(err)
		}
	}
	s := running(t, startServer)
	login(t, s.addr["native"], "alice", codec.Android)
	s.command(t, "app", "create", "--app", "88888888") // the one that README makes
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "admin-token"), "dev\n", 0o600)
	writeFile(t, filepath.Join(dir, "bin", "rollcall"), fmt.Sprintf("#!/bin/sh\n%s=1 exec '%s' \"$@\"\n", asServer, os.Args[0]), 0o700)
	for name, want := range map[string][]string{
		"README.md":       {`"Status":"Online"`},
		"docs/webhook.md": {`"URL":"http://127.0.0.1:8000/rollcall","TokenSet":true`},
	} {
		commands := regexp.MustCompile(`(?m)^curl .*$`).FindAllString(string(readFile(t, "../../"+name)), -1)
		if len(commands) != len(want) {
			t.Errorf("%s has %d curl commands, want %d", name, len(commands), len(want))
			continue
		}
		for i, command := range commands {
			command = strings.NewReplacer("127.0.0.1:7780", s.addr["api"], "127.0.0.1:7781", s.addr["admin"],
				"https://backend.example", "http://127.0.0.1:8000").Replace(command)
			sh := exec.Command("sh", "-c", command)
			sh.Dir = dir
			out, err := sh.CombinedOutput()
			if err != nil || !strings.Contains(string(out), want[i]) {
				t.Errorf("%s: %s\ngot %s, %v; want %s", name, command, out, err, want[i])
			}
		}
	}
}

func writeFile(t *testing.T, name, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}
