package jsonmsg

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
)

// Each example of docs/websocket.md is what the code would send, and every message
// has one.
func TestPageExamples(t *testing.T) {
	page, err := os.ReadFile("../../docs/websocket.md")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(map[codec.Type]bool)
	for _, block := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		for line := range strings.Lines(block[1]) {
			line = strings.TrimSpace(line)
			m := mustParse(t, line)
			seen[m.Type] = true
			if again := string(encodeAgain(t, &m)); again != line {
				t.Errorf("the page has\n%s\nwhich is sent as\n%s", line, again)
			}
		}
	}
	for _, info := range codec.Frames {
		if !seen[info.Type] {
			t.Errorf("the page has no example of %s", info.Name)
		}
	}
}

func encodeAgain(t *testing.T, m *Message) []byte {
	t.Helper()
	switch m.Type {
	case codec.TypeLogin:
		return again(t, m, (*Message).Login, AppendLogin)
	case codec.TypeLoginOK:
		return again(t, m, (*Message).LoginOK, AppendLoginOK)
	case codec.TypeLoginRefused:
		return again(t, m, (*Message).LoginRefused, AppendLoginRefused)
	case codec.TypeForcedOffline:
		return again(t, m, (*Message).ForcedOffline, AppendForcedOffline)
	case codec.TypeRedirect:
		return again(t, m, (*Message).Redirect, AppendRedirect)
	}
	return AppendEmpty(nil, m.Type)
}

func again[M any](t *testing.T, m *Message, read func(*Message, *M) error, appendTo func([]byte, *M) []byte) []byte {
	t.Helper()
	var fields M
	if err := read(m, &fields); err != nil {
		t.Fatal(err)
	}
	return appendTo(nil, &fields)
}
