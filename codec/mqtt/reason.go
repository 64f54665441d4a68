package mqtt

import (
	"github.com/rollcall-im/rollcall/codec"
)

// Reason codes of MQTT 5.0, section 2.4, as far as we say or hear them. Those that
// stand for a codec.Code are in its table.
const (
	ReasonSuccess            = 0x00
	ReasonDisconnectWithWill = 0x04
	ReasonNoSubscription     = 0x11
	ReasonUnspecified        = 0x80
	ReasonMalformed          = 0x81
	ReasonProtocolError      = 0x82
	ReasonSpecific           = 0x83 // well-formed and understood, but not accepted here
	ReasonBadVersion         = 0x84
	ReasonBadClientID        = 0x85
	ReasonBadUserName        = 0x86
	ReasonNotAuthorized      = 0x87
	ReasonServerBusy         = 0x89
	ReasonBadAuthMethod      = 0x8c
	ReasonBadTopicFilter     = 0x8f
	ReasonBadTopicName       = 0x90
	ReasonIDNotFound         = 0x92
	ReasonTopicAlias         = 0x94
	ReasonPacketTooLarge     = 0x95
	ReasonQuotaExceeded      = 0x97
	ReasonNoRetain           = 0x9a
	ReasonNoQoS              = 0x9b
	ReasonUseAnotherServer   = 0x9c
	ReasonNoShared           = 0x9e
	ReasonNoSubscriptionID   = 0xa1
	ReasonNoWildcard         = 0xa2
)

// Return codes of a CONNACK of MQTT 3.1.1, section 3.2.2.3.
const (
	ReturnAccepted      = 0
	ReturnBadVersion    = 1
	ReturnBadClientID   = 2
	ReturnUnavailable   = 3
	ReturnBadUserName   = 4
	ReturnNotAuthorized = 5
)

// refusalOf is the Error that refuses a login with a code of ours.
func refusalOf(code codec.Code) (reason, ret byte) {
	info, ok := code.Info()
	if !ok {
		return ReasonUnspecified, ReturnUnavailable
	}
	return info.MQTT.Connack, info.MQTT.Connack311
}

// disconnectOf is the reason with which a link ends.
func disconnectOf(code codec.Code) byte {
	info, ok := code.Info()
	if !ok {
		return ReasonUnspecified
	}
	return info.MQTT.Disconnect
}
