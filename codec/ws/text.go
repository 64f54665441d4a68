package ws

import "unicode/utf8"

func validText(p []byte) bool { return utf8.Valid(p) }

// textSoFar checks the beginning of a text: ok is false as soon as no
// continuation could make it UTF-8. n bytes are checked for good, the rest is a
// rune that is not all there.
func textSoFar(p []byte) (n int, ok bool) {
	n = len(p)
	for back := 1; back < utf8.UTFMax && back <= len(p); back++ {
		if i := len(p) - back; utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				n = i
			}
			break
		}
	}
	return n, utf8.Valid(p[:n])
}

// cut cuts s at a rune to at most max bytes.
func cut(s string, max int) string {
	if len(s) <= max {
		return s
	}
	for max > 0 && !utf8.RuneStart(s[max]) {
		max--
	}
	return s[:max]
}
