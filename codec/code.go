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
	MQTT    MQTTCodes
}

// MQTTCodes are what MQTT has instead of a code (docs/mqtt.md): the reason code of a CONNACK
// and of a DISCONNECT of 5.0, which are not the same set, and the return code of a
// CONNACK of 3.1.1, where 0 means that none fits and the link is just closed.
type MQTTCodes struct{ Connack, Disconnect, Connack311 byte }

// Codes is the table of codes, ordered by number.
var Codes = []CodeInfo{
	{CodeMalformedFrame, "MalformedFrame", "the bytes are no frame", false, 1002, MQTTCodes{0x81, 0x81, 0}},
	{CodeFrameTooLarge, "FrameTooLarge", "the frame is larger than allowed here", false, 1009, MQTTCodes{0x95, 0x95, 0}},
	{CodeBadVersion, "BadVersion", "the server does not speak this protocol version", false, 4003, MQTTCodes{0x84, 0x82, 1}},
	{CodeUnexpectedFrame, "UnexpectedFrame", "a frame of this type is not allowed here", false, 4004, MQTTCodes{0x82, 0x82, 0}},
	{CodeMalformedBody, "MalformedBody", "the frame's body does not decode", false, 1007, MQTTCodes{0x81, 0x81, 0}},
	{CodeLoginTimeout, "LoginTimeout", "no login arrived in time", true, 4006, MQTTCodes{0x80, 0x8d, 0}},
	{CodeNotLoggedIn, "NotLoggedIn", "the first frame must be a login", false, 4007, MQTTCodes{0x82, 0x82, 0}},
	{CodeBadParameter, "BadParameter", "a field of the login is missing or out of bounds", false, 4008, MQTTCodes{0x83, 0x83, 4}},
	{CodeSlowReader, "SlowReader", "the client does not read what it is sent", true, 4009, MQTTCodes{0x97, 0x97, 0}},
	{CodeSlowSender, "SlowSender", "a frame of the client did not arrive in time", true, 4010, MQTTCodes{0x80, 0x8d, 0}},
	{CodeTooManyFailures, "TooManyFailures", "too many logins with bad credentials came from this address of late", true, 4011, MQTTCodes{0x97, 0x97, 5}},
	{CodeOrigin, "OriginNotAllowed", "the app does not allow pages of this origin", false, 1008, MQTTCodes{0x87, 0x87, 5}},
	{CodeUnsupportedData, "UnsupportedData", "a text message where binary is spoken, or the other way round", false, 1003, MQTTCodes{0x83, 0x83, 0}},
	{CodeServerFull, "ServerFull", "the server has no room for another link", true, 1013, MQTTCodes{0x89, 0x89, 3}},
	{CodeServerDraining, "ServerDraining", "the server is going down", true, 1001, MQTTCodes{0x88, 0x8b, 3}},
	{CodeUnavailable, "Unavailable", "the login could not be decided or stored now", true, 1011, MQTTCodes{0x88, 0x89, 3}},
	{CodeOverloaded, "Overloaded", "too many logins at once", true, 1013, MQTTCodes{0x89, 0x89, 3}},
	{CodeAddressLimited, "AddressLimited", "too many links, or too many at once, from the client's address", true, 1013, MQTTCodes{0x9f, 0x9f, 3}},
	{CodeAnotherLogin, "AnotherLogin", "another device logged in and the login policy allows only one of the two", false, 4101, MQTTCodes{0x87, 0x8e, 5}},
	{CodeReplaced, "Replaced", "the same device logged in again on a new link", false, 4102, MQTTCodes{0x87, 0x8e, 5}},
	{CodeKickedREST, "Kicked", "kicked by the app's backend or operator", false, 4103, MQTTCodes{0x87, 0x98, 5}},
	{CodeAccountDeleted, "AccountDeleted", "the account was deleted", false, 4104, MQTTCodes{0x87, 0x98, 5}},
	{CodePolicyChange, "PolicyChange", "the login policy changed", false, 4105, MQTTCodes{0x87, 0x98, 5}},
	{CodeSigEnded, "SigEnded", "the UserSig of this login has expired", false, 4106, MQTTCodes{0x87, 0x87, 5}},
	{CodeKickedOffline, "KickedWhileOffline", "the instance was kicked while the client was away", false, 4208, MQTTCodes{0x87, 0x87, 5}},
	{CodeSigExpired, "SigExpired", "the UserSig is expired or was issued before a kick", false, 4301, MQTTCodes{0x87, 0x87, 5}},
	{CodeSigEmpty, "SigEmpty", "the UserSig is empty", false, 4302, MQTTCodes{0x86, 0x87, 4}},
	{CodeSigMalformed, "SigMalformed", "the UserSig does not decode", false, 4303, MQTTCodes{0x86, 0x87, 4}},
	{CodeSigMismatch, "SigMismatch", "the UserSig's signature does not verify", false, 4309, MQTTCodes{0x86, 0x87, 4}},
	{CodeSigOtherUser, "SigOtherUser", "the UserSig is for another UserID", false, 4313, MQTTCodes{0x86, 0x87, 4}},
	{CodeSigOtherApp, "SigOtherApp", "the UserSig is for another SDKAppID", false, 4314, MQTTCodes{0x86, 0x87, 4}},
	{CodeAppWithoutKey, "AppWithoutKey", "the app has no key", false, 4316, MQTTCodes{0x87, 0x87, 5}},
	{CodeUnknownApp, "UnknownApp", "there is no app with this SDKAppID", false, 4320, MQTTCodes{0x86, 0x87, 4}},
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
