// Command peers gives other servers and Rollcall the same work, idle links and
// logins, in one run, and prints one table. A peer is one file with a variable of
// type peer that its init adds to the list.
package main

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// peer is a server under the same work as the others.
type peer struct {
	name string
	does string // what a login is there
	tls  bool   // clients do a full TLS handshake first
	// command starts the server on addr; dir is an empty folder for its files. Nil:
	// serve runs in a child of this program.
	command func(addr, dir string) (*exec.Cmd, error)
	serve   func(addr string) error
	// login logs the i-th client in and returns once the server has said yes.
	login func(c net.Conn, i int) error
}

var peers []*peer

func main() {
	if len(os.Args) == 4 && os.Args[1] == "serve" {
		if err := serve(os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "peers:", err)
			os.Exit(1)
		}
		return
	}
	var r run
	only := flag.String("only", "", "comma-separated names of the peers to run (default all)")
	flag.IntVar(&r.low, "low", 2000, "links of the first plateau")
	flag.IntVar(&r.high, "high", 16_000, "links of the second plateau")
	flag.IntVar(&r.rounds, "rounds", 3, "rounds; figures are medians")
	file := flag.String("json", "", "write the figures of all rounds to this `file`")
	flag.DurationVar(&r.settle, "settle", 4*time.Second, "how long links are idle before memory is read")
	flag.Parse()
	if r.low < 1 || r.high <= r.low || r.rounds < 1 || flag.NArg() > 0 {
		fmt.Fprintln(os.Stderr, "peers: --low must be at least 1, --high more, --rounds at least 1, and there are no arguments")
		os.Exit(2)
	}
	if err := r.all(*only, *file); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		os.Exit(1)
	}
}

func find(name string) (*peer, error) {
	for _, p := range peers {
		if p.name == name {
			return p, nil
		}
	}
	return nil, fmt.Errorf("there is no peer %q", name)
}

// serve runs a Go server until it is told to end.
func serve(name, addr string) error {
	p, err := find(name)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	if err := p.serve(addr); err != nil {
		return err
	}
	<-stop
	return nil
}

// run is the work that every peer gets.
type run struct {
	low, high, rounds int
	settle            time.Duration
}

// figures are what a peer's server has used.
type figures struct {
	BytesPerLink float64 `json:"bytes_per_link"`
	LoginUS      float64 `json:"login_cpu_us"`
	IdleShare    float64 `json:"idle_cpu_share"` // CPU of all links idle, share of one core
	RSSFull      int64   `json:"rss_full_bytes"`
}

// pick returns the peers of these names, all if there are none.
func pick(only string) (list []*peer, err error) {
	if only == "" {
		return peers, nil
	}
	for name := range strings.SplitSeq(only, ",") {
		p, err := find(name)
		if err != nil {
			return nil, err
		}
		list = append(list, p)
	}
	return list, nil
}

func (r *run) all(only, file string) error {
	list, err := pick(only)
	if err != nil {
		return err
	}
	got := make(map[*peer][]figures)
	for round := range r.rounds { // peers in turn, so that what else the machine does meets all of them
		for _, p := range list {
			f, err := r.one(p)
			if err != nil {
				return fmt.Errorf("%s: %w", p.name, err)
			}
			got[p] = append(got[p], f)
			fmt.Fprintf(os.Stderr, "round %d: %-17s %6.0f bytes per idle link, %5.1f us CPU per login\n", round+1, p.name, f.BytesPerLink, f.LoginUS)
		}
	}
	r.table(list, got)
	return r.write(file, list, got)
}

// table prints the medians.
func (r *run) table(list []*peer, got map[*peer][]figures) {
	fmt.Printf("| peer | bytes per idle link | CPU per login, us | memory at %d links, MB | CPU of idle links, %% of a core | a login is |\n| --- | --- | --- | --- | --- | --- |\n", r.high)
	for _, p := range list {
		med := func(of func(figures) float64) float64 {
			var v []float64
			for _, f := range got[p] {
				v = append(v, of(f))
			}
			slices.Sort(v)
			return v[len(v)/2]
		}
		fmt.Printf("| %s | %.0f | %.1f | %.1f | %.2f | %s |\n", p.name,
			med(func(f figures) float64 { return f.BytesPerLink }), med(func(f figures) float64 { return f.LoginUS }),
			med(func(f figures) float64 { return float64(f.RSSFull) / 1e6 }), med(func(f figures) float64 { return 100 * f.IdleShare }), p.does)
	}
	fmt.Printf("\nSlope of anonymous memory between %d and %d links, CPU of the server's process from /proc; rounds, each with a new process, whose medians these are: %d.\n", r.low, r.high, r.rounds)
}

// write writes every round's figures, unless the file has no name.
func (r *run) write(file string, list []*peer, got map[*peer][]figures) error {
	if file == "" {
		return nil
	}
	type result struct {
		Peer   string    `json:"peer"`
		Login  string    `json:"login"`
		TLS    bool      `json:"tls"`
		Rounds []figures `json:"rounds"`
	}
	out := struct {
		Low   int      `json:"low_links"`
		High  int      `json:"high_links"`
		Peers []result `json:"peers"`
	}{Low: r.low, High: r.high}
	for _, p := range list {
		out.Peers = append(out.Peers, result{p.name, p.does, p.tls, got[p]})
	}
	text, err := json.MarshalIndent(out, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// one runs a peer once.
func (r *run) one(p *peer) (f figures, err error) {
	s, err := start(p)
	if err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, s.stop()) }()
	c := clients{p: p, addr: s.addr, crowd: byte(crowds.Add(1))}
	defer c.close()
	if err := c.raise(r.low); err != nil {
		return f, err
	}
	time.Sleep(r.settle)
	low, err := s.usage()
	if err != nil {
		return f, err
	}
	if err := c.raise(r.high); err != nil {
		return f, err
	}
	time.Sleep(time.Second) // what a server does after the answer belongs to the login
	full, err := s.usage()
	if err != nil {
		return f, err
	}
	time.Sleep(r.settle)
	end, err := s.usage()
	if err != nil {
		return f, err
	}
	if gone := c.gone(); gone > 0 {
		return f, fmt.Errorf("has closed %d of %d links that were to be idle", gone, r.high)
	}
	n := float64(r.high - r.low)
	f.BytesPerLink = float64(end.anon-low.anon) / n
	f.LoginUS = float64((full.cpu - low.cpu).Microseconds()) / n
	f.IdleShare = (end.cpu - full.cpu).Seconds() / r.settle.Seconds()
	f.RSSFull = end.anon
	return f, nil
}

// clients are logged-in links. An idle one has no goroutine.
type clients struct {
	p     *peer
	addr  string
	crowd byte // names its source addresses
	conns []net.Conn
}

// answerTimeout bounds a login.
const answerTimeout = 20 * time.Second

// raise logs clients in until there are n, eight at once.
func (c *clients) raise(n int) error {
	from := len(c.conns)
	c.conns = append(c.conns, make([]net.Conn, n-from)...)
	var next atomic.Int64
	next.Store(int64(from))
	errs := make([]error, 8)
	var wg sync.WaitGroup
	for w := range errs {
		wg.Go(func() {
			for errs[w] == nil {
				i := int(next.Add(1) - 1)
				if i >= n {
					return
				}
				c.conns[i], errs[w] = c.open(i)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// crowds counts the clients of this run, so that each has source addresses of its
// own: ports of those before it are still in TIME_WAIT.
var crowds atomic.Int32

// open connects and logs in. At most 10,000 links come from one source address.
func (c *clients) open(i int) (net.Conn, error) {
	d := net.Dialer{Timeout: answerTimeout, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, c.crowd, byte(1+i/10_000))}, KeepAlive: -1}
	conn, err := d.Dial("tcp4", c.addr)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(answerTimeout))
	over, err := handshake(c.p, conn)
	if err == nil {
		err = c.p.login(over, i)
	}
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("login %d: %w", i, err)
	}
	return conn, conn.SetDeadline(time.Time{})
}

// gone counts the links that are not open at both ends any more. What may lie
// unread in them does not matter.
func (c *clients) gone() (n int) {
	const established = 1 // TCP_ESTABLISHED
	for _, conn := range c.conns {
		open := false
		if raw, err := conn.(*net.TCPConn).SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
				open = err == nil && info.State == established
			})
		}
		if !open {
			n++
		}
	}
	return n
}

func (c *clients) close() {
	for _, conn := range c.conns {
		if conn != nil {
			conn.Close()
		}
	}
}

// server is a peer's process.
type server struct {
	cmd  *exec.Cmd
	addr string
	dir  string
}

// start starts the server and waits until it accepts.
func start(p *peer) (*server, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := ln.Addr().String()
	ln.Close()
	dir, err := os.MkdirTemp("", "peer")
	if err != nil {
		return nil, err
	}
	s := &server{addr: addr, dir: dir}
	if p.command == nil {
		var self string
		if self, err = os.Executable(); err == nil {
			s.cmd = exec.Command(self, "serve", p.name, addr)
		}
	} else {
		s.cmd, err = p.command(addr, dir)
	}
	if err == nil {
		var log *os.File
		if log, err = os.Create(filepath.Join(dir, "log")); err == nil {
			s.cmd.Stdout, s.cmd.Stderr = log, log
			err = s.cmd.Start()
			log.Close()
		}
	}
	if err != nil {
		os.RemoveAll(dir)
		return nil, err
	}
	for end := time.Now().Add(answerTimeout); ; {
		c, err := net.DialTimeout("tcp4", addr, time.Second)
		if err == nil {
			c.Close()
			return s, nil
		}
		if time.Now().After(end) {
			text, _ := os.ReadFile(filepath.Join(dir, "log"))
			return nil, errors.Join(fmt.Errorf("does not accept: %w: %.500s", err, text), s.stop())
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// stop ends the server. It has links, so how it ends does not count.
func (s *server) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(answerTimeout):
		_ = s.cmd.Process.Kill()
		<-done
	}
	return os.RemoveAll(s.dir)
}
