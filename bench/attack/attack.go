// Package attack is a hostile stranger: it does to a server what attackers do,
// and finds out whether anybody else notices. Each row of the suite starts a
// server of its own, lets a crowd of honest users log in, heartbeat, query and
// be kicked as they always do, and then once more while the attack runs. The
// crowd's every answer must still be right, the server must not panic, its
// memory must stay below the row's ceiling and go back to where it was, and its
// counters must say what happened. How long the crowd's logins took beside
// normal is a figure of the row, not a verdict: the machine is shared.
//
// Like bench it knows the wire protocols and nothing else of the server.
package attack

import (
	"context"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// Target is a server under attack.
type Target struct {
	Native, WS, API, Admin string // host:port of each listener
	MQTT, NativeTLS        string // "" = there is none
	App                    uint32
	// Key is the app's key: some rows are of a legal user gone bad, who has a good UserSig.
	Key string
}

// Assault is one attack on a target.
type Assault struct {
	// Immutable after New.
	target Target
	size   int // how much, in the row's own unit
	row    *row

	ctx   context.Context
	ready chan struct{} // closed by inPlace
	once  sync.Once

	// Guarded by mu.
	mu  sync.Mutex
	did map[string]*atomic.Int64
}

// New prepares the attack of a row. A size of 0 is the row's full size.
func New(name string, t Target, size int) (*Assault, error) {
	r := findRow(name)
	if r == nil {
		return nil, fmt.Errorf("there is no row %q; there are %v", name, Rows())
	}
	if size <= 0 {
		size = r.full
	}
	return &Assault{target: t, size: size, row: r, ready: make(chan struct{}), did: map[string]*atomic.Int64{}}, nil
}

// Run attacks until ctx ends and returns what was done, by kind.
func (a *Assault) Run(ctx context.Context) map[string]int64 {
	a.ctx = ctx
	a.row.attack(a)
	a.inPlace()
	out := map[string]int64{}
	for name, n := range a.did {
		out[name] = n.Load()
	}
	return out
}

// Ready is closed when the attack is under way.
func (a *Assault) Ready() <-chan struct{} { return a.ready }

func (a *Assault) inPlace() { a.once.Do(func() { close(a.ready) }) }

func (a *Assault) over() bool { return a.ctx.Err() != nil }

// count counts something that was done.
func (a *Assault) count(what string) { a.counter(what).Add(1) }

func (a *Assault) counter(what string) *atomic.Int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.did[what] == nil {
		a.did[what] = new(atomic.Int64)
	}
	return a.did[what]
}

// each runs one for n attackers side by side, again and again until the attack
// is over. It is in place when every one of them has begun once.
func (a *Assault) each(n int, one func(i int)) {
	var wg sync.WaitGroup
	var begun atomic.Int64
	for i := range n {
		wg.Go(func() {
			for first := true; !a.over(); first = false {
				if first && begun.Add(1) == int64(n) {
					a.inPlace()
				}
				one(i)
			}
		})
	}
	wg.Wait()
}

// eachSlowly is each for those who come one after the other, and who wait before they come again.
func (a *Assault) eachSlowly(n int, one func(i int)) {
	spread := min(again, time.Duration(n)*again/10_000)
	var wg sync.WaitGroup
	var begun atomic.Int64
	for i := range n {
		wg.Go(func() {
			a.pause(spread * time.Duration(i) / time.Duration(n))
			for first := true; !a.over(); first = false {
				if first && begun.Add(1) == int64(n) {
					a.inPlace()
				}
				one(i)
				a.pause(again/2 + rand.N(again))
			}
		})
	}
	wg.Wait()
}

// addresses is the number of addresses of a big attacker.
const addresses = 1000

// source is the i-th address of the attackers: 127.66.0.1 and on.
func source(i int) net.IP { return net.IPv4(127, 66, byte(i/250), byte(1+i%250)) }

// dial connects to addr from the i-th address. A refused attacker takes a breath, so that it does not
// become a test of how fast the kernel can say no.
func (a *Assault) dial(i int, addr string) *net.TCPConn {
	d := net.Dialer{Timeout: 10 * time.Second, LocalAddr: &net.TCPAddr{IP: source(i % addresses)}, Control: portLater}
	c, err := d.DialContext(a.ctx, "tcp4", addr)
	if err != nil {
		if !a.over() {
			a.count("not connected")
		}
		a.pause(50 * time.Millisecond)
		return nil
	}
	a.count("connections")
	return c.(*net.TCPConn)
}

// portLater lets the kernel choose the port at connect, when it knows both ends.
func portLater(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
}

func (a *Assault) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-a.ctx.Done():
	case <-t.C:
	}
}

// closes closes c when the attack is over; the returned function ends that and closes it at once.
func (a *Assault) closes(c net.Conn) (now func()) {
	stop := context.AfterFunc(a.ctx, func() { c.Close() })
	return func() {
		stop()
		c.Close()
	}
}

// trickle writes p a byte at a time, one each d, and reports whether the server
// has kept the connection open for all of it.
func (a *Assault) trickle(c net.Conn, p []byte, d time.Duration) bool {
	for i := range p {
		if _, err := c.Write(p[i : i+1]); err != nil {
			a.closedOn()
			return false
		}
		if !a.stillOpen(c, d) {
			return false
		}
	}
	return true
}

// stillOpen waits for d and reports whether the connection was left open.
func (a *Assault) stillOpen(c net.Conn, d time.Duration) bool {
	var b [256]byte
	end := time.Now().Add(d)
	_ = c.SetReadDeadline(end)
	for {
		if _, err := c.Read(b[:]); err != nil {
			if n, ok := err.(net.Error); ok && n.Timeout() && !a.over() {
				return true
			}
			a.closedOn()
			return false
		}
	}
}

// closedOn counts a connection that the server has ended.
func (a *Assault) closedOn() {
	if !a.over() {
		a.count("closed by the server")
	}
}

// ask sends p and reads the answer to its end or until nothing comes for d.
func (a *Assault) ask(c net.Conn, p []byte, d time.Duration) (answer []byte) {
	_ = c.SetDeadline(time.Now().Add(d))
	_, _ = c.Write(p) // an answer may have come all the same
	if half, ok := c.(*net.TCPConn); ok {
		_ = half.CloseWrite()
	}
	answer, _ = io.ReadAll(io.LimitReader(c, 1<<20))
	return answer
}

// sig is a UserSig of a user of the app.
func (a *Assault) sig(user string) []byte {
	s, err := usersig.Sign(a.target.Key, a.target.App, user, time.Now().Unix(), 3600, nil)
	if err != nil {
		return nil // the server will say what it thinks of it
	}
	return []byte(s)
}

// loginFrame is the login of the i-th attacker with some UserSig.
func (a *Assault) loginFrame(i int, sig []byte) []byte {
	return codec.AppendLogin(nil, &codec.Login{
		SDKAppID: a.target.App, UserID: []byte(attacker(i)), UserSig: sig, Platform: codec.Android,
		DeviceID: fmt.Appendf(nil, "device-%d", i), SDKVersion: []byte("6.6.6"), DeviceModel: []byte("attacker"),
	})
}

func attacker(i int) string { return fmt.Sprintf("attacker-%d", i) }

// Rows lists the rows by name.
func Rows() []string {
	var names []string
	for i := range rows {
		names = append(names, rows[i].name)
	}
	return names
}

// tell is the tallies in one line.
func tell(did map[string]int64) string {
	var s string
	for _, k := range slices.Sorted(maps.Keys(did)) {
		if s != "" {
			s += ", "
		}
		s += fmt.Sprintf("%d %s", did[k], k)
	}
	return s
}
