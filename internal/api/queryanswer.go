package api

import (
	"fmt"
	"strconv"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// appendQuery appends the results and the errors, each in the order of the request.
func (c *restCall) appendQuery(b []byte, q *queryCall) ([]byte, int) {
	b, code := appendQueryEnvelope(b, q)
	b = append(b, `,"QueryResult":[`...)
	var failed bool
	if q.req.plain {
		b, failed = q.appendPlain(b, c.app.QueryIPhoneName)
	} else {
		b, failed = q.appendResults(b, c.app.QueryIPhoneName)
	}
	b = append(b, `],"ErrorList":[`...)
	if failed {
		b = q.appendErrors(b)
	}
	return append(b, "]}"...), code
}

// appendPlain appends the results of ids that need no escapes. What stands
// between two of them is in one piece: the rest of the first result, where its
// user has one instance or none is told, and the beginning of the second.
func (q *queryCall) appendPlain(b []byte, iPhone string) (_ []byte, failed bool) {
	var special presence.Platform // the one that is not in the pieces
	if iPhone != "" {
		special = presence.IPhone
	}
	usual := !q.req.custom && !(q.req.detail && q.req.instID)
	begin := len(b)
	b = append(b, resultHead...)
	for i, id := range q.req.ids {
		u := &q.op.Users[i]
		if u.Code != presence.CodeOK {
			failed = true
			continue
		}
		b = append(b, id...)
		switch {
		case usual && (!q.req.detail || u.Status == presence.Offline):
			b = append(b, statusRest[u.Status]...)
		case usual && len(u.Instances) == 1 && u.Instances[0].Status == u.Status && u.Instances[0].Platform != special:
			b = append(b, instanceRest[u.Status][u.Instances[0].Platform]...)
		default:
			b = q.req.appendRest(append(b, '"'), u, iPhone)
			b = append(append(b, ','), resultHead...)
		}
	}
	if b = b[:len(b)-len(resultHead)]; len(b) > begin {
		b = b[:len(b)-1] // the comma
	}
	return b, failed
}

// appendResults appends the results of any ids.
func (q *queryCall) appendResults(b []byte, iPhone string) (_ []byte, failed bool) {
	comma := false
	q.each(func(id string, u *directory.UserState) {
		if u == nil || u.Code != presence.CodeOK {
			failed = true
			return
		}
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = q.req.appendResult(b, id, u, iPhone)
	})
	return b, failed
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
	statusRest    [presence.Online + 1]string                            // from the quote behind an id to that before the next
	instanceRest  [presence.Online + 1][presence.NumPlatforms + 1]string // the same with a Detail of one instance
)

const resultHead = `{"To_Account":"`

func init() {
	for st := presence.Offline; st <= presence.Online; st++ {
		statusPiece[st] = fmt.Sprintf(`,"Status":%q,"State":%q`, st, st)
		statusRest[st] = `"` + statusPiece[st] + `},` + resultHead
		for p := 1; p <= presence.NumPlatforms; p++ {
			instancePiece[p][st] = fmt.Sprintf(`{"Platform":%q,"Status":%q`, presence.Platform(p).QueryName(), st)
			instanceRest[st][p] = `"` + statusPiece[st] + `,"Detail":[` + instancePiece[p][st] + `}]},` + resultHead
		}
	}
}

func (q *queryRequest) appendResult(b []byte, id string, u *directory.UserState, iPhone string) []byte {
	b = append(b, `{"To_Account":`...)
	return q.appendRest(appendString(b, id), u, iPhone)
}

// appendRest appends a result behind its id.
func (q *queryRequest) appendRest(b []byte, u *directory.UserState, iPhone string) []byte {
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
