package engine

import (
	"errors"
	"io"
	"syscall"

	"github.com/rollcall-im/rollcall/codec"
)

// closeReason is why a link ended: the label of rollcall_closes_total.
type closeReason uint8

const (
	closeFIN closeReason = iota
	closeReset
	closeError
	closeStopped
	closeLogout
	closeRefused
	closeProtocol
	closeSlowReader
	closeSlowSender
	closeSilent
	closeFirstFrame
	closeLoginTimeout
	closeCrowdedOut
	closeAddressLimited
	closeOverloaded
	closeDecideTimeout
	closeLeaveTimeout
	closeAnotherLogin
	closeReplaced
	closeKicked
	closeAccountDeleted
	closePolicyChange
	closeSigEnded
	closeDraining
	closeProxyHeader
	closeProxyTimeout
	closeTLS
	numCloseReasons
)

var closeReasonNames = [numCloseReasons]string{
	closeFIN:            "fin",                 // the client closed
	closeReset:          "reset",               // RST from the client or its host
	closeError:          "error",               // any other socket error
	closeStopped:        "stopped",             // the reactor ended
	closeLogout:         "logout",              // the client logged out
	closeRefused:        "login_refused",       // rollcall_logins_total says why
	closeProtocol:       "protocol_error",      // codes 4001 to 4013 but for those below, or a bad WebSocket handshake
	closeSlowReader:     "slow_reader",         // too many bytes waited for the client
	closeSlowSender:     "slow_sender",         // a frame that had begun did not go on
	closeSilent:         "silence_timeout",     // nothing came for too long
	closeFirstFrame:     "first_frame_timeout", // no complete frame in time
	closeLoginTimeout:   "login_timeout",       // no login in time
	closeCrowdedOut:     "crowded_out",         // gave its place to a newer link before its login
	closeAddressLimited: "address_limited",     // its address, known late, has too many links
	closeOverloaded:     "overloaded",          // the node could not keep up with what the link needs
	closeDecideTimeout:  "decide_timeout",      // the Directory did not answer the login in time
	closeLeaveTimeout:   "leave_timeout",       // the Directory did not answer the logout in time
	closeAnotherLogin:   "another_login",
	closeReplaced:       "replaced",
	closeKicked:         "kicked",
	closeAccountDeleted: "account_deleted",
	closePolicyChange:   "policy_change",
	closeSigEnded:       "sig_ended",
	closeDraining:       "draining",      // the server goes down
	closeProxyHeader:    "proxy_header",  // it did not begin with a good PROXY header; rollcall_proxy_refused_total says why
	closeProxyTimeout:   "proxy_timeout", // no whole PROXY header in time
	closeTLS:            "tls",           // its TLS failed; rollcall_tls_failures_total says how
}

// lostBy tells the reason of a link that its client or the network ended.
func lostBy(err error) closeReason {
	switch {
	case err == nil:
		return closeStopped
	case errors.Is(err, io.EOF):
		return closeFIN
	case errors.Is(err, errTLS):
		return closeTLS
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return closeReset
	}
	return closeError
}

// faultReason tells the reason of a link that is closed with code c, which is
// mostly for a fault of the client.
func faultReason(c codec.Code) closeReason {
	switch c {
	case codec.CodeLoginTimeout:
		return closeLoginTimeout
	case codec.CodeSlowSender:
		return closeSlowSender
	case codec.CodeSigEnded:
		return closeSigEnded
	case codec.CodeOverloaded:
		return closeOverloaded
	case codec.CodeServerDraining:
		return closeDraining
	}
	return closeProtocol
}
