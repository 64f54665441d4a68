package attack

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall-im/rollcall/bench"
)

// appID is the suite's app. It is no development app: what protects a server is
// off in dev mode.
const appID = 1400000099

// adminToken is that of the suite's servers.
const adminToken = "a-token-of-the-hostile-suite"

// process is a server of a row.
type process struct {
	cmd    *exec.Cmd
	dir    string
	log    *bytes.Buffer // complete once ended is closed
	ended  chan struct{}
	err    error // of Wait; read after ended
	target Target
}

// startServer starts the binary as it would run for real, on free ports.
func startServer(ctx context.Context, binary, dir string, flags []string) (*process, error) {
	key := rand.Text()
	config := fmt.Sprintf("apps:\n  - SDKAppID: %d\n    Key: %s\n", appID, key)
	p := &process{dir: dir, log: new(bytes.Buffer), ended: make(chan struct{}), target: Target{App: appID, Key: key}}
	err := errors.Join(os.WriteFile(filepath.Join(dir, "rollcall.yaml"), []byte(config), 0o600), os.WriteFile(filepath.Join(dir, "token"), []byte(adminToken), 0o600))
	if err != nil {
		return nil, err
	}
	args := append([]string{"serve", "--config", filepath.Join(dir, "rollcall.yaml"), "--admin-token-file", filepath.Join(dir, "token"), "--durability", "memory",
		"--listen-native", "127.0.0.1:0", "--listen-ws", "127.0.0.1:0", "--listen-api", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0", "--log-format", "json"}, flags...)
	more, err := p.moreListeners(binary)
	if err != nil {
		return nil, err
	}
	p.cmd = exec.Command(binary, append(args, more...)...)
	p.cmd.Stderr = p.log
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	p.cmd.Stdout = w
	err = p.cmd.Start()
	w.Close()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot start the server: %w", err), r.Close())
	}
	go func() {
		p.err = p.cmd.Wait()
		close(p.ended)
	}()
	if err := p.listening(ctx, r); err != nil {
		return nil, errors.Join(err, p.stop())
	}
	return p, nil
}

// offers reports whether the server has a listener, by what its help says.
func offers(binary, listener string) (bool, error) {
	out, err := exec.Command(binary, "serve", "-h").Output()
	if err != nil {
		return false, fmt.Errorf("%s serve -h: %w", binary, err)
	}
	_, about, found := strings.Cut(string(out), "--listen-"+listener+" ")
	about, _, _ = strings.Cut(about, "\n  --")
	return found && !strings.Contains(about, "Not in this release"), nil
}

// moreListeners are the flags of listeners that not every server has.
func (p *process) moreListeners(binary string) ([]string, error) {
	var flags []string
	mqtt, err1 := offers(binary, "mqtt")
	if mqtt {
		flags = append(flags, "--listen-mqtt", "127.0.0.1:0")
	}
	overTLS, err2 := offers(binary, "native-tls")
	if err := errors.Join(err1, err2); err != nil || !overTLS {
		return flags, err
	}
	cert, key, err := bench.WriteCertificate(p.dir)
	flags = append(flags, "--tls-cert", cert, "--tls-key", key, "--listen-native-tls", "127.0.0.1:0")
	for _, twin := range []string{"ws-tls", "mqtt-tls", "api-tls", "admin-tls"} {
		has, err := offers(binary, twin)
		if err != nil {
			return nil, err
		}
		if has {
			flags = append(flags, "--listen-"+twin, "off")
		}
	}
	return flags, err
}

// listening learns where the server listens.
func (p *process) listening(ctx context.Context, out *os.File) error {
	at, err := bench.Listening(ctx, out)
	if err != nil {
		return err
	}
	t := &p.target
	t.Native, t.WS, t.MQTT, t.NativeTLS, t.API, t.Admin = at["native"], at["ws"], at["mqtt"], at["native-tls"], at["api"], at["admin"]
	if t.Native == "" || t.WS == "" || t.API == "" || t.Admin == "" {
		return fmt.Errorf("the server says that it listens on %v", at)
	}
	return nil
}

// stopTimeout is how long a clean stop may take.
const stopTimeout = 40 * time.Second

// stop ends the server by SIGTERM and tells what was wrong with that or in its log.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	late := time.AfterFunc(stopTimeout, func() { _ = p.cmd.Process.Signal(syscall.SIGQUIT) })
	<-p.ended
	late.Stop()
	if p.err != nil {
		return fmt.Errorf("the server ended with %w; the end of its log:\n%s", p.err, tail(p.log.Bytes()))
	}
	for line := range bytes.Lines(p.log.Bytes()) {
		if bytes.Contains(line, []byte("panic")) || bytes.Contains(line, []byte(`"level":"ERROR"`)) {
			return fmt.Errorf("the server logged: %.2000s", line)
		}
	}
	return nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }

// memory is the server's resident memory and its highest so far, in bytes.
func (p *process) memory() (now, peak int64) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	for line := range strings.Lines(string(text)) {
		var kb int64
		name, rest, _ := strings.Cut(line, ":")
		switch name {
		case "VmRSS", "VmHWM":
			if _, err := fmt.Sscan(rest, &kb); err != nil {
				continue
			}
			if name == "VmRSS" {
				now = kb << 10
			} else {
				peak = kb << 10
			}
		}
	}
	return now, peak
}

// forgetPeak lets the highest memory begin anew.
func (p *process) forgetPeak() error {
	return os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.cmd.Process.Pid), []byte("5"), 0)
}
