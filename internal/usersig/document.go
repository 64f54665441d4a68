package usersig

import (
	"errors"
	"fmt"
	"unicode/utf16"
	"unicode/utf8"
)

// document is the JSON inside a UserSig. Its slices alias what was parsed.
type document struct {
	seen              field // which fields were there
	ver               []byte
	identifier        []byte
	app, time, expire int64
	userbuf, sig      []byte
}

// field is a set of fields.
type field uint8

const (
	fieldVer field = 1 << iota
	fieldIdentifier
	fieldApp
	fieldExpire
	fieldTime
	fieldSig
	fieldUserbuf

	fieldsRequired = fieldVer | fieldIdentifier | fieldApp | fieldExpire | fieldTime | fieldSig
)

// fieldNames has the member of the JSON object for each bit of field.
var fieldNames = [...]string{"TLS.ver", "TLS.identifier", "TLS.sdkappid", "TLS.expire", "TLS.time", "TLS.sig", "TLS.userbuf"}

func (d *document) has(f field) bool { return d.seen&f != 0 }

// maxDepth bounds the nesting of values that are not read.
const maxDepth = 16

var (
	errJSON    = errors.New("not a JSON object")
	errDepth   = fmt.Errorf("JSON nested deeper than %d", maxDepth)
	errVersion = errors.New(`TLS.ver is not "2.0"`)
	errControl = errors.New("TLS.identifier has a control character")
)

// parse reads a whole document and refuses everything that is not exactly one:
// a missing, repeated or wrongly typed field, anything after the object. Members
// that it does not know must be valid JSON and are ignored. buf is changed:
// escapes are resolved in place.
func (d *document) parse(buf []byte) error {
	s := scanner{buf: buf}
	if err := s.object(d); err != nil {
		return err
	}
	if s.space(); s.pos != len(buf) {
		return errors.New("something follows the JSON object")
	}
	for i, name := range fieldNames {
		if f := field(1) << i; f&fieldsRequired != 0 && !d.has(f) {
			return fmt.Errorf("%s is missing", name)
		}
	}
	if string(d.ver) != "2.0" {
		return errVersion
	}
	// A line end would let one signed text read as another.
	for _, c := range d.identifier {
		if c < 0x20 || c == 0x7f {
			return errControl
		}
	}
	return nil
}

// fieldOf returns the field called name, 0 if it is none of ours.
func fieldOf(name []byte) (f field, index int) {
	for i := range fieldNames {
		if string(name) == fieldNames[i] {
			return 1 << i, i
		}
	}
	return 0, 0
}

// member reads the value of the member called name.
func (d *document) member(name []byte, s *scanner) error {
	f, index := fieldOf(name)
	if f == 0 {
		return s.skip(1)
	}
	if d.has(f) {
		return fmt.Errorf("%s appears twice", fieldNames[index])
	}
	d.seen |= f
	if err := d.value(f, s); err != nil {
		return fmt.Errorf("%s: %w", fieldNames[index], err)
	}
	return nil
}

// value reads the value of field f.
func (d *document) value(f field, s *scanner) (err error) {
	switch f {
	case fieldVer:
		d.ver, err = s.str()
	case fieldIdentifier:
		d.identifier, err = s.str()
	case fieldApp:
		d.app, err = s.integer()
	case fieldExpire:
		d.expire, err = s.integer()
	case fieldTime:
		d.time, err = s.integer()
	case fieldSig:
		d.sig, err = s.str()
	case fieldUserbuf:
		d.userbuf, err = s.str()
	}
	return err
}

// scanner reads JSON (RFC 8259) from buf.
type scanner struct {
	buf []byte
	pos int
}

// space skips white space.
func (s *scanner) space() {
	for s.pos < len(s.buf) {
		switch s.buf[s.pos] {
		case ' ', '\t', '\n', '\r':
			s.pos++
		default:
			return
		}
	}
}

// peek skips white space and returns the next byte, 0 at the end.
func (s *scanner) peek() byte {
	if s.space(); s.pos < len(s.buf) {
		return s.buf[s.pos]
	}
	return 0
}

// take skips white space and consumes c; false if something else comes.
func (s *scanner) take(c byte) bool {
	if s.peek() != c || s.pos == len(s.buf) {
		return false
	}
	s.pos++
	return true
}

// object reads the members of the outermost object into d.
func (s *scanner) object(d *document) error {
	return s.members(func(name []byte) error { return d.member(name, s) })
}

// members reads an object and calls value, which must consume a value, for each member.
func (s *scanner) members(value func(name []byte) error) error {
	if !s.take('{') {
		return errJSON
	}
	if s.take('}') {
		return nil
	}
	for {
		if s.peek() != '"' {
			return errJSON
		}
		name, err := s.str()
		if err != nil {
			return err
		}
		if !s.take(':') {
			return errJSON
		}
		if err := value(name); err != nil {
			return err
		}
		if s.take('}') {
			return nil
		}
		if !s.take(',') {
			return errJSON
		}
	}
}

var (
	errString  = errors.New("not a JSON string")
	errInteger = errors.New("not an integer of 64 bits")
)

// integer reads a number without fraction and exponent.
func (s *scanner) integer() (int64, error) {
	s.space()
	negative := s.is('-')
	start := s.pos
	var n uint64
	for s.pos < len(s.buf) && s.buf[s.pos]-'0' <= 9 {
		digit := uint64(s.buf[s.pos] - '0')
		if n > (1<<63-digit)/10 {
			return 0, errInteger
		}
		n = 10*n + digit
		s.pos++
	}
	digits := s.pos - start
	switch {
	case digits == 0, digits > 1 && s.buf[start] == '0', !negative && n > 1<<63-1:
		return 0, errInteger
	case s.pos < len(s.buf) && (s.buf[s.pos] == '.' || s.buf[s.pos]|0x20 == 'e'):
		return 0, errInteger
	case negative:
		return int64(-n), nil
	}
	return int64(n), nil
}

// str reads a string and resolves its escapes in place, where the result always
// fits. The result aliases buf.
func (s *scanner) str() ([]byte, error) {
	if !s.take('"') {
		return nil, errString
	}
	start, w := s.pos, s.pos
	for s.pos < len(s.buf) {
		c := s.buf[s.pos]
		s.pos++
		switch {
		case c == '"':
			return s.buf[start:w], nil
		case c < 0x20:
			return nil, errString
		case c == '\\':
			n, ok := s.escape(s.buf[w:])
			if !ok {
				return nil, errString
			}
			w += n
		default:
			s.buf[w] = c
			w++
		}
	}
	return nil, errString
}

// escape reads what follows a backslash and writes what it means to dst, which
// may end in it: the meaning is never longer than the escape.
func (s *scanner) escape(dst []byte) (n int, ok bool) {
	if s.pos >= len(s.buf) {
		return 0, false
	}
	c := s.buf[s.pos]
	s.pos++
	switch c {
	case '"', '\\', '/':
		dst[0] = c
	case 'b':
		dst[0] = '\b'
	case 'f':
		dst[0] = '\f'
	case 'n':
		dst[0] = '\n'
	case 'r':
		dst[0] = '\r'
	case 't':
		dst[0] = '\t'
	case 'u':
		r, ok := s.rune()
		if !ok {
			return 0, false
		}
		return utf8.EncodeRune(dst, r), true
	default:
		return 0, false
	}
	return 1, true
}

// rune reads the digits of \uXXXX, and the second half if that starts a
// surrogate pair. A lone half is U+FFFD.
func (s *scanner) rune() (rune, bool) {
	r, ok := s.hex4(s.pos)
	if !ok {
		return 0, false
	}
	s.pos += 4
	if !utf16.IsSurrogate(r) {
		return r, true
	}
	if s.pos+1 < len(s.buf) && s.buf[s.pos] == '\\' && s.buf[s.pos+1] == 'u' {
		if low, ok := s.hex4(s.pos + 2); ok {
			if pair := utf16.DecodeRune(r, low); pair != utf8.RuneError {
				s.pos += 6
				return pair, true
			}
		}
	}
	return utf8.RuneError, true
}

// hex4 reads the four hex digits at position at.
func (s *scanner) hex4(at int) (r rune, ok bool) {
	if at+4 > len(s.buf) {
		return 0, false
	}
	for _, c := range s.buf[at : at+4] {
		switch {
		case c-'0' <= 9:
			c -= '0'
		case (c|0x20)-'a' <= 5:
			c = c | 0x20 - 'a' + 10
		default:
			return 0, false
		}
		r = r<<4 | rune(c)
	}
	return r, true
}

// skip reads a value of any type; depth counts the objects and arrays around it.
func (s *scanner) skip(depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	switch c := s.peek(); c {
	case '"':
		_, err := s.str()
		return err
	case '{':
		return s.members(func([]byte) error { return s.skip(depth + 1) })
	case '[':
		return s.elements(depth)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	}
	return s.number()
}

// elements reads an array.
func (s *scanner) elements(depth int) error {
	s.take('[')
	if s.take(']') {
		return nil
	}
	for {
		if err := s.skip(depth + 1); err != nil {
			return err
		}
		if s.take(']') {
			return nil
		}
		if !s.take(',') {
			return errJSON
		}
	}
}

func (s *scanner) word(w string) error {
	if len(s.buf)-s.pos < len(w) || string(s.buf[s.pos:s.pos+len(w)]) != w {
		return errJSON
	}
	s.pos += len(w)
	return nil
}

// number reads a number of any form.
func (s *scanner) number() error {
	s.is('-')
	if !s.is('0') && s.digits() == 0 {
		return errJSON
	}
	if s.is('.') && s.digits() == 0 {
		return errJSON
	}
	if s.is('e') || s.is('E') {
		if !s.is('+') {
			s.is('-')
		}
		if s.digits() == 0 {
			return errJSON
		}
	}
	return nil
}

// is consumes c if it is the very next byte.
func (s *scanner) is(c byte) bool {
	if s.pos == len(s.buf) || s.buf[s.pos] != c {
		return false
	}
	s.pos++
	return true
}

func (s *scanner) digits() (n int) {
	for s.pos < len(s.buf) && s.buf[s.pos]-'0' <= 9 {
		s.pos++
		n++
	}
	return n
}
