package ledger

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// receiver is the backend that the webhook tells. It writes down each request
// before it answers, and at times does not answer well, or is not there.
type receiver struct {
	receiverTells
	addr  string // for all its life
	token string
	count atomic.Int64 // requests that have arrived

	mu     sync.Mutex
	rng    *rand.Rand
	phase  receiverPhase
	good   bool // for good: no more faults
	closed bool
	server *http.Server
	done   sync.WaitGroup
}

// receiverTells is what a receiver calls, on any goroutine.
type receiverTells struct {
	note  func(app uint32, user string, r Receipt) error // hands over what has arrived
	wrong func(kind, format string, args ...any)
	hit   func(n int64) // at the n-th request
}

func newReceiver(seed uint64, token string, to receiverTells) (*receiver, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("webhook receiver: %w", err)
	}
	r := &receiver{receiverTells: to, addr: l.Addr().String(), token: token, rng: rand.New(rand.NewPCG(seed, 'r')), phase: receiverPhase{receiverGood, 50}}
	r.serve(l)
	return r, nil
}

// serve answers on l, whose address is that of r. After the first time the caller holds mu.
func (r *receiver) serve(l net.Listener) {
	s := &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	r.server = s
	r.done.Go(func() { _ = s.Serve(l) })
}

func (r *receiver) url(app uint32) string { return fmt.Sprintf("http://%s/app/%d", r.addr, app) }

// close ends the receiver and waits for its goroutines.
func (r *receiver) close() {
	r.mu.Lock()
	r.closed = true
	r.server.Close()
	r.mu.Unlock()
	r.done.Wait()
}

// behave ends all faults: from now on every request is answered well.
func (r *receiver) behave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.good = true
}

// next is how the request at hand is treated.
func (r *receiver) next() receiverMode {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.good {
		return receiverGood
	}
	if r.phase.n == 0 {
		r.phase = nextPhase(r.rng, r.phase.mode)
		if r.phase.mode == receiverDead {
			r.die(time.Duration(r.phase.n) * 10 * time.Millisecond)
			r.phase.n = 0
			return receiverDead
		}
	}
	r.phase.n--
	return r.phase.mode
}

// die closes the listener and all connections, and opens it again after d. The
// caller holds mu.
func (r *receiver) die(d time.Duration) {
	s := r.server
	r.done.Go(func() {
		s.Close()
		time.Sleep(d)
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.closed {
			return
		}
		l, err := net.Listen("tcp", r.addr)
		if err != nil {
			r.wrong(ServerEnded, "the webhook receiver cannot come back: %v", err)
			return
		}
		r.serve(l)
	})
}

// ServeHTTP implements http.Handler.
func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	app, user, receipt, err := r.read(req)
	if err != nil {
		if req.Context().Err() == nil { // a request that broke off is no request
			r.wrong(BadRequest, "%v", err)
		}
		http.Error(w, "bad request", http.StatusBadRequest)
		return
	}
	mode := r.next()
	receipt.Accepted = mode == receiverGood
	if err := r.note(app, user, receipt); err != nil {
		r.wrong(BadRequest, "%v", err)
	}
	r.hit(r.count.Add(1))
	r.answer(w, req, mode)
}

// hangs bounds how long a receiver that hangs keeps a goroutine.
const hangs = 10 * time.Second

func (r *receiver) answer(w http.ResponseWriter, req *http.Request, mode receiverMode) {
	w.Header().Set("Content-Type", "application/json")
	switch mode {
	case receiverFails:
		w.WriteHeader(http.StatusInternalServerError)
	case receiverSaysNo:
		_, _ = io.WriteString(w, `{"ActionStatus":"FAIL","ErrorCode":1,"ErrorInfo":"not now"}`)
	case receiverHangs:
		ctx, cancel := context.WithTimeout(req.Context(), hangs)
		defer cancel()
		<-ctx.Done()
		panic(http.ErrAbortHandler)
	case receiverResets, receiverDead:
		w.Header().Set("Content-Length", "100")
		_, _ = io.WriteString(w, `{"ActionStatus":"OK",`)
		panic(http.ErrAbortHandler)
	default:
		_, _ = io.WriteString(w, `{"ActionStatus":"OK","ErrorCode":0,"ErrorInfo":""}`)
	}
}

// maxRequest bounds the body of a webhook request.
const maxRequest = 64 << 10

// read takes a request apart and verifies who sent it.
func (r *receiver) read(req *http.Request) (app uint32, user string, out Receipt, err error) {
	body, err := io.ReadAll(io.LimitReader(req.Body, maxRequest))
	if err != nil {
		return 0, "", out, fmt.Errorf("request body: %w", err)
	}
	q := req.URL.Query()
	id, err := strconv.ParseUint(q.Get("SdkAppid"), 10, 32)
	if err != nil || req.URL.Path != fmt.Sprintf("/app/%d", id) {
		return 0, "", out, fmt.Errorf("a request to %s for SdkAppid %q", req.URL.Path, q.Get("SdkAppid"))
	}
	if err := r.verify(req.Header, q, body); err != nil {
		return 0, "", out, err
	}
	var b struct {
		CallbackCommand string
		EventTime       int64
		Info            struct {
			Action, Reason, Platform string
			Account                  string `json:"To_Account"`
			InstID                   uint32
		}
		KickedDevice []struct{ Platform string }
		EventSeq     uint64
	}
	if err := json.Unmarshal(body, &b); err != nil || b.CallbackCommand != "State.StateChange" || b.EventSeq == 0 {
		return 0, "", out, fmt.Errorf("body %.200q: %v", body, err)
	}
	digest := sha256.Sum256(body)
	out = Receipt{Seq: b.EventSeq, ID: req.Header.Get("webhook-id"), Body: hex.EncodeToString(digest[:8]), Event: Event{
		TimeMS: b.EventTime, Action: b.Info.Action, Reason: b.Info.Reason, OptPlatform: q.Get("OptPlatform"),
		InstID: b.Info.InstID, Platform: b.Info.Platform,
	}}
	for _, k := range b.KickedDevice {
		out.Event.Kicked = append(out.Event.Kicked, k.Platform)
	}
	return uint32(id), b.Info.Account, out, nil
}

// verify checks both signatures.
func (r *receiver) verify(h http.Header, q url.Values, body []byte) error {
	sum := sha256.Sum256([]byte(r.token + q.Get("RequestTime")))
	if q.Get("Sign") != hex.EncodeToString(sum[:]) {
		return fmt.Errorf("the Sign %q does not verify", q.Get("Sign"))
	}
	id := h.Get("webhook-id")
	mac := hmac.New(sha256.New, []byte(r.token))
	fmt.Fprintf(mac, "%s.%s.%s", id, h.Get("webhook-timestamp"), body)
	if want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil)); id == "" || h.Get("webhook-signature") != want {
		return fmt.Errorf("webhook-signature of webhook-id %q does not verify", id)
	}
	return nil
}
