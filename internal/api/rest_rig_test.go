package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp/fasthttputil"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

const (
	testApp    = 1400000000
	testSecret = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
	testAdmin  = "administrator"
)

// testStart is when the virtual clock of a rig begins.
var testStart = time.Unix(1_700_000_000, 0)

// restRig is a REST API over a real embedded directory, on an in-memory listener
// under virtual time.
type restRig struct {
	t       testing.TB
	clock   *clock.Manual
	dir     *meddler
	metrics *metrics.Set
	server  *Server
	mem     *addressed
	client  *http.Client
}

// newRESTRig starts a rig with the app testApp. change may adjust the options and
// the app.
func newRESTRig(t testing.TB, change func(o *Options, a *directory.App)) *restRig {
	t.Helper()
	r := &restRig{t: t, clock: clock.NewManual(testStart), metrics: metrics.NewSet()}
	d, err := embedded.New(embedded.Options{Clock: r.clock, Shards: 8})
	if err != nil {
		t.Fatal(err)
	}
	r.dir = &meddler{Directory: d}
	o := Options{Directory: r.dir, Clock: r.clock, Metrics: r.metrics}
	r.addApp(testApp, func(a *directory.App) {
		a.Limits = directory.Limits{}
		if change != nil {
			change(&o, a)
		}
	})
	if r.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	r.mem = &addressed{InmemoryListener: fasthttputil.NewInmemoryListener(), ip: netip.MustParseAddr("192.0.2.1")}
	r.server.https = []*httpServer{{
		name: "api", fast: r.server.newRESTFast(),
		ln: newListener(r.mem, "api", r.server.opts.MaxConns, r.server.opts.MaxConnsPerIP, r.metrics),
	}}
	r.server.serving.Go(func() { r.server.serve(r.server.https[0]) })
	r.client = &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{
		DialContext: func(context.Context, string, string) (net.Conn, error) { return r.mem.Dial() },
	}}
	t.Cleanup(r.close)
	return r
}

func (r *restRig) close() {
	r.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.server.Shutdown(ctx); err != nil {
		r.t.Error(err)
	}
	d := r.dir.Directory.(*embedded.Directory)
	if err := d.Check(); err != nil {
		r.t.Error(err)
	}
	if err := d.Close(); err != nil {
		r.t.Error(err)
	}
}

// addApp makes an app with the test key.
func (r *restRig) addApp(id uint32, change func(*directory.App)) {
	r.t.Helper()
	done := make(chan error, 1)
	r.dir.UpdateApp(&directory.UpdateAppOp{
		SDKAppID: id, Create: true, NowMS: r.clock.Now().UnixMilli(),
		Mutate: func(a *directory.App) error {
			a.Keys = []directory.Key{{ID: 1, Secret: testSecret}}
			if change != nil {
				change(a)
			}
			return nil
		},
		Done: func(op *directory.UpdateAppOp) { done <- op.Err },
	})
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
}

// changeApp changes an app.
func (r *restRig) changeApp(id uint32, change func(*directory.App)) {
	r.t.Helper()
	done := make(chan error, 1)
	r.dir.UpdateApp(&directory.UpdateAppOp{
		SDKAppID: id, NowMS: r.clock.Now().UnixMilli(),
		Mutate: func(a *directory.App) error { change(a); return nil },
		Done:   func(op *directory.UpdateAppOp) { done <- op.Err },
	})
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
}

// login logs a device in at the clock's time.
func (r *restRig) login(user string, p presence.Platform, device string) presence.Instance {
	r.t.Helper()
	done := make(chan *directory.LoginOp, 1)
	links++
	r.dir.Login(&directory.LoginOp{
		Key: presence.Key{App: testApp, UserID: user},
		Login: presence.Login{
			Device: presence.Device{Platform: p, ID: device},
			Cred:   presence.Credential{SigTimeS: r.clock.Now().Unix()},
			Link:   presence.Link{Node: 1, ID: presence.MakeLinkID(0, links, 1)},
			NowMS:  r.clock.Now().UnixMilli(),
		},
		Done: func(op *directory.LoginOp) { done <- op },
	})
	op := <-done
	if op.Code != presence.CodeOK {
		r.t.Fatalf("login of %q on %v: %d", user, p, op.Code)
	}
	return op.Decision.Inst
}

var links uint32

// lose closes the link of an instance.
func (r *restRig) lose(user string, in presence.Instance) {
	r.t.Helper()
	done := make(chan *directory.LeaveOp, 1)
	r.dir.Leave(&directory.LeaveOp{
		Key: presence.Key{App: testApp, UserID: user}, Platform: in.Device.Platform, DeviceID: in.Device.ID,
		Node: in.Link.Node, Link: in.Link.ID, Reason: directory.LeaveLinkClosed, NowMS: r.clock.Now().UnixMilli(),
		Done: func(op *directory.LeaveOp) { done <- op },
	})
	if op := <-done; !op.Changed {
		r.t.Fatalf("link of %q was stale", user)
	}
}

// sig signs for user at the clock's time.
func (r *restRig) sig(user string) string { return r.sigAt(user, r.clock.Now().Unix()) }

func (r *restRig) sigAt(user string, timeS int64) string {
	r.t.Helper()
	s, err := usersig.Sign(testSecret, testApp, user, timeS, 86400, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

// params are the URL parameters of a good call.
func (r *restRig) params() url.Values {
	return url.Values{
		"sdkappid": {fmt.Sprint(testApp)}, "identifier": {testAdmin}, "usersig": {r.sig(testAdmin)},
		"random": {"99999999"}, "contenttype": {"json"},
	}
}

// restAnswer is what a call may answer, by its documented names.
type restAnswer struct {
	ActionStatus, ErrorInfo string
	ErrorCode               int
	QueryResult             []queryItem
	ErrorList               []errorItem
	ResultItem              []resultItem
	FailAccounts            []string

	raw    string
	status int
	header http.Header
}

type queryItem struct {
	To_Account, Status, State string
	Detail                    []detailItem
	CustomStatus              *string
}

type detailItem struct {
	Platform, Status string
	Instid           *uint32
}

type errorItem struct {
	To_Account string
	ErrorCode  int
}

type resultItem struct {
	UserID, ResultInfo, AccountStatus string
	ResultCode                        int
}

// post makes a good call but for its body.
func (r *restRig) post(command, body string) restAnswer {
	r.t.Helper()
	return r.do("POST", "/v4/"+command+"?"+r.params().Encode(), body)
}

// do sends a request and checks what every answer has in common.
func (r *restRig) do(method, target, body string) restAnswer {
	r.t.Helper()
	req, err := http.NewRequest(method, "http://rollcall"+target, bytes.NewBufferString(body))
	if err != nil {
		r.t.Fatal(err)
	}
	res, err := r.client.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	a := restAnswer{raw: string(raw), status: res.StatusCode, header: res.Header}
	checkEnvelope(r.t, &a)
	return a
}

// checkEnvelope decodes an answer and holds it to what all have in common.
func checkEnvelope(t testing.TB, a *restAnswer) {
	t.Helper()
	dec := json.NewDecoder(bytes.NewBufferString(a.raw))
	dec.DisallowUnknownFields()
	if err := dec.Decode(a); err != nil {
		t.Fatalf("answer %q: %v", a.raw, err)
	}
	if a.status != 200 {
		t.Errorf("HTTP status %d", a.status)
	}
	if want := map[bool]string{true: "OK", false: "FAIL"}[a.ErrorCode == 0]; a.ActionStatus != want {
		t.Errorf("ActionStatus %q with ErrorCode %d", a.ActionStatus, a.ErrorCode)
	}
	if (a.ErrorInfo == "") != (a.ErrorCode == 0) {
		t.Errorf("ErrorInfo %q with ErrorCode %d", a.ErrorInfo, a.ErrorCode)
	}
	for name, want := range map[string]string{
		"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "X-Requested-With",
		"Access-Control-Allow-Methods": "POST", "Content-Type": "application/json", "Server": "",
	} {
		if got := a.header.Get(name); got != want {
			t.Errorf("header %s is %q, want %q", name, got, want)
		}
	}
}

// want checks the code of an answer.
func (a restAnswer) want(t testing.TB, code int) restAnswer {
	t.Helper()
	if a.ErrorCode != code {
		t.Errorf("got %d %q, want %d", a.ErrorCode, a.ErrorInfo, code)
	}
	return a
}

// addressed gives the connections of an in-memory listener a client's address.
type addressed struct {
	*fasthttputil.InmemoryListener
	mu sync.Mutex
	ip netip.Addr
}

func (l *addressed) from(ip string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ip = netip.MustParseAddr(ip)
}

func (l *addressed) Accept() (net.Conn, error) {
	c, err := l.InmemoryListener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return addressedConn{c, net.TCPAddrFromAddrPort(netip.AddrPortFrom(l.ip, 4711))}, nil
}

type addressedConn struct {
	net.Conn
	remote net.Addr
}

func (c addressedConn) RemoteAddr() net.Addr { return c.remote }

// meddler is a directory that can be told to answer late or with a code.
type meddler struct {
	directory.Directory

	mu   sync.Mutex
	hold bool     // ops are kept instead of being done
	held []func() // each ends one op
	code int      // ops end with it
	user int      // per-user results of queries and accounts are it
	full bool     // whether the last query asked for detail
	wait chan struct{}
}

// set changes the meddling.
func (m *meddler) set(change func(*meddler)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// release ends what is held.
func (m *meddler) release() {
	m.mu.Lock()
	held := m.held
	m.held, m.hold = nil, false
	m.mu.Unlock()
	for _, end := range held {
		end()
	}
}

// meddles handles an op: true if it did.
func (m *meddler) meddles(fail func(code int), end func()) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.hold:
		m.held = append(m.held, end)
		if m.wait != nil {
			close(m.wait)
			m.wait = nil
		}
		return true
	case m.code != 0:
		fail(m.code)
		go end()
		return true
	}
	return false
}

func (m *meddler) Query(op *directory.QueryOp) {
	if m.meddles(func(code int) { op.Code = code }, func() { op.Done(op) }) {
		return
	}
	m.mu.Lock()
	code := m.user
	m.full = op.Detail
	m.mu.Unlock()
	if code == 0 {
		m.Directory.Query(op)
		return
	}
	op.Users = make([]directory.UserState, len(op.UserIDs))
	for i := range op.Users {
		op.Users[i].Code = code
	}
	op.Done(op)
}

func (m *meddler) Accounts(op *directory.AccountsOp) {
	if m.meddles(func(code int) { op.Code = code }, func() { op.Done(op) }) {
		return
	}
	m.mu.Lock()
	code := m.user
	m.mu.Unlock()
	if code == 0 {
		m.Directory.Accounts(op)
		return
	}
	op.Results = make([]int, len(op.UserIDs))
	for i := range op.Results {
		op.Results[i] = code
	}
	op.Done(op)
}

func (m *meddler) Kick(op *directory.KickOp) {
	if !m.meddles(func(code int) { op.Code = code }, func() { op.Done(op) }) {
		m.Directory.Kick(op)
	}
}

// slowUser holds look-ups of users, which every call makes.
type slowUser struct {
	*meddler
	code int
	held chan *directory.UserOp
}

func (s *slowUser) User(op *directory.UserOp) {
	if s.held != nil {
		s.held <- op
		return
	}
	op.Code = s.code
	op.Done(op)
}

func readAll(t testing.TB, res *http.Response) string {
	t.Helper()
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
