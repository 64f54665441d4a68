package api

import (
	"encoding/binary"
	"math/bits"
	"unsafe"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// Reading a query. The general scanner takes about 23 ns for an id, most of it
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

// aliased returns b as a string without a copy. It is valid as long as b is not written.
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
	name := sc.name()
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

// accounts reads the array of ids. What happens for each id stands in one loop
// on local variables: this is where nearly all of the time goes.
func (sc *queryScanner) accounts(q *queryRequest) bool {
	if !sc.next('[') {
		return false
	}
	b, pos, ids := sc.b, sc.pos, q.ids[:0]
	for more := true; more; {
		if pos >= len(b) || b[pos] != '"' {
			if sc.pos = pos; !sc.next('"') {
				return false
			}
			pos = sc.pos - 1
		}
		pos++
		begin := pos
		for pos+8 <= len(b) {
			if odd := oddBytes(binary.LittleEndian.Uint64(b[pos:])); odd != 0 {
				pos += bits.TrailingZeros64(odd) / 8
				break
			}
			pos += 8
		}
		if pos+8 > len(b) {
			pos = endOfPlain(b, pos)
		}
		if pos >= len(b) || b[pos] != '"' || pos == begin || pos-begin > presence.MaxUserID || len(ids) == maxQuery {
			return false
		}
		ids = append(ids, sc.s[begin:pos])
		pos++
		if more = pos < len(b) && b[pos] == ','; more {
			pos++
			continue
		}
		sc.pos = pos
		more = sc.next(',')
		pos = sc.pos
	}
	q.ids, q.count, q.toAccount = ids, len(ids), '['
	return sc.next(']')
}

// endOfPlain returns the position of the first byte from pos on that is not a
// plainByte, len(b) if there is none.
func endOfPlain(b []byte, pos int) int {
	for pos < len(b) && plainByte(b[pos]) {
		pos++
	}
	return pos
}

// name reads the rest of a string without escapes; "" if there is none.
func (sc *queryScanner) name() string {
	begin := sc.pos
	sc.pos = endOfPlain(sc.b, begin)
	if sc.pos == len(sc.b) || sc.b[sc.pos] != '"' {
		return ""
	}
	sc.pos++
	return sc.s[begin : sc.pos-1]
}

// plainByte reports whether c may stand in a UserID and needs no escape.
func plainByte(c byte) bool { return c >= 0x20 && c <= 0x7e && c != '"' && c != '\\' }

// oddBytes has bit 7 set in the first byte of w that is not a plainByte, and in
// no byte before it; those behind it may be wrong. It subtracts or adds so that
// bit 7 of a wrong byte turns on: a borrow or a carry into the next byte comes
// from a wrong byte only. (After Sean Eron Anderson's Bit Twiddling Hacks, less
// what w itself says of bytes from 0x80 on.)
func oddBytes(w uint64) uint64 {
	const ones = 0x0101010101010101
	quote, slash := w^ones*'"', w^ones*'\\'
	return ((quote - ones) | (slash - ones) | (w - ones*0x20) | (w + ones) | w) & (ones * 0x80)
}
