package engine

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/jsonmsg"
	"github.com/rollcall-im/rollcall/codec/ws"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// newWSRig is a rig with a WebSocket listener beside the native one.
func newWSRig(tb testing.TB, change ...func(*Options)) *rig {
	return newRig(tb, append([]func(*Options){func(o *Options) {
		o.Listeners = append(nativeAt(":1"), Listener{Name: "ws", Address: ":2", Protocol: presence.ProtocolWS})
	}}, change...)...)
}

// openWS opens a link on the WebSocket listener.
func (r *rig) openWS() *wsLink {
	r.tb.Helper()
	conn := &fakeConn{addr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort("192.0.2.1:4712"))}
	s, refusal := r.loop.Open(conn, 1, r.core.Now())
	if s == nil {
		r.tb.Fatalf("the link was refused: %q", refusal)
	}
	return &wsLink{link: &link{rig: r, s: s, conn: conn}}
}

// wsLink is a WebSocket client's end.
type wsLink struct {
	*link
	json bool
}

// upgrade does the opening handshake.
func (k *wsLink) upgrade(protocol, origin string) *wsLink {
	k.tb.Helper()
	r := ws.Request{Host: "rollcall.example:7701", Protocols: []string{protocol}, Origin: origin}
	k.send(ws.AppendRequest(nil, &r)...)
	got, n, err := r.CheckAnswer(k.conn.out)
	if err != nil || got != protocol {
		k.tb.Fatalf("the handshake gave %q, %v: %q", got, err, k.conn.out)
	}
	k.conn.out = k.conn.out[n:]
	k.json = protocol == wsJSONName
	return k
}

var testMask = [4]byte{0x37, 0xfa, 0x21, 0x3d}

// wsFrame is a client's frame.
func wsFrame(op ws.Op, fin bool, payload string) []byte {
	return ws.Mask([]byte(payload), 0, op, fin, testMask)
}

// kind is the opcode of the sub-protocol's messages.
func (k *wsLink) kind() ws.Op {
	if k.json {
		return ws.Text
	}
	return ws.Binary
}

// say sends a message in one frame.
func (k *wsLink) say(payload []byte) { k.send(wsFrame(k.kind(), true, string(payload))...) }

// empty is a message without fields in the sub-protocol's form.
func (k *wsLink) empty(t codec.Type) []byte {
	if k.json {
		return jsonmsg.AppendEmpty(nil, t)
	}
	return codec.AppendEmpty(nil, t)
}

// loginBytes is a login in the sub-protocol's form.
func (k *wsLink) loginBytes(m *codec.Login) []byte {
	if k.json {
		return jsonmsg.AppendLogin(nil, m)
	}
	return codec.AppendLogin(nil, m)
}

// login logs the device in.
func (k *wsLink) login(user string) {
	k.tb.Helper()
	k.say(k.loginBytes(activeLogin(user, codec.Web, "d1")))
	k.wantAnswers("LoginOK")
}

// answers takes all that the client got and writes it down: messages by name, with
// the code's name where they have one, control frames with their payload.
func (k *wsLink) answers() (all []string) {
	k.tb.Helper()
	for len(k.conn.out) > 0 {
		h, n, err := ws.NextHeader(k.conn.out, ws.FromServer, 1<<20)
		if err != nil || n == 0 || len(k.conn.out) < n+h.Length || !h.Fin {
			k.tb.Fatalf("the server sent %x: %v", k.conn.out, err)
		}
		all = append(all, k.describe(h.Op, k.conn.out[n:n+h.Length]))
		k.conn.out = k.conn.out[n+h.Length:]
	}
	return all
}

func (k *wsLink) describe(op ws.Op, payload []byte) string {
	k.tb.Helper()
	switch op {
	case ws.Pong:
		return fmt.Sprintf("pong %q", payload)
	case ws.Close:
		code, reason, err := ws.ParseClose(payload)
		if err != nil {
			k.tb.Fatalf("the server closes with %x: %v", payload, err)
		}
		return strings.TrimSpace(fmt.Sprintf("close %d %s", code, reason))
	case k.kind():
		return k.name(payload)
	}
	k.tb.Fatalf("the server sent opcode %d: %q", op, payload)
	return ""
}

// name is a message's name and code.
func (k *wsLink) name(payload []byte) string {
	k.tb.Helper()
	t, refused, forced := k.decode(payload)
	if code := refused.Code + forced.Code; code != 0 {
		if refused.Text+forced.Text == "" {
			k.tb.Fatalf("%q has no text", payload)
		}
		return fmt.Sprintf("%v %v", t, code)
	}
	return t.String()
}

func (k *wsLink) decode(payload []byte) (t codec.Type, refused codec.LoginRefused, forced codec.ForcedOffline) {
	k.tb.Helper()
	var err error
	if k.json {
		var m jsonmsg.Message
		if m, err = jsonmsg.Parse(payload); err == nil {
			t = m.Type
		}
		if t == codec.TypeLoginRefused {
			err = m.LoginRefused(&refused)
		}
		if t == codec.TypeForcedOffline {
			err = m.ForcedOffline(&forced)
		}
	} else {
		var f codec.Frame
		var n int
		if f, n, err = codec.Next(payload, codec.MaxFrame); err == nil && n != len(payload) {
			k.tb.Fatalf("a message of %x, one frame is wanted", payload)
		}
		t = f.Type
		if t == codec.TypeLoginRefused {
			err = refused.Unmarshal(f.Body)
		}
		if t == codec.TypeForcedOffline {
			err = forced.Unmarshal(f.Body)
		}
	}
	if err != nil {
		k.tb.Fatalf("the server says %q: %v", payload, err)
	}
	return t, refused, forced
}

func (k *wsLink) wantAnswers(want ...string) {
	k.tb.Helper()
	if got := k.answers(); !slices.Equal(got, want) {
		k.tb.Fatalf("the client got %q, want %q", got, want)
	}
}

// ends is what a client is told that is forced offline with a code.
func ends(name string, code codec.Code) []string {
	info, _ := code.Info()
	return []string{fmt.Sprintf("%s %v", name, code), fmt.Sprintf("close %d %s", info.WSClose, info.Name)}
}

// wantEnd checks the last words, and that the link drains.
func (k *wsLink) wantEnd(want ...string) {
	k.tb.Helper()
	k.wantAnswers(want...)
	k.wantState("draining")
	if !k.conn.fin {
		k.tb.Fatal("no half-close")
	}
}

// eachSub runs a test on both sub-protocols.
func eachSub(t *testing.T, f func(t *testing.T, protocol string)) {
	for _, p := range wsProtocols {
		t.Run(p, func(t *testing.T) { f(t, p) })
	}
}

// pieces cuts p into pieces of n bytes.
func pieces(p []byte, n int) [][]byte { return slices.Collect(slices.Chunk(bytes.Clone(p), n)) }
