// Package jsonmsg is the JSON form of the messages of package codec: the
// WebSocket sub-protocol rollcall.json.v1, one object a text message. Member Type
// has the frame's name, the others have the fields' names; docs/websocket.md
// describes it for those who write clients.
//
//	m, err := jsonmsg.Parse(p)         // is it JSON, and which message
//	var login codec.Login
//	err = m.Login(&login)              // its fields
//	dst = jsonmsg.AppendLoginOK(dst, &ok)
//
// Absent members and null mean 0, "" or false, members that are not known are
// ignored, and of a member that comes twice the last counts. What is appended has
// all members. As in package codec texts for people are cut to their limits, and
// decoders alias their input (but a string with escapes is a copy).
package jsonmsg

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"

	"github.com/rollcall-im/rollcall/codec"
)

// Message is one message whose syntax is good. It aliases the input of Parse.
type Message struct {
	Type     codec.Type // 0: a type that is not in the table
	Name     []byte     // of the type, as it came
	Optional bool       // a receiver that does not know the type may skip it

	object []byte
}

// Parse checks that p is one JSON object in UTF-8, nested at most maxDepth deep,
// with a member Type.
func Parse(p []byte) (Message, error) {
	m := Message{object: p}
	err := eachMember(p, func(name []byte, v value) error {
		switch string(name) {
		case "Type":
			return v.text(name, &m.Name)
		case "Optional":
			return v.bool(name, &m.Optional)
		}
		return nil
	})
	if err != nil {
		return Message{}, err
	}
	if len(m.Name) == 0 {
		return Message{}, fmt.Errorf("%w: no Type", errMessage)
	}
	m.Type = typeOf(m.Name)
	return m, nil
}

// typeOf returns the type of that name, 0 if there is none. There are few.
func typeOf(name []byte) codec.Type {
	for i := range codec.Frames {
		if codec.Frames[i].Name == string(name) {
			return codec.Frames[i].Type
		}
	}
	return 0
}

// Login reads the fields of a Login. A platform that is not in the table is 0.
func (m *Message) Login(l *codec.Login) error {
	*l = codec.Login{}
	return eachMember(m.object, func(name []byte, v value) error {
		switch string(name) {
		case "SDKAppID":
			return v.uint32(name, &l.SDKAppID)
		case "UserID":
			return v.text(name, &l.UserID)
		case "UserSig":
			return v.text(name, &l.UserSig)
		case "Platform":
			return v.platform(name, &l.Platform)
		case "DeviceID":
			return v.text(name, &l.DeviceID)
		case "SDKVersion":
			return v.text(name, &l.SDKVersion)
		case "DeviceModel":
			return v.text(name, &l.DeviceModel)
		case "Resume":
			return v.bool(name, &l.Resume)
		case "Ticket":
			return v.base64(name, &l.Ticket)
		}
		return nil
	})
}

// LoginOK reads the fields of a LoginOK. Of Kicked it keeps the first codec.MaxKicked.
func (m *Message) LoginOK(ok *codec.LoginOK) error {
	*ok = codec.LoginOK{}
	return eachMember(m.object, func(name []byte, v value) error {
		switch string(name) {
		case "InstID":
			return v.uint32(name, &ok.InstID)
		case "Ticket":
			return v.base64(name, &ok.Ticket)
		case "ServerTimeMS":
			return v.int64(name, &ok.ServerTimeMS)
		case "HeartbeatIntervalMS":
			return v.uint32(name, &ok.HeartbeatIntervalMS)
		case "SilenceTimeoutMS":
			return v.uint32(name, &ok.SilenceTimeoutMS)
		case "TakenBack":
			return v.bool(name, &ok.TakenBack)
		case "Kicked":
			return v.kicked(name, &ok.Kicked)
		}
		return nil
	})
}

// LoginRefused reads the fields of a LoginRefused. Name follows from Code.
func (m *Message) LoginRefused(r *codec.LoginRefused) error {
	*r = codec.LoginRefused{}
	return eachMember(m.object, func(name []byte, v value) error {
		switch string(name) {
		case "Code":
			return v.uint32(name, (*uint32)(&r.Code))
		case "Text":
			return v.string(name, &r.Text)
		case "MayReconnect":
			return v.bool(name, &r.MayReconnect)
		case "RetryAfterMS":
			return v.uint32(name, &r.RetryAfterMS)
		}
		return nil
	})
}

// ForcedOffline reads the fields of a ForcedOffline.
func (m *Message) ForcedOffline(f *codec.ForcedOffline) error {
	*f = codec.ForcedOffline{}
	return eachMember(m.object, func(name []byte, v value) error {
		switch string(name) {
		case "Code":
			return v.uint32(name, (*uint32)(&f.Code))
		case "Text":
			return v.string(name, &f.Text)
		case "ByPlatform":
			return v.platform(name, &f.ByPlatform)
		case "ByDeviceModel":
			return v.string(name, &f.ByDeviceModel)
		case "TimeMS":
			return v.int64(name, &f.TimeMS)
		case "MayReconnect":
			return v.bool(name, &f.MayReconnect)
		case "RetryAfterMS":
			return v.uint32(name, &f.RetryAfterMS)
		}
		return nil
	})
}

// Redirect reads the fields of a Redirect.
func (m *Message) Redirect(r *codec.Redirect) error {
	*r = codec.Redirect{}
	return eachMember(m.object, func(name []byte, v value) error {
		switch string(name) {
		case "Address":
			return v.string(name, &r.Address)
		case "RetryAfterMS":
			return v.uint32(name, &r.RetryAfterMS)
		}
		return nil
	})
}

func (v value) wrong(name []byte, want string) error {
	return fmt.Errorf("%w: %s is %s, want %s", errMessage, name, kindNames[v.kind], want)
}

// null reports whether the value is as good as absent.
func (v value) null() bool { return v.kind == kindNull }

func (v value) text(name []byte, dst *[]byte) error {
	if v.null() {
		return nil
	}
	if v.kind != kindString {
		return v.wrong(name, "a string")
	}
	b, ok := unescape(v.raw[1 : len(v.raw)-1])
	if !ok {
		return fmt.Errorf("%w: %s has half a surrogate pair", errMessage, name)
	}
	*dst = b
	return nil
}

func (v value) string(name []byte, dst *string) error {
	if v.null() {
		return nil
	}
	var b []byte
	if err := v.text(name, &b); err != nil {
		return err
	}
	*dst = string(b)
	return nil
}

func (v value) base64(name []byte, dst *[]byte) error {
	if v.null() {
		return nil
	}
	var b []byte
	if err := v.text(name, &b); err != nil {
		return err
	}
	// The decoder skips line ends; nobody needs them here.
	out, err := base64.RawURLEncoding.Strict().AppendDecode(nil, b)
	if err != nil || bytes.ContainsAny(b, "\r\n") {
		return fmt.Errorf("%w: %s is not base64url without padding", errMessage, name)
	}
	*dst = out
	return nil
}

func (v value) bool(name []byte, dst *bool) error {
	if v.null() {
		return nil
	}
	if v.kind != kindBool {
		return v.wrong(name, "true or false")
	}
	*dst = v.raw[0] == 't'
	return nil
}

func (v value) uint32(name []byte, dst *uint32) error {
	var n int64
	if err := v.int64(name, &n); err != nil || v.null() {
		return err
	}
	if n < 0 || n > math.MaxUint32 || v.raw[0] == '-' {
		return fmt.Errorf("%w: %s is %s, want 0 to %d", errMessage, name, v.raw, uint32(math.MaxUint32))
	}
	*dst = uint32(n)
	return nil
}

func (v value) int64(name []byte, dst *int64) error {
	if v.null() {
		return nil
	}
	if v.kind != kindNumber {
		return v.wrong(name, "a number")
	}
	n, err := strconv.ParseInt(string(v.raw[:min(len(v.raw), 32)]), 10, 64)
	if err != nil {
		return fmt.Errorf("%w: %s is no whole number of 64 bits", errMessage, name)
	}
	*dst = n
	return nil
}

// platform takes a name that is not in the table for 0, unknown.
func (v value) platform(name []byte, dst *codec.Platform) error {
	if v.null() {
		return nil
	}
	var b []byte
	if err := v.text(name, &b); err != nil {
		return err
	}
	*dst, _ = codec.ParsePlatform(string(b))
	return nil
}

func (v value) kicked(name []byte, dst *[]codec.KickedInstance) error {
	if v.null() {
		return nil
	}
	if v.kind != kindArray {
		return v.wrong(name, "an array")
	}
	*dst = nil
	return eachElement(v.raw, func(e value) error {
		if e.kind != kindObject {
			return e.wrong(name, "an array of objects")
		}
		var k codec.KickedInstance
		err := eachMember(e.raw, func(name []byte, v value) error {
			switch string(name) {
			case "Platform":
				return v.platform(name, &k.Platform)
			case "InstID":
				return v.uint32(name, &k.InstID)
			}
			return nil
		})
		if err == nil && len(*dst) < codec.MaxKicked {
			*dst = append(*dst, k)
		}
		return err
	})
}
