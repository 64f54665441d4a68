package bench

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
)

// mqttTongue is MQTT 5.0, with a Clean Start and without a keep alive of its own:
// the server's counts.
type mqttTongue struct {
	out []byte // a message as a native frame
}

const (
	mqttConnect    = byte(mqtt.CONNECT) << 4
	mqttConnack    = byte(mqtt.CONNACK) << 4
	mqttPingreq    = byte(mqtt.PINGREQ) << 4
	mqttPingresp   = byte(mqtt.PINGRESP) << 4
	mqttDisconnect = byte(mqtt.DISCONNECT) << 4

	mqttCleanLogin = 0xc2 // user name, password, Clean Start; section 3.1.2.3
	propKeepAlive  = 0x13 // Server Keep Alive
	propReason     = 0x1f // Reason String
	propReference  = 0x1c // Server Reference
	propUser       = 0x26 // User Property
)

func (*mqttTongue) greet(dst []byte, _ uint32) []byte   { return dst }
func (*mqttTongue) greeted([]byte, uint32) (int, error) { return 0, nil }
func (*mqttTongue) heartbeat(dst []byte) []byte         { return append(dst, mqttPingreq, 0) }
func (*mqttTongue) logout(dst []byte) []byte            { return append(dst, mqttDisconnect, 0) }
func (*mqttTongue) silentLogout() bool                  { return true }

func (*mqttTongue) login(dst []byte, m *codec.Login) []byte {
	var props []byte
	for _, p := range []struct {
		name  string
		value []byte
	}{{mqtt.PropSDKVersion, m.SDKVersion}, {mqtt.PropDeviceModel, m.DeviceModel}} {
		if len(p.value) > 0 {
			props = appendString(appendString(append(props, propUser), p.name), p.value)
		}
	}
	body := append(appendString(nil, "MQTT"), byte(mqtt.V5), mqttCleanLogin, 0, 0)
	body = append(binary.AppendUvarint(body, uint64(len(props))), props...)
	body = appendString(body, m.DeviceID)
	body = appendString(body, mqtt.UserName(m.SDKAppID, string(m.UserID), m.Platform))
	body = appendString(body, m.UserSig)
	return append(binary.AppendUvarint(append(dst, mqttConnect), uint64(len(body))), body...)
}

func appendString[T string | []byte](dst []byte, s T) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(len(s))), s...)
}

func (s *mqttTongue) next(p []byte) (heard, error) {
	if len(p) < 2 {
		return heard{}, nil
	}
	size, k := binary.Uvarint(p[1:min(len(p), 5)]) // the same encoding as a variable byte integer
	switch {
	case k == 0 && len(p) >= 5, k < 0, size > mqtt.MaxPacket:
		return heard{}, fmt.Errorf("a packet whose length begins with %x", p[1:5])
	case k == 0, len(p) < 1+k+int(size):
		return heard{}, nil
	}
	n := 1 + k + int(size)
	body := p[1+k : n]
	s.out = s.out[:0]
	var err error
	switch {
	case p[0] == mqttPingresp && size == 0:
		s.out = codec.AppendEmpty(s.out, codec.TypeHeartbeatOK)
	case p[0] == mqttConnack && size >= 2:
		err = s.connack(body)
	case p[0] == mqttDisconnect:
		err = s.disconnect(body)
	default:
		err = fmt.Errorf("a packet of type %#x with %d bytes", p[0], size)
	}
	if err != nil {
		return heard{}, err
	}
	return heard{frame: frameOf(s.out), n: n}, nil
}

// connack turns a CONNACK into a LoginOK or LoginRefused.
func (s *mqttTongue) connack(body []byte) error {
	props, err := readProps(body[2:])
	if err != nil {
		return err
	}
	if reason := body[1]; reason != 0 {
		s.out = codec.AppendLoginRefused(s.out, &codec.LoginRefused{
			Code: codec.Code(props.number(mqtt.PropCode)), Text: fmt.Sprintf("reason %#x: %s", reason, props.text),
			MayReconnect: props.user[mqtt.PropMayReconnect] == "true", RetryAfterMS: uint32(props.number(mqtt.PropRetryAfter)),
		})
		return nil
	}
	ticket, err := base64.RawURLEncoding.DecodeString(props.user[mqtt.PropTicket])
	if err != nil {
		return fmt.Errorf("the ticket in CONNACK: %w", err)
	}
	ok := codec.LoginOK{
		InstID: uint32(props.number(mqtt.PropInstID)), Ticket: ticket, ServerTimeMS: props.number(mqtt.PropTime),
		HeartbeatIntervalMS: uint32(props.keepAliveS) * 1000, SilenceTimeoutMS: uint32(props.number(mqtt.PropSilenceTimeout)),
		TakenBack: props.user[mqtt.PropTakenBack] == "true",
	}
	if props.user[mqtt.PropKicked] != "" {
		name, id, _ := strings.Cut(props.user[mqtt.PropKicked], "/")
		platform, _ := codec.ParsePlatform(name)
		inst, _ := strconv.ParseUint(id, 10, 32)
		ok.Kicked = []codec.KickedInstance{{Platform: platform, InstID: uint32(inst)}}
	}
	s.out = codec.AppendLoginOK(s.out, &ok)
	return nil
}

// disconnect turns a DISCONNECT into a ForcedOffline or Redirect. Without a body its reason is 0x00.
func (s *mqttTongue) disconnect(body []byte) error {
	if len(body) < 2 {
		s.out = codec.AppendForcedOffline(s.out, &codec.ForcedOffline{Text: "DISCONNECT without properties"})
		return nil
	}
	props, err := readProps(body[1:])
	if err != nil {
		return err
	}
	if props.reference != "" {
		s.out = codec.AppendRedirect(s.out, &codec.Redirect{Address: props.reference, RetryAfterMS: uint32(props.number(mqtt.PropRetryAfter))})
		return nil
	}
	by, _ := codec.ParsePlatform(props.user[mqtt.PropByPlatform])
	s.out = codec.AppendForcedOffline(s.out, &codec.ForcedOffline{
		Code: codec.Code(props.number(mqtt.PropCode)), Text: fmt.Sprintf("reason %#x: %s", body[0], props.text),
		ByPlatform: by, ByDeviceModel: props.user[mqtt.PropByDeviceModel], TimeMS: props.number(mqtt.PropTime),
		MayReconnect: props.user[mqtt.PropMayReconnect] == "true", RetryAfterMS: uint32(props.number(mqtt.PropRetryAfter)),
	})
	return nil
}

// mqttProps are the properties that mean something here.
type mqttProps struct {
	keepAliveS      uint16
	text, reference string
	user            map[string]string // of a name that comes twice the last
}

func (p *mqttProps) number(name string) int64 {
	n, _ := strconv.ParseInt(p.user[name], 10, 64)
	return n
}

// propSizes are the lengths of the values of properties that have a fixed one, section 2.2.2.2.
var propSizes = map[byte]int{
	0x01: 1, 0x17: 1, 0x19: 1, 0x24: 1, 0x25: 1, 0x28: 1, 0x29: 1, 0x2a: 1,
	propKeepAlive: 2, 0x21: 2, 0x22: 2, 0x23: 2,
	0x02: 4, 0x11: 4, 0x18: 4, 0x27: 4,
}

// readProps reads properties, which fill b behind their length.
func readProps(b []byte) (p mqttProps, err error) {
	n, k := binary.Uvarint(b)
	if k <= 0 || int(n) != len(b)-k {
		return p, fmt.Errorf("properties that do not fill their packet: %x", b)
	}
	p.user = map[string]string{}
	b = b[k:]
	for len(b) > 0 {
		id := b[0]
		b = b[1:]
		if size := propSizes[id]; size > 0 {
			if len(b) < size {
				return p, fmt.Errorf("property %#x is cut off", id)
			}
			if id == propKeepAlive {
				p.keepAliveS = binary.BigEndian.Uint16(b)
			}
			b = b[size:]
			continue
		}
		if b, err = p.strings(id, b); err != nil {
			return p, err
		}
	}
	return p, nil
}

// strings reads the value of a property that is one string, or for users two.
func (p *mqttProps) strings(id byte, b []byte) (rest []byte, err error) {
	first, b, ok := cutString(b)
	if !ok {
		return nil, fmt.Errorf("property %#x is cut off", id)
	}
	switch id {
	case propReason:
		p.text = first
	case propReference:
		p.reference = first
	case propUser:
		second, rest, ok := cutString(b)
		if !ok {
			return nil, fmt.Errorf("user property %q is cut off", first)
		}
		p.user[first] = second
		return rest, nil
	}
	return b, nil
}

func cutString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) < 2 {
		return "", nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return "", nil, false
	}
	return string(b[2 : 2+n]), b[2+n:], true
}
