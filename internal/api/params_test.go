package api

import (
	"bytes"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// checkParams holds scanParams to fasthttp's parser and returns whether it took
// the query.
func checkParams(t *testing.T, query string) bool {
	t.Helper()
	var p callParams
	if !scanParams([]byte(query), &p) {
		return false
	}
	var args, sig fasthttp.Args
	args.Parse(query)
	sig.ParseBytes(append([]byte("usersig="), p.sig...))
	if !bytes.Equal(p.app, args.Peek("sdkappid")) || !bytes.Equal(p.identifier, args.Peek("identifier")) ||
		!bytes.Equal(sig.Peek("usersig"), args.Peek("usersig")) || (len(p.sig) == 0) != (len(args.Peek("usersig")) == 0) {
		t.Fatalf("%q: %q %q %q, fasthttp reads %v", query, p.app, p.identifier, p.sig, &args)
	}
	return true
}

var queries = map[string]bool{
	"sdkappid=88888888&identifier=admin&usersig=a*b-c_&random=99999999&contenttype=json": true,
	"usersig=a%2Ab+%zz%&sdkappid=1&identifier=x":                                         true, // escapes of the UserSig stay
	"sdkappid=&identifier=&usersig=":                                                     true, "sdkappid=1&sdkappid=2&usersig=a&usersig=b": true, "x=1": true, "a=b=c&sdkappid==1": true, "=1": true,
	"": false, "&": false, "sdkappid": false, "sdkappid=1&": false, "sdk%61ppid=1": false, "a+b=1": false, "sdkappid=%31": false, "identifier=a+b": false, "%=&sdkappid=1": false,
}

func TestParams(t *testing.T) {
	for query, want := range queries {
		if got := checkParams(t, query); got != want {
			t.Errorf("%q: taken %v, want %v", query, got, want)
		}
	}
}

// FuzzParams: what scanParams takes, fasthttp's parser reads the same.
func FuzzParams(f *testing.F) {
	for query := range queries {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) { checkParams(t, query) })
}

// TestRecentSigs: a UserSig that was good is remembered by its text in the URL,
// for its owner and as long as it and the app's settings last.
func TestRecentSigs(t *testing.T) {
	r := newRESTRig(t, func(o *Options, a *directory.App) { a.Administrators = []string{testAdmin, "other"} })
	ask := func(change func(url.Values)) restAnswer {
		p := url.Values{"sdkappid": {"1400000000"}, "identifier": {testAdmin}, "usersig": {r.sigAt(testAdmin, testStart.Unix())}}
		if change != nil {
			change(p)
		}
		return r.do("POST", "/v4/"+queryCommand+"?"+p.Encode(), `[]`)
	}
	const good = 90001 // got as far as the body
	for range 3 {
		ask(nil).want(t, good)
		ask(func(p url.Values) { p.Set("identifier", "other") }).want(t, 70013)
		ask(func(p url.Values) { p.Set("usersig", strings.Replace(p.Get("usersig"), "e", "f", 1)) }).want(t, 70003)
		// The same text on two ways of reading: escaped once more it is another UserSig.
		p := url.Values{"sdkappid": {"1400000000"}, "identifier": {testAdmin}, "usersig": {url.QueryEscape(r.sigAt(testAdmin, testStart.Unix()) + "*")}}
		r.do("POST", "/v4/"+queryCommand+"?"+p.Encode()+"&", `[]`).want(t, 70003)
	}
	if got := len(r.server.rest.sigs.entries); got != 1 {
		t.Errorf("%d UserSigs are remembered, want 1", got)
	}
	r.changeApp(testApp, func(a *directory.App) { a.Keys[0].Secret = strings.Repeat("k", 64) })
	ask(nil).want(t, 70009)
	r.changeApp(testApp, func(a *directory.App) { a.Keys[0].Secret = testSecret })
	ask(nil).want(t, good)
	ask(nil).want(t, good)
	r.clock.Advance(86400 * time.Second)
	ask(nil).want(t, good)
	r.clock.Advance(time.Second)
	ask(nil).want(t, 70001)
}
