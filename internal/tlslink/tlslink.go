// Package tlslink is the server's side of TLS for links that an event loop owns:
// crypto/tls over a connection in memory. The owner shows what came from the wire
// and gets what the client said; what TLS has to send goes to the owner. A link
// that is up has no goroutine, and holds no buffer between calls.
//
//	wire bytes --Feed--> whole records --> tls.Conn --> Owner.Plain
//	wire bytes <--Owner.Send-- records <-- tls.Conn <-- Write
//
// The handshake computes for longer than a loop may wait. So it runs on a
// goroutine, but not before the ClientHello is there: whoever connects and says
// nothing, or says it slowly, costs no more than the bytes that he sent. The
// goroutine and the owner meet in handshake; Pool says how many there may be and
// how many of them may compute at once. When the handshake is done the goroutine
// ends, and the owner reads and writes by itself: the connection in memory answers
// a read that finds nothing with a temporary error, after which tls.Conn goes on
// where it stopped.
//
// tls.Conn is shown whole records only. What is incomplete stays with the owner,
// who shows it again together with what follows, so tls.Conn never keeps a buffer
// for it (see slim.go).
package tlslink

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// Owner is what a link needs of the event loop's side.
type Owner interface {
	// Send sends wire bytes; it does not keep p. It may call the link's Drop.
	// The owner's goroutine only.
	Send(p []byte)
	// Plain takes what the client said; p is valid until it returns. It may call
	// any method of the link but Feed and Resume. The owner's goroutine only.
	Plain(p []byte)
	// Wake asks for a call of Resume soon, on the owner's goroutine. Any
	// goroutine; it must not block, and not call the link. It may come after Drop.
	Wake()
}

// Server makes the links of one listener.
type Server struct {
	// Immutable after Pool.Server.
	config *tls.Config
	pool   *Pool
}

// suites12 are those of TLS 1.2 that we take: forward secret and authenticated
// encryption (RFC 9325, 4.2). TLS 1.3 has no others.
var suites12 = []uint16{
	tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
	tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
	tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
}

// Certificate is the certificate to show; it is asked at each full handshake, from
// any goroutine, so it may answer otherwise than before.
type Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Config returns the configuration for a listener: TLS 1.2 and 1.3, good suites,
// session tickets whose keys the library changes daily. A client that names
// protocols (ALPN) must name one of protocols, one that names none is welcome.
func Config(c Certificate, protocols ...string) *tls.Config {
	return &tls.Config{GetCertificate: c, MinVersion: tls.VersionTLS12, CipherSuites: suites12, NextProtos: protocols}
}

// Server returns a server whose handshakes count against p. It keeps a copy of c.
func (p *Pool) Server(c *tls.Config) *Server {
	c = c.Clone()
	// Our messages are small. A record for each 1,200 bytes would be a call of Send
	// for each.
	c.DynamicRecordSizingDisabled = true
	return &Server{config: c, pool: p}
}

// state is where a link is in its life.
type state uint8

const (
	stateHello   state = iota // the ClientHello is not complete
	stateShaking              // the handshake runs or waits for its turn
	stateUp                   // what comes is data
	stateEnded                // nothing is taken any more
)

// Link is one client. It belongs to its owner's goroutine.
type Link struct {
	// Immutable after Server.Link.
	server *Server
	owner  Owner

	// Owned by the owner's goroutine, but for what the handshake's goroutine does
	// with conn while there is one.
	conn  *tls.Conn
	shake *handshake // from the ClientHello on until the link is up
	in    []byte     // whole records for conn to read; only during a call
	rest  []byte     // bytes behind the handshake that its goroutine did not want, and what came after, to the end of a record
	state state
}

// Link returns a link that waits for its ClientHello.
func (s *Server) Link(o Owner) *Link { return &Link{server: s, owner: o} }

// Up reports whether the handshake is done and the link has not ended.
func (l *Link) Up() bool { return l.state == stateUp }

// Feed takes what came from the wire: p is all that is unread, what an earlier
// call left first. It returns how many bytes it took; it does not keep p. An
// error ends the link: io.EOF if the client said that it ends, else what was
// wrong. What there is to say about that has been sent.
func (l *Link) Feed(p []byte) (n int, err error) {
	switch l.state {
	case stateHello:
		return l.hello(p)
	case stateShaking:
		err = l.shake.feed(p)
	case stateUp:
		return l.data(p)
	}
	if err != nil {
		l.fail(err)
	}
	return len(p), err
}

// hello starts the handshake once the ClientHello is complete.
func (l *Link) hello(p []byte) (n int, err error) {
	whole, err := helloComplete(p)
	if err == nil && !whole {
		return 0, nil
	}
	if err == nil {
		err = l.start(p)
	}
	if err != nil {
		l.server.pool.m.fail(err)
		l.state = stateEnded
	}
	return len(p), err
}

func (l *Link) start(hello []byte) error {
	if len(hello) > maxAhead {
		return ErrFlood
	}
	l.conn = tls.Server((*wire)(l), l.server.config)
	l.shake = newHandshake(l, hello)
	l.state = stateShaking
	return l.server.pool.start(l.shake)
}

// Resume takes over what the handshake's goroutine did: call it after Wake. Its
// error is Feed's.
func (l *Link) Resume() error {
	h := l.shake
	if l.state != stateShaking {
		return nil
	}
	out, done, err := h.collect()
	if len(out) > 0 {
		l.owner.Send(out)
	}
	switch {
	case !done || l.state != stateShaking: // Send may have found the connection broken
		return nil
	case err != nil:
		l.fail(err)
		return err
	}
	l.shake, l.state, l.rest = nil, stateUp, h.rest()
	slimmed.slim(l.conn)
	return l.resumeRest()
}

// data takes the whole records of p.
func (l *Link) data(p []byte) (n int, err error) {
	if len(l.rest) == 0 {
		n = wholeRecords(p)
		return n, l.read(p[:n])
	}
	l.rest = append(l.rest, p...)
	return len(p), l.resumeRest()
}

// resumeRest takes the whole records of rest. What remains is less than a record.
func (l *Link) resumeRest() error {
	rest := l.rest
	n := wholeRecords(rest)
	err := l.read(rest[:n])
	switch {
	case l.state != stateUp: // it ended meanwhile, and rest with it
	case n == len(rest):
		l.rest = nil
	case n > 0:
		l.rest = bytes.Clone(rest[n:]) // rest may have room for much more
	}
	return err
}

// read shows whole records to TLS and hands on what they say.
func (l *Link) read(records []byte) error {
	if len(records) == 0 || l.state != stateUp {
		return nil
	}
	b := l.server.pool.buffers.Get().(*buffers)
	slimmed.lend(l.conn, b.wire[:])
	l.in = records
	err := l.readAll(b.plain[:])
	l.in = nil
	if slimmed.reclaim(l.conn, l.state == stateEnded || err != nil) {
		l.server.pool.buffers.Put(b)
	}
	if err != nil && l.state != stateEnded {
		l.fail(err)
	}
	return err
}

// readAll reads until there is nothing more to read. nil means that the link goes
// on, or that its owner ended it meanwhile.
func (l *Link) readAll(plain []byte) error {
	for {
		n, err := l.conn.Read(plain)
		if n > 0 {
			l.owner.Plain(plain[:n])
		}
		switch {
		case l.state != stateUp || errors.Is(err, errNoBytes) || err == nil && l.drained():
			return nil
		case err == io.EOF:
			return io.EOF
		case err != nil:
			l.server.pool.m.fail(errRecord)
			return fmt.Errorf("%w: %w", errRecord, err)
		}
	}
}

// drained reports whether all that came is read. It saves a read that finds
// nothing, which would allocate.
func (l *Link) drained() bool { return len(l.in) == 0 && slimmed.empty(l.conn) }

// Write sends p to the client. Before the handshake is done, and once the link
// has ended, there is nobody to send it to: it is dropped.
func (l *Link) Write(p []byte) {
	if l.state == stateUp {
		_, _ = l.conn.Write(p) // Send has no error: the owner is told otherwise
	}
}

// CloseNotify tells the client that nothing more comes. It says so once.
func (l *Link) CloseNotify() {
	if l.state == stateUp {
		_ = l.conn.CloseWrite()
	}
}

// Drop ends the link: a handshake that runs is ended, nothing is sent. It is idempotent.
func (l *Link) Drop() { l.end(errDropped) }

// fail ends the link because of err. On io.EOF, the client's own end, the answer
// that TLS 1.2 demands (RFC 5246, 7.2.1) is sent first.
func (l *Link) fail(err error) {
	if err == io.EOF {
		l.CloseNotify()
	}
	l.end(err)
}

func (l *Link) end(err error) {
	l.state, l.rest = stateEnded, nil
	if l.shake != nil { // it stays: its goroutine may look at it
		l.server.pool.abort(l.shake, err)
	}
}

// wire is the connection under a link's tls.Conn.
type wire Link

// Read implements net.Conn. During the handshake it waits on that goroutine.
func (w *wire) Read(p []byte) (int, error) {
	if w.shake != nil {
		return w.shake.read(p)
	}
	if len(w.in) == 0 {
		return 0, errNoBytes
	}
	n := copy(p, w.in)
	w.in = w.in[n:]
	return n, nil
}

// Write implements net.Conn.
func (w *wire) Write(p []byte) (int, error) {
	if w.shake != nil {
		return w.shake.write(p)
	}
	w.owner.Send(p)
	return len(p), nil
}

// noBytes tells a tls.Conn that there is nothing to read now. It is a net.Error
// that calls itself temporary, so tls.Conn does not remember it.
type noBytes struct{}

var errNoBytes error = noBytes{}

func (noBytes) Error() string   { return "tlslink: no bytes yet" }
func (noBytes) Timeout() bool   { return true }
func (noBytes) Temporary() bool { return true }

// The rest of net.Conn. Time-outs are the owner's and the handshake's.

func (*wire) Close() error                     { return nil }
func (*wire) LocalAddr() net.Addr              { return nil }
func (*wire) RemoteAddr() net.Addr             { return nil }
func (*wire) SetDeadline(time.Time) error      { return nil }
func (*wire) SetReadDeadline(time.Time) error  { return nil }
func (*wire) SetWriteDeadline(time.Time) error { return nil }
