package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/rollcall-im/rollcall/bench"
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

// ready learns where the server listens. False: the process ended before.
func (p *process) ready(ctx context.Context) (bool, error) {
	at, err := bench.Listening(ctx, p.stdout)
	if err != nil {
		return false, err
	}
	if at["native"] == "" || at["api"] == "" || at["admin"] == "" {
		<-p.ended
		return false, nil
	}
	p.native, p.api, p.admin = at["native"], "http://"+at["api"], "http://"+at["admin"]
	return true, nil
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
