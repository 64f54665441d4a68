package engine

import (
	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/mqtt"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// dialect is how a client speaks: it turns bytes into what the rules take, and
// what the rules say into bytes. A dialect has no state and serves all loops. What
// a link needs while something is in progress lies in a map of its loop by slot,
// so that an idle link costs nothing more than its Session.
type dialect interface {
	// take takes the first unit of p and returns the bytes that are done with, 0 if
	// it must see more: the reactor shows them again with what follows. It leaves
	// less than codec.MaxFrameBeforeLogin untaken; what may be longer it takes in
	// pieces. It may write over the bytes that it takes.
	take(l *Loop, s *Session, p []byte, fx *effects) int

	// These append what the client is told. A session that was refused when it
	// connected has nothing but its wire.
	loginOK(dst []byte, s *Session, m *codec.LoginOK) []byte
	loginRefused(dst []byte, s *Session, m *codec.LoginRefused) []byte
	forcedOffline(dst []byte, s *Session, m *codec.ForcedOffline) []byte
	redirect(dst []byte, s *Session, m *codec.Redirect) []byte
	heartbeatOK(dst []byte, s *Session) []byte
	logoutOK(dst []byte, s *Session) []byte

	// ended is called when the link is gone: what was in progress is forgotten.
	ended(l *Loop, s *Session)
}

// dialectID names a dialect within a Session.
type dialectID uint8

const (
	speaksNative dialectID = iota
	speaksWSHandshake
	speaksWSNative
	speaksWSJSON
	speaksMQTTConnect
	speaksMQTT311
	speaksMQTT5
	speaksMQTT5Expiry
	numDialects
)

// dialects holds what can be spoken. Immutable.
var dialects = [numDialects]dialect{
	speaksNative:      native{},
	speaksWSHandshake: wsHandshake{},
	speaksWSNative:    wsNative{},
	speaksWSJSON:      wsJSON{},
	speaksMQTTConnect: mqttConnect{},
	speaksMQTT311:     mqttLink{v: mqtt.V311},
	speaksMQTT5:       mqttLink{v: mqtt.V5},
	speaksMQTT5Expiry: mqttLink{v: mqtt.V5, expiry: true},
}

// firstDialect is how a link of each protocol begins.
var firstDialect = map[presence.Protocol]dialectID{
	presence.ProtocolNative: speaksNative,
	presence.ProtocolWS:     speaksWSHandshake,
	presence.ProtocolMQTT:   speaksMQTTConnect,
}

// wire is what a session knows of its connection: its dialect (low 4 bits) and
// the index of its listener (high 4 bits).
type wire uint8

const (
	wireDialectMask   = 0xf
	wireListenerShift = 4
)

func (s *Session) speaks() dialect { return dialects[s.wire&wireDialectMask] }

func (s *Session) setDialect(d dialectID) { s.wire = s.wire&^wireDialectMask | wire(d) }

// listener is the listener that took the session's link.
func (l *Loop) listener(s *Session) *Listener { return &l.core.o.Listeners[s.wire>>wireListenerShift] }
