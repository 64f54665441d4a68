package engine

import (
	"bytes"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/ws"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// FuzzWSStream is FuzzStream for WebSocket: any stream, behind a handshake or not,
// cut anywhere, gives whole HTTP answers or whole frames, a Close frame last, never
// more held than a header or a handshake, and at the end a directory that was told.
func FuzzWSStream(f *testing.F) {
	head := ws.AppendRequest(nil, &ws.Request{Host: "x", Protocols: wsProtocols[:1], Origin: "https://example.org"})
	for _, json := range []bool{false, true} {
		k := wsLink{json: json}
		login := wsFrame(k.kind(), true, string(k.loginBytes(activeLogin("alice", codec.Web, "d1"))))
		beat := wsFrame(k.kind(), true, string(k.empty(codec.TypeHeartbeat)))
		out := wsFrame(k.kind(), true, string(k.empty(codec.TypeLogout)))
		for _, seed := range [][]byte{
			login, bytes.Join([][]byte{login, beat, out}, nil), bytes.Join([][]byte{login, wsFrame(ws.Ping, true, "p"), wsFrame(ws.Close, true, "\x03\xe8")}, nil),
			bytes.Join([][]byte{login, wsFrame(k.kind(), false, "{"), wsFrame(ws.Pong, true, ""), wsFrame(ws.Continuation, true, "}")}, nil),
			wsFrame(ws.Close, true, "x"), {0x82, 0xff}, beat[:5],
		} {
			f.Add(seed, uint8(7), uint8(1), json)
			f.Add(seed, uint8(0), uint8(3), json)
		}
	}
	f.Add(head, uint8(255), uint8(0), false)
	f.Add(head[:50], uint8(3), uint8(0), false)
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"), uint8(9), uint8(0), false)
	set := metrics.NewSet() // making one takes most of the time
	f.Fuzz(func(t *testing.T, stream []byte, cut, mode uint8, json bool) {
		r := newWSRig(t, func(o *Options) { o.Metrics, o.MaxPartialBytes = set, 4096 })
		before := closes(r)
		r.dir.hold = mode&2 != 0
		k := r.openWS()
		if mode&1 != 0 {
			protocol := wsNativeName
			if json {
				protocol = wsJSONName
			}
			k.upgrade(protocol, "")
		}
		for _, p := range pieces(stream, int(cut)+1) {
			k.send(p...)
			checkHeldWS(t, k, mode&1 != 0)
		}
		r.dir.hold = false
		r.dir.release()
		r.run()
		checkAnswersWS(t, k, mode&1 != 0)
		for range 3 { // leave or drain, then silence, whatever the state
			r.clk.Advance(401 * time.Second)
			r.run()
		}
		if r.core.Links() != 0 || len(r.loop.parts.bySlot) != 0 || r.loop.parts.bytes != 0 {
			t.Fatalf("the link is still %s, %d bytes in progress", k.s.State(), r.loop.parts.bytes)
		}
		if n := closes(r) - before; n != 1 {
			t.Fatalf("%d closes counted for one link", n)
		}
		checkLeaves(t, r)
	})
}

func checkHeldWS(t *testing.T, k *wsLink, upgraded bool) {
	t.Helper()
	limit := ws.MaxHead
	if upgraded {
		limit = ws.MaxHeader + ws.MaxControl
	}
	if len(k.in) >= limit {
		t.Fatalf("%d bytes held in state %s", len(k.in), k.s.State())
	}
	if n := k.loop.parts.bytes; n > 4096 {
		t.Fatalf("%d bytes of unfinished messages", n)
	}
}

// checkAnswersWS checks that what the client got is an HTTP answer, then whole
// messages, and that a link that ends says so with a Close frame, or in HTTP.
func checkAnswersWS(t *testing.T, k *wsLink, upgraded bool) {
	t.Helper()
	if !upgraded && len(k.conn.out) > 0 {
		n := bytes.Index(k.conn.out, []byte("\r\n\r\n")) + 4
		head := k.conn.out[:n]
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 101 ")) {
			if !bytes.HasPrefix(head, []byte("HTTP/1.1 4")) || k.s.State() != "draining" || !k.conn.fin {
				t.Fatalf("answered %q in state %s", k.conn.out, k.s.State())
			}
			return
		}
		k.json = bytes.Contains(head, []byte(wsJSONName))
		k.conn.out = k.conn.out[n:]
	}
	all := k.answers()
	for i, a := range all {
		if last := i == len(all)-1; bytes.HasPrefix([]byte(a), []byte("close ")) != (last && k.s.State() == "draining") {
			t.Fatalf("the client got %q, the link is %s", all, k.s.State())
		}
	}
	if k.s.State() == "draining" && (len(all) == 0 || !k.conn.fin) {
		t.Fatal("the link ends without a Close frame, or without FIN")
	}
}
