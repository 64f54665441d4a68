package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// pair makes a certificate with its key.
func pair(t *testing.T, serial int64) (cert, key *fstest.MapFile) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Unix(2_000_000_000+serial, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	file := func(kind string, der []byte) *fstest.MapFile {
		return &fstest.MapFile{Data: pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})}
	}
	return file("CERTIFICATE", der), file("PRIVATE KEY", pkcs8)
}

// A reload takes what is new, all of it; or, with a reason, nothing.
func TestReload(t *testing.T) {
	cert1, key1 := pair(t, 1)
	cert2, key2 := pair(t, 2)
	files := fstest.MapFS{"cert": cert1, "key": key1, "ca": cert1}
	set := metrics.NewSet()
	s, err := Load(Options{Cert: "cert", Key: "key", ClientCA: "ca", ReadFile: files.ReadFile, Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	for i, step := range []struct {
		cert, key, ca *fstest.MapFile
		says          string // "": it is taken
	}{
		{cert2, key1, cert2, "does not match"},
		{cert2, key2, &fstest.MapFile{Data: []byte("none")}, "no certificate in PEM"},
		{cert2, key2, nil, "authorities of clients"},
		{nil, key2, cert2, "the certificate"},
		{cert2, nil, cert2, "the key"},
		{cert2, key2, cert2, ""},
		{cert2, key2, cert2, ""},
	} {
		before, clients := s.Leaf(), s.Clients()
		for name, f := range map[string]*fstest.MapFile{"cert": step.cert, "key": step.key, "ca": step.ca} {
			if files[name] = f; f == nil {
				delete(files, name)
			}
		}
		err := s.Reload()
		if step.says == "" {
			if err != nil || s.Leaf().SerialNumber.Int64() != 2 || s.Clients().Equal(clients) && i == 5 {
				t.Errorf("step %d: %v, serial %v", i, err, s.Leaf().SerialNumber)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), step.says) || s.Leaf() != before || s.Clients() != clients {
			t.Errorf("step %d: %v, want %q and nothing changed", i, err, step.says)
		}
	}
	if got, _ := s.Get(nil); got.Leaf != s.Leaf() {
		t.Error("Get shows another certificate")
	}
	for result, want := range map[string]uint64{"ok": 2, "failed": 5} {
		if got := set.Counter(`rollcall_certificate_reloads_total{result="` + result + `"}`).Get(); got != want {
			t.Errorf("%s: counted %d, want %d", result, got, want)
		}
	}
	var b strings.Builder
	if err := set.Write(&b); err != nil || !strings.Contains(b.String(), "\nrollcall_certificate_expires_seconds 2.000000002e+09\n") {
		t.Errorf("%v, the end of the certificate is not in:\n%s", err, b.String())
	}
}

func TestLoadFails(t *testing.T) {
	cert, _ := pair(t, 1)
	for name, files := range map[string]fstest.MapFS{"no cert": {}, "no key": {"cert": cert}} {
		if _, err := Load(Options{Cert: "cert", Key: "key", ReadFile: files.ReadFile}); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoClients(t *testing.T) {
	cert, key := pair(t, 1)
	s, err := Load(Options{Cert: "cert", Key: "key", ReadFile: fstest.MapFS{"cert": cert, "key": key}.ReadFile})
	if err != nil || s.Clients() != nil {
		t.Errorf("%v, %v", err, s.Clients())
	}
}
