package api

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// maxBatch is the number of accounts in one batch call.
const maxBatch = 100

// notExistInfo is the reference's ResultInfo of an account that does not exist.
const notExistInfo = "Err_TLS_PT_Open_Login_Account_Not_Exist"

// oneUser is the body of kick and account_import.
type oneUser struct {
	userID, identifier text
	nick, faceURL      text
}

// text is a member that should be a string.
type text struct {
	value string
	kind  byte // 0 = missing
}

func (t *text) scan(sc *jsonScanner) (err error) {
	if t.kind = sc.kind(); t.kind != '"' {
		return sc.skip()
	}
	t.value, err = sc.str()
	return err
}

func (u *oneUser) member(sc *jsonScanner, name string) error {
	switch name {
	case "UserID":
		return u.userID.scan(sc)
	case "Identifier":
		return u.identifier.scan(sc)
	case "Nick":
		return u.nick.scan(sc)
	case "FaceUrl":
		return u.faceURL.scan(sc)
	}
	return sc.skip()
}

// id returns the UserID in memory of its own; UserID goes before its old name.
func (u *oneUser) id() (id string, code int, info string) {
	t, name := u.userID, "UserID"
	if t.kind == 0 {
		t, name = u.identifier, "Identifier"
	}
	switch {
	case t.kind == 0:
		return "", codeBadParameter, "UserID is missing"
	case t.kind != '"':
		return "", codeBadParameter, fmt.Sprintf("%s is %s, not a string", name, kindNames[t.kind])
	case !presence.ValidUserID(t.value):
		return "", codeBadParameter, fmt.Sprintf("%s %q is not a valid UserID", name, brief([]byte(t.value)))
	}
	return strings.Clone(t.value), 0, ""
}

// profile returns Nick and FaceUrl in memory of their own; nil is absent.
func (u *oneUser) profile() (p directory.Profile, code int, info string) {
	for _, t := range []struct {
		name string
		text
		max int
		to  **string
	}{{"Nick", u.nick, presence.MaxNick, &p.Nick}, {"FaceUrl", u.faceURL, presence.MaxFaceURL, &p.FaceURL}} {
		switch {
		case t.kind == 0:
			continue
		case t.kind != '"':
			return p, codeBadParameter, fmt.Sprintf("%s is %s, not a string", t.name, kindNames[t.kind])
		case len(t.value) > t.max:
			return p, codeBadParameter, fmt.Sprintf("%s has %d bytes, more than %d", t.name, len(t.value), t.max)
		}
		own := strings.Clone(t.value)
		*t.to = &own
	}
	return p, 0, ""
}

// kick ends all instances of a user and every UserSig issued before this second.
func (c *restCall) kick(b []byte) ([]byte, int) {
	var u oneUser
	if code, info := c.scanCopy(u.member); code != 0 {
		return fail(b, code, info)
	}
	id, code, info := u.id()
	if code != 0 {
		return fail(b, code, info)
	}
	done := make(chan struct{}, 1)
	op := &directory.KickOp{
		Key:   presence.Key{App: c.app.SDKAppID, UserID: id},
		NowMS: c.now.UnixMilli(),
		Done:  func(*directory.KickOp) { done <- struct{}{} },
	}
	c.s.dir.Kick(op)
	switch {
	case !c.s.await(done):
		return c.timedOut(b)
	case op.Code != presence.CodeOK:
		return c.failOp(b, op.Code, strconv.Quote(id))
	}
	return restOK(b)
}

// accountImport creates an account and keeps its profile; of one that exists it
// changes the profile's members that are there.
func (c *restCall) accountImport(b []byte) ([]byte, int) {
	var u oneUser
	code, info := c.scanCopy(u.member)
	if code != 0 {
		return fail(b, code, info)
	}
	id, code, info := u.id()
	if code != 0 {
		return fail(b, code, info)
	}
	profile, code, info := u.profile()
	if code != 0 {
		return fail(b, code, info)
	}
	op := c.accounts(directory.AccountsImport, []string{id}, profile)
	switch {
	case op == nil:
		return c.timedOut(b)
	case op.Code != presence.CodeOK:
		return c.failOp(b, op.Code, strconv.Quote(id))
	case op.Results[0] != presence.CodeOK:
		return c.failOp(b, op.Results[0], strconv.Quote(id))
	}
	return restOK(b)
}

// accounts lets the directory handle valid UserIDs; nil if it did not in time.
func (c *restCall) accounts(action directory.AccountsAction, ids []string, profiles ...directory.Profile) *directory.AccountsOp {
	done := make(chan struct{}, 1)
	op := &directory.AccountsOp{
		App: c.app.SDKAppID, Action: action, UserIDs: ids, Profiles: profiles, NowMS: c.now.UnixMilli(),
		Done: func(*directory.AccountsOp) { done <- struct{}{} },
	}
	c.s.dir.Accounts(op)
	if !c.s.await(done) {
		return nil
	}
	return op
}

// userList is a member that lists up to maxBatch users, as strings or as objects
// with a UserID.
type userList struct {
	name    string
	objects bool
	kind    byte // of the member, 0 = missing
	ids     []string
	count   int    // how many there were
	wrong   string // what is wrong with the first bad element
}

func (l *userList) scan(sc *jsonScanner) error {
	l.ids, l.count, l.wrong = nil, 0, "" // the last of several counts
	if l.kind = sc.kind(); l.kind != '[' {
		return sc.skip()
	}
	return sc.array(func() error {
		t, err := l.element(sc)
		if err != nil {
			return err
		}
		l.add(t)
		return nil
	})
}

// element reads one element; its kind is 0 if it is none of the right form.
func (l *userList) element(sc *jsonScanner) (t text, err error) {
	switch kind := sc.kind(); {
	case !l.objects:
		err = t.scan(sc)
	case kind != '{':
		err = sc.skip()
	default:
		err = sc.object(func(name string) error {
			if name == "UserID" {
				return t.scan(sc)
			}
			return sc.skip()
		})
	}
	return t, err
}

func (l *userList) add(t text) {
	switch {
	case t.kind != '"' && l.wrong == "" && l.objects:
		l.wrong = fmt.Sprintf("%s[%d] is not an object with a string UserID", l.name, l.count)
	case t.kind != '"' && l.wrong == "":
		l.wrong = fmt.Sprintf("%s[%d] is %s, not a string", l.name, l.count, kindNames[t.kind])
	case len(l.ids) < maxBatch:
		l.ids = append(l.ids, strings.Clone(t.value))
	}
	l.count++
}

func (l *userList) check() (int, string) {
	switch {
	case l.kind == 0:
		return codeBadParameter, l.name + " is missing"
	case l.kind != '[':
		return codeBadParameter, fmt.Sprintf("%s is %s, not an array", l.name, kindNames[l.kind])
	case l.count == 0:
		return codeBadParameter, l.name + " is empty"
	case l.count > maxBatch:
		return codeBadParameter, fmt.Sprintf("%s has %d accounts, more than %d", l.name, l.count, maxBatch)
	case l.wrong != "":
		return codeBadParameter, l.wrong
	}
	return 0, ""
}

// batch lets the directory handle a list. codes has a code per element; what is
// no UserID has invalid and the directory never hears of it. A nil codes means
// that the call failed and b has the answer.
func (c *restCall) batch(b []byte, l *userList, action directory.AccountsAction, invalid int) (out []byte, code int, codes []int) {
	codes = make([]int, len(l.ids))
	valid := make([]string, 0, len(l.ids))
	for i, id := range l.ids {
		if presence.ValidUserID(id) {
			valid = append(valid, id)
		} else {
			codes[i] = invalid
		}
	}
	if len(valid) == 0 {
		return b, 0, codes
	}
	op := c.accounts(action, valid)
	if op == nil {
		b, code = c.timedOut(b)
		return b, code, nil
	}
	if op.Code != presence.CodeOK {
		b, code = c.failOp(b, op.Code, "the accounts")
		return b, code, nil
	}
	next := 0
	for i, id := range l.ids {
		if presence.ValidUserID(id) {
			codes[i] = op.Results[next]
			next++
		}
	}
	return b, 0, codes
}

// list reads a body with one list of users.
func (c *restCall) list(lists ...*userList) (*userList, int, string) {
	code, info := c.scanCopy(func(sc *jsonScanner, name string) error {
		for _, l := range lists {
			if l.name == name {
				return l.scan(sc)
			}
		}
		return sc.skip()
	})
	if code != 0 {
		return nil, code, info
	}
	l := lists[0]
	for _, other := range lists[1:] {
		if l.kind == 0 && other.kind != 0 {
			l = other
		}
	}
	code, info = l.check()
	return l, code, info
}

// multiImport creates up to maxBatch accounts. It fails as a whole only if all failed.
func (c *restCall) multiImport(b []byte) ([]byte, int) {
	l, code, info := c.list(&userList{name: "Accounts"}, &userList{name: "AccountList", objects: true})
	if code != 0 {
		return fail(b, code, info)
	}
	b, code, codes := c.batch(b, l, directory.AccountsImport, codeBadParameter)
	if codes == nil {
		return b, code
	}
	failed := 0
	for _, one := range codes {
		if one != presence.CodeOK {
			failed++
		}
	}
	if code = codes[0]; failed == len(codes) {
		b = appendFail(b, code, fmt.Sprintf("none of the %d accounts was imported, the first is %q", len(codes), brief([]byte(l.ids[0]))))
	} else {
		code = presence.CodeOK
		b = appendOK(b)
	}
	b = append(b, `,"FailAccounts":[`...)
	comma := false
	for i, one := range codes {
		if one == presence.CodeOK {
			continue
		}
		if comma {
			b = append(b, ',')
		}
		comma = true
		b = appendString(b, l.ids[i])
	}
	return append(b, "]}"...), code
}

// accountCheck tells which accounts exist. What is no UserID does not.
func (c *restCall) accountCheck(b []byte) ([]byte, int) {
	return c.eachResult(b, "CheckItem", directory.AccountsCheck, func(b []byte, code int) ([]byte, int) {
		switch code {
		case presence.CodeOK:
			return append(b, `,"AccountStatus":"Imported"`...), code
		case presence.CodeAccountNotExist:
			return append(b, `,"AccountStatus":"NotImported"`...), presence.CodeOK
		}
		return b, code
	})
}

// accountDelete deletes accounts and kicks their instances.
func (c *restCall) accountDelete(b []byte) ([]byte, int) {
	return c.eachResult(b, "DeleteItem", directory.AccountsDelete, func(b []byte, code int) ([]byte, int) { return b, code })
}

// eachResult answers a call that has a ResultItem per account. status appends
// what is told beside UserID and result, and returns the code to tell.
func (c *restCall) eachResult(b []byte, name string, action directory.AccountsAction, status func([]byte, int) ([]byte, int)) ([]byte, int) {
	l, code, info := c.list(&userList{name: name, objects: true})
	if code != 0 {
		return fail(b, code, info)
	}
	b, code, codes := c.batch(b, l, action, presence.CodeAccountNotExist)
	if codes == nil {
		return b, code
	}
	b = append(appendOK(b), `,"ResultItem":[`...)
	for i, one := range codes {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"UserID":`...)
		b = appendString(b, l.ids[i])
		b, one = status(b, one)
		b = append(b, `,"ResultCode":`...)
		b = strconv.AppendInt(b, int64(one), 10)
		b = append(b, `,"ResultInfo":`...)
		b = appendString(b, resultInfo(one))
		b = append(b, '}')
	}
	return append(b, "]}"...), presence.CodeOK
}

func resultInfo(code int) string {
	switch code {
	case presence.CodeOK:
		return ""
	case presence.CodeAccountNotExist:
		return notExistInfo
	}
	return "cannot be done now, retry"
}
