package ws

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

var testProtocols = []string{"rollcall.v1", "rollcall.json.v1"}

// rfcKey and rfcAccept are the pair of section 1.3.
const (
	rfcKey    = "dGhlIHNhbXBsZSBub25jZQ=="
	rfcAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
)

// request is a good request with changes: "Name: value" replaces the field or adds
// it, "-Name" takes it out, "+Name: value" adds it once more. The first line is
// changed by "GET ...".
func request(changes ...string) string {
	lines := []string{
		"GET /v1 HTTP/1.1", "Host: example.org", "Upgrade: websocket", "Connection: Upgrade",
		"Sec-WebSocket-Key: " + rfcKey, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Protocol: rollcall.json.v1",
	}
	at := func(name string) int {
		for i, l := range lines {
			if strings.HasPrefix(l, name+":") {
				return i
			}
		}
		return -1
	}
	for _, c := range changes {
		name, _, _ := strings.Cut(c, ":")
		switch i := at(name); {
		case strings.Contains(c, " HTTP/"):
			lines[0] = c
		case c[0] == '-':
			i = at(c[1:])
			lines = append(lines[:i], lines[i+1:]...)
		case c[0] == '+':
			lines = append(lines, c[1:])
		case i >= 0:
			lines[i] = c
		default:
			lines = append(lines, c)
		}
	}
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

func TestUpgrade(t *testing.T) {
	for _, c := range []struct {
		name    string
		changes []string
		want    Handshake
		fault   int
	}{
		{"plain", nil, Handshake{"rollcall.json.v1", ""}, 0},
		{"an origin", []string{"Origin: https://example.org"}, Handshake{"rollcall.json.v1", "https://example.org"}, 0},
		{"a query", []string{"GET /v1?a=b HTTP/1.1"}, Handshake{"rollcall.json.v1", ""}, 0},
		{"names in any case", []string{"-Upgrade", "UPGRADE: WebSocket", "-Connection", "connection: keep-alive, upgrade"}, Handshake{"rollcall.json.v1", ""}, 0},
		{"the client's order counts", []string{"Sec-WebSocket-Protocol: other, rollcall.v1, rollcall.json.v1"}, Handshake{"rollcall.v1", ""}, 0},
		{"offers in two fields", []string{"Sec-WebSocket-Protocol: other", "+Sec-WebSocket-Protocol: rollcall.v1"}, Handshake{"rollcall.v1", ""}, 0},
		{"extensions are not taken", []string{"Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"}, Handshake{"rollcall.json.v1", ""}, 0},
		{"Content-Length 0", []string{"Content-Length: 0"}, Handshake{"rollcall.json.v1", ""}, 0},
		{"cookies", []string{"Cookie: a=b; c=\"d\""}, Handshake{"rollcall.json.v1", ""}, 0},

		{"another path", []string{"GET /v2 HTTP/1.1"}, Handshake{}, 404},
		{"a path below", []string{"GET /v1/ HTTP/1.1"}, Handshake{}, 404},
		{"an absolute target [4.2.1]", []string{"GET http://example.org/v1 HTTP/1.1"}, Handshake{"rollcall.json.v1", ""}, 0},
		{"one of https, with a query", []string{"GET HTTPS://example.org:7701/v1?a=b HTTP/1.1"}, Handshake{"rollcall.json.v1", ""}, 0},
		{"an absolute target of another path", []string{"GET http://example.org/v2 HTTP/1.1"}, Handshake{}, 404},
		{"an absolute target without a path", []string{"GET http://example.org HTTP/1.1"}, Handshake{}, 404},
		{"an absolute target of another scheme", []string{"GET ftp://example.org/v1 HTTP/1.1"}, Handshake{}, 404},
		{"POST", []string{"POST /v1 HTTP/1.1"}, Handshake{}, 405},
		{"HTTP/1.0", []string{"GET /v1 HTTP/1.0"}, Handshake{}, 400},
		{"HTTP/2", []string{"PRI * HTTP/2.0"}, Handshake{}, 400},
		{"two spaces", []string{"GET  /v1 HTTP/1.1"}, Handshake{}, 400},
		{"no upgrade", []string{"-Upgrade"}, Handshake{}, 426},
		{"another upgrade", []string{"Upgrade: h2c"}, Handshake{}, 426},
		{"no connection", []string{"-Connection"}, Handshake{}, 400},
		{"connection: close", []string{"Connection: close"}, Handshake{}, 400},
		{"no host", []string{"-Host"}, Handshake{}, 400},
		{"version 8", []string{"Sec-WebSocket-Version: 8"}, Handshake{}, 426},
		{"no version", []string{"-Sec-WebSocket-Version"}, Handshake{}, 400},
		{"no key", []string{"-Sec-WebSocket-Key"}, Handshake{}, 400},
		{"a short key", []string{"Sec-WebSocket-Key: dGhlIHNhbXBsZQ=="}, Handshake{}, 400},
		{"a key that is no base64", []string{"Sec-WebSocket-Key: !Ghl!HNhbXBsZSBub25jZQ=="}, Handshake{}, 400},
		{"a key of 17 bytes", []string{"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXg="}, Handshake{}, 400},
		{"no sub-protocol", []string{"-Sec-WebSocket-Protocol"}, Handshake{}, 400},
		{"none that is known", []string{"Sec-WebSocket-Protocol: mqtt, chat"}, Handshake{}, 400},
		{"known in another case", []string{"Sec-WebSocket-Protocol: Rollcall.V1"}, Handshake{}, 400},
		{"two hosts", []string{"+Host: example.com"}, Handshake{}, 400},
		{"two keys", []string{"+Sec-WebSocket-Key: " + rfcKey}, Handshake{}, 400},
		{"two versions", []string{"+Sec-WebSocket-Version: 13"}, Handshake{}, 400},
		{"two origins", []string{"Origin: a", "+origin: b"}, Handshake{}, 400},
		{"a long origin", []string{"Origin: " + strings.Repeat("a", MaxOrigin+1)}, Handshake{}, 400},
		{"the longest origin", []string{"Origin: " + strings.Repeat("a", MaxOrigin)}, Handshake{"rollcall.json.v1", strings.Repeat("a", MaxOrigin)}, 0},
		{"a body", []string{"Content-Length: 5"}, Handshake{}, 400},
		{"two lengths", []string{"Content-Length: 0", "+Content-Length: 0"}, Handshake{}, 400},
		{"chunks", []string{"Transfer-Encoding: chunked"}, Handshake{}, 400},
		{"a space before the colon", []string{"+Content-Length : 0"}, Handshake{}, 400},
		{"a folded line", []string{"Origin: a\r\n b"}, Handshake{}, 400},
		{"a bare LF", []string{"Cookie: a\nContent-Length: 3"}, Handshake{}, 400},
		{"a bare CR", []string{"Cookie: a\rb"}, Handshake{}, 400},
		{"a NUL", []string{"Cookie: a\x00b"}, Handshake{}, 400},
		{"a line without a colon", []string{"+nonsense"}, Handshake{}, 400},
		{"an empty name", []string{"+: x"}, Handshake{}, 400},
	} {
		head := request(c.changes...)
		if n, f := HeadEnd([]byte(head + "\x81\x80")); n != len(head) || f != nil {
			t.Errorf("%s: HeadEnd %d, %v, want %d", c.name, n, f, len(head))
		}
		out, hs, f := Upgrade([]byte("before"), []byte(head), testProtocols)
		if c.fault != 0 {
			if f == nil || f.Status != c.fault || string(out) != "before" {
				t.Errorf("%s: %+v, %q, want %d", c.name, f, out, c.fault)
			}
			continue
		}
		if f != nil || hs != c.want {
			t.Errorf("%s: %+v, %v, want %+v", c.name, hs, f, c.want)
			continue
		}
		answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(out[len("before"):])), nil)
		if err != nil {
			t.Fatalf("%s: %q: %v", c.name, out, err)
		}
		h := answer.Header
		if answer.StatusCode != 101 || h.Get("Sec-WebSocket-Accept") != rfcAccept || h.Get("Sec-WebSocket-Protocol") != hs.Protocol ||
			h.Get("Upgrade") != "websocket" || h.Get("Connection") != "Upgrade" || h.Get("Sec-WebSocket-Extensions") != "" {
			t.Errorf("%s: answered with %d %v", c.name, answer.StatusCode, h)
		}
	}
}

func TestHeadEnd(t *testing.T) {
	head := request()
	for n := range len(head) {
		if got, f := HeadEnd([]byte(head[:n])); got != 0 || f != nil {
			t.Fatalf("%d of %d bytes: %d, %v", n, len(head), got, f)
		}
	}
	for _, first := range []string{"\x16\x03\x01", "\x01\x10\x00\x10", "\x10\x20", "\r\n", "get", " GET"} {
		if _, f := HeadEnd([]byte(first)); f == nil || f.Status != 400 {
			t.Errorf("%q: %v, want 400 at once", first, f)
		}
	}
	for _, c := range []struct {
		size, want, status int
	}{{MaxHead - 1, MaxHead - 1, 0}, {MaxHead, MaxHead, 0}, {MaxHead + 1, 0, 431}} {
		long := request("Cookie: x")
		long = request("Cookie: x" + strings.Repeat("y", c.size-len(long)))
		n, f := HeadEnd([]byte(long))
		if n != c.want || (f == nil) != (c.status == 0) || (f != nil && f.Status != c.status) {
			t.Errorf("a head of %d bytes: %d, %v", len(long), n, f)
		}
		if n > 0 {
			if _, _, f := Upgrade(nil, []byte(long), testProtocols); f != nil {
				t.Errorf("a head of %d bytes: %v", len(long), f)
			}
		}
	}
	if n, f := HeadEnd(bytes.Repeat([]byte("G"), MaxHead-1)); n != 0 || f != nil {
		t.Errorf("one byte below the limit: %d, %v", n, f)
	}
	if _, f := HeadEnd(bytes.Repeat([]byte("G"), MaxHead)); f == nil || f.Status != 431 {
		t.Errorf("at the limit without an end: %v", f)
	}
}

func TestAppendFault(t *testing.T) {
	for _, c := range []struct {
		fault  Fault
		retryS uint32
		header map[string]string
	}{
		{Fault{400, "no"}, 0, nil},
		{Fault{404, "there is only /v1 here"}, 0, nil},
		{Fault{405, "GET is wanted"}, 0, map[string]string{"Allow": "GET"}},
		{Fault{408, "too late"}, 0, nil},
		{Fault{426, "13"}, 0, map[string]string{"Sec-Websocket-Version": "13", "Upgrade": "websocket"}},
		{Fault{431, "too long"}, 0, nil},
		{Fault{503, "full"}, 7, map[string]string{"Retry-After": "7"}},
	} {
		out := AppendFault(nil, &c.fault, c.retryS)
		r := bufio.NewReader(bytes.NewReader(out))
		answer, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatalf("%q: %v", out, err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != c.fault.Status || string(body) != c.fault.Text+"\n" || !answer.Close || r.Buffered() > 0 {
			t.Errorf("%q: %d %q, %v", out, answer.StatusCode, body, err)
		}
		for _, name := range []string{"Allow", "Sec-Websocket-Version", "Upgrade", "Retry-After"} {
			if got := answer.Header.Get(name); got != c.header[name] {
				t.Errorf("%d has %s %q", c.fault.Status, name, got)
			}
		}
	}
}

func TestClientHandshake(t *testing.T) {
	r := Request{Host: "127.0.0.1:7701", Nonce: [16]byte([]byte("the sample nonce")), Protocols: testProtocols, Origin: "https://example.org"}
	head := AppendRequest(nil, &r)
	if !bytes.Contains(head, []byte(rfcKey)) {
		t.Fatalf("%q does not have the key of section 1.3", head)
	}
	out, hs, f := Upgrade(nil, head, testProtocols[1:])
	if f != nil || hs != (Handshake{"rollcall.json.v1", "https://example.org"}) {
		t.Fatalf("%+v, %v", hs, f)
	}
	for n := range len(out) {
		if _, m, err := r.CheckAnswer(out[:n]); m != 0 || err != nil {
			t.Fatalf("%d bytes of the answer: %d, %v", n, m, err)
		}
	}
	protocol, n, err := r.CheckAnswer(append(out, 0x89, 0))
	if protocol != "rollcall.json.v1" || n != len(out) || err != nil {
		t.Errorf("%q, %d, %v", protocol, n, err)
	}
	other := r
	other.Nonce[0]++
	if _, _, err := other.CheckAnswer(out); err == nil {
		t.Error("an answer to another key was taken")
	}
	if _, _, err := r.CheckAnswer(AppendFault(nil, &Fault{404, "no"}, 0)); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("a refusal: %v", err)
	}
}

// FuzzHandshake: no request makes us panic, and what we take, net/http reads alike,
// with nothing behind it that it would take for a body.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte(request()))
	f.Add([]byte(request("Origin: https://example.org", "Content-Length: 0")))
	f.Add([]byte(request("Sec-WebSocket-Protocol: a,\t rollcall.v1")))
	f.Add([]byte(request("Connection: keep-alive , Upgrade")))
	f.Add([]byte("GET /v1 HTTP/1.1\r\n\r\n"))
	f.Fuzz(func(t *testing.T, p []byte) {
		n, fault := HeadEnd(p)
		if fault != nil {
			checkFault(t, fault)
			return
		}
		if n == 0 {
			return
		}
		in := bytes.Clone(p)
		out, hs, fault := Upgrade(nil, p[:n], testProtocols)
		if !bytes.Equal(in, p) {
			t.Fatal("Upgrade changed its input")
		}
		if fault != nil {
			checkFault(t, fault)
			return
		}
		r := bufio.NewReader(bytes.NewReader(p[:n]))
		req, err := http.ReadRequest(r)
		if err != nil || r.Buffered() > 0 {
			t.Fatalf("taken, but net/http says %v, %d bytes left", err, r.Buffered())
		}
		if req.Method != "GET" || req.URL.Path != Path || req.ContentLength != 0 || len(req.TransferEncoding) > 0 || req.Header.Get("Origin") != hs.Origin {
			t.Fatalf("net/http reads %+v, we %+v", req, hs)
		}
		client := Request{}
		want := fmt.Sprintf("Sec-WebSocket-Protocol: %s\r\n", hs.Protocol)
		if _, _, err := client.CheckAnswer(out); !bytes.Contains(out, []byte(want)) || !strings.Contains(fmt.Sprint(err), "Sec-WebSocket-Accept") {
			t.Fatalf("answered with %q (%v)", out, err)
		}
	})
}

func checkFault(t *testing.T, f *Fault) {
	t.Helper()
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(AppendFault(nil, f, 0))), nil)
	if err != nil || answer.StatusCode < 400 || answer.StatusCode > 499 {
		t.Fatalf("%+v: %v", f, err)
	}
}
