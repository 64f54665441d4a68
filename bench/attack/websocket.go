package attack

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// Attacks on the WebSocket listener. The frames are made by hand: no library
// makes the wrong ones.

// Opcodes of RFC 6455.
const (
	opContinue = 0x0
	opText     = 0x1
	opBinary   = 0x2
	opClose    = 0x8
	opPing     = 0x9
	fin        = 0x80
)

const (
	protocolNative = "rollcall.v1"
	protocolJSON   = "rollcall.json.v1"
)

func upgrade(protocol string) string {
	var key [16]byte
	binary.LittleEndian.PutUint64(key[:], rand.Uint64())
	return fmt.Sprintf("GET /v1 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(key[:]), protocol)
}

// wsFrame is a masked frame; the first byte is the opcode with FIN and whatever else shall be set.
func wsFrame(first byte, payload []byte) []byte {
	b := []byte{first}
	switch n := len(payload); {
	case n < 126:
		b = append(b, 0x80|byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 0x80|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 0x80|127), uint64(n))
	}
	mask := [4]byte{1, 2, 3, 4}
	b = append(b, mask[:]...)
	for i, c := range payload {
		b = append(b, c^mask[i%4])
	}
	return b
}

// dialWS connects and shakes hands; nil if that did not go well.
func (a *Assault) dialWS(i int, protocol string) *net.TCPConn {
	c := a.dial(i, a.target.WS)
	if c == nil {
		return nil
	}
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	head := make([]byte, 0, 512)
	_, err := io.WriteString(c, upgrade(protocol))
	for one := make([]byte, 1); err == nil && !bytes.HasSuffix(head, []byte("\r\n\r\n")) && len(head) < 4096; head = append(head, one...) {
		_, err = c.Read(one)
	}
	if err != nil || !bytes.HasPrefix(head, []byte("HTTP/1.1 101")) {
		a.count("handshakes refused")
		c.Close()
		a.pause(50 * time.Millisecond)
		return nil
	}
	a.count("handshakes")
	return c
}

// jsonLogin is the i-th attacker's login as a JSON message.
func (a *Assault) jsonLogin(i int) []byte {
	b, _ := json.Marshal(map[string]any{
		"Type": "Login", "SDKAppID": a.target.App, "UserID": attacker(i), "UserSig": string(a.sig(attacker(i))), "Platform": "Web", "DeviceID": "d",
	})
	return b
}

func wsSlowHandshakes(a *Assault) {
	long := strings.TrimSuffix(upgrade(protocolNative), "\r\n") + "X: " + strings.Repeat("x", 4000)
	a.eachSlowly(a.size, func(i int) {
		c := a.dial(i, a.target.WS)
		if c == nil {
			return
		}
		defer a.closes(c)()
		a.trickle(c, []byte(long), slowly)
	})
}

// wsHostile are what may come behind a handshake, and must not. Each ends the link.
func wsHostile(a *Assault) [][]byte {
	unmasked := []byte{fin | opBinary, 4, 1, 2, 3, 4}
	deep := `{"Type":"Login","x":` + strings.Repeat("[", 4000)
	return [][]byte{
		unmasked,
		wsFrame(fin|0x40|opBinary, []byte("reserved bit")),
		wsFrame(fin|0x3, []byte("reserved opcode")),
		wsFrame(opPing, []byte("a ping in pieces")),
		wsFrame(fin|opPing, bytes.Repeat([]byte{'x'}, 126)),
		wsFrame(fin|opContinue, []byte("continues nothing")),
		wsFrame(fin|opText, []byte("\xff\xfe not UTF-8")),
		wsFrame(fin|opText, []byte(`{"Type":"Login"`)),
		wsFrame(fin|opText, []byte(deep)),
		wsFrame(fin|opText, []byte(`{"Type":"Nothing"}`)),
		wsFrame(fin|opBinary, []byte("no native frame")),
		wsFrame(fin|opClose, []byte{3}),
		wsFrame(fin|opClose, []byte{0, 1}),
		append([]byte{fin | opBinary, 0x80 | 127}, bytes.Repeat([]byte{0xff}, 12)...), // a length with its highest bit set
		append([]byte{fin | opBinary, 0x80 | 127, 0, 0, 0, 0, 0xff, 0, 0, 0, 1, 2, 3, 4}, bytes.Repeat([]byte{'x'}, 9000)...),
		bytes.Repeat(wsFrame(opBinary, []byte("endless pieces")), 2000),
		bytes.Repeat(wsFrame(opText, nil), 5000),
		append(wsFrame(fin|opBinary, a.loginFrame(1, nil)), unmasked...),
	}
}

func wsGarbage(a *Assault) {
	all := wsHostile(a)
	a.each(a.size, func(int) {
		c := a.dialWS(rand.IntN(addresses), []string{protocolNative, protocolJSON}[rand.IntN(2)])
		if c == nil {
			return
		}
		defer a.closes(c)()
		a.ask(c, all[rand.IntN(len(all))], 10*time.Second)
		a.count("messages")
	})
}

// jsonIn logs the i-th attacker in.
func (a *Assault) jsonIn(c net.Conn, i int) bool {
	if _, err := c.Write(wsFrame(fin|opText, a.jsonLogin(i))); err != nil {
		return false
	}
	var got []byte
	for p := make([]byte, 512); len(got) < 8192; {
		n, err := c.Read(p)
		if got = append(got, p[:n]...); bytes.Contains(got, []byte(`"LoginOK"`)) {
			a.count("logins")
			return true
		}
		if err != nil {
			return false
		}
	}
	return false
}

// wsPings logs in and pings without reading what comes back.
func wsPings(a *Assault) {
	pings := bytes.Repeat(wsFrame(fin|opPing, bytes.Repeat([]byte{'p'}, 125)), 128)
	beats := bytes.Repeat(wsFrame(fin|opText, []byte(`{"Type":"Heartbeat"}`)), 128)
	a.each(a.size, func(i int) {
		c := a.dialWS(i, protocolJSON)
		if c == nil {
			return
		}
		defer a.closes(c)()
		_ = c.SetReadBuffer(4096)
		if !a.jsonIn(c, i) {
			a.pause(100 * time.Millisecond)
			return
		}
		var err error
		for n := 0; err == nil; n++ {
			_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
			p := pings
			if n%2 == 1 {
				p = beats
			}
			if _, err = c.Write(p); err == nil {
				a.count("bursts")
			}
		}
		a.closedOn()
	})
}

// wsPieces holds half a message on each of many links.
func wsPieces(a *Assault) {
	piece := wsFrame(opBinary, bytes.Repeat([]byte{byte(codec.TypeLogin)}, 7000))
	a.eachSlowly(a.size, func(i int) {
		c := a.dialWS(i, protocolNative)
		if c == nil {
			return
		}
		defer a.closes(c)()
		if _, err := c.Write(piece); err == nil {
			a.stillOpen(c, time.Minute)
		}
	})
}
