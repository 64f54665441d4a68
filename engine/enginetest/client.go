package enginetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/internal/presence"
	"github.com/rollcall-im/rollcall/internal/usersig"
)

// Device is what logs in, and what it keeps from one login to the next.
type Device struct {
	UserID   string
	Platform presence.Platform
	ID       string
	Model    string
	Ticket   []byte // of its last login
	Link     *Link  // the one it logged in on last
}

// Credentials say what a login shows.
type Credentials struct {
	Resume   bool
	Ticket   []byte
	NoSig    bool
	Secret   string        // default: the app's key
	SigAge   time.Duration // how long ago the UserSig was issued
	SigLasts time.Duration // from its issue; default 180 days
}

// Login sends the login of a device.
func (l *Link) Login(d *Device, c Credentials) error {
	l.device, d.Link = d, l
	m := codec.Login{
		SDKAppID: SDKAppID, UserID: []byte(d.UserID), Platform: codec.Platform(d.Platform),
		DeviceID: []byte(d.ID), SDKVersion: []byte("1.0"), DeviceModel: []byte(d.Model),
		Resume: c.Resume, Ticket: c.Ticket,
	}
	if !c.NoSig {
		sig, err := l.node.sig(d.UserID, c)
		if err != nil {
			return err
		}
		m.UserSig = []byte(sig)
	}
	l.Send(codec.AppendLogin(nil, &m))
	return nil
}

func (n *Node) sig(userID string, c Credentials) (string, error) {
	if c.SigLasts == 0 {
		c.SigLasts = 180 * 24 * time.Hour
	}
	if c.Secret == "" {
		c.Secret = Secret
	}
	issued := n.Clock.Now().Add(-c.SigAge).Unix()
	return usersig.Sign(c.Secret, SDKAppID, userID, issued, int64(c.SigLasts/time.Second), nil)
}

// receive is the client's side of a frame: tell of it, keep what is to be kept.
func (l *Link) receive(f codec.Frame) {
	l.frames = append(l.frames, f.Type)
	text, err := l.read(f)
	switch {
	case err != nil:
		l.say("<- BROKEN %v: %v", f.Type, err)
	case l.Beats && f.Type == codec.TypeHeartbeatOK:
	default:
		l.say("<- %v%s", f.Type, text)
	}
}

func (l *Link) read(f codec.Frame) (string, error) {
	switch f.Type {
	case codec.TypeLoginOK:
		var m codec.LoginOK
		if err := m.Unmarshal(f.Body); err != nil {
			return "", err
		}
		l.device.Ticket = append([]byte(nil), m.Ticket...)
		l.intervalMS = int64(m.HeartbeatIntervalMS)
		return loginOK(&m), nil
	case codec.TypeLoginRefused:
		var m codec.LoginRefused
		err := m.Unmarshal(f.Body)
		return fmt.Sprintf(" %d %v%s", m.Code, m.Code, again(m.MayReconnect, m.RetryAfterMS)), err
	case codec.TypeForcedOffline:
		var m codec.ForcedOffline
		err := m.Unmarshal(f.Body)
		return fmt.Sprintf(" %d %v%s%s", m.Code, m.Code, by(&m), again(m.MayReconnect, m.RetryAfterMS)), err
	}
	return "", nil
}

func loginOK(m *codec.LoginOK) string {
	var b strings.Builder
	fmt.Fprintf(&b, " #%d, heartbeat %ds, silence %ds", m.InstID, m.HeartbeatIntervalMS/1000, m.SilenceTimeoutMS/1000)
	if m.TakenBack {
		b.WriteString(", taken back")
	}
	for i, k := range m.Kicked {
		b.WriteString([]string{", kicked", ""}[min(i, 1)])
		fmt.Fprintf(&b, " #%d %s", k.InstID, presence.Platform(k.Platform))
	}
	return b.String()
}

func by(m *codec.ForcedOffline) string {
	if m.ByPlatform == 0 {
		return ""
	}
	return fmt.Sprintf(", by %s %q", presence.Platform(m.ByPlatform), m.ByDeviceModel)
}

// again words whether the client may come back by itself, and whether it was
// told to wait as it must be then.
func again(may bool, afterMS uint32) string {
	switch {
	case may && afterMS > 0:
		return ", may reconnect"
	case may || afterMS > 0:
		return fmt.Sprintf(", CONFUSED: may reconnect %v after %d ms", may, afterMS)
	}
	return ""
}
