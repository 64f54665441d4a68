package jsonmsg

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/rollcall-im/rollcall/codec"
)

func mustParse(tb testing.TB, p string) Message {
	tb.Helper()
	m, err := Parse([]byte(p))
	if err != nil {
		tb.Fatalf("%s: %v", p, err)
	}
	return m
}

func TestAppend(t *testing.T) {
	login := codec.Login{
		SDKAppID: 1400000000, UserID: []byte("alice"), UserSig: []byte("eJw-UserSig"), Platform: codec.Web,
		DeviceID: []byte("7f9c2ba4"), SDKVersion: []byte("1.0.0"), DeviceModel: []byte("a \"b\" \\ \n\u00e9\u20ac\U0001f600"), Resume: true, Ticket: []byte{1, 0xf0, 0x9f, 0xff},
	}
	for _, c := range []struct{ got, want string }{
		{string(AppendEmpty(nil, codec.TypeHeartbeat)), `{"Type":"Heartbeat"}`},
		{string(AppendEmpty(nil, codec.TypeLogoutOK)), `{"Type":"LogoutOK"}`},
		{string(AppendLogin(nil, &login)), `{"Type":"Login","SDKAppID":1400000000,"UserID":"alice","UserSig":"eJw-UserSig","Platform":"Web","DeviceID":"7f9c2ba4",` +
			`"SDKVersion":"1.0.0","DeviceModel":"a \"b\" \\ \u000aé€😀","Resume":true,"Ticket":"AfCf_w"}`},
		{string(AppendLogin(nil, &codec.Login{})), `{"Type":"Login","SDKAppID":0,"UserID":"","UserSig":"","Platform":"","DeviceID":"","SDKVersion":"","DeviceModel":"","Resume":false,"Ticket":""}`},
		{string(AppendLoginOK(nil, &codec.LoginOK{InstID: 7, ServerTimeMS: 1, HeartbeatIntervalMS: 2, SilenceTimeoutMS: 3, Kicked: []codec.KickedInstance{{Platform: codec.Web, InstID: 3}, {InstID: 4}}})),
			`{"Type":"LoginOK","InstID":7,"Ticket":"","ServerTimeMS":1,"HeartbeatIntervalMS":2,"SilenceTimeoutMS":3,"TakenBack":false,"Kicked":[{"Platform":"Web","InstID":3},{"Platform":"","InstID":4}]}`},
		{string(AppendLoginOK(nil, &codec.LoginOK{})),
			`{"Type":"LoginOK","InstID":0,"Ticket":"","ServerTimeMS":0,"HeartbeatIntervalMS":0,"SilenceTimeoutMS":0,"TakenBack":false,"Kicked":[]}`},
		{string(AppendLoginRefused(nil, &codec.LoginRefused{Code: codec.CodeSigExpired, Text: "expired", MayReconnect: true, RetryAfterMS: 5})),
			`{"Type":"LoginRefused","Code":70001,"Name":"SigExpired","Text":"expired","MayReconnect":true,"RetryAfterMS":5}`},
		{string(AppendForcedOffline(nil, &codec.ForcedOffline{Code: codec.CodeAnotherLogin, Text: "t\xff", ByPlatform: codec.IPad, ByDeviceModel: "m", TimeMS: -1})),
			`{"Type":"ForcedOffline","Code":6001,"Name":"AnotherLogin","Text":"t` + "\ufffd" + `","ByPlatform":"iPad","ByDeviceModel":"m","TimeMS":-1,"MayReconnect":false,"RetryAfterMS":0}`},
		{string(AppendRedirect(nil, &codec.Redirect{Address: "10.0.0.2:7701", RetryAfterMS: 250})), `{"Type":"Redirect","Address":"10.0.0.2:7701","RetryAfterMS":250}`},
		{string(AppendRedirect(nil, &codec.Redirect{Address: strings.Repeat("a", codec.MaxAddress+1)})), `{"Type":"Redirect","Address":"","RetryAfterMS":0}`},
	} {
		if c.got != c.want {
			t.Errorf("appended\n%s\nwant\n%s", c.got, c.want)
		}
		if !json.Valid([]byte(c.got)) {
			t.Errorf("%s is no JSON", c.got)
		}
	}
}

func TestAppendCuts(t *testing.T) {
	long := strings.Repeat("x", 1000)
	m := mustParse(t, string(AppendForcedOffline(nil, &codec.ForcedOffline{Text: long, ByDeviceModel: long})))
	var f codec.ForcedOffline
	if err := m.ForcedOffline(&f); err != nil || len(f.Text) != codec.MaxText || len(f.ByDeviceModel) != codec.MaxDeviceModel {
		t.Errorf("%d and %d bytes, %v", len(f.Text), len(f.ByDeviceModel), err)
	}
	m = mustParse(t, string(AppendLoginOK(nil, &codec.LoginOK{Kicked: make([]codec.KickedInstance, codec.MaxKicked+1)})))
	var ok codec.LoginOK
	if err := m.LoginOK(&ok); err != nil || len(ok.Kicked) != codec.MaxKicked {
		t.Errorf("%d kicked, %v", len(ok.Kicked), err)
	}
}

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in       string
		typ      codec.Type
		optional bool
	}{
		{`{"Type":"Heartbeat"}`, codec.TypeHeartbeat, false},
		{" {\t\"Type\" :\r\n\"Logout\" } ", codec.TypeLogout, false},
		{`{"a":[1,-0.5e+3,{"b":null}],"Type":"Login"}`, codec.TypeLogin, false},
		{`{"\u0054ype":"Log\u0069n"}`, codec.TypeLogin, false},
		{`{"Type":"Login","Type":"Logout"}`, codec.TypeLogout, false},
		{`{"Type":"LoginOK"}`, codec.TypeLoginOK, false},
		{`{"Type":"Subscribe","Optional":true}`, 0, true},
		{`{"Type":"login"}`, 0, false},
		{`{"type":"Login","Type":"x"}`, 0, false},
		{`{"Type":"Heartbeat","Optional":null}`, codec.TypeHeartbeat, false},
		{`{"Type":"Heartbeat","\ud800":1}`, codec.TypeHeartbeat, false},
		{`{"Type":"Heartbeat","x":` + strings.Repeat("[", maxDepth-1) + strings.Repeat("]", maxDepth-1) + `}`, codec.TypeHeartbeat, false},
	} {
		m, err := Parse([]byte(c.in))
		if err != nil || m.Type != c.typ || m.Optional != c.optional {
			t.Errorf("%s: %v %v, %v", c.in, m.Type, m.Optional, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, in := range []string{
		"", " ", "null", "1", `"Type"`, "[]", `["Type"]`, "{", "}", "{}", `{"Type"}`, `{"Type":}`, `{"Type":"Login"`, `{"Type":"Login",}`, `{"Type":"Login"}}`,
		`{"Type":"Login"} x`, `{"Type":"Login" "a":1}`, `{Type:"Login"}`, `{'Type':'Login'}`, `{"Type":null}`, `{"Type":""}`, `{"Type":1}`, `{"Type":["Login"]}`,
		`{"Type":"Login","Optional":1}`, `{"Type":"Login","Optional":"true"}`, `{"a":1}`, `{"Type":"\ud800"}`,
		`{"Type":"Login","a":01}`, `{"Type":"Login","a":+1}`, `{"Type":"Login","a":.5}`, `{"Type":"Login","a":1.}`, `{"Type":"Login","a":1e}`, `{"Type":"Login","a":-}`,
		`{"Type":"Login","a":NaN}`, `{"Type":"Login","a":Infinity}`, `{"Type":"Login","a":True}`, `{"Type":"Login","a":nul}`, `{"Type":"Login","a":0x10}`,
		`{"Type":"Login","a":"\x"}`, `{"Type":"Login","a":"\u12"}`, `{"Type":"Login","a":"\u12g4"}`, "{\"Type\":\"Login\",\"a\":\"\n\"}", "{\"Type\":\"Lo\x00gin\"}",
		"{\"Type\":\"Login\",\"a\":\"\xff\"}", "\xef\xbb\xbf{\"Type\":\"Login\"}", `{"Type":"Login","a":[1,]}`, `{"Type":"Login","a":[1 2]}`, `{"Type":"Login",/**/"a":1}`,
		`{"Type":"Heartbeat","x":` + strings.Repeat("[", maxDepth) + strings.Repeat("]", maxDepth) + `}`,
		`{"Type":"Heartbeat","x":` + strings.Repeat(`{"a":`, maxDepth),
		strings.Repeat(`{"a":`, 10_000),
	} {
		if m, err := Parse([]byte(in)); !errors.Is(err, errMessage) {
			t.Errorf("%.60s: %v, %v", in, m.Type, err)
		}
	}
}

func TestLogin(t *testing.T) {
	full := codec.Login{SDKAppID: math.MaxUint32, UserID: []byte("a"), UserSig: []byte("b"), Platform: codec.HarmonyOS, DeviceID: []byte("c"),
		SDKVersion: []byte("d"), DeviceModel: []byte("e"), Resume: true, Ticket: []byte{0xff}}
	for _, c := range []struct {
		fields string
		want   codec.Login
	}{
		{`"x":0`, codec.Login{}},
		{`"SDKAppID":4294967295,"UserID":"a","UserSig":"b","Platform":"HarmonyOS","DeviceID":"c","SDKVersion":"d","DeviceModel":"e","Resume":true,"Ticket":"_w"`, full},
		{`"SDKAppID":null,"UserID":null,"Platform":null,"Resume":null,"Ticket":null`, codec.Login{}},
		{`"Platform":"Amiga"`, codec.Login{}},
		{`"UserID":"\u0041\u00e9\ud83d\ude00\"\\\/\b\f\n\r\t"`, codec.Login{UserID: []byte("Aé😀\"\\/\b\f\n\r\t")}},
		{`"SDKAppID":1,"SDKAppID":2`, codec.Login{SDKAppID: 2}},
		{`"userid":"x","Code":"not of a login"`, codec.Login{}},
	} {
		m := mustParse(t, `{"Type":"Login",`+c.fields+`}`)
		got := codec.Login{SDKAppID: 99, UserID: []byte("left over")}
		if err := m.Login(&got); err != nil || !equal(got, c.want) {
			t.Errorf("%s: %+v, %v", c.fields, got, err)
		}
	}
	for _, fields := range []string{
		`"SDKAppID":-1`, `"SDKAppID":-0`, `"SDKAppID":4294967296`, `"SDKAppID":1.0`, `"SDKAppID":1e3`, `"SDKAppID":"1"`, `"SDKAppID":99999999999999999999`, `"SDKAppID":true`,
		`"UserID":1`, `"UserID":["a"]`, `"UserID":"\ud800"`, `"UserID":"\udc00\ud800"`, `"UserID":"\ud800\u0041"`, `"UserID":"\ud83d"`, `"Platform":1`, `"Resume":1`, `"Resume":"true"`,
		`"Ticket":"_w=="`, `"Ticket":"/w"`, `"Ticket":"_x"`, `"Ticket":"_w\n"`, `"Ticket":"_"`, `"Ticket":7`,
	} {
		m := mustParse(t, `{"Type":"Login",`+fields+`}`)
		if err := m.Login(new(codec.Login)); !errors.Is(err, errMessage) {
			t.Errorf("%s: %v", fields, err)
		}
	}
}

func TestKickedRefuses(t *testing.T) {
	for _, fields := range []string{`"Kicked":{}`, `"Kicked":"x"`, `"Kicked":[1]`, `"Kicked":[null]`, `"Kicked":[{"InstID":-1}]`, `"Kicked":[{"Platform":2}]`} {
		m := mustParse(t, `{"Type":"LoginOK",`+fields+`}`)
		if err := m.LoginOK(new(codec.LoginOK)); !errors.Is(err, errMessage) {
			t.Errorf("%s: %v", fields, err)
		}
	}
}

// A login without escapes is read without memory but for its ticket.
func TestLoginAllocs(t *testing.T) {
	p := AppendLogin(nil, &codec.Login{SDKAppID: 1, UserID: []byte("alice"), UserSig: bytes.Repeat([]byte("s"), 300), Platform: codec.Web, DeviceID: []byte("d")})
	var l codec.Login
	if n := testing.AllocsPerRun(100, func() {
		m, err := Parse(p)
		if err == nil {
			err = m.Login(&l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

// Each message comes back from its JSON form as it does from its native frame.
func TestRoundTrip(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.Map(rapid.SliceOfN(rapid.Byte(), 0, 300), func(b []byte) string { return string(b) }))
	platform := rapid.Map(rapid.IntRange(0, 9), func(i int) codec.Platform { return codec.Platform(i) })
	rapid.Check(t, func(t *rapid.T) {
		number := func(name string) uint32 { return rapid.Uint32().Draw(t, name) }
		yes := func(name string) bool { return rapid.Bool().Draw(t, name) }
		ok := codec.LoginOK{InstID: number("inst"), Ticket: rapid.SliceOf(rapid.Byte()).Draw(t, "ticket"), ServerTimeMS: rapid.Int64().Draw(t, "time"),
			HeartbeatIntervalMS: number("hb"), SilenceTimeoutMS: number("silence"), TakenBack: yes("back")}
		for range rapid.IntRange(0, 3).Draw(t, "kicked") {
			ok.Kicked = append(ok.Kicked, codec.KickedInstance{Platform: platform.Draw(t, "platform"), InstID: number("kicked inst")})
		}
		refused := codec.LoginRefused{Code: codec.Code(number("code")), Text: text.Draw(t, "text"), RetryAfterMS: number("retry"), MayReconnect: yes("may")}
		forced := codec.ForcedOffline{Code: codec.Code(number("code")), Text: text.Draw(t, "text"), ByPlatform: platform.Draw(t, "by"), ByDeviceModel: text.Draw(t, "model"),
			TimeMS: rapid.Int64().Draw(t, "time"), MayReconnect: yes("may"), RetryAfterMS: number("retry")}
		redirect := codec.Redirect{Address: rapid.String().Draw(t, "address"), RetryAfterMS: number("retry")}
		login := codec.Login{SDKAppID: number("app"), UserID: []byte(rapid.String().Draw(t, "user")), UserSig: []byte(rapid.String().Draw(t, "sig")), Platform: platform.Draw(t, "platform"),
			DeviceID: []byte(rapid.String().Draw(t, "device")), SDKVersion: []byte(rapid.String().Draw(t, "version")), DeviceModel: []byte(rapid.String().Draw(t, "model")),
			Resume: yes("resume"), Ticket: rapid.SliceOf(rapid.Byte()).Draw(t, "ticket")}

		same(t, codec.AppendLogin(nil, &login), AppendLogin(nil, &login), (*codec.Login).Unmarshal, (*Message).Login)
		same(t, codec.AppendLoginOK(nil, &ok), AppendLoginOK(nil, &ok), (*codec.LoginOK).Unmarshal, (*Message).LoginOK)
		same(t, codec.AppendLoginRefused(nil, &refused), AppendLoginRefused(nil, &refused), (*codec.LoginRefused).Unmarshal, (*Message).LoginRefused)
		same(t, codec.AppendForcedOffline(nil, &forced), AppendForcedOffline(nil, &forced), (*codec.ForcedOffline).Unmarshal, (*Message).ForcedOffline)
		same(t, codec.AppendRedirect(nil, &redirect), AppendRedirect(nil, &redirect), (*codec.Redirect).Unmarshal, (*Message).Redirect)
	})
}

// same reads a message from both forms.
func same[M any](t *rapid.T, native, text []byte, unmarshal func(*M, []byte) error, read func(*Message, *M) error) {
	f, n, err := codec.Next(native, codec.MaxFrame)
	if err != nil || n != len(native) {
		t.Fatalf("%x: %v", native, err)
	}
	var want, got M
	if err := unmarshal(&want, f.Body); err != nil {
		t.Fatal(err)
	}
	m, err := Parse(text)
	if err != nil || m.Type != f.Type {
		t.Fatalf("%s: %v, %v", text, m.Type, err)
	}
	if err := read(&m, &got); err != nil || !equal(got, want) {
		t.Fatalf("%s reads as %+v, %v; the frame as %+v", text, got, err, want)
	}
}

// equal compares two messages; an empty slice equals none.
func equal(a, b any) bool {
	return reflect.DeepEqual(normal(a), normal(b))
}

func normal(m any) any {
	v := reflect.New(reflect.TypeOf(m)).Elem()
	v.Set(reflect.ValueOf(m))
	for i := range v.NumField() {
		if f := v.Field(i); f.Kind() == reflect.Slice && f.Len() == 0 {
			f.SetZero()
		}
	}
	return v.Interface()
}

// FuzzParse holds the scanner and the fields of a Login to encoding/json, told to
// be as strict: names byte for byte, UTF-8, no half surrogate pairs.
func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"Type":"Login","SDKAppID":1400000000,"UserID":"alice","Platform":"Web","Resume":true,"Ticket":"_w"}`))
	f.Add([]byte(`{"Type":"Login","UserID":"\u0041\ud83d\ude00\n","x":[1,2.5e-3,{"y":null}],"SDKAppID":-0}`))
	f.Add([]byte(`{"Type":"LoginOK","Kicked":[{"Platform":"Web","InstID":3}]}`))
	f.Add([]byte(`{"Type":"Heartbeat","Optional":true}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		in := bytes.Clone(p)
		m, err := Parse(p)
		want, wantErr := parseSlowly(p)
		if errors.Is(err, errDepth) {
			return
		}
		if (err == nil) != (wantErr == nil) || (err == nil && (string(m.Name) != want.name || m.Optional != want.optional)) {
			t.Fatalf("%s: %q %v, %v; encoding/json says %+v, %v", p, m.Name, m.Optional, err, want, wantErr)
		}
		if err != nil {
			return
		}
		var l codec.Login
		err = m.Login(&l)
		if (err == nil) != (want.loginErr == nil) || (err == nil && !equal(l, want.login)) {
			t.Fatalf("%s: %+v, %v; encoding/json says %+v, %v", p, l, err, want.login, want.loginErr)
		}
		if err == nil {
			checkAgain(t, &l)
		}
		for _, read := range []func() error{
			func() error { return m.LoginOK(new(codec.LoginOK)) },
			func() error { return m.LoginRefused(new(codec.LoginRefused)) },
			func() error { return m.ForcedOffline(new(codec.ForcedOffline)) },
			func() error { return m.Redirect(new(codec.Redirect)) },
		} {
			if err := read(); err != nil && !errors.Is(err, errMessage) {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(in, p) {
			t.Fatal("the input was changed")
		}
	})
}

func checkAgain(t *testing.T, l *codec.Login) {
	t.Helper()
	m, err := Parse(AppendLogin(nil, l))
	if err != nil {
		t.Fatal(err)
	}
	var again codec.Login
	if err := m.Login(&again); err != nil || !equal(again, *l) {
		t.Fatalf("%+v comes back as %+v, %v", l, again, err)
	}
}

type slow struct {
	name     string
	optional bool
	login    codec.Login
	loginErr error
}

var errSlow = errors.New("not as we want it")

// parseSlowly is Parse and Login by encoding/json.
func parseSlowly(p []byte) (s slow, err error) {
	if !utf8.Valid(p) || !json.Valid(p) {
		return s, errSlow
	}
	d := json.NewDecoder(bytes.NewReader(p))
	if t, _ := d.Token(); t != json.Delim('{') {
		return s, errSlow
	}
	for d.More() {
		var raw json.RawMessage
		t, _ := d.Token()
		if err := d.Decode(&raw); err != nil {
			return s, err
		}
		if e := s.member(t.(string), raw); e != nil {
			err = e
		}
	}
	if err == nil && s.name == "" {
		err = errSlow
	}
	return s, err
}

func (s *slow) member(name string, raw json.RawMessage) error {
	var text string
	var err error
	l := &s.login
	field := func(dst *[]byte) {
		if text, err = strictString(raw); err == nil && string(raw) != "null" {
			*dst = []byte(text)
		}
		s.loginErr = errors.Join(s.loginErr, err)
	}
	switch name {
	case "Type":
		if text, err = strictString(raw); err == nil && string(raw) != "null" {
			s.name = text
		}
		return err
	case "Optional":
		return json.Unmarshal(raw, &s.optional)
	case "SDKAppID":
		s.loginErr = errors.Join(s.loginErr, json.Unmarshal(raw, &l.SDKAppID))
	case "Resume":
		s.loginErr = errors.Join(s.loginErr, json.Unmarshal(raw, &l.Resume))
	case "UserID":
		field(&l.UserID)
	case "UserSig":
		field(&l.UserSig)
	case "DeviceID":
		field(&l.DeviceID)
	case "SDKVersion":
		field(&l.SDKVersion)
	case "DeviceModel":
		field(&l.DeviceModel)
	case "Platform":
		if field(new([]byte)); err == nil && string(raw) != "null" {
			l.Platform, _ = codec.ParsePlatform(text)
		}
	case "Ticket":
		if field(new([]byte)); err == nil && string(raw) != "null" {
			ticket, err := base64.RawURLEncoding.Strict().DecodeString(text)
			if strings.ContainsAny(text, "\r\n") {
				err = errSlow
			}
			s.loginErr = errors.Join(s.loginErr, err)
			l.Ticket = ticket
		}
	}
	return nil
}

// strictString is a string without half surrogate pairs, which encoding/json
// replaces by U+FFFD.
func strictString(raw json.RawMessage) (s string, err error) {
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", err
	}
	if strings.Count(s, "\ufffd") != strings.Count(string(raw), "\ufffd")+strings.Count(strings.ToLower(string(raw)), `\ufffd`)-strings.Count(strings.ToLower(string(raw)), `\\ufffd`) {
		return "", errSlow
	}
	return s, nil
}

func BenchmarkLogin(b *testing.B) {
	p := AppendLogin(nil, &codec.Login{SDKAppID: 1400000000, UserID: []byte("user-0000000042"), UserSig: bytes.Repeat([]byte("s"), 250), Platform: codec.Web,
		DeviceID: []byte("7f9c2ba4-9f1e-4f0e-8c52-0d3b8a3d1a11"), SDKVersion: []byte("1.0.0"), DeviceModel: []byte("Chromium 130")})
	b.ReportAllocs()
	for b.Loop() {
		m, err := Parse(p)
		if err != nil {
			b.Fatal(err)
		}
		var l codec.Login
		if err := m.Login(&l); err != nil {
			b.Fatal(err)
		}
	}
}
