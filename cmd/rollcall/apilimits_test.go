package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestAPILimits: the settings of the HTTP listeners reach them.
func TestAPILimits(t *testing.T) {
	s := running(t, startServer, "--api-conns-per-ip", "2", "--api-max-body", "2048")
	post := func(c net.Conn, body int) (answer string, err error) {
		c.SetDeadline(time.Now().Add(deadline))
		fmt.Fprintf(c, "POST /v4/openim/querystate HTTP/1.1\r\nHost: r\r\nContent-Length: %d\r\n\r\n%s", body, strings.Repeat("x", body))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return "", err
		}
		b, err := io.ReadAll(res.Body)
		return string(b), err
	}
	conns := floodWith(t, s.addr["api"], 2)
	for _, c := range conns {
		defer c.Close()
		if answer, err := post(c, 2048); err != nil || !strings.Contains(answer, "60012") {
			t.Fatalf("a connection within the bound: %q, %v", answer, err)
		}
	}
	third := floodWith(t, s.addr["api"], 1)[0]
	defer third.Close()
	if answer, err := post(third, 2); err == nil {
		t.Errorf("a third connection of an address that may have two: %q", answer)
	}
	if answer, err := post(conns[0], 2049); err != nil || !strings.Contains(answer, "2048 bytes") {
		t.Errorf("a body above the bound: %q, %v", answer, err)
	}
}
