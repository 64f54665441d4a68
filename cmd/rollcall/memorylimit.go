package main

import (
	"bufio"
	"bytes"
	"log/slog"
	"math"
	"path"
	"runtime/debug"
	"runtime/metrics"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/internal/admission"
	"github.com/rollcall-im/rollcall/internal/config"
)

// New links are refused while the process holds too much memory: the links that
// are there are worth more than one more, and a process that the kernel kills for
// its memory loses them all.

const (
	memoryPeriod = 250 * time.Millisecond // between two measurements
	// trimPeriod is the least time between two attempts to give memory back while it
	// is full: what is held may be garbage.
	trimPeriod = 10 * time.Second
	// autoShare is the percentage of what there is that the limit is by itself. The
	// rest is for the kernel's side of the links, and for what comes between two measurements.
	autoShare = 85
)

// resolveMemoryLimit returns the limit in bytes, 0 for none.
func resolveMemoryLimit(c *config.Config, readFile func(string) ([]byte, error)) int64 {
	if c.MemoryLimit != config.MemoryAuto {
		return c.MemoryLimit
	}
	least := min(debug.SetMemoryLimit(-1), cgroupMemory(readFile), machineMemory(readFile))
	if least == math.MaxInt64 {
		return 0 // nobody knows
	}
	return least / 100 * autoShare
}

// cgroupMemory is the least memory limit of the process's control group and of
// those around it, MaxInt64 if there is none: memory.max of version 2, memory.limit_in_bytes of 1.
func cgroupMemory(readFile func(string) ([]byte, error)) int64 {
	least := int64(math.MaxInt64)
	groups, _ := readFile("/proc/self/cgroup")
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3) // number:controllers:path
		if len(parts) != 3 {
			continue
		}
		root, file := "/sys/fs/cgroup", "memory.max"
		if parts[1] != "" {
			if parts[1] != "memory" {
				continue
			}
			root, file = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			if b, err := readFile(path.Join(root, dir, file)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err == nil && n > 0 { // not "max"
					least = min(least, n)
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	return least
}

// machineMemory is what the machine has, MaxInt64 if that cannot be read.
func machineMemory(readFile func(string) ([]byte, error)) int64 {
	b, err := readFile("/proc/meminfo")
	if err != nil {
		return math.MaxInt64
	}
	lines := bufio.NewScanner(bytes.NewReader(b))
	for lines.Scan() {
		if rest, is := strings.CutPrefix(lines.Text(), "MemTotal:"); is {
			kb, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err == nil && kb > 0 {
				return kb << 10
			}
		}
	}
	return math.MaxInt64
}

// runtimeMemory reads what the Go runtime holds of the machine.
type runtimeMemory struct{ samples [2]metrics.Sample }

func newRuntimeMemory() *runtimeMemory {
	return &runtimeMemory{[2]metrics.Sample{{Name: "/memory/classes/total:bytes"}, {Name: "/memory/classes/heap/released:bytes"}}}
}

func (m *runtimeMemory) bytes() int64 {
	metrics.Read(m.samples[:])
	return int64(m.samples[0].Value.Uint64() - m.samples[1].Value.Uint64())
}

// memoryWatch tells the engine when memory is full.
type memoryWatch struct {
	// Immutable after watchMemory.
	limit      int64
	used       func() int64 // bytes held now
	tell       func(full bool)
	trim       func() // collects garbage and gives memory back; may take a while
	log        *slog.Logger
	stop, done chan struct{}

	// Owned by the goroutine.
	ceiling admission.Ceiling
	full    bool
	trimmed time.Time

	// Atomic.
	last atomic.Int64 // bytes at the last measurement
}

func newMemoryWatch(limit int64, used func() int64, tell func(bool), trim func(), log *slog.Logger) *memoryWatch {
	return &memoryWatch{
		limit: limit, used: used, tell: tell, trim: trim, log: log, ceiling: admission.NewCeiling(limit),
		stop: make(chan struct{}), done: make(chan struct{}),
	}
}

func (w *memoryWatch) run() {
	defer close(w.done)
	tick := time.NewTicker(memoryPeriod)
	defer tick.Stop()
	for {
		w.step(time.Now())
		select {
		case <-w.stop:
			return
		case <-tick.C:
		}
	}
}

// step takes a measurement. What is full may be garbage, so it is looked after
// before the next one.
func (w *memoryWatch) step(now time.Time) {
	used := w.used()
	w.last.Store(used)
	full := w.ceiling.Full(used)
	if full != w.full {
		w.full = full
		w.tell(full)
		if full {
			w.log.Warn("memory is full: new links are refused", "used", used, "limit", w.limit)
		} else {
			w.log.Info("memory is no longer full: new links are taken", "used", used, "limit", w.limit)
		}
	}
	if full && now.Sub(w.trimmed) >= trimPeriod {
		w.trimmed = now
		w.trim()
	}
}

// close ends the watch.
func (w *memoryWatch) close() {
	close(w.stop)
	<-w.done
}
