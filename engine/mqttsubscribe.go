package engine

import (
	"encoding/json"
	"strings"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// SUBSCRIBE to one's own presence: SUBACK, what is retained (the state), then every
// change, all with QoS 0. The answer waits for the Directory; what asks for more
// meanwhile waits behind it, so that a link has one subscription, or one on its way.

// subscription is a link's to its own user. It ends with the link.
type subscription struct {
	topic string // as the client wrote it: it hears of that name [MQTT-3.3.2-3]
	rap   bool   // Retain As Published
	seq   uint64 // of the last change that it was told, or of the state
}

// subscribing is a SUBSCRIBE that waits for the Directory.
type subscribing struct {
	id     uint16
	codes  []byte
	filter mqtt.Filter // the last one that was granted
}

// refusedFilter is the code of a SUBACK of 3.1.1 for a filter that is not granted, and of
// one of 5.0 where nothing fits better.
const refusedFilter = 0x80

// subscribe takes SUBSCRIBE. [MQTT-3.8.4-1]
func (d mqttLink) subscribe(l *Loop, s *Session, h mqtt.Header, body []byte, fx *effects) *mqtt.Error {
	m, err := mqtt.ParseSubscribe(h, d.v, body)
	switch {
	case err != nil:
		return err
	case m.Identifier: // section 3.2.2.3.12
		return notOffered(mqtt.ReasonNoSubscriptionID, "subscription identifiers are not offered")
	}
	k := l.mqttState(s)
	ask := subscribing{id: m.ID, codes: make([]byte, 0, len(m.Filters))}
	if k != nil && k.sub != nil {
		ask.filter.Topic = k.sub.topic
	}
	granted := false
	for i := range m.Filters { // [MQTT-3.8.4-5]
		f := &m.Filters[i]
		code, err := d.judge(s, f, ask.filter.Topic)
		if err != nil {
			return err
		}
		if code == mqtt.ReasonSuccess {
			ask.filter, granted = *f, true
		} else if d.v == mqtt.V311 {
			code = refusedFilter // 3.1.1: [MQTT-3.9.3-2]
		}
		ask.codes = append(ask.codes, code) // [MQTT-3.8.4-6], [MQTT-3.9.3-1]
	}
	if !granted {
		fx.out = mqtt.AppendSuback(fx.out, d.v, m.ID, ask.codes)
		return nil
	}
	ask.filter.Topic = strings.Clone(ask.filter.Topic) // it lies in the read buffer
	l.needMQTTState(s).pending = l.follow(s, ask)
	return nil
}

// judge says what comes of a topic filter: 0x00 grants QoS 0, whatever was asked
// for [MQTT-3.2.2-10], [MQTT-3.8.4-7]. held is the topic that the link has a
// subscription to, or will have.
func (d mqttLink) judge(s *Session, f *mqtt.Filter, held string) (code byte, err *mqtt.Error) {
	shared := strings.HasPrefix(f.Topic, "$share/")
	wild := strings.ContainsAny(f.Topic, "+#")
	user, known := mqtt.TopicUser(f.Topic)
	switch {
	case d.v == mqtt.V5 && shared && f.NoLocal: // [MQTT-3.8.3-4]
		return 0, violation("No Local on a shared subscription")
	case d.v == mqtt.V5 && shared: // section 3.2.2.3.13
		return 0, notOffered(mqtt.ReasonNoShared, "shared subscriptions are not offered")
	case d.v == mqtt.V5 && wild: // section 3.2.2.3.11
		return 0, notOffered(mqtt.ReasonNoWildcard, "wildcard subscriptions are not offered")
	case !known:
		return mqtt.ReasonBadTopicFilter, nil
	case user != s.user: // others' presence is not offered yet
		return mqtt.ReasonNotAuthorized, nil
	case held != "" && f.Topic != held: // another spelling of the same: one subscription is enough
		return mqtt.ReasonQuotaExceeded, nil
	}
	return mqtt.ReasonSuccess, nil
}

// unsubscribe takes UNSUBSCRIBE. [MQTT-3.10.4-4], [MQTT-3.10.4-5]
func (d mqttLink) unsubscribe(l *Loop, s *Session, h mqtt.Header, body []byte, fx *effects) *mqtt.Error {
	m, err := mqtt.ParseUnsubscribe(h, d.v, body)
	if err != nil {
		return err
	}
	k := l.mqttState(s)
	codes := make([]byte, 0, len(m.Topics))
	for _, topic := range m.Topics { // [MQTT-3.10.4-6]
		if k == nil || k.sub == nil || k.sub.topic != topic { // [MQTT-3.10.4-1]
			codes = append(codes, mqtt.ReasonNoSubscription)
			continue
		}
		codes = append(codes, mqtt.ReasonSuccess)
		k.sub = nil // [MQTT-3.10.4-2]
		l.unfollow(s)
		l.settleMQTT(s)
	}
	fx.out = mqtt.AppendUnsuback(fx.out, d.v, m.ID, codes) // [MQTT-3.11.3-1]
	return nil
}

// followDone is the Directory's answer to a SUBSCRIBE.
func (l *Loop) followDone(c *followCall) {
	s := l.slab.get(c.op.Link)
	if s == nil || s.state != stateOnline {
		return // its end unfollows, or has done so
	}
	k := l.mqttState(s)
	d, ok := s.speaks().(mqttLink)
	if k == nil || k.pending != c || !ok {
		return
	}
	k.pending = nil
	fx := l.effects()
	d.subscribed(l, s, k, c, fx)
	l.resumeMQTT(s, fx)
	l.apply(s, fx)
}

// subscribed answers SUBSCRIBE.
func (d mqttLink) subscribed(l *Loop, s *Session, k *mqttState, c *followCall, fx *effects) {
	ask := &c.ask
	if c.op.Code != presence.CodeOK {
		for i, code := range ask.codes {
			if code == mqtt.ReasonSuccess {
				ask.codes[i] = refusedFilter
			}
		}
		fx.out = mqtt.AppendSuback(fx.out, d.v, ask.id, ask.codes)
		return
	}
	fresh := k.sub == nil
	k.sub = &subscription{topic: ask.filter.Topic, rap: ask.filter.RetainAsPublished, seq: c.op.User.Seq} // [MQTT-3.8.4-3]
	fx.out = mqtt.AppendSuback(fx.out, d.v, ask.id, ask.codes)                                            // [MQTT-3.8.4-2]
	handling := ask.filter.RetainHandling
	if handling == 0 || handling == 1 && fresh { // [MQTT-3.3.1-9], [MQTT-3.3.1-10], [MQTT-3.3.1-11]
		v := viewUser(s.user, &c.op.User)
		v.Seq, v.TimeMS = c.op.User.Seq, l.now.WallMS
		fx.out = mqtt.AppendPublish(fx.out, d.v, k.sub.topic, true, v.encode())
	}
}

// publishChange tells the subscriber of each transition; false if there is none.
func (l *Loop) publishChange(s *Session, c *directory.Change) bool {
	k := l.mqttState(s)
	d, ok := s.speaks().(mqttLink)
	if k == nil || k.sub == nil || !ok {
		return false
	}
	fx := l.effects()
	v := viewUser(s.user, c.User)
	for i := range c.Transitions {
		t := &c.Transitions[i]
		if t.Seq <= k.sub.seq { // the state had it already
			continue
		}
		k.sub.seq = t.Seq
		v.Seq, v.TimeMS = t.Seq, t.TimeMS
		v.changeView = &changeView{t.Action.String(), t.Reason.String(), t.Inst.Device.Platform.String(), t.Inst.InstID}
		fx.out = mqtt.AppendPublish(fx.out, d.v, k.sub.topic, k.sub.rap, v.encode()) // [MQTT-3.3.1-12], [MQTT-3.3.1-13]
	}
	l.apply(s, fx)
	return true
}

// loseChanges ends the links that may have missed a change, each with a time of its
// own to come back. It is rare enough to look at all of them at once.
func (l *Loop) loseChanges() {
	l.changesLost.Store(false) // first: a change that is lost from here on asks again
	for slot, k := range l.mqtt {
		s := l.slab.at(slot)
		if k.sub == nil && k.pending == nil || s.state != stateOnline {
			continue
		}
		fx := l.effects()
		s.fault(codec.CodeOverloaded, "changes of the user's presence were lost, connect and subscribe anew", fx)
		l.apply(s, fx)
	}
}

// userView is a user's presence as a subscriber gets it, in the words of the console.
type userView struct {
	UserID string
	Status string
	Seq    uint64
	TimeMS int64
	*changeView
	Instances []instanceView
}

// changeView is what happened, in a message about a change.
type changeView struct {
	Action   string
	Reason   string
	Platform string
	InstID   uint32
}

type instanceView struct {
	InstID      uint32
	Platform    string
	Status      string
	SDKVersion  string
	DeviceModel string
	LoginMS     int64
	PushUntilMS int64 `json:",omitempty"`
}

func viewUser(userID string, u *presence.User) userView {
	v := userView{UserID: userID, Status: u.Status().String(), Instances: make([]instanceView, 0, len(u.Instances))}
	for i := range u.Instances {
		in := &u.Instances[i]
		view := instanceView{
			InstID: in.InstID, Platform: in.Device.Platform.String(), Status: in.Status.String(),
			SDKVersion: in.Device.SDKVersion, DeviceModel: in.Device.Model, LoginMS: in.LoginMS,
		}
		if in.Status == presence.PushOnline {
			view.PushUntilMS = in.PushUntilMS
		}
		v.Instances = append(v.Instances, view)
	}
	return v
}

func (v *userView) encode() []byte {
	p, _ := json.Marshal(v) // it has nothing that cannot be encoded
	return p
}
