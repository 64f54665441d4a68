package jsonmsg

import (
	"encoding/base64"
	"strconv"
	"unicode/utf8"

	"github.com/rollcall-im/rollcall/codec"
)

// AppendEmpty appends a message without fields: Heartbeat, HeartbeatOK, Logout, LogoutOK.
func AppendEmpty(dst []byte, t codec.Type) []byte {
	return append(begin(dst, t), '}')
}

// AppendLogin appends a Login.
func AppendLogin(dst []byte, m *codec.Login) []byte {
	dst = begin(dst, codec.TypeLogin)
	dst = appendNumber(dst, "SDKAppID", int64(m.SDKAppID))
	dst = appendText(dst, "UserID", m.UserID)
	dst = appendText(dst, "UserSig", m.UserSig)
	dst = appendPlatform(dst, "Platform", m.Platform)
	dst = appendText(dst, "DeviceID", m.DeviceID)
	dst = appendText(dst, "SDKVersion", m.SDKVersion)
	dst = appendText(dst, "DeviceModel", m.DeviceModel)
	dst = appendBool(dst, "Resume", m.Resume)
	dst = appendBase64(dst, "Ticket", m.Ticket)
	return append(dst, '}')
}

// AppendLoginOK appends a LoginOK. Of Kicked it takes the first codec.MaxKicked.
func AppendLoginOK(dst []byte, m *codec.LoginOK) []byte {
	dst = begin(dst, codec.TypeLoginOK)
	dst = appendNumber(dst, "InstID", int64(m.InstID))
	dst = appendBase64(dst, "Ticket", m.Ticket)
	dst = appendNumber(dst, "ServerTimeMS", m.ServerTimeMS)
	dst = appendNumber(dst, "HeartbeatIntervalMS", int64(m.HeartbeatIntervalMS))
	dst = appendNumber(dst, "SilenceTimeoutMS", int64(m.SilenceTimeoutMS))
	dst = appendBool(dst, "TakenBack", m.TakenBack)
	dst = append(appendName(dst, "Kicked"), '[')
	for i, k := range m.Kicked[:min(len(m.Kicked), codec.MaxKicked)] {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, `{"Platform":`...)
		dst = appendString(dst, platformName(k.Platform))
		dst = appendNumber(dst, "InstID", int64(k.InstID))
		dst = append(dst, '}')
	}
	return append(dst, "]}"...)
}

// AppendLoginRefused appends a LoginRefused, its Text cut to codec.MaxText.
func AppendLoginRefused(dst []byte, m *codec.LoginRefused) []byte {
	dst = begin(dst, codec.TypeLoginRefused)
	dst = appendCode(dst, m.Code, m.Text)
	dst = appendBool(dst, "MayReconnect", m.MayReconnect)
	dst = appendNumber(dst, "RetryAfterMS", int64(m.RetryAfterMS))
	return append(dst, '}')
}

// AppendForcedOffline appends a ForcedOffline, its Text cut to codec.MaxText and
// its ByDeviceModel to codec.MaxDeviceModel.
func AppendForcedOffline(dst []byte, m *codec.ForcedOffline) []byte {
	dst = begin(dst, codec.TypeForcedOffline)
	dst = appendCode(dst, m.Code, m.Text)
	dst = appendPlatform(dst, "ByPlatform", m.ByPlatform)
	dst = appendText(dst, "ByDeviceModel", codec.CutText(m.ByDeviceModel, codec.MaxDeviceModel))
	dst = appendNumber(dst, "TimeMS", m.TimeMS)
	dst = appendBool(dst, "MayReconnect", m.MayReconnect)
	dst = appendNumber(dst, "RetryAfterMS", int64(m.RetryAfterMS))
	return append(dst, '}')
}

// AppendRedirect appends a Redirect. An Address longer than codec.MaxAddress is
// left empty, which means: the same address again.
func AppendRedirect(dst []byte, m *codec.Redirect) []byte {
	address := m.Address
	if len(address) > codec.MaxAddress {
		address = ""
	}
	dst = begin(dst, codec.TypeRedirect)
	dst = appendText(dst, "Address", address)
	dst = appendNumber(dst, "RetryAfterMS", int64(m.RetryAfterMS))
	return append(dst, '}')
}

func begin(dst []byte, t codec.Type) []byte {
	dst = append(dst, `{"Type":"`...)
	dst = append(dst, t.String()...)
	return append(dst, '"')
}

// appendName appends a comma and the name of one of our members.
func appendName(dst []byte, name string) []byte {
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	return append(dst, `":`...)
}

func appendNumber(dst []byte, name string, v int64) []byte {
	return strconv.AppendInt(appendName(dst, name), v, 10)
}

func appendBool(dst []byte, name string, v bool) []byte {
	return strconv.AppendBool(appendName(dst, name), v)
}

func appendText[T string | []byte](dst []byte, name string, v T) []byte {
	return appendString(appendName(dst, name), v)
}

func appendBase64(dst []byte, name string, v []byte) []byte {
	dst = append(appendName(dst, name), '"')
	dst = base64.RawURLEncoding.AppendEncode(dst, v)
	return append(dst, '"')
}

func appendPlatform(dst []byte, name string, p codec.Platform) []byte {
	return appendText(dst, name, platformName(p))
}

func appendCode(dst []byte, c codec.Code, text string) []byte {
	dst = appendNumber(dst, "Code", int64(c))
	dst = appendText(dst, "Name", c.String())
	return appendText(dst, "Text", codec.CutText(text, codec.MaxText))
}

// platformName is empty where the number is not in the table.
func platformName(p codec.Platform) string {
	if !p.Known() {
		return ""
	}
	return p.String()
}

const hexDigits = "0123456789abcdef"

// appendString appends a string in quotes, with U+FFFD for what is not UTF-8.
func appendString[T string | []byte](dst []byte, v T) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(v); {
		c := v[i]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&0xf])
		case c < utf8.RuneSelf:
			dst = append(dst, c)
		default:
			r, n := utf8.DecodeRuneInString(string(v[i:min(len(v), i+utf8.UTFMax)]))
			dst = utf8.AppendRune(dst, r)
			i += n
			continue
		}
		i++
	}
	return append(dst, '"')
}
