package engine

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// Any byte stream on an MQTT listener, cut anywhere, gives whole packets of the
// server's or a counted close: never a panic, never more held than a link may, one
// CONNACK before all else, nothing behind a DISCONNECT, and at the end a directory
// that was told of every end, and a loop that has forgotten the link.
func FuzzMQTTStream(f *testing.F) {
	for _, v := range []mqtt.Version{mqtt.V311, mqtt.V5} {
		in := phone(v).packet(v)
		small := phone(v)
		small.props = "\x27\x00\x00\x00\x80"
		sub := subscribePacket(v, 1, 0, "presence/alice", "x")
		for _, seed := range [][]byte{
			in, pingreq, small.packet(v),
			bytes.Join([][]byte{in, pingreq, disconnectGood}, nil),
			bytes.Join([][]byte{in, sub, sub, unsubscribePacket(v, 2, "presence/alice"), sub, pingreq}, nil),
			bytes.Join([][]byte{in, mqttPacket(0x32, mqttString("presence/self"), "\x00\x01", mqttProps(v, ""), "x"), sub}, nil),
			bytes.Join([][]byte{in, mqttPacket(0x32, mqttString("presence/self"), "\x00\x01", mqttProps(v, ""), strings.Repeat("x", 9000)), pingreq}, nil),
			bytes.Join([][]byte{in, mqttPacket(0x62, "\x00\x01"), in}, nil),
			bytes.Join([][]byte{small.packet(v), sub, disconnectGood}, nil),
		} {
			for _, hold := range []bool{false, true} {
				f.Add(seed, uint8(7), hold)
				f.Add(seed, uint8(255), hold)
			}
		}
	}
	set := metrics.NewSet()
	f.Fuzz(func(t *testing.T, stream []byte, cut uint8, hold bool) {
		r := mqttRig(t, func(o *Options) { o.Metrics = set })
		before := closes(r)
		r.dir.hold = hold
		k := r.mqttOpen(0)
		for rest := stream; len(rest) > 0; {
			n := min(len(rest), int(cut)+1)
			k.send(rest[:n]...)
			rest = rest[n:]
			if len(k.in) >= mqtt.MaxBeforeLogin {
				t.Fatalf("%d bytes held in state %s", len(k.in), k.s.State())
			}
		}
		id := k.s.ID()
		r.dir.hold = false
		r.dir.release()
		r.run()
		r.core.Changed([]directory.Change{loginChange(id, 9)})
		r.run()
		checkMQTTAnswers(t, r, k)
		for range 3 {
			r.clk.Advance(1201 * time.Second)
			r.run()
		}
		if r.core.Links() != 0 || len(r.loop.mqtt) != 0 {
			t.Fatalf("the link is still %s, %d states", k.s.State(), len(r.loop.mqtt))
		}
		if n := closes(r) - before; n != 1 {
			t.Fatalf("%d closes counted for one link", n)
		}
		checkLeaves(t, r)
		if log := strings.Join(r.dir.log, ","); strings.Count(log, "unfollow") == 0 && strings.Contains(log, "follow") {
			t.Fatalf("it still follows: %s", log)
		}
	})
}

// checkMQTTAnswers checks what the client got.
func checkMQTTAnswers(t *testing.T, r *rig, k *mqttEnd) {
	t.Helper()
	v := mqtt.V5
	if bytes.HasPrefix(k.conn.out, []byte{0x20, 2}) {
		v = mqtt.V311
	}
	last := false
	for n, out := 0, k.conn.out; len(out) > 0; n++ {
		pk, rest := nextMQTT(t, v, out)
		is := mqtt.Type(pk.FixedHeader.Type)
		switch {
		case last:
			t.Fatalf("%v behind the last packet", is)
		case (n == 0) != (is == mqtt.CONNACK): // [MQTT-3.2.0-1], [MQTT-3.2.0-2]
			t.Fatalf("packet %d is %v", n, is)
		}
		last = is == mqtt.DISCONNECT || is == mqtt.CONNACK && pk.ReasonCode != 0 // [MQTT-3.2.2-7], [MQTT-3.14.4-1]
		out = rest
	}
	if last && !k.conn.fin && !k.conn.closed {
		t.Fatal("the link goes on behind the last packet")
	}
	if len(r.dir.logins) == 0 && len(k.conn.out) > 0 && !last {
		t.Fatal("let in without the directory")
	}
}
