package ws

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strings"
)

// acceptGUID is the fixed part of Sec-WebSocket-Accept, section 1.3.
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// Request is a client's opening handshake.
type Request struct {
	Host      string // host:port
	Nonce     [16]byte
	Protocols []string
	Origin    string // "" = none
}

// AppendRequest appends the request to dst.
func AppendRequest(dst []byte, r *Request) []byte {
	dst = fmt.Appendf(dst, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n", Path, r.Host, r.key())
	if len(r.Protocols) > 0 {
		dst = fmt.Appendf(dst, "Sec-WebSocket-Protocol: %s\r\n", strings.Join(r.Protocols, ", "))
	}
	if r.Origin != "" {
		dst = fmt.Appendf(dst, "Origin: %s\r\n", r.Origin)
	}
	return append(dst, "\r\n"...)
}

func (r *Request) key() string { return base64.StdEncoding.EncodeToString(r.Nonce[:]) }

// CheckAnswer reads the server's answer to the request. n is its size, 0 if it is
// not all there; frames may follow. protocol is what the server chose.
func (r *Request) CheckAnswer(p []byte) (protocol string, n int, err error) {
	i := bytes.Index(p, headEnd)
	if i < 0 {
		if len(p) > MaxHead {
			return "", 0, fmt.Errorf("the answer's head has more than %d bytes", MaxHead)
		}
		return "", 0, nil
	}
	status, rest, _ := strings.Cut(string(p[:i]), "\r\n")
	if !strings.HasPrefix(status, "HTTP/1.1 101 ") {
		return "", 0, fmt.Errorf("the handshake was answered with %q", status)
	}
	fields := make(map[string]string)
	for line := range strings.SplitSeq(rest, "\r\n") {
		name, value, _ := strings.Cut(line, ":")
		fields[strings.ToLower(name)] = strings.TrimSpace(value)
	}
	sum := sha1.Sum([]byte(r.key() + acceptGUID))
	if want := base64.StdEncoding.EncodeToString(sum[:]); fields["sec-websocket-accept"] != want {
		return "", 0, fmt.Errorf("Sec-WebSocket-Accept is %q, want %q", fields["sec-websocket-accept"], want)
	}
	return fields["sec-websocket-protocol"], i + len(headEnd), nil
}
