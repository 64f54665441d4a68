package usersig

import (
	"encoding/json"
	"strings"
	"testing"
)

// FuzzVerify feeds whole UserSigs: never a panic, and never OK for anything but
// what was signed.
func FuzzVerify(f *testing.F) {
	f.Add([]byte(vectorSig))
	f.Add([]byte(packed(f, vectorDoc, 0)))
	f.Add([]byte(packed(f, strings.Repeat(" ", 100_000), 9)))
	f.Add([]byte("eJwDAAAAAAE_"))
	f.Fuzz(func(t *testing.T, sig []byte) {
		r := Verify(sig, vectorCheck(vectorTime))
		if (r.Code == OK) != (r.Text == "") {
			t.Fatalf("%+v", r)
		}
		if r.Code == OK && (r.TimeS != vectorTime || r.EndS != vectorTime+vectorExpire) {
			t.Fatalf("accepted with other times: %+v", r)
		}
	})
}

// FuzzDocument holds the scanner to encoding/json: what it takes is valid JSON
// and says the same there.
func FuzzDocument(f *testing.F) {
	f.Add([]byte(vectorDoc))
	f.Add([]byte(`{"TLS.ver":"2.0","TLS.identifier":"\ud83d\ude00\ud800","TLS.sdkappid":1,"TLS.expire":-0,"TLS.time":-9223372036854775808,"TLS.sig":"","TLS.userbuf":"\/\b\f\n\r\t\"\\","x":[[{}],1e9,-0.5E-3]}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		var want map[string]any
		jsonErr := json.Unmarshal(doc, &want)
		var d document
		if d.parse(append([]byte(nil), doc...)) != nil {
			return
		}
		if jsonErr != nil {
			t.Fatalf("%q: taken, but encoding/json says %v", doc, jsonErr)
		}
		// encoding/json replaces bytes that are not UTF-8.
		if got := strings.ToValidUTF8(string(d.identifier), "\ufffd"); got != strings.ToValidUTF8(want["TLS.identifier"].(string), "\ufffd") && json.Valid(doc) && isUTF8(doc) {
			t.Fatalf("%q: identifier %q, encoding/json reads %q", doc, got, want["TLS.identifier"])
		}
		if got, ok := want["TLS.userbuf"]; ok != d.has(fieldUserbuf) || ok && isUTF8(doc) && got != string(d.userbuf) {
			t.Fatalf("%q: userbuf %q, encoding/json reads %q", doc, d.userbuf, got)
		}
	})
}

func isUTF8(b []byte) bool { return strings.ToValidUTF8(string(b), "") == string(b) }

// FuzzSign: what is signed verifies.
func FuzzSign(f *testing.F) {
	f.Add("k", uint32(1), "u", int64(0), int64(0), []byte(nil))
	f.Fuzz(func(t *testing.T, secret string, app uint32, user string, timeS, expireS int64, buf []byte) {
		sig, err := Sign(secret, app, user, timeS, expireS, buf)
		if err != nil {
			return
		}
		r := Verify([]byte(sig), &Check{AppID: app, UserID: user, Secrets: []string{secret}, NowS: timeS})
		if want := OK; r.Code != want && expireS >= 0 {
			t.Fatalf("%+v", r)
		}
	})
}
