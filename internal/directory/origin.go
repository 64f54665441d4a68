package directory

import (
	"fmt"
	"net/netip"
	"strings"
)

// Bounds of App.AllowedOrigins.
const (
	MaxAllowedOrigins = 100
	maxOriginEntry    = 256 // bytes
)

// OriginAllowed reports whether pages of the origin (RFC 6454, as a browser's
// Origin header has it) may log in. A client without one is no browser and passes.
func (a *App) OriginAllowed(origin string) bool {
	if origin == "" || len(a.AllowedOrigins) == 0 {
		return true
	}
	for _, entry := range a.AllowedOrigins {
		if entry == origin || matchesBelow(entry, origin) {
			return true
		}
	}
	return false
}

// matchesBelow reports whether entry is *.domain and origin is https, on any port,
// of a host below the domain.
func matchesBelow(entry, origin string) bool {
	below, ok := strings.CutPrefix(entry, "*")
	if !ok {
		return false
	}
	host, ok := strings.CutPrefix(origin, "https://")
	if !ok {
		return false
	}
	host, port, found := strings.Cut(host, ":")
	name, ok := strings.CutSuffix(host, below)
	return ok && validHost(host) && name != "" && (!found || validPort(port))
}

// ValidateOrigins reports the first entry that no browser's Origin header can
// match: entries are compared byte for byte, so they must be written as browsers do.
func ValidateOrigins(entries []string) error {
	if len(entries) > MaxAllowedOrigins {
		return fmt.Errorf("AllowedOrigins: got %d, at most %d are allowed", len(entries), MaxAllowedOrigins)
	}
	for _, entry := range entries {
		if len(entry) > maxOriginEntry || !validOrigin(entry) {
			return fmt.Errorf("AllowedOrigins: %q: want https://host or https://host:port in lower case, without a path or the scheme's own port, or *.domain", entry)
		}
	}
	return nil
}

func validOrigin(entry string) bool {
	if domain, ok := strings.CutPrefix(entry, "*."); ok {
		return validHost(domain)
	}
	scheme, rest, ok := strings.Cut(entry, "://")
	if !ok || !validScheme(scheme) {
		return false
	}
	host, port, found := rest, "", false
	if end := strings.LastIndexByte(rest, ']'); end >= 0 {
		host, port, found = rest[:end+1], strings.TrimPrefix(rest[end+1:], ":"), rest[end+1:] != ""
		if found && rest[end+1] != ':' {
			return false
		}
	} else {
		host, port, found = strings.Cut(rest, ":")
	}
	if found && (!validPort(port) || (scheme == "https" && port == "443") || (scheme == "http" && port == "80")) {
		return false
	}
	return validHost(host)
}

// validScheme takes those of apps too, such as capacitor.
func validScheme(s string) bool {
	for i, c := range []byte(s) {
		letter := c >= 'a' && c <= 'z'
		if !letter && (i == 0 || (!(c >= '0' && c <= '9') && c != '+' && c != '-' && c != '.')) {
			return false
		}
	}
	return s != ""
}

// validHost takes a name in lower case (an international one in its xn-- form) or
// an address, of IPv6 in brackets.
func validHost(h string) bool {
	if inner, ok := strings.CutPrefix(h, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		ip, err := netip.ParseAddr(inner)
		return ok && err == nil && ip.Is6() && ip.Zone() == "" && ip.String() == inner
	}
	for label := range strings.SplitSeq(h, ".") {
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_' {
				return false
			}
		}
		if label == "" {
			return false
		}
	}
	return true
}

func validPort(p string) bool {
	n := 0
	for _, c := range []byte(p) {
		if c < '0' || c > '9' || n > 65535 {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n >= 1 && n <= 65535 && p[0] != '0'
}
