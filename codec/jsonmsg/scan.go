package jsonmsg

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// The scanner takes what RFC 8259 takes and nothing else. It looks at each byte
// once per pass, keeps no tree and allocates nothing, so that a message costs no
// more memory than its bytes, whatever it holds.

// errMessage is the root of all errors of this package.
var errMessage = errors.New("malformed message")

// errDepth tells of a value that is nested too deep.
var errDepth = fmt.Errorf("%w: nested more than %d deep", errMessage, maxDepth)

// maxDepth bounds arrays and objects within each other. Ours have three.
const maxDepth = 16

type kind uint8

const (
	kindString kind = iota
	kindNumber
	kindBool
	kindNull
	kindArray
	kindObject
)

var kindNames = [...]string{
	kindString: "a string", kindNumber: "a number", kindBool: "true or false", kindNull: "null", kindArray: "an array", kindObject: "an object",
}

// value is a value as it stands in the text.
type value struct {
	kind kind
	raw  []byte
}

// eachMember calls fn for each member of the object that p is, in order, and
// stops at the first error. A name with escapes is read as what it means; one
// that is no text is ignored with its value.
func eachMember(p []byte, fn func(name []byte, v value) error) error {
	if !utf8.Valid(p) {
		return fmt.Errorf("%w: not UTF-8", errMessage)
	}
	s := scanner{p: p}
	s.space()
	if s.peek() != '{' {
		return s.unexpected("an object")
	}
	if err := s.object(1, fn); err != nil {
		return err
	}
	if s.space(); s.i < len(p) {
		return s.unexpected("nothing more")
	}
	return nil
}

// eachElement calls fn for each element of an array that was scanned before.
func eachElement(p []byte, fn func(value) error) error {
	s := scanner{p: p}
	return s.array(1, fn)
}

type scanner struct {
	p []byte
	i int
}

// peek is the next byte, 0 at the end: NUL stands nowhere in JSON.
func (s *scanner) peek() byte {
	if s.i >= len(s.p) {
		return 0
	}
	return s.p[s.i]
}

func (s *scanner) space() {
	for s.i < len(s.p) && (s.p[s.i] == ' ' || s.p[s.i] == '\t' || s.p[s.i] == '\n' || s.p[s.i] == '\r') {
		s.i++
	}
}

func (s *scanner) unexpected(want string) error {
	if s.i >= len(s.p) {
		return fmt.Errorf("%w: ends where %s should come", errMessage, want)
	}
	return fmt.Errorf("%w: %q at byte %d, want %s", errMessage, s.p[s.i], s.i, want)
}

// next goes over spaces and then c, if it is c that comes.
func (s *scanner) next(c byte) bool {
	s.space()
	if s.peek() != c {
		return false
	}
	s.i++
	return true
}

// object scans an object; fn may be nil.
func (s *scanner) object(depth int, fn func(name []byte, v value) error) error {
	s.i++ // {
	if s.next('}') {
		return nil
	}
	for {
		s.space()
		if s.peek() != '"' {
			return s.unexpected("a name in quotes")
		}
		name, err := s.value(depth)
		if err != nil {
			return err
		}
		if !s.next(':') {
			return s.unexpected("a colon")
		}
		s.space()
		v, err := s.value(depth)
		if err != nil {
			return err
		}
		if fn != nil {
			if plain, ok := unescape(name.raw[1 : len(name.raw)-1]); ok {
				if err := fn(plain, v); err != nil {
					return err
				}
			}
		}
		if s.next('}') {
			return nil
		}
		if !s.next(',') {
			return s.unexpected("a comma or }")
		}
	}
}

// array scans an array; fn may be nil.
func (s *scanner) array(depth int, fn func(value) error) error {
	s.i++ // [
	if s.next(']') {
		return nil
	}
	for {
		s.space()
		v, err := s.value(depth)
		if err != nil {
			return err
		}
		if fn != nil {
			if err := fn(v); err != nil {
				return err
			}
		}
		if s.next(']') {
			return nil
		}
		if !s.next(',') {
			return s.unexpected("a comma or ]")
		}
	}
}

// value scans the value that begins here, inside depth arrays and objects.
func (s *scanner) value(depth int) (v value, err error) {
	start := s.i
	switch c := s.peek(); {
	case c == '"':
		v.kind, err = kindString, s.str()
	case c == '{' || c == '[':
		v.kind, err = s.nested(depth + 1)
	case c == '-' || (c >= '0' && c <= '9'):
		v.kind, err = kindNumber, s.number()
	case s.word("true"), s.word("false"):
		v.kind = kindBool
	case s.word("null"):
		v.kind = kindNull
	default:
		return v, s.unexpected("a value")
	}
	v.raw = s.p[start:s.i]
	return v, err
}

func (s *scanner) nested(depth int) (kind, error) {
	if depth > maxDepth {
		return 0, errDepth
	}
	if s.peek() == '[' {
		return kindArray, s.array(depth, nil)
	}
	return kindObject, s.object(depth, nil)
}

func (s *scanner) word(w string) bool {
	if !bytes.HasPrefix(s.p[s.i:], []byte(w)) {
		return false
	}
	s.i += len(w)
	return true
}

func (s *scanner) str() error {
	for s.i++; ; s.i++ {
		switch c := s.peek(); {
		case c == '"':
			s.i++
			return nil
		case c < 0x20:
			return s.unexpected("the end of a string")
		case c == '\\':
			if s.i++; !s.escape() {
				return s.unexpected("an escape")
			}
		}
	}
}

// escape goes to the last byte of the escape whose backslash is passed.
func (s *scanner) escape() bool {
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return true
	case 'u':
		for range 4 {
			s.i++
			if !isHex(s.peek()) {
				return false
			}
		}
		return true
	}
	return false
}

func isHex(c byte) bool {
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F')
}

func (s *scanner) number() error {
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return s.unexpected("a digit")
	}
	if s.peek() == '.' {
		if s.i++; !s.digits() {
			return s.unexpected("a digit")
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return s.unexpected("a digit")
		}
	}
	return nil
}

// digits goes over digits and reports whether there was one.
func (s *scanner) digits() bool {
	start := s.i
	for c := s.peek(); c >= '0' && c <= '9'; c = s.peek() {
		s.i++
	}
	return s.i > start
}

// unescape returns what a string that was scanned before means: itself, if it has
// no escapes. It is no text if it has half a surrogate pair.
func unescape(p []byte) (text []byte, ok bool) {
	i := bytes.IndexByte(p, '\\')
	if i < 0 {
		return p, true
	}
	text = make([]byte, 0, len(p))
	for ; i >= 0; i = bytes.IndexByte(p, '\\') {
		text = append(text, p[:i]...)
		if p[i+1] != 'u' {
			text = append(text, plainEscape(p[i+1]))
			p = p[i+2:]
			continue
		}
		r, n := hexRune(p[i:]), 6
		if utf16.IsSurrogate(r) {
			if r, n = utf16.DecodeRune(r, hexRune(p[i+6:])), 12; r == utf8.RuneError {
				return nil, false
			}
		}
		text = utf8.AppendRune(text, r)
		p = p[i+n:]
	}
	return append(text, p...), true
}

func plainEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}

// hexRune reads \uXXXX at the beginning of p, 0 if there is none.
func hexRune(p []byte) (r rune) {
	if len(p) < 6 || p[0] != '\\' || p[1] != 'u' {
		return 0
	}
	for _, c := range p[2:6] {
		switch {
		case c <= '9':
			r = r<<4 | rune(c-'0')
		default:
			r = r<<4 | rune(c|0x20-'a'+10)
		}
	}
	return r
}
