package api

import (
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestHalfSentBodies: callers who are not known yet make a listener hold no more
// than MaxConns x MaxBody by a body of announced length, twice that by a chunked
// one, and the fixed buffers of each connection.
func TestHalfSentBodies(t *testing.T) {
	const conns, perConn = 64, readBufferSize + writeBufferSize + 16<<10
	for name, tt := range map[string]struct {
		head  func(bytes int) string
		times int
	}{
		"announced": {func(n int) string { return fmt.Sprintf("Content-Length: %d\r\n\r\n", n) }, 1},
		"chunked":   {func(n int) string { return fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n", n) }, 2},
	} {
		t.Run(name, func(t *testing.T) {
			s, m := startTCP(t, func(o *Options) { o.MaxConns, o.ReadTimeout = conns, time.Minute })
			maxBody := s.opts.MaxBody
			request := func(n int) string {
				return "POST /v4/openim/querystate HTTP/1.1\r\nHost: r\r\n" + tt.head(n) + strings.Repeat("x", n/2)
			}
			refused := dialTCP(t, s.Addr("api"))
			go io.WriteString(refused, request(1<<20)) //nolint:errcheck // it may be cut off
			await(t, func() bool { return m.Counter("rollcall_http_bad_requests_total").Get() == 1 })
			refused.Close()
			await(t, func() bool { return s.https[0].ln.open() == 0 })

			before, half := heap(), request(maxBody)
			for range conns {
				c := dialTCP(t, s.Addr("api"))
				defer c.Close() // it also keeps c from the collector, which would close it
				send(t, c, half)
			}
			held := func() int { return heap() - before }
			await(t, func() bool { return held() >= conns*maxBody*9/10 }) // all are being read
			if n, most := held(), conns*(tt.times*maxBody+perConn); n > most {
				t.Errorf("%d half-sent bodies take %d bytes, more than %d", conns, n, most)
			}
			if extra := dialTCP(t, s.Addr("api")); !closedByPeer(extra) {
				t.Error("one connection more was let in")
			}
		})
	}
}

// heap is what is in use.
func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // what pools held back is gone after the second
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func closedByPeer(c net.Conn) bool {
	_, err := c.Read(make([]byte, 1))
	return err != nil
}
