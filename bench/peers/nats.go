package main

import (
	"bufio"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	nats "github.com/nats-io/nats-server/v2/server"
)

func init() {
	peers = append(peers, &peer{
		name: "nats-server", does: "CONNECT and PING, nobody checked", serve: serveNATS, login: natsLogin,
	})
}

func serveNATS(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(port)
	if err != nil {
		return err
	}
	s, err := nats.NewServer(&nats.Options{Host: host, Port: n, NoLog: true, NoSigs: true})
	if err != nil {
		return err
	}
	go s.Start()
	if !s.ReadyForConnections(answerTimeout) {
		return fmt.Errorf("not ready in %v", answerTimeout)
	}
	return nil
}

// natsLogin reads INFO, sends CONNECT and PING, and reads PONG.
func natsLogin(c net.Conn, i int) error {
	r := bufio.NewReaderSize(c, 4096)
	if line, err := r.ReadString('\n'); err != nil || !strings.HasPrefix(line, "INFO ") {
		return fmt.Errorf("greeted with %.20q: %w", line, err)
	}
	if _, err := fmt.Fprintf(c, "CONNECT {\"verbose\":false,\"pedantic\":false,\"name\":\"peer-%011d\",\"lang\":\"go\",\"version\":\"1\",\"protocol\":1}\r\nPING\r\n", i); err != nil {
		return err
	}
	for {
		line, err := r.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "PONG"):
			return c.SetDeadline(time.Time{})
		case !strings.HasPrefix(line, "INFO "):
			return fmt.Errorf("CONNECT answered with %.60q", line)
		}
	}
}
