package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// readFields reads a file of /proc whose lines are "name: value kB" or "name: value".
func readFields(path string) (map[string]int64, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := make(map[string]int64)
	for line := range bytes.Lines(text) {
		name, rest, ok := strings.Cut(string(line), ":")
		f := strings.Fields(rest)
		if !ok || len(f) == 0 {
			continue
		}
		n, err := strconv.ParseInt(f[0], 10, 64)
		if err != nil {
			continue
		}
		if len(f) == 2 && f[1] == "kB" {
			n <<= 10
		}
		m[name] = n
	}
	return m, nil
}

// memAvailable is what the kernel could still give, and all there is.
func memAvailable() (available, total int64, err error) {
	m, err := readFields("/proc/meminfo")
	if err != nil {
		return 0, 0, err
	}
	return m["MemAvailable"], m["MemTotal"], nil
}

// fillKernel reads what the kernel uses for itself into s.
func fillKernel(s *Snapshot) error {
	m, err := readFields("/proc/meminfo")
	if err != nil {
		return fmt.Errorf("cannot read the kernel's memory: %w", err)
	}
	s.Slab, s.PageTables, s.MemAvailable, s.MemTotal = m["Slab"], m["PageTables"], m["MemAvailable"], m["MemTotal"]
	stat, err := os.ReadFile("/proc/net/sockstat")
	if err != nil {
		return fmt.Errorf("cannot read the kernel's sockets: %w", err)
	}
	s.TCPInUse, s.Sockets = parseSockstat(string(stat))
	return nil
}

// parseSockstat takes the TCP sockets and the bytes of their buffers out of sockstat.
func parseSockstat(text string) (inUse, bytes int64) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) == 0 || f[0] != "TCP:" {
			continue
		}
		for i := 1; i+1 < len(f); i += 2 {
			n, _ := strconv.ParseInt(f[i+1], 10, 64)
			switch f[i] {
			case "inuse":
				inUse = n
			case "mem":
				bytes = n * int64(os.Getpagesize())
			}
		}
	}
	return inUse, bytes
}

// residentOf is all resident memory of a process, 0 if it is gone.
func residentOf(pid int) int64 {
	m, err := readFields(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	return m["VmRSS"]
}
