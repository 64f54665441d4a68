package api

import (
	"fmt"
	"sync"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// maxQuery is the number of accounts that one query may ask for.
const maxQuery = 500

// queryRequest is the body of query_online_status.
type queryRequest struct {
	ids       []string // at most maxQuery; they may alias the body
	count     int      // how many there were
	toAccount byte     // kind of To_Account, 0 = missing
	wrong     byte     // kind of the first element that is no string, 0 = none
	wrongAt   int
	detail    bool
	instID    bool
	custom    bool
	plain     bool // all ids are UserIDs and need no escapes
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

// scanQuery reads the body. The ids alias it.
func (c *restCall) scanQuery(q *queryRequest) (int, string) {
	body := c.ctx.PostBody()
	if q.scanPlain(body) {
		return 0, ""
	}
	*q = queryRequest{ids: q.ids[:0]}
	if code, text := c.scanBody(aliased(body), q.member); code != 0 {
		return code, text
	}
	return q.check()
}

// queryCall is a reusable query. One that timed out stays with the directory and
// is not used again.
type queryCall struct {
	req  queryRequest
	op   directory.QueryOp
	done latch
	// valid has the ids that are UserIDs, if not all are; op.UserIDs is it or req.ids.
	valid []string
}

var queryCalls = sync.Pool{New: func() any {
	q := &queryCall{done: newLatch()}
	q.op.Done = func(*directory.QueryOp) { q.done.open() }
	return q
}}

// release makes q ready for the next query and drops what it refers to of the
// request. Of results it keeps what the directory made.
func (q *queryCall) release() {
	clear(q.req.ids)
	clear(q.valid)
	q.op.UserIDs = nil
	q.valid = q.valid[:0]
	q.req = queryRequest{ids: q.req.ids[:0]}
	queryCalls.Put(q)
}

// query answers query_online_status and its old name querystate.
func (c *restCall) query(b []byte) ([]byte, int) {
	q := queryCalls.Get().(*queryCall)
	if code, text := c.scanQuery(&q.req); code != 0 {
		q.release()
		return fail(b, code, text)
	}
	q.op.App, q.op.Code = c.app.SDKAppID, presence.CodeOK
	q.op.Detail = q.req.detail || q.req.custom
	if q.choose(); len(q.op.UserIDs) > 0 {
		q.done.reset()
		c.s.dir.Query(&q.op)
		if !c.s.awaitLatch(&q.done) {
			c.leaveBody()
			return c.timedOut(b)
		}
	}
	if q.op.Code != presence.CodeOK {
		code := q.op.Code
		q.release()
		return c.failOp(b, code, "the users")
	}
	b, code := c.appendQuery(b, q)
	q.release()
	return b, code
}

// choose hands on the ids that are UserIDs.
func (q *queryCall) choose() {
	if q.req.plain {
		q.op.UserIDs = q.req.ids
		return
	}
	for _, id := range q.req.ids {
		if presence.ValidUserID(id) {
			q.valid = append(q.valid, id)
		}
	}
	q.op.UserIDs = q.valid
}

// leaveBody takes the memory of the body away from the connection, which would
// read the next request into it: an op that the directory still has refers to it.
func (c *restCall) leaveBody() { c.ctx.Request.SwapBody(nil) }
