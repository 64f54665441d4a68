package attack

import (
	"bufio"
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/internal/usersig"
)

// Attacks on the HTTP listeners, and with one protocol on another's port.

// callTarget is the request target of a query by an administrator.
func (a *Assault) callTarget(sig string) string {
	return fmt.Sprintf("/v4/openim/querystate?sdkappid=%d&identifier=administrator&usersig=%s&random=%d&contenttype=json",
		a.target.App, url.QueryEscape(sig), rand.Uint32())
}

func post(target, more string, body []byte) []byte {
	return append(fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n%s\r\n", target, len(body), more), body...)
}

func wrongProtocol(a *Assault) {
	hellos := map[string][]byte{
		"HTTP":      []byte("GET /v1 HTTP/1.1\r\nHost: x\r\n\r\n"),
		"WebSocket": []byte("GET /v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"),
		"TLS":       append([]byte{0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3}, bytes.Repeat([]byte{7}, 506)...),
		"MQTT":      []byte("\x10\x0f\x00\x04MQTT\x04\x02\x00\x3c\x00\x03abc"),
		"native":    a.loginFrame(1, []byte("x")),
		"HTTP/2":    []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
		"PROXY":     []byte("PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n"),
	}
	ports := []string{a.target.Native, a.target.WS, a.target.API, a.target.Admin}
	for _, more := range []string{a.target.MQTT, a.target.NativeTLS} {
		if more != "" {
			ports = append(ports, more)
		}
	}
	a.each(a.size, func(i int) {
		for name, hello := range hellos {
			for _, addr := range ports {
				if c := a.dial(rand.IntN(addresses), addr); c != nil {
					a.ask(c, hello, 10*time.Second)
					c.Close()
					a.count(name)
				}
			}
		}
	})
}

func slowRequests(a *Assault) {
	a.each(a.size, func(i int) {
		addr := a.target.API
		if i%2 == 1 {
			addr = a.target.Admin
		}
		c := a.dial(i, addr)
		if c == nil {
			return
		}
		defer a.closes(c)()
		if !a.trickle(c, []byte("POST /v4/openim/querystate?sdkappid=1 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nX: "+strings.Repeat("x", 1000)), slowly) {
			a.pause(100 * time.Millisecond)
		}
	})
}

const bigBody = 10 << 20

func bigBodies(a *Assault) {
	chunk := []byte("4000\r\n" + strings.Repeat(" ", 0x4000) + "\r\n")
	a.each(a.size, func(i int) {
		addr := a.target.API
		if i%4 == 3 {
			addr = a.target.Admin
		}
		c := a.dial(i, addr)
		if c == nil {
			return
		}
		defer a.closes(c)()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		head := fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\n", a.callTarget("x"))
		if i%2 == 0 {
			head += "Transfer-Encoding: chunked\r\n\r\n"
		} else {
			head += fmt.Sprintf("Content-Length: %d\r\n\r\n", bigBody)
		}
		_, err := c.Write([]byte(head))
		for sent := 0; err == nil && sent < bigBody; sent += len(chunk) {
			_, err = c.Write(chunk)
		}
		a.count("bodies")
		if err != nil {
			a.count("cut off")
		}
	})
}

// calls makes calls on one connection after the other, some on each.
func (a *Assault) calls(i int, next func() []byte) {
	c := a.dial(i, a.target.API)
	if c == nil {
		return
	}
	defer a.closes(c)()
	r := bufio.NewReader(c)
	for range 50 {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := c.Write(next()); err != nil {
			return
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return
		}
		_, err = bufio.NewReader(res.Body).WriteTo(discard{})
		res.Body.Close()
		a.count("calls")
		if err != nil || res.Close {
			return
		}
	}
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

func deepJSON(a *Assault) {
	sig := string(a.sig("administrator"))
	a.each(a.size, func(i int) {
		a.calls(i, func() []byte {
			depth := []int{31, 100, 5000, 60_000}[rand.IntN(4)]
			body := `{"To_Account":["a"],"x":` + strings.Repeat("[", depth) + strings.Repeat("]", depth) + "}"
			if rand.IntN(2) == 0 {
				body = strings.Repeat(`{"x":`, depth/3)
			}
			return post(a.callTarget(sig), "", []byte(body))
		})
	})
}

func bigQueries(a *Assault) {
	sig := string(a.sig("administrator"))
	body := func(n int) []byte {
		return []byte(`{"To_Account":["` + strings.Repeat(`nobody","`, n-1) + `nobody"],"IsNeedDetail":1}`)
	}
	legal, over := body(500), body(501)
	a.each(a.size, func(i int) {
		a.calls(i, func() []byte {
			if rand.IntN(2) == 0 {
				return post(a.callTarget(sig), "", over)
			}
			return post(a.callTarget(sig), "", legal)
		})
	})
}

// shapes are requests whose end servers have seen in different places.
var shapes = []string{
	"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n", "Content-Length: 2\r\nContent-Length: 40\r\n\r\n{}",
	"X: a\r\n b\r\nContent-Length: 2\r\n\r\n{}", "Transfer-Encoding: chunked\r\n\r\n2;a=\nb\r\n{}\r\n0\r\n\r\n",
	"Transfer-Encoding: chunked\r\n\r\n+2\r\n{}\r\n0\r\n\r\n", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", "X\x00: y\r\n\r\n",
	"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n", "Content-Length: -1\r\n\r\n", "X: " + strings.Repeat("x", 64<<10) + "\r\n\r\n",
	strings.Repeat("X: y\r\n", 3000) + "\r\n", "Expect: 100-continue\r\nContent-Length: 10485760\r\n\r\n",
}

// smuggled is what follows each shape. Where it is taken for a request of its own
// that nobody has refused before, it is answered with the description.
const smuggled = "GET /openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"

func smuggling(a *Assault) {
	a.each(a.size, func(i int) {
		addr := []string{a.target.API, a.target.Admin}[i%2]
		c := a.dial(rand.IntN(addresses), addr)
		if c == nil {
			return
		}
		defer a.closes(c)()
		if n := rand.IntN(len(shapes) + 1); n < len(shapes) {
			a.ask(c, []byte("POST /v4/a/b HTTP/1.1\r\nHost: x\r\n"+shapes[n]+smuggled), 10*time.Second)
			a.count("shapes")
			return
		}
		a.ask(c, bytes.Repeat(post("/v4/a/b", "", []byte("{}")), 500), 10*time.Second)
		a.count("pipelines")
	})
}

func unreadAnswers(a *Assault) {
	requests := bytes.Repeat([]byte(smuggled), 200) // 10 MB of answers
	a.each(a.size, func(i int) {
		addr := []string{a.target.API, a.target.Admin}[i%2]
		c := a.dial(i, addr)
		if c == nil {
			return
		}
		defer a.closes(c)()
		_ = c.SetReadBuffer(4096)
		_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
		_, _ = c.Write(requests)
		var one [1]byte
		for !a.over() {
			_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Read(one[:]); err != nil {
				a.closedOn()
				a.pause(100 * time.Millisecond)
				return
			}
			a.count("bytes read")
			a.pause(slowly)
		}
	})
}

func restBadSigs(a *Assault) {
	sigs := []string{"", "x", string(toSig([]byte("not packed")))}
	for _, b := range bombs() {
		sigs = append(sigs, string(b))
	}
	wrong, err := usersig.Sign("a key that nobody has given to the app", a.target.App, "administrator", time.Now().Unix(), 3600, nil)
	if err == nil {
		sigs = append(sigs, wrong)
	}
	a.each(a.size, func(i int) {
		from := 0 // half of them are one address
		if i%2 == 1 {
			from = 1 + rand.IntN(addresses-1)
		}
		a.calls(from, func() []byte {
			return post(a.callTarget(sigs[rand.IntN(len(sigs))]), "", []byte(`{"To_Account":["a"]}`))
		})
	})
}

func tokens(a *Assault) {
	a.each(a.size, func(i int) {
		from := 0
		if i%2 == 1 {
			from = 1 + rand.IntN(addresses-1)
		}
		c := a.dial(from, a.target.Admin)
		if c == nil {
			return
		}
		defer a.closes(c)()
		a.guess(c)
	})
}

// guess asks the console with a token that may be right, or without one.
func (a *Assault) guess(c net.Conn) {
	r := bufio.NewReader(c)
	for n := range 20 {
		auth := fmt.Sprintf("Authorization: Bearer %016x\r\n", rand.Uint64())
		if n%4 == 3 {
			auth = ""
		}
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := fmt.Fprintf(c, "GET /console/v1/apps HTTP/1.1\r\nHost: x\r\n%s\r\n", auth); err != nil {
			return
		}
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			return
		}
		_, _ = bufio.NewReader(res.Body).WriteTo(discard{})
		res.Body.Close()
		a.count("guesses")
		if res.StatusCode < 400 {
			a.count("GOT IN")
		}
	}
}
