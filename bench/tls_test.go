package bench

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// overTLS is both sides of TLS: a certificate of net/http's tests, and a client that trusts it.
func overTLS() (server, client *tls.Config) {
	s := httptest.NewUnstartedServer(nil)
	s.StartTLS()
	defer s.Close()
	roots := x509.NewCertPool()
	roots.AddCert(s.Certificate())
	return &tls.Config{Certificates: s.TLS.Certificates}, &tls.Config{RootCAs: roots}
}

// TestTLS: the scenarios pass over TLS, in each protocol and version.
func TestTLS(t *testing.T) {
	for i, p := range Protocols() {
		t.Run(string(p), func(t *testing.T) {
			f := speaking(t, p)
			var client *tls.Config
			f.cert, client = overTLS()
			f.cert.MaxVersion = []uint16{tls.VersionTLS13, tls.VersionTLS12}[i%2]
			f.drip = i%2 == 0
			o := f.options()
			o.TLS = client
			r, err := Hold(context.Background(), HoldOptions{Options: o, Conns: 40, Low: 5, Settle: time.Millisecond, Hold: 300 * time.Millisecond, BeatRate: 200})
			if err != nil || !r.OK || r.Heartbeats.Answered == 0 {
				t.Errorf("hold: %v, %s", err, r.Summary())
			}
			r, err = Churn(context.Background(), ChurnOptions{Options: o, Rate: 200, Duration: 300 * time.Millisecond, Stay: 10 * time.Millisecond, Users: 30})
			if err != nil || !r.OK || r.Logouts == nil || r.Logouts.Count == 0 {
				t.Errorf("churn: %v, %s", err, r.Summary())
			}
		})
	}
}

// TestTLSFaults: a handshake that does not come to its end is no link, and costs no more than its time.
func TestTLSFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		set   func(f *fake, o *Options)
		fault Fault
		says  string
	}{
		{"not trusted", func(_ *fake, o *Options) { o.TLS = &tls.Config{} }, FaultConnect, "TLS handshake: tls: failed to verify certificate"},
		{"another's certificate", func(_ *fake, o *Options) { o.TLS.ServerName = "other.example" }, FaultConnect, "other.example"},
		{"no TLS", func(f *fake, o *Options) { f.cert, o.AnswerTimeout = nil, 200*time.Millisecond }, "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFake(t)
			o := f.withTLS(c.set)
			r, err := Connect(context.Background(), ConnectOptions{Options: o, Conns: 3, Hold: time.Millisecond})
			if err != nil || r.OK || r.Logins.OK != 0 {
				t.Fatalf("%v, %s", err, r.Summary())
			}
			if c.fault != "" && (r.Errors[c.fault] != 3 || !strings.Contains(fmt.Sprint(r.ErrorSamples), c.says)) {
				t.Errorf("%v, %v", r.Errors, r.ErrorSamples)
			}
		})
	}
}

// withTLS starts the fake with TLS as set has it, and returns what reaches it.
func (f *fake) withTLS(set func(*fake, *Options)) Options {
	var o Options
	cert, client := overTLS()
	f.cert, o.TLS = cert, client
	set(f, &o)
	got := f.options()
	got.TLS = o.TLS
	if o.AnswerTimeout > 0 {
		got.AnswerTimeout = o.AnswerTimeout
	}
	return got
}

// TestTLSKill: links are killed in the middle of their handshakes.
func TestTLSKill(t *testing.T) {
	f := newFake(t) // speaks no TLS, and says nothing
	o := f.withTLS(func(f *fake, _ *Options) { f.cert = nil })
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	const links = 3 * handshakers
	pop, err := newPopulation(&o, links)
	if err != nil {
		t.Fatal(err)
	}
	faults := newFaults()
	s, err := newSwarm(&o, pop, faults, links)
	if err != nil {
		t.Fatal(err)
	}
	begun := false
	s.step = func(now time.Duration) (time.Duration, bool) {
		shaking := 0
		for i := range s.links[:s.used] {
			if s.links[i].shaking() {
				shaking++
			}
		}
		if !begun {
			begun = true
			for n := range links {
				s.open(n, now)
			}
			s.fail(&s.links[0], FaultClosed, "closed while it connects")
		} else if shaking >= links-1 {
			s.fail(&s.links[1], FaultClosed, "closed while it shakes")
			return now, true
		}
		return now + time.Millisecond, false
	}
	if err := s.run(); err != nil {
		t.Fatal(err)
	}
	if killed := s.kill(); killed != links-1 {
		t.Errorf("%d killed, want %d", killed, links-1)
	}
	if faults.total() != 2 {
		t.Errorf("faults %v", faults.samples)
	}
}

// TestTLSResume: with a cache links resume the sessions of those before.
func TestTLSResume(t *testing.T) {
	var resumed, full atomic.Int64
	f := newFake(t)
	o := f.withTLS(func(f *fake, o *Options) {
		o.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(0)
		f.cert.VerifyConnection = func(s tls.ConnectionState) error {
			if s.DidResume {
				resumed.Add(1)
			} else {
				full.Add(1)
			}
			return nil
		}
	})
	r, err := Churn(context.Background(), ChurnOptions{Options: o, Rate: 100, Duration: 500 * time.Millisecond, Stay: time.Millisecond, Users: 1})
	if err != nil || !r.OK || full.Load() == 0 || resumed.Load() == 0 {
		t.Errorf("%v, %s: %d full handshakes, %d resumed", err, r.Summary(), full.Load(), resumed.Load())
	}
}
