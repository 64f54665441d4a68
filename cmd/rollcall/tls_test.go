package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	mqtt3 "github.com/eclipse/paho.mqtt.golang"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// certFiles are a certificate with its key, which a test may write anew.
type certFiles struct{ cert, key string }

func newCertFiles(t *testing.T) certFiles {
	dir := t.TempDir()
	f := certFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	f.write(t, 1)
	return f
}

// write makes a certificate for 127.0.0.1 that signs itself.
func (f certFiles) write(t *testing.T, serial int64) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour),
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
	for name, block := range map[string]*pem.Block{f.cert: {Type: "CERTIFICATE", Bytes: der}, f.key: {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// client trusts the certificate that is in the file now.
func (f certFiles) client(t *testing.T, version uint16) *tls.Config {
	t.Helper()
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(readFile(t, f.cert)) {
		t.Fatal("no certificate")
	}
	return &tls.Config{RootCAs: pool, MinVersion: version, MaxVersion: version}
}

func (f certFiles) args() []string { return []string{"--tls-cert", f.cert, "--tls-key", f.key} }

func dialTLS(t *testing.T, addr string, c *tls.Config) *tls.Conn {
	t.Helper()
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: deadline}, "tcp", addr, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func loginBytes(t *testing.T, user string) []byte {
	t.Helper()
	sig, err := usersig.Sign(devKey, devApp, user, time.Now().Unix(), 3600, nil)
	if err != nil {
		t.Fatal(err)
	}
	return codec.AppendLogin(nil, &codec.Login{SDKAppID: devApp, UserID: []byte(user), UserSig: []byte(sig), Platform: codec.Android, DeviceID: []byte("d")})
}

func loginTLS(t *testing.T, addr, user string, c *tls.Config) (*testLink, tls.ConnectionState) {
	t.Helper()
	conn := dialTLS(t, addr, c)
	l := &testLink{conn: conn, user: user}
	if _, err := conn.Write(loginBytes(t, user)); err != nil {
		t.Fatal(err)
	}
	if f, err := l.next(); err != nil || f.Type != codec.TypeLoginOK {
		t.Fatalf("%s got %v, %v for its login", user, f.Type, err)
	}
	return l, conn.ConnectionState()
}

// TestTLSServer: with a certificate clients log in over TLS 1.2 and 1.3, resume,
// and are told of a stop; the link is one of listener native-tls.
func TestTLSServer(t *testing.T) {
	f := newCertFiles(t)
	s := running(t, startServer, f.args()...)
	for version, name := range map[uint16]string{tls.VersionTLS12: "1.2", tls.VersionTLS13: "1.3"} {
		c := f.client(t, version)
		c.ClientSessionCache = tls.NewLRUClientSessionCache(1)
		for i := range 2 {
			l, state := loginTLS(t, s.addr["native-tls"], fmt.Sprintf("user-%s-%d", name, i), c)
			if state.DidResume != (i == 1) || state.Version != version {
				t.Errorf("TLS %s, link %d: version %x, resumed %v", name, i, state.Version, state.DidResume)
			}
			l.heartbeat(t)
			waitStatus(t, s, l.user, "Online")
			l.conn.Close()
			waitStatus(t, s, l.user, "PushOnline")
		}
		for _, kind := range []string{"full", "resumed"} {
			if got := s.metric(t, `rollcall_tls_handshakes_total{kind="`+kind+`",version="`+name+`"}`); got != "1" {
				t.Errorf("TLS %s %s: counted %s", name, kind, got)
			}
		}
	}
	l, _ := loginTLS(t, s.addr["native-tls"], "last", f.client(t, tls.VersionTLS13))
	if err := s.terminate(); err != nil {
		t.Error(err)
	}
	if frame, err := l.next(); err != nil || frame.Type != codec.TypeForcedOffline {
		t.Errorf("at the stop: %v, %v", frame.Type, err)
	}
	if _, err := l.next(); err != io.EOF {
		t.Errorf("after it: %v", err)
	}
}

// TestWebSocketOverTLS: wss, with the ALPN of a browser, in both versions.
func TestWebSocketOverTLS(t *testing.T) {
	f := newCertFiles(t)
	s := running(t, startServer, f.args()...)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := f.client(t, version)
		c.NextProtos = []string{"http/1.1"}
		client := &http.Client{Transport: &http.Transport{TLSClientConfig: c}}
		k := dialWSAt(t, "wss://"+s.addr["ws-tls"]+"/v1", client, "rollcall.json.v1", "")
		k.login(fmt.Sprintf("alice-%x", version), "d1")
		k.pingAndBeat()
		k.say(map[string]any{"Type": "Logout"})
		k.hear("LogoutOK")
		k.closed(1000, "LogoutOK")
	}
}

// TestMQTTOverTLS: a stock client, with the ALPN of MQTT, in both versions.
func TestMQTTOverTLS(t *testing.T) {
	f := newCertFiles(t)
	s := running(t, startServer, f.args()...)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		c := f.client(t, version)
		c.NextProtos = []string{"mqtt"}
		user := fmt.Sprintf("alice-%x", version)
		o := mqtt3.NewClientOptions().AddBroker("tls://" + s.addr["mqtt-tls"]).SetTLSConfig(c).
			SetClientID("d1").SetUsername(mqtt.UserName(devApp, user, codec.Android)).SetPassword(userSig(t, user)).
			SetAutoReconnect(false).SetConnectTimeout(deadline)
		client := mqtt3.NewClient(o)
		done(t, client.Connect())
		wantStatus(t, s, user, "Online")
		client.Disconnect(uint(deadline.Milliseconds())) // waits no longer than until it is written
		wantStatus(t, s, user, "Offline")
	}
}

// metric is the value of a metric now, "" if there is none.
func (s *server) metric(t *testing.T, name string) string {
	t.Helper()
	res, err := http.Get("http://" + s.addr["admin"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(body)) {
		if value, is := strings.CutPrefix(line, name+" "); is {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// TestReload: on SIGHUP all TLS listeners show the new certificate, and what is
// open stays; a bad one changes nothing, and the server says so.
func TestReload(t *testing.T) {
	f := newCertFiles(t)
	s := running(t, startServer, f.args()...)
	link, _ := loginTLS(t, s.addr["native-tls"], "alice", f.client(t, tls.VersionTLS13))
	reload := func(result, count string) {
		t.Helper()
		if err := s.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		waitFor(t, "the reload", func() bool {
			return s.metric(t, `rollcall_certificate_reloads_total{result="`+result+`"}`) == count
		})
		link.heartbeat(t)
	}
	shown := func(want int64) {
		t.Helper()
		for _, listener := range []string{"native-tls", "api-tls", "admin-tls"} {
			conn := dialTLS(t, s.addr[listener], f.client(t, tls.VersionTLS13))
			if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64(); got != want {
				t.Errorf("%s shows certificate %d, want %d", listener, got, want)
			}
		}
	}
	shown(1)
	f.write(t, 2)
	reload("ok", "1")
	shown(2)
	good := readFile(t, f.key)
	if err := os.WriteFile(f.key, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	reload("failed", "1")
	shown(2)
	if err := os.WriteFile(f.key, good, 0o600); err != nil {
		t.Fatal(err)
	}
	reload("ok", "2")
	for _, line := range []string{"the certificate was read again", "the certificate stays as it was"} {
		if !strings.Contains(s.log.String(), line) {
			t.Errorf("the log does not say that %s", line)
		}
	}
}

// TestAdminClientCA: the console wants a certificate beside the token, and the
// commands can show one.
func TestAdminClientCA(t *testing.T) {
	f, own := newCertFiles(t), newCertFiles(t)
	s := running(t, startServer, append(f.args(), "--admin-client-ca", own.cert)...)
	call := func(extra ...string) (int, string) {
		code, _, stderr := callWith("https://"+s.addr["admin-tls"], append([]string{"--ca-file", f.cert}, extra...)...)
		return code, stderr
	}
	if code, stderr := call("--client-cert", own.cert, "--client-key", own.key); code != exitOK {
		t.Errorf("with a certificate: exit %d, %s", code, stderr)
	}
	if code, stderr := call(); code != exitError || !strings.Contains(stderr, "certificate required") {
		t.Errorf("without: exit %d, %s", code, stderr)
	}
	if code, stderr := call("--client-cert", f.cert, "--client-key", f.key); code != exitError {
		t.Errorf("with one of another authority: exit %d, %s", code, stderr)
	}
	if code, stderr := call("--client-cert", own.cert); code != exitUsage || !strings.Contains(stderr, "both or neither") {
		t.Errorf("without its key: exit %d, %s", code, stderr)
	}
}

// sClient is OpenSSL's client, whose commands are lines: K and k update keys, R
// wants to renegotiate.
type sClient struct {
	t   *testing.T
	in  io.WriteCloser
	out *syncBuffer
}

func startSClient(t *testing.T, addr, ca string, version string) *sClient {
	t.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("CI installs openssl, and it is not here")
		}
		t.Skip("there is no openssl here")
	}
	cmd := exec.Command(path, "s_client", "-connect", addr, "-CAfile", ca, "-verify_return_error", version)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out := new(syncBuffer)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait() // an alert makes it fail
		if t.Failed() {
			t.Logf("openssl said:\n%s", out)
		}
	})
	waitFor(t, "openssl's handshake", func() bool { return strings.Contains(out.String(), "---\nSSL handshake has read") })
	return &sClient{t, in, out}
}

func (c *sClient) say(p []byte) {
	c.t.Helper()
	if _, err := c.in.Write(p); err != nil {
		c.t.Fatal(err)
	}
}

// TestOpenSSL: another library logs in, updates its keys and ours, and beats on;
// with TLS 1.2 it wants to renegotiate, which ends the link.
func TestOpenSSL(t *testing.T) {
	f := newCertFiles(t)
	s := running(t, startServer, f.args()...)
	beats := 0
	beat := func(c *sClient) {
		t.Helper()
		beats++
		c.say(codec.AppendEmpty(nil, codec.TypeHeartbeat))
		waitFor(t, "the heartbeat", func() bool { return s.metric(t, "rollcall_heartbeats_total") == fmt.Sprint(beats) })
	}
	c := startSClient(t, s.addr["native-tls"], f.cert, "-tls1_3")
	c.say(loginBytes(t, "alice"))
	waitStatus(t, s, "alice", "Online")
	for i, command := range []string{"k\n", "K\n", "K\n"} {
		beat(c)
		c.say([]byte(command))
		waitFor(t, "openssl to update", func() bool { return strings.Count(c.out.String(), "KEYUPDATE") == i+1 })
		beat(c)
	}
	c = startSClient(t, s.addr["native-tls"], f.cert, "-tls1_2")
	c.say(loginBytes(t, "bob"))
	waitStatus(t, s, "bob", "Online")
	beat(c)
	c.say([]byte("R\n"))
	waitStatus(t, s, "bob", "PushOnline")
	if got := s.metric(t, `rollcall_tls_failures_total{reason="record"}`); got != "1" {
		t.Errorf("counted %s", got)
	}
}
