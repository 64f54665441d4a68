package mqtt

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"strconv"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/rollcall-im/rollcall/codec"
)

// Connect is a CONNECT packet: a login, and what the link must heed.
type Connect struct {
	Version    Version
	Login      codec.Login // Ticket has memory of its own
	KeepAliveS uint16      // 0: the client promises nothing
	MaxPacket  uint32      // the largest packet that the client takes, bytes; 0: any
	Expiry     bool        // it asked for a session that outlives the link
}

// User properties of CONNECT.
const (
	PropSDKVersion  = "sdk-version"
	PropDeviceModel = "device-model"
	PropTicket      = "ticket" // base64url without padding
)

// CONNECT flags, section 3.1.2.3.
const (
	flagReserved   = 1 << 0
	flagClean      = 1 << 1
	flagWill       = 1 << 2
	flagWillQoS    = 3 << 3
	flagWillRetain = 1 << 5
	flagPassword   = 1 << 6
	flagUserName   = 1 << 7
)

// protocolName is how every CONNECT begins. [MQTT-3.1.2-1]
const protocolName = "\x00\x04MQTT"

// ParseConnect decodes the body of a CONNECT. Version tells, also with an error,
// how the client can be answered; 0: not at all.
func ParseConnect(h Header, body []byte) (Connect, *Error) {
	v, err := versionOf(body)
	if err != nil {
		return Connect{Version: v}, err
	}
	if err := checkConnect(v, body); err != nil {
		return Connect{Version: v}, err
	}
	pk := packet(h, v)
	if err := decoded(CONNECT, pk.ConnectDecode(body)); err != nil {
		return Connect{Version: v}, err
	}
	c := Connect{
		Version: v, KeepAliveS: pk.Connect.Keepalive,
		MaxPacket: pk.Properties.MaximumPacketSize, Expiry: pk.Properties.SessionExpiryInterval > 0,
	}
	err = c.login(pk)
	return c, err
}

// versionOf looks at the protocol name and version. To a version that we do not
// speak a CONNACK of 3.1.1 is the answer, which every client so far understands.
func versionOf(body []byte) (Version, *Error) {
	switch {
	case bytes.HasPrefix(body, []byte("\x00\x06MQIsdp\x03")):
		return V311, &Error{ReasonBadVersion, ReturnBadVersion, codec.CodeBadVersion, "MQTT 3.1 is not spoken here, 3.1.1 and 5.0 are"}
	case !bytes.HasPrefix(body, []byte(protocolName)) || len(body) == len(protocolName):
		return 0, malformed("CONNECT does not begin with the protocol name MQTT and a version")
	}
	v := Version(body[len(protocolName)])
	if v != V311 && v != V5 { // [MQTT-3.1.2-2]
		return V311, &Error{ReasonBadVersion, ReturnBadVersion, codec.CodeBadVersion, fmt.Sprintf("protocol version %d is not spoken here, 4 (3.1.1) and 5 (5.0) are", v)}
	}
	return v, nil
}

// checkConnect walks a CONNECT of a version that we speak. [MQTT-3.1.4-1]
func checkConnect(v Version, body []byte) *Error {
	r := reader{b: body[len(protocolName)+1:]}
	flags := r.byte("the connect flags")
	if err := checkFlags(v, flags); err != nil && r.err == nil {
		return err
	}
	r.uint16("the keep alive")
	var seen propertySet
	if v == V5 {
		seen = r.properties(CONNECT)
	}
	r.text("the client id") // [MQTT-3.1.3-3], [MQTT-3.1.3-4]
	if flags&flagWill != 0 {
		r.will(v)
	}
	if flags&flagUserName != 0 { // [MQTT-3.1.2-17]
		r.text("the user name") // [MQTT-3.1.3-12]
	}
	if flags&flagPassword != 0 { // [MQTT-3.1.2-19]
		r.binary("the password")
	}
	r.end(CONNECT) // [MQTT-3.1.2-16], [MQTT-3.1.2-18]
	switch {
	case r.err != nil:
		return r.err
	case seen.has(packets.PropAuthenticationMethod): // [MQTT-4.12.0-1]
		return &Error{ReasonBadAuthMethod, 0, codec.CodeBadParameter, "enhanced authentication is not offered"}
	case seen.has(packets.PropAuthenticationData): // section 3.1.2.11.10
		return violation("Authentication Data without an Authentication Method")
	}
	return nil
}

func checkFlags(v Version, flags byte) *Error {
	switch {
	case flags&flagReserved != 0: // [MQTT-3.1.2-3]
		return malformed("the reserved connect flag is set")
	case flags&flagWill == 0 && flags&(flagWillQoS|flagWillRetain) != 0: // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
		return malformed("the connect flags have QoS or RETAIN of a will, and no will")
	case flags&flagWillQoS == flagWillQoS: // [MQTT-3.1.2-12]
		return malformed("a will with QoS 3")
	case v == V311 && flags&flagPassword != 0 && flags&flagUserName == 0: // 3.1.1: [MQTT-3.1.2-22]
		return malformed("a password without a user name")
	}
	return nil
}

// will walks a will. It is never published, so whatever it says is good if it is
// well-formed.
func (r *reader) will(v Version) {
	if v == V5 {
		r.properties(will)
	}
	topic := r.text("the will topic")                                        // [MQTT-3.1.3-11]
	if r.err == nil && (len(topic) == 0 || bytes.ContainsAny(topic, "+#")) { // [MQTT-4.7.3-1], [MQTT-4.7.0-1]
		r.fail(malformed("the will topic %q is no topic name", topic))
	}
	r.binary("the will payload")
}

// login makes the login of a well-formed CONNECT.
func (c *Connect) login(pk *packets.Packet) *Error {
	m := &c.Login
	m.DeviceID = []byte(pk.Connect.ClientIdentifier)
	if n := len(m.DeviceID); n == 0 || n > codec.MaxDeviceID { // [MQTT-3.1.3-8]
		return &Error{ReasonBadClientID, ReturnBadClientID, codec.CodeBadParameter,
			fmt.Sprintf("the client id is the device id, it has %d bytes, want 1 to %d", n, codec.MaxDeviceID)}
	}
	m.UserSig = pk.Connect.Password
	m.Resume = !pk.Connect.Clean
	for _, p := range pk.Properties.User { // of one that is there twice the last counts
		switch p.Key {
		case PropSDKVersion:
			m.SDKVersion = []byte(p.Val)
		case PropDeviceModel:
			m.DeviceModel = []byte(p.Val)
		case PropTicket:
			m.Ticket = ticketOf(p.Val)
		}
	}
	return userName(pk.Connect.Username, m)
}

// ticketOf decodes a ticket. What is no base64 is no good ticket either, and
// then the UserSig decides, as with any other bad one.
func ticketOf(s string) []byte {
	t, err := base64.RawURLEncoding.DecodeString(s)
	if err != nil {
		return []byte(s)
	}
	return t
}

// userName takes <SDKAppID>/<UserID>/<Platform> apart, at the first and the last
// slash: a UserID may have some of its own.
func userName(name []byte, m *codec.Login) *Error {
	bad := func(format string, args ...any) *Error {
		return &Error{ReasonBadUserName, ReturnBadUserName, codec.CodeBadParameter, fmt.Sprintf(format, args...)}
	}
	first, last := bytes.IndexByte(name, '/'), bytes.LastIndexByte(name, '/')
	if first == last {
		return bad("the user name is not <SDKAppID>/<UserID>/<Platform>")
	}
	app, err := strconv.ParseUint(string(name[:first]), 10, 32)
	if err != nil || app == 0 {
		return bad("the SDKAppID in the user name is no number of 1 to 4294967295")
	}
	platform, ok := codec.ParsePlatform(string(name[last+1:]))
	if !ok {
		return bad("the platform in the user name is not in the table")
	}
	m.SDKAppID, m.UserID, m.Platform = uint32(app), name[first+1:last], platform
	if !validUserID(m.UserID) {
		return bad("the UserID in the user name is not 1 to %d bytes of 0x20 to 0x7e", codec.MaxUserID)
	}
	return nil
}

func validUserID(id []byte) bool {
	for _, c := range id {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return len(id) > 0 && len(id) <= codec.MaxUserID
}

// UserName is the user name with which a device logs in.
func UserName(app uint32, userID string, p codec.Platform) string {
	return fmt.Sprintf("%d/%s/%v", app, userID, p)
}
