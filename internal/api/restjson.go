package api

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth bounds the nesting of a body.
const maxJSONDepth = 32

var (
	errBadJSON = errors.New("not valid JSON")
	errNested  = fmt.Errorf("nested deeper than %d", maxJSONDepth)
)

// jsonScanner reads JSON (RFC 8259) strictly and in one pass, with names compared
// byte for byte, which encoding/json does not do. What it returns aliases its
// input unless an escape had to be resolved; nothing else is allocated. After an
// error it must not be used again.
type jsonScanner struct {
	s     string
	pos   int
	depth int
}

// scanObject reads a body that must be one JSON object and nothing else. member
// is called with each name and must consume the value.
func scanObject(body string, member func(sc *jsonScanner, name string) error) error {
	sc := jsonScanner{s: body}
	if sc.kind() != '{' {
		return errors.New("not a JSON object")
	}
	if err := sc.object(func(name string) error { return member(&sc, name) }); err != nil {
		return err
	}
	if sc.space(); sc.pos != len(sc.s) {
		return errors.New("something follows the JSON object")
	}
	return nil
}

func (sc *jsonScanner) space() {
	for sc.pos < len(sc.s) {
		switch sc.s[sc.pos] {
		case ' ', '\t', '\n', '\r':
			sc.pos++
		default:
			return
		}
	}
}

// kind skips white space and returns the byte that begins the next value, '0'
// for every number; 0 if no value begins there.
func (sc *jsonScanner) kind() byte {
	sc.space()
	if sc.pos == len(sc.s) {
		return 0
	}
	switch c := sc.s[sc.pos]; {
	case c == '-' || c-'0' <= 9:
		return '0'
	case c == '{', c == '[', c == '"', c == 't', c == 'f', c == 'n':
		return c
	}
	return 0
}

// is consumes c if it is the very next byte.
func (sc *jsonScanner) is(c byte) bool {
	if sc.pos == len(sc.s) || sc.s[sc.pos] != c {
		return false
	}
	sc.pos++
	return true
}

// object reads an object; value must consume the value of the member it is told.
func (sc *jsonScanner) object(value func(name string) error) error {
	return sc.list('{', '}', func() error {
		sc.space()
		name, err := sc.str()
		if err != nil {
			return err
		}
		if sc.space(); !sc.is(':') {
			return errBadJSON
		}
		return value(name)
	})
}

// array reads an array; element must consume one element.
func (sc *jsonScanner) array(element func() error) error { return sc.list('[', ']', element) }

// list reads what stands between the brackets, separated by commas.
func (sc *jsonScanner) list(open, end byte, item func() error) error {
	if sc.space(); !sc.is(open) {
		return errBadJSON
	}
	if sc.depth++; sc.depth > maxJSONDepth {
		return errNested
	}
	defer func() { sc.depth-- }()
	if sc.space(); sc.is(end) {
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		sc.space()
		if sc.is(end) {
			return nil
		}
		if !sc.is(',') {
			return errBadJSON
		}
	}
}

// str reads a string at exactly this position.
func (sc *jsonScanner) str() (string, error) {
	if !sc.is('"') {
		return "", errBadJSON
	}
	for i := sc.pos; i < len(sc.s); i++ {
		switch c := sc.s[i]; {
		case c == '"':
			v := sc.s[sc.pos:i]
			sc.pos = i + 1
			return v, nil
		case c == '\\':
			return sc.escaped(i)
		case c < 0x20:
			return "", errBadJSON
		}
	}
	return "", errBadJSON
}

// escaped reads the rest of a string whose first escape is at i.
func (sc *jsonScanner) escaped(i int) (string, error) {
	var b strings.Builder
	b.WriteString(sc.s[sc.pos:i])
	sc.pos = i
	for sc.pos < len(sc.s) {
		c := sc.s[sc.pos]
		sc.pos++
		switch {
		case c == '"':
			return b.String(), nil
		case c == '\\':
			r, ok := sc.escape()
			if !ok {
				return "", errBadJSON
			}
			b.WriteRune(r)
		case c < 0x20:
			return "", errBadJSON
		default:
			b.WriteByte(c)
		}
	}
	return "", errBadJSON
}

// escape reads what follows a backslash.
func (sc *jsonScanner) escape() (rune, bool) {
	if sc.pos == len(sc.s) {
		return 0, false
	}
	c := sc.s[sc.pos]
	sc.pos++
	switch c {
	case '"', '\\', '/':
		return rune(c), true
	case 'b':
		return '\b', true
	case 'f':
		return '\f', true
	case 'n':
		return '\n', true
	case 'r':
		return '\r', true
	case 't':
		return '\t', true
	case 'u':
		return sc.unicode()
	}
	return 0, false
}

// unicode reads the digits of \uXXXX, and the second half if they start a
// surrogate pair. A lone half is U+FFFD.
func (sc *jsonScanner) unicode() (rune, bool) {
	r, ok := sc.hex4(sc.pos)
	if !ok {
		return 0, false
	}
	sc.pos += 4
	if !utf16.IsSurrogate(r) {
		return r, true
	}
	if strings.HasPrefix(sc.s[sc.pos:], `\u`) {
		if low, ok := sc.hex4(sc.pos + 2); ok && utf16.DecodeRune(r, low) != utf8.RuneError {
			sc.pos += 6
			return utf16.DecodeRune(r, low), true
		}
	}
	return utf8.RuneError, true
}

func (sc *jsonScanner) hex4(at int) (rune, bool) {
	if at+4 > len(sc.s) {
		return 0, false
	}
	for i := range 4 {
		if c := sc.s[at+i]; c-'0' > 9 && (c|0x20)-'a' > 5 {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(sc.s[at:at+4], 16, 16)
	return rune(n), err == nil
}

// number reads a number and returns its text.
func (sc *jsonScanner) number() (string, error) {
	start := sc.pos
	sc.is('-')
	if !sc.is('0') && sc.digits() == 0 {
		return "", errBadJSON
	}
	if sc.is('.') && sc.digits() == 0 {
		return "", errBadJSON
	}
	if sc.is('e') || sc.is('E') {
		if !sc.is('+') {
			sc.is('-')
		}
		if sc.digits() == 0 {
			return "", errBadJSON
		}
	}
	return sc.s[start:sc.pos], nil
}

func (sc *jsonScanner) digits() (n int) {
	for sc.pos < len(sc.s) && sc.s[sc.pos]-'0' <= 9 {
		sc.pos++
		n++
	}
	return n
}

func (sc *jsonScanner) word(w string) error {
	if !strings.HasPrefix(sc.s[sc.pos:], w) {
		return errBadJSON
	}
	sc.pos += len(w)
	return nil
}

// skip reads a value of any type.
func (sc *jsonScanner) skip() error {
	switch sc.kind() {
	case '"':
		_, err := sc.str()
		return err
	case '{':
		return sc.object(func(string) error { return sc.skip() })
	case '[':
		return sc.array(sc.skip)
	case '0':
		_, err := sc.number()
		return err
	case 't':
		return sc.word("true")
	case 'f':
		return sc.word("false")
	case 'n':
		return sc.word("null")
	}
	return errBadJSON
}

// flag reads a value of any type: true for the number 1, false for all else.
func (sc *jsonScanner) flag() (bool, error) {
	if sc.kind() != '0' {
		return false, sc.skip()
	}
	text, err := sc.number()
	if err != nil || text == "1" {
		return text == "1", err
	}
	n, _ := strconv.ParseFloat(text, 64)
	return n == 1, nil
}

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. What is no UTF-8 becomes U+FFFD.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= 0x20 && c != '"' && c != '\\' && c < utf8.RuneSelf {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), `\ufffd`...)
				start = i + size
			}
			i += size
			continue
		}
		b = append(b, s[start:i]...)
		if c == '"' || c == '\\' {
			b = append(b, '\\', c)
		} else {
			b = append(b, `\u00`...)
			b = append(b, hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		start = i
	}
	return append(append(b, s[start:]...), '"')
}
