package bench

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

func TestMain(m *testing.M) {
	// fasthttp's own cleaner of idle connections sleeps out its last turn after
	// the last connection is gone.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

// fake is a server as the bench expects one, with room for misbehaviour. It
// shares no code with the real one but the codec.
type fake struct {
	t    *testing.T
	ln   net.Listener
	http *httptest.Server
	wg   sync.WaitGroup

	protocol Protocol    // what is spoken; default Native
	cert     *tls.Config // the server's side of TLS; nil: plain
	beatMS   uint32      // heartbeat interval told
	drip     bool        // write one byte at a time
	// The hooks replace an answer: what they return is written, nil closes the link at once.
	onLogin  func(user string, n int, answer []byte) []byte
	onBeat   func(user string, n int) []byte
	onLogout func(user string) []byte
	// onKick replaces the notice of a kick; nil sends none.
	onKick func(user string, notice []byte) []byte
	// keepKicked leaves the link of the kicked open.
	keepKicked bool
	// silenceMS closes a link that has been silent for so long; 0 = what the console was told.
	silenceMS int64
	// refusePut makes the console refuse changes.
	refusePut bool
	// onQuery changes a result item, or answers the call itself by writing to w and returning false.
	onQuery func(w http.ResponseWriter, user string, item map[string]any) bool

	mu     sync.Mutex
	conns  map[net.Conn]bool
	status map[string]string
	detail map[string]codec.Platform
	logins int
	beats  int
	links  map[string]net.Conn
	times  timeouts
	puts   []timeouts
}

func newFake(t *testing.T) *fake {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{
		t: t, ln: ln, beatMS: 100, conns: map[net.Conn]bool{}, status: map[string]string{}, detail: map[string]codec.Platform{},
		links: map[string]net.Conn{}, onKick: func(_ string, notice []byte) []byte { return notice },
		onLogin:  func(_ string, _ int, answer []byte) []byte { return answer },
		onBeat:   func(string, int) []byte { return codec.AppendEmpty(nil, codec.TypeHeartbeatOK) },
		onLogout: func(string) []byte { return codec.AppendEmpty(nil, codec.TypeLogoutOK) },
		onQuery:  func(http.ResponseWriter, string, map[string]any) bool { return true },
	}
	t.Cleanup(f.close)
	return f
}

// start begins to serve: the hooks must not be changed from then on.
func (f *fake) start() {
	f.http = httptest.NewServer(http.HandlerFunc(f.rest))
	f.wg.Go(f.accept)
}

func (f *fake) close() {
	f.ln.Close()
	f.mu.Lock()
	for c := range f.conns {
		c.Close()
	}
	f.mu.Unlock()
	f.wg.Wait()
	if f.http != nil {
		f.http.Close()
	}
}

// options starts the server, once, and returns what reaches it.
func (f *fake) options() Options {
	if f.http == nil {
		f.start()
	}
	return Options{
		Protocol: f.protocol, Target: f.ln.Addr().String(), API: f.http.URL, AdminURL: f.http.URL, UserPrefix: "t-",
		AnswerTimeout: 5 * time.Second, SettleTimeout: 5 * time.Second,
	}
}

func (f *fake) accept() {
	for {
		c, err := f.ln.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		f.conns[c] = true
		f.mu.Unlock()
		f.wg.Go(func() { f.serve(c) })
	}
}

// serve speaks to one client until it or a hook ends the link.
func (f *fake) serve(accepted net.Conn) {
	conn := accepted
	defer func() {
		conn.Close()
		f.mu.Lock()
		delete(f.conns, accepted)
		f.mu.Unlock()
	}()
	if f.cert != nil {
		conn = tls.Server(conn, f.cert)
	}
	c := f.interpret(conn)
	user, buf, chunk := "", []byte(nil), make([]byte, 4096)
	for {
		if silence := f.silence(); silence > 0 && user != "" {
			_ = c.SetReadDeadline(time.Now().Add(silence))
		}
		n, err := c.Read(chunk)
		if err != nil {
			f.lost(user)
			return
		}
		buf = append(buf, chunk[:n]...)
		for {
			fr, n, err := codec.Next(buf, codec.MaxFrame)
			if err != nil || n == 0 {
				break
			}
			answer, last := f.answer(&user, fr)
			if fr.Type == codec.TypeLogin {
				f.mu.Lock()
				f.links[user] = c
				f.mu.Unlock()
			}
			buf = buf[n:]
			if !f.write(c, answer) {
				f.lost(user)
				return
			}
			if last {
				return
			}
		}
	}
}

func (f *fake) write(c net.Conn, p []byte) bool {
	step := len(p)
	if f.drip {
		step = 1
	}
	for ; len(p) > 0; p = p[min(step, len(p)):] {
		if _, err := c.Write(p[:min(step, len(p))]); err != nil {
			return false
		}
	}
	return true
}

// answer handles one frame; last says that the link ends after it.
func (f *fake) answer(user *string, fr codec.Frame) (answer []byte, last bool) {
	switch fr.Type {
	case codec.TypeLogin:
		var m codec.Login
		if err := m.Unmarshal(fr.Body); err != nil {
			f.t.Errorf("login: %v", err)
		}
		*user = string(m.UserID)
		answer = f.login(&m)
	case codec.TypeHeartbeat:
		f.mu.Lock()
		f.beats++
		n := f.beats
		f.mu.Unlock()
		answer = f.onBeat(*user, n)
	case codec.TypeLogout:
		f.set(*user, statusOffline, 0)
		*user = ""
		return f.onLogout(*user), true
	}
	return answer, answer == nil
}

// login checks what a real server would and answers.
func (f *fake) login(m *codec.Login) []byte {
	id := string(m.UserID)
	r := usersig.Verify(m.UserSig, &usersig.Check{AppID: DevApp, UserID: id, Secrets: []string{DevKey}, NowS: time.Now().Unix()})
	if r.Code != usersig.OK || m.SDKAppID != DevApp || m.Platform == 0 || len(m.DeviceID) != 36 || m.Resume {
		f.t.Errorf("login %+v: UserSig code %d %s", m, r.Code, r.Text)
	}
	f.set(id, statusOnline, m.Platform)
	f.mu.Lock()
	f.logins++
	n := f.logins
	f.mu.Unlock()
	return f.onLogin(id, n, codec.AppendLoginOK(nil, &codec.LoginOK{
		InstID: 1, Ticket: []byte("ticket"), ServerTimeMS: time.Now().UnixMilli(),
		HeartbeatIntervalMS: f.beatMS, SilenceTimeoutMS: 3 * f.beatMS,
	}))
}

func (f *fake) set(user, status string, p codec.Platform) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.status[user] = status
	if p != 0 {
		f.detail[user] = p
	}
}

// lost does what a server does when a link breaks.
func (f *fake) lost(user string) {
	f.mu.Lock()
	p := f.detail[user]
	f.mu.Unlock()
	f.mu.Lock()
	kicked := f.links[user] == nil
	f.mu.Unlock()
	if user != "" && !kicked {
		f.set(user, specOf(p).afterLoss(), 0)
	}
}

// silence is after how long a silent link is closed; 0 = never.
func (f *fake) silence() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.silenceMS > 0 {
		return time.Duration(f.silenceMS) * time.Millisecond
	}
	return time.Duration(f.times.Web.SilenceMS) * time.Millisecond
}

// kick ends a user's link with a notice.
func (f *fake) kick(user string) {
	f.mu.Lock()
	c := f.links[user]
	delete(f.links, user)
	f.mu.Unlock()
	f.set(user, statusOffline, 0)
	notice := codec.AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeKickedREST, Text: "kicked"})
	if notice = f.onKick(user, notice); notice == nil || c == nil {
		return
	}
	if _, _ = c.Write(notice); !f.keepKicked {
		_ = c.(interface{ CloseWrite() error }).CloseWrite()
	}
}

// console answers the calls of the console and the metrics.
func (f *fake) console(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/metrics" {
		fmt.Fprint(w, "# comment\ngo_memstats_heap_inuse_bytes 3.5e+06\ngo_gc_duration_seconds_count 7\ngo_gc_duration_seconds_sum 0.25\n")
		return
	}
	if r.Header.Get("Authorization") != "Bearer dev" || r.URL.Path != fmt.Sprintf("/console/v1/apps/%d/timeouts", DevApp) {
		f.t.Errorf("console call %s with %q", r.URL.Path, r.Header.Get("Authorization"))
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if r.Method == http.MethodPut {
		var in timeouts
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			f.t.Errorf("time-outs: %v", err)
		}
		if f.refusePut {
			http.Error(w, "no", http.StatusUnprocessableEntity)
			return
		}
		f.times = in
		f.puts = append(f.puts, in)
	}
	_ = json.NewEncoder(w).Encode(f.times)
}

// rest answers the calls that the bench makes.
func (f *fake) rest(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, "/console/") || r.URL.Path == "/metrics" {
		f.console(w, r)
		return
	}
	if f.answersItself(w, r) {
		return
	}
	answer := map[string]any{"ActionStatus": "OK", "ErrorInfo": "", "ErrorCode": 0}
	var body struct {
		To   []string `json:"To_Account"`
		Acc  []string `json:"Accounts"`
		Need int      `json:"IsNeedDetail"`
		User string   `json:"UserID"`
	}
	data, _ := io.ReadAll(r.Body)
	if err := errors.Join(json.Unmarshal(data, &body), checkSig(r)); err != nil {
		f.t.Errorf("%s: %v", r.URL.Path, err)
	}
	switch {
	case strings.HasSuffix(r.URL.Path, "/multiaccount_import"):
		answer["FailAccounts"] = []string{}
	case strings.HasSuffix(r.URL.Path, "/kick"):
		f.kick(body.User)
	case strings.HasSuffix(r.URL.Path, "/query_online_status"):
		results := []any{}
		for _, id := range body.To {
			item := f.item(id)
			if !f.onQuery(w, id, item) {
				return
			}
			results = append(results, item)
		}
		answer["QueryResult"], answer["ErrorList"] = results, []any{}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// answersItself refuses what is no POST to a v4 path.
func (f *fake) answersItself(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodPost && strings.HasPrefix(r.URL.Path, "/v4/") {
		return false
	}
	w.WriteHeader(http.StatusNotFound)
	return true
}

func checkSig(r *http.Request) error {
	q := r.URL.Query()
	res := usersig.Verify([]byte(q.Get("usersig")), &usersig.Check{
		AppID: DevApp, UserID: q.Get("identifier"), Secrets: []string{DevKey}, NowS: time.Now().Unix(),
	})
	if res.Code != usersig.OK || q.Get("sdkappid") != fmt.Sprint(DevApp) {
		return fmt.Errorf("query string %q: %d %s", r.URL.RawQuery, res.Code, res.Text)
	}
	return nil
}

func (f *fake) item(id string) map[string]any {
	f.mu.Lock()
	defer f.mu.Unlock()
	status := f.status[id]
	if status == "" {
		status = statusOffline
	}
	item := map[string]any{"To_Account": id, "Status": status, "State": status}
	if status != statusOffline {
		item["Detail"] = []any{map[string]any{"Platform": specOf(f.detail[id]).query, "Status": status}}
	}
	return item
}
