package bench

import (
	"fmt"
	"net"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/jsonmsg"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/codec/ws"
)

// interpreter is the fake's side of a link in another protocol: what is read are
// the client's messages as native frames, what is written are native frames.
type interpreter struct {
	net.Conn
	drip bool
	// hear takes the first message of p, and returns it as native bytes; 0: more must come.
	hear func(p []byte) (native []byte, n int, err error)
	// say is a native frame in the other protocol.
	say func(f codec.Frame, native []byte) []byte

	raw, in, out []byte
}

// interpret makes an interpreter of c, or returns c itself.
func (f *fake) interpret(c net.Conn) net.Conn {
	i := &interpreter{Conn: c, drip: f.drip}
	switch f.protocol {
	case WS, WSJSON:
		w := &wsSide{i: i, json: f.protocol == WSJSON}
		i.hear, i.say = w.hear, w.say
	case MQTT:
		i.hear, i.say = hearMQTT, sayMQTT
	default:
		return c
	}
	return i
}

func (i *interpreter) CloseWrite() error {
	return i.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

func (i *interpreter) Read(p []byte) (int, error) {
	chunk := make([]byte, 4096)
	for len(i.in) == 0 {
		native, n, err := i.hear(i.raw)
		if err != nil {
			return 0, err
		}
		i.raw, i.in = i.raw[n:], native
		if n > 0 {
			continue
		}
		k, err := i.Conn.Read(chunk)
		if err != nil {
			return 0, err
		}
		i.raw = append(i.raw, chunk[:k]...)
	}
	n := copy(p, i.in)
	i.in = i.in[n:]
	return n, nil
}

func (i *interpreter) Write(p []byte) (int, error) {
	i.out = append(i.out, p...)
	for {
		f, n, err := codec.Next(i.out, codec.MaxFrame)
		if err != nil {
			return i.Conn.Write(p)
		}
		if n == 0 {
			return len(p), nil
		}
		if err := i.send(i.say(f, i.out[:n])); err != nil {
			return 0, err
		}
		i.out = i.out[n:]
	}
}

func (i *interpreter) send(p []byte) error {
	step := len(p)
	if i.drip {
		step = 1
	}
	for ; len(p) > 0; p = p[min(step, len(p)):] {
		if _, err := i.Conn.Write(p[:min(step, len(p))]); err != nil {
			return err
		}
	}
	return nil
}

// wsSide is the server's end of a WebSocket.
type wsSide struct {
	i      *interpreter
	json   bool
	open   bool
	reader ws.Reader
}

func (w *wsSide) hear(p []byte) ([]byte, int, error) {
	if !w.open {
		return w.upgrade(p)
	}
	m, n, fault := w.reader.Take(p, ws.Limit{From: ws.FromClient, Max: codec.MaxFrame})
	switch {
	case fault != nil:
		return nil, 0, fault
	case m.Op == ws.Pong && string(m.Payload) != "are you there":
		return nil, 0, fmt.Errorf("a pong of %q", m.Payload)
	case m.Op == ws.Binary && !w.json:
		return append([]byte(nil), m.Payload...), n, nil
	case m.Op == ws.Text && w.json:
		native, err := nativeOf(m.Payload)
		return native, n, err
	case m.Op == ws.Binary || m.Op == ws.Text:
		return nil, 0, fmt.Errorf("a message of opcode %d", m.Op)
	}
	return nil, n, nil
}

func (w *wsSide) upgrade(p []byte) ([]byte, int, error) {
	n, fault := ws.HeadEnd(p)
	if fault != nil || n == 0 {
		return nil, 0, errOf(fault)
	}
	want := subNative
	if w.json {
		want = subJSON
	}
	answer, hs, fault := ws.Upgrade(nil, p[:n], []string{"chat", want})
	if fault != nil || hs.Protocol != want || len(p) > n {
		return nil, 0, fmt.Errorf("%v, sub-protocol %q, %d bytes behind the request", fault, hs.Protocol, len(p)-n)
	}
	w.open = true
	return nil, n, w.i.send(answer)
}

// errOf is a fault as an error, nil for none.
func errOf(f *ws.Fault) error {
	if f == nil {
		return nil
	}
	return f
}

func nativeOf(text []byte) ([]byte, error) {
	m, err := jsonmsg.Parse(text)
	if err != nil || m.Type != codec.TypeLogin {
		return codec.AppendEmpty(nil, m.Type), err
	}
	var login codec.Login
	err = m.Login(&login)
	return codec.AppendLogin(nil, &login), err
}

func (w *wsSide) say(f codec.Frame, native []byte) []byte {
	var dst []byte
	if f.Type == codec.TypeHeartbeatOK { // a ping may come at any time
		dst = ws.Wrap([]byte("are you there"), 0, ws.Ping)
	}
	start := len(dst)
	if w.json {
		dst = ws.Wrap(appendJSON(dst, f), start, ws.Text)
	} else {
		dst = ws.Wrap(append(dst, native...), start, ws.Binary)
	}
	if info, _ := f.Type.Info(); info.Last {
		dst = ws.Wrap(dst, len(dst), ws.Close)
	}
	return dst
}

func appendJSON(dst []byte, f codec.Frame) []byte {
	switch f.Type {
	case codec.TypeLoginOK:
		var m codec.LoginOK
		must(m.Unmarshal(f.Body))
		return jsonmsg.AppendLoginOK(dst, &m)
	case codec.TypeLoginRefused:
		var m codec.LoginRefused
		must(m.Unmarshal(f.Body))
		return jsonmsg.AppendLoginRefused(dst, &m)
	case codec.TypeForcedOffline:
		var m codec.ForcedOffline
		must(m.Unmarshal(f.Body))
		return jsonmsg.AppendForcedOffline(dst, &m)
	case codec.TypeRedirect:
		var m codec.Redirect
		must(m.Unmarshal(f.Body))
		return jsonmsg.AppendRedirect(dst, &m)
	}
	return jsonmsg.AppendEmpty(dst, f.Type)
}

func must(err error) {
	if err != nil {
		panic(err)
	}
}

func hearMQTT(p []byte) ([]byte, int, error) {
	v := mqtt.V5
	if len(p) > 0 && p[0] == mqttConnect {
		v = 0
	}
	h, fault := mqtt.Next(p, v, mqtt.MaxPacket)
	if fault != nil {
		return nil, 0, fault
	}
	if h.Size == 0 || len(p) < h.Total() {
		return nil, 0, nil
	}
	switch h.Type {
	case mqtt.CONNECT:
		c, fault := mqtt.ParseConnect(h, p[h.Size:h.Total()])
		if fault != nil || c.Version != mqtt.V5 || c.KeepAliveS != 0 {
			return nil, 0, fmt.Errorf("%+v, %v", c, fault)
		}
		return codec.AppendLogin(nil, &c.Login), h.Total(), nil
	case mqtt.PINGREQ:
		return codec.AppendEmpty(nil, codec.TypeHeartbeat), h.Total(), nil
	case mqtt.DISCONNECT:
		return codec.AppendEmpty(nil, codec.TypeLogout), h.Total(), nil
	}
	return nil, 0, fmt.Errorf("a %v", h.Type)
}

func sayMQTT(f codec.Frame, _ []byte) []byte {
	switch f.Type {
	case codec.TypeLoginOK:
		var m codec.LoginOK
		must(m.Unmarshal(f.Body))
		return mqtt.AppendLoginOK(nil, mqtt.V5, &m)
	case codec.TypeLoginRefused:
		var m codec.LoginRefused
		must(m.Unmarshal(f.Body))
		return mqtt.AppendLoginRefused(nil, mqtt.V5, &m)
	case codec.TypeForcedOffline:
		var m codec.ForcedOffline
		must(m.Unmarshal(f.Body))
		return mqtt.AppendForcedOffline(nil, mqtt.V5, &m)
	case codec.TypeRedirect:
		var m codec.Redirect
		must(m.Unmarshal(f.Body))
		return mqtt.AppendRedirect(nil, mqtt.V5, true, &m)
	case codec.TypeHeartbeatOK:
		return mqtt.AppendPingresp(nil)
	}
	return nil // a logout is answered by closing
}
