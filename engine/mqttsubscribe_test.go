package engine

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// subscribePacket is a SUBSCRIBE to topics, each with the options.
func subscribePacket(v mqtt.Version, id byte, options byte, topics ...string) []byte {
	parts := []string{"\x00" + string([]byte{id}), mqttProps(v, "")}
	for _, topic := range topics {
		parts = append(parts, mqttString(topic), string([]byte{options}))
	}
	return mqttPacket(0x82, parts...)
}

func unsubscribePacket(v mqtt.Version, id byte, topics ...string) []byte {
	parts := []string{"\x00" + string([]byte{id}), mqttProps(v, "")}
	for _, topic := range topics {
		parts = append(parts, mqttString(topic))
	}
	return mqttPacket(0xa2, parts...)
}

// aliceState is what the fake directory says of alice: her phone at sequence number seq.
func aliceState(seq uint64) presence.User {
	return presence.User{Registered: true, Seq: seq, Instances: []presence.Instance{{
		InstID: 1, Status: presence.Online, LoginMS: 5, Device: presence.Device{Platform: presence.Android, ID: "d1", SDKVersion: "1.2.3", Model: `Model "9"`},
	}}}
}

// subscribed logs alice's phone in and subscribes it.
func (r *rig) subscribed(v mqtt.Version) *mqttEnd {
	r.tb.Helper()
	k := r.mqttOpen(v)
	k.enter()
	k.send(subscribePacket(v, 7, 0, "presence/alice")...)
	k.wantSuback(7, 0)
	k.wantStatus(true)
	return k
}

func (k *mqttEnd) wantSuback(id uint16, codes ...byte) {
	k.tb.Helper()
	pk := k.next(mqtt.SUBACK)
	if pk.PacketID != id || !bytes.Equal(pk.ReasonCodes, codes) {
		k.tb.Fatalf("SUBACK of %d with %x, want %d with %x", pk.PacketID, pk.ReasonCodes, id, codes)
	}
}

// wantStatus takes a PUBLISH about alice.
func (k *mqttEnd) wantStatus(retained bool) (m map[string]any) {
	k.tb.Helper()
	pk := k.next(mqtt.PUBLISH)
	if pk.FixedHeader.Retain != retained || pk.FixedHeader.Qos != 0 || pk.TopicName != "presence/alice" {
		k.tb.Fatalf("PUBLISH %+v", pk)
	}
	if err := json.Unmarshal(pk.Payload, &m); err != nil {
		k.tb.Fatal(err)
	}
	return m
}

// login is the change that a login of another device of alice's makes.
func loginChange(link presence.LinkID, seq uint64) directory.Change {
	u := aliceState(seq)
	web := presence.Instance{InstID: 2, Status: presence.Online, Device: presence.Device{Platform: presence.Web, ID: "w1"}}
	u.Instances = append(u.Instances, web)
	return directory.Change{Link: link, User: &u, Transitions: []presence.Transition{
		{Seq: seq, TimeMS: 1000 + int64(seq), Action: presence.ActionLogin, Reason: presence.ReasonRegister, Inst: web},
	}}
}

func TestMQTTSubscribe(t *testing.T) {
	bothVersions(t, func(t *testing.T, v mqtt.Version) {
		r := mqttRig(t)
		r.dir.state = aliceState(3)
		k := r.mqttOpen(v)
		k.enter()
		k.send(subscribePacket(v, 7, 2, "presence/alice")...)
		k.wantSuback(7, 0) // QoS 0, whatever was asked for [MQTT-3.8.4-7]
		m := k.wantStatus(true)
		want := map[string]any{"UserID": "alice", "Status": "Online", "Seq": 3.0, "TimeMS": float64(testStart.UnixMilli()), "Instances": []any{map[string]any{
			"InstID": 1.0, "Platform": "Android", "Status": "Online", "SDKVersion": "1.2.3", "DeviceModel": `Model "9"`, "LoginMS": 5.0,
		}}}
		if fmt.Sprint(m) != fmt.Sprint(want) {
			t.Errorf("the state is\n%v, want\n%v", m, want)
		}
		// What the state had already is not told again; the rest is, in order.
		r.core.Changed([]directory.Change{loginChange(k.s.ID(), 3), loginChange(k.s.ID(), 4), loginChange(k.s.ID(), 5)})
		r.run()
		for _, seq := range []float64{4, 5} {
			m := k.wantStatus(false)
			if m["Seq"] != seq || m["TimeMS"] != 1000+seq || m["Action"] != "Login" || m["Reason"] != "Register" || m["Platform"] != "Web" || m["InstID"] != 2.0 || len(m["Instances"].([]any)) != 2 {
				t.Errorf("the change is %v", m)
			}
		}
		k.wantNothing()
		k.send(unsubscribePacket(v, 8, "presence/alice", "presence/alice", "presence/bob")...)
		pk := k.next(mqtt.UNSUBACK)
		if v == mqtt.V5 && !bytes.Equal(pk.ReasonCodes, []byte{0, 0x11, 0x11}) || pk.PacketID != 8 { // [MQTT-3.11.3-1]
			t.Errorf("UNSUBACK %+v", pk)
		}
		r.core.Changed([]directory.Change{loginChange(k.s.ID(), 6)}) // [MQTT-3.10.4-2]
		r.run()
		k.wantNothing()
		r.wantLog("login alice", "follow alice", "unfollow alice")
		if len(r.loop.mqtt) != 0 {
			t.Errorf("%d states of an idle link", len(r.loop.mqtt))
		}
		k.fin()
		r.wantLog("leave alice LinkClosed")
	})
}

// Which filters are granted, and what the others get.
func TestMQTTFilters(t *testing.T) {
	for _, tc := range []struct {
		topic string
		v5    byte
	}{
		{"presence/alice", 0},
		{"presence/%61lice", 0},
		{"presence/bob", 0x87},
		{"presence/self", 0x87},
		{"presence/Alice", 0x87},
		{"presence/", 0x8f},
		{"presence/a/b", 0x8f},
		{"presence/%zz", 0x8f},
		{"a/b", 0x8f},
		{"$SYS/x", 0x8f},
		{"/presence/alice", 0x8f},
	} {
		bothVersions(t, func(t *testing.T, v mqtt.Version) {
			r := mqttRig(t)
			k := r.mqttOpen(v)
			k.enter()
			k.send(subscribePacket(v, 1, 0, "x", tc.topic)...)
			code, x := tc.v5, byte(0x8f)
			if v == mqtt.V311 {
				x = 0x80
				if code != 0 {
					code = 0x80 // 3.1.1: [MQTT-3.9.3-2]
				}
			}
			k.wantSuback(1, x, code)
			if code == 0 {
				if pk := k.next(mqtt.PUBLISH); pk.TopicName != tc.topic { // [MQTT-3.3.2-3]
					t.Errorf("published to %q", pk.TopicName)
				}
			}
			k.wantNothing()
			k.wantState("online")
		})
	}
	for name, tc := range map[string]struct {
		p      []byte
		reason byte
	}{
		"a wildcard, section 3.2.2.3.11":               {subscribePacket(mqtt.V5, 1, 0, "presence/alice", "presence/+"), 0xa2},
		"#":                                            {subscribePacket(mqtt.V5, 1, 0, "#"), 0xa2},
		"a shared one, section 3.2.2.3.13":             {subscribePacket(mqtt.V5, 1, 0, "$share/g/presence/alice"), 0x9e},
		"a shared one, No Local [MQTT-3.8.3-4]":        {subscribePacket(mqtt.V5, 1, 4, "$share/g/presence/alice"), 0x82},
		"an identified one, section 3.2.2.3.12":        {mqttPacket(0x82, "\x00\x01", "\x02\x0b\x01", mqttString("presence/alice"), "\x00"), 0xa1},
		"reserved option bits [MQTT-3.8.3-5]":          {subscribePacket(mqtt.V5, 1, 0x80, "presence/alice"), 0x81},
		"UNSUBSCRIBE without a filter [MQTT-3.10.3-2]": {unsubscribePacket(mqtt.V5, 1), 0x82},
	} {
		r := mqttRig(t)
		k := r.mqttOpen(mqtt.V5)
		k.enter()
		k.send(tc.p...)
		if pk := k.next(mqtt.DISCONNECT); pk.ReasonCode != tc.reason {
			t.Errorf("%s: DISCONNECT %#x, want %#x", name, pk.ReasonCode, tc.reason)
		}
		k.wantClosed()
		r.wantLog("login alice", "leave alice LinkClosed")
	}
	r := mqttRig(t) // 3.1.1 has codes in SUBACK for it, and no words
	k := r.mqttOpen(mqtt.V311)
	k.enter()
	k.send(subscribePacket(mqtt.V311, 1, 1, "#", "presence/+", "$share/g/presence/alice")...)
	k.wantSuback(1, 0x80, 0x80, 0x80)
}

// A UserID with characters that mean something in a topic.
func TestMQTTSubscribeOddUser(t *testing.T) {
	const user = "a/b+c#%"
	r := mqttRig(t)
	k := r.mqttOpen(mqtt.V5)
	c := phone(mqtt.V5)
	c.user, c.password = "1400000000/"+user+"/Android", string(sign(user))
	k.connect(c)
	k.wantConnack(0)
	k.send(subscribePacket(mqtt.V5, 1, 0, "presence/a%2Fb%2Bc%23%25")...)
	k.wantSuback(1, 0)
	if pk := k.next(mqtt.PUBLISH); pk.TopicName != mqtt.Topic(user) {
		t.Errorf("published to %q", pk.TopicName)
	}
	r.wantLog("login "+user, "follow "+user)
}

// Subscription options: Retain Handling, Retain As Published, No Local.
func TestMQTTSubscriptionOptions(t *testing.T) {
	for _, tc := range []struct {
		name          string
		options       byte
		first, second bool // is the state sent to a new subscription, to one that is there?
		rap           bool
	}{
		{"Retain Handling 0 [MQTT-3.3.1-9]", 0x00, true, true, false},
		{"Retain Handling 1 [MQTT-3.3.1-10]", 0x10, true, false, false},
		{"Retain Handling 2 [MQTT-3.3.1-11]", 0x20, false, false, false},
		{"Retain As Published [MQTT-3.3.1-13]", 0x08, true, true, true},
		{"No Local", 0x04, true, true, false},
	} {
		r := mqttRig(t)
		k := r.mqttOpen(mqtt.V5)
		k.enter()
		for i, state := range []bool{tc.first, tc.second} {
			k.send(subscribePacket(mqtt.V5, 1, tc.options, "presence/alice")...)
			k.wantSuback(1, 0)
			if state {
				k.wantStatus(true)
			}
			r.core.Changed([]directory.Change{loginChange(k.s.ID(), uint64(10+i))})
			r.run()
			k.wantStatus(tc.rap) // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
			k.wantNothing()
		}
	}
}

// While a SUBSCRIBE waits for the directory, pings are answered, and what asks for
// more waits behind it, in order. Changes of the subscription that is there go on.
// [MQTT-3.8.4-4]
func TestMQTTSubscribeWaits(t *testing.T) {
	r := mqttRig(t)
	r.dir.state = aliceState(3)
	k := r.subscribed(mqtt.V5)
	r.dir.hold = true
	k.send(subscribePacket(mqtt.V5, 8, 0, "presence/alice")...)
	k.send(bytes.Join([][]byte{unsubscribePacket(mqtt.V5, 9, "presence/alice"), subscribePacket(mqtt.V5, 10, 0, "presence/alice"), pingreq}, nil)...)
	k.next(mqtt.PINGRESP)
	k.wantNothing()
	r.core.Changed([]directory.Change{loginChange(k.s.ID(), 4)})
	r.run()
	k.wantStatus(false)
	r.dir.state = aliceState(5)
	r.dir.release()
	r.run()
	k.wantSuback(8, 0)
	if m := k.wantStatus(true); m["Seq"] != 5.0 {
		t.Errorf("the state is %v", m)
	}
	k.next(mqtt.UNSUBACK)
	k.wantNothing() // the last one waits for the directory again
	r.core.Changed([]directory.Change{loginChange(k.s.ID(), 6)})
	r.run()
	k.wantNothing()
	r.dir.state = aliceState(6)
	r.dir.release()
	r.run()
	k.wantSuback(10, 0)
	k.wantStatus(true)
	r.wantLog("login alice", "follow alice", "follow alice", "unfollow alice", "follow alice")

	k.send(subscribePacket(mqtt.V5, 11, 0, "presence/alice")...) // held
	big := subscribePacket(mqtt.V5, 12, 0, strings.Repeat("x", mqtt.MaxBeforeLogin-9))
	if len(big) != mqtt.MaxBeforeLogin {
		t.Fatalf("%d bytes", len(big))
	}
	k.send(big...)
	k.wantState("online")
	k.send(unsubscribePacket(mqtt.V5, 13, "x")...)
	k.wantEnd(0x97)
	r.dir.hold = false
	k.fin()
	r.dir.release()
	r.run()
	r.wantLog("follow alice", "leave alice LinkClosed", "unfollow alice")
}

// Before CONNACK a SUBSCRIBE waits too.
func TestMQTTSubscribeBeforeConnack(t *testing.T) {
	bothVersions(t, func(t *testing.T, v mqtt.Version) {
		r := mqttRig(t)
		r.dir.state = aliceState(1)
		k := r.mqttOpen(v)
		r.dir.hold = true
		k.send(append(phone(v).packet(v), subscribePacket(v, 1, 0, "presence/alice")...)...)
		r.dir.release()
		r.run()
		k.wantConnack(0)
		k.wantNothing()
		r.dir.hold = false
		r.dir.release()
		r.run()
		k.wantSuback(1, 0)
		k.wantStatus(true)
	})
}

// The directory says no: SUBACK says so, and a subscription that was there stays.
func TestMQTTSubscribeFails(t *testing.T) {
	bothVersions(t, func(t *testing.T, v mqtt.Version) {
		r := mqttRig(t)
		r.dir.followCode = directory.CodeUnavailable
		k := r.mqttOpen(v)
		k.enter()
		k.send(subscribePacket(v, 1, 0, "presence/alice")...)
		k.wantSuback(1, 0x80)
		k.wantNothing()
		if len(r.loop.mqtt) != 0 {
			t.Errorf("%d states of an idle link", len(r.loop.mqtt))
		}
		r.dir.followCode = 0
		k.send(subscribePacket(v, 2, 0, "presence/alice")...)
		k.wantSuback(2, 0)
		k.wantStatus(true)
		r.dir.followCode = directory.CodeUnavailable
		k.send(subscribePacket(v, 3, 0, "presence/alice")...)
		k.wantSuback(3, 0x80)
		r.core.Changed([]directory.Change{loginChange(k.s.ID(), 9)})
		r.run()
		k.wantStatus(false)
	})
}

// One subscription per link: the same user under another spelling is one too many.
func TestMQTTOneSubscription(t *testing.T) {
	r := mqttRig(t)
	k := r.subscribed(mqtt.V5)
	k.send(subscribePacket(mqtt.V5, 1, 0, "presence/%61lice")...)
	k.wantSuback(1, 0x97)
	k.send(subscribePacket(mqtt.V5, 2, 0, "presence/%61lice", "presence/alice")...)
	k.wantSuback(2, 0x97, 0)
	k.wantStatus(true)
	other := r.mqttOpen(mqtt.V5)
	other.enter()
	other.send(subscribePacket(mqtt.V5, 1, 0, "presence/alice", "presence/%61lice")...)
	other.wantSuback(1, 0, 0x97)
}

// However a link ends, what it followed ends too.
func TestMQTTUnfollows(t *testing.T) {
	for name, end := range map[string]func(*rig, *mqttEnd){
		"logout": func(_ *rig, k *mqttEnd) { k.send(disconnectGood...); k.fin() },
		"FIN":    func(_ *rig, k *mqttEnd) { k.fin() },
		"fault":  func(_ *rig, k *mqttEnd) { k.send(0xff); k.fin() },
		"forced": func(r *rig, k *mqttEnd) {
			r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseREST}})
			r.run()
			k.fin()
		},
		"silence":     func(r *rig, _ *mqttEnd) { r.advance(402e9) },
		"slow reader": func(r *rig, k *mqttEnd) { k.conn.stuck = true; floodChanges(r, k) },
	} {
		r := mqttRig(t)
		k := r.subscribed(mqtt.V5)
		end(r, k)
		r.run()
		if n := strings.Count(strings.Join(r.dir.log, ","), "unfollow alice"); n != 1 || len(r.loop.mqtt) != 0 {
			t.Errorf("%s: %d unfollows, %d states; %q", name, n, len(r.loop.mqtt), r.dir.log)
		}
	}
}

// floodChanges sends a client more changes than it reads.
func floodChanges(r *rig, k *mqttEnd) {
	for seq := uint64(10); k.s.State() == "online"; seq++ {
		r.core.Changed([]directory.Change{loginChange(k.s.ID(), seq)})
		r.run()
		if seq > 10_000 {
			r.tb.Fatal("a client that does not read is told for ever")
		}
	}
}

// Updates count against the outbound cap.
func TestMQTTSlowSubscriber(t *testing.T) {
	r := mqttRig(t)
	k := r.subscribed(mqtt.V5)
	k.conn.stuck = true
	floodChanges(r, k)
	r.wantCloses(closeSlowReader, 1)
	if k.conn.buffered > r.core.o.OutboundCap+1000 {
		t.Errorf("%d bytes wait", k.conn.buffered)
	}
}

// A forced-offline link hears its DISCONNECT, and no change of the decision that
// pushed it out.
func TestMQTTForcedOfflineSubscriber(t *testing.T) {
	r := mqttRig(t)
	k := r.subscribed(mqtt.V5)
	r.core.ForcedOffline([]directory.Notice{{Link: k.s.ID(), Cause: directory.CauseAnotherLogin}})
	r.core.Changed([]directory.Change{loginChange(k.s.ID(), 9)})
	r.run()
	k.wantEnd(0x8e)
	if got := r.core.m.changesStale.Get(); got != 1 {
		t.Errorf("%d stale changes", got)
	}
}

// Where more changes come than may wait, subscribers are closed rather than left
// with a gap. N, N+1.
func TestMQTTChangesAreBounded(t *testing.T) {
	const most = 3
	for n, lost := range map[int]bool{most: false, most + 1: true} {
		r := mqttRig(t, func(o *Options) { o.MaxPendingChanges = most })
		k, plain := r.subscribed(mqtt.V5), r.mqttOpen(mqtt.V5)
		plain.enter()
		r.loop.running = true // a call runs: what comes waits
		for i := range n {
			r.core.Changed([]directory.Change{loginChange(k.s.ID(), uint64(10+i))})
		}
		r.loop.running = false
		r.run()
		for range most {
			k.wantStatus(false)
		}
		if lost {
			p := propsOf(k.wantEnd(0x89)) // it is the server's fault: come back, but not all at once
			if p["code"] != decimal(uint32(codec.CodeOverloaded)) || p["may-reconnect"] != "true" || p["retry-after-ms"] == "" {
				t.Errorf("DISCONNECT with %v", p)
			}
			r.wantCloses(closeOverloaded, 1)
		} else {
			k.wantNothing()
			k.wantState("online")
		}
		plain.wantNothing()
		plain.wantState("online")
		if got := r.core.m.changesDropped.Get(); (got > 0) != lost {
			t.Errorf("%d changes dropped", got)
		}
		if r.loop.changes.Load() != 0 || r.loop.changesLost.Load() {
			t.Error("the bound does not come free again")
		}
	}
}

// A change for a link or loop that is not there is counted, not told.
func TestMQTTStaleChanges(t *testing.T) {
	r := mqttRig(t)
	k := r.mqttOpen(mqtt.V5)
	k.enter()
	r.core.Changed([]directory.Change{loginChange(k.s.ID(), 9), loginChange(presence.MakeLinkID(0, 99999, 1), 9), loginChange(presence.MakeLinkID(9, 0, 1), 9)})
	r.run()
	k.wantNothing()
	if got := r.core.m.changesStale.Get(); got != 3 {
		t.Errorf("%d stale changes, want 3", got)
	}
}

// A status that is larger than the client takes counts as sent. [MQTT-3.1.2-25]
func TestMQTTStatusTooLarge(t *testing.T) {
	r := mqttRig(t)
	k := r.mqttOpen(mqtt.V5)
	c := phone(mqtt.V5)
	c.props = "\x27\x00\x00\x00\x40"
	k.connect(c)
	k.wantConnack(0)
	k.send(subscribePacket(mqtt.V5, 1, 0, "presence/alice")...)
	k.wantSuback(1, 0)
	k.wantNothing()
	k.send(unsubscribePacket(mqtt.V5, 1, "presence/alice")...)
	k.next(mqtt.UNSUBACK)
	if len(r.loop.mqtt) != 1 { // its limit
		t.Errorf("%d states", len(r.loop.mqtt))
	}
}
