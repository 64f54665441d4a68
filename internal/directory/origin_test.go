package directory

import (
	"strings"
	"testing"
)

func TestOriginAllowed(t *testing.T) {
	for _, c := range []struct {
		entries string
		origin  string
		want    bool
	}{
		{"", "https://anywhere.example", true},
		{"", "null", true},
		{"https://a.example", "", true}, // not a browser
		{"https://a.example", "https://a.example", true},
		{"https://a.example", "https://a.example:8443", false},
		{"https://a.example", "http://a.example", false},
		{"https://a.example", "https://A.example", false}, // no browser sends that
		{"https://a.example", "https://a.example.evil.example", false},
		{"https://a.example", "https://b.a.example", false},
		{"https://a.example", "null", false},
		{"https://a.example:8443", "https://a.example:8443", true},
		{"http://localhost:3000", "http://localhost:3000", true},
		{"https://[::1]:3000", "https://[::1]:3000", true},
		{"capacitor://localhost", "capacitor://localhost", true},
		{"https://b.example https://a.example", "https://a.example", true},
		{"*.a.example", "https://x.a.example", true},
		{"*.a.example", "https://x.y.a.example:8443", true},
		{"*.a.example", "https://a.example", false},
		{"*.a.example", "https://.a.example", false},
		{"*.a.example", "https://xa.example", false},
		{"*.a.example", "http://x.a.example", false},
		{"*.a.example", "https://evil.example/x.a.example", false},
		{"*.a.example", "https://evil.example?.a.example", false},
		{"*.a.example", "https://evil.example#.a.example", false},
		{"*.a.example", "https://user@x.a.example", false},
		{"*.a.example", "https://evil.example:1.a.example", false},
		{"*.a.example", "https://x.a.example:", false},
		{"*.a.example", "https://x.a.example:0", false},
		{"*.a.example", "*.a.example", true}, // as it stands, which no browser sends
	} {
		a := NewApp(1)
		a.AllowedOrigins = strings.Fields(c.entries)
		if err := a.Validate(); err != nil {
			t.Errorf("%s: %v", c.entries, err)
		}
		if got := a.OriginAllowed(c.origin); got != c.want {
			t.Errorf("[%s] and %q: %v, want %v", c.entries, c.origin, got, c.want)
		}
	}
}

func TestValidateOrigins(t *testing.T) {
	for _, entry := range []string{
		"", "*", "*.", "a.example", "https://", "https:a.example", "https://a.example/", "https://a.example/x", "https://A.example", "HTTPS://a.example", "https://a..example",
		"https://a.example:443", "http://a.example:80", "https://a.example:0", "https://a.example:65536", "https://a.example:080", "https://a.example:", "https://a.example:x", "https://a.example:99999999999999999999",
		"https://*.a.example", "*.a.example:8443", "https://ä.example", "https://a.example?x", "https://u@a.example", "https://[::1", "https://[::1]x", "https://[::1]:", "https://[::ffff:1]:5x", "https://[1.2.3.4]",
		"https://[0:0::1]", "null", "1x://a", "://a", "https://" + strings.Repeat("a", 249),
	} {
		if err := ValidateOrigins([]string{"https://good.example", entry}); err == nil || !strings.Contains(err.Error(), "AllowedOrigins") {
			t.Errorf("%q: %v", entry, err)
		}
	}
	if err := ValidateOrigins([]string{"https://" + strings.Repeat("a", 248)}); err != nil {
		t.Error(err)
	}
	many := make([]string, MaxAllowedOrigins+1)
	for i := range many {
		many[i] = "https://a.example"
	}
	if err := ValidateOrigins(many[:MaxAllowedOrigins]); err != nil {
		t.Error(err)
	}
	if err := ValidateOrigins(many); err == nil || !strings.Contains(err.Error(), "got 101") {
		t.Error(err)
	}
}
