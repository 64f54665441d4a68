package enginetest

import (
	"io"
	"net"
	"sync/atomic"
	"syscall"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/engine"
)

// driver stands for the reactor of one loop.
type driver struct {
	node  *Node
	loop  *engine.Loop
	woken atomic.Bool
}

var _ engine.Driver = (*driver)(nil)

// Wake implements engine.Driver.
func (d *driver) Wake() { d.woken.Store(true) }

// CloseWrite implements engine.Driver.
func (d *driver) CloseWrite(c engine.Conn) {
	l := c.(*Link)
	l.finSeen = true
	l.say("<- FIN")
}

// Close implements engine.Driver.
func (d *driver) Close(c engine.Conn) {
	l := c.(*Link)
	l.gone = true
	l.say("closed by the server")
}

// ForgetAddr implements engine.Driver.
func (d *driver) ForgetAddr(c engine.Conn) { c.(*Link).addr = net.TCPAddr{} }

// Unread implements engine.Driver.
func (d *driver) Unread(c engine.Conn) bool { return len(c.(*Link).late) > 0 }

// Link is a connection with its client at the other end.
type Link struct {
	// Stubborn clients do not close when the server sends FIN.
	Stubborn bool
	// Beats makes the client send heartbeats at the interval it was told.
	Beats bool

	node    *Node
	number  int
	frames  []codec.Type // received so far
	driver  *driver
	session *engine.Session
	addr    net.TCPAddr
	late    []byte // sent by the client, to be shown to the loop after its next Run
	unread  []byte // sent by the client, not taken by the loop yet
	undone  []byte // written by the loop, an incomplete frame
	finSeen bool   // the server will send no more
	gone    bool

	device     *Device // whose login was sent, nil before
	intervalMS int64   // of heartbeats, as told
	lastMS     int64   // when the client sent last
}

var _ engine.Conn = (*Link)(nil)

// Connect opens a connection; the result is nil if the node has no room for it.
func (n *Node) Connect() *Link {
	n.log.links++
	number := n.log.links
	d := n.drivers[number%len(n.drivers)]
	l := &Link{node: n, number: number, driver: d, addr: net.TCPAddr{IP: net.IPv4(192, 0, 2, byte(number)), Port: 40000 + number}}
	s, refusal := d.loop.Open(l, 0, n.Core.Now())
	if s == nil {
		l.Write(refusal) //nolint:errcheck // cannot fail
		l.say("refused")
		return nil
	}
	l.session = s
	n.links = append(n.links, l)
	n.settle()
	return l
}

// Number counts a node's connections from 1.
func (l *Link) Number() int { return l.number }

// Frames are the types of the frames that the client got, in order.
func (l *Link) Frames() []codec.Type { return l.frames }

// Gone reports whether the connection has ended.
func (l *Link) Gone() bool { return l.gone }

// Write implements engine.Conn: the client reads at once.
func (l *Link) Write(p []byte) (int, error) {
	l.undone = append(l.undone, p...)
	for {
		f, n, err := codec.Next(l.undone, codec.MaxFrame)
		if err != nil {
			l.say("<- BROKEN FRAME: %v", err)
			l.undone = nil
		}
		if n == 0 || err != nil {
			return len(p), nil
		}
		l.receive(f)
		l.undone = l.undone[n:]
	}
}

// OutboundBuffered implements engine.Conn.
func (l *Link) OutboundBuffered() int { return 0 }

// RemoteAddr implements engine.Conn.
func (l *Link) RemoteAddr() net.Addr { return &l.addr }

// Send sends bytes to the server, which the loop reads at once.
func (l *Link) Send(p []byte) {
	if l.gone {
		l.say("-> nothing: the connection is gone")
		return
	}
	l.lastMS = l.node.nowMS()
	l.unread = append(l.unread, p...)
	taken := l.driver.loop.Data(l.session, l.unread, l.node.Core.Now())
	l.unread = l.unread[taken:]
	l.node.settle()
}

// SendLate sends bytes that the loop reads only after the timers of the next step.
func (l *Link) SendLate(p []byte) { l.late = append(l.late, p...) }

// arrive shows the loop what came late.
func (l *Link) arrive() {
	if p := l.late; len(p) > 0 && !l.gone {
		l.late = nil
		l.Send(p)
	}
}

// Lose ends the connection from the client's side: io.EOF for FIN,
// syscall.ECONNRESET for RST, nil where the reactor itself ends.
func (l *Link) Lose(err error) {
	if l.gone {
		return
	}
	l.gone = true
	l.driver.loop.Closed(l.session, l, err, l.node.Core.Now())
	l.node.settle()
}

// The ways in which a client ends a connection.
var (
	FIN error = io.EOF
	RST error = syscall.ECONNRESET
)

// react lets the client answer the server's FIN with its own.
func (l *Link) react() bool {
	if !l.finSeen || l.Stubborn || l.gone {
		return false
	}
	l.gone = true
	l.driver.loop.Closed(l.session, l, io.EOF, l.node.Core.Now())
	return true
}

// beat sends a heartbeat if one is due.
func (l *Link) beat() {
	if l.Beats && !l.gone && l.intervalMS > 0 && l.node.nowMS()-l.lastMS >= l.intervalMS {
		l.Send(codec.AppendEmpty(nil, codec.TypeHeartbeat))
	}
}
