package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rollcall-im/rollcall/bench"
)

func init() {
	for _, secure := range []bool{false, true} {
		p := &peer{name: "mosquitto", does: "MQTT CONNECT, nobody checked", tls: secure, login: mqttLogin}
		if secure {
			p.name += "-tls"
		}
		p.command = func(addr, dir string) (*exec.Cmd, error) { return startMosquitto(addr, dir, secure) }
		peers = append(peers, p)
	}
}

// startMosquitto writes a configuration and starts the broker of the distribution.
func startMosquitto(addr, dir string, secure bool) (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	conf := fmt.Sprintf("listener %s %s\nallow_anonymous true\npersistence false\nmax_connections -1\nlog_type error\nuser root\n", port, host)
	if secure {
		cert, key, err := bench.WriteCertificate(dir)
		if err != nil {
			return nil, err
		}
		conf += fmt.Sprintf("certfile %s\nkeyfile %s\n", cert, key)
	}
	file := filepath.Join(dir, "conf")
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return exec.Command("mosquitto", "-c", file), nil
}
