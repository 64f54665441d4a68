package webhook

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"
)

// FuzzTargetURL: a URL that an operator may set names one host, which is the
// one that is dialled, and no address that the rules keep out.
func FuzzTargetURL(f *testing.F) {
	for _, raw := range []string{
		"http://hook.example/", "https://hook.example:8443/a?b=c&", "http://10.0.0.1/", "http://[::ffff:127.0.0.1]/", "http://127.1/", "http://0x7f000001/",
		"http://a@b/", "http://a\\@b/", "http://h:0/", "http://h:70000/", "http://localhost./", "http://h#f", "http://%31%32%37.0.0.1/", "//h", "http://[fe80::1%25lo]/",
		"http://169.254.169.254/latest", "http://h/\r\nX: y", "http://h?x#y", "ftp://h/",
	} {
		f.Add(raw)
	}
	var r reach
	f.Fuzz(func(t *testing.T, raw string) {
		got, err := r.checkURL(raw)
		if err != nil {
			return
		}
		if ip, err := netip.ParseAddr(got.host); err == nil && ip.Zone() != "" {
			return // of this machine alone, and no URL can be parsed twice with it
		}
		u, err := url.Parse(got.request)
		if err != nil || u.Hostname() != got.host || u.User != nil || u.Fragment != "" || strings.ContainsAny(got.request, "\r\n \x00") {
			t.Fatalf("%q becomes %+v: %v", raw, got, err)
		}
		if ip, err := netip.ParseAddr(got.host); err == nil && r.check(ip) != nil {
			t.Fatalf("%q leads to %v", raw, ip)
		}
	})
}

// FuzzRetryAfter: what a receiver asks for is never in the past.
func FuzzRetryAfter(f *testing.F) {
	now := time.Date(2026, 11, 26, 0, 0, 0, 0, time.UTC)
	for _, v := range []string{"", "0", "120", "-1", "99999999999999999999", "Thu, 26 Nov 2026 00:01:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT", "1e3", "Thu, 99 Nov 9999 00:01:00 GMT"} {
		f.Add([]byte(v))
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		if d := parseRetryAfter(value, now); d < 0 {
			t.Errorf("%q means %v", value, d)
		}
	})
}

// FuzzDecodeLogEnd: the end of a log is read whole or not at all.
func FuzzDecodeLogEnd(f *testing.F) {
	f.Add(logEndKey(7), (&appLog{epoch: 1, next: 2}).appendEnd(nil))
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, key, value []byte) {
		app, a, err := decodeLogEnd(key, value)
		if err != nil {
			return
		}
		again, b, err := decodeLogEnd(logEndKey(app), a.appendEnd(nil))
		if err != nil || again != app || b.epoch != a.epoch || b.next != a.next {
			t.Errorf("app %d, %+v became app %d, %+v: %v", app, a, again, b, err)
		}
	})
}
