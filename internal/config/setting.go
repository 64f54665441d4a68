package config

import (
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollcall-im/rollcall/codec"
)

// setting is one row of the table.
type setting struct {
	name string // flag and YAML key; the environment variable derives from it
	kind string // what a value looks like
	def  string
	dev  string // default in --dev, "" = def
	doc  string // one sentence; the unit stands in kind or here
	bind
}

// bind connects a setting with its field of Config.
type bind struct {
	set  func(c *Config, text string) error
	get  func(c *Config) string
	bool bool // the flag may stand without a value
}

const envPrefix = "ROLLCALL_"

// Env returns the environment variable of a setting.
func Env(name string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

func text(field func(*Config) *string) bind {
	return bind{
		set: func(c *Config, s string) error {
			if strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return errors.New("must not hold control characters")
			}
			*field(c) = s
			return nil
		},
		get: func(c *Config) string { return *field(c) },
	}
}

func choice(field func(*Config) *string, allowed ...string) bind {
	return bind{
		set: func(c *Config, s string) error {
			if !slices.Contains(allowed, s) {
				return fmt.Errorf("want one of %s", strings.Join(allowed, ", "))
			}
			*field(c) = s
			return nil
		},
		get: func(c *Config) string { return *field(c) },
	}
}

func boolean(field func(*Config) *bool) bind {
	return bind{
		set: func(c *Config, s string) (err error) {
			v, err := strconv.ParseBool(s)
			if err != nil {
				return errors.New("want true or false")
			}
			*field(c) = v
			return nil
		},
		get:  func(c *Config) string { return strconv.FormatBool(*field(c)) },
		bool: true,
	}
}

func integer[T int | uint32](field func(*Config) *T, low, high int64) bind {
	return bind{
		set: func(c *Config, s string) error {
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil || v < low || v > high {
				return fmt.Errorf("want a whole number from %d to %d", low, high)
			}
			*field(c) = T(v)
			return nil
		},
		get: func(c *Config) string { return strconv.FormatInt(int64(*field(c)), 10) },
	}
}

func rate(field func(*Config) *float64) bind { return rateUpTo(field, 1e9) }

func rateUpTo(field func(*Config) *float64, high float64) bind {
	return bind{
		set: func(c *Config, s string) error {
			v, err := strconv.ParseFloat(s, 64)
			if err != nil || math.IsNaN(v) || v < 0 || v > high {
				return fmt.Errorf("want a number from 0 to %.0f", high)
			}
			*field(c) = v
			return nil
		},
		get: func(c *Config) string { return strconv.FormatFloat(*field(c), 'g', -1, 64) },
	}
}

func duration(field func(*Config) *time.Duration, low, high time.Duration) bind {
	return bind{
		set: func(c *Config, s string) error {
			v, err := time.ParseDuration(s)
			if err != nil || v < low || v > high {
				return fmt.Errorf("want a time with its unit, like 500ms, 10s or 24h, from %s to %s", brief(low), brief(high))
			}
			*field(c) = v
			return nil
		},
		get: func(c *Config) string { return brief(*field(c)) },
	}
}

// brief writes a duration without the zero parts of Duration.String: 24h, not 24h0m0s.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// Words of memory-limit beside a number of bytes.
const (
	memoryAuto = "auto"
	maxMemory  = 1 << 50
)

// memoryLimit is a number of bytes, 0 = none, or auto, which is kept as MemoryAuto.
func memoryLimit(field func(*Config) *int64) bind {
	return bind{
		set: func(c *Config, s string) error {
			if s == memoryAuto {
				*field(c) = MemoryAuto
				return nil
			}
			v, err := strconv.ParseInt(s, 10, 64)
			if err != nil || v < 0 || v > maxMemory || v > 0 && v < minMemory {
				return fmt.Errorf("want %s, 0, or bytes from %d to %d", memoryAuto, minMemory, int64(maxMemory))
			}
			*field(c) = v
			return nil
		},
		get: func(c *Config) string {
			if *field(c) == MemoryAuto {
				return memoryAuto
			}
			return strconv.FormatInt(*field(c), 10)
		},
	}
}

// minMemory is more than an idle server takes.
const minMemory = 32 << 20

func level(field func(*Config) *slog.Level) bind {
	names := []string{"debug", "info", "warn", "error"}
	return bind{
		set: func(c *Config, s string) error {
			if !slices.Contains(names, s) {
				return fmt.Errorf("want one of %s", strings.Join(names, ", "))
			}
			return field(c).UnmarshalText([]byte(s))
		},
		get: func(c *Config) string { return strings.ToLower(field(c).String()) },
	}
}

// DurabilitySync and DurabilityMemory are the words of durability beside interval:<ms>.
const (
	DurabilitySync   = "sync"
	DurabilityMemory = "memory"
	intervalPrefix   = "interval:"
	maxIntervalMS    = 60_000
)

func durability() bind {
	return bind{
		set: func(c *Config, s string) error {
			c.SyncInterval = 0
			if ms, is := strings.CutPrefix(s, intervalPrefix); is {
				n, err := strconv.ParseUint(ms, 10, 32)
				if err != nil || n < 1 || n > maxIntervalMS || strconv.FormatUint(n, 10) != ms {
					return fmt.Errorf("want %s and a whole number of milliseconds from 1 to %d", intervalPrefix, maxIntervalMS)
				}
				c.SyncInterval = time.Duration(n) * time.Millisecond
			} else if s != DurabilitySync && s != DurabilityMemory {
				return fmt.Errorf("want %s, %s<ms> or %s", DurabilitySync, intervalPrefix, DurabilityMemory)
			}
			c.Durability = s
			return nil
		},
		get: func(c *Config) string { return c.Durability },
	}
}

func address(field func(*Config) *string) bind {
	return bind{
		set: func(c *Config, s string) error {
			a, err := parseAddress(s, c.Dev)
			if err != nil {
				return err
			}
			*field(c) = a
			return nil
		},
		get: func(c *Config) string { return *field(c) },
	}
}

// maxNetworks bounds a list of networks, which is walked for each new link.
const maxNetworks = 64

// networks is a list with commas between, "" = none; an address alone is a network of one.
func networks(field func(*Config) *[]netip.Prefix) bind {
	return bind{
		set: func(c *Config, s string) error {
			*field(c) = nil
			if s == "" {
				return nil
			}
			items := strings.Split(s, ",")
			if len(items) > maxNetworks {
				return fmt.Errorf("%d networks, at most %d are allowed", len(items), maxNetworks)
			}
			for _, item := range items {
				n, err := parseNetwork(strings.TrimSpace(item))
				if err != nil {
					return err
				}
				*field(c) = append(*field(c), n)
			}
			return nil
		},
		get: func(c *Config) string {
			var items []string
			for _, n := range *field(c) {
				items = append(items, n.String())
			}
			return strings.Join(items, ",")
		},
	}
}

// parseNetwork refuses what would not mean what it says: bits behind the mask, and
// IPv4 written as IPv6, which no client's address is compared as.
func parseNetwork(s string) (netip.Prefix, error) {
	n, err := netip.ParsePrefix(s)
	if ip, is := netip.ParseAddr(s); is == nil && ip.Zone() == "" {
		n, err = netip.PrefixFrom(ip, ip.BitLen()), nil
	}
	switch {
	case err != nil:
		return n, fmt.Errorf("network %q: want an address or a network like 10.0.0.0/8", s)
	case n.Addr().Is4In6():
		return n, fmt.Errorf("network %q: want IPv4 in its own form", s)
	case n != n.Masked():
		return n, fmt.Errorf("network %q: its address has bits behind the mask, want %s", s, n.Masked())
	}
	return n, nil
}

// twin is the address of a TLS listener: auto is settled once the plain
// listener's address and the certificate are known.
func twin(field func(*Config) *string) bind {
	b := address(field)
	setAddress := b.set
	b.set = func(c *Config, s string) error {
		if s == auto {
			*field(c) = auto
			return nil
		}
		return setAddress(c, s)
	}
	return b
}

const auto = "auto"

// parseAddress returns host:port with a literal IP address, or Off. Without a
// host it is every IPv4 address, in --dev the loopback.
func parseAddress(s string, dev bool) (string, error) {
	if s == Off {
		return Off, nil
	}
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", errors.New("want host:port, :port or off")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || strconv.FormatUint(n, 10) != port {
		return "", fmt.Errorf("port %q: want a number from 0 to 65535", port)
	}
	switch {
	case host == "" && dev, host == "localhost":
		host = "127.0.0.1"
	case host == "":
		host = "0.0.0.0"
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return "", fmt.Errorf("host %q: want an IP address, localhost or nothing", host)
	}
	return net.JoinHostPort(ip.String(), port), nil
}

// destination is an address that clients connect to; it is theirs to resolve.
func destination(field func(*Config) *string) bind {
	return bind{
		set: func(c *Config, s string) error {
			host, port, err := net.SplitHostPort(s)
			n, bad := strconv.ParseUint(port, 10, 16)
			if s != "" && (err != nil || host == "" || bad != nil || n == 0 || len(s) > codec.MaxAddress) {
				return fmt.Errorf("want host:port, at most %d bytes", codec.MaxAddress)
			}
			*field(c) = s
			return nil
		},
		get: func(c *Config) string { return *field(c) },
	}
}
