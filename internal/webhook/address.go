package webhook

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// ErrAddressRefused is the root of errors about targets that the operator does not allow.
var ErrAddressRefused = errors.New("webhook target is not allowed")

// AddressError is the ErrAddressRefused of a target that an option would allow.
type AddressError struct {
	Loopback bool // Options.AllowLoopback; else Options.AllowPrivate
	what     string
}

// Error implements error.
func (e *AddressError) Error() string {
	kind := "a private or link-local address"
	if e.Loopback {
		kind = "a loopback address"
	}
	return fmt.Sprintf("%v: %s is %s", ErrAddressRefused, e.what, kind)
}

// Unwrap returns ErrAddressRefused.
func (e *AddressError) Unwrap() error { return ErrAddressRefused }

// reach says which targets besides public ones are allowed.
type reach struct{ private, loopback bool }

// Ranges that are no public targets, besides those that net/netip names.
var (
	sharedSpace = netip.MustParsePrefix("100.64.0.0/10")  // RFC 6598, carriers
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")      // RFC 1122: this host
	protocols   = netip.MustParsePrefix("192.0.0.0/24")   // RFC 6890
	benchmarks  = netip.MustParsePrefix("198.18.0.0/15")  // RFC 2544
	reserved    = netip.MustParsePrefix("240.0.0.0/4")    // RFC 1112, with broadcast
	siteLocal   = netip.MustParsePrefix("fec0::/10")      // RFC 3879
	nat64       = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052: IPv4 in the last 4 bytes
	nat64Local  = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215
	sixToFour   = netip.MustParsePrefix("2002::/16")      // RFC 3056: IPv4 in bytes 2 to 5
	compatible  = netip.MustParsePrefix("::/96")          // RFC 4291, deprecated: IPv4 in the last 4 bytes
	privateNets = []netip.Prefix{sharedSpace, protocols, benchmarks, siteLocal, nat64Local}
)

// check refuses an address that is not allowed. An IPv6 address that carries an
// IPv4 one is judged by that.
func (r reach) check(ip netip.Addr) error {
	ip = embedded(ip.Unmap().WithZone(""))
	switch {
	case !ip.IsValid(), ip.IsUnspecified(), ip.IsMulticast(), thisNetwork.Contains(ip), reserved.Contains(ip):
		return fmt.Errorf("%w: %v is no host", ErrAddressRefused, ip)
	case ip.IsLoopback():
		if !r.loopback {
			return &AddressError{Loopback: true, what: ip.String()}
		}
	case ip.IsPrivate(), ip.IsLinkLocalUnicast(), inAny(privateNets, ip):
		if !r.private {
			return &AddressError{what: ip.String()}
		}
	}
	return nil
}

// embedded returns the IPv4 address that ip stands for, else ip.
func embedded(ip netip.Addr) netip.Addr {
	b := ip.As16()
	switch {
	case nat64.Contains(ip):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(ip):
		return netip.AddrFrom4([4]byte(b[2:6]))
	case compatible.Contains(ip) && !ip.IsLoopback() && !ip.IsUnspecified():
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}

func inAny(nets []netip.Prefix, ip netip.Addr) bool {
	for _, n := range nets {
		if n.Contains(ip) {
			return true
		}
	}
	return false
}

// checkURL parses a receiver's URL and refuses what needs no look-up to be
// refused. A name is judged by what it resolves to, at each dial.
func (r reach) checkURL(raw string) (*target, error) {
	t, err := parseTarget(raw)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(t.host); err == nil {
		return t, r.check(ip)
	}
	name := strings.TrimSuffix(strings.ToLower(t.host), ".")
	if !r.loopback && (name == "localhost" || strings.HasSuffix(name, ".localhost")) {
		return nil, &AddressError{Loopback: true, what: strconv.Quote(t.host)}
	}
	if legacyIPv4(name) {
		return nil, fmt.Errorf("webhook URL: %q is neither a host name nor an IP address", t.host)
	}
	return t, nil
}

// legacyIPv4 reports whether a name is a number that some resolvers take for an
// address (127.1, 0x7f000001, 2130706433): its last label is a number. No
// public host name has such a label (RFC 3696 section 2).
func legacyIPv4(name string) bool {
	last := name[strings.LastIndexByte(name, '.')+1:]
	_, err := strconv.ParseUint(last, 0, 64)
	return err == nil
}

// target is a parsed receiver URL.
type target struct {
	tls     bool
	host    string // without port and brackets
	port    uint16
	addr    string // host:port to dial
	request string // scheme://host/path?query with what must follow it: "?", "&" or nothing
}

// parseTarget takes a URL apart. The path and query are sent as they stand. As
// any part but the host may hold a secret, errors name the host and the fault only.
func parseTarget(raw string) (*target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("webhook URL cannot be parsed") // err quotes it
	}
	switch {
	case strings.ContainsFunc(raw, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		return nil, urlError(u, "must be printable ASCII without spaces")
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, urlError(u, "must be http or https")
	case u.Hostname() == "":
		return nil, urlError(u, "has no host")
	case u.User != nil:
		return nil, urlError(u, "must not hold a user name or password")
	case !isHost(u.Hostname()):
		return nil, urlError(u, "names no host: want an IP address or a name of letters, digits, dots, hyphens")
	}
	t := &target{tls: u.Scheme == "https", host: u.Hostname(), port: 80}
	if t.tls {
		t.port = 443
	}
	if p := u.Port(); p != "" {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil || n == 0 {
			return nil, urlError(u, "must have a port of 1 to 65535, or none")
		}
		t.port = uint16(n)
	}
	t.addr = net.JoinHostPort(t.host, strconv.Itoa(int(t.port)))
	t.request = requestPrefix(u)
	return t, nil
}

// isHost reports whether a host can be dialled and written into a request as it
// stands. In another one, decoded from %25 say, whoever decodes it once more
// finds a host that nobody has judged.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.ContainsFunc(host, func(r rune) bool {
		letter := 'a' <= r|0x20 && r|0x20 <= 'z'
		return !letter && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	})
}

func urlError(u *url.URL, fault string) error {
	if u.Hostname() == "" {
		return fmt.Errorf("webhook URL %s", fault)
	}
	return fmt.Errorf("webhook URL of host %q %s", u.Hostname(), fault)
}

// requestPrefix is the URL up to where our parameters go.
func requestPrefix(u *url.URL) string {
	path := u.EscapedPath()
	if path == "" {
		path = "/"
	}
	prefix := u.Scheme + "://" + u.Host + path + "?"
	if q := strings.TrimSuffix(u.RawQuery, "&"); q != "" {
		prefix += q + "&"
	}
	return prefix
}
