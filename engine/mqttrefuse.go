package engine

import (
	"fmt"
	"strings"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
)

// What MQTT has and a presence server has not, and how it is refused: with an answer
// of the packet's own where there is one, else by ending the link (section 4.13). 3.1.1
// has no words for it: the link is closed (3.1.1: [MQTT-3.3.5-2]).

func violation(format string, args ...any) *mqtt.Error {
	return &mqtt.Error{Reason: mqtt.ReasonProtocolError, Code: codec.CodeUnexpectedFrame, Text: fmt.Sprintf(format, args...)}
}

func tooMuch(format string, args ...any) *mqtt.Error {
	return &mqtt.Error{Reason: mqtt.ReasonQuotaExceeded, Code: codec.CodeUnexpectedFrame, Text: fmt.Sprintf(format, args...)}
}

func notOffered(reason byte, text string) *mqtt.Error {
	return &mqtt.Error{Reason: reason, Code: codec.CodeUnexpectedFrame, Text: text}
}

// request takes a packet that asks for something besides life and logout. The link
// is online.
func (d mqttLink) request(l *Loop, s *Session, h mqtt.Header, body []byte, fx *effects) *mqtt.Error {
	switch h.Type {
	case mqtt.PUBLISH:
		m, err := mqtt.ParsePublish(h, d.v, body)
		if err != nil {
			return err
		}
		return d.refusePublish(&m, fx)
	case mqtt.SUBSCRIBE:
		return d.subscribe(l, s, h, body, fx)
	case mqtt.UNSUBSCRIBE:
		return d.unsubscribe(l, s, h, body, fx)
	case mqtt.AUTH:
		if err := mqtt.CheckAuth(body); err != nil {
			return err
		}
		return violation("AUTH, and CONNECT had no Authentication Method") // [MQTT-4.12.0-7]
	case mqtt.PUBREL:
		m, err := mqtt.ParseAck(h, d.v, body)
		if err == nil { // no PUBLISH of QoS 2 was taken; 3.1.1: [MQTT-3.6.4-1] wants an answer all the same
			fx.out = mqtt.AppendAck(fx.out, d.v, mqtt.PUBCOMP, m.ID, mqtt.ReasonIDNotFound)
		}
		return err
	}
	if _, err := mqtt.ParseAck(h, d.v, body); err != nil {
		return err
	}
	return violation("%v for a packet that was not sent", h.Type)
}

// refusePublish says why nothing can be published. The custom status
// (presence/self) is not offered yet, and a client that tries keeps its link where
// the standard has an answer for it.
func (d mqttLink) refusePublish(m *mqtt.Publish, fx *effects) *mqtt.Error {
	status := m.Topic == mqtt.TopicSelf
	switch {
	case d.v == mqtt.V311: // 3.1.1: [MQTT-3.3.5-2]
		return notOffered(mqtt.ReasonNotAuthorized, "clients publish nothing here")
	case m.Alias: // Topic Alias Maximum is 0 [MQTT-3.2.2-18], section 3.3.2.3.4
		return notOffered(mqtt.ReasonTopicAlias, "topic aliases are not offered")
	case m.Retain: // Retain Available is 0 [MQTT-3.2.2-14], section 3.2.2.3.5
		return notOffered(mqtt.ReasonNoRetain, "clients retain nothing here")
	case m.QoS == 1 && status: // [MQTT-3.4.2-1]
		fx.out = mqtt.AppendAck(fx.out, d.v, mqtt.PUBACK, m.ID, mqtt.ReasonNotAuthorized)
		return nil
	case m.QoS == 2 && status: // [MQTT-3.5.2-1]
		fx.out = mqtt.AppendAck(fx.out, d.v, mqtt.PUBREC, m.ID, mqtt.ReasonNotAuthorized)
		return nil
	case m.QoS > 0: // Maximum QoS is 0 [MQTT-3.2.2-11], section 3.2.2.3.4
		return notOffered(mqtt.ReasonNoQoS, "QoS 1 and 2 are not offered")
	case strings.HasPrefix(m.Topic, mqtt.TopicPrefix):
		return notOffered(mqtt.ReasonNotAuthorized, "clients publish nothing here; custom statuses are not offered yet")
	}
	return notOffered(mqtt.ReasonBadTopicName, "this is not a message broker: clients publish nothing here")
}

// publish refuses a PUBLISH whose end is not there, by its topic and identifier.
func (d mqttLink) publish(l *Loop, s *Session, h mqtt.Header, head []byte, fx *effects) {
	m, err := mqtt.ParsePublishHead(h, head)
	if err == nil {
		err = d.refusePublish(&m, fx)
	}
	if err != nil {
		s.refuseMQTT(l, d.v, err, fx)
	}
}
