package engine

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
	"github.com/rollcall-im/rollcall/codec/ws"
)

// block is the text of the page's only block of that kind.
func block(t *testing.T, page, kind string) string {
	t.Helper()
	all := regexp.MustCompile("(?s)```"+kind+"\n(.*?)```").FindAllStringSubmatch(page, -1)
	if len(all) != 1 {
		t.Fatalf("the page has %d blocks of %s, want 1", len(all), kind)
	}
	return all[0][1]
}

// The handshake of docs/websocket.md takes place, the first message behind it is
// taken, and its limits are those of the code.
func TestWebSocketPage(t *testing.T) {
	src, err := os.ReadFile("../docs/websocket.md")
	if err != nil {
		t.Fatal(err)
	}
	page := string(src)
	crlf := func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") + "\r\n" }

	r := newWSRig(t)
	k := r.openWS()
	k.json = true
	k.send([]byte(crlf(block(t, page, "http request")))...)
	if want := crlf(block(t, page, "http answer")); string(k.conn.out) != want {
		t.Fatalf("answered with %q, the page has %q", k.conn.out, want)
	}
	k.conn.out = nil
	login := regexp.MustCompile(`(?m)^\{"Type":"Login",.*$`).FindString(page)
	k.say([]byte(strings.Replace(login, "eJw-UserSig", string(sign("alice")), 1)))
	k.wantAnswers("LoginOK")
	k.fin()

	limits := "| what | limit |\n| --- | --- |\n"
	for _, row := range []struct {
		what  string
		limit int
	}{
		{"head of the handshake, with its blank line", ws.MaxHead},
		{"Origin", ws.MaxOrigin},
		{"message before the client has LoginOK, all its fragments together", codec.MaxFrameBeforeLogin},
		{"any other message", codec.MaxFrame},
		{"payload of a ping, a pong, a Close", ws.MaxControl},
	} {
		limits += fmt.Sprintf("| %s | %d bytes |\n", row.what, row.limit)
	}
	if !strings.Contains(page, "<!-- limits -->\n"+limits+"<!-- end -->") {
		t.Errorf("the page should have these limits:\n%s", limits)
	}
}
