package main

import (
	"context"
	"crypto/tls"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"net"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	rollcall "github.com/rollcall-im/rollcall/sdk/go"
)

// firstTries runs a client until its second failed try, and returns the lines that `rollcall login` shows.
func firstTries(t *testing.T, addr string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	var out strings.Builder
	say := &teller{w: &out}
	failed := 0
	client, err := rollcall.New(rollcall.Options{
		Addr: addr, SDKAppID: devApp, UserID: "alice", UserSig: rollcall.StaticUserSig("x"),
		Platform: codec.Android, DeviceID: "d", BackoffMin: 1, BackoffMax: 1, OnLogin: say.login,
		OnStatus: func(s rollcall.StatusChange) {
			say.status(s)
			if s.Status == rollcall.Waiting {
				if failed++; failed == 2 {
					cancel()
				}
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	client.Run(ctx)
	if failed != 2 {
		t.Fatalf("%d failed tries, want 2; it said:\n%s", failed, &out)
	}
	return out.String()
}

// TestLoginOverTLS: with --tls the client checks the server's certificate, and only then says who it is.
func TestLoginOverTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate
	defer web.Close()
	ln, err := tls.Listen("tcp", "127.0.0.1:0", web.TLS)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			io.WriteString(conn, "this is no frame")
			conn.Close()
		}
	}()
	file := filepath.Join(t.TempDir(), "ca.pem")
	writeFile(t, file, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: web.Certificate().Raw})), 0o600)
	plain := speaksHTTP(t)
	for name, tc := range map[string]struct {
		l       loginFlags
		ln      net.Listener
		trusted bool
		hint    string
	}{
		"trusted":     {loginFlags{tls: true, caFile: file}, ln, true, "is " + ln.Addr().String() + " the native listener?"},
		"not trusted": {loginFlags{tls: true}, ln, false, "--ca-file names the authority to trust"},
		"plain":       {loginFlags{tls: true}, plain, false, "is " + plain.Addr().String() + " a TLS listener?"},
	} {
		config, err := tc.l.tlsConfig()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		var failed error
		var out strings.Builder
		say := &teller{w: &out}
		client, err := rollcall.New(rollcall.Options{
			Addr: tc.ln.Addr().String(), SDKAppID: devApp, UserID: "alice", UserSig: rollcall.StaticUserSig("x"),
			Platform: codec.Android, DeviceID: "d", TLSConfig: config,
			OnStatus: func(s rollcall.StatusChange) {
				say.status(s)
				if s.Status == rollcall.Waiting {
					failed = s.Err
					cancel()
				}
			},
		})
		if err != nil {
			t.Fatal(err)
		}
		client.Run(ctx)
		cancel()
		var wrong *tls.CertificateVerificationError
		if errors.Is(failed, rollcall.ErrProtocol) != tc.trusted || errors.As(failed, &wrong) != (name == "not trusted") {
			t.Errorf("%s: %v", name, failed)
		}
		if !strings.Contains(out.String(), tc.hint) {
			t.Errorf("%s: no hint %q in:\n%s", name, tc.hint, &out)
		}
	}
}

// TestLoginHints: before the first login a failure comes with what to look at, once.
func TestLoginHints(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	web := speaksHTTP(t)
	for addr, want := range map[string][2]string{
		closed.Addr().String(): {"no login: cannot connect to " + closed.Addr().String() + ": connection refused; next try", "is the server running?"},
		web.Addr().String():    {"no login: the server broke the protocol", "is " + web.Addr().String() + " the native listener?"},
	} {
		said := firstTries(t, addr)
		if strings.Count(said, want[0]) != 2 || strings.Count(said, want[1]) != 1 {
			t.Errorf("%s: want twice %q and once %q, got:\n%s", addr, want[0], want[1], said)
		}
		if strings.Contains(said, "rollcall: ") || strings.Contains(said, "dial tcp") {
			t.Errorf("%s: the names of packages are shown:\n%s", addr, said)
		}
	}
}

// speaksHTTP is a listener that answers every connection like a web server.
func speaksHTTP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { l.Close(); <-done })
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 400 Bad Request\r\n\r\n")
			io.Copy(io.Discard, c)
			c.Close()
		}
	}()
	return l
}

// TestNoHintLater: a client that was logged in knows the address.
func TestNoHintLater(t *testing.T) {
	var out strings.Builder
	say := &teller{w: &out}
	say.login(rollcall.Login{InstID: 1})
	say.status(rollcall.StatusChange{Status: rollcall.Waiting, Err: rollcall.ErrProtocol})
	if strings.Contains(out.String(), "?") || !strings.Contains(out.String(), "lost: the server broke") {
		t.Errorf("it said:\n%s", out.String())
	}
}

// TestLoginDefaults: who watches a login is not kept waiting for as long as a phone in a pocket, and
// others are shown which device it was.
func TestLoginDefaults(t *testing.T) {
	fs := flag.NewFlagSet("login", flag.ContinueOnError)
	var l loginFlags
	l.register(fs)
	if err := fs.Parse([]string{"--device", "phone-2"}); err != nil {
		t.Fatal(err)
	}
	o, err := l.options(env{getenv: func(string) (string, bool) { return "", false }})
	if err != nil || o.BackoffMax != 5*time.Second {
		t.Errorf("longest wait %v, %v; want 5s", o.BackoffMax, err)
	}
	if o.DeviceModel != "phone-2" {
		t.Errorf("others are shown %q", o.DeviceModel)
	}
}
