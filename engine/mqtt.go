package engine

import (
	"fmt"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// The dialects of MQTT (codec/mqtt, docs/mqtt.md). Statements of the standard that a
// line obeys stand beside it, those of 5.0 but for "3.1.1:".
//
//	mqttConnect  until CONNECT, which says how the client is to be answered
//	mqttLink     3.1.1 or 5.0 from then on
//
// A link that is logged in and idle needs nothing besides its Session. The others
// have an mqttState in a map of their loop: those with packets that wait, with a
// subscription, or with a Maximum Packet Size.

// mqttConnect waits for CONNECT.
type mqttConnect struct{}

// mqttLink is a link whose CONNECT was read.
type mqttLink struct {
	v      mqtt.Version
	expiry bool // CONNECT had a Session Expiry Interval
}

// mqttState is what a link needs while something is in progress.
type mqttState struct {
	silenceMS uint32 // until the login is answered: how long the client may be silent by its keep alive
	maxPacket uint32 // the largest packet that the client takes, bytes; 0 = any
	waiting   []byte // packets that wait for the answer to the login or to a SUBSCRIBE, at most mqtt.MaxBeforeLogin bytes
	sub       *subscription
	pending   *followCall // a SUBSCRIBE that waits for the Directory
}

// idle reports whether nothing is in progress. The login was answered.
func (k *mqttState) idle() bool {
	return k.maxPacket == 0 && len(k.waiting) == 0 && k.sub == nil && k.pending == nil
}

// maxKeepAliveS is the longest keep alive that is accepted: one and a half of it
// are 1,200 s.
const maxKeepAliveS = 800

// promiseSilence keeps, until the login is answered, how long the client may be
// silent by its keep alive, where that is longer than by its platform.
// [MQTT-3.1.2-22]
func (l *Loop) promiseSilence(s *Session, c *mqtt.Connect) {
	ms := uint32(c.KeepAliveS) * 1500
	app := l.core.o.Directory.App(c.Login.SDKAppID)
	if app == nil || int64(ms) <= app.Timeouts.Of(presence.Platform(c.Login.Platform)).SilenceMS {
		return
	}
	l.needMQTTState(s).silenceMS = ms
}

// promisedSilenceMS is what promiseSilence kept.
func (l *Loop) promisedSilenceMS(s *Session) uint32 {
	if k := l.mqttState(s); k != nil {
		return k.silenceMS
	}
	return 0
}

// mqttState returns the link's state, nil if nothing is in progress.
func (l *Loop) mqttState(s *Session) *mqttState {
	if len(l.mqtt) == 0 {
		return nil
	}
	return l.mqtt[s.id.Slot()]
}

// needMQTTState returns the link's state, which it makes if there is none.
func (l *Loop) needMQTTState(s *Session) *mqttState {
	k := l.mqtt[s.id.Slot()]
	if k == nil {
		k = new(mqttState)
		if l.mqtt == nil {
			l.mqtt = make(map[uint32]*mqttState)
		}
		l.mqtt[s.id.Slot()] = k
	}
	return k
}

// settleMQTT lets go of the state of a link where nothing is in progress.
func (l *Loop) settleMQTT(s *Session) {
	if k := l.mqttState(s); k != nil && k.idle() {
		delete(l.mqtt, s.id.Slot())
	}
}

// take takes CONNECT.
func (d mqttConnect) take(l *Loop, s *Session, p []byte, fx *effects) int {
	h, err := mqtt.Next(p, 0, mqtt.MaxBeforeLogin)
	if err != nil {
		s.refuseMQTT(l, 0, err, fx)
		return len(p)
	}
	if h.Size == 0 || h.Total() > len(p) {
		return 0
	}
	l.tally.frames++
	c, err := mqtt.ParseConnect(h, p[h.Size:h.Total()])
	switch c.Version {
	case mqtt.V311:
		s.setDialect(speaksMQTT311)
	case mqtt.V5:
		s.setDialect(speaksMQTT5)
		if c.Expiry {
			s.setDialect(speaksMQTT5Expiry)
		}
	}
	if c.MaxPacket != 0 && c.MaxPacket < mqtt.MaxPacket { // of a refusal too [MQTT-3.1.2-24]
		l.needMQTTState(s).maxPacket = c.MaxPacket
	}
	if err == nil {
		err = acceptable(&c)
	}
	if err != nil { // [MQTT-3.1.4-1], [MQTT-3.1.4-2]
		s.refuseMQTT(l, c.Version, err, fx)
		return h.Total()
	}
	l.promiseSilence(s, &c)
	l.login(s, &c.Login, fx)
	return h.Total()
}

// acceptable looks for what is well-formed in a CONNECT, but asks for more than
// there is.
func acceptable(c *mqtt.Connect) *mqtt.Error {
	switch {
	case c.KeepAliveS > maxKeepAliveS:
		// 3.1.1 has no code for it; the one of other servers is taken.
		return &mqtt.Error{Reason: mqtt.ReasonSpecific, Return: mqtt.ReturnBadClientID, Code: codec.CodeBadParameter,
			Text: fmt.Sprintf("a keep alive of %d s is not accepted, at most %d s are", c.KeepAliveS, maxKeepAliveS)}
	case c.MaxPacket != 0 && c.MaxPacket < mqtt.LeastPacket:
		return &mqtt.Error{Reason: mqtt.ReasonPacketTooLarge, Code: codec.CodeBadParameter,
			Text: fmt.Sprintf("a Maximum Packet Size of %d bytes is not accepted, at least %d are needed", c.MaxPacket, mqtt.LeastPacket)}
	}
	return nil
}

// refuseMQTT ends the link for a packet that is not accepted.
func (s *Session) refuseMQTT(l *Loop, v mqtt.Version, e *mqtt.Error, fx *effects) {
	fx.code = e.Code
	fx.out = mqtt.AppendRefusal(fx.out, v, s.state == stateOnline, e)
	if s.state == stateNew && e.Code == codec.CodeBadParameter {
		l.core.m.login(e.Code)
		s.drain(closeRefused, fx)
		return
	}
	s.drain(faultReason(e.Code), fx)
}

// Before CONNECT nobody knows how the client is to be answered: the link is just
// closed. [MQTT-3.1.4-1]
func (mqttConnect) loginOK(dst []byte, _ *Session, _ *codec.LoginOK) []byte             { return dst }
func (mqttConnect) loginRefused(dst []byte, _ *Session, _ *codec.LoginRefused) []byte   { return dst }
func (mqttConnect) forcedOffline(dst []byte, _ *Session, _ *codec.ForcedOffline) []byte { return dst }
func (mqttConnect) redirect(dst []byte, _ *Session, _ *codec.Redirect) []byte           { return dst }
func (mqttConnect) heartbeatOK(dst []byte, _ *Session) []byte                           { return dst }
func (mqttConnect) logoutOK(dst []byte, _ *Session) []byte                              { return dst }
func (mqttConnect) ended(l *Loop, s *Session)                                           { l.endMQTT(s) }

// take takes a packet behind CONNECT.
func (d mqttLink) take(l *Loop, s *Session, p []byte, fx *effects) int {
	if s.has(flagLogout) { // [MQTT-3.14.4-1]: nothing counts any more
		return len(p)
	}
	limit := mqtt.MaxBeforeLogin
	if s.state == stateOnline {
		limit = mqtt.MaxPacket
	}
	h, err := mqtt.Next(p, d.v, limit)
	switch {
	case err != nil:
		s.refuseMQTT(l, d.v, err, fx)
		return len(p)
	case h.Size == 0:
		return 0
	case h.Total() > mqtt.MaxBeforeLogin:
		return d.large(l, s, h, p, fx)
	case h.Total() > len(p):
		return 0
	}
	l.tally.frames++
	d.packet(l, s, h, p[:h.Total()], fx)
	return h.Total()
}

// large takes a packet that is larger than what a link may hold. There is one that
// has a use for so many bytes, PUBLISH, and it is refused by its beginning: the
// rest means nothing.
func (d mqttLink) large(l *Loop, s *Session, h mqtt.Header, p []byte, fx *effects) int {
	n := min(len(p), mqtt.MaxBeforeLogin)
	if n < mqtt.MaxBeforeLogin {
		return 0
	}
	l.tally.frames++
	if h.Type != mqtt.PUBLISH {
		s.refuseMQTT(l, d.v, tooMuch("a %v of %d bytes asks for more than there is", h.Type, h.Total()), fx)
		return n
	}
	d.publish(l, s, h, p[h.Size:n], fx)
	s.skip(h.Total() - n)
	return n
}

// packet takes a whole packet.
func (d mqttLink) packet(l *Loop, s *Session, h mqtt.Header, p []byte, fx *effects) {
	body := p[h.Size:]
	var err *mqtt.Error
	switch h.Type {
	case mqtt.CONNECT: // [MQTT-3.1.0-2]
		err = violation("a second CONNECT")
	case mqtt.PINGREQ:
		if err = mqtt.CheckPing(body); err == nil { // [MQTT-3.12.4-1]
			l.tally.heartbeats++
			s.laterFrame(header{typ: codec.TypeHeartbeat}, l.core.o.MaxPipelined, fx)
		}
	case mqtt.DISCONNECT:
		err = d.disconnect(l, s, h, body, fx)
	default:
		if s.state == stateDeciding || l.mustWait(s, h.Type) {
			err = l.postpone(s, p)
			break
		}
		err = d.request(l, s, h, body, fx)
	}
	if err != nil {
		s.refuseMQTT(l, d.v, err, fx)
	}
}

// disconnect takes DISCONNECT: 0x00 logs out, anything else just ends the link,
// as a closed socket does. A will is not published either way. [MQTT-3.14.4-3]
func (d mqttLink) disconnect(l *Loop, s *Session, h mqtt.Header, body []byte, fx *effects) *mqtt.Error {
	m, err := mqtt.ParseDisconnect(h, d.v, body)
	switch {
	case err != nil:
		return err
	case m.Expiry && !d.expiry: // section 3.14.2.2.2
		return violation("DISCONNECT with a Session Expiry Interval, and CONNECT had none")
	case m.Reason == mqtt.ReasonSuccess:
		s.laterFrame(header{typ: codec.TypeLogout}, l.core.o.MaxPipelined, fx)
	default:
		s.drain(closeFIN, fx)
	}
	return nil
}

// mustWait reports whether a packet must wait for the answer to a SUBSCRIBE.
func (l *Loop) mustWait(s *Session, t mqtt.Type) bool {
	if t != mqtt.SUBSCRIBE && t != mqtt.UNSUBSCRIBE {
		return false
	}
	k := l.mqttState(s)
	return k != nil && k.pending != nil
}

// postpone keeps a packet that came before the login was answered (clients need not
// wait for CONNACK, section 3.1.4), or a SUBSCRIBE before it.
func (l *Loop) postpone(s *Session, p []byte) *mqtt.Error {
	k := l.needMQTTState(s)
	if len(k.waiting)+len(p) > mqtt.MaxBeforeLogin {
		return tooMuch("more than %d bytes of packets wait for CONNACK or SUBACK", mqtt.MaxBeforeLogin)
	}
	k.waiting = append(k.waiting, p...)
	return nil
}

// resumeMQTT takes the packets that waited, as far as they need not wait again.
func (l *Loop) resumeMQTT(s *Session, fx *effects) {
	k := l.mqttState(s)
	if k == nil {
		return
	}
	d, ok := s.speaks().(mqttLink)
	p := k.waiting
	k.waiting = nil
	for ok && len(p) > 0 && s.state == stateOnline && fx.end == endNot {
		h, _ := mqtt.Next(p, d.v, mqtt.MaxBeforeLogin) // they were looked at before they waited
		d.packet(l, s, h, p[:h.Total()], fx)
		p = p[h.Total():]
	}
	l.settleMQTT(s)
}

func (d mqttLink) loginOK(dst []byte, _ *Session, m *codec.LoginOK) []byte {
	return mqtt.AppendLoginOK(dst, d.v, m)
}

func (d mqttLink) loginRefused(dst []byte, _ *Session, m *codec.LoginRefused) []byte {
	return mqtt.AppendLoginRefused(dst, d.v, m)
}

func (d mqttLink) forcedOffline(dst []byte, _ *Session, m *codec.ForcedOffline) []byte {
	return mqtt.AppendForcedOffline(dst, d.v, m)
}

// redirect names host and port, the one of the link's own listener (section 4.11
// recommends both): of a host alone a client could only guess whether it speaks TLS.
func (d mqttLink) redirect(dst []byte, s *Session, m *codec.Redirect) []byte {
	return mqtt.AppendRedirect(dst, d.v, s.state == stateOnline, m)
}

func (d mqttLink) heartbeatOK(dst []byte, _ *Session) []byte { return mqtt.AppendPingresp(dst) }

// logoutOK says nothing: the end of the link is the answer.
func (d mqttLink) logoutOK(dst []byte, _ *Session) []byte { return dst }

func (d mqttLink) ended(l *Loop, s *Session) { l.endMQTT(s) }

// endMQTT forgets what was in progress on a link that is gone.
func (l *Loop) endMQTT(s *Session) {
	k := l.mqttState(s)
	if k == nil {
		return
	}
	if k.sub != nil || k.pending != nil {
		l.unfollow(s)
	}
	delete(l.mqtt, s.id.Slot())
}

// fitting makes what is to be sent fit for a client with a Maximum Packet Size.
func (l *Loop) fitting(s *Session, out []byte) []byte {
	if len(l.mqtt) == 0 {
		return out
	}
	if k := l.mqtt[s.id.Slot()]; k != nil && k.maxPacket != 0 {
		return mqtt.Shrink(out, k.maxPacket)
	}
	return out
}
