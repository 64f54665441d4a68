package engine

import (
	"io"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

const (
	testApp    = 1400000000
	testSecret = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
	testNode   = 7
)

var testStart = time.Date(2025, 3, 1, 8, 0, 0, 0, time.UTC)

// fakeDirectory answers at once, or when the test says so. Its zero decisions
// make every login InstID 1.
type fakeDirectory struct {
	directory.Directory // what the engine does not call panics

	apps   map[uint32]*directory.App
	hold   bool // keep ops until release
	decide func(*directory.LoginOp)
	leave  func(*directory.LeaveOp)

	state      presence.User // of whoever is followed
	followCode int           // the answer to a follow

	log        []string // "login alice", "leave alice LinkClosed", in issue order
	heldLogins []*directory.LoginOp
	heldLeaves []*directory.LeaveOp
	heldFollow []*directory.FollowOp
	logins     []presence.Login
	leaves     []directory.LeaveOp
}

func newFakeDirectory() *fakeDirectory {
	app := directory.NewApp(testApp)
	app.Keys = []directory.Key{{ID: 1, Secret: testSecret}}
	app.TicketKey = [32]byte{1, 2, 3}
	return &fakeDirectory{apps: map[uint32]*directory.App{testApp: app}}
}

func (d *fakeDirectory) App(id uint32) *directory.App { return d.apps[id] }

func (d *fakeDirectory) Watch(uint32, directory.Watcher) func() { return func() {} }

func (d *fakeDirectory) Login(op *directory.LoginOp) {
	d.log = append(d.log, "login "+op.Key.UserID)
	d.logins = append(d.logins, op.Login)
	if d.hold {
		d.heldLogins = append(d.heldLogins, op)
		return
	}
	d.answerLogin(op)
}

func (d *fakeDirectory) answerLogin(op *directory.LoginOp) {
	op.Decision = presence.LoginDecision{Inst: presence.Instance{InstID: 1, Status: presence.Online, Device: op.Login.Device, Link: op.Login.Link}}
	op.Seq = 1
	if d.decide != nil {
		d.decide(op)
	}
	op.Done(op)
}

var leaveNames = map[presence.LeaveReason]string{
	presence.LeaveLogout: "Logout", presence.LeaveLinkClosed: "LinkClosed", presence.LeaveTimeOut: "TimeOut",
}

func (d *fakeDirectory) Leave(op *directory.LeaveOp) {
	d.log = append(d.log, "leave "+op.Key.UserID+" "+leaveNames[op.Reason])
	d.leaves = append(d.leaves, *op)
	if d.hold {
		d.heldLeaves = append(d.heldLeaves, op)
		return
	}
	d.answerLeave(op)
}

func (d *fakeDirectory) answerLeave(op *directory.LeaveOp) {
	op.Changed = true
	if d.leave != nil {
		d.leave(op)
	}
	op.Done(op)
}

func (d *fakeDirectory) Follow(op *directory.FollowOp) {
	if op.End {
		d.log = append(d.log, "unfollow "+op.Key.UserID)
		return
	}
	d.log = append(d.log, "follow "+op.Key.UserID)
	if d.hold {
		d.heldFollow = append(d.heldFollow, op)
		return
	}
	d.answerFollow(op)
}

func (d *fakeDirectory) answerFollow(op *directory.FollowOp) {
	op.Code, op.User = d.followCode, d.state.Clone()
	op.Done(op)
}

// release answers what was held, in issue order of each kind.
func (d *fakeDirectory) release() {
	follows := d.heldFollow
	d.heldFollow = nil
	defer func() {
		for _, op := range follows {
			d.answerFollow(op)
		}
	}()
	logins, leaves := d.heldLogins, d.heldLeaves
	d.heldLogins, d.heldLeaves = nil, nil
	for _, op := range logins {
		d.answerLogin(op)
	}
	for _, op := range leaves {
		d.answerLeave(op)
	}
}

// fakeConn is a connection whose peer reads only when the test lets it.
type fakeConn struct {
	addr     net.Addr
	stuck    bool   // the peer does not read: what is written stays buffered
	buffered int    // bytes of out that are not sent yet
	out      []byte // all that was written
	fin      bool   // CloseWrite
	closed   bool   // Close
	unread   bool   // what Unread answers
	onWrite  func() // e.g. the connection breaks
	context  any    // as the reactor would have it; of a link with a transport only
}

func (c *fakeConn) Write(p []byte) (int, error) {
	if c.fin || c.closed {
		panic("write after FIN or close")
	}
	c.out = append(c.out, p...)
	if c.stuck {
		c.buffered += len(p)
	}
	if c.onWrite != nil {
		c.onWrite()
	}
	return len(p), nil
}

func (c *fakeConn) OutboundBuffered() int { return c.buffered }
func (c *fakeConn) RemoteAddr() net.Addr  { return c.addr }
func (c *fakeConn) SetContext(to any)     { c.context = to }

// fakeDriver counts wakes; the rig runs the loop.
type fakeDriver struct{ wakes int }

func (d *fakeDriver) CloseWrite(c Conn) {
	fc := fakeOf(c)
	if fc.buffered > 0 || fc.fin {
		panic("CloseWrite twice, or with bytes buffered")
	}
	fc.fin = true
}
func (d *fakeDriver) Close(c Conn)       { fakeOf(c).closed = true }
func (d *fakeDriver) Unread(c Conn) bool { return fakeOf(c).unread }
func (d *fakeDriver) Wake()              { d.wakes++ }
func (d *fakeDriver) ForgetAddr(c Conn) {
	fakeOf(c).addr = nil
	if t, ok := c.(*transport); ok {
		t.forgetAddr()
	}
}

func fakeOf(c Conn) *fakeConn { return rawOf(c).(*fakeConn) }

// nativeAt is one native listener.
func nativeAt(addr string) []Listener {
	return []Listener{{Name: listenerNative, Address: addr}}
}

// rig is a core of one loop under a clock that stands still unless told.
type rig struct {
	tb   testing.TB
	clk  *clock.Manual
	dir  *fakeDirectory
	set  *metrics.Set
	core *Core
	loop *Loop
	drv  *fakeDriver
}

func newRig(tb testing.TB, change ...func(*Options)) *rig {
	r := &rig{tb: tb, clk: clock.NewManual(testStart), dir: newFakeDirectory(), drv: &fakeDriver{}}
	o := Options{Directory: r.dir, Clock: r.clk, Node: testNode, Loops: 1, MaxLinks: 1000, Seed: 1}
	for _, f := range change {
		f(&o)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	r.set = o.Metrics
	core, err := NewCore(o)
	if err != nil {
		tb.Fatal(err)
	}
	r.core, r.loop = core, core.Loop(0)
	r.loop.Attach(r.drv)
	tb.Cleanup(func() {
		if err := core.Check(); err != nil {
			tb.Error(err)
		}
	})
	return r
}

// run lets the loop work off all that waits.
func (r *rig) run() {
	for i := 0; r.loop.Run(r.core.Now()); i++ {
		if i > 100_000 {
			r.tb.Fatal("Run always has more to do")
		}
	}
}

// advance moves the time in steps like those of the reactor.
func (r *rig) advance(d time.Duration) {
	for d > 0 {
		step := min(d, tickInterval)
		r.clk.Advance(step)
		r.run()
		d -= step
	}
}

// takesTurn runs the loop, as the reactor would have, if the session's login waits
// because it is the first beyond a slice.
func (r *rig) takesTurn(s *Session) {
	if s.has(flagWaiting) {
		r.loop.Run(r.core.Now())
	}
}

// link is a client's end.
type link struct {
	*rig
	s    *Session
	conn *fakeConn
	in   []byte // what the loop left unread
}

func (r *rig) open() *link {
	conn := &fakeConn{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:4711"))}
	s, _ := r.loop.Open(conn, 0, r.core.Now())
	if s == nil {
		r.tb.Fatal("the link was refused")
	}
	return &link{rig: r, s: s, conn: conn}
}

func (k *link) send(p ...byte) {
	k.in = append(k.in, p...)
	n := k.loop.Data(k.s, k.in, k.core.Now())
	k.in = slices.Delete(k.in, 0, n)
}

// fin is the client's close.
func (k *link) fin() { k.loop.Closed(k.s, k.conn, io.EOF, k.core.Now()) }

// login logs the device in; the directory must not hold.
func (k *link) login(user string, p codec.Platform, device string) codec.LoginOK {
	k.tb.Helper()
	k.send(loginFrame(activeLogin(user, p, device))...)
	k.takesTurn(k.s)
	var ok codec.LoginOK
	k.want(codec.TypeLoginOK, &ok)
	return ok
}

type unmarshaler interface{ Unmarshal([]byte) error }

// want takes the next frame that the client got.
func (k *link) want(t codec.Type, m unmarshaler) {
	k.tb.Helper()
	f, n, err := codec.Next(k.conn.out, codec.MaxFrame)
	if err != nil || n == 0 {
		k.tb.Fatalf("got %x, want %v (%v)", k.conn.out, t, err)
	}
	if f.Type != t {
		k.tb.Fatalf("got %v %q, want %v", f.Type, f.Body, t)
	}
	if m != nil {
		if err := m.Unmarshal(f.Body); err != nil {
			k.tb.Fatal(err)
		}
	}
	k.conn.out = k.conn.out[n:]
}

// wantNothing checks that the client got nothing more.
func (k *link) wantNothing() {
	k.tb.Helper()
	if len(k.conn.out) > 0 {
		k.tb.Fatalf("the client got %x, want nothing", k.conn.out)
	}
}

func (k *link) wantRefused(code codec.Code) codec.LoginRefused {
	k.tb.Helper()
	var m codec.LoginRefused
	k.want(codec.TypeLoginRefused, &m)
	if m.Code != code || m.Text == "" {
		k.tb.Fatalf("refused with %v %q, want %v", m.Code, m.Text, code)
	}
	return m
}

func (k *link) wantForced(code codec.Code) codec.ForcedOffline {
	k.tb.Helper()
	var m codec.ForcedOffline
	k.want(codec.TypeForcedOffline, &m)
	if m.Code != code || m.Text == "" {
		k.tb.Fatalf("forced offline with %v %q, want %v", m.Code, m.Text, code)
	}
	return m
}

func (k *link) wantState(want string) {
	k.tb.Helper()
	if got := k.s.State(); got != want {
		k.tb.Fatalf("the session is %s, want %s", got, want)
	}
}

// wantLog checks what the directory was asked, and forgets it.
func (r *rig) wantLog(want ...string) {
	r.tb.Helper()
	if !slices.Equal(r.dir.log, want) {
		r.tb.Fatalf("the directory was asked %q, want %q", r.dir.log, want)
	}
	r.dir.log = nil
}

func (r *rig) wantCloses(reason closeReason, want uint64) {
	r.tb.Helper()
	if got := r.core.m.closes[reason].Get(); got != want {
		r.tb.Fatalf("%d closes for %s, want %d", got, closeReasonNames[reason], want)
	}
}

// sign issues a UserSig that is valid for a day from testStart.
func sign(user string) []byte { return signAt(user, testStart, 24*time.Hour) }

func signAt(user string, at time.Time, d time.Duration) []byte {
	sig, err := usersig.Sign(testSecret, testApp, user, at.Unix(), int64(d/time.Second), nil)
	if err != nil {
		panic(err)
	}
	return []byte(sig)
}

func activeLogin(user string, p codec.Platform, device string) *codec.Login {
	return &codec.Login{
		SDKAppID: testApp, UserID: []byte(user), UserSig: sign(user), Platform: p,
		DeviceID: []byte(device), SDKVersion: []byte("1.2.3"), DeviceModel: []byte("Model 9"),
	}
}

func loginFrame(m *codec.Login) []byte { return codec.AppendLogin(nil, m) }

var (
	heartbeat = codec.AppendEmpty(nil, codec.TypeHeartbeat)
	logout    = codec.AppendEmpty(nil, codec.TypeLogout)
)

// leakOptions let gnet's permanent goroutine pool be.
var leakOptions = []goleak.Option{
	goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).purgeStaleWorkers"),
	goleak.IgnoreAnyFunction("github.com/panjf2000/ants/v2.(*poolCommon).ticktock"),
}
