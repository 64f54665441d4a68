package webhook

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestJudgeBody(t *testing.T) {
	for body, want := range map[string]outcome{
		answerOK:           outcomeOK,
		`{"ErrorCode":0}`:  outcomeOK,
		`{"ErrorCode":-0}`: outcomeOK,
		` { "ErrorInfo" : "x", "ErrorCode" : 0.0, "ActionStatus" : "OK" } `: outcomeOK,
		`{"ActionStatus":"OK","ErrorCode":1}`:                               outcomeCode,
		`{"ActionStatus":"FAIL","ErrorCode":0}`:                             outcomeCode,
		`{"ActionStatus":1,"ErrorCode":0}`:                                  outcomeCode,
		`{"ErrorCode":"0"}`:                                                 outcomeBody,
		`{"ErrorCode":null}`:                                                outcomeBody,
		`{"errorcode":0}`:                                                   outcomeBody,
		`{}`:                                                                outcomeBody,
		`[]`:                                                                outcomeBody,
		`0`:                                                                 outcomeBody,
		``:                                                                  outcomeBody,
		`OK`:                                                                outcomeBody,
		answerOK + "x":                                                      outcomeBody,
		`{"ErrorCode":00}`:                                                  outcomeBody,
		`{"ErrorCode":0`:                                                    outcomeBody,
		strings.Repeat("[", 10000):                                          outcomeBody,
		`{"ErrorCode":0,"a":` + strings.Repeat("[", 10000): outcomeBody,
	} {
		if got := judgeBody([]byte(body)); got != want {
			t.Errorf("judgeBody(%.60q) = %s, want %s", body, got, want)
		}
	}
}

// FuzzJudgeBody: no body breaks the parser, and none is taken for a success
// that the standard library's parser does not call one.
func FuzzJudgeBody(f *testing.F) {
	for _, s := range []string{answerOK, `{"ErrorCode":0}`, `{"ErrorCode":1e-400}`, `{"ErrorCode":0,"ErrorCode":1}`, `[[[[`, "{\"\\u0000\":1}", "\xff"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		got := judgeBody(body)
		if got != outcomeOK {
			return
		}
		var a map[string]json.RawMessage
		if err := json.Unmarshal(body, &a); err != nil {
			t.Fatalf("%q is a success, but no JSON object: %v", body, err)
		}
		if len(a) == 0 {
			t.Fatalf("%q is a success without members", body)
		}
	})
}
