package config

import (
	"strings"
	"testing"
)

// FuzzSetting feeds values to every setting: what is taken reads back as a text
// that is taken again and means the same.
func FuzzSetting(f *testing.F) {
	for i := range settings {
		f.Add(uint8(i), settings[i].def, false)
		f.Add(uint8(i), settings[i].dev, true)
	}
	for i, value := range []string{"-1", "1e309", "0x10", "+1", "NaN", "interval:007", "[::1%lo]:1", "::1:80", "host:65536", "\x00", "1h1h", "٣", strings.Repeat("9", 400)} {
		f.Add(uint8(i), value, false)
	}
	f.Fuzz(func(t *testing.T, n uint8, value string, dev bool) {
		s := &settings[int(n)%len(settings)]
		c := Default()
		c.Dev = dev
		if s.set(c, value) != nil {
			return
		}
		text := s.get(c)
		again := Default()
		again.Dev = dev
		if err := s.set(again, text); err != nil {
			t.Fatalf("%s takes %q, shows it as %q and does not take that: %v", s.name, value, text, err)
		}
		if back := s.get(again); back != text {
			t.Errorf("%s takes %q, shows it as %q and that as %q", s.name, value, text, back)
		}
	})
}
