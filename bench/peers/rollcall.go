package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// The demo app of a server in dev mode.
const (
	devApp = 1400000000
	devKey = "5bd2850fff3ecb11d7c805251c51ee463a25727bddc2385f3fa8bfee1bb93b5e"
)

func init() {
	peers = append(peers, &peer{
		name: "rollcall", does: "UserSig verified, policy applied, presence kept",
		command: func(addr, dir string) (*exec.Cmd, error) {
			bin := os.Getenv("ROLLCALL_BIN")
			if bin == "" {
				return nil, fmt.Errorf("ROLLCALL_BIN must name the built server")
			}
			return exec.Command(bin, "serve", "--dev", "--data-dir", dir, "--durability", "memory", "--listen-native", addr, "--listen-ws", "off", "--listen-api", "127.0.0.1:0", "--listen-admin", "127.0.0.1:0"), nil
		},
		login: rollcallLogin,
	})
}

// rollcallLogin sends one Login frame and reads LoginOK. Strings are of the lengths that they have in life.
func rollcallLogin(c net.Conn, i int) error {
	user := fmt.Sprintf("peer-%011d", i)
	sig, err := usersig.Sign(devKey, devApp, user, time.Now().Unix(), 86400, nil)
	if err != nil {
		return err
	}
	platforms := codec.Platforms()
	_, err = c.Write(codec.AppendLogin(nil, &codec.Login{
		SDKAppID: devApp, UserID: []byte(user), UserSig: []byte(sig), Platform: platforms[i%len(platforms)],
		DeviceID:   fmt.Appendf(nil, "%08x-0000-4000-8000-%012x", uint32(i)*2654435761, i),
		SDKVersion: fmt.Appendf(nil, "8.%d.%d", i%7, i%31), DeviceModel: fmt.Appendf(nil, "Model %c-%d", 'A'+i%26, i%199),
	}))
	if err != nil {
		return err
	}
	head := make([]byte, 4)
	if _, err := io.ReadFull(c, head); err != nil {
		return err
	}
	body := make([]byte, int(head[2])<<8|int(head[3]))
	if _, err := io.ReadFull(c, body); err != nil {
		return err
	}
	if codec.Type(head[0]) != codec.TypeLoginOK {
		return fmt.Errorf("answered with frame type %d", head[0])
	}
	return nil
}
