package engine

import "net"

// This file is the seam between the rules and what drives them. A reactor (gnet
// in reactor.go, a test by hand) owns connections and time and calls a Loop:
//
//	core, err := NewCore(Options{...})        // Directory, Clock, Node, ...; no sockets
//	loop := core.Loop(0)
//	loop.Attach(driver)
//	s, refusal := loop.Open(conn, 0, now)     // 0: the first of Options.Listeners; s == nil: send refusal if it can be done without waiting, close
//	n := loop.Data(s, unread, now)            // n bytes taken; show the rest again together with what comes next
//	loop.Closed(s, conn, err, now)            // FIN, RST, any socket error; nil: the reactor itself ends
//	more := loop.Run(now)                     // after Driver.Wake, and at least every 250 ms; more: call again soon
//	core.Drain()                              // the node stops: every link is told, no Leave is issued
//	<-core.Empty()                            // and the last of them is gone
//	s.ID(), s.State()                         // what tests look at
//
// Calls on one Loop come from one goroutine at a time. Core is itself the
// directory.Watcher: hand it to Directory.Watch, or call Core.ForcedOffline in a
// test. Completions of the Directory may arrive on any goroutine and inside any
// of the calls above; they take effect before the running call returns or, if
// none runs, in the Run that Driver.Wake asks for.

// Conn is what a loop needs of a connection; gnet.Conn satisfies it. Its methods
// are called by the owning loop only.
type Conn interface {
	// Write sends p or buffers what cannot be sent now; it does not keep p. If it
	// finds the connection broken the driver calls Loop.Closed, possibly before
	// Write returns. The results are not looked at.
	Write(p []byte) (int, error)
	// OutboundBuffered is the number of bytes written but not yet sent.
	OutboundBuffered() int
	// RemoteAddr is the client's address, a *net.TCPAddr. It is nil while a PROXY
	// header is to come, and may be after Driver.ForgetAddr.
	RemoteAddr() net.Addr
}

// Driver does for a loop what a Conn cannot. All but Wake are called by the
// owning loop only.
type Driver interface {
	// CloseWrite sends FIN and keeps receiving. It is called once, with nothing buffered.
	CloseWrite(c Conn)
	// Close closes at once. Whether Loop.Closed is called for it does not matter.
	Close(c Conn)
	// Unread reports whether bytes have arrived that Loop.Data was not shown yet.
	Unread(c Conn) bool
	// ForgetAddr says that RemoteAddr will not be asked any more: the address need
	// not be kept.
	ForgetAddr(c Conn)
	// Wake asks for a call of Loop.Run soon. Any goroutine; must not block, nor
	// call Run itself.
	Wake()
}

// Instant is a point in time as the rules see it, in milliseconds. Time-outs
// count by MonoMS, which never steps; what is told or compared with the outside
// uses WallMS, Unix time.
type Instant struct {
	MonoMS int64
	WallMS int64
	// AfterMS is MonoMS rounded up instead of down. The silence time-out counts from
	// it: from what is rounded down it could end a fraction of a millisecond early.
	AfterMS int64
}
