package api

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

// skipAll scans a body and ignores what it says.
func skipAll(body string) error {
	return scanObject(body, func(sc *jsonScanner, _ string) error { return sc.skip() })
}

func TestScanObject(t *testing.T) {
	deep := func(n int) string { return `{"a":` + strings.Repeat("[", n) + strings.Repeat("]", n) + `}` }
	for body, want := range map[string]bool{
		`{}`: true, " \n\t\r{ } ": true, `{"a":1}`: true, `{"a":[1,-2.5e+3,{"b":null,"":[]}],"c":"\u00e9\ud83d\ude00","d":{},"e":true,"f":false}`: true,
		`{"":""}`: true, `{"a":-0}`: true, `{"a":0.0E0}`: true, `{"a":"\b\f\n\r\t\/\\\""}`: true, `{"a":"` + "\x7f" + `"}`: true,
		deep(maxJSONDepth - 1): true, deep(maxJSONDepth): false, deep(100_000): false,
		``: false, ` `: false, `null`: false, `[]`: false, `""`: false, `1`: false, `{`: false, `}`: false, `{]`: false,
		`{"a"}`: false, `{"a":}`: false, `{"a":1,}`: false, `{,}`: false, `{"a":1 "b":2}`: false, `{a:1}`: false, `{1:1}`: false, `{null:1}`: false,
		`{}{}`: false, `{}x`: false, "{}\x00": false, "\ufeff{}": false,
		`{"a":01}`: false, `{"a":+1}`: false, `{"a":.5}`: false, `{"a":1.}`: false, `{"a":1e}`: false, `{"a":1e+}`: false, `{"a":-}`: false, `{"a":0x1}`: false, `{"a":NaN}`: false,
		`{"a":tru}`: false, `{"a":True}`: false, `{"a":nul}`: false, `{"a":[1,]}`: false, `{"a":[,1]}`: false, `{"a":[1 2]}`: false, `{"a":[}`: false, `{"a":[1}`: false,
		`{"a":"`: false, `{"a":"\`: false, `{"a":"\x"}`: false, `{"a":"\u12"}`: false, `{"a":"\u123g"}`: false, `{"a":"\u+123"}`: false, "{\"a\":\"\x1f\"}": false, "{\"a\":\"\\\x00\"}": false, `{"a":'b'}`: false,
		`{"a":1/**/}`: false, "{\"a\":1\v}": false, "{\"a\":\"\\n\x01\"}": false,
	} {
		if err := skipAll(body); (err == nil) != want {
			t.Errorf("%.80q: %v", body, err)
		}
	}
}

func TestScanString(t *testing.T) {
	for text, want := range map[string]string{
		`""`: "", `"a"`: "a", `"\u0041"`: "A", `"\u00E9"`: "é", `"\ud83d\ude00!"`: "😀!", `"\ud83d"`: "\ufffd", `"\ude00\ud83d"`: "\ufffd\ufffd",
		`"\ud83dA"`: "\ufffdA", `"\ud83d\u0041"`: "\ufffdA", `"\ud83d\u00"`: "", `"a\"b"`: `a"b`, `"é\/"`: "é/", "\"\xff\"": "\xff", `"\u0000"`: "\x00",
	} {
		sc := jsonScanner{s: text}
		got, err := sc.str()
		if bad := strings.HasSuffix(text, `\u00"`); (err != nil) != bad || got != want {
			t.Errorf("%s: %q, %v; want %q", text, got, err, want)
		}
	}
}

func TestAppendString(t *testing.T) {
	for s, want := range map[string]string{
		"": `""`, "a": `"a"`, `"`: `"\""`, `a\b`: `"a\\b"`, "\x00\n\x1f": `"\u0000\u000a\u001f"`, "é😀": `"é😀"`, "\xff": `"\ufffd"`, "a\xffb\xc3": `"a\ufffdb\ufffd"`, "</a>&": `"</a>&"`, "\x7f": "\"\x7f\"",
	} {
		if got := string(appendString(nil, s)); got != want {
			t.Errorf("%q: %s, want %s", s, got, want)
		}
	}
}

// FuzzScanObject holds the scanner to encoding/json: both take the same bodies,
// but for those that are nested too deep.
func FuzzScanObject(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":[1,-2.5e+3,{"b":null}],"c":"\u00e9\ud83d\ude00"}`, `{"a":"\`, `[]`, `{"a":1e999}`, "{\"\xff\":\"\xed\xa0\x80\"}"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, body string) {
		err := skipAll(body)
		var want map[string]json.RawMessage // numbers need not fit a float64
		jsonErr := json.Unmarshal([]byte(body), &want)
		valid := jsonErr == nil && want != nil
		if (err == nil) != valid && (err == nil || !strings.Contains(err.Error(), "nested")) {
			t.Fatalf("%q: %v here, encoding/json says %v", body, err, jsonErr)
		}
	})
}

// FuzzString: what is appended reads back the same, here and there.
func FuzzString(f *testing.F) {
	for _, s := range []string{"", `a"b\c`, "\x00\x1f\x7f", "é😀\u2028", "\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendString(nil, s)
		var there string
		if err := json.Unmarshal(b, &there); err != nil {
			t.Fatalf("%q as %q: %v", s, b, err)
		}
		sc := jsonScanner{s: string(b)}
		here, err := sc.str()
		if err != nil || here != there || sc.pos != len(b) {
			t.Fatalf("%q as %q: %q, %v here, %q there", s, b, here, err, there)
		}
		if utf8.ValidString(s) && here != s {
			t.Fatalf("%q came back as %q", s, here)
		}
	})
}
