package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU time in /proc: 100 a second on Linux for every
// architecture that Go runs on.
const clockTick = 10 * time.Millisecond

// usage is what a process has used so far.
type usage struct {
	cpu  time.Duration
	anon int64 // RssAnon in bytes
}

// readUsage reads the usage of process pid.
func readUsage(pid int) (usage, error) {
	cpu, err := readCPU(pid)
	if err != nil {
		return usage{}, err
	}
	anon, err := readAnon(pid)
	return usage{cpu: cpu, anon: anon}, err
}

// readCPU sums user and system time: fields 14 and 15 of stat, counted after
// the command, which may hold spaces and parentheses.
func readCPU(pid int) (time.Duration, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("cannot read the server's CPU time: %w", err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields)+2)
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	if err1 != nil || err2 != nil {
		return 0, fmt.Errorf("/proc/%d/stat has CPU times %q and %q", pid, fields[11], fields[12])
	}
	return time.Duration(user+system) * clockTick, nil
}

func readAnon(pid int) (int64, error) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("cannot read the server's memory: %w", err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kb, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kb << 10, err
		}
	}
	return 0, fmt.Errorf("/proc/%d/status has no RssAnon", pid)
}

// meter follows a server's usage through a run. The zero pid measures nothing.
type meter struct {
	pid   int
	begin usage
}

// newMeter starts to measure process pid; 0 = none.
func newMeter(pid int) (*meter, error) {
	if pid == 0 {
		return &meter{}, nil
	}
	u, err := readUsage(pid)
	return &meter{pid: pid, begin: u}, err
}

// read returns the usage now, nothing without a pid or once the process is gone.
func (m *meter) read() usage {
	if m.pid == 0 {
		return usage{}
	}
	u, err := readUsage(m.pid)
	if err != nil {
		return usage{}
	}
	return u
}

// result is nil without a pid.
func (m *meter) result() *ServerResult {
	if m.pid == 0 {
		return nil
	}
	return &ServerResult{PID: m.pid, CPUSeconds: (m.read().cpu - m.begin.cpu).Seconds(), RSSBefore: m.begin.anon}
}

func perEach(d time.Duration, n int) float64 {
	if n == 0 {
		return 0
	}
	return float64(d.Nanoseconds()) / 1000 / float64(n)
}
