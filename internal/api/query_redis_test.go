package api

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// redisRig is Debian's redis-server with a key per user, asked by redis-benchmark.
type redisRig struct {
	port  string
	pid   int
	bench string
}

// redisValue is what a backend would keep of a user: the words of one instance.
const redisValue = "Online:Android:Online"

// startRedis starts redis-server with all users in it; nil if it is not installed.
func startRedis(b *testing.B) *redisRig {
	server, err := exec.LookPath("redis-server")
	bench, err2 := exec.LookPath("redis-benchmark")
	if err != nil || err2 != nil {
		b.Log("redis-server or redis-benchmark is not installed")
		return nil
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	_ = ln.Close()
	cmd := exec.Command(server, "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", b.TempDir())
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	r := &redisRig{port: port, pid: cmd.Process.Pid, bench: bench}
	r.fill(b)
	return r
}

func (r *redisRig) dial(b *testing.B) net.Conn {
	for deadline := time.Now().Add(10 * time.Second); ; {
		c, err := net.Dial("tcp", "127.0.0.1:"+r.port)
		if err == nil {
			return c
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// fill sets key:<12 digits>, the form that redis-benchmark asks for.
func (r *redisRig) fill(b *testing.B) {
	c := r.dial(b)
	defer c.Close()
	in := bufio.NewReader(c)
	const batch = 10_000
	for i := 0; i < *userCount; i += batch {
		var out bytes.Buffer
		for j := i; j < min(i+batch, *userCount); j++ {
			fmt.Fprintf(&out, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%s\r\n", j, len(redisValue), redisValue)
		}
		if _, err := c.Write(out.Bytes()); err != nil {
			b.Fatal(err)
		}
		for range min(batch, *userCount-i) {
			if line, err := in.ReadString('\n'); err != nil || line != "+OK\r\n" {
				b.Fatalf("redis: %q, %v", line, err)
			}
		}
	}
}

var redisRate = regexp.MustCompile(`throughput summary: ([0-9.]+) requests per second`)

// round asks for n random users at a time, 16 requests in flight on each
// connection, and returns what the server paid per request.
func (r *redisRig) round(b *testing.B, n int) (cpuUS, rps float64) {
	requests := max(4000, 400_000/n)
	args := []string{"-p", r.port, "-c", "16", "-P", "16", "-n", strconv.Itoa(requests), "-r", strconv.Itoa(*userCount), "MGET"}
	for range n {
		args = append(args, "key:__rand_int__")
	}
	begin := processCPU(b, r.pid)
	out, err := exec.Command(r.bench, args...).CombinedOutput()
	cpu := processCPU(b, r.pid) - begin
	m := redisRate.FindSubmatch(out)
	if err != nil || m == nil {
		b.Fatalf("redis-benchmark: %v\n%s", err, out)
	}
	rps, _ = strconv.ParseFloat(string(m[1]), 64)
	return cpu.Seconds() * 1e6 / float64(requests), rps
}

// processCPU reads user and system time of a process, in steps of 10 ms.
func processCPU(b *testing.B, pid int) time.Duration {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	fields := strings.Fields(rest)
	var ticks int
	for _, f := range fields[11:13] {
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
