package engine

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Listener is an address where clients connect, and what is spoken there.
type Listener struct {
	// Name is what links, metrics and Engine.Addr call it, e.g. "native" or "ws-tls".
	Name string
	// Address is host:port. Without a host it is 0.0.0.0; port 0 takes a free one; Off means none.
	Address string
	// Protocol is what clients speak there. Default: native.
	Protocol presence.Protocol
	// ProxyNetworks are those of load balancers: a link from there must begin with
	// a PROXY header, which tells the client's address. A link from anywhere else
	// never has one.
	ProxyNetworks []netip.Prefix
	// TLS is what clients must speak below the protocol (tlslink.Config); nil: nothing.
	TLS *tls.Config

	redirect string // where its clients are sent when the node stops, "" = nowhere
}

// MaxListeners bounds Options.Listeners, as a session has room for.
const MaxListeners = 1 << 4

// listenerNative is the name of the native listener, the only one by default.
const listenerNative = "native"

// redirectFrom is where the listener's clients are sent if those of the native one
// are sent to address: the nodes are taken to have the same ports for the rest. A
// port that was left to the system tells nothing of the other node's.
func (lis *Listener) redirectFrom(address string) string {
	if lis.Name == listenerNative || address == "" {
		return address
	}
	host, _, err := net.SplitHostPort(address)
	_, port, portErr := net.SplitHostPort(lis.Address)
	if err != nil || portErr != nil || port == "0" {
		return ""
	}
	return net.JoinHostPort(host, port)
}

// validateListeners fills in the default and drops what is off.
func (o *Options) validateListeners() error {
	if o.Listeners == nil {
		o.Listeners = []Listener{{Name: listenerNative, Address: ":7700"}}
	}
	if len(o.Listeners) > MaxListeners {
		return fmt.Errorf("engine: %d Listeners, want at most %d", len(o.Listeners), MaxListeners)
	}
	open := make([]Listener, 0, len(o.Listeners))
	names := map[string]bool{}
	for _, lis := range o.Listeners {
		orDefault(&lis.Protocol, presence.ProtocolNative)
		if lis.Name == "" || lis.Address == "" {
			return errors.New("engine: a Listener without Name or Address")
		}
		if names[lis.Name] {
			return fmt.Errorf("engine: two Listeners are named %q", lis.Name)
		}
		names[lis.Name] = true
		if lis.Address == Off {
			continue
		}
		if _, ok := firstDialect[lis.Protocol]; !ok {
			return fmt.Errorf("engine: Listener %q: protocol %v is not spoken here", lis.Name, lis.Protocol)
		}
		if err := validateNetworks("ProxyNetworks", lis.ProxyNetworks); err != nil {
			return fmt.Errorf("engine: Listener %q: %w", lis.Name, err)
		}
		lis.redirect = lis.redirectFrom(o.DrainRedirect)
		open = append(open, lis)
	}
	o.Listeners = open
	return nil
}

// validateNetworks wants what netip.Prefix.Contains can match: addresses of
// clients come here without a zone, and those of IPv4 as IPv4.
func validateNetworks(name string, networks []netip.Prefix) error {
	for _, n := range networks {
		if !n.IsValid() || n.Addr().Is4In6() {
			return fmt.Errorf("%s has %v, want networks like 10.0.0.0/8 or 2001:db8::/32", name, n)
		}
	}
	return nil
}

// within reports whether one of the networks has the address.
func within(networks []netip.Prefix, ip netip.Addr) bool {
	for _, n := range networks {
		if n.Contains(ip.WithZone("")) {
			return true
		}
	}
	return false
}

// wireOf is what a new link of listener i has as Session.wire.
func (c *Core) wireOf(i int) wire {
	return wire(i)<<wireListenerShift | wire(firstDialect[c.o.Listeners[i].Protocol])
}
