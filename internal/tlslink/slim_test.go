package tlslink

import (
	"bytes"
	"crypto/tls"
	"io"
	"reflect"
	"testing"
	"testing/synctest"
)

// This Go's tls.Conn is as slim.go says. If not, links still work, but each costs
// 2 to 4 KB more: read the comment there again beside the new source.
func TestSlimLayout(t *testing.T) {
	if !slimmed.known {
		t.Error("tls.Conn has other fields than slim.go knows")
	}
	for name, other := range map[string]any{
		"no fields": struct{}{},
		"other type": struct {
			rawInput, hand []byte
			input          bytes.Reader
		}{},
	} {
		f := connFieldsOf(reflect.TypeOf(other))
		if f.known {
			t.Errorf("%s: taken for a tls.Conn", name)
		}
		c := tls.Server(nil, new(tls.Config))
		f.lend(c, make([]byte, 8)) // touch nothing
		f.slim(c)
		if !f.reclaim(c, false) {
			t.Errorf("%s: nothing was lent, but is not free", name)
		}
	}
}

// held is how many bytes of buffers a link holds.
func held(c *tls.Conn) int {
	return fieldOf[bytes.Buffer](c, slimmed.rawInput).Cap() + int(fieldOf[bytes.Reader](c, slimmed.input).Size()) + fieldOf[bytes.Buffer](c, slimmed.hand).Cap()
}

// An idle link holds no buffer: neither of its handshake nor of the largest record
// that it got; and one that reads holds none of the pool's afterwards.
func TestIdleHoldsNothing(t *testing.T) {
	for name, version := range versions {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t, echoServer(t, "ecdsa"))
				defer r.stop()
				c := r.client(clientConfig(version))
				if err := c.Handshake(); err != nil {
					t.Fatal(err)
				}
				synctest.Wait()
				for _, size := range []int{0, 1, 16384} {
					if _, err := c.Write(make([]byte, size)); err != nil {
						t.Fatal(err)
					}
					if _, err := io.ReadFull(c, make([]byte, size)); err != nil {
						t.Fatal(err)
					}
					r.do(func() {
						if n := held(r.link.conn); n > 0 {
							t.Errorf("after %d bytes the link holds %d", size, n)
						}
						if r.link.shake != nil || r.link.rest != nil || r.link.in != nil {
							t.Error("the link holds its handshake or what came")
						}
					})
				}
			})
		})
	}
}

// A heartbeat over TLS and its answer allocate 24 bytes: crypto/tls's own reader, one
// for each read of the wire.
func TestAllocations(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	synctest.Test(t, func(t *testing.T) {
		s := newStranger(t, tls.VersionTLS13)
		defer s.r.stop()
		s.r.do(func() {
			quiet := &quietOwner{link: s.r.link}
			s.r.link.owner = quiet
			records := make([][]byte, 101)
			for i := range records {
				records[i] = s.record(typeData, []byte{3, 0, 0, 0})
			}
			i := 0
			if n := testing.AllocsPerRun(len(records)-1, func() {
				if _, err := s.r.link.Feed(records[i]); err != nil {
					t.Error(err)
				}
				i++
			}); n > 1 {
				t.Errorf("%v allocations, want 1", n)
			}
			if quiet.plain != 4*len(records) || quiet.sent == 0 {
				t.Errorf("%d bytes came through, %d were sent", quiet.plain, quiet.sent)
			}
			s.r.link.owner = s.r
		})
	})
}

// quietOwner counts, and answers each message.
type quietOwner struct {
	link        *Link
	plain, sent int
}

func (q *quietOwner) Send(p []byte)  { q.sent += len(p) }
func (q *quietOwner) Plain(p []byte) { q.plain += len(p); q.link.Write(p) }
func (q *quietOwner) Wake()          {}
