package codec

import (
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

// AppendLogin appends a Login frame to dst, as it stands: nothing is cut.
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

// AppendLoginOK appends a LoginOK frame to dst. Of Kicked it takes the first MaxKicked.
func AppendLoginOK(dst []byte, m *LoginOK) []byte {
	start := len(dst)
	dst = begin(dst, TypeLoginOK)
	dst = appendUint(dst, 1, uint64(m.InstID))
	dst = appendBytes(dst, 2, m.Ticket)
	dst = appendUint(dst, 3, uint64(m.ServerTimeMS))
	dst = appendUint(dst, 4, uint64(m.HeartbeatIntervalMS))
	dst = appendUint(dst, 5, uint64(m.SilenceTimeoutMS))
	for _, k := range m.Kicked[:min(len(m.Kicked), MaxKicked)] {
		dst = protowire.AppendTag(dst, 6, protowire.BytesType)
		n := uintSize(1, uint64(k.Platform)) + uintSize(2, uint64(k.InstID))
		dst = protowire.AppendVarint(dst, uint64(n))
		dst = appendUint(dst, 1, uint64(k.Platform))
		dst = appendUint(dst, 2, uint64(k.InstID))
	}
	dst = appendBool(dst, 7, m.TakenBack)
	return end(dst, start)
}

// Unmarshal decodes a LoginOK body. m.Ticket aliases body. Of the kicked
// instances it keeps the first MaxKicked.
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
			return f.kicked(&m.Kicked)
		case 7:
			return f.bool(&m.TakenBack)
		}
		return nil
	})
}

func (k *KickedInstance) unmarshal(body []byte) error {
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

// AppendLoginRefused appends a LoginRefused frame to dst, its Text cut to MaxText.
func AppendLoginRefused(dst []byte, m *LoginRefused) []byte {
	start := len(dst)
	dst = begin(dst, TypeLoginRefused)
	dst = appendUint(dst, 1, uint64(m.Code))
	dst = appendText(dst, 2, m.Text, MaxText)
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

// AppendForcedOffline appends a ForcedOffline frame to dst, its Text cut to
// MaxText and its ByDeviceModel to MaxDeviceModel.
func AppendForcedOffline(dst []byte, m *ForcedOffline) []byte {
	start := len(dst)
	dst = begin(dst, TypeForcedOffline)
	dst = appendUint(dst, 1, uint64(m.Code))
	dst = appendText(dst, 2, m.Text, MaxText)
	dst = appendUint(dst, 3, uint64(m.ByPlatform))
	dst = appendText(dst, 4, m.ByDeviceModel, MaxDeviceModel)
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

// AppendRedirect appends a Redirect frame to dst. An Address longer than
// MaxAddress is left out, which means: the same address again.
func AppendRedirect(dst []byte, m *Redirect) []byte {
	start := len(dst)
	dst = begin(dst, TypeRedirect)
	if len(m.Address) <= MaxAddress {
		dst = appendText(dst, 1, m.Address, MaxAddress)
	}
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
