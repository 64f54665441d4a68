package tlslink

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
)

// stranger is a client that, after a handshake by crypto/tls, makes its records by
// itself: crypto/tls has no way to send what we must bear. It knows the suites
// AES_128_GCM_SHA256 of TLS 1.3 and ECDHE_ECDSA_AES_128_GCM_SHA256 of 1.2.
type stranger struct {
	t    *testing.T
	r    *rig
	is13 bool
	key  cipher.AEAD
	iv   []byte
	seq  uint64
	next []byte // 1.3: the secret that the keys are made of
}

const (
	typeAlert     = 21
	typeHandshake = 22
	typeData      = 23
)

func newStranger(t *testing.T, version uint16) *stranger {
	r := newRig(t, echoServer(t, "ecdsa"))
	s := &stranger{t: t, r: r, is13: version == tls.VersionTLS13}
	var log bytes.Buffer
	config := clientConfig(version)
	config.KeyLogWriter = &log
	config.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	c := r.client(config)
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	if got := c.ConnectionState().CipherSuite; s.is13 && got != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatalf("suite %s: this machine has no AES instructions", tls.CipherSuiteName(got))
	}
	if s.is13 {
		s.rekey(logged(t, log.String(), "CLIENT_TRAFFIC_SECRET_0", 2))
	} else {
		s.keys12(logged(t, log.String(), "CLIENT_RANDOM", 2), logged(t, log.String(), "CLIENT_RANDOM", 1))
	}
	return s
}

// logged is a field of a line of a key log.
func logged(t *testing.T, log, label string, field int) []byte {
	for line := range strings.Lines(log) {
		if f := strings.Fields(line); f[0] == label {
			b, err := hex.DecodeString(f[field])
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
	}
	t.Fatalf("no %s in the key log", label)
	return nil
}

// expand is HKDF-Expand-Label (RFC 8446, 7.1) without a context.
func (s *stranger) expand(secret []byte, label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	out, err := hkdf.Expand(sha256.New, secret, string(append(info, 0)), n)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *stranger) rekey(secret []byte) {
	s.setKey(s.expand(secret, "key", 16))
	s.iv, s.seq = s.expand(secret, "iv", 12), 0
	s.next = s.expand(secret, "traffic upd", 32)
}

func (s *stranger) setKey(key []byte) {
	block, err := aes.NewCipher(key)
	if err != nil {
		s.t.Fatal(err)
	}
	if s.key, err = cipher.NewGCM(block); err != nil {
		s.t.Fatal(err)
	}
}

// keys12 makes the client's write key (RFC 5246, 6.3).
func (s *stranger) keys12(master, clientRandom []byte) {
	serverRandom := s.r.sent[recordHeader+messageHeader+2:][:32] // of the ServerHello
	seed := append([]byte("key expansion"), append(bytes.Clone(serverRandom), clientRandom...)...)
	mac := func(p []byte) []byte { h := hmac.New(sha256.New, master); h.Write(p); return h.Sum(nil) }
	var block []byte
	for a := mac(seed); len(block) < 40; a = mac(a) {
		block = append(block, mac(append(bytes.Clone(a), seed...))...)
	}
	s.setKey(block[:16])
	s.iv, s.seq = block[32:36], 1 // 0 was the Finished
}

// record seals a record.
func (s *stranger) record(typ byte, p []byte) []byte {
	var seq [8]byte
	binary.BigEndian.PutUint64(seq[:], s.seq)
	s.seq++
	if s.is13 {
		p = append(bytes.Clone(p), typ)
		n := len(p) + s.key.Overhead()
		head := []byte{typeData, 3, 3, byte(n >> 8), byte(n)}
		nonce := bytes.Clone(s.iv)
		for i, b := range seq {
			nonce[4+i] ^= b
		}
		return s.key.Seal(head, nonce, p, head)
	}
	aad := append(seq[:], typ, 3, 3, byte(len(p)>>8), byte(len(p)))
	n := 8 + len(p) + s.key.Overhead()
	head := append([]byte{typ, 3, 3, byte(n >> 8), byte(n)}, seq[:]...)
	return s.key.Seal(head, append(bytes.Clone(s.iv), seq[:]...), p, aad)
}

// send puts records on the wire, byte by byte.
func (s *stranger) send(records ...[]byte) {
	for _, p := range records {
		for i := range p {
			s.r.do(func() { s.r.arrive(p[i : i+1]) })
		}
	}
	synctest.Wait()
}

var (
	keyUpdate        = []byte{24, 0, 0, 1, 0}
	keyUpdateRequest = []byte{24, 0, 0, 1, 1}
	helloAgain       = append([]byte{1, 0, 0, 41, 3, 3}, make([]byte, 39)...)
)

// What a client may send once the link is up, and what becomes of it.
func TestRecords(t *testing.T) {
	for _, tt := range []struct {
		name     string
		version  uint16
		send     func(s *stranger)
		got      string // what the loop was given
		goesOn   bool   // the link has not ended
		farewell bool   // it ended with io.EOF
	}{
		{name: "data", send: func(s *stranger) { s.send(s.record(typeData, []byte("a")), s.record(typeData, []byte("b"))) }, got: "ab", goesOn: true},
		{name: "empty records, as many as may be", send: func(s *stranger) {
			for range 16 {
				s.send(s.record(typeData, nil))
			}
			s.send(s.record(typeData, []byte("a")))
		}, got: "a", goesOn: true},
		{name: "empty records without end", send: func(s *stranger) {
			for range 17 {
				s.send(s.record(typeData, nil))
			}
		}},
		{name: "farewell", send: func(s *stranger) { s.send(s.record(typeData, []byte("a")), s.record(typeAlert, []byte{1, 0})) }, got: "a", farewell: true},
		{name: "data behind the farewell", send: func(s *stranger) {
			s.send(s.record(typeAlert, []byte{1, 0}), s.record(typeData, []byte("never read")))
		}, farewell: true},
		{name: "fatal alert", send: func(s *stranger) { s.send(s.record(typeAlert, []byte{2, 80})) }},
		{name: "alert of one byte", send: func(s *stranger) { s.send(s.record(typeAlert, []byte{1})) }},
		{name: "alert in two records", send: func(s *stranger) { s.send(s.record(typeAlert, []byte{1}), s.record(typeAlert, []byte{0})) }},
		{name: "forged", send: func(s *stranger) {
			p := s.record(typeData, []byte("a"))
			p[len(p)-1] ^= 1
			s.send(p)
		}},
		{name: "replayed", send: func(s *stranger) { p := s.record(typeData, []byte("a")); s.send(p, p) }, got: "a"},
		{name: "truncated", send: func(s *stranger) { s.send(s.record(typeData, []byte("abc"))[:20]) }, goesOn: true},
		{name: "too long", send: func(s *stranger) { s.send([]byte{typeData, 3, 3, 0x48, 1}) }},
		{name: "in the clear", send: func(s *stranger) { s.send([]byte{typeData, 3, 3, 0, 1, 'a'}) }},
		{name: "unknown type", send: func(s *stranger) { s.send(s.record(99, []byte("a"))) }},
		{name: "warning", version: tls.VersionTLS12, send: func(s *stranger) {
			s.send(s.record(typeAlert, []byte{1, 90}), s.record(typeData, []byte("a")))
		}, got: "a", goesOn: true},
		{name: "renegotiation", version: tls.VersionTLS12, send: func(s *stranger) { s.send(s.record(typeHandshake, helloAgain)) }},
		{name: "renegotiation in small records", version: tls.VersionTLS12, send: func(s *stranger) {
			for i := range helloAgain {
				s.send(s.record(typeHandshake, helloAgain[i:i+1]))
			}
		}},
		{name: "renegotiation asked by the wrong side", version: tls.VersionTLS12, send: func(s *stranger) { s.send(s.record(typeHandshake, make([]byte, 4))) }},
		{name: "a second ClientHello", version: tls.VersionTLS13, send: func(s *stranger) { s.send(s.record(typeHandshake, helloAgain)) }},
		{name: "key update", version: tls.VersionTLS13, send: func(s *stranger) {
			s.send(s.record(typeHandshake, keyUpdate))
			s.rekey(s.next)
			s.send(s.record(typeData, []byte("a")), s.record(typeHandshake, keyUpdateRequest))
			s.rekey(s.next)
			s.send(s.record(typeData, []byte("b")))
		}, got: "ab", goesOn: true},
		{name: "key update in small records", version: tls.VersionTLS13, send: func(s *stranger) {
			for i := range keyUpdateRequest {
				s.send(s.record(typeHandshake, keyUpdateRequest[i:i+1]))
			}
			s.rekey(s.next)
			s.send(s.record(typeData, []byte("a")))
		}, got: "a", goesOn: true},
		{name: "data within a key update", version: tls.VersionTLS13, send: func(s *stranger) {
			s.send(s.record(typeHandshake, keyUpdate[:2]), s.record(typeData, []byte("a")))
		}},
		{name: "key updates without end", version: tls.VersionTLS13, send: func(s *stranger) {
			for range 17 {
				s.send(s.record(typeHandshake, keyUpdate))
				s.rekey(s.next)
			}
		}},
		{name: "old key after a key update", version: tls.VersionTLS13, send: func(s *stranger) {
			s.send(s.record(typeHandshake, keyUpdate), s.record(typeData, []byte("a")))
		}},
	} {
		for name, version := range versions {
			if tt.version != 0 && tt.version != version {
				continue
			}
			t.Run(tt.name+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newStranger(t, version)
					defer s.r.stop()
					tt.send(s)
					s.r.do(func() {
						if string(s.r.got) != tt.got {
							t.Errorf("got %q, want %q", s.r.got, tt.got)
						}
						switch err := s.r.ended; {
						case (err == nil) != tt.goesOn, (err == io.EOF) != tt.farewell:
							t.Errorf("ended with %v; to go on: %v, farewell: %v", err, tt.goesOn, tt.farewell)
						case err != nil && err != io.EOF && !errors.Is(err, errRecord):
							t.Errorf("ended with %v, want %v", err, errRecord)
						}
						if s.r.link.Up() != tt.goesOn {
							t.Errorf("up: %v", s.r.link.Up())
						}
					})
				})
			})
		}
	}
}

// Records that say nothing cost more than those that do: a KeyUpdate makes us derive
// keys and answer, on the event loop. crypto/tls bounds how many may follow each other;
// with a byte of data between them there would be no bound of what comes at once.
func TestSilentRecordsAtOnce(t *testing.T) {
	for _, n := range []int{maxSilent - 1, maxSilent, maxSilent + 1} {
		synctest.Test(t, func(t *testing.T) {
			s := newStranger(t, tls.VersionTLS13)
			defer s.r.stop()
			for range 2 {
				var wire []byte
				for range n {
					wire = append(wire, s.record(typeHandshake, keyUpdateRequest)...)
					s.rekey(s.next)
					wire = append(wire, s.record(typeData, []byte("a"))...)
				}
				s.r.do(func() { s.r.arrive(wire) })
			}
			s.r.do(func() {
				if on := n <= maxSilent; s.r.link.Up() != on || on && len(s.r.got) != 2*n || !on && !errors.Is(s.r.ended, errRecord) {
					t.Errorf("%d at once, twice: up %v, %d bytes of data, ended with %v", n, s.r.link.Up(), len(s.r.got), s.r.ended)
				}
			})
		})
	}
}

// After a KeyUpdate that asks for it the server's own keys are new, and a client
// of crypto/tls goes on reading.
func TestKeyUpdateBothWays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, echoServer(t, "ecdsa"))
		defer r.stop()
		var log bytes.Buffer
		config := clientConfig(tls.VersionTLS13)
		config.KeyLogWriter = &log
		c := r.client(config)
		if err := c.Handshake(); err != nil {
			t.Fatal(err)
		}
		s := &stranger{t: t, r: r, is13: true}
		s.rekey(logged(t, log.String(), "CLIENT_TRAFFIC_SECRET_0", 2))
		for range 3 {
			s.send(s.record(typeHandshake, keyUpdateRequest))
			s.rekey(s.next)
			s.send(s.record(typeData, []byte("ping")))
			got := make([]byte, 4)
			if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
				t.Fatalf("%q came back, %v", got, err)
			}
		}
	})
}
