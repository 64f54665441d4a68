package rollcall

import (
	"errors"
	"fmt"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// What ends a link or a Run besides a refusal or a forced offline.
var (
	ErrClosed   = errors.New("rollcall: client closed")
	ErrNoAnswer = errors.New("rollcall: no answer from the server in time")
	ErrProtocol = errors.New("rollcall: the server broke the protocol")
)

// RefusedError is a login that the server did not let in. Run ends with it only
// if MayReconnect is false.
type RefusedError struct {
	Code         codec.Code
	Text         string // for the person or the log; may be empty
	MayReconnect bool
	RetryAfter   time.Duration
	Resume       bool // the login was a resume
}

// Error implements error.
func (e *RefusedError) Error() string {
	what := "login"
	if e.Resume {
		what = "resume"
	}
	return fmt.Sprintf("rollcall: %s refused: %s", what, describe(e.Code, e.Text))
}

// ForcedOfflineError is the server's word that it ends the link. Run ends with
// it only if MayReconnect is false.
type ForcedOfflineError struct {
	Code          codec.Code
	Text          string
	ByPlatform    codec.Platform // with codec.CodeAnotherLogin: who logged in; else 0
	ByDeviceModel string
	Time          time.Time // when the server decided it
	MayReconnect  bool
	RetryAfter    time.Duration
}

// Error implements error.
func (e *ForcedOfflineError) Error() string {
	s := "rollcall: forced offline: " + describe(e.Code, e.Text)
	if e.ByPlatform != 0 {
		s += fmt.Sprintf(" (by %v %q)", e.ByPlatform, e.ByDeviceModel)
	}
	return s
}

// describe is the code with the server's text, or the table's if it gave none.
func describe(code codec.Code, text string) string {
	if info, ok := code.Info(); ok && text == "" {
		text = info.Text
	}
	return fmt.Sprintf("%d %v: %s", uint32(code), code, text)
}

func milliseconds(ms uint32) time.Duration { return time.Duration(ms) * time.Millisecond }
