package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/engine"
	"github.com/rollcall-im/rollcall/internal/config"
)

// Settings become limits: in dev there are none of rates and addresses.
func TestApplyLimits(t *testing.T) {
	for _, c := range []struct {
		args              []string
		rate, ipRate      float64
		ipLinks, pending  int
		unauthenticated   int
		minProgress       int
		firstFrame, login time.Duration
	}{
		{[]string{"--listen-admin", "off"}, 20000, 200, 4096, 50, 200, 64, 5 * time.Second, 10 * time.Second},
		{[]string{"--dev"}, 0, 0, 0, 0, 1000, 64, 5 * time.Second, 10 * time.Second},
		{[]string{"--dev", "--max-unauthenticated", "1", "--max-unauthenticated-per-ip", "1", "--min-progress", "0"}, 0, 0, 0, 10, 10, -1, 5 * time.Second, 10 * time.Second},
	} {
		cfg, err := config.Load(config.Inputs{Args: c.args})
		if err != nil {
			t.Fatal(err)
		}
		var o engine.Options
		applyLimits(&o, cfg, 1000)
		if o.AcceptRate != c.rate || o.PerIP.Rate != c.ipRate || o.PerIP.Burst != 10*c.ipRate || o.PerIP.Links != c.ipLinks ||
			o.PerIP.Pending != c.pending || o.PerNet64 != o.PerIP || o.MaxUnauthenticated != c.unauthenticated ||
			o.MinProgress != c.minProgress || o.FirstFrameTimeout != c.firstFrame || o.LoginTimeout != c.login {
			t.Errorf("%v: %+v", c.args, o)
		}
	}
	if n := share(3, 5); n != 1 {
		t.Errorf("5 %% of 3 links are %d, want 1: somebody must be able to log in", n)
	}
}

// files are a machine's.
type files map[string]string

func (f files) read(name string) ([]byte, error) {
	text, ok := f[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.ErrUnsupported}
	}
	return []byte(text), nil
}

func TestMemoryAuto(t *testing.T) {
	const none = math.MaxInt64
	for _, c := range []struct {
		name            string
		f               files
		cgroup, machine int64
		limit           int64
	}{
		{"nothing to read", nil, none, none, 0},
		{"machine", files{"/proc/meminfo": "MemFree: 3 kB\nMemTotal:       1000 kB\n"}, none, 1000 << 10, 1000 << 10 / 100 * 85},
		{"cgroup 2, outer limit", files{
			"/proc/self/cgroup": "0::/system.slice/rollcall.service\n", "/sys/fs/cgroup/system.slice/rollcall.service/memory.max": "max\n",
			"/sys/fs/cgroup/system.slice/memory.max": "5000000\n", "/proc/meminfo": "MemTotal: 9000 kB\n",
		}, 5_000_000, 9000 << 10, 4_250_000},
		{"cgroup 2 of a container", files{"/proc/self/cgroup": "0::/\n", "/sys/fs/cgroup/memory.max": "700000"}, 700_000, none, 595_000},
		{"cgroup 1", files{
			"/proc/self/cgroup": "5:cpu:/x\n4:memory:/y\n", "/sys/fs/cgroup/memory/y/memory.limit_in_bytes": "800000\n",
			"/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n", "/sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1\n",
		}, 800_000, none, 680_000},
		{"garbage", files{"/proc/self/cgroup": "x\n\n0::\n", "/proc/meminfo": "MemTotal: many kB\n"}, none, none, 0},
	} {
		if got := cgroupMemory(c.f.read); got != c.cgroup {
			t.Errorf("%s: cgroup %d, want %d", c.name, got, c.cgroup)
		}
		if got := machineMemory(c.f.read); got != c.machine {
			t.Errorf("%s: machine %d, want %d", c.name, got, c.machine)
		}
		if got := resolveMemoryLimit(&config.Config{MemoryLimit: config.MemoryAuto}, c.f.read); got != c.limit {
			t.Errorf("%s: limit %d, want %d", c.name, got, c.limit)
		}
	}
	if got := resolveMemoryLimit(&config.Config{MemoryLimit: 77}, files(nil).read); got != 77 {
		t.Errorf("a limit that is set became %d", got)
	}
}

// The engine is told when memory becomes full and when a twentieth of it is free
// again; meanwhile garbage is collected now and then.
func TestMemoryWatch(t *testing.T) {
	var told []bool
	used, trims := int64(0), 0
	w := newMemoryWatch(1000, func() int64 { return used }, func(full bool) { told = append(told, full) }, func() { trims++ }, slog.New(slog.DiscardHandler))
	now := time.Unix(1_700_000_000, 0)
	for _, step := range []struct {
		used  int64
		told  []bool
		trims int
	}{
		{999, nil, 0}, {1000, []bool{true}, 1}, {2000, []bool{true}, 1}, {960, []bool{true}, 1},
		{949, []bool{true, false}, 1}, {1001, []bool{true, false, true}, 1},
	} {
		used = step.used
		w.step(now)
		now = now.Add(memoryPeriod)
		if !slices.Equal(told, step.told) || trims != step.trims {
			t.Fatalf("%d bytes: told %v, want %v; %d trims, want %d", used, told, step.told, trims, step.trims)
		}
	}
	now = now.Add(trimPeriod)
	if w.step(now); trims != 2 {
		t.Fatalf("%d trims after a while", trims)
	}
	if w.last.Load() != 1001 {
		t.Fatalf("%d bytes shown", w.last.Load())
	}
}

// What the runtime says it holds grows with what is allocated.
func TestRuntimeMemory(t *testing.T) {
	m := newRuntimeMemory()
	before := m.bytes()
	held := make([]byte, 64<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	if after := m.bytes(); before <= 0 || after < before+32<<20 {
		t.Errorf("%d bytes before, %d with 64 MiB more", before, after)
	}
	if held[0] != 1 {
		t.Fatal()
	}
	if n := testing.AllocsPerRun(10, func() { m.bytes() }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// What the settings say reaches the listener: an address's third link is refused,
// told why, counted and logged; with less memory allowed than a server has, every link is.
func TestLimitsOfServer(t *testing.T) {
	s := running(t, startServer, "--links-per-ip", "2")
	for i := range 2 {
		login(t, s.addr["native"], fmt.Sprintf("u%d", i), codec.Android)
	}
	wantRefusedLink(t, s, codec.CodeAddressLimited, `rollcall_refused_total{reason="ip_links"} 1`)
	if err := s.terminate(); err != nil {
		t.Fatal(err)
	}
	if want := `"msg":"links were refused by limits (docs/limits.md)","ip_links":1}`; !strings.Contains(s.log.String(), want) {
		t.Errorf("the log has no %s:\n%s", want, s.log)
	}
}

func TestMemoryLimitOfServer(t *testing.T) {
	t.Setenv("GOMEMLIMIT", "4MiB")
	s := running(t, startServer)
	wantRefusedLink(t, s, codec.CodeServerFull, `rollcall_refused_total{reason="memory"} 1`)
}

// wantRefusedLink connects, is refused with code and finds the line in the metrics.
func wantRefusedLink(t *testing.T, s *server, code codec.Code, line string) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", s.addr["native"], deadline)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	l := &testLink{conn: conn}
	f, err := l.next()
	var m codec.LoginRefused
	if err != nil || f.Type != codec.TypeLoginRefused || m.Unmarshal(f.Body) != nil || m.Code != code || m.RetryAfterMS == 0 {
		t.Fatalf("got %v %+v, %v; want %v", f.Type, m, err, code)
	}
	if text := get(t, "http://"+s.addr["admin"]+"/metrics"); !strings.Contains(text, line+"\n") {
		t.Errorf("the metrics lack %s", line)
	}
}
