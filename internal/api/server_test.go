package api

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/embedded"
)

// newTestDirectory returns a directory under real time with the app testApp.
func newTestDirectory(r *restRig) directory.Directory {
	r.t.Helper()
	d, err := embedded.New(embedded.Options{Shards: 8})
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { d.Close() })
	done := make(chan error, 1)
	d.UpdateApp(&directory.UpdateAppOp{
		SDKAppID: testApp, Create: true, NowMS: time.Now().UnixMilli(),
		Mutate: func(a *directory.App) error {
			a.Keys = []directory.Key{{ID: 1, Secret: testSecret}}
			return nil
		},
		Done: func(op *directory.UpdateAppOp) { done <- op.Err },
	})
	if err := <-done; err != nil {
		r.t.Fatal(err)
	}
	return d
}

func TestOptionsRefused(t *testing.T) {
	r := &restRig{t: t}
	dir := newTestDirectory(r)
	for name, tt := range map[string]struct {
		o    Options
		says string
	}{
		"no directory":   {Options{}, "Directory"},
		"negative conns": {Options{Directory: dir, MaxConns: -1}, "MaxConns must not be negative, got -1"},
		"negative body":  {Options{Directory: dir, MaxBody: -2}, "MaxBody"},
		"negative sigs":  {Options{Directory: dir, MaxSigs: -2}, "MaxSigs"},
		"negative wait":  {Options{Directory: dir, CallTimeout: -time.Second}, "CallTimeout must not be negative, got -1s"},
		"TLS without":    {Options{Directory: dir, ListenAPITLS: ":0"}, "needs a Certificate"},
	} {
		if _, err := New(tt.o); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestStartOnTakenAddress: it fails, names the address, and leaves nothing open.
func TestStartOnTakenAddress(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	s, err := New(Options{Directory: newTestDirectory(&restRig{t: t}), ListenAPI: free.Addr().String(), ListenAdmin: taken.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	if err = s.Start(); err == nil || !strings.Contains(err.Error(), taken.Addr().String()) {
		t.Fatalf("%v", err)
	}
	if s.Addr("api") != "" {
		t.Error("the API still has an address")
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("the API's address is still bound: %v", err)
	}
	again.Close()
}

func TestListenersOff(t *testing.T) {
	s, _ := startTCP(t, func(o *Options) { o.ListenAPI, o.ListenAdmin = "off", "127.0.0.1:0" })
	if s.Addr("api") != "" || s.Addr("api-tls") != "" || s.Addr("nothing") != "" || s.Addr("admin") == "" {
		t.Errorf("api %q, admin %q", s.Addr("api"), s.Addr("admin"))
	}
}

// TestShutdown: idle and silent connections end at once, a running call ends
// first, nobody gets in any more.
func TestShutdown(t *testing.T) {
	slow := &slowUser{held: make(chan *directory.UserOp, 1)}
	s, _ := startTCP(t, func(o *Options) {
		slow.meddler = &meddler{Directory: o.Directory}
		o.Directory = slow
	})
	addr := s.Addr("api")
	idle, silent := dialTCP(t, addr), dialTCP(t, addr)
	talk(t, idle)
	await(t, func() bool { return s.https[0].ln.open() == 2 })

	r := &restRig{t: t}
	sig, err := signNow(r)
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan string, 1)
	go func() {
		res, err := http.Post("http://"+addr+"/v4/openim/querystate?sdkappid=1400000000&identifier=administrator&usersig="+sig, "", strings.NewReader(`{"To_Account":["x"]}`))
		if err != nil {
			answers <- err.Error()
			return
		}
		defer res.Body.Close()
		b, _ := io.ReadAll(res.Body)
		answers <- string(b)
	}()
	op := <-slow.held
	ended := make(chan error, 1)
	go func() { ended <- s.Shutdown(context.Background()) }()
	for _, c := range []net.Conn{idle, silent} {
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Error("a connection without a call lives on")
		}
	}
	select {
	case err := <-ended:
		t.Fatalf("stopped under a running call: %v", err)
	default:
	}
	op.Done(op)
	if a := <-answers; !strings.Contains(a, "70107") {
		t.Errorf("the running call got %q", a)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Shutdown(context.Background()); err != nil {
		t.Errorf("once more: %v", err)
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("still listening")
	}
}

// TestShutdownInTime: a call that does not end is cut off when the time is up.
func TestShutdownInTime(t *testing.T) {
	slow := &slowUser{held: make(chan *directory.UserOp, 1)}
	s, _ := startTCP(t, func(o *Options) {
		slow.meddler = &meddler{Directory: o.Directory}
		o.Directory = slow
	})
	sig, err := signNow(&restRig{t: t})
	if err != nil {
		t.Fatal(err)
	}
	c := dialTCP(t, s.Addr("api"))
	if _, err := io.WriteString(c, "POST /v4/openim/querystate?sdkappid=1400000000&identifier=administrator&usersig="+sig+" HTTP/1.1\r\nHost: r\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
		t.Fatal(err)
	}
	op := <-slow.held
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := s.Shutdown(ctx); err == nil {
		t.Error("a stop that cut off a call must say so")
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection lives on")
	}
	op.Done(op)
	await(t, func() bool { return s.https[0].ln.open() == 0 })
}

func signNow(r *restRig) (string, error) { return r.sigAt(testAdmin, time.Now().Unix()), nil }

// TestTLS talks to both TLS listeners with a real certificate.
func TestTLS(t *testing.T) {
	cert, key, pool := makeCertificate(t)
	s, _ := startTCP(t, func(o *Options) {
		o.ListenAPITLS, o.ListenAdminTLS, o.ListenAdmin = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:0"
		o.Certificate = certificateIn(t, cert, key)
		o.MaxBody = 1000
	})
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	defer client.CloseIdleConnections()
	for _, url := range []string{
		"https://" + s.Addr("api-tls") + "/v4/openim/querystate", "http://" + s.Addr("api") + "/v4/openim/querystate",
	} {
		for body, code := range map[string]int{"{}": 60012, strings.Repeat("x", 2_000_000): 60002} {
			res, err := client.Post(url, "application/json", strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			a := restAnswer{raw: readAll(t, res), status: res.StatusCode, header: res.Header}
			checkEnvelope(t, &a)
			a.want(t, code)
		}
	}
	for _, url := range []string{"https://" + s.Addr("admin-tls") + "/livez", "http://" + s.Addr("admin") + "/livez"} {
		res, err := client.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		if readAll(t, res); res.StatusCode != 200 {
			t.Errorf("%s: %d", url, res.StatusCode)
		}
	}
}

// certificateIn is what two files hold.
func certificateIn(t *testing.T, certFile, keyFile string) func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return &cert, nil }
}

// TestAdminClients: with AdminClients the console's TLS takes only clients with a
// certificate of theirs, as they are at the time, and the token besides; the REST
// API goes on as before.
func TestAdminClients(t *testing.T) {
	cert, key, pool := makeCertificate(t)
	clientCert, clientKey, trusted := makeCertificate(t)
	own := certificateIn(t, clientCert, clientKey)
	var authorities atomic.Pointer[x509.CertPool]
	authorities.Store(trusted)
	s, _ := startTCP(t, func(o *Options) {
		o.ListenAPITLS, o.ListenAdminTLS = "127.0.0.1:0", "127.0.0.1:0"
		o.Certificate, o.AdminClients = certificateIn(t, cert, key), authorities.Load
	})
	cache := tls.NewLRUClientSessionCache(1)
	get := func(listener, path string, withCert bool) (int, error) {
		config := &tls.Config{RootCAs: pool, ClientSessionCache: cache}
		if withCert {
			config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own(nil) }
		}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		defer client.CloseIdleConnections()
		res, err := client.Get("https://" + s.Addr(listener) + path)
		if err != nil {
			return 0, err
		}
		readAll(t, res)
		return res.StatusCode, nil
	}
	for range 2 {
		if status, err := get("admin-tls", "/console/v1/apps", true); status != 401 {
			t.Errorf("with a certificate and no token: %d, %v; want 401", status, err)
		}
	}
	if status, err := get("admin-tls", "/livez", false); err == nil || !strings.Contains(err.Error(), "certificate required") {
		t.Errorf("without a certificate: %d, %v", status, err)
	}
	if status, err := get("api-tls", "/openapi.yaml", false); status != 200 {
		t.Errorf("the REST API: %d, %v", status, err)
	}
	authorities.Store(pool)
	if status, err := get("admin-tls", "/livez", true); err == nil {
		t.Errorf("with a certificate that is not trusted any more: %d", status)
	}
}

// makeCertificate writes a certificate for 127.0.0.1 and its key.
func makeCertificate(t *testing.T) (certFile, keyFile string, pool *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "rollcall test"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool.AppendCertsFromPEM(certPEM)
	certFile, keyFile = filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	for file, b := range map[string][]byte{certFile: certPEM, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})} {
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return certFile, keyFile, pool
}
