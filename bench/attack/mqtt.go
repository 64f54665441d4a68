package attack

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"
)

// Attacks on the MQTT listener. The packets are made by hand: no library makes
// the wrong ones.

// mqttString is a string with its length.
func mqttString(s string) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...)
}

// mqttPacket puts the header with its remaining length in front.
func mqttPacket(first byte, parts ...[]byte) []byte {
	body := bytes.Join(parts, nil)
	b := []byte{first}
	for n := len(body); ; {
		c := byte(n & 0x7f)
		if n >>= 7; n > 0 {
			b = append(b, c|0x80)
			continue
		}
		return append(append(b, c), body...)
	}
}

// mqttConnect is the i-th attacker's CONNECT, of 3.1.1 or 5.0, with some password.
func (a *Assault) mqttConnect(i int, version byte, password []byte) []byte {
	var properties []byte
	if version == 5 {
		properties = []byte{0}
	}
	return mqttPacket(0x10, mqttString("MQTT"), []byte{version, 0xc2, 0, 60}, properties, mqttString(fmt.Sprintf("device-%d", i)),
		mqttString(fmt.Sprintf("%d/%s/Android", a.target.App, attacker(i))), mqttString(string(password)))
}

func mqttSlow(a *Assault) {
	a.eachSlowly(a.size, func(i int) {
		c := a.dial(i, a.target.MQTT)
		if c == nil {
			return
		}
		defer a.closes(c)()
		a.trickle(c, a.mqttConnect(i, 5, []byte(strings.Repeat("x", 4000))), slowly)
	})
}

// mqttIn logs the i-th attacker in.
func (a *Assault) mqttIn(c net.Conn, i int) bool {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := c.Write(a.mqttConnect(i, 4, a.sig(attacker(i)))); err != nil {
		return false
	}
	var ack [4]byte // CONNACK, 2 bytes long, no session, accepted
	if _, err := c.Read(ack[:]); err != nil || ack != [4]byte{0x20, 2, 0, 0} {
		return false
	}
	a.count("logins")
	return true
}

// mqttHostile are what a client must not send; each ends the link.
func mqttHostile(a *Assault) [][]byte {
	good := a.mqttConnect(1, 4, []byte("x"))
	return [][]byte{
		{0x10, 0xff, 0xff, 0xff, 0xff, 0xff},                                               // a remaining length of five bytes
		append([]byte{0x10, 0xff, 0xff, 0xff, 0x7f}, bytes.Repeat([]byte{'x'}, 16<<10)...), // 256 MB to come
		{0xc0, 0},    // PINGREQ before CONNECT
		{0x00, 0},    // reserved
		{0xf0, 0},    // AUTH
		{0x11, 2, 0}, // CONNECT with flags in its header
		mqttPacket(0x10, mqttString("MQIsdp"), []byte{3, 2, 0, 60}, mqttString("d")),
		mqttPacket(0x10, mqttString("MQTT"), []byte{9, 2, 0, 60}, mqttString("d")),
		mqttPacket(0x10, mqttString("MQTT"), []byte{4, 0xc3, 0, 60}, mqttString("d")), // a reserved flag, and nothing behind
		mqttPacket(0x10, mqttString("MQTT"), []byte{5, 0xc2, 0, 60, 0xff, 0xff, 0xff, 0x7f}),
		mqttPacket(0x10, mqttString("MQTT"), []byte{4, 0xc2, 0, 60}, mqttString("\xff\xfe\x00"), mqttString("\xed\xa0\x80"), mqttString("x")),
		mqttPacket(0x10, mqttString("MQTT"), []byte{4, 0xc2, 0, 60}, []byte{0xff, 0xff, 'd'}),
		append(good, good...),
		append(good, mqttPacket(0x82, []byte{0, 1}, mqttString(strings.Repeat("+/", 4000)+"#"), []byte{2})...),
	}
}

func mqttGarbage(a *Assault) {
	all := mqttHostile(a)
	a.each(a.size, func(int) {
		c := a.dial(rand.IntN(addresses), a.target.MQTT)
		if c == nil {
			return
		}
		defer a.closes(c)()
		a.ask(c, all[rand.IntN(len(all))], 10*time.Second)
		a.count("packets")
	})
}

// mqttUnread logs in, pings and subscribes, and never reads what comes back.
func mqttUnread(a *Assault) {
	burst := bytes.Repeat([]byte{0xc0, 0}, 4096)
	a.each(a.size, func(i int) {
		c := a.dial(i, a.target.MQTT)
		if c == nil {
			return
		}
		defer a.closes(c)()
		_ = c.SetReadBuffer(4096)
		if !a.mqttIn(c, i) {
			a.pause(100 * time.Millisecond)
			return
		}
		for {
			_ = c.SetWriteDeadline(time.Now().Add(10 * time.Second))
			if _, err := c.Write(burst); err != nil {
				a.closedOn()
				return
			}
			a.count("bursts")
		}
	})
}
