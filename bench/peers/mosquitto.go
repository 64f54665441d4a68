package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
)

func init() {
	peers = append(peers, &peer{
		name: "mosquitto", does: "MQTT CONNECT, nobody checked", command: startMosquitto, login: mqttLogin,
	})
}

// startMosquitto writes a configuration and starts the broker of the distribution.
func startMosquitto(addr, dir string) (*exec.Cmd, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "conf")
	conf := fmt.Sprintf("listener %s %s\nallow_anonymous true\npersistence false\nmax_connections -1\nlog_type error\nuser root\n", port, host)
	if err := os.WriteFile(file, []byte(conf), 0o600); err != nil {
		return nil, err
	}
	return exec.Command("mosquitto", "-c", file), nil
}
