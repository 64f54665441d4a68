package tlslink

import (
	"crypto/tls"
	"fmt"
	"io"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// connect returns a link that is up and belongs to nobody.
func connect(b *testing.B, s *Server, config *tls.Config) *Link {
	r := newRig(b, s)
	c := r.client(config)
	if _, err := c.Write(make([]byte, 300)); err != nil { // the size of a login
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 300)); err != nil {
		b.Fatal(err)
	}
	r.do(func() { r.link.owner = new(quietOwner) })
	r.mu.Lock()
	r.stopped = true
	r.turn.Broadcast()
	r.mu.Unlock()
	return r.link
}

// BenchmarkIdleLink: bytes of heap that a link holds, with and without slim.go.
// What the reactor and the session hold is not among them.
func BenchmarkIdleLink(b *testing.B) {
	for _, slim := range []bool{false, true} {
		for name, version := range versions {
			b.Run(fmt.Sprintf("tls=%s/slim=%v", name, slim), func(b *testing.B) {
				known := slimmed.known
				slimmed.known = slim
				defer func() { slimmed.known = known }()
				s := echoServer(b, "ecdsa")
				connect(b, s, clientConfig(version)) // what is made once
				const links = 1000
				kept := make([]*Link, 0, links)
				for b.Loop() {
					kept = kept[:0]
					before := heap()
					for range links {
						kept = append(kept, connect(b, s, clientConfig(version)))
					}
					b.ReportMetric(float64(heap()-before)/links, "B/link")
				}
				runtime.KeepAlive(kept)
			})
		}
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC() // what had a finalizer, what was pooled
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// BenchmarkHandshake: CPU time of the server's side, full and resumed.
func BenchmarkHandshake(b *testing.B) {
	for name, version := range versions {
		for _, kind := range []string{"ecdsa", "rsa"} {
			for _, resumed := range []bool{false, true} {
				b.Run(fmt.Sprintf("tls=%s/key=%s/resumed=%v", name, kind, resumed), func(b *testing.B) {
					benchmarkHandshake(b, echoServer(b, kind).config, version, resumed)
				})
			}
		}
	}
}

func benchmarkHandshake(b *testing.B, config *tls.Config, version uint16, resumed bool) {
	client := clientConfig(version)
	if resumed {
		client.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		serverCPU(b, config, client)
	}
	var cpu int64
	n := 0
	for b.Loop() {
		cpu += serverCPU(b, config, client)
		n++
	}
	b.ReportMetric(float64(cpu)/float64(n)/1000, "server-us/op")
	b.ReportMetric(1e9*float64(n)/float64(cpu), "handshakes/s/core")
}

// serverCPU does one handshake and returns the CPU time of its server, in
// nanoseconds: that of a thread on which nothing else runs.
func serverCPU(b *testing.B, config, client *tls.Config) int64 {
	fromServer, fromClient := newPipe(), newPipe()
	spent := make(chan int64, 1)
	go func() {
		runtime.LockOSThread() // and end with the thread
		before := threadCPU(b)
		c := tls.Server(pipeEnd{r: fromClient, w: fromServer}, config)
		err := c.Handshake()
		spent <- threadCPU(b) - before
		if err == nil {
			_, err = c.Write([]byte{1})
		}
		if err != nil {
			b.Error(err)
			close(fromServer)
		}
	}()
	c := tls.Client(pipeEnd{r: fromServer, w: fromClient}, client)
	if _, err := c.Write([]byte{1}); err != nil {
		b.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil { // and the ticket
		b.Fatal(err)
	}
	return <-spent
}

func threadCPU(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

// newPipe is one direction of a wire with room for a handshake.
func newPipe() chan []byte { return make(chan []byte, 64) }

type pipeEnd struct {
	clientConn
	r, w chan []byte
}

func (p pipeEnd) Read(b []byte) (int, error) {
	part, ok := <-p.r
	if !ok {
		return 0, io.EOF
	}
	if len(part) > len(b) {
		return 0, io.ErrShortBuffer
	}
	return copy(b, part), nil
}

func (p pipeEnd) Write(b []byte) (int, error) {
	for rest := append([]byte(nil), b...); len(rest) > 0; { // tls.Conn reads at least 512 bytes at once
		n := min(len(rest), 512)
		p.w <- rest[:n]
		rest = rest[n:]
	}
	return len(b), nil
}
