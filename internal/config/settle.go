package config

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"slices"
)

// tlsPortOffset is the distance of a TLS listener's port from its plain twin's.
const tlsPortOffset = 1000

// MQTT has ports that all the world knows.
const (
	mqttPort    = 1883
	mqttTLSPort = 8883
)

// settle completes c with what depends on several settings, checks it, and
// reports every fault.
func (c *Config) settle(entries []appEntry, read func(string) ([]byte, error)) error {
	faults := []error{
		c.checkRelease(),
		c.settleTwin("listen-native-tls", c.ListenNative, &c.ListenNativeTLS),
		c.settleTwin("listen-ws-tls", c.ListenWS, &c.ListenWSTLS),
		c.settleTwin("listen-mqtt-tls", c.ListenMQTT, &c.ListenMQTTTLS),
		c.settleTwin("listen-api-tls", c.ListenAPI, &c.ListenAPITLS),
		c.settleTwin("listen-admin-tls", c.ListenAdmin, &c.ListenAdminTLS),
		c.checkTLS(read),
		c.settleToken(read),
	}
	if err := errors.Join(faults...); err != nil {
		return err // the checks below need settled addresses
	}
	var err error
	c.Apps, err = resolveApps(entries, c.Ceilings, read)
	if c.Dev {
		c.addDemoApp()
	}
	return errors.Join(err, c.checkListeners())
}

// checkRelease refuses what the contract names and this release cannot do.
func (c *Config) checkRelease() error {
	var faults []error
	if c.Durability != DurabilityMemory && c.DataDir == "" {
		faults = append(faults, fmt.Errorf("durability %q: needs a data-dir; memory needs none", c.Durability))
	}
	if c.Redis != "" {
		// Not quoted: the address may hold a password.
		faults = append(faults, errors.New("redis: clusters are not in this release, it must be empty"))
	}
	return errors.Join(faults...)
}

// settleTwin resolves an automatic TLS address.
func (c *Config) settleTwin(name, plain string, addr *string) error {
	switch {
	case *addr != auto && *addr != Off && c.TLSCert == "":
		return fmt.Errorf("%s %q: needs tls-cert and tls-key", name, *addr)
	case *addr != auto:
		return nil
	case c.TLSCert == "" || plain == Off:
		*addr = Off
		return nil
	}
	ap, err := netip.ParseAddrPort(plain)
	if err != nil {
		return fmt.Errorf("%s: its plain twin %q: %w", name, plain, err)
	}
	port := int(ap.Port())
	switch {
	case port == mqttPort && addr == &c.ListenMQTTTLS:
		port = mqttTLSPort
	case port != 0:
		port += tlsPortOffset
	}
	if port > 65535 {
		return fmt.Errorf("%s: the plain port %d + %d is above 65535, set the address or off", name, ap.Port(), tlsPortOffset)
	}
	*addr = netip.AddrPortFrom(ap.Addr(), uint16(port)).String()
	return nil
}

func (c *Config) checkTLS(read func(string) ([]byte, error)) error {
	if c.AdminClientCA != "" {
		if err := c.checkClientCA(read); err != nil {
			return fmt.Errorf("admin-client-ca: %w", err)
		}
	}
	if c.TLSCert == "" && c.TLSKey == "" {
		return nil
	}
	if c.TLSCert == "" || c.TLSKey == "" {
		return fmt.Errorf("tls-cert %q, tls-key %q: want both or neither", c.TLSCert, c.TLSKey)
	}
	cert, err := read(c.TLSCert)
	if err != nil {
		return fmt.Errorf("tls-cert: %w", err)
	}
	key, err := read(c.TLSKey)
	if err != nil {
		return fmt.Errorf("tls-key: %w", err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return fmt.Errorf("tls-cert %q with tls-key %q: %w", c.TLSCert, c.TLSKey, err)
	}
	return nil
}

func (c *Config) checkClientCA(read func(string) ([]byte, error)) error {
	if c.ListenAdminTLS == Off {
		return errors.New("there is no listen-admin-tls that would ask for client certificates")
	}
	pem, err := read(c.AdminClientCA)
	if err != nil {
		return err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(pem) {
		return fmt.Errorf("%q holds no certificate in PEM", c.AdminClientCA)
	}
	return nil
}

func (c *Config) settleToken(read func(string) ([]byte, error)) (err error) {
	switch {
	case c.AdminTokenFile != "":
		c.AdminToken, err = secretFile("admin-token-file", c.AdminTokenFile, minToken, maxToken, read)
	case c.Dev:
		c.AdminToken = DevToken
	case c.ListenAdmin != Off || c.ListenAdminTLS != Off:
		err = errors.New("admin-token-file is not set: the admin listener needs a token; name a file that holds one, or set listen-admin to off, or try --dev")
	}
	return err
}

// addDemoApp puts the demo app first, unless the file defines it.
func (c *Config) addDemoApp() {
	for i := range c.Apps {
		if c.Apps[i].SDKAppID == DevAppID {
			return
		}
	}
	demo := App{SDKAppID: DevAppID, Name: devAppName, Key: DevKey, Administrators: []string{defaultUser}}
	demo.Policy.Preset = "single"
	c.Apps = slices.Insert(c.Apps, 0, demo)
}

type listener struct {
	name string
	addr netip.AddrPort
}

// checkListeners refuses addresses that collide and, in --dev, those that are
// reachable from elsewhere.
func (c *Config) checkListeners() error {
	var open []listener
	var faults []error
	for _, l := range []struct{ name, addr string }{
		{"listen-native", c.ListenNative}, {"listen-ws", c.ListenWS}, {"listen-mqtt", c.ListenMQTT},
		{"listen-api", c.ListenAPI}, {"listen-admin", c.ListenAdmin},
		{"listen-native-tls", c.ListenNativeTLS}, {"listen-ws-tls", c.ListenWSTLS}, {"listen-mqtt-tls", c.ListenMQTTTLS},
		{"listen-api-tls", c.ListenAPITLS}, {"listen-admin-tls", c.ListenAdminTLS},
	} {
		if l.addr == Off {
			continue
		}
		ap, err := netip.ParseAddrPort(l.addr)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s %q: %w", l.name, l.addr, err))
			continue
		}
		if c.Dev && !ap.Addr().Unmap().IsLoopback() {
			faults = append(faults, fmt.Errorf("%s %q: with dev every listener must be on a loopback address like 127.0.0.1", l.name, l.addr))
		}
		for _, o := range open {
			if o.collides(ap) {
				faults = append(faults, fmt.Errorf("%s %q: collides with %s %q", l.name, l.addr, o.name, o.addr))
			}
		}
		open = append(open, listener{l.name, ap})
	}
	if len(open) == 0 && len(faults) == 0 {
		return errors.New("every listener is off: there is nothing to serve")
	}
	return errors.Join(faults...)
}

func (l listener) collides(ap netip.AddrPort) bool {
	if l.addr.Port() != ap.Port() || ap.Port() == 0 {
		return false
	}
	a, b := l.addr.Addr(), ap.Addr()
	return a == b || a.IsUnspecified() || b.IsUnspecified()
}
