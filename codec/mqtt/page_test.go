package mqtt

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"testing"

	"github.com/rollcall-im/rollcall/codec"
)

// docs/mqtt.md is held to the code: its table between marks is written from the
// table of codes.

var update = flag.Bool("update", false, "write the table of docs/mqtt.md anew")

const pagePath = "../../docs/mqtt.md"

func TestPage(t *testing.T) {
	page, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	mark := regexp.MustCompile(`(?s)<!-- codes -->\n.*?<!-- end -->`)
	if n := len(mark.FindAllString(string(page), -1)); n != 1 {
		t.Fatalf("the page has %d places for the codes, want 1", n)
	}
	want := mark.ReplaceAllLiteralString(string(page), "<!-- codes -->\n"+codesTable()+"<!-- end -->")
	if *update {
		if err := os.WriteFile(pagePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want != string(page) {
		t.Errorf("the codes of %s are not those of the code; run: go test ./codec/mqtt -run TestPage -update", pagePath)
	}
}

func codesTable() string {
	s := "| code | name | CONNACK 5.0 | DISCONNECT 5.0 | CONNACK 3.1.1 |\n| --- | --- | --- | --- | --- |\n"
	for _, info := range codec.Codes {
		old := "none, closed"
		if info.MQTT.Connack311 != 0 {
			old = fmt.Sprint(info.MQTT.Connack311)
		}
		s += fmt.Sprintf("| %d | %s | 0x%02X | 0x%02X | %s |\n", info.Code, info.Name, info.MQTT.Connack, info.MQTT.Disconnect, old)
	}
	return s
}
