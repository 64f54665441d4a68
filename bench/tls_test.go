package bench

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"strings"
	"testing"
	"time"
)

// secureFake is a fake whose links speak TLS, and a client's configuration that trusts it.
func secureFake(t *testing.T, version uint16) (*fake, *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"fake"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	f.ln = tls.NewListener(f.ln, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MaxVersion: version})
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return f, &tls.Config{RootCAs: roots, ServerName: "fake"}
}

// Over TLS of either version a scenario is what it is without: logins, heartbeats,
// bytes that come one by one, and the death of all links.
func TestConnectOverTLS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		f, config := secureFake(t, version)
		f.drip = version == tls.VersionTLS13
		o := f.options()
		o.TLS = config
		r := f.connect(ConnectOptions{Options: o})
		if !r.OK || r.Logins.OK != 45 || r.Heartbeats.Sent == 0 || r.Heartbeats.Sent != r.Heartbeats.Answered {
			t.Errorf("TLS %x: %s", version, r.Summary())
		}
	}
}

// A certificate that is not trusted is a fault of each link, and says why.
func TestConnectDistrusts(t *testing.T) {
	f, config := secureFake(t, tls.VersionTLS13)
	config.RootCAs = x509.NewCertPool()
	o := f.options()
	o.TLS = config
	r := f.connect(ConnectOptions{Options: o, Conns: 3})
	if r.OK || r.Logins.OK != 0 || !strings.Contains(r.Summary(), "unknown authority") {
		t.Errorf("%s", r.Summary())
	}
}
