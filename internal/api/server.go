// Package api is Rollcall's HTTP side: the REST API that an app's backend calls
// (serveAPI) and the admin listener with console, health and metrics
// (serveAdmin), both on fasthttp. It reaches presence only through the
// directory and keeps nothing of it.
//
// A request is handled on its connection's goroutine, which waits for the
// directory for at most Options.CallTimeout; what comes later is dropped.
package api

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// Options configure a Server. The zero value of each field is its default.
type Options struct {
	Directory directory.Directory // required
	Clock     clock.Clock         // default clock.System
	Metrics   *metrics.Set        // default a set of its own
	Logger    *slog.Logger        // default: discard

	// Addresses; "" and "off" listen nowhere. The TLS twins need Certificate.
	ListenAPI, ListenAdmin       string
	ListenAPITLS, ListenAdminTLS string
	// Certificate is asked at each full handshake.
	Certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)
	// AdminClients are the authorities one of which must have signed the certificate
	// of a client of the admin listener's TLS; it is asked at each handshake. The
	// token is wanted all the same. nil: no certificate is wanted.
	AdminClients func() *x509.CertPool

	Dev        bool   // rate limits off
	AdminToken string // bearer token of the console; "" refuses every console call

	MaxConns      int // open connections per listener, default 1024; more are closed at once
	MaxConnsPerIP int // per listener; 0 = unlimited
	// MaxBody is the most bytes of a request body, default 128 KiB. A body is read
	// before its caller is known: strangers can make a listener hold MaxConns x
	// MaxBody, and twice that with chunked bodies, whose buffers double as they grow.
	MaxBody     int
	CallTimeout time.Duration // wait for the directory, default 5 s
	ReadTimeout time.Duration // whole request, default 10 s
	IdleTimeout time.Duration // between requests, default 90 s
	MaxFailures int           // callers whose failed verifications are remembered, default 65536
	MaxSigs     int           // good UserSigs remembered, default 1024

	Ceilings presence.Ceilings // of login policies
	Ready    func() error      // default: ready while serving
	Live     func() string     // what /livez says beside "ok", "" = nothing; default: nothing
	Nodes    func() []NodeInfo // default: none
	// Demo is called for each request of the demo page, which lies at /demo/ of the admin
	// listener; nil: there is no such page.
	Demo func() Demo
	// Backup copies the store to a directory on this machine; nil: there is no store.
	Backup          func(dir string) error
	CheckWebhookURL func(string) error // default: every URL that parses
	Webhooks        Webhooks           // dead letters and recent events; default: there are none
	// NewApp sets the server's defaults on an app that the console creates; it
	// must be quick and may run more than once. Default: directory.NewApp's stay.
	NewApp func(*directory.App)
}

// NodeInfo is what the console shows of a node.
type NodeInfo struct {
	Node      uint32         `json:"Node"`
	Version   string         `json:"Version"`
	StartedMS int64          `json:"StartedMS"`
	Loops     int            `json:"Loops"`
	Links     map[string]int `json:"Links"` // by protocol
}

func (o *Options) validate() error {
	if o.Directory == nil {
		return errors.New("api: Options.Directory is required")
	}
	for _, b := range []struct {
		name string
		n    int
	}{{"MaxConns", o.MaxConns}, {"MaxConnsPerIP", o.MaxConnsPerIP}, {"MaxBody", o.MaxBody}, {"MaxFailures", o.MaxFailures}, {"MaxSigs", o.MaxSigs}} {
		if b.n < 0 {
			return fmt.Errorf("api: Options.%s must not be negative, got %d", b.name, b.n)
		}
	}
	for _, b := range []struct {
		name string
		d    time.Duration
	}{{"CallTimeout", o.CallTimeout}, {"ReadTimeout", o.ReadTimeout}, {"IdleTimeout", o.IdleTimeout}} {
		if b.d < 0 {
			return fmt.Errorf("api: Options.%s must not be negative, got %v", b.name, b.d)
		}
	}
	if (listens(o.ListenAPITLS) || listens(o.ListenAdminTLS)) && o.Certificate == nil {
		return errors.New("api: a TLS listener needs a Certificate")
	}
	return nil
}

func (o *Options) setDefaults() {
	setDefault(&o.MaxConns, 1024)
	setDefault(&o.MaxBody, 128<<10)
	setDefault(&o.MaxFailures, 65536)
	setDefault(&o.MaxSigs, 1024)
	setDefault(&o.CallTimeout, 5*time.Second)
	setDefault(&o.ReadTimeout, 10*time.Second)
	setDefault(&o.IdleTimeout, 90*time.Second)
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Ready == nil {
		o.Ready = func() error { return nil }
	}
	if o.Live == nil {
		o.Live = func() string { return "" }
	}
	if o.Nodes == nil {
		o.Nodes = func() []NodeInfo { return nil }
	}
	if o.CheckWebhookURL == nil {
		o.CheckWebhookURL = func(string) error { return nil }
	}
	if o.Webhooks == nil {
		o.Webhooks = noWebhooks{}
	}
	if o.NewApp == nil {
		o.NewApp = func(*directory.App) {}
	}
}

func setDefault[T int | time.Duration](p *T, v T) {
	if *p == 0 {
		*p = v
	}
}

func listens(addr string) bool { return addr != "" && addr != "off" }

// Server is the REST API and the admin listener of a node. Start it once.
type Server struct {
	// Immutable after New.
	opts  Options
	dir   directory.Directory
	clock clock.Clock
	log   *slog.Logger
	rest  *rest // the REST API's own state
	https []*httpServer

	wrongTokens *failureTable // of the console, by address
	audit       *auditLog
	adminPanics *metrics.Counter // calls of the admin listener that ended in one

	serving sync.WaitGroup // one per running listener
}

// httpServer is one listener with its fasthttp server.
type httpServer struct {
	name string // "api", "api-tls", "admin", "admin-tls"
	addr string // as configured
	ln   *listener
	fast *fasthttp.Server
	tls  *tls.Config // nil: plain HTTP
}

// New returns a server that does not listen yet.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	o.setDefaults()
	s := &Server{opts: o, dir: o.Directory, clock: o.Clock, log: o.Logger}
	s.rest = newREST(s)
	s.wrongTokens = newFailureTable(o.MaxFailures, o.Metrics)
	s.audit = newAuditLog(o.Logger, o.Clock, o.Metrics)
	for _, reason := range []string{"missing", "wrong", "limited"} {
		s.authFailures(reason) // exported from the first moment on: alarms look at its growth
	}
	s.adminPanics = o.Metrics.Counter("rollcall_admin_panics_total")
	for _, l := range []struct {
		name, addr string
		tls        *tls.Config
		fast       func() *fasthttp.Server
	}{
		{"api", o.ListenAPI, nil, s.newRESTFast},
		{"api-tls", o.ListenAPITLS, o.serverTLS(), s.newRESTFast},
		{"admin", o.ListenAdmin, nil, s.newAdminFast},
		{"admin-tls", o.ListenAdminTLS, o.adminTLS(), s.newAdminFast},
	} {
		if listens(l.addr) {
			s.https = append(s.https, &httpServer{name: l.name, addr: l.addr, tls: l.tls, fast: l.fast()})
		}
	}
	return s, nil
}

// serverTLS is the TLS of a listener that wants no certificate of its clients.
func (o *Options) serverTLS() *tls.Config {
	return &tls.Config{GetCertificate: o.Certificate, MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"}}
}

// adminTLS is that of the admin listener. With client certificates sessions are
// not resumed: an authority that is not trusted any more must not live on in tickets.
func (o *Options) adminTLS() *tls.Config {
	c := o.serverTLS()
	if o.AdminClients == nil {
		return c
	}
	c.ClientAuth, c.SessionTicketsDisabled = tls.RequireAndVerifyClientCert, true
	base := c.Clone()
	c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		now := base.Clone()
		now.ClientCAs = o.AdminClients()
		return now, nil
	}
	return c
}

const (
	readBufferSize  = 16384 // the longest request line with headers; a UserSig has up to 8 KiB
	writeBufferSize = 65536 // an answer about 500 users leaves in one write: 3 of 16 us less than in two
)

func (s *Server) newRESTFast() *fasthttp.Server { return s.newFast(s.serveAPI) }

// newFast returns a fasthttp server for one listener.
func (s *Server) newFast(h fasthttp.RequestHandler) *fasthttp.Server {
	return &fasthttp.Server{
		Handler:                      h,
		ErrorHandler:                 s.badHTTP,
		NoDefaultServerHeader:        true,
		NoDefaultContentType:         true,
		DisablePreParseMultipartForm: true, // any Content-Type may come with JSON
		ReadBufferSize:               readBufferSize,
		WriteBufferSize:              writeBufferSize,
		Concurrency:                  s.opts.MaxConns + 1, // our listener refuses first
		MaxRequestBodySize:           s.opts.MaxBody,
		ReadTimeout:                  s.opts.ReadTimeout,
		WriteTimeout:                 s.opts.ReadTimeout,
		IdleTimeout:                  s.opts.IdleTimeout,
		CloseOnShutdown:              true,
		LazyRequestTime:              true, // nobody asks
		Logger:                       fastLogger{s.log},
	}
}

// fastLogger takes fasthttp's own lines, which are about faults of clients. They
// may quote request bytes and with them a UserSig, so only their format is logged.
type fastLogger struct{ log *slog.Logger }

func (l fastLogger) Printf(format string, _ ...any) {
	l.log.Debug("http connection", "what", format)
}

// Start binds all listeners and serves them in the background. If one cannot be
// bound, none stays open.
func (s *Server) Start() error {
	for _, h := range s.https {
		tcp, err := net.Listen("tcp", h.addr)
		if err != nil {
			s.closeListeners()
			return fmt.Errorf("api: cannot listen on %q for %s: %w", h.addr, h.name, err)
		}
		h.ln = newListener(tcp, h.name, s.opts.MaxConns, s.opts.MaxConnsPerIP, s.opts.Metrics)
	}
	for _, h := range s.https {
		s.serving.Go(func() { s.serve(h) })
	}
	return nil
}

func (s *Server) serve(h *httpServer) {
	var ln net.Listener = h.ln
	if h.tls != nil {
		ln = tls.NewListener(ln, h.tls)
	}
	if err := h.fast.Serve(ln); err != nil {
		s.log.Error("http listener ended", "listener", h.name, "err", err)
	}
}

func (s *Server) closeListeners() {
	for _, h := range s.https {
		if h.ln != nil {
			_ = h.ln.Close()
			h.ln = nil
		}
	}
}

// Addr returns the bound address of a listener ("api", "api-tls", "admin",
// "admin-tls"), "" if there is none.
func (s *Server) Addr(name string) string {
	for _, h := range s.https {
		if h.name == name && h.ln != nil {
			return h.ln.Addr().String()
		}
	}
	return ""
}

// Shutdown closes the listeners, lets running requests end and waits for them
// until ctx is done; what still runs then is cut off. It may be called twice.
func (s *Server) Shutdown(ctx context.Context) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for _, h := range s.https {
		if h.ln == nil {
			continue
		}
		wg.Go(func() {
			_ = h.ln.Close()
			h.ln.cut(true) // fasthttp would wait 5 s for those that never sent a byte
			err := h.fast.ShutdownWithContext(ctx)
			h.ln.cut(false)
			if err != nil {
				mu.Lock()
				errs = append(errs, fmt.Errorf("api: %s: %w", h.name, err))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	s.serving.Wait()
	return errors.Join(errs...)
}
