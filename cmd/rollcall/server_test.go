package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// deadline bounds the waits of these tests; nothing is judged by how long it takes.
const deadline = 60 * time.Second

// server is a rollcall process on free ports of 127.0.0.1.
type server struct {
	cmd  *exec.Cmd
	addr map[string]string // by listener
	log  *syncBuffer
	out  *bufio.Reader
	end  sync.Once
	err  error // how it ended
}

// syncBuffer is written by the process's pipe and read by the test.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *syncBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *syncBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}

// devArgs are those of a server in dev mode on free ports.
func devArgs(dir string) []string { return devArgsAt(dir, nil) }

// devArgsAt has given addresses for some listeners.
func devArgsAt(dir string, at map[string]string) []string {
	args := []string{"serve", "--dev", "--data-dir", filepath.Join(dir, "data")}
	for _, name := range []string{"native", "ws", "mqtt", "api", "admin"} {
		addr := "127.0.0.1:0"
		if at[name] != "" {
			addr = at[name]
		}
		args = append(args, "--listen-"+name, addr)
	}
	return args
}

func startServer(args ...string) (*server, error) {
	return startCommand(exec.Command(os.Args[0], args...))
}

// startLimited starts a server that may open so many files.
func startLimited(files int, args ...string) (*server, error) {
	script := fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, files)
	return startCommand(exec.Command("sh", append([]string{"-c", script, os.Args[0]}, args...)...))
}

// startCommand starts a server and returns when it says where it listens.
func startCommand(cmd *exec.Cmd) (*server, error) {
	s := &server{cmd: cmd, addr: map[string]string{}, log: new(syncBuffer)}
	cmd.Env = append(os.Environ(), asServer+"=1")
	cmd.Stderr = s.log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(out)
	line, err := s.out.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "listening ") {
		io.Copy(io.Discard, s.out)
		return nil, fmt.Errorf("the server said %q and ended with %w; its log:\n%s", line, cmd.Wait(), s.log)
	}
	for _, pair := range strings.Fields(line)[1:] {
		name, addr, _ := strings.Cut(pair, "=")
		s.addr[name] = addr
	}
	return s, nil
}

// terminate sends SIGTERM, the first time, and returns how the process ended.
func (s *server) terminate() error {
	s.end.Do(func() { s.err = s.sigterm() })
	return s.err
}

func (s *server) sigterm() error {
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	timer := time.AfterFunc(deadline, func() { s.cmd.Process.Kill() })
	defer timer.Stop()
	io.Copy(io.Discard, s.out)
	return s.cmd.Wait()
}

// running starts a dev server that ends with the test.
func running(t *testing.T, start func(args ...string) (*server, error), extra ...string) *server {
	t.Helper()
	s, err := start(append(devArgs(t.TempDir()), extra...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.terminate(); err != nil {
			t.Errorf("on SIGTERM the server ended with %v, want exit 0", err)
		}
		if t.Failed() {
			t.Logf("log of the server:\n%s", s.log)
		}
	})
	return s
}
