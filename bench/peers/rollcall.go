package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/rollcall-im/rollcall/bench"
	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

func init() {
	for _, p := range []struct {
		name     string
		protocol bench.Protocol
	}{{"native", bench.Native}, {"ws", bench.WS}, {"mqtt", bench.MQTT}} {
		for _, secure := range []bool{false, true} {
			peers = append(peers, rollcall(p.name, p.protocol, secure))
		}
	}
}

// rollcall is the server with one listener, which is called listener.
func rollcall(listener string, protocol bench.Protocol, secure bool) *peer {
	p := &peer{
		name: "rollcall", does: "UserSig verified, policy applied, presence kept", tls: secure,
		login: func(c net.Conn, i int) error {
			m, err := rollcallLogin(i)
			if err != nil {
				return err
			}
			return bench.LogIn(c, protocol, m)
		},
	}
	if listener != "native" {
		p.name += "-" + listener
	}
	if secure {
		p.name += "-tls"
		listener += "-tls"
	}
	p.command = func(addr, dir string) (*exec.Cmd, error) {
		bin := os.Getenv("ROLLCALL_BIN")
		if bin == "" {
			return nil, fmt.Errorf("ROLLCALL_BIN must name the built server")
		}
		args := []string{"serve", "--dev", "--data-dir", dir, "--durability", "memory", "--listen-api", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"}
		for _, other := range []string{"native", "ws", "mqtt"} {
			if other != listener {
				args = append(args, "--listen-"+other, "off")
			}
		}
		if secure {
			cert, key, err := bench.WriteCertificate(dir)
			if err != nil {
				return nil, err
			}
			args = append(args, "--tls-cert", cert, "--tls-key", key, "--listen-api-tls", "off", "--listen-admin-tls", "off")
		}
		return exec.Command(bin, append(args, "--listen-"+listener, addr)...), nil
	}
	return p
}

// rollcallLogin is the login of the i-th client. Strings are of the lengths that they have in life.
func rollcallLogin(i int) (*codec.Login, error) {
	user := fmt.Sprintf("peer-%011d", i)
	sig, err := usersig.Sign(bench.DevKey, bench.DevApp, user, time.Now().Unix(), 86400, nil)
	if err != nil {
		return nil, err
	}
	platforms := codec.Platforms()
	return &codec.Login{
		SDKAppID: bench.DevApp, UserID: []byte(user), UserSig: []byte(sig), Platform: platforms[i%len(platforms)],
		DeviceID:   fmt.Appendf(nil, "%08x-0000-4000-8000-%012x", uint32(i)*2654435761, i),
		SDKVersion: fmt.Appendf(nil, "8.%d.%d", i%7, i%31), DeviceModel: fmt.Appendf(nil, "Model %c-%d", 'A'+i%26, i%199),
	}, nil
}
