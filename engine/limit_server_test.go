package engine

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/panjf2000/gnet/v2"
	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/webhook"
)

// The servers that BenchmarkLink compares. Each runs in a process of its own,
// this test binary started again, so that its CPU time and memory are those of
// the server alone. They differ in what happens behind the socket:
//
//	bare      gnet alone: answers 16 bytes to whatever comes
//	rollcall  the engine, the embedded directory and the webhook dispatcher, as cmd/rollcall puts them together
//	ws        the same, spoken to over WebSocket, rollcall.v1
//	wsjson    and rollcall.json.v1

// limitServerEnv names the server that this process shall be.
const limitServerEnv = "ROLLCALL_LIMIT_SERVER"

// limitLoopsEnv is the number of event loops of the server.
const limitLoopsEnv = "ROLLCALL_LIMIT_LOOPS"

func limitServerLoops() int {
	n, _ := strconv.Atoi(os.Getenv(limitLoopsEnv))
	return max(n, 1)
}

// serveLimit runs the server and obeys commands on standard input, each
// answered by a line: "mem" tells what the process holds after a collection,
// "links" and "received" how many links are open and how many bytes came,
// "profile FILE" writes a heap profile, "cpu FILE" profiles until the next "cpu".
func serveLimit(kind string) error {
	addr, counts, err := startLimit(kind)
	if err != nil {
		return err
	}
	fmt.Println(addr)
	in := bufio.NewScanner(os.Stdin)
	var profiling *os.File
	for in.Scan() {
		verb, file, _ := strings.Cut(in.Text(), " ")
		var err error
		switch verb {
		case "mem":
			fmt.Println(memoryLine())
			continue
		case "links":
			fmt.Println(counts.links())
			continue
		case "received":
			fmt.Println(counts.received())
			continue
		case "profile":
			err = heapProfile(file)
		case "cpu":
			if profiling != nil {
				pprof.StopCPUProfile()
				err = profiling.Close()
				profiling = nil
			} else if profiling, err = os.Create(file); err == nil {
				err = pprof.StartCPUProfile(profiling)
			}
		}
		fmt.Println(err)
	}
	return in.Err()
}

// limitCounts is what a server counts. The bare one counts no bytes.
type limitCounts struct {
	links    func() int
	received func() uint64
}

func startLimit(kind string) (addr string, counts limitCounts, err error) {
	switch kind {
	case "bare":
		return startBare()
	case "rollcall":
		return startRollcall(presence.ProtocolNative)
	case "ws", "wsjson":
		return startRollcall(presence.ProtocolWS)
	}
	return "", counts, fmt.Errorf("unknown server %q", kind)
}

// memoryLine is RssAnon, bytes and objects of the live heap after all garbage is
// gone and the free memory is back with the kernel.
func memoryLine() string {
	runtime.GC()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	anon, err := rssAnon(os.Getpid())
	if err != nil {
		return err.Error()
	}
	return fmt.Sprint(anon, m.HeapAlloc, m.HeapObjects)
}

func rssAnon(pid int) (bytes int64, err error) {
	status, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	_, rest, ok := strings.Cut(string(status), "RssAnon:")
	if !ok {
		return 0, errors.New("no RssAnon")
	}
	var kb int64
	_, err = fmt.Sscan(rest, &kb)
	return kb << 10, err
}

func heapProfile(file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	runtime.GC()
	return errors.Join(pprof.WriteHeapProfile(f), f.Close())
}

// bareServer answers without looking.
type bareServer struct {
	gnet.BuiltinEventEngine
	engine chan gnet.Engine
}

func (s *bareServer) OnBoot(e gnet.Engine) gnet.Action {
	s.engine <- e
	return gnet.None
}

var bareAnswer = make([]byte, 16)

func (s *bareServer) OnTraffic(c gnet.Conn) gnet.Action {
	_, _ = c.Discard(-1)
	_, _ = c.Write(bareAnswer)
	return gnet.None
}

func startBare() (addr string, counts limitCounts, err error) {
	want, err := resolve("127.0.0.1:0")
	if err != nil {
		return "", counts, err
	}
	bound, err := probe([]netip.AddrPort{want})
	if err != nil {
		return "", counts, err
	}
	a := bound[0]
	s := &bareServer{engine: make(chan gnet.Engine, 1)}
	go func() {
		fmt.Fprintln(os.Stderr, gnet.Run(s, "tcp4://"+a.String(), gnet.WithReusePort(true), gnet.WithNumEventLoop(limitServerLoops()), gnet.WithLogger(logger{&reactor{}, slog.New(slog.DiscardHandler)})))
	}()
	e := <-s.engine
	for { // gnet does not tell when it listens
		if c, err := net.Dial("tcp", a.String()); err == nil {
			c.Close()
			break
		}
		time.Sleep(time.Millisecond)
	}
	return a.String(), limitCounts{links: e.CountConnections}, nil
}

func startRollcall(p presence.Protocol) (addr string, counts limitCounts, err error) {
	dir, err := newLimitDirectory()
	if err != nil {
		return "", counts, err
	}
	e, err := New(Options{Listeners: []Listener{{Name: p.String(), Address: "127.0.0.1:0", Protocol: p}}, Loops: limitServerLoops(), Directory: dir})
	if err != nil {
		return "", counts, err
	}
	if err := e.Start(); err != nil {
		return "", counts, err
	}
	return e.Addr(p.String()), limitCounts{e.core.Links, e.core.m.received.Get}, nil
}

// newLimitDirectory returns a directory with the app of the tests and a webhook
// dispatcher that has nobody to tell.
func newLimitDirectory() (dir *embedded.Directory, err error) {
	hooks, err := webhook.New(webhook.Options{App: func(id uint32) *directory.App { return dir.App(id) }})
	if err != nil {
		return nil, err
	}
	if dir, err = embedded.New(embedded.Options{Sink: hooks}); err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	dir.UpdateApp(&directory.UpdateAppOp{
		SDKAppID: testApp, Create: true, NowMS: time.Now().UnixMilli(),
		Mutate: func(app *directory.App) error {
			app.Keys = []directory.Key{{ID: 1, Secret: testSecret}}
			return nil
		},
		Done: func(op *directory.UpdateAppOp) { done <- op.Err },
	})
	return dir, <-done
}

func limitDirectory(tb testing.TB) *embedded.Directory {
	dir, err := newLimitDirectory()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { dir.Close() })
	return dir
}

// limitServer is a server process.
type limitServer struct {
	tb   testing.TB
	kind string
	cmd  *exec.Cmd
	in   *os.File
	out  *bufio.Scanner
	addr string
}

func startLimitServer(tb testing.TB, kind string) *limitServer {
	tb.Helper()
	s := &limitServer{tb: tb, kind: kind, cmd: exec.Command(os.Args[0])}
	s.cmd.Env = append(os.Environ(), limitServerEnv+"="+kind, fmt.Sprint("GOMAXPROCS=", *limitProcs), fmt.Sprint(limitLoopsEnv, "=", *limitLoops))
	s.cmd.Stderr = os.Stderr
	r, w, err := os.Pipe()
	if err != nil {
		tb.Fatal(err)
	}
	s.cmd.Stdin, s.in = r, w
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	r.Close()
	s.out = bufio.NewScanner(out)
	tb.Cleanup(s.stop)
	s.addr = s.line()
	return s
}

func (s *limitServer) stop() {
	s.in.Close()
	_ = s.cmd.Process.Kill()
	_ = s.cmd.Wait()
}

func (s *limitServer) line() string {
	if !s.out.Scan() {
		s.tb.Fatalf("the server ended: %v", s.out.Err())
	}
	return s.out.Text()
}

func (s *limitServer) ask(command string) string {
	fmt.Fprintln(s.in, command)
	return s.line()
}

// memory is what the server holds.
type memory struct{ anon, heap, objects int64 }

func (s *limitServer) memory() (m memory) {
	line := s.ask("mem")
	if _, err := fmt.Sscan(line, &m.anon, &m.heap, &m.objects); err != nil {
		s.tb.Fatalf("%q: %v", line, err)
	}
	return m
}

// cpu is the process's CPU time.
func (s *limitServer) cpu() time.Duration {
	var t unix.Timespec
	id := int32(^s.cmd.Process.Pid<<3 | 2) // the CPU clock of a process, as clock_getcpuclockid(3) makes it
	if err := unix.ClockGettime(id, &t); err != nil {
		s.tb.Fatal(err)
	}
	return time.Duration(t.Nano())
}

// gone waits until the server has no link left.
func (s *limitServer) gone() {
	s.tb.Helper()
	s.await("links", 0)
}

// await asks until the answer is want.
func (s *limitServer) await(command string, want int) {
	s.tb.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		got := s.ask(command)
		if got == strconv.Itoa(want) {
			return
		}
		if time.Now().After(deadline) {
			s.tb.Fatalf("%s are %s, want %d", command, got, want)
		}
	}
}
