package webhook

import (
	"bufio"
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/presence"
)

var update = flag.Bool("update", false, "rewrite testdata/requests.golden")

type goldenCase struct {
	name, url, token string
	t                presence.Transition
}

func device(p presence.Platform) presence.Instance {
	return presence.Instance{Status: presence.Online, Device: presence.Device{Platform: p, ID: "d"}}
}

func goldenCases() []goldenCase {
	const plain = "http://hook.example/cb"
	change := func(f func(*presence.Transition)) presence.Transition {
		t := login(1400000000, "testuser316", 7)
		f(&t)
		return t
	}
	return []goldenCase{
		{"login", plain, "", change(func(*presence.Transition) {})},
		{"login that kicked, signed", plain, "xxxxyyyy", change(func(t *presence.Transition) {
			t.Inst.Device.Platform = presence.IPhone
			push := device(presence.IPhone)
			push.Status = presence.PushOnline
			t.Kicked = []presence.Instance{device(presence.Windows), push, device(presence.MiniProgram)}
		})},
		{"logout", plain, "", change(func(t *presence.Transition) {
			t.Action, t.Reason, t.Inst.Status = presence.ActionLogout, presence.ReasonUnregister, presence.Offline
		})},
		{"disconnect by socket, IPv6", plain, "", change(func(t *presence.Transition) {
			t.Action, t.Reason = presence.ActionDisconnect, presence.ReasonLinkClose
			t.Inst.Link.Addr = netip.MustParseAddrPort("[2001:db8::1]:80")
		})},
		{"disconnect by silence, IPv4 in IPv6", plain, "", change(func(t *presence.Transition) {
			t.Action, t.Reason = presence.ActionDisconnect, presence.ReasonTimeOut
			t.Inst.Link.Addr = netip.MustParseAddrPort("[::ffff:192.0.2.7]:80")
		})},
		{"kick over REST, no address", plain, "", change(func(t *presence.Transition) {
			t.Action, t.Reason, t.ByREST = presence.ActionLogout, presence.ReasonUnregister, true
			t.Inst.Link = presence.Link{}
		})},
		{"custom status", plain, "", change(func(t *presence.Transition) {
			t.Action, t.Reason = presence.ActionCustomStatus, presence.ReasonSetCustomStatus
			t.CustomStatus = "in \"a\\b\"\n\x01 caf\u00e9 \xff"
		})},
		{"custom status of no instance", plain, "", change(func(t *presence.Transition) {
			t.Action, t.Reason, t.ByREST = presence.ActionCustomStatus, presence.ReasonSetCustomStatus, true
			t.CustomStatus, t.Inst = "busy", presence.Instance{}
		})},
		{"URL with a query", "http://hook.example:8080/a%2Fb//c?k=v%20w&x", "", change(func(t *presence.Transition) {
			t.Inst.Device.Platform = presence.MiniProgram
		})},
		{"URL without a path, odd UserID", "http://hook.example", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", change(func(t *presence.Transition) {
			t.Key.UserID = `a/%"..\ &?`
		})},
		{"kicked list is told on a login only", plain, "", change(func(t *presence.Transition) {
			t.Action, t.Reason = presence.ActionLogout, presence.ReasonUnregister
			t.Kicked = []presence.Instance{device(presence.Mac)}
		})},
	}
}

// rawReceiver answers OK and keeps each request's bytes.
func rawReceiver(got chan<- string) func(net.Conn) {
	return func(c net.Conn) {
		var raw bytes.Buffer
		in := bufio.NewReader(io.TeeReader(c, &raw))
		req, err := http.ReadRequest(in)
		if err != nil {
			return
		}
		if _, err := io.ReadAll(req.Body); err != nil {
			return
		}
		got <- raw.String()
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", len(answerOK), answerOK)
		c.Close()
	}
}

// TestGoldenRequests holds every byte of a request against testdata/requests.golden.
func TestGoldenRequests(t *testing.T) {
	var out strings.Builder
	for _, c := range goldenCases() {
		virtual(t, func(t *testing.T) {
			got := make(chan string, 1)
			r := newRig(t, nil)
			r.net.listen("hook.example", "192.0.2.1:80", rawReceiver(got))
			r.net.listen("hook.example", "192.0.2.1:8080", rawReceiver(got))
			r.apps.put(1400000000, c.url, func(w *directory.Webhook) { w.Token = c.token })
			time.Sleep(time.Until(time.Unix(1669872112, 0))) // the virtual clock starts in 2000
			r.d.Transitions([]presence.Transition{c.t})
			raw := <-got
			r.stop()
			fmt.Fprintf(&out, "--- %s ---\n%s\n", c.name, strings.ReplaceAll(raw, "\r\n", "\n"))
			if _, body, _ := strings.Cut(raw, "\r\n\r\n"); !json.Valid([]byte(body)) {
				t.Errorf("%s: body is not JSON: %s", c.name, body)
			}
		})
	}
	const file = "testdata/requests.golden"
	if *update {
		if err := os.WriteFile(file, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("requests differ from %s; got:\n%s", file, out.String())
	}
}

func TestSign(t *testing.T) {
	const want = "17773bc39a671d7b9aa835458704d2a6db81360a5940292b587d6d760d484061"
	if got := Sign("xxxxyyyy", 1669872112); got != want {
		t.Errorf("Sign = %s, want %s", got, want)
	}
}

// TestSignature uses the public vector of Standard Webhooks.
func TestSignature(t *testing.T) {
	const want = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
	got := Signature("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, []byte(`{"test": 2432232314}`))
	if got != want {
		t.Errorf("Signature = %s, want %s", got, want)
	}
	for token, key := range map[string]string{"plain": "plain", "whsec_%%": "whsec_%%", "whsec_": "whsec_", "whsec_YWJj": "abc"} {
		if got := string(secret(token)); got != key {
			t.Errorf("secret(%q) = %q, want %q", token, got, key)
		}
	}
}

// TestEventID: two events share an id only if they are the same event.
func TestEventID(t *testing.T) {
	base := Event{Key: presence.Key{App: 1, UserID: "u"}, Seq: 1, Epoch: 1}
	ids := map[string]Event{base.ID(): base}
	for _, e := range []Event{
		{Key: presence.Key{App: 2, UserID: "u"}, Seq: 1, Epoch: 1},
		{Key: presence.Key{App: 1, UserID: "v"}, Seq: 1, Epoch: 1},
		{Key: presence.Key{App: 1, UserID: "u"}, Seq: 2, Epoch: 1},
		{Key: presence.Key{App: 1, UserID: "u"}, Seq: 1, Epoch: 2},
	} {
		if other, found := ids[e.ID()]; found {
			t.Errorf("%+v and %+v have the id %s", e, other, e.ID())
		}
		ids[e.ID()] = e
	}
	again := base
	again.Attempts, again.QueuedMS, again.Body = 3, 9, []byte("x")
	if again.ID() != base.ID() {
		t.Errorf("the id changes with the attempt: %s, %s", base.ID(), again.ID())
	}
	if strings.Contains(base.ID(), ".") {
		t.Errorf("id %s holds a full stop", base.ID())
	}
}
