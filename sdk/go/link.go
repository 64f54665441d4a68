package rollcall

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// event is a frame from the server, or the error that ended the link.
type event struct {
	frame codec.Frame
	err   error
}

// link is one connection. Its reader is the only other goroutine of a Client.
type link struct {
	conn         net.Conn
	writeTimeout time.Duration
	events       chan event    // unbuffered; an event with err is the last
	quit         chan struct{} // closed by close
	done         chan struct{} // closed when the reader has ended
	detach       func() bool   // from the context
}

// newLink takes over conn. When ctx ends, so does the link.
func newLink(ctx context.Context, conn net.Conn, writeTimeout time.Duration) *link {
	l := &link{
		conn: conn, writeTimeout: writeTimeout,
		events: make(chan event), quit: make(chan struct{}), done: make(chan struct{}),
	}
	l.detach = context.AfterFunc(ctx, func() { conn.Close() })
	go l.read()
	return l
}

// close ends the link and waits for its reader.
func (l *link) close() {
	l.detach()
	close(l.quit)
	l.conn.Close()
	<-l.done
}

// write sends frames. It tells of no error: a link that cannot be written to
// may still hold the server's last word, so the reader finds out, after it.
func (l *link) write(b []byte) {
	l.conn.SetWriteDeadline(time.Now().Add(l.writeTimeout))
	l.conn.Write(b)
}

// readSize is how much a link reads at once; the buffer grows for larger frames.
const readSize = 1024

func (l *link) read() {
	defer close(l.done)
	buf := make([]byte, 0, readSize)
	for {
		frame, n, err := codec.Next(buf, codec.MaxFrame)
		if err != nil {
			l.tell(event{err: fmt.Errorf("%w: %w", ErrProtocol, err)})
			return
		}
		if n > 0 {
			frame.Body = bytes.Clone(frame.Body) // buf is written over below
			buf = buf[:copy(buf, buf[n:])]
			if !l.tell(event{frame: frame}) {
				return
			}
			continue
		}
		if len(buf) == cap(buf) { // bounded: Next refuses what is over MaxFrame
			buf = append(make([]byte, 0, 2*cap(buf)), buf...)
		}
		n, err = l.conn.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		if n == 0 && err != nil {
			l.tell(event{err: fmt.Errorf("rollcall: link lost: %w", err)})
			return
		}
	}
}

// tell hands an event over; false if nobody wants it any more.
func (l *link) tell(e event) bool {
	select {
	case l.events <- e:
		return true
	case <-l.quit:
		return false
	}
}
