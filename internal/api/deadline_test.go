package api

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// told is a connection that notes what it is told of deadlines and how often one
// of them ended something.
type told struct {
	net.Conn
	mu          sync.Mutex
	read, write []time.Time
	ended       chan struct{} // a value for each end of a read or write
}

func (c *told) SetReadDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read = append(c.read, t)
	return c.Conn.SetReadDeadline(t)
}

func (c *told) SetWriteDeadline(t time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.write = append(c.write, t)
	return c.Conn.SetWriteDeadline(t)
}

func (c *told) note(err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.ended <- struct{}{}
	}
}

func (c *told) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.note(err)
	return n, err
}

func (c *told) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.note(err)
	return n, err
}

func newTold(t *testing.T) (near *conn, below *told, far net.Conn) {
	a, b := net.Pipe()
	t.Cleanup(func() { a.Close(); b.Close() })
	below = &told{Conn: a, ended: make(chan struct{}, 10)}
	return &conn{Conn: below}, below, b
}

// TestDeadlineTellsLittle: only the first deadline, an earlier one and none reach
// the runtime.
func TestDeadlineTellsLittle(t *testing.T) {
	c, below, _ := newTold(t)
	now := time.Now()
	at := func(s int) time.Time { return now.Add(time.Duration(s) * time.Second) }
	for _, set := range []time.Time{at(90), at(10), at(91), at(11), at(9), at(100), {}, at(50), {}} {
		if err := c.SetDeadline(set); err != nil {
			t.Fatal(err)
		}
	}
	want := []time.Time{at(90), at(10), at(9), {}, at(50), {}}
	for _, got := range [][]time.Time{below.read, below.write} {
		if len(got) != len(want) {
			t.Fatalf("told of %v, want %v", got, want)
		}
		for i := range got {
			if !got[i].Equal(want[i]) {
				t.Errorf("told of %v, want %v", got, want)
			}
		}
	}
}

// TestDeadlineGoesOn: what an old deadline ends goes on under the new one.
func TestDeadlineGoesOn(t *testing.T) {
	c, below, far := newTold(t)
	for _, set := range []time.Time{time.Now().Add(5 * time.Millisecond), time.Now().Add(time.Hour)} {
		if err := c.SetDeadline(set); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		<-below.ended
		_, _ = far.Write([]byte("late"))
	}()
	p := make([]byte, 10)
	if n, err := c.Read(p); err != nil || string(p[:n]) != "late" {
		t.Fatalf("read %q, %v", p[:n], err)
	}
	go func() {
		_, _ = far.Read(make([]byte, 1))
		<-below.ended
		_, _ = far.Read(make([]byte, 9))
	}()
	if n, err := c.Write([]byte("0123456789")); err != nil || n != 10 {
		t.Fatalf("wrote %d, %v", n, err)
	}
}

// TestDeadlineEnds: a deadline that was put off ends a read and a write at last.
func TestDeadlineEnds(t *testing.T) {
	c, _, _ := newTold(t)
	begin := time.Now()
	for _, d := range []time.Duration{time.Millisecond, 20 * time.Millisecond} {
		if err := c.SetDeadline(begin.Add(d)); err != nil {
			t.Fatal(err)
		}
	}
	for name, do := range map[string]func([]byte) (int, error){"read": c.Read, "write": c.Write} {
		if n, err := do(make([]byte, 1)); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: %d, %v", name, n, err)
		}
		if early := 20*time.Millisecond - time.Since(begin); early > 0 {
			t.Errorf("%s ended %v too early", name, early)
		}
	}
}

// TestDeadlinePast: a deadline in the past ends a read that waits.
func TestDeadlinePast(t *testing.T) {
	c, _, _ := newTold(t)
	if err := c.SetReadDeadline(time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() {
		_, err := c.Read(make([]byte, 1))
		ended <- err
	}()
	if err := c.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
