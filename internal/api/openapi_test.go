package api

import (
	"context"
	"net/http"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

// describedCall is a call whose request and answer must be as described.
type describedCall struct {
	name, command, body string
	code                int
}

// describedCalls has each command of the API at least once well and once badly.
var describedCalls = []describedCall{
	{"query", "openim/query_online_status", `{"To_Account":["phone","web","offline","nobody"]}`, 0},
	{"query with all there is", "openim/query_online_status", `{"To_Account":["phone","web","offline"],"IsNeedDetail":1,"IsReturnInstid":1,"IsReturnCustomStatus":1}`, 0},
	{"query of nobody", "openim/query_online_status", `{"To_Account":["nobody","é"],"IsNeedDetail":0}`, 70107},
	{"old query", "openim/querystate", `{"To_Account":["phone"],"IsNeedDetail":1}`, 0},
	{"old query of nobody", "openim/querystate", `{"To_Account":["nobody"]}`, 70107},
	{"import", "im_open_login_svc/account_import", `{"UserID":"new","Nick":"n","FaceUrl":"f"}`, 0},
	{"import by the old name", "im_open_login_svc/account_import", `{"Identifier":"new"}`, 0},
	{"multi-import", "im_open_login_svc/multiaccount_import", `{"Accounts":["a","é"]}`, 0},
	{"multi-import of objects", "im_open_login_svc/multiaccount_import", `{"AccountList":[{"UserID":"b"}]}`, 0},
	{"multi-import of none", "im_open_login_svc/multiaccount_import", `{"Accounts":["é"]}`, 70402},
	{"check", "im_open_login_svc/account_check", `{"CheckItem":[{"UserID":"phone"},{"UserID":"nobody"}]}`, 0},
	{"kick", "im_open_login_svc/kick", `{"UserID":"phone"}`, 0},
	{"kick of nobody", "im_open_login_svc/kick", `{"Identifier":"nobody"}`, 70107},
	{"delete", "im_open_login_svc/account_delete", `{"DeleteItem":[{"UserID":"phone"},{"UserID":"nobody"}]}`, 0},
}

// badBodies break the description of each command's request; the server must
// refuse them too.
var badBodies = map[string][]string{
	"openim/query_online_status":            {`{}`, `[]`, `{"To_Account":[]}`, `{"To_Account":"a"}`, `{"To_Account":[1]}`},
	"openim/querystate":                     {`{}`, `{"To_Account":{}}`},
	"im_open_login_svc/kick":                {`{"UserID":1}`, `{"UserID":""}`, `{"Identifier":"é"}`, `[]`},
	"im_open_login_svc/account_import":      {`{"UserID":"a","Nick":1}`, `{"UserID":null}`},
	"im_open_login_svc/multiaccount_import": {`{"Accounts":[1]}`, `{"AccountList":[{}]}`, `{"Accounts":[]}`},
	"im_open_login_svc/account_check":       {`{}`, `{"CheckItem":[]}`, `{"CheckItem":["a"]}`},
	"im_open_login_svc/account_delete":      {`{}`, `{"DeleteItem":[{"UserID":1}]}`},
}

func restRouter(t *testing.T) (*openapi3.T, routers.Router) {
	t.Helper()
	doc, err := document()
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(context.Background()); err != nil {
		t.Fatal(err)
	}
	router, err := gorillamux.NewRouter(doc)
	if err != nil {
		t.Fatal(err)
	}
	return doc, router
}

// TestOpenAPIHasEveryCommand: what is routed is described and the other way round.
func TestOpenAPIHasEveryCommand(t *testing.T) {
	doc, _ := restRouter(t)
	var routed, described []string
	for path := range commands {
		routed = append(routed, "/v4/"+path)
	}
	for path, item := range doc.Paths.Map() {
		if strings.HasPrefix(path, "/v4/") {
			described = append(described, path)
			if len(item.Operations()) != 1 || item.Post == nil {
				t.Errorf("%s must have POST only", path)
			}
		}
	}
	sort.Strings(routed)
	sort.Strings(described)
	if strings.Join(routed, "\n") != strings.Join(described, "\n") {
		t.Errorf("routed %q\ndescribed %q", routed, described)
	}
}

// TestOpenAPIREST holds real requests and answers to the description.
func TestOpenAPIREST(t *testing.T) {
	_, router := restRouter(t)
	r := newRESTRig(t, func(o *Options, a *directory.App) { a.Policy, _ = presence.Preset("multi") })
	r.lose("phone", r.login("phone", presence.IPhone, "d1"))
	r.clock.Advance(time.Second)
	r.login("phone", presence.Windows, "d2")
	r.login("web", presence.Web, "d")
	r.post(importCommand, `{"UserID":"offline"}`).want(t, 0)

	good, bad := make(map[string]bool), make(map[string]bool)
	for _, c := range describedCalls {
		t.Run(c.name, func(t *testing.T) {
			r.t = t
			if err := validate(t, router, c.command, c.body, r.params().Encode(), nil); err != nil {
				t.Errorf("the request is not as described: %v", err)
			}
			a := r.post(c.command, c.body).want(t, c.code)
			if err := validate(t, router, c.command, c.body, r.params().Encode(), &a); err != nil {
				t.Errorf("the answer is not as described: %v\n%s", err, a.raw)
			}
		})
		good[c.command] = good[c.command] || c.code == 0
	}
	for command, bodies := range badBodies {
		for _, body := range bodies {
			if err := validate(t, router, command, body, r.params().Encode(), nil); err == nil {
				t.Errorf("%s: the description takes %s", command, body)
			}
			a := r.post(command, body)
			if a.ErrorCode == 0 {
				t.Errorf("%s: the server takes %s", command, body)
			}
			if err := validate(t, router, command, body, r.params().Encode(), &a); err != nil {
				t.Errorf("the failure is not as described: %v\n%s", err, a.raw)
			}
		}
		bad[command] = true
	}
	r.t = t
	for path := range commands {
		if !good[path] || !bad[path] {
			t.Errorf("%s: exercised well %v, badly %v", path, good[path], bad[path])
		}
	}
	for _, parameter := range []string{"sdkappid", "identifier", "usersig"} {
		p := r.params()
		p.Del(parameter)
		if validate(t, router, queryCommand, `{"To_Account":["a"]}`, p.Encode(), nil) == nil {
			t.Errorf("the description does without %s", parameter)
		}
	}
}

// validate holds a request, or the answer to it, to the description.
func validate(t *testing.T, router routers.Router, command, body, query string, a *restAnswer) error {
	t.Helper()
	req, err := http.NewRequest("POST", "http://localhost/v4/"+command+"?"+query, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	route, params, err := router.FindRoute(req)
	if err != nil {
		t.Fatal(err)
	}
	in := &openapi3filter.RequestValidationInput{Request: req, PathParams: params, Route: route}
	if a == nil {
		return openapi3filter.ValidateRequest(context.Background(), in)
	}
	out := &openapi3filter.ResponseValidationInput{RequestValidationInput: in, Status: a.status, Header: a.header}
	out.SetBodyBytes([]byte(a.raw))
	return openapi3filter.ValidateResponse(context.Background(), out)
}

// TestOpenAPIIsServed on the REST listener as it stands in the tree.
func TestOpenAPIIsServed(t *testing.T) {
	r := newRESTRig(t, nil)
	res, err := r.client.Get("http://r/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if body := readAll(t, res); res.StatusCode != 200 || body != string(openAPI) || res.Header.Get("Content-Type") != "application/yaml" {
		t.Errorf("%d %v, %d bytes", res.StatusCode, res.Header, len(body))
	}
	r.do("POST", "/openapi.yaml", "{}").want(t, 60002)
	r.do("GET", "/openapi", "").want(t, 60002)
}
