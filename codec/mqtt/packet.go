package mqtt

import (
	"bytes"
	"fmt"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rollcall-im/rollcall/codec"
)

// Publish is what a client would publish. Nothing of it is carried on: the
// fields are those that say how it is refused.
type Publish struct {
	Topic  string
	ID     uint16 // with QoS 1 and 2
	QoS    byte
	Retain bool
	Alias  bool // it has a Topic Alias
}

// Filter is one topic filter of a Subscribe with its options.
type Filter struct {
	Topic             string
	QoS               byte
	NoLocal           bool
	RetainAsPublished bool
	RetainHandling    byte // 0 send what is retained, 1 if the subscription is new, 2 do not
}

// Subscribe is a SUBSCRIBE packet.
type Subscribe struct {
	ID         uint16
	Filters    []Filter
	Identifier bool // it has a Subscription Identifier
}

// Unsubscribe is an UNSUBSCRIBE packet.
type Unsubscribe struct {
	ID     uint16
	Topics []string
}

// Disconnect is a client's DISCONNECT.
type Disconnect struct {
	Reason byte
	Expiry bool // it has a Session Expiry Interval above 0
}

// Ack is a PUBACK, PUBREC, PUBREL or PUBCOMP of a client.
type Ack struct{ ID uint16 }

// packet returns the frame that mochi's decoders want.
func packet(h Header, v Version) *packets.Packet {
	return &packets.Packet{
		ProtocolVersion: byte(v),
		FixedHeader: packets.FixedHeader{
			Type: byte(h.Type), Remaining: h.Body,
			Qos: h.Flags >> 1 & 3, Dup: h.Flags&8 != 0, Retain: h.Flags&1 != 0,
		},
	}
}

// disagrees begins the text of an error that the grammar did not see coming. There
// should be none; FuzzPackets looks for one.
const disagrees = "the decoder disagrees"

// decoded turns an error of mochi's decoders into ours.
func decoded(t Type, err error) *Error {
	if err == nil {
		return nil
	}
	return malformed("%s: %v: %v", disagrees, t, err)
}

// ParsePublish decodes the body of a PUBLISH.
func ParsePublish(h Header, v Version, body []byte) (Publish, *Error) {
	r := reader{b: body}
	topic := r.text("the topic name")
	if h.Flags&6 != 0 {
		r.id(PUBLISH)
	}
	var seen propertySet
	if v == V5 {
		seen = r.properties(PUBLISH)
	}
	alias := seen.has(packets.PropTopicAlias)
	switch {
	case r.err != nil:
	case bytes.ContainsAny(topic, "+#"): // [MQTT-3.3.2-2]
		r.fail(malformed("the topic name %q has a wildcard", topic))
	case len(topic) == 0 && !alias: // [MQTT-4.7.3-1]
		r.fail(violation("the topic name is empty"))
	}
	if r.err != nil {
		return Publish{}, r.err
	}
	pk := packet(h, v)
	if err := decoded(PUBLISH, pk.PublishDecode(body)); err != nil {
		return Publish{}, err
	}
	if seen.has(packets.PropResponseTopic) && (pk.Properties.ResponseTopic == "" || bytes.ContainsAny([]byte(pk.Properties.ResponseTopic), "+#")) { // [MQTT-3.3.2-14]
		return Publish{}, violation("the Response Topic %q is no topic name", pk.Properties.ResponseTopic)
	}
	return Publish{Topic: pk.TopicName, ID: pk.PacketID, QoS: pk.FixedHeader.Qos, Retain: pk.FixedHeader.Retain, Alias: alias}, nil
}

// ParsePublishHead decodes topic and identifier of a PUBLISH of which only the
// beginning of the body is there: its properties and payload are not looked at.
func ParsePublishHead(h Header, head []byte) (Publish, *Error) {
	m := Publish{QoS: h.Flags >> 1 & 3, Retain: h.Flags&1 != 0}
	r := reader{b: head}
	m.Topic = string(r.text("the topic name"))
	if m.QoS > 0 {
		m.ID = r.id(PUBLISH)
	}
	return m, r.err
}

// ParseSubscribe decodes the body of a SUBSCRIBE.
func ParseSubscribe(h Header, v Version, body []byte) (Subscribe, *Error) {
	r := reader{b: body}
	r.id(SUBSCRIBE)
	var seen propertySet
	if v == V5 {
		seen = r.properties(SUBSCRIBE)
	}
	n := r.filters(SUBSCRIBE, func() { r.options(v) })
	if r.err != nil {
		return Subscribe{}, r.err
	}
	pk := packet(h, v)
	if err := decoded(SUBSCRIBE, pk.SubscribeDecode(body)); err != nil {
		return Subscribe{}, err
	}
	s := Subscribe{ID: pk.PacketID, Filters: make([]Filter, 0, n), Identifier: seen.has(packets.PropSubscriptionIdentifier)}
	for i := range pk.Filters {
		f := &pk.Filters[i]
		s.Filters = append(s.Filters, Filter{f.Filter, f.Qos, f.NoLocal, f.RetainAsPublished, f.RetainHandling})
	}
	return s, nil
}

// filters walks topic filters, each with what comes behind it, and returns their number.
func (r *reader) filters(t Type, behind func()) (n int) {
	for ; len(r.b) > 0; n++ {
		if n == MaxFilters {
			r.fail(&Error{ReasonQuotaExceeded, 0, codec.CodeUnexpectedFrame, fmt.Sprintf("%v with more than %d topic filters", t, MaxFilters)})
			return n
		}
		if f := r.text("a topic filter"); r.err == nil && len(f) == 0 { // [MQTT-4.7.3-1]
			r.fail(violation("a topic filter is empty"))
		}
		behind()
	}
	if n == 0 { // [MQTT-3.8.3-2], [MQTT-3.10.3-2]
		r.fail(violation("%v without a topic filter", t))
	}
	return n
}

// options walks the byte behind a topic filter.
func (r *reader) options(v Version) {
	o := r.byte("the subscription options")
	reserved := byte(0xc0) // [MQTT-3.8.3-5]
	if v == V311 {
		reserved = 0xfc // 3.1.1: [MQTT-3-8.3-4]
	}
	switch {
	case o&reserved != 0:
		r.fail(malformed("subscription options %#x with reserved bits", o))
	case o&3 == 3:
		r.fail(violation("a subscription with QoS 3"))
	case o>>4&3 == 3:
		r.fail(violation("a subscription with Retain Handling 3"))
	}
}

// ParseUnsubscribe decodes the body of an UNSUBSCRIBE.
func ParseUnsubscribe(h Header, v Version, body []byte) (Unsubscribe, *Error) {
	r := reader{b: body}
	r.id(UNSUBSCRIBE)
	if v == V5 {
		r.properties(UNSUBSCRIBE)
	}
	r.filters(UNSUBSCRIBE, func() {})
	if r.err != nil {
		return Unsubscribe{}, r.err
	}
	pk := packet(h, v)
	if err := decoded(UNSUBSCRIBE, pk.UnsubscribeDecode(body)); err != nil {
		return Unsubscribe{}, err
	}
	u := Unsubscribe{ID: pk.PacketID}
	for i := range pk.Filters {
		u.Topics = append(u.Topics, pk.Filters[i].Filter)
	}
	return u, nil
}

// clientReasons are the reason codes with which a client may disconnect,
// MQTT 5.0 section 3.14.2.1.
var clientReasons = [...]byte{0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99}

// ParseDisconnect decodes the body of a DISCONNECT.
func ParseDisconnect(h Header, v Version, body []byte) (Disconnect, *Error) {
	r := reader{b: body}
	if v == V311 {
		r.end(DISCONNECT)
		return Disconnect{}, r.err
	}
	if len(body) > 0 { // section 3.14.2.1: an empty one means 0x00
		if c := r.byte("the reason code"); bytes.IndexByte(clientReasons[:], c) < 0 {
			r.fail(violation("DISCONNECT with the reason code %#x", c))
		}
	}
	if len(r.b) > 0 { // section 3.14.2.2.1: no length means 0
		r.properties(DISCONNECT)
	}
	r.end(DISCONNECT)
	if r.err != nil {
		return Disconnect{}, r.err
	}
	if h.Body == 1 { // mochi's takes it for 0x00
		return Disconnect{Reason: body[0]}, nil
	}
	pk := packet(h, v)
	if err := decoded(DISCONNECT, pk.DisconnectDecode(body)); err != nil {
		return Disconnect{}, err
	}
	return Disconnect{Reason: pk.ReasonCode, Expiry: pk.Properties.SessionExpiryInterval > 0}, nil
}

// ParseAck decodes the body of a PUBACK, PUBREC, PUBREL or PUBCOMP.
func ParseAck(h Header, v Version, body []byte) (Ack, *Error) {
	r := reader{b: body}
	r.id(h.Type)
	if v == V5 && len(r.b) > 0 { // section 3.4.2.1: no reason code means 0x00
		r.byte("the reason code")
	}
	if v == V5 && len(r.b) > 0 {
		r.properties(h.Type)
	}
	r.end(h.Type)
	if r.err != nil {
		return Ack{}, r.err
	}
	pk := packet(h, v)
	if err := decoded(h.Type, pk.PubackDecode(body)); err != nil {
		return Ack{}, err
	}
	return Ack{pk.PacketID}, nil
}

// CheckPing checks the body of a PINGREQ: it has none.
func CheckPing(body []byte) *Error {
	r := reader{b: body}
	r.end(PINGREQ)
	return r.err
}

// CheckAuth checks the body of an AUTH.
func CheckAuth(body []byte) *Error {
	r := reader{b: body}
	if len(body) > 0 { // section 3.15.2.1: an empty one means 0x00
		r.byte("the reason code")
		r.properties(AUTH)
	}
	r.end(AUTH)
	return r.err
}
