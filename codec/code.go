package codec

import "fmt"

// Code says why a login was refused or a link was closed. The table in this
// file is the only one: texts, docs/protocol.md and the client's behaviour
// derive from it.
type Code uint32

// The codes.
const (
	CodeMalformedFrame  Code = 4001
	CodeFrameTooLarge   Code = 4002
	CodeBadVersion      Code = 4003
	CodeUnexpectedFrame Code = 4004
	CodeMalformedBody   Code = 4005
	CodeLoginTimeout    Code = 4006
	CodeNotLoggedIn     Code = 4007
	CodeBadParameter    Code = 4008
	CodeSlowReader      Code = 4009
	CodeSlowSender      Code = 4010
	CodeTooManyFailures Code = 4011
	CodeOrigin          Code = 4012
	CodeUnsupportedData Code = 4013

	CodeServerFull     Code = 5001
	CodeServerDraining Code = 5002
	CodeUnavailable    Code = 5003
	CodeOverloaded     Code = 5004
	CodeAddressLimited Code = 5005

	CodeAnotherLogin   Code = 6001
	CodeReplaced       Code = 6002
	CodeKickedREST     Code = 6003
	CodeAccountDeleted Code = 6004
	CodePolicyChange   Code = 6005
	CodeSigEnded       Code = 6006
	CodeKickedOffline  Code = 6208

	CodeSigExpired    Code = 70001
	CodeSigEmpty      Code = 70002
	CodeSigMalformed  Code = 70003
	CodeSigMismatch   Code = 70009
	CodeSigOtherUser  Code = 70013
	CodeSigOtherApp   Code = 70014
	CodeAppWithoutKey Code = 70016
	CodeUnknownApp    Code = 70020
)

// CodeInfo is a row of the code table.
type CodeInfo struct {
	Code      Code
	Name      string
	Text      string
	Reconnect bool // may the client try again by itself, after retry_after_ms, with what it has
	// WSClose is the code of the WebSocket Close frame: that of RFC 6455 where it has
	// one for the case, else one of the range 4000 to 4999 that no other row has.
	WSClose uint16
}

// Codes is the table of codes, ordered by number.
var Codes = []CodeInfo{
	{CodeMalformedFrame, "MalformedFrame", "the bytes are no frame", false, 1002},
	{CodeFrameTooLarge, "FrameTooLarge", "the frame is larger than allowed here", false, 1009},
	{CodeBadVersion, "BadVersion", "the server does not speak this protocol version", false, 4003},
	{CodeUnexpectedFrame, "UnexpectedFrame", "a frame of this type is not allowed here", false, 4004},
	{CodeMalformedBody, "MalformedBody", "the frame's body does not decode", false, 1007},
	{CodeLoginTimeout, "LoginTimeout", "no login arrived in time", true, 4006},
	{CodeNotLoggedIn, "NotLoggedIn", "the first frame must be a login", false, 4007},
	{CodeBadParameter, "BadParameter", "a field of the login is missing or out of bounds", false, 4008},
	{CodeSlowReader, "SlowReader", "the client does not read what it is sent", true, 4009},
	{CodeSlowSender, "SlowSender", "a frame of the client did not arrive in time", true, 4010},
	{CodeTooManyFailures, "TooManyFailures", "too many logins with bad credentials came from this address of late", true, 4011},
	{CodeOrigin, "OriginNotAllowed", "the app does not allow pages of this origin", false, 1008},
	{CodeUnsupportedData, "UnsupportedData", "a text message where binary is spoken, or the other way round", false, 1003},
	{CodeServerFull, "ServerFull", "the server has no room for another link", true, 1013},
	{CodeServerDraining, "ServerDraining", "the server is going down", true, 1001},
	{CodeUnavailable, "Unavailable", "the login could not be decided or stored now", true, 1011},
	{CodeOverloaded, "Overloaded", "too many logins at once", true, 1013},
	{CodeAddressLimited, "AddressLimited", "too many links, or too many at once, from the client's address", true, 1013},
	{CodeAnotherLogin, "AnotherLogin", "another device logged in and the login policy allows only one of the two", false, 4101},
	{CodeReplaced, "Replaced", "the same device logged in again on a new link", false, 4102},
	{CodeKickedREST, "Kicked", "kicked by the app's backend or operator", false, 4103},
	{CodeAccountDeleted, "AccountDeleted", "the account was deleted", false, 4104},
	{CodePolicyChange, "PolicyChange", "the login policy changed", false, 4105},
	{CodeSigEnded, "SigEnded", "the UserSig of this login has expired", false, 4106},
	{CodeKickedOffline, "KickedWhileOffline", "the instance was kicked while the client was away", false, 4208},
	{CodeSigExpired, "SigExpired", "the UserSig is expired or was issued before a kick", false, 4301},
	{CodeSigEmpty, "SigEmpty", "the UserSig is empty", false, 4302},
	{CodeSigMalformed, "SigMalformed", "the UserSig does not decode", false, 4303},
	{CodeSigMismatch, "SigMismatch", "the UserSig's signature does not verify", false, 4309},
	{CodeSigOtherUser, "SigOtherUser", "the UserSig is for another UserID", false, 4313},
	{CodeSigOtherApp, "SigOtherApp", "the UserSig is for another SDKAppID", false, 4314},
	{CodeAppWithoutKey, "AppWithoutKey", "the app has no key", false, 4316},
	{CodeUnknownApp, "UnknownApp", "there is no app with this SDKAppID", false, 4320},
}

// Info returns the code's row; ok is false for a code that is not in the table.
func (c Code) Info() (info CodeInfo, ok bool) {
	for i := range Codes {
		if Codes[i].Code == c {
			return Codes[i], true
		}
	}
	return CodeInfo{Code: c}, false
}

// String returns the code's name.
func (c Code) String() string {
	if info, ok := c.Info(); ok {
		return info.Name
	}
	return fmt.Sprintf("Code(%d)", uint32(c))
}
