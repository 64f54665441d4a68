// Package certs is the server's certificate as it stands in files, and those that
// it trusts to name clients. Both can be read again while connections are open:
// the next handshake shows the new one, what is open stays.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// Options name the files, all in PEM. Cert, Key and ReadFile are required.
type Options struct {
	Cert, Key string // chain, leaf first; private key
	// ClientCA holds the authorities of client certificates; "": there are none.
	ClientCA string
	ReadFile func(name string) ([]byte, error)
	Metrics  *metrics.Set // default: one that nobody reads
}

// Source is a certificate that can be read again. Safe for concurrent use.
type Source struct {
	// Immutable after Load.
	o          Options
	ok, failed *metrics.Counter

	// Atomic.
	now atomic.Pointer[content]
}

// content is what the files held.
type content struct {
	cert    *tls.Certificate
	clients *x509.CertPool // nil without ClientCA
}

// Load reads the files.
func Load(o Options) (*Source, error) {
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	s := &Source{o: o}
	c, err := s.read()
	if err != nil {
		return nil, err
	}
	s.now.Store(c)
	s.ok = o.Metrics.Counter(`rollcall_certificate_reloads_total{result="ok"}`)
	s.failed = o.Metrics.Counter(`rollcall_certificate_reloads_total{result="failed"}`)
	o.Metrics.Gauge("rollcall_certificate_expires_seconds", func() float64 { return float64(s.Leaf().NotAfter.Unix()) })
	return s, nil
}

// Reload reads the files again. If anything is wrong with them, all stays as it was.
func (s *Source) Reload() error {
	c, err := s.read()
	if err != nil {
		s.failed.Inc()
		return err
	}
	s.now.Store(c)
	s.ok.Inc()
	return nil
}

func (s *Source) read() (*content, error) {
	chain, err := s.o.ReadFile(s.o.Cert)
	if err != nil {
		return nil, fmt.Errorf("certs: cannot read the certificate: %w", err)
	}
	key, err := s.o.ReadFile(s.o.Key)
	if err != nil {
		return nil, fmt.Errorf("certs: cannot read the key: %w", err)
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return nil, fmt.Errorf("certs: certificate %q with key %q: %w", s.o.Cert, s.o.Key, err)
	}
	c := &content{cert: &pair}
	if s.o.ClientCA != "" {
		if c.clients, err = s.readClients(); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (s *Source) readClients() (*x509.CertPool, error) {
	pem, err := s.o.ReadFile(s.o.ClientCA)
	if err != nil {
		return nil, fmt.Errorf("certs: cannot read the authorities of clients: %w", err)
	}
	pool, err := Pool(pem)
	if err != nil {
		return nil, fmt.Errorf("certs: authorities of clients in %q: %w", s.o.ClientCA, err)
	}
	return pool, nil
}

// ErrNoCertificate: a file of authorities holds none.
var ErrNoCertificate = errors.New("it holds no certificate in PEM")

// Pool makes a pool of the certificates in a file.
func Pool(pem []byte) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, ErrNoCertificate
	}
	return pool, nil
}

// Get is what tls.Config.GetCertificate wants.
func (s *Source) Get(*tls.ClientHelloInfo) (*tls.Certificate, error) { return s.now.Load().cert, nil }

// Leaf is the certificate itself, without its chain.
func (s *Source) Leaf() *x509.Certificate { return s.now.Load().cert.Leaf }

// Clients are the authorities of client certificates, nil if none are wanted.
func (s *Source) Clients() *x509.CertPool { return s.now.Load().clients }
