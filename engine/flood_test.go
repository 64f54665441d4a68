package engine

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/codec/ws"
)

// asked are units that a client wants answered, by what it speaks.
var asked = map[string]struct {
	open func(t *testing.T, change func(*Options)) *link // logged in
	unit func() []byte
}{
	"native heartbeat": {openNativeIn, func() []byte { return heartbeat }},
	"ws ping":          {openWSIn(wsNativeName), func() []byte { return wsFrame(ws.Ping, true, "abc") }},
	"ws heartbeat":     {openWSIn(wsNativeName), func() []byte { return wsFrame(ws.Binary, true, string(heartbeat)) }},
	"json heartbeat":   {openWSIn(wsJSONName), func() []byte { return wsFrame(ws.Text, true, `{"Type":"Heartbeat"}`) }},
	"mqtt 3.1.1 ping":  {openMQTTIn(mqtt.V311), func() []byte { return []byte{0xc0, 0} }},
	"mqtt 5 ping":      {openMQTTIn(mqtt.V5), func() []byte { return []byte{0xc0, 0} }},
	"mqtt unsubscribe": {openMQTTIn(mqtt.V5), func() []byte {
		return mqttPacket(0xa2, "\x00\x01", mqttProps(mqtt.V5, ""), mqttString("presence/alice"))
	}},
	"mqtt subscribe": {openMQTTIn(mqtt.V311), func() []byte { return mqttPacket(0x82, "\x00\x01", mqttString("presence/bob"), "\x00") }},
}

func openNativeIn(t *testing.T, change func(*Options)) *link {
	k := newRig(t, change).open()
	k.login("alice", codec.Android, "d1")
	return k
}

func openWSIn(protocol string) func(*testing.T, func(*Options)) *link {
	return func(t *testing.T, change func(*Options)) *link {
		k := newWSRig(t, change).openWS().upgrade(protocol, "")
		k.login("alice")
		return k.link
	}
}

func openMQTTIn(v mqtt.Version) func(*testing.T, func(*Options)) *link {
	return func(t *testing.T, change func(*Options)) *link {
		k := mqttRig(t, change).mqttOpen(v)
		k.enter()
		return k.link
	}
}

// What a client wants answered at once has a bound: beyond it the link ends, however it
// speaks. Any number may come one after the other.
func TestAskedAtOnce(t *testing.T) {
	const most = 5
	for name, tt := range asked {
		t.Run(name, func(t *testing.T) {
			for n := most - 1; n <= most+1; n++ {
				k := tt.open(t, func(o *Options) { o.MaxPipelined = most })
				k.conn.out = nil
				for range 3 * most {
					k.send(tt.unit()...)
				}
				one := len(k.conn.out) / (3 * most)
				k.wantState("online")
				k.conn.out, k.dir.log = nil, nil
				k.send(bytes.Repeat(tt.unit(), n)...)
				if n <= most {
					k.wantState("online")
					if got := len(k.conn.out); one == 0 || got != n*one {
						t.Errorf("%d at once: answered with %d bytes, want %d", n, got, n*one)
					}
					continue
				}
				k.wantState("draining")
				k.wantLog("leave alice LinkClosed")
				k.wantCloses(closeProtocol, 1)
			}
		})
	}
}

// The same before the login, where a ping is answered too.
func TestPingedAtOnceBeforeLogin(t *testing.T) {
	const most = 5
	for n := most - 1; n <= most+1; n++ {
		k := newWSRig(t, func(o *Options) { o.MaxPipelined = most }).openWS().upgrade(wsJSONName, "")
		k.send(bytes.Repeat(wsFrame(ws.Ping, true, "abc"), n)...)
		want := "new"
		if n > most {
			want = "draining"
		}
		k.wantState(want)
	}
}

// Over TLS it is what was read at once that counts, in however many records.
func TestAskedAtOnceTLS(t *testing.T) {
	const most, record = 5, 5 + 4 + 1 + 16 // header, heartbeat, type, tag
	for n := most - 1; n <= most+1; n++ {
		k := secureRig(t).openSecured()
		k.core.o.MaxPipelined = most
		k.logIn()
		records := make(chan []byte, 1)
		go func() {
			for range 2 * n {
				_, _ = k.client.Write(heartbeat)
			}
			records <- nil
		}()
		var wire []byte
		for len(wire) < 2*n*record {
			wire = append(wire, <-k.said...)
		}
		<-records
		for i := range n { // one after the other
			k.arrive(wire[i*record : (i+1)*record])
		}
		k.run()
		if got := k.count("rollcall_heartbeats_total"); k.s.state != stateOnline || got != fmt.Sprint(n) {
			t.Fatalf("%v after %s heartbeats one by one", k.s.state, got)
		}
		k.arrive(wire[n*record:])
		if ended := k.s.state != stateOnline; ended != (n > most) {
			t.Errorf("%d at once: %v", n, k.s.state)
		}
	}
}

// A client that sends on and on after its link's end is cut off, whatever it speaks;
// the rest of what it had under way is read, so that it learns why.
func TestSendsOnAfterTheEnd(t *testing.T) {
	for name, tt := range asked {
		t.Run(name, func(t *testing.T) {
			k := tt.open(t, func(*Options) {})
			k.core.ForcedOffline(noticesOf(k.s.id))
			k.run()
			k.wantState("draining")
			const cut = "rollcall_drains_cut_total"
			for sent := 0; sent < maxDiscarded; sent += 1 << 16 {
				k.send(make([]byte, 1<<16)...)
			}
			if k.wantState("draining"); k.conn.closed || k.count(cut) != "0" {
				t.Fatalf("closed %v, %s cut", k.conn.closed, k.count(cut))
			}
			k.send(make([]byte, 1)...)
			if k.wantState("free"); !k.conn.closed || k.count(cut) != "1" {
				t.Errorf("closed %v, %s cut", k.conn.closed, k.count(cut))
			}
		})
	}
}

// What was held or to be skipped when the link ended does not count against its client.
func TestLittleBehindAnUnfinishedFrame(t *testing.T) {
	k := openNativeIn(t, func(*Options) {})
	k.send(codec.AppendHeader(nil, 40, codec.FlagOptional, 60_000)...)
	k.send(make([]byte, 100)...)
	k.core.ForcedOffline(noticesOf(k.s.id))
	k.run()
	k.send(make([]byte, maxDiscarded)...)
	if k.wantState("draining"); k.s.discarded() != maxDiscarded {
		t.Errorf("%d bytes discarded, want %d", k.s.discarded(), maxDiscarded)
	}
}
