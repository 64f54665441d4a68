package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/rollcall-im/rollcall/engine"
	"github.com/rollcall-im/rollcall/internal/api"
	"github.com/rollcall-im/rollcall/internal/buildinfo"
	"github.com/rollcall-im/rollcall/internal/certs"
	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/config"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/metrics"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/store"
	"github.com/rollcall-im/rollcall/internal/tlslink"
	"github.com/rollcall-im/rollcall/internal/webhook"
)

// listenerNames are the listeners in the order in which they are printed.
var listenerNames = []string{"native", "ws", "mqtt", "native-tls", "ws-tls", "mqtt-tls", "api", "admin", "api-tls", "admin-tls"}

// clientListeners are those of the engine; cert is nil without a certificate. The
// names after it are those of ALPN (RFC 7301) that a client may ask for.
func clientListeners(c *config.Config, cert *certs.Source) []engine.Listener {
	listeners := []engine.Listener{
		{Name: "native", Address: c.ListenNative, Protocol: presence.ProtocolNative},
		{Name: "ws", Address: c.ListenWS, Protocol: presence.ProtocolWS},
		{Name: "mqtt", Address: c.ListenMQTT, Protocol: presence.ProtocolMQTT},
	}
	if cert != nil {
		listeners = append(listeners,
			engine.Listener{Name: "native-tls", Address: c.ListenNativeTLS, Protocol: presence.ProtocolNative, TLS: tlslink.Config(cert.Get, "rollcall")},
			engine.Listener{Name: "ws-tls", Address: c.ListenWSTLS, Protocol: presence.ProtocolWS, TLS: tlslink.Config(cert.Get, "http/1.1")},
			engine.Listener{Name: "mqtt-tls", Address: c.ListenMQTTTLS, Protocol: presence.ProtocolMQTT, TLS: tlslink.Config(cert.Get, "mqtt")})
	}
	for i := range listeners {
		listeners[i].ProxyNetworks = c.ProxyNetworks
	}
	return listeners
}

// node is a running server: its parts in the order of their start.
type node struct {
	log     *slog.Logger
	metrics *metrics.Set
	started time.Time
	state   atomic.Int32 // for /readyz

	cert     *certs.Source // nil without a certificate
	store    *store.Store  // nil with durability memory
	webhook  *webhook.Dispatcher
	dir      *embedded.Directory
	engine   *engine.Engine
	memory   *memoryWatch
	refusals *refusalWatch
	api      *api.Server
}

// The states of a node.
const (
	stateStarting = iota
	stateReady
	stateStopping
)

// startNode starts all parts; if one cannot start, those before it are stopped.
func startNode(c *config.Config, log *slog.Logger) (*node, error) {
	n := &node{log: log, metrics: metrics.NewSet(), started: time.Now()}
	files, err := engine.OpenFileLimit()
	if err != nil {
		return nil, err
	}
	budget := splitFiles(files, c)
	for _, part := range []struct {
		name  string
		start func(*config.Config, fileBudget) error
	}{
		{"certificate", n.loadCertificate},
		{"store", n.startStore},
		{"directory", n.startDirectory},
		{"apps", n.createApps},
		{"webhooks", n.startWebhooks}, // after the apps: an event of one that is not there is dropped
		{"engine", n.newEngine},       // before the API, which tells of it; it accepts links last
		{"memory watch", n.startMemoryWatch},
		{"api", n.startAPI},
		{"listeners", n.startEngine},
	} {
		began := time.Now()
		if err := part.start(c, budget); err != nil {
			return nil, errors.Join(fmt.Errorf("cannot start the %s: %w", part.name, err), n.stop(stopTimeout))
		}
		log.Info("started", "part", part.name, "took", time.Since(began).String())
	}
	n.dir.Serve()
	n.state.Store(stateReady)
	log.Info("ready", "version", buildinfo.Version, "max_links", budget.links, "open_files", files)
	return n, nil
}

// fileBudget splits the open-file limit, so that no listener can starve another.
type fileBudget struct {
	perListener int // connections of each HTTP listener
	attempts    int // webhook attempts at once
	store       int // tables that the store holds open
	reserve     int // what links must leave to everybody else
	links       int // links at once
}

// filesMisc is for standard streams, the runtime's epoll, timers, certificates, profiles;
// storeMisc for the store's logs, and what it writes.
const (
	filesMisc = 96
	storeMisc = 16
)

func splitFiles(files int, c *config.Config) fileBudget {
	b := fileBudget{
		perListener: min(c.APIConcurrency, max(files/16, 8)),
		attempts:    min(256, max(files/64, 2)),
	}
	http := 0
	for _, addr := range []string{c.ListenAPI, c.ListenAdmin, c.ListenAPITLS, c.ListenAdminTLS} {
		if addr != config.Off {
			http++
		}
	}
	if c.Durability != config.DurabilityMemory {
		b.store = min(128, max(files/64, 16))
		b.reserve = b.store + storeMisc
	}
	clients := 0
	for _, addr := range []string{c.ListenNative, c.ListenWS, c.ListenMQTT, c.ListenNativeTLS, c.ListenWSTLS, c.ListenMQTTTLS} {
		if addr != config.Off {
			clients++
		}
	}
	b.reserve += b.perListener*http + b.attempts*webhook.FilesPerAttempt + filesMisc + engine.LoopFiles(c.Loops, clients)
	b.links = cmp.Or(c.MaxLinks, engine.LinkBudget(files, b.reserve))
	return b
}

// loadCertificate reads the certificate of all TLS listeners.
func (n *node) loadCertificate(c *config.Config, _ fileBudget) (err error) {
	if c.TLSCert == "" {
		return nil
	}
	n.cert, err = certs.Load(certs.Options{Cert: c.TLSCert, Key: c.TLSKey, ClientCA: c.AdminClientCA, ReadFile: os.ReadFile, Metrics: n.metrics})
	return err
}

// reload reads the certificate again, on SIGHUP. Links and connections stay; what
// connects from now on is shown the new one. One that is no good changes nothing.
func (n *node) reload() {
	if n.cert == nil {
		n.log.Info("SIGHUP: there is no certificate to read again")
		return
	}
	if err := n.cert.Reload(); err != nil {
		n.log.Error("SIGHUP: the certificate stays as it was", "error", err, "expires", n.cert.Leaf().NotAfter)
		return
	}
	leaf := n.cert.Leaf()
	n.log.Info("SIGHUP: the certificate was read again", "subject", leaf.Subject.String(), "serial", leaf.SerialNumber.Text(16), "expires", leaf.NotAfter)
}

// startStore opens the store in the data directory.
func (n *node) startStore(c *config.Config, b fileBudget) (err error) {
	if c.Durability == config.DurabilityMemory {
		return nil
	}
	least := int64(c.StoreMinFree)
	if least == 0 {
		least = -1 // not watched
	}
	n.store, err = store.Open(store.Options{
		Dir: storeDir(c.DataDir), Interval: c.SyncInterval, MinFree: least, OpenFiles: b.store,
		Metrics: n.metrics, Logger: n.log,
	})
	if fault := (*fs.PathError)(nil); errors.As(err, &fault) && fault.Op == "mkdir" {
		return fmt.Errorf("%w; --data-dir names another place", err)
	}
	return err
}

// health says how the store is.
func (n *node) health() store.Health {
	if n.store == nil {
		return store.Health{}
	}
	return n.store.Health()
}

// storeDir is where the store lies within the data directory.
func storeDir(dataDir string) string { return filepath.Join(dataDir, "store") }

func (n *node) startDirectory(c *config.Config, b fileBudget) (err error) {
	var kept webhook.Storage
	if n.store != nil {
		kept = outboxStorage{n.store}
	}
	// Users whose retention is over expire as soon as the directory is there, and
	// their events ask for the app before n.dir is set.
	var open atomic.Bool // every transition asks: a channel, even a closed one, would cost it a lock
	opened := make(chan struct{})
	defer func() { open.Store(true); close(opened) }()
	n.webhook, err = webhook.New(webhook.Options{
		App: func(id uint32) *directory.App {
			if !open.Load() {
				<-opened
			}
			return n.dir.App(id)
		},
		Storage: kept, Lossy: c.SyncInterval > 0,
		Metrics: n.metrics, Logger: n.log,
		MaxEvents: c.WebhookOutboxEvents, MaxDeadLetters: c.WebhookDeadLetters, Full: webhook.FullPolicy(c.WebhookOutboxFull),
		LogEvents:   logEvents(c),
		MaxInFlight: b.attempts, MaxPerEndpoint: max(b.attempts/8, 1),
		AllowPrivate: c.WebhookAllowPrivate, AllowLoopback: c.WebhookAllowLoopback,
	})
	if err != nil {
		return err
	}
	n.dir, err = embedded.New(embedded.Options{
		Clock: clock.System{}, Sink: n.webhook, Ceilings: c.Ceilings, Metrics: n.metrics, Logger: n.log,
		Store: n.store, Events: outboxEvents{n.webhook}, RestartGrace: cmp.Or(c.RestartGrace, -1),
		LoginsBlocked: n.webhook.LoginsBlocked,
	})
	return err
}

// outboxStorage is the store as the webhook's outbox wants it, outboxEvents the
// outbox as the directory's journal does.
type (
	outboxStorage struct{ *store.Store }
	outboxEvents  struct{ *webhook.Dispatcher }
)

// Commit implements webhook.Storage.
func (s outboxStorage) Commit(write func(webhook.Writer), done func(error)) {
	s.Store.Commit(func(w store.Writer) { write(w) }, done)
}

// Record implements embedded.Events.
func (o outboxEvents) Record(w store.Writer, ts []presence.Transition) { o.Dispatcher.Record(w, ts) }

// logEvents is the setting as the dispatcher wants it: there 0 is the default.
func logEvents(c *config.Config) int {
	if c.WebhookLogEvents == 0 {
		return -1
	}
	return c.WebhookLogEvents
}

// createApps creates those apps of the configuration that the store does not remember.
func (n *node) createApps(c *config.Config, _ fileBudget) error {
	for i := range c.Apps {
		a := &c.Apps[i]
		if n.dir.App(a.SDKAppID) != nil {
			n.log.Info("the store remembers the app; what the configuration says of it is not used", "app", a.SDKAppID)
			continue
		}
		if err := n.checkWebhook(a.WebhookURL); err != nil {
			return fmt.Errorf("app %d: %w", a.SDKAppID, err)
		}
		done := make(chan error, 1)
		n.dir.UpdateApp(&directory.UpdateAppOp{
			SDKAppID: a.SDKAppID, Create: true, NowMS: time.Now().UnixMilli(),
			Mutate: func(app *directory.App) error { return applyApp(app, a, c) },
			Done:   func(op *directory.UpdateAppOp) { done <- op.Err },
		})
		if err := <-done; err != nil {
			if h := n.health(); h.ReadOnly {
				return fmt.Errorf("cannot create app %d: %s", a.SDKAppID, h.Reason)
			}
			return fmt.Errorf("app %d: %w", a.SDKAppID, err)
		}
	}
	if c.Dev {
		return nil
	}
	return refusePublicKey(n.dir.Apps())
}

// refusePublicKey looks for an app with the key of --dev, which anybody can sign with: the store
// of a development server remembers one.
func refusePublicKey(apps []*directory.App) error {
	for _, app := range apps {
		for _, key := range app.Keys {
			if key.Secret == config.DevKey {
				return fmt.Errorf("app %d has the public key of --dev (key %d): use another --data-dir, or start with --dev, add a key and retire that one", app.SDKAppID, key.ID)
			}
		}
	}
	return nil
}

func (n *node) startWebhooks(*config.Config, fileBudget) error {
	n.webhook.Start()
	return nil
}

func (n *node) checkWebhook(url string) error {
	if url == "" {
		return nil
	}
	err := n.webhook.CheckURL(url)
	if refused := (*webhook.AddressError)(nil); errors.As(err, &refused) {
		setting := "webhook-allow-private"
		if refused.Loopback {
			setting = "webhook-allow-loopback"
		}
		return fmt.Errorf("%w; serve --%s allows it", err, setting)
	}
	return err
}

// applyApp sets on a new app what the configuration says of it.
func applyApp(app *directory.App, a *config.App, c *config.Config) error {
	app.Name = a.Name
	if a.Key != "" {
		app.Keys = []directory.Key{{ID: 1, Secret: a.Key, CreatedMS: time.Now().UnixMilli()}}
	}
	app.Administrators = a.Administrators
	app.Policy = a.Policy
	app.Webhook.URL, app.Webhook.Token = a.WebhookURL, a.WebhookToken
	newAppDefaults(app, c)
	return nil
}

// newAppDefaults are the server's settings for apps that are created.
func newAppDefaults(app *directory.App, c *config.Config) {
	app.Webhook.TimeoutMS = c.WebhookTimeout.Milliseconds()
	app.Webhook.GiveUpMS = c.WebhookGiveUp.Milliseconds()
	app.Limits = directory.Limits{CallsPerSecond: c.RateCalls, BatchCallsPerSecond: c.RateBatch}
}

func (n *node) startAPI(c *config.Config, b fileBudget) (err error) {
	o := api.Options{
		Directory: n.dir, Metrics: n.metrics, Logger: n.log,
		ListenAPI: c.ListenAPI, ListenAdmin: c.ListenAdmin,
		ListenAPITLS: c.ListenAPITLS, ListenAdminTLS: c.ListenAdminTLS,
		Dev: c.Dev, AdminToken: c.AdminToken, Ceilings: c.Ceilings,
		MaxConns: b.perListener, MaxConnsPerIP: c.APIConnsPerIP, MaxBody: c.APIMaxBody,
		NewApp: func(app *directory.App) { newAppDefaults(app, c) },
		Ready:  n.ready, Live: n.live, Backup: n.backup(), Nodes: func() []api.NodeInfo { return n.nodes(c.Node) },
		CheckWebhookURL: n.checkWebhook, Webhooks: n.webhook, Demo: n.demo(c),
	}
	if n.cert != nil {
		o.Certificate = n.cert.Get
		if c.AdminClientCA != "" {
			o.AdminClients = n.cert.Clients
		}
	}
	if n.api, err = api.New(o); err != nil {
		return err
	}
	return n.api.Start()
}

// demo is what the demo page is told; nil without --dev: there is no page.
func (n *node) demo(c *config.Config) func() api.Demo {
	if !c.Dev {
		return nil
	}
	return func() api.Demo {
		d := api.Demo{SDKAppID: config.DevAppID, Key: config.DevKey, Administrator: devAdmin}
		if a := n.addr("ws"); a != "" {
			d.WS = "ws://" + a + "/v1"
		}
		if a := n.addr("api"); a != "" {
			d.API = "http://" + a
		}
		return d
	}
}

func (n *node) newEngine(c *config.Config, b fileBudget) (err error) {
	o := engine.Options{
		Listeners: clientListeners(c, n.cert), Loops: c.Loops, MaxLinks: c.MaxLinks, FileReserve: b.reserve, Node: c.Node,
		Directory: watched{n.dir, n.webhook}, Metrics: n.metrics, Logger: n.log,
		Handshakes: tlslink.Options{
			Timeout: c.TLSHandshakeTimeout, MaxHandshakes: c.TLSHandshakes, MaxQueued: c.TLSHandshakesQueued, Compute: c.TLSHandshakesComputing,
		},
		DrainRedirect: c.DrainRedirect, RetryAfter: c.RetryAfter, RetryMost: c.RetryMax,
		LoginRate: c.LoginRate, LoginQueueTime: c.LoginQueueTime,
		UserFailures: cmp.Or(c.LoginFailuresUser, -1), IPFailures: cmp.Or(c.LoginFailuresIP, -1),
		FailureWindow: c.LoginFailureWindow, PenaltyMost: c.LoginPenaltyMax, SigCache: cmp.Or(c.SigCache, -1),
	}
	applyLimits(&o, c, b.links)
	n.engine, err = engine.New(o)
	return err
}

// startMemoryWatch refuses new links while memory is full, if there is a limit.
func (n *node) startMemoryWatch(c *config.Config, _ fileBudget) error {
	limit := resolveMemoryLimit(c, os.ReadFile)
	runtime := newRuntimeMemory()
	w := newMemoryWatch(limit, func() int64 { return runtime.bytes() + n.dir.TableBytes() }, n.engine.SetMemoryFull, debug.FreeOSMemory, n.log)
	n.metrics.Gauge("rollcall_memory_limit_bytes", func() float64 { return float64(limit) })
	n.metrics.Gauge("rollcall_memory_bytes", func() float64 { return float64(w.last.Load()) })
	n.memory = w
	go w.run()
	return nil
}

func (n *node) startEngine(*config.Config, fileBudget) error {
	if err := n.engine.Start(); err != nil {
		return err
	}
	n.refusals = newRefusalWatch(n.engine.Refusals, n.log)
	go n.refusals.run()
	return nil
}

// watched is the directory as the engine sees it: what it is told of apps, the
// webhook dispatcher is told too.
type watched struct {
	directory.Directory
	webhook *webhook.Dispatcher
}

// Watch implements directory.Directory.
func (d watched) Watch(node uint32, w directory.Watcher) (stop func()) {
	return d.Directory.Watch(node, appsToo{w, d.webhook})
}

type appsToo struct {
	directory.Watcher
	webhook *webhook.Dispatcher
}

// AppChanged implements directory.Watcher.
func (a appsToo) AppChanged(app *directory.App) {
	a.Watcher.AppChanged(app)
	a.webhook.AppChanged(app)
}
