package ledger

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// process is one life of the server.
type process struct {
	life     int
	cmd      *exec.Cmd
	log      *os.File
	stdout   *os.File
	expected atomic.Bool // its end: we have sent a signal
	ended    chan struct{}
	err      error // of Wait; read after ended

	native, api, admin string // once it is ready
}

// startTimeout is how long the server may take until it prints its listeners.
const startTimeout = 60 * time.Second

// spawn starts the server. Its log goes to dir/server.log, behind that of earlier lives.
func spawn(binary, dir string, life int, flags []string) (*process, error) {
	p := &process{life: life, ended: make(chan struct{})}
	var err error
	if p.log, err = os.OpenFile(filepath.Join(dir, "server.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600); err != nil {
		return nil, err
	}
	fmt.Fprintf(p.log, "-- life %d\n", life)
	args := append([]string{"serve", "--dev", "--data-dir", filepath.Join(dir, "data"),
		"--listen-native", "127.0.0.1:0", "--listen-ws", "off", "--listen-mqtt", "off", "--listen-api", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0", "--log-format", "json"}, flags...)
	p.cmd = exec.Command(binary, args...)
	p.cmd.Stderr = p.log
	out, w, err := os.Pipe()
	if err != nil {
		return nil, errors.Join(err, p.log.Close())
	}
	p.stdout, p.cmd.Stdout = out, w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start the server: %w", err), out.Close(), p.log.Close())
	}
	go func() {
		p.err = p.cmd.Wait()
		p.log.Close()
		close(p.ended)
	}()
	return p, nil
}

// ready reads the line that tells the listeners. False: the process ended before.
func (p *process) ready(ctx context.Context) (bool, error) {
	line := make(chan string, 1)
	go func() {
		defer p.stdout.Close()
		r := bufio.NewReader(p.stdout)
		text, _ := r.ReadString('\n')
		line <- text
		_, _ = io.Copy(io.Discard, r)
	}()
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	select {
	case text := <-line:
		for _, word := range strings.Fields(text) {
			name, addr, _ := strings.Cut(word, "=")
			switch name {
			case "native":
				p.native = addr
			case "api":
				p.api = "http://" + addr
			case "admin":
				p.admin = "http://" + addr
			}
		}
		if p.native != "" && p.api != "" && p.admin != "" {
			return true, nil
		}
		<-p.ended
		return false, nil
	case <-late.C:
		return false, fmt.Errorf("the server was not ready after %v", startTimeout)
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

// kill ends the process at once.
func (p *process) kill() { p.signal(syscall.SIGKILL) }

func (p *process) signal(s syscall.Signal) {
	p.expected.Store(true)
	_ = p.cmd.Process.Signal(s) // it may have ended just now
}

// stopTimeout is how long a clean stop may take.
const stopTimeout = 30 * time.Second

// stop ends the process by SIGTERM and says what was wrong with that, nil if
// nothing. A process that does not end leaves its goroutines in the log.
func (p *process) stop() error {
	p.signal(syscall.SIGTERM)
	if p.over(stopTimeout) {
		return p.err
	}
	p.signal(syscall.SIGQUIT)
	if !p.over(stopTimeout) {
		p.kill()
		<-p.ended
	}
	return fmt.Errorf("it did not end in %v", stopTimeout)
}

// over waits until the process has ended, at most d.
func (p *process) over(d time.Duration) bool {
	select {
	case <-p.ended:
		return true
	default:
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-p.ended:
		return true
	case <-t.C:
		return false
	}
}

// tail is the end of the server's log, for a report.
func tail(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "server.log"))
	if err != nil {
		return err.Error()
	}
	if len(b) > 2000 {
		b = b[len(b)-2000:]
	}
	return string(bytes.TrimSpace(b))
}

// knows reports whether `serve` of the binary has a flag.
func knows(binary, flag string) (bool, error) {
	out, err := exec.Command(binary, "serve", "-h").Output()
	if err != nil {
		return false, fmt.Errorf("%s serve -h: %w", binary, err)
	}
	return bytes.Contains(out, []byte("--"+flag+" ")), nil
}
