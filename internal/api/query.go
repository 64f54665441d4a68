package api

import (
	"fmt"
	"strconv"
	"sync"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// maxQuery is the number of accounts that one query may ask for.
const maxQuery = 500

// queryRequest is the body of query_online_status.
type queryRequest struct {
	ids       []string // at most maxQuery
	count     int      // how many there were
	toAccount byte     // kind of To_Account, 0 = missing
	wrong     byte     // kind of the first element that is no string, 0 = none
	wrongAt   int
	detail    bool
	instID    bool
	custom    bool
}

func (q *queryRequest) member(sc *jsonScanner, name string) (err error) {
	switch name {
	case "To_Account":
		return q.accounts(sc)
	case "IsNeedDetail":
		q.detail, err = sc.flag()
	case "IsReturnInstid":
		q.instID, err = sc.flag()
	case "IsReturnCustomStatus":
		q.custom, err = sc.flag()
	default:
		err = sc.skip()
	}
	return err
}

func (q *queryRequest) accounts(sc *jsonScanner) error {
	q.ids, q.count, q.wrong = q.ids[:0], 0, 0 // the last of several counts
	if q.toAccount = sc.kind(); q.toAccount != '[' {
		return sc.skip()
	}
	return sc.array(func() error {
		q.count++
		if kind := sc.kind(); kind != '"' {
			if q.wrong == 0 {
				q.wrong, q.wrongAt = kind, q.count-1
			}
			return sc.skip()
		}
		id, err := sc.str()
		if len(q.ids) < maxQuery {
			q.ids = append(q.ids, id)
		}
		return err
	})
}

// check says what is wrong with a body that is good JSON.
func (q *queryRequest) check() (int, string) {
	switch {
	case q.toAccount == 0:
		return codeQueryBody, "To_Account is missing"
	case q.toAccount != '[':
		return codeQueryType, fmt.Sprintf("To_Account is %s, not an array of strings", kindNames[q.toAccount])
	case q.count == 0:
		return codeQueryBody, "To_Account is empty"
	case q.count > maxQuery:
		return codeQueryTooMany, fmt.Sprintf("To_Account has %d accounts, more than %d", q.count, maxQuery)
	case q.wrong != 0:
		return codeQueryType, fmt.Sprintf("To_Account[%d] is %s, not a string", q.wrongAt, kindNames[q.wrong])
	}
	return 0, ""
}

// kindNames names what jsonScanner.kind returns.
var kindNames = map[byte]string{
	'{': "an object", '[': "an array", '"': "a string", '0': "a number", 't': "true", 'f': "false", 'n': "null",
}

// queryCall is a reusable query. One that timed out stays with the directory and
// is not used again.
type queryCall struct {
	req  queryRequest
	op   directory.QueryOp
	done chan struct{}
}

var queryCalls = sync.Pool{New: func() any {
	q := &queryCall{done: make(chan struct{}, 1)}
	q.op.Done = func(*directory.QueryOp) { q.done <- struct{}{} }
	return q
}}

// release makes q ready for the next query and drops what it refers to.
func (q *queryCall) release() {
	clear(q.req.ids)
	clear(q.op.UserIDs)
	q.req = queryRequest{ids: q.req.ids[:0]}
	q.op.UserIDs = q.op.UserIDs[:0]
	queryCalls.Put(q)
}

// query answers query_online_status and its old name querystate.
func (c *restCall) query(b []byte) ([]byte, int) {
	q := queryCalls.Get().(*queryCall)
	code, text := c.scanBody(q.req.member)
	if code == 0 {
		code, text = q.req.check()
	}
	if code != 0 {
		q.release()
		return fail(b, code, text)
	}
	q.op.App, q.op.Code = c.app.SDKAppID, presence.CodeOK
	q.op.Detail = q.req.detail || q.req.custom
	for _, id := range q.req.ids {
		if presence.ValidUserID(id) {
			q.op.UserIDs = append(q.op.UserIDs, id)
		}
	}
	if len(q.op.UserIDs) > 0 {
		c.s.dir.Query(&q.op)
		if !c.s.await(q.done) {
			return c.timedOut(b)
		}
	}
	if q.op.Code != presence.CodeOK {
		code := q.op.Code
		q.release()
		return c.failOp(b, code, "the users")
	}
	b, code = c.appendQuery(b, q)
	q.release()
	return b, code
}

// appendQuery appends the results and the errors, each in the order of the request.
func (c *restCall) appendQuery(b []byte, q *queryCall) ([]byte, int) {
	b, code := appendQueryEnvelope(b, q)
	b = append(b, `,"QueryResult":[`...)
	failed, comma := 0, false
	q.each(func(id string, u *directory.UserState) {
		if u == nil || u.Code != presence.CodeOK {
			failed++
			return
		}
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = q.req.appendResult(b, id, u, c.app.QueryIPhoneName)
	})
	b = append(b, `],"ErrorList":[`...)
	if failed > 0 {
		b = q.appendErrors(b)
	}
	return append(b, "]}"...), code
}

// each visits the accounts in the order of the request; u is nil for what is no UserID.
func (q *queryCall) each(visit func(id string, u *directory.UserState)) {
	next := 0
	for _, id := range q.req.ids {
		// Valid ids were handed on in this order.
		if next == len(q.op.UserIDs) || q.op.UserIDs[next] != id {
			visit(id, nil)
			continue
		}
		visit(id, &q.op.Users[next])
		next++
	}
}

// appendQueryEnvelope appends the open envelope: success if at least one account
// was found, 70107 if none exists, and a code to retry on if some may.
func appendQueryEnvelope(b []byte, q *queryCall) ([]byte, int) {
	code := presence.CodeAccountNotExist
	for i := range q.op.UserIDs {
		switch u := &q.op.Users[i]; u.Code {
		case presence.CodeOK:
			return appendOK(b), presence.CodeOK
		case presence.CodeAccountNotExist:
		default:
			code = u.Code
		}
	}
	text := fmt.Sprintf("none of the %d accounts exists, the first is %q", len(q.req.ids), brief([]byte(q.req.ids[0])))
	if code != presence.CodeAccountNotExist {
		text = fmt.Sprintf("none of the %d accounts can be found now, the first is %q; retry", len(q.req.ids), brief([]byte(q.req.ids[0])))
	}
	return appendFail(b, code, text), code
}

// Prepared pieces of results.
var (
	statusPiece   [presence.Online + 1]string                            // `,"Status":...,"State":...`
	instancePiece [presence.NumPlatforms + 1][presence.Online + 1]string // `{"Platform":...,"Status":...`
)

func init() {
	for st := presence.Offline; st <= presence.Online; st++ {
		statusPiece[st] = fmt.Sprintf(`,"Status":%q,"State":%q`, st, st)
		for p := 1; p <= presence.NumPlatforms; p++ {
			instancePiece[p][st] = fmt.Sprintf(`{"Platform":%q,"Status":%q`, presence.Platform(p).QueryName(), st)
		}
	}
}

func (q *queryRequest) appendResult(b []byte, id string, u *directory.UserState, iPhone string) []byte {
	b = append(b, `{"To_Account":`...)
	b = appendString(b, id)
	b = append(b, statusPiece[u.Status]...)
	if q.detail && u.Status != presence.Offline {
		b = append(b, `,"Detail":[`...)
		for i := range u.Instances {
			if i > 0 {
				b = append(b, ',')
			}
			b = q.appendInstance(b, &u.Instances[i], iPhone)
		}
		b = append(b, ']')
	}
	if q.custom {
		b = append(b, `,"CustomStatus":`...)
		b = appendString(b, u.CustomStatus)
	}
	return append(b, '}')
}

func (q *queryRequest) appendInstance(b []byte, in *directory.InstanceState, iPhone string) []byte {
	if in.Platform == presence.IPhone && iPhone != "" {
		b = append(b, `{"Platform":`...)
		b = appendString(b, iPhone)
		b = append(b, `,"Status":"`...)
		b = append(b, in.Status.String()...)
		b = append(b, '"')
	} else {
		b = append(b, instancePiece[in.Platform][in.Status]...)
	}
	if q.instID {
		b = append(b, `,"Instid":`...)
		b = strconv.AppendUint(b, uint64(in.InstID), 10)
	}
	return append(b, '}')
}

func (q *queryCall) appendErrors(b []byte) []byte {
	comma := false
	q.each(func(id string, u *directory.UserState) {
		code := presence.CodeAccountNotExist
		if u != nil {
			if u.Code == presence.CodeOK {
				return
			}
			code = u.Code
		}
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = append(b, `{"To_Account":`...)
		b = appendString(b, id)
		b = append(b, `,"ErrorCode":`...)
		b = strconv.AppendInt(b, int64(code), 10)
		b = append(b, '}')
	})
	return b
}
