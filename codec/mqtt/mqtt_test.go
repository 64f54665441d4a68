package mqtt

import (
	"bytes"
	"strings"
	"testing"
)

// goodPackets are packets of each type that a client sends, by version.
func goodPackets(v Version) map[string][]byte {
	if v == V311 {
		return map[string][]byte{
			"CONNECT":      connect311(0xc2, phone...),
			"CONNECT will": connect311(0xee, str("d1"), str("gone"), str(""), str(aliceName), str("sig")),
			"PUBLISH 0":    build(0x31, str("a/b"), "payload"),
			"PUBLISH 1":    build(0x3a, str("a/b"), "\x00\x07"),
			"PUBLISH 2":    build(0x34, str("a/b"), "\xff\xff", "x"),
			"PUBACK":       build(0x40, "\x00\x01"),
			"PUBREC":       build(0x50, "\x00\x01"),
			"PUBREL":       build(0x62, "\x00\x01"),
			"PUBCOMP":      build(0x70, "\x00\x01"),
			"SUBSCRIBE":    build(0x82, "\x00\x01", str("presence/alice"), "\x02", str("b"), "\x00"),
			"UNSUBSCRIBE":  build(0xa2, "\x00\x01", str("presence/alice"), str("b")),
			"PINGREQ":      build(0xc0),
			"DISCONNECT":   build(0xe0),
		}
	}
	all := props("\x11\x00\x00\x00\x3c", "\x17\x01", "\x19\x00", "\x21\x00\x01", "\x22\x00\x00", user("sdk-version", "1.0"), user("x", ""), "\x27\x00\x00\x10\x00")
	return map[string][]byte{
		"CONNECT":          connect5(0xc2, props(), phone...),
		"CONNECT full":     connect5(0xee, all, str("d1"), props("\x01\x01", "\x02\x00\x00\x00\x01", "\x03"+str("json"), "\x08"+str("r"), "\x09"+str("\x00"), "\x18\x00\x00\x00\x01", user("a", "b")), str("gone"), str("w"), str(aliceName), str("sig")),
		"PUBLISH 0":        build(0x30, str("a/b"), props(), "payload"),
		"PUBLISH 1 full":   build(0x3b, str(""), "\x00\x07", props("\x01\x00", "\x02\x00\x00\x00\x00", "\x03"+str(""), "\x08"+str("r"), "\x09"+str("c"), "\x23\x00\x09", user("a", "b"), user("a", "b"))),
		"PUBACK":           build(0x40, "\x00\x01"),
		"PUBREC reason":    build(0x50, "\x00\x01", "\x92"),
		"PUBREL props":     build(0x62, "\x00\x01", "\x92", props("\x1f"+str("why"), user("a", "b"))),
		"PUBCOMP":          build(0x70, "\x00\x01", "\x00", props()),
		"SUBSCRIBE":        build(0x82, "\x00\x01", props(user("a", "b")), str("presence/alice"), "\x2e", str("b"), "\x00"),
		"SUBSCRIBE id":     build(0x82, "\x00\x01", props("\x0b\xff\xff\xff\x7f"), str("b"), "\x11"),
		"UNSUBSCRIBE":      build(0xa2, "\x00\x01", props(), str("presence/alice"), str("b")),
		"PINGREQ":          build(0xc0),
		"DISCONNECT":       build(0xe0),
		"DISCONNECT will":  build(0xe0, "\x04"),
		"DISCONNECT props": build(0xe0, "\x00", props("\x11\x00\x00\x00\x00", "\x1f"+str("bye"), user("a", "b"))),
		"AUTH":             build(0xf0, "\x18", props("\x15"+str("X"), "\x16"+str("data"), "\x1f"+str("r"), user("a", "b"))),
		"AUTH short":       build(0xf0),
	}
}

func TestGoodPackets(t *testing.T) {
	for _, v := range []Version{V311, V5} {
		for name, p := range goodPackets(v) {
			if m, err := parse(v, p); err != nil || m == nil {
				t.Errorf("version %d, %s: %v, %v", v, name, m, err)
			}
			for cut := range p { // a packet that is cut is not there yet
				if h, err := Next(p[:cut], v, MaxPacket); err != nil || h.Size != 0 && h.Total() <= cut {
					t.Errorf("version %d, %s cut at %d: %+v, %v", v, name, cut, h, err)
				}
			}
		}
	}
}

// A body that ends early is refused, wherever it was cut.
func TestShortBodies(t *testing.T) {
	good := map[string]bool{ // cuts that leave a shorter good packet
		"PUBREC reason 2": true, "PUBREL props 2": true, "PUBREL props 3": true, "PUBCOMP 2": true, "PUBCOMP 3": true,
		"DISCONNECT will 0": true, "DISCONNECT props 0": true, "DISCONNECT props 1": true, "AUTH 0": true,
	}
	for _, v := range []Version{V311, V5} {
		for name, p := range goodPackets(v) {
			h, _ := Next(p, v, MaxPacket)
			body := p[h.Size:]
			for n := range body {
				short := h
				short.Body = n
				m, err := parseBody(v, short, body[:n:n])
				if err == nil && !strings.HasPrefix(name, "PUBLISH") && !wholeFilters(m) && !good[name+" "+itoa(n)] {
					t.Errorf("version %d, %s cut to %d of %d bytes is taken: %+v", v, name, n, len(body), m)
				}
			}
		}
	}
}

// wholeFilters reports whether a list of filters was cut between two of them.
func wholeFilters(m any) bool {
	switch m := m.(type) {
	case Subscribe:
		return len(m.Filters) == 1
	case Unsubscribe:
		return len(m.Topics) == 1
	}
	return false
}

func itoa(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return itoa(n/10) + itoa(n%10)
}

func TestFixedHeader(t *testing.T) {
	for _, tc := range []struct {
		name   string
		v      Version
		p      string
		reason byte // 0: good
		size   int
		body   int
	}{
		{"nothing", V5, "", 0, 0, 0},
		{"a byte", V5, "\xc0", 0, 0, 0},
		{"no body", V5, "\xc0\x00", 0, 2, 0},
		{"127", V5, "\x30\x7f", 0, 2, 127},
		{"128", V5, "\x30\x80\x01", 0, 3, 128},
		{"16383", V5, "\x30\xff\x7f", 0, 3, 16383},
		{"16384", V5, "\x30\x80\x80\x01", 0, 4, 16384},
		{"all that fits", V5, "\x30\xfc\xff\x03", 0, 4, MaxPacket - 4},
		{"one more", V5, "\x30\xfd\xff\x03", ReasonPacketTooLarge, 0, 0},
		{"the largest length", V5, "\x30\xff\xff\xff\x7f", ReasonPacketTooLarge, 0, 0},
		{"five bytes", V5, "\x30\xff\xff\xff\xff", ReasonMalformed, 0, 0},
		{"127 in two bytes [MQTT-1.5.5-1]", V5, "\x30\xff\x00", ReasonMalformed, 0, 0},
		{"0 in four bytes [MQTT-1.5.5-1]", V5, "\x30\x80\x80\x80\x00", ReasonMalformed, 0, 0},
		{"type 0", V5, "\x00", ReasonProtocolError, 0, 0},
		{"CONNACK from a client", V5, "\x20", ReasonProtocolError, 0, 0},
		{"SUBACK from a client", V5, "\x90", ReasonProtocolError, 0, 0},
		{"UNSUBACK from a client", V5, "\xb0", ReasonProtocolError, 0, 0},
		{"PINGRESP from a client", V5, "\xd0", ReasonProtocolError, 0, 0},
		{"AUTH on 3.1.1", V311, "\xf0", ReasonProtocolError, 0, 0},
		{"first not CONNECT [MQTT-3.1.0-1]", 0, "\xc0", ReasonProtocolError, 0, 0},
		{"CONNECT first [MQTT-3.1.0-1]", 0, "\x10\x05", 0, 2, 5},
		{"QoS 3 [MQTT-3.3.1-4]", V5, "\x36", ReasonMalformed, 0, 0},
		{"DUP without QoS [MQTT-3.3.1-2]", V5, "\x38", ReasonMalformed, 0, 0},
		{"CONNECT flags [MQTT-2.1.3-1]", 0, "\x11", ReasonMalformed, 0, 0},
		{"SUBSCRIBE flags [MQTT-3.8.1-1]", V5, "\x80", ReasonMalformed, 0, 0},
		{"UNSUBSCRIBE flags [MQTT-3.10.1-1]", V5, "\xa3", ReasonMalformed, 0, 0},
		{"PUBREL flags [MQTT-3.6.1-1]", V5, "\x60", ReasonMalformed, 0, 0},
		{"PINGREQ flags [MQTT-2.1.3-1]", V5, "\xc8", ReasonMalformed, 0, 0},
		{"DISCONNECT flags [MQTT-3.14.1-1]", V5, "\xe2", ReasonMalformed, 0, 0},
		{"AUTH flags [MQTT-3.15.1-1]", V5, "\xf1", ReasonMalformed, 0, 0},
	} {
		h, err := Next([]byte(tc.p), tc.v, MaxPacket)
		if tc.reason != 0 {
			refused(t, tc.name, err, tc.reason, 0)
			continue
		}
		if err != nil || h.Size != tc.size || h.Body != tc.body {
			t.Errorf("%s: %+v, %v; want size %d, body %d", tc.name, h, err, tc.size, tc.body)
		}
	}
	for n, good := range map[int]bool{MaxBeforeLogin - 1: true, MaxBeforeLogin: true, MaxBeforeLogin + 1: false} {
		p := build(0x10, string(bytes.Repeat([]byte{'x'}, n-3)))
		if h, err := Next(p, 0, MaxBeforeLogin); (err == nil) != good || good && h.Total() != n {
			t.Errorf("a CONNECT of %d bytes: %+v, %v", n, h, err)
		}
	}
}

// What is refused besides CONNECT, by clause.
func TestRefusedPackets(t *testing.T) {
	many := strings.Repeat(str("b")+"\x00", MaxFilters)
	for _, tc := range []struct {
		name   string
		v      Version
		p      []byte
		reason byte
	}{
		{"topic name not UTF-8 [MQTT-1.5.4-1]", V5, build(0x30, str("a\xff"), props()), ReasonMalformed},
		{"topic name with a surrogate [MQTT-1.5.4-1]", V5, build(0x30, str("\xed\xa0\x80"), props()), ReasonMalformed},
		{"topic name with U+0000 [MQTT-1.5.4-2]", V5, build(0x30, str("a\x00"), props()), ReasonMalformed},
		{"topic name with + [MQTT-3.3.2-2]", V5, build(0x30, str("a/+"), props()), ReasonMalformed},
		{"topic name with # [MQTT-3.3.2-2]", V311, build(0x30, str("#")), ReasonMalformed},
		{"no topic name [MQTT-4.7.3-1]", V5, build(0x30, str(""), props()), ReasonProtocolError},
		{"PUBLISH with id 0 [MQTT-2.2.1-3]", V5, build(0x32, str("a"), "\x00\x00", props()), ReasonProtocolError},
		{"PUBLISH with a Subscription Identifier [MQTT-3.3.4-6]", V5, build(0x30, str("a"), props("\x0b\x01")), ReasonMalformed},
		{"Response Topic with a wildcard [MQTT-3.3.2-14]", V5, build(0x30, str("a"), props("\x08"+str("r/#"))), ReasonProtocolError},
		{"two Topic Aliases", V5, build(0x30, str("a"), props("\x23\x00\x01", "\x23\x00\x01")), ReasonProtocolError},
		{"Payload Format 2", V5, build(0x30, str("a"), props("\x01\x02")), ReasonProtocolError},
		{"a property cut by its length", V5, build(0x30, str("a"), "\x02\x23\x00", "\x01"), ReasonMalformed},
		{"property length in too many bytes [MQTT-1.5.5-1]", V5, build(0x30, str("a"), "\x80\x00"), ReasonMalformed},
		{"property length of five bytes", V5, build(0x30, str("a"), "\x80\x80\x80\x80\x00"), ReasonMalformed},
		{"an unknown property", V5, build(0x30, str("a"), props("\x7f\x01")), ReasonMalformed},
		{"a property of two bytes", V5, build(0x30, str("a"), props("\xa6\x80\x01")), ReasonMalformed},
		{"a server's property", V5, build(0xe0, "\x00", props("\x1c"+str("other"))), ReasonMalformed},
		{"too many properties", V5, build(0x30, str("a"), props(strings.Repeat(user("", ""), MaxProperties+1))), ReasonProtocolError},
		{"SUBSCRIBE with id 0 [MQTT-2.2.1-3]", V5, build(0x82, "\x00\x00", props(), str("a"), "\x00"), ReasonProtocolError},
		{"SUBSCRIBE with id 0, 3.1.1: [MQTT-2.3.1-1]", V311, build(0x82, "\x00\x00", str("a"), "\x00"), ReasonProtocolError},
		{"SUBSCRIBE without a filter [MQTT-3.8.3-2]", V5, build(0x82, "\x00\x01", props()), ReasonProtocolError},
		{"SUBSCRIBE without options", V5, build(0x82, "\x00\x01", props(), str("a")), ReasonMalformed},
		{"an empty filter [MQTT-4.7.3-1]", V5, build(0x82, "\x00\x01", props(), str(""), "\x00"), ReasonProtocolError},
		{"a filter not UTF-8 [MQTT-3.8.3-1]", V5, build(0x82, "\x00\x01", props(), str("\xff"), "\x00"), ReasonMalformed},
		{"reserved option bits [MQTT-3.8.3-5]", V5, build(0x82, "\x00\x01", props(), str("a"), "\x40"), ReasonMalformed},
		{"reserved option bits of 3.1.1", V311, build(0x82, "\x00\x01", str("a"), "\x04"), ReasonMalformed},
		{"a subscription with QoS 3", V5, build(0x82, "\x00\x01", props(), str("a"), "\x03"), ReasonProtocolError},
		{"Retain Handling 3", V5, build(0x82, "\x00\x01", props(), str("a"), "\x30"), ReasonProtocolError},
		{"Subscription Identifier 0", V5, build(0x82, "\x00\x01", props("\x0b\x00"), str("a"), "\x00"), ReasonProtocolError},
		{"two Subscription Identifiers", V5, build(0x82, "\x00\x01", props("\x0b\x01", "\x0b\x01"), str("a"), "\x00"), ReasonProtocolError},
		{"one filter too many", V5, build(0x82, "\x00\x01", props(), many, str("b"), "\x00"), ReasonQuotaExceeded},
		{"UNSUBSCRIBE with id 0 [MQTT-2.2.1-3]", V5, build(0xa2, "\x00\x00", props(), str("a")), ReasonProtocolError},
		{"UNSUBSCRIBE without a filter [MQTT-3.10.3-2]", V5, build(0xa2, "\x00\x01", props()), ReasonProtocolError},
		{"UNSUBSCRIBE not UTF-8 [MQTT-3.10.3-1]", V5, build(0xa2, "\x00\x01", props(), str("\xff")), ReasonMalformed},
		{"PINGREQ with a body", V5, build(0xc0, "x"), ReasonMalformed},
		{"DISCONNECT of 3.1.1 with a body", V311, build(0xe0, "\x00"), ReasonMalformed},
		{"DISCONNECT with a server's reason", V5, build(0xe0, "\x8b"), ReasonProtocolError},
		{"DISCONNECT with something behind", V5, build(0xe0, "\x00", props(), "x"), ReasonMalformed},
		{"PUBREL with id 0", V5, build(0x62, "\x00\x00"), ReasonProtocolError},
		{"PUBACK of 3.1.1 with a reason", V311, build(0x40, "\x00\x01", "\x00"), ReasonMalformed},
		{"AUTH without properties", V5, build(0xf0, "\x18"), ReasonMalformed},
	} {
		m, err := parse(tc.v, tc.p)
		refused(t, tc.name, err, tc.reason, 0)
		if err == nil {
			t.Logf("%s: %+v", tc.name, m)
		}
	}
	if m, err := parse(V5, build(0x82, "\x00\x01", props(), many)); err != nil || len(m.(Subscribe).Filters) != MaxFilters {
		t.Errorf("%d filters: %v", MaxFilters, err)
	}
	if _, err := parse(V5, build(0x30, str("a"), props(strings.Repeat(user("", ""), MaxProperties)))); err != nil {
		t.Errorf("%d properties: %v", MaxProperties, err)
	}
}

func TestValues(t *testing.T) {
	for _, tc := range []struct {
		name string
		v    Version
		p    []byte
		want any
	}{
		{"PUBLISH", V5, build(0x3d, str("a/b"), "\x00\x07", props(), "x"), Publish{Topic: "a/b", ID: 7, QoS: 2, Retain: true}},
		{"PUBLISH by alias", V5, build(0x30, str(""), props("\x23\x00\x01")), Publish{Alias: true}},
		{"DISCONNECT", V5, build(0xe0), Disconnect{}},
		{"DISCONNECT will", V5, build(0xe0, "\x04"), Disconnect{Reason: ReasonDisconnectWithWill}},
		{"DISCONNECT will, no properties", V5, build(0xe0, "\x04", props()), Disconnect{Reason: ReasonDisconnectWithWill}},
		{"DISCONNECT expiry", V5, build(0xe0, "\x00", props("\x11\x00\x00\x00\x01")), Disconnect{Expiry: true}},
		{"DISCONNECT expiry 0", V5, build(0xe0, "\x00", props("\x11\x00\x00\x00\x00")), Disconnect{}},
		{"DISCONNECT 3.1.1", V311, build(0xe0), Disconnect{}},
		{"PUBREL", V5, build(0x62, "\x01\x02"), Ack{0x0102}},
	} {
		if m, err := parse(tc.v, tc.p); err != nil || m != tc.want {
			t.Errorf("%s: %+v, %v; want %+v", tc.name, m, err, tc.want)
		}
	}
	m, err := parse(V5, build(0x82, "\x00\x09", props("\x0b\x01"), str("a"), "\x2e", str("b"), "\x10"))
	if err != nil {
		t.Fatal(err)
	}
	s := m.(Subscribe)
	if s.ID != 9 || !s.Identifier || len(s.Filters) != 2 || s.Filters[0] != (Filter{"a", 2, true, true, 2}) || s.Filters[1] != (Filter{"b", 0, false, false, 1}) {
		t.Errorf("SUBSCRIBE: %+v", s)
	}
}

// Whatever bytes come: no panic, an answer that does not depend on the cut, and
// a decoder that agrees with the grammar.
func FuzzPackets(f *testing.F) {
	for _, v := range []Version{V311, V5} {
		for _, p := range goodPackets(v) {
			f.Add(byte(v), p)
		}
	}
	f.Add(byte(V5), build(0x82, "\x00\x01", props(), str("a")))
	f.Add(byte(0), []byte("\x10\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, version byte, p []byte) {
		v := [...]Version{0, V311, V5}[version%3]
		whole, wholeErr := Next(p, v, MaxPacket)
		for cut := range p {
			h, err := Next(p[:cut], v, MaxPacket)
			if err != nil && (wholeErr == nil || *err != *wholeErr) || err == nil && h.Size > 0 && h != whole {
				t.Fatalf("cut at %d: %+v, %v; whole: %+v, %v", cut, h, err, whole, wholeErr)
			}
		}
		if wholeErr != nil || whole.Size == 0 || whole.Total() > len(p) {
			return
		}
		before := bytes.Clone(p)
		_, err := parse(v, p)
		if err != nil && (strings.Contains(err.Text, disagrees) || err.Reason < 0x80) {
			t.Fatalf("%x: %+v", p, err)
		}
		if !bytes.Equal(before, p) {
			t.Fatal("the input was written to")
		}
	})
}
