package webhook

import (
	"errors"
	"net/netip"
	"testing"
)

// TestReach: what is no public host is refused unless the operator allows it,
// in every disguise.
func TestReach(t *testing.T) {
	const (
		public = iota
		private
		loopback
		never
	)
	for text, kind := range map[string]int{
		"192.0.2.1": public, "8.8.8.8": public, "2001:4860::8888": public, "172.32.0.1": public, "100.128.0.1": public, "11.0.0.1": public,
		"10.0.0.1": private, "172.16.0.1": private, "172.31.255.255": private, "192.168.1.1": private, "169.254.169.254": private,
		"100.64.0.1": private, "192.0.0.8": private, "198.18.0.1": private, "fc00::1": private, "fd12::1": private, "fe80::1": private,
		"fe80::1%eth0": private, "fec0::1": private, "64:ff9b:1::1": private,
		"127.0.0.1": loopback, "127.255.255.254": loopback, "::1": loopback,
		"0.0.0.0": never, "0.1.2.3": never, "::": never, "224.0.0.1": never, "239.1.1.1": never, "240.0.0.1": never,
		"255.255.255.255": never, "ff02::1": never,
		// IPv4 inside IPv6: mapped, compatible, NAT64, 6to4.
		"::ffff:10.0.0.1": private, "::ffff:127.0.0.1": loopback, "::ffff:8.8.8.8": public, "::10.0.0.1": private, "::127.0.0.1": loopback,
		"64:ff9b::a00:1": private, "64:ff9b::7f00:1": loopback, "64:ff9b::808:808": public, "2002:a00:1::1": private, "2002:7f00:1::1": loopback,
		"2002:808:808::1": public,
	} {
		for _, r := range []reach{{}, {private: true}, {loopback: true}, {private: true, loopback: true}} {
			want := kind == public || kind == private && r.private || kind == loopback && r.loopback
			err := r.check(netip.MustParseAddr(text))
			if (err == nil) != want || err != nil && !errors.Is(err, ErrAddressRefused) {
				t.Errorf("%s with %+v: %v, want allowed %v", text, r, err, want)
			}
		}
	}
	if err := (reach{true, true}).check(netip.Addr{}); err == nil {
		t.Error("no address at all is allowed")
	}
}

func TestCheckURL(t *testing.T) {
	d := &Dispatcher{}
	for _, url := range []string{
		"http://hook.example", "https://hook.example:8443/a?b=c", "http://8.8.8.8/", "http://[2001:4860::8888]:80/", "HTTP://hook.example/#part",
		"http://1.example/",
	} {
		if err := d.CheckURL(url); err != nil {
			t.Errorf("CheckURL(%q) = %v", url, err)
		}
	}
	for _, url := range []string{
		"", "hook.example", "ftp://hook.example/", "http://", "http:///path", "http://hook.example:0/", "http://hook.example:99999/",
		"http://user:pw@hook.example/", "http://hook.example/a b", "http://hook.example/\n", "http://h\u00f6ok.example/", "javascript:alert(1)",
		"http://127.0.0.1/", "http://localhost/", "http://LOCALHOST./", "http://x.localhost/", "http://[::1]/", "http://10.1.2.3/",
		"http://169.254.169.254/latest/meta-data", "http://[::ffff:127.0.0.1]/", "http://127.1/", "http://2130706433/", "http://0x7f000001/",
		"http://0x7f.1/", "http://0177.0.0.1/", "http://[fe80::1%25eth0]/", "http://10%250000/", "http://a%2525b/",
	} {
		if err := d.CheckURL(url); err == nil {
			t.Errorf("CheckURL(%q) = nil", url)
		}
	}
	d.o.AllowLoopback, d.o.AllowPrivate = true, true
	for _, url := range []string{"http://127.0.0.1:8080/", "http://localhost/", "http://10.1.2.3/", "http://[::1]/"} {
		if err := d.CheckURL(url); err != nil {
			t.Errorf("CheckURL(%q) with all allowed = %v", url, err)
		}
	}
}

// TestURLErrorsTellNoSecret: a path, query or password may be a secret, so an
// error names the host and the fault only.
func TestURLErrorsTellNoSecret(t *testing.T) {
	d := &Dispatcher{}
	for url, want := range map[string]string{
		"http://hook.example:0/s3cret?key=s3cret":         `webhook URL of host "hook.example" must have a port of 1 to 65535, or none`,
		"http://hook.example:99999/?key=s3cret":           `webhook URL of host "hook.example" must have a port of 1 to 65535, or none`,
		"http://hook.example:s3cret/":                     `webhook URL cannot be parsed`,
		"http://hook.example/?key=s3cret\x7f":             `webhook URL cannot be parsed`,
		"http://hook.example/%s3cret":                     `webhook URL cannot be parsed`,
		"http://hook.example/?key=s3cr\u00e8t&old=s3cret": `webhook URL of host "hook.example" must be printable ASCII without spaces`,
		"ftp://hook.example/?key=s3cret":                  `webhook URL of host "hook.example" must be http or https`,
		"s3cret:s3cret":                                   `webhook URL must be http or https`,
		"http:///?key=s3cret":                             `webhook URL has no host`,
		"http://s3cret:s3cret@hook.example/?key=s3cret":   `webhook URL of host "hook.example" must not hold a user name or password`,
		"http://127.1/?key=s3cret":                        `webhook URL: "127.1" is neither a host name nor an IP address`,
		"http://localhost/?key=s3cret":                    `webhook target is not allowed: "localhost" is a loopback address`,
		"http://10.0.0.1/?key=s3cret":                     `webhook target is not allowed: 10.0.0.1 is a private or link-local address`,
	} {
		if err := d.CheckURL(url); err == nil || err.Error() != want {
			t.Errorf("CheckURL(%q) = %v, want %s", url, err, want)
		}
	}
}

func TestOptions(t *testing.T) {
	app := newApps().get
	for _, o := range []Options{
		{}, {App: app, MaxInFlight: -1}, {App: app, MaxPerEndpoint: -1}, {App: app, RetryBase: -1}, {App: app, HoldBase: 2, HoldMax: 1},
		{App: app, MaxEvents: -1}, {App: app, CloseTimeout: -1}, {App: app, CloseGrace: -1},
	} {
		if d, err := New(o); err == nil {
			t.Errorf("New(%+v) = %v, want an error", o, d)
		}
	}
}
