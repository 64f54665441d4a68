package ledger

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// stand is a receiver and what it has handed over.
type stand struct {
	*receiver

	mu         sync.Mutex
	receipts   []Receipt
	violations []string
}

// seen is what was handed over so far.
func (s *stand) seen() (receipts []Receipt, violations []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.receipts, s.violations
}

func newStand(t *testing.T) *stand {
	s := &stand{}
	note := func(app uint32, user string, receipt Receipt) error {
		if app != 7 || user != "alice" {
			return fmt.Errorf("user %q of app %d", user, app)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		s.receipts = append(s.receipts, receipt)
		return nil
	}
	wrong := func(kind, format string, args ...any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.violations = append(s.violations, fmt.Sprintf(format, args...))
	}
	r, err := newReceiver(1, "secret", receiverTells{note, wrong, func(int64) {}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	s.receiver = r
	return s
}

const goodBody = `{"CallbackCommand":"State.StateChange","EventTime":5,"Info":{"Action":"Login","To_Account":"alice","Reason":"Register","InstID":3,"Platform":"Web"},"KickedDevice":[{"Platform":"iOS"}],"EventSeq":2}`

// post sends a webhook request with token's signatures over signed.
func (s *stand) post(t *testing.T, token, signed, body string) (*http.Response, string, error) {
	t.Helper()
	sum := sha256.Sum256([]byte(token + "100"))
	req, err := http.NewRequest(http.MethodPost, s.url(7)+"?SdkAppid=7&OptPlatform=Web&RequestTime=100&Sign="+hex.EncodeToString(sum[:]), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha256.New, []byte(token))
	fmt.Fprintf(mac, "msg_1.100.%s", signed)
	req.Header.Set("webhook-id", "msg_1")
	req.Header.Set("webhook-timestamp", "100")
	req.Header.Set("webhook-signature", "v1,"+base64.StdEncoding.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	return resp, string(answer), err
}

func TestReceiver(t *testing.T) {
	s := newStand(t)
	if _, answer, err := s.post(t, "secret", goodBody, goodBody); err != nil || !strings.Contains(answer, `"ErrorCode":0`) {
		t.Fatalf("%s, %v", answer, err)
	}
	receipts, violations := s.seen()
	if len(receipts) != 1 || len(violations) > 0 {
		t.Fatalf("receipts %v, violations %v", receipts, violations)
	}
	r := receipts[0]
	if r.Seq != 2 || r.ID != "msg_1" || !r.Accepted || fmt.Sprint(r.Event) != "Login(Register) of instance 3 on Web at 5 that kicked [iOS]" || r.Event.OptPlatform != "Web" {
		t.Errorf("%+v", r)
	}
}

// TestReceiverFaults: each mode but the good one is no success, and says so in the receipt.
func TestReceiverFaults(t *testing.T) {
	for mode, name := range map[receiverMode]string{receiverFails: "fails", receiverSaysNo: "says no", receiverResets: "resets"} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			s.phase = receiverPhase{mode, 1}
			resp, answer, err := s.post(t, "secret", goodBody, goodBody)
			if err == nil && resp.StatusCode == http.StatusOK && strings.Contains(answer, `"ErrorCode":0`) {
				t.Errorf("answered %d %s", resp.StatusCode, answer)
			}
			if receipts, _ := s.seen(); len(receipts) != 1 || receipts[0].Accepted {
				t.Errorf("%+v", receipts)
			}
		})
	}
}

func TestReceiverVerifies(t *testing.T) {
	for name, c := range map[string]struct{ token, signed, body string }{
		"another token":  {"other", goodBody, goodBody},
		"another body":   {"secret", "{}", goodBody},
		"no event":       {"secret", "{}", "{}"},
		"an unknown one": {"secret", strings.Replace(goodBody, "alice", "bob", 1), strings.Replace(goodBody, "alice", "bob", 1)},
	} {
		t.Run(name, func(t *testing.T) {
			s := newStand(t)
			if _, _, err := s.post(t, c.token, c.signed, c.body); err != nil {
				t.Fatal(err)
			}
			if receipts, violations := s.seen(); len(violations) != 1 || len(receipts) != 0 {
				t.Errorf("violations %v, receipts %v", violations, receipts)
			}
		})
	}
}
