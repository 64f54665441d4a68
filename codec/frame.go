package codec

import "fmt"

// Type is a frame's type. 1..63 go from client to server, 65..127 from server to client.
type Type uint8

// The frame types.
const (
	TypeLogin     Type = 1 // body Login
	TypeHeartbeat Type = 2 // no body
	TypeLogout    Type = 3 // no body

	TypeLoginOK       Type = 65 // body LoginOK
	TypeLoginRefused  Type = 66 // body LoginRefused; then the server closes
	TypeHeartbeatOK   Type = 67 // no body
	TypeForcedOffline Type = 68 // body ForcedOffline; then the server closes
	TypeRedirect      Type = 69 // body Redirect; then the server closes
	TypeLogoutOK      Type = 70 // no body; then the server closes
)

// FrameInfo is a row of the frame table.
type FrameInfo struct {
	Type       Type
	Name       string
	FromClient bool
	Body       bool // the body is the message of rollcall.proto with the same name; else there is none
	Last       bool // the server closes the link after it
}

// Frames is the table of frames, ordered by type.
var Frames = []FrameInfo{
	{TypeLogin, "Login", true, true, false},
	{TypeHeartbeat, "Heartbeat", true, false, false},
	{TypeLogout, "Logout", true, false, false},
	{TypeLoginOK, "LoginOK", false, true, false},
	{TypeLoginRefused, "LoginRefused", false, true, true},
	{TypeHeartbeatOK, "HeartbeatOK", false, false, false},
	{TypeForcedOffline, "ForcedOffline", false, true, true},
	{TypeRedirect, "Redirect", false, true, true},
	{TypeLogoutOK, "LogoutOK", false, false, true},
}

// Info returns the type's row; ok is false for a type that is not in the table.
func (t Type) Info() (info FrameInfo, ok bool) {
	for i := range Frames {
		if Frames[i].Type == t {
			return Frames[i], true
		}
	}
	return FrameInfo{Type: t}, false
}

// String names the type for logs.
func (t Type) String() string {
	if info, ok := t.Info(); ok {
		return info.Name
	}
	return fmt.Sprintf("Type(%d)", uint8(t))
}
