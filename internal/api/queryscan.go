package api

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Reading a query. The general scanner takes about 20 ns for an id, most of it
// byte by byte and through calls of functions of its caller. Nearly all bodies
// are of one shape, though, for which there is a scanner of its own:
//
//	{"To_Account":["id",...],"IsNeedDetail":1,...}
//
// with members of the four known names in any order, To_Account an array of 1
// to 500 UserIDs without escapes, flags 0 or 1, any white space. It reads eight
// bytes at a time and decides in the same pass that each id is a UserID that
// needs no escapes in the answer either. What it does not take is read again by
// the general scanner, which alone knows the errors, so all that is asked of
// this one is: what it takes, the general one takes with the same result
// (FuzzQueryScan).
//
// Of members that come twice the last one counts, here as there, and as
// encoding/json has it.

// text returns b as a string without a copy. It is valid as long as b is not written.
func aliased(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// queryScanner reads a body of the usual shape.
type queryScanner struct {
	b   []byte
	s   string // b
	pos int
}

// scanPlain fills q from a body of the usual shape; the ids alias it. If it
// returns false the body is of another shape, or wrong, and q is not to be used.
func (q *queryRequest) scanPlain(body []byte) bool {
	sc := queryScanner{b: body, s: aliased(body)}
	if !sc.next('{') {
		return false
	}
	for {
		if !sc.member(q) {
			return false
		}
		if sc.next(',') {
			continue
		}
		if !sc.next('}') {
			return false
		}
		sc.space()
		q.plain = q.count > 0
		return sc.pos == len(sc.b) && q.plain
	}
}

func (sc *queryScanner) space() {
	for sc.pos < len(sc.b) && (sc.b[sc.pos] == ' ' || sc.b[sc.pos] == '\n' || sc.b[sc.pos] == '\t' || sc.b[sc.pos] == '\r') {
		sc.pos++
	}
}

// next consumes c behind any white space.
func (sc *queryScanner) next(c byte) bool {
	if sc.pos < len(sc.b) && sc.b[sc.pos] == c {
		sc.pos++
		return true
	}
	sc.space()
	if sc.pos == len(sc.b) || sc.b[sc.pos] != c {
		return false
	}
	sc.pos++
	return true
}

func (sc *queryScanner) member(q *queryRequest) bool {
	if !sc.next('"') {
		return false
	}
	name := sc.plain()
	if !sc.next(':') {
		return false
	}
	switch name {
	case "To_Account":
		return sc.accounts(q)
	case "IsNeedDetail":
		return sc.flag(&q.detail)
	case "IsReturnInstid":
		return sc.flag(&q.instID)
	case "IsReturnCustomStatus":
		return sc.flag(&q.custom)
	}
	return false
}

// flag reads 0 or 1; whatever goes on behind it, such as 10 or 1.0, is no end
// of a member.
func (sc *queryScanner) flag(to *bool) bool {
	sc.space()
	if sc.pos == len(sc.b) || sc.b[sc.pos]|1 != '1' {
		return false
	}
	*to = sc.b[sc.pos] == '1'
	sc.pos++
	return true
}

func (sc *queryScanner) accounts(q *queryRequest) bool {
	if !sc.next('[') {
		return false
	}
	ids := q.ids[:0]
	for {
		if !sc.next('"') {
			return false
		}
		id := sc.plain()
		if id == "" || len(ids) == maxQuery {
			return false
		}
		ids = append(ids, id)
		if !sc.next(',') {
			break
		}
	}
	q.ids, q.count, q.toAccount = ids, len(ids), '['
	return sc.next(']')
}

// plain reads the rest of a string of 1 to presence.MaxUserID bytes of
// 0x20..0x7e without escapes; "" if it is another one.
func (sc *queryScanner) plain() string {
	begin := sc.pos
	for end := begin; end-begin <= presence.MaxUserID && end+8 <= len(sc.b); end += 8 {
		odd := oddBytes(binary.LittleEndian.Uint64(sc.b[end:]))
		if odd == 0 {
			continue
		}
		end += bits.TrailingZeros64(odd) / 8
		if sc.b[end] != '"' || end-begin > presence.MaxUserID {
			return ""
		}
		sc.pos = end + 1
		return sc.s[begin:end]
	}
	return sc.plainTail(begin)
}

// plainTail is plain for the last bytes of a body, and for strings that are too long.
func (sc *queryScanner) plainTail(begin int) string {
	for end := begin; end < len(sc.b) && end-begin <= presence.MaxUserID; end++ {
		switch c := sc.b[end]; {
		case c == '"':
			sc.pos = end + 1
			return sc.s[begin:end]
		case c < 0x20 || c > 0x7e || c == '\\':
			return ""
		}
	}
	return ""
}

// oddBytes has bit 7 set in the first byte of w that is a quote, a backslash or
// no byte of a UserID, and in no byte before it; those behind it may be wrong.
// (See "Determine if a word has a zero byte" and "a byte less than n" in Sean
// Eron Anderson's Bit Twiddling Hacks: a borrow runs upwards from a byte that is
// one, never from one that is none.)
func oddBytes(w uint64) uint64 {
	const ones = 0x0101010101010101
	quote, slash, del := w^ones*'"', w^ones*'\\', w^ones*0x7f
	return ((w-ones*0x20)&^w | (quote-ones)&^quote | (slash-ones)&^slash | (del-ones)&^del | w) & (ones * 0x80)
}
