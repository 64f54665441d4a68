package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
)

// general reads a body with the general scanner alone.
func general(body string) (queryRequest, error) {
	var q queryRequest
	err := scanObject(body, q.member)
	return q, err
}

// checkScan holds both scanners to encoding/json and returns whether the fast
// one took the body.
func checkScan(t *testing.T, body string) bool {
	t.Helper()
	var fast queryRequest
	took := fast.scanPlain([]byte(body))
	slow, err := general(body)
	if took {
		want := slow
		want.plain = true
		if err != nil || !reflect.DeepEqual(fast, want) {
			t.Fatalf("%q:\nfast    %+v\ngeneral %+v, %v", body, fast, slow, err)
		}
		if code, text := slow.check(); code != 0 {
			t.Fatalf("%q was taken: %d %s", body, code, text)
		}
		for _, id := range fast.ids {
			if b, err := json.Marshal(id); err != nil || len(id) > 32 {
				t.Fatalf("%q: id %q, %v", body, id, err)
			} else if !strings.ContainsAny(id, "<>&") && string(b) != `"`+id+`"` {
				t.Fatalf("%q: id %q needs escapes", body, id)
			}
		}
	}
	checkAgainstJSON(t, body, &slow, err)
	return took
}

// checkAgainstJSON holds what the general scanner made of a body to
// encoding/json, with the differences that are meant: names are compared byte
// for byte, nesting is bounded, and bytes that are no UTF-8 stay as they are,
// as no UserID.
func checkAgainstJSON(t *testing.T, body string, q *queryRequest, err error) {
	t.Helper()
	var members map[string]json.RawMessage // exact names; of several the last
	jsonErr := json.Unmarshal([]byte(body), &members)
	if valid := jsonErr == nil && members != nil; (err == nil) != valid {
		if err != nil && strings.Contains(err.Error(), "nested") {
			return
		}
		t.Fatalf("%q: %v here, encoding/json says %v", body, err, jsonErr)
	}
	if err != nil {
		return
	}
	raw, there := members["To_Account"]
	if there != (q.toAccount != 0) {
		t.Fatalf("%q: To_Account is there: %v, kind %q", body, there, q.toAccount)
	}
	var list []json.RawMessage // numbers need not fit a float64
	if there && q.toAccount == '[' {
		if err := json.Unmarshal(raw, &list); err != nil || len(list) != q.count {
			t.Fatalf("%q: %d accounts, encoding/json has %d, %v", body, q.count, len(list), err)
		}
	}
	if code, _ := q.check(); code == 0 {
		for i, raw := range list {
			var want any
			// encoding/json puts U+FFFD for each byte that is no UTF-8.
			if err := json.Unmarshal(raw, &want); err != nil || string([]rune(q.ids[i])) != want {
				t.Fatalf("%q: account %d is %q, encoding/json has %q, %v", body, i, q.ids[i], want, err)
			}
		}
	}
	for name, got := range map[string]bool{"IsNeedDetail": q.detail, "IsReturnInstid": q.instID, "IsReturnCustomStatus": q.custom} {
		var v any
		if raw, there := members[name]; there {
			_ = json.Unmarshal(raw, &v)
		}
		n, isNumber := v.(float64)
		if want := isNumber && n == 1; got != want {
			t.Fatalf("%q: %s is %v, want %v", body, name, got, want)
		}
	}
}

// scanBodies are bodies at the borders of the usual shape, and whether the fast
// scanner takes them.
var scanBodies = map[string]bool{
	`{"To_Account":["a"]}`: true,
	`{"To_Account":["a"],"IsNeedDetail":1,"IsReturnInstid":0,"IsReturnCustomStatus":1}`:    true,
	" {\n\"IsNeedDetail\" : 0 ,\t\"To_Account\" : [ \"a\" , \"b c\" ] }\r\n ":              true,
	`{"To_Account":["x"],"IsNeedDetail":1,"To_Account":["a","b"],"IsNeedDetail":0}`:        true, // the last of several
	`{"To_Account":["` + strings.Repeat("i", 32) + `"]}`:                                   true,
	`{"To_Account":["` + strings.Repeat("i", 33) + `"]}`:                                   false,
	`{"To_Account":["` + strings.Repeat("i", 31) + `","` + strings.Repeat("j", 24) + `"]}`: true,
	`{"To_Account":["!#[]^_{|}~ /:;<=>?@"]}`:                                               true,
	`{}`:                                                                                   false, `{"To_Account":[]}`: false, `{"To_Account":[""]}`: false, `{"To_Account":"a"}`: false, `{"To_Account":[1]}`: false, `{"To_Account":[1e999]}`: false, `{"To_Account":["a",]}`: false,
	`{"To_Account":["a"],}`: false, `{"To_Account":["a"]}x`: false, `{"To_Account":["a"]`: false, `{"To_Account":["a"`: false, `{"To_Account":["a`: false, `{"To_Account":[`: false, `{"To_Account"`: false, `{"`: false, `{`: false, ``: false,
	`{"To_Account":["a\u0062"]}`: false, `{"To_Account":["a\"b"]}`: false, `{"To_Acc\u006funt":["a"]}`: false, `{"to_account":["a"]}`: false, "{\"To_Account\":[\"a\x1f\"]}": false, "{\"To_Account\":[\"a\x7f\"]}": false, "{\"To_Account\":[\"\xc3\xa9\"]}": false,
	`{"To_Account":["a"],"IsNeedDetail":01}`: false, `{"To_Account":["a"],"IsNeedDetail":10}`: false, `{"To_Account":["a"],"IsNeedDetail":1.0}`: false, `{"To_Account":["a"],"IsNeedDetail":true}`: false, `{"To_Account":["a"],"IsNeedDetail":-1}`: false, `{"To_Account":["a"],"IsNeedDetail":2}`: false, `{"To_Account":["a"],"IsNeedDetail":}`: false, `{"To_Account":["a"],"IsNeedDetail":`: false,
	`{"To_Account":["a"],"More":1}`: false, `{"To_Account":["a"] "IsNeedDetail":1}`: false, `{"To_Account":["a" "b"]}`: false, `["a"]`: false, `null`: false,
	"\ufeff" + `{"To_Account":["a"]}`: false, `{"IsNeedDetail":1}`: false, `{"To_Account":["a"]]}`: false, `{"To_Account":["a"]}}`: false,
}

func TestQueryScan(t *testing.T) {
	for body, want := range scanBodies {
		if got := checkScan(t, body); got != want {
			t.Errorf("%q: taken %v, want %v", body, got, want)
		}
	}
	for _, n := range []int{maxQuery - 1, maxQuery, maxQuery + 1} {
		body := queryBody(t, strings.Split(strings.Repeat("user ", n-1)+"user", " "), "")
		if got := checkScan(t, body); got != (n <= maxQuery) {
			t.Errorf("%d ids: taken %v", n, got)
		}
	}
}

// TestQueryScanEveryByte puts each byte at each place of ids of all lengths.
func TestQueryScanEveryByte(t *testing.T) {
	for n := 1; n <= 33; n++ {
		for at := range n {
			for c := range 256 {
				id := []byte(strings.Repeat("u", n))
				id[at] = byte(c)
				body := fmt.Appendf(nil, `{"To_Account":["%s","v"]}`, id)
				var q queryRequest
				want := n <= 32 && c >= 0x20 && c <= 0x7e && c != '"' && c != '\\'
				if got := q.scanPlain(body); got != want || want && (q.ids[0] != string(id) || q.ids[1] != "v") {
					t.Fatalf("%q: taken %v, want %v: %q", body, got, want, q.ids)
				}
			}
		}
	}
}

// FuzzQueryScan: what the fast scanner takes the general one takes with the same
// result, and that one agrees with encoding/json.
func FuzzQueryScan(f *testing.F) {
	for body := range scanBodies {
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body string) { checkScan(t, body) })
}
