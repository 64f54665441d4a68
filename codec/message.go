package codec

import (
	"errors"
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// Login is the first frame of a link. Its slices alias the input of Unmarshal.
type Login struct {
	SDKAppID    uint32
	UserID      []byte
	UserSig     []byte
	Platform    Platform
	DeviceID    []byte
	SDKVersion  []byte
	DeviceModel []byte
	Resume      bool
	Ticket      []byte
}

// KickedInstance is an instance that a login pushed out.
type KickedInstance struct {
	Platform Platform
	InstID   uint32
}

// LoginOK answers a login. Ticket aliases the input of Unmarshal.
type LoginOK struct {
	InstID              uint32
	Ticket              []byte
	ServerTimeMS        int64
	HeartbeatIntervalMS uint32
	SilenceTimeoutMS    uint32
	Kicked              []KickedInstance
	TakenBack           bool
}

// LoginRefused answers a login that was not let in.
type LoginRefused struct {
	Code         Code
	Text         string
	RetryAfterMS uint32
	MayReconnect bool
}

// ForcedOffline is the last frame on a link that the server ends.
type ForcedOffline struct {
	Code          Code
	Text          string
	ByPlatform    Platform
	ByDeviceModel string
	TimeMS        int64
	MayReconnect  bool
	RetryAfterMS  uint32
}

// Redirect tells the client to connect elsewhere.
type Redirect struct {
	Address      string
	RetryAfterMS uint32
}

// errBody is the root of all body errors.
var errBody = errors.New("malformed body")

// AppendLogin appends a Login frame to dst.
func AppendLogin(dst []byte, m *Login) []byte {
	start := len(dst)
	dst = begin(dst, TypeLogin)
	dst = appendUint(dst, 1, uint64(m.SDKAppID))
	dst = appendBytes(dst, 2, m.UserID)
	dst = appendBytes(dst, 3, m.UserSig)
	dst = appendUint(dst, 4, uint64(m.Platform))
	dst = appendBytes(dst, 5, m.DeviceID)
	dst = appendBytes(dst, 6, m.SDKVersion)
	dst = appendBytes(dst, 7, m.DeviceModel)
	dst = appendBool(dst, 8, m.Resume)
	dst = appendBytes(dst, 9, m.Ticket)
	return end(dst, start)
}

// Unmarshal decodes a Login body. m aliases body.
func (m *Login) Unmarshal(body []byte) error {
	*m = Login{}
	return eachField(body, func(f field) error {
		switch f.num {
		case 1:
			return f.uint32(&m.SDKAppID)
		case 2:
			return f.text(&m.UserID)
		case 3:
			return f.text(&m.UserSig)
		case 4:
			return f.platform(&m.Platform)
		case 5:
			return f.text(&m.DeviceID)
		case 6:
			return f.text(&m.SDKVersion)
		case 7:
			return f.text(&m.DeviceModel)
		case 8:
			return f.bool(&m.Resume)
		case 9:
			return f.bytes(&m.Ticket)
		}
		return nil
	})
}

// AppendLoginOK appends a LoginOK frame to dst.
func AppendLoginOK(dst []byte, m *LoginOK) []byte {
	start := len(dst)
	dst = begin(dst, TypeLoginOK)
	dst = appendUint(dst, 1, uint64(m.InstID))
	dst = appendBytes(dst, 2, m.Ticket)
	dst = appendUint(dst, 3, uint64(m.ServerTimeMS))
	dst = appendUint(dst, 4, uint64(m.HeartbeatIntervalMS))
	dst = appendUint(dst, 5, uint64(m.SilenceTimeoutMS))
	for _, k := range m.Kicked {
		dst = protowire.AppendTag(dst, 6, protowire.BytesType)
		n := uintSize(1, uint64(k.Platform)) + uintSize(2, uint64(k.InstID))
		dst = protowire.AppendVarint(dst, uint64(n))
		dst = appendUint(dst, 1, uint64(k.Platform))
		dst = appendUint(dst, 2, uint64(k.InstID))
	}
	dst = appendBool(dst, 7, m.TakenBack)
	return end(dst, start)
}

// Unmarshal decodes a LoginOK body. m.Ticket aliases body.
func (m *LoginOK) Unmarshal(body []byte) error {
	*m = LoginOK{}
	return eachField(body, func(f field) error {
		switch f.num {
		case 1:
			return f.uint32(&m.InstID)
		case 2:
			return f.bytes(&m.Ticket)
		case 3:
			return f.int64(&m.ServerTimeMS)
		case 4:
			return f.uint32(&m.HeartbeatIntervalMS)
		case 5:
			return f.uint32(&m.SilenceTimeoutMS)
		case 6:
			var k KickedInstance
			if err := k.unmarshal(f); err != nil {
				return err
			}
			m.Kicked = append(m.Kicked, k)
		case 7:
			return f.bool(&m.TakenBack)
		}
		return nil
	})
}

func (k *KickedInstance) unmarshal(f field) error {
	var body []byte
	if err := f.bytes(&body); err != nil {
		return err
	}
	return eachField(body, func(f field) error {
		switch f.num {
		case 1:
			return f.platform(&k.Platform)
		case 2:
			return f.uint32(&k.InstID)
		}
		return nil
	})
}

// AppendLoginRefused appends a LoginRefused frame to dst.
func AppendLoginRefused(dst []byte, m *LoginRefused) []byte {
	start := len(dst)
	dst = begin(dst, TypeLoginRefused)
	dst = appendUint(dst, 1, uint64(m.Code))
	dst = appendString(dst, 2, m.Text)
	dst = appendUint(dst, 3, uint64(m.RetryAfterMS))
	dst = appendBool(dst, 4, m.MayReconnect)
	return end(dst, start)
}

// Unmarshal decodes a LoginRefused body.
func (m *LoginRefused) Unmarshal(body []byte) error {
	*m = LoginRefused{}
	return eachField(body, func(f field) error {
		switch f.num {
		case 1:
			return f.uint32((*uint32)(&m.Code))
		case 2:
			return f.string(&m.Text)
		case 3:
			return f.uint32(&m.RetryAfterMS)
		case 4:
			return f.bool(&m.MayReconnect)
		}
		return nil
	})
}

// AppendForcedOffline appends a ForcedOffline frame to dst.
func AppendForcedOffline(dst []byte, m *ForcedOffline) []byte {
	start := len(dst)
	dst = begin(dst, TypeForcedOffline)
	dst = appendUint(dst, 1, uint64(m.Code))
	dst = appendString(dst, 2, m.Text)
	dst = appendUint(dst, 3, uint64(m.ByPlatform))
	dst = appendString(dst, 4, m.ByDeviceModel)
	dst = appendUint(dst, 5, uint64(m.TimeMS))
	dst = appendBool(dst, 6, m.MayReconnect)
	dst = appendUint(dst, 7, uint64(m.RetryAfterMS))
	return end(dst, start)
}

// Unmarshal decodes a ForcedOffline body.
func (m *ForcedOffline) Unmarshal(body []byte) error {
	*m = ForcedOffline{}
	return eachField(body, func(f field) error {
		switch f.num {
		case 1:
			return f.uint32((*uint32)(&m.Code))
		case 2:
			return f.string(&m.Text)
		case 3:
			return f.platform(&m.ByPlatform)
		case 4:
			return f.string(&m.ByDeviceModel)
		case 5:
			return f.int64(&m.TimeMS)
		case 6:
			return f.bool(&m.MayReconnect)
		case 7:
			return f.uint32(&m.RetryAfterMS)
		}
		return nil
	})
}

// AppendRedirect appends a Redirect frame to dst.
func AppendRedirect(dst []byte, m *Redirect) []byte {
	start := len(dst)
	dst = begin(dst, TypeRedirect)
	dst = appendString(dst, 1, m.Address)
	dst = appendUint(dst, 2, uint64(m.RetryAfterMS))
	return end(dst, start)
}

// Unmarshal decodes a Redirect body.
func (m *Redirect) Unmarshal(body []byte) error {
	*m = Redirect{}
	return eachField(body, func(f field) error {
		switch f.num {
		case 1:
			return f.string(&m.Address)
		case 2:
			return f.uint32(&m.RetryAfterMS)
		}
		return nil
	})
}

// field is one decoded field of a body.
type field struct {
	num   protowire.Number
	wire  protowire.Type
	value uint64 // VarintType
	data  []byte // BytesType, aliases the body
}

// eachField calls fn for each varint and bytes field of body, skips the rest,
// and stops at the first error.
func eachField(body []byte, fn func(field) error) error {
	for len(body) > 0 {
		num, wire, n := protowire.ConsumeTag(body)
		if n < 0 {
			return fmt.Errorf("%w: %w", errBody, protowire.ParseError(n))
		}
		f := field{num: num, wire: wire}
		body = body[n:]
		switch wire {
		case protowire.VarintType:
			f.value, n = protowire.ConsumeVarint(body)
		case protowire.BytesType:
			f.data, n = protowire.ConsumeBytes(body)
		default:
			n = protowire.ConsumeFieldValue(num, wire, body)
		}
		if n < 0 {
			return fmt.Errorf("%w: field %d: %w", errBody, num, protowire.ParseError(n))
		}
		if err := fn(f); err != nil {
			return err
		}
		body = body[n:]
	}
	return nil
}

// want reports whether the field has the wire type w; one that has not is an
// unknown field by the rules of Protocol Buffers, and skipped.
func (f field) want(w protowire.Type) bool { return f.wire == w }

func (f field) uint32(dst *uint32) error {
	if f.want(protowire.VarintType) {
		*dst = uint32(f.value)
	}
	return nil
}

func (f field) int64(dst *int64) error {
	if f.want(protowire.VarintType) {
		*dst = int64(f.value)
	}
	return nil
}

func (f field) bool(dst *bool) error {
	if f.want(protowire.VarintType) {
		*dst = f.value != 0
	}
	return nil
}

// platform keeps a number outside the table as 0, unknown.
func (f field) platform(dst *Platform) error {
	if !f.want(protowire.VarintType) {
		return nil
	}
	*dst = 0
	if f.value < uint64(len(platformNames)) {
		*dst = Platform(f.value)
	}
	return nil
}

func (f field) bytes(dst *[]byte) error {
	if f.want(protowire.BytesType) {
		*dst = f.data
	}
	return nil
}

func (f field) text(dst *[]byte) error {
	if !f.want(protowire.BytesType) {
		return nil
	}
	if !utf8.Valid(f.data) {
		return fmt.Errorf("%w: field %d is not UTF-8", errBody, f.num)
	}
	*dst = f.data
	return nil
}

func (f field) string(dst *string) error {
	var b []byte
	if err := f.text(&b); err != nil {
		return err
	}
	if b != nil {
		*dst = string(b)
	}
	return nil
}

func appendUint(dst []byte, num protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.VarintType)
	return protowire.AppendVarint(dst, v)
}

func appendBool(dst []byte, num protowire.Number, v bool) []byte {
	if !v {
		return dst
	}
	return appendUint(dst, num, 1)
}

func appendBytes(dst []byte, num protowire.Number, v []byte) []byte {
	if len(v) == 0 {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendBytes(dst, v)
}

func appendString(dst []byte, num protowire.Number, v string) []byte {
	if v == "" {
		return dst
	}
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendString(dst, v)
}

func uintSize(num protowire.Number, v uint64) int {
	if v == 0 {
		return 0
	}
	return protowire.SizeTag(num) + protowire.SizeVarint(v)
}
