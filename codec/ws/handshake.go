package ws

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/gobwas/ws"
)

// Bounds of the opening handshake in bytes.
const (
	MaxHead   = 8 << 10 // request line and header, with the blank line
	MaxOrigin = 512
)

// Path is where the endpoint is.
const Path = "/v1"

// Handshake is what an opening handshake agreed on.
type Handshake struct {
	Protocol string
	Origin   string // "" = none: not a browser
}

// Fault is an HTTP answer that refuses a handshake.
type Fault struct {
	Status int
	Text   string
}

// Error implements error.
func (f *Fault) Error() string { return f.Text }

func faultf(status int, format string, args ...any) *Fault {
	return &Fault{status, fmt.Sprintf(format, args...)}
}

var headEnd = []byte("\r\n\r\n")

// HeadEnd returns the size of the request's head with its blank line, 0 if it is
// not all there. What can be no HTTP is refused early: a client that speaks
// another protocol need not wait for a time-out.
func HeadEnd(p []byte) (int, *Fault) {
	seen := p[:min(len(p), MaxHead)]
	if i := bytes.Index(seen, headEnd); i >= 0 {
		return i + len(headEnd), nil
	}
	if len(p) > 0 && (p[0] < 'A' || p[0] > 'Z') {
		return 0, faultf(http.StatusBadRequest, "this is no HTTP request")
	}
	if len(p) >= MaxHead {
		return 0, faultf(http.StatusRequestHeaderFieldsTooLarge, "the request's head has more than %d bytes", MaxHead)
	}
	return 0, nil
}

// Upgrade answers the opening handshake in head, which HeadEnd has measured, and
// appends the answer to dst. protocols are those that the server speaks; of them
// it takes the one that the client names first.
func Upgrade(dst, head []byte, protocols []string) ([]byte, Handshake, *Fault) {
	var hs Handshake
	if f := checkHead(head, &hs); f != nil {
		return dst, hs, f
	}
	io := exchange{in: bytes.NewReader(head)}
	u := ws.Upgrader{
		ReadBufferSize: MaxHead, // a line of any length that is allowed
		Protocol:       func(name []byte) bool { return known(protocols, name) },
	}
	done, err := u.Upgrade(&io)
	if err != nil {
		return dst, hs, faultOf(err)
	}
	if done.Protocol == "" {
		return dst, hs, faultf(http.StatusBadRequest, "none of the sub-protocols is known here; Sec-WebSocket-Protocol must name one of %q", protocols)
	}
	hs.Protocol = done.Protocol
	return append(dst, io.out...), hs, nil
}

func known(protocols []string, name []byte) bool {
	for _, p := range protocols {
		if p == string(name) {
			return true
		}
	}
	return false
}

// exchange is the connection that the upgrader sees.
type exchange struct {
	in  *bytes.Reader
	out []byte
}

func (x *exchange) Read(p []byte) (int, error) { return x.in.Read(p) }

func (x *exchange) Write(p []byte) (int, error) {
	x.out = append(x.out, p...)
	return len(p), nil
}

// faultOf gives the upgrader's error its status.
func faultOf(err error) *Fault {
	switch {
	case errors.Is(err, ws.ErrHandshakeUpgradeRequired):
		return faultf(http.StatusUpgradeRequired, "only version 13 of WebSocket is spoken here")
	case errors.Is(err, ws.ErrHandshakeBadUpgrade):
		return faultf(http.StatusUpgradeRequired, "only WebSocket is spoken here")
	}
	return faultf(http.StatusBadRequest, "%s", err)
}

// checkHead checks what the upgrader takes too easily: bare line ends, folded
// lines, spaces before a colon, names that come twice, a body. Another server on
// the way may read such a request otherwise.
func checkHead(head []byte, hs *Handshake) *Fault {
	line, rest, _ := bytes.Cut(head, headEnd[:2])
	if f := checkRequestLine(line); f != nil {
		return f
	}
	var seen [len(singular)]bool
	for len(rest) > len(headEnd)/2 {
		line, rest, _ = bytes.Cut(rest, headEnd[:2])
		name, value, ok := bytes.Cut(line, []byte(":"))
		if !ok || !isToken(name) || !isText(value) {
			return faultf(http.StatusBadRequest, "a line of the header is malformed")
		}
		value = bytes.Trim(value, " \t")
		for i, s := range singular {
			if !equalFold(name, s) {
				continue
			}
			if seen[i] {
				return faultf(http.StatusBadRequest, "%s comes twice", s)
			}
			seen[i] = true
		}
		if f := checkField(name, value, hs); f != nil {
			return f
		}
	}
	return nil
}

// singular are the fields that may come once.
var singular = [...]string{"Host", "Sec-WebSocket-Key", "Sec-WebSocket-Version", "Origin", "Content-Length"}

// checkRequestLine checks method and path; a query is let be.
func checkRequestLine(line []byte) *Fault {
	if !isText(line) {
		return faultf(http.StatusBadRequest, "the request line is malformed")
	}
	parts := bytes.Split(line, []byte(" "))
	if len(parts) != 3 || !isToken(parts[0]) || len(parts[1]) == 0 {
		return faultf(http.StatusBadRequest, "the request line is malformed")
	}
	if v := string(parts[2]); v != "HTTP/1.1" { // section 4.1: at least 1.1; there is no later 1.x
		return faultf(http.StatusBadRequest, "HTTP/1.1 is wanted")
	}
	if path, _, _ := bytes.Cut(originForm(parts[1]), []byte("?")); string(path) != Path {
		return faultf(http.StatusNotFound, "there is only %s here", Path)
	}
	if string(parts[0]) != http.MethodGet {
		return faultf(http.StatusMethodNotAllowed, "GET is wanted")
	}
	return nil
}

// originForm cuts scheme and host off an absolute target, as proxies send it and
// servers must take it: section 4.2.1, and RFC 9112, section 3.2.2.
func originForm(target []byte) []byte {
	for _, scheme := range []string{"http://", "https://"} {
		if len(target) < len(scheme) || !equalFold(target[:len(scheme)], scheme) {
			continue
		}
		if i := bytes.IndexAny(target[len(scheme):], "/?"); i >= 0 {
			return target[len(scheme)+i:]
		}
	}
	return target
}

// checkField checks a field that the upgrader does not look at closely.
func checkField(name, value []byte, hs *Handshake) *Fault {
	switch {
	case equalFold(name, "Origin"):
		if len(value) > MaxOrigin {
			return faultf(http.StatusBadRequest, "an Origin of more than %d bytes", MaxOrigin)
		}
		hs.Origin = string(value)
	case equalFold(name, "Transfer-Encoding"), equalFold(name, "Content-Length") && string(value) != "0":
		return faultf(http.StatusBadRequest, "a handshake has no body")
	case equalFold(name, "Sec-WebSocket-Key"): // section 4.2.1: 16 bytes in base64
		var nonce [18]byte
		if n, err := base64.StdEncoding.Decode(nonce[:], value[:min(len(value), 24)]); err != nil || n != 16 || len(value) != 24 {
			return faultf(http.StatusBadRequest, "Sec-WebSocket-Key is not 16 bytes in base64")
		}
	}
	return nil
}

func equalFold(name []byte, s string) bool {
	return len(name) == len(s) && bytes.EqualFold(name, []byte(s))
}

// isToken reports whether b is a token of RFC 9110, section 5.6.2.
func isToken(b []byte) bool {
	for _, c := range b {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return len(b) > 0
}

// isText reports whether b may stand in a line: no control characters but tabs.
func isText(b []byte) bool {
	for _, c := range b {
		if (c < 0x20 && c != '\t') || c == 0x7f {
			return false
		}
	}
	return true
}

// AppendFault appends the HTTP answer; the connection is to be closed after it.
// retryS, if not 0, tells when to come back.
func AppendFault(dst []byte, f *Fault, retryS uint32) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(f.Status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(f.Status)...)
	dst = append(dst, "\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"...)
	switch f.Status {
	case http.StatusMethodNotAllowed: // RFC 9110, section 15.5.6
		dst = append(dst, "Allow: GET\r\n"...)
	case http.StatusUpgradeRequired: // RFC 6455, section 4.4, and RFC 9110, section 15.5.22
		dst = append(dst, "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"...)
	}
	if retryS > 0 {
		dst = append(dst, "Retry-After: "...)
		dst = strconv.AppendUint(dst, uint64(retryS), 10)
		dst = append(dst, "\r\n"...)
	}
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(f.Text)+1), 10)
	dst = append(dst, "\r\n\r\n"...)
	dst = append(dst, f.Text...)
	return append(dst, '\n')
}
