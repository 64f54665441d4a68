package codec

import (
	"errors"
	"fmt"
	"unicode/utf8"
)

// Limits of a frame in bytes. Those of a whole frame include the header.
const (
	MaxFrameBeforeLogin = 8 << 10
	MaxFrame            = HeaderSize + MaxBody
	MaxBody             = 1<<16 - 1 // a full 16-bit length
)

// Limits of the fields, in bytes unless it says otherwise.
const (
	MaxUserID      = 32 // and at least 1, each 0x20..0x7e
	MaxDeviceID    = 64 // and at least 1
	MaxSDKVersion  = 32
	MaxDeviceModel = 64
	MaxTicket      = 256  // a client need not keep a longer one
	MaxText        = 256  // LoginRefused.Text, ForcedOffline.Text
	MaxAddress     = 320  // Redirect.Address
	MaxKicked      = 1024 // entries of LoginOK.Kicked
)

// Check reports the first field that no server accepts. It looks at the form
// only: whether UserSig and Ticket are good, the server says.
func (m *Login) Check() error {
	switch {
	case m.SDKAppID == 0:
		return errors.New("login: SDKAppID is 0")
	case !validUserID(m.UserID):
		return fmt.Errorf("login: UserID %q is not 1 to %d bytes of 0x20 to 0x7e", m.UserID, MaxUserID)
	case m.Platform == 0 || int(m.Platform) >= len(platformNames):
		return fmt.Errorf("login: platform %d is not in the table", m.Platform)
	case len(m.DeviceID) == 0:
		return errors.New("login: the device id is empty")
	case !utf8.Valid(m.UserSig):
		return errors.New("login: the UserSig is not UTF-8")
	case len(m.Ticket) > MaxTicket:
		return fmt.Errorf("login: ticket of %d bytes, at most %d are allowed", len(m.Ticket), MaxTicket)
	}
	for _, f := range []struct {
		name  string
		value []byte
		max   int
	}{{"device id", m.DeviceID, MaxDeviceID}, {"SDK version", m.SDKVersion, MaxSDKVersion}, {"device model", m.DeviceModel, MaxDeviceModel}} {
		if len(f.value) > f.max || !utf8.Valid(f.value) {
			return fmt.Errorf("login: %s %q is not at most %d bytes of UTF-8", f.name, f.value, f.max)
		}
	}
	if n := len(AppendLogin(nil, m)); n == 0 || n > MaxFrameBeforeLogin {
		return fmt.Errorf("login: UserSig of %d bytes makes a frame larger than %d bytes", len(m.UserSig), MaxFrameBeforeLogin)
	}
	return nil
}

func validUserID(id []byte) bool {
	if len(id) == 0 || len(id) > MaxUserID {
		return false
	}
	for _, c := range id {
		if c < 0x20 || c > 0x7e {
			return false
		}
	}
	return true
}
