package main

import (
	"encoding/pem"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// callWith runs `rollcall app list` against a console at base.
func callWith(base string, args ...string) (code int, stdout, stderr string) {
	var out, errOut strings.Builder
	e := env{stdin: strings.NewReader(""), stdout: &out, stderr: &errOut, getenv: func(string) (string, bool) { return "", false }}
	code = run(e, append([]string{"app", "list", "--admin", base}, args...))
	return code, out.String(), errOut.String()
}

// console is a handler that answers every call with an empty list and notes the tokens it was given.
func console(tokens *[]string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		*tokens = append(*tokens, r.Header.Get("Authorization"))
		w.Write([]byte("{\"Apps\":[]}\n"))
	})
}

// TestTLS: a private authority is trusted when it is named, and a certificate that
// is not trusted says so and never that the server may not be running.
func TestTLS(t *testing.T) {
	var tokens []string
	s := httptest.NewUnstartedServer(console(&tokens))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.StartTLS()
	defer s.Close()
	ca := filepath.Join(t.TempDir(), "ca.pem")
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(ca, cert, 0o600); err != nil {
		t.Fatal(err)
	}
	if code, out, errOut := callWith(s.URL, "--ca-file", ca); code != exitOK || out != "{\n  \"Apps\": []\n}\n" {
		t.Errorf("with --ca-file: exit %d, %q, %q", code, out, errOut)
	}
	if len(tokens) != 1 || tokens[0] != "Bearer dev" {
		t.Errorf("tokens %q, want the one of --dev", tokens)
	}
	plain := strings.Replace(s.URL, "https", "http", 1)
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		base string
		args []string
		code int
		want string
	}{
		{s.URL, nil, exitError, "--ca-file names the authority"},
		{s.URL, []string{"--ca-file", empty}, exitError, "holds no certificate"},
		{s.URL, []string{"--ca-file", empty + "x"}, exitError, "--ca-file: open"},
		{plain, []string{"--ca-file", ca}, exitUsage, "for https addresses"},
	} {
		code, _, errOut := callWith(c.base, c.args...)
		if code != c.code || !strings.Contains(errOut, c.want) || strings.Contains(errOut, "running") {
			t.Errorf("%s %q: exit %d, %q; want exit %d and %q", c.base, c.args, code, errOut, c.code, c.want)
		}
	}
	if len(tokens) != 1 {
		t.Errorf("a server that is not trusted got the token")
	}
}

// TestNoServer: the hint at a server that is not running belongs to a refused connection.
func TestNoServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	code, _, errOut := callWith(l.Addr().String())
	want := "rollcall app: cannot reach http://" + l.Addr().String() + ": connection refused (is the server running?)\n"
	if code != exitError || errOut != want {
		t.Errorf("exit %d, %q; want %q", code, errOut, want)
	}
}

func TestBaseURL(t *testing.T) {
	for in, want := range map[string]string{
		"127.0.0.1:7781":   "http://127.0.0.1:7781",
		"localhost:7781":   "http://localhost:7781",
		"h":                "http://h",
		"http://h:1/":      "http://h:1",
		"https://[::1]:1":  "https://[::1]:1",
		"ftp://h":          "",
		"http://":          "",
		"":                 "",
		"http://h/console": "",
		"http://h?x=y":     "",
		"http://u:p@h":     "",
		"http://h:port":    "",
	} {
		got, err := baseURL("admin", in)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

// TestGuessedToken: the token of --dev that is tried against this machine is named when it is refused, one that was given is not.
func TestGuessedToken(t *testing.T) {
	const hint = "no --token-file given, tried the token of --dev"
	given := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(given, []byte("0123456789abcdef\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for status, guess := range map[int]bool{http.StatusUnauthorized: true, http.StatusTooManyRequests: true, http.StatusNotFound: false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
		if code, _, errOut := callWith(s.URL); code != exitError || strings.Contains(errOut, hint) != guess {
			t.Errorf("status %d: exit %d, %q; names the guess: want %v", status, code, errOut, guess)
		}
		if code, _, errOut := callWith(s.URL, "--token-file", given); code != exitError || strings.Contains(errOut, hint) {
			t.Errorf("status %d with --token-file: exit %d, %q", status, code, errOut)
		}
		s.Close()
	}
}

// TestPlainToTLS: a server that hangs up on plain HTTP, as a TLS listener does, may want https.
func TestPlainToTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Read(make([]byte, 1<<12)) // all of it: a close with bytes unread is an RST
			c.Close()
		}
	}()
	if code, _, errOut := callWith("http://" + l.Addr().String()); code != exitError || !strings.HasSuffix(errOut, ": EOF (is it https?)\n") {
		t.Errorf("exit %d, %q", code, errOut)
	}
}
