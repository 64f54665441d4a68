package api

import (
	"errors"
	"net"
	"sync/atomic"
	"time"
)

// deadline is one of a connection's two deadlines, kept by hand. fasthttp moves
// them three times per request, for the idle time, the request and the answer,
// and each move costs the runtime's timer heap, though hardly one ever ends
// anything. So the runtime is told only of an earlier deadline than the one it
// knows. A later one is but noted, and when the old one ends a read or a write
// too early, that sets the new one and goes on. So nothing ends early, and
// nothing late. It is the timing wheel's lazy refresh, for sockets.
type deadline struct {
	// Atomic: TLS sets deadlines on whatever goroutine closes.
	wanted  atomic.Int64 // nanoseconds since deadlineEpoch; 0 = none
	runtime atomic.Int64 // what the runtime knows; 0 = none
}

// deadlineEpoch makes deadlines numbers that do not step with the wall clock.
var deadlineEpoch = time.Now()

// set notes t. If it returns true the runtime must be told.
func (d *deadline) set(t time.Time) bool {
	at := int64(0)
	if !t.IsZero() {
		at = max(int64(t.Sub(deadlineEpoch)), 1)
	}
	d.wanted.Store(at)
	if known := d.runtime.Load(); known != 0 && known <= at {
		return false
	}
	d.runtime.Store(at)
	return true
}

// extend is called when the runtime's deadline has ended something. It returns
// the one that the runtime must be told instead, false if it was the right one.
func (d *deadline) extend() (time.Time, bool) {
	at := d.wanted.Load()
	switch {
	case at == 0:
		d.runtime.Store(0)
		return time.Time{}, true
	case at <= int64(time.Since(deadlineEpoch)):
		return time.Time{}, false
	}
	d.runtime.Store(at)
	return deadlineEpoch.Add(time.Duration(at)), true
}

// SetReadDeadline implements net.Conn.
func (c *conn) SetReadDeadline(t time.Time) error {
	if !c.read.set(t) {
		return nil
	}
	return c.Conn.SetReadDeadline(t)
}

// SetWriteDeadline implements net.Conn.
func (c *conn) SetWriteDeadline(t time.Time) error {
	if !c.write.set(t) {
		return nil
	}
	return c.Conn.SetWriteDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Read implements net.Conn.
func (c *conn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if n > 0 && !c.heard.Load() {
			c.heard.Store(true)
		}
		if n > 0 || !isTimeout(err) {
			return n, err
		}
		if !goesOn(&c.read, c.Conn.SetReadDeadline) {
			return n, err
		}
	}
}

// Write implements net.Conn.
func (c *conn) Write(p []byte) (int, error) {
	done := 0
	for {
		n, err := c.Conn.Write(p[done:])
		done += n
		if !isTimeout(err) || !goesOn(&c.write, c.Conn.SetWriteDeadline) {
			return done, err
		}
	}
}

// goesOn reports whether what a deadline ended may go on, under a later one.
func goesOn(d *deadline, tell func(time.Time) error) bool {
	t, ok := d.extend()
	return ok && tell(t) == nil
}

var _ net.Conn = (*conn)(nil)
