package metrics

import (
	"bytes"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite help.txt from docs/metrics.md")

// row is a line of a table of docs/metrics.md: name and labels, kind, meaning.
var row = regexp.MustCompile("(?m)^\\| `(rollcall_[a-z_]+)[^`]*` \\| (?:counter|gauge|histogram) \\| (.*) \\|$")

// link is a reference of Markdown; the text in the brackets is kept.
var link = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`)

// TestHelpIsThePage: the HELP lines are the meanings of docs/metrics.md.
func TestHelpIsThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for _, m := range row.FindAllStringSubmatch(string(page), -1) {
		want.WriteString(m[1] + " " + strings.ReplaceAll(link.ReplaceAllString(m[2], "$1"), "`", "") + "\n")
	}
	if lines := strings.Count(string(page), "\n| `rollcall_"); strings.Count(want.String(), "\n") != lines || lines == 0 {
		t.Fatalf("%d of the page's %d metrics have a row that can be read", strings.Count(want.String(), "\n"), lines)
	}
	if *update {
		if err := os.WriteFile("help.txt", []byte(want.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if want.String() != helpText {
		t.Error("help.txt is not what docs/metrics.md says; rewrite it with: go test ./internal/metrics -update")
	}
}

func TestHelp(t *testing.T) {
	s := NewSet()
	s.Counter(`rollcall_closes_total{reason="fin"}`).Inc()
	s.Counter("rollcall_of_a_test_total").Inc()
	var out bytes.Buffer
	if err := s.Write(&out); err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"# HELP rollcall_closes_total links that ended, by reason", "# HELP rollcall_of_a_test_total See docs/metrics.md."} {
		if !strings.Contains(out.String(), line+"\n") {
			t.Errorf("no line %q in:\n%s", line, out.String())
		}
	}
}
