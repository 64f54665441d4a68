package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rollcall-im/rollcall/bench/attack"
	"github.com/rollcall-im/rollcall/internal/config"
)

const securityPage = "../../docs/security.md"

// TestSecurityPageNames: every test, row and file that the page names exists.
func TestSecurityPageNames(t *testing.T) {
	text := string(readFile(t, securityPage))
	tests := regexp.MustCompile("`([a-z]+(?:/[a-z-]+)*)\\.((?:Test|Fuzz)[A-Za-z0-9]+)`").FindAllStringSubmatch(text, -1)
	if len(tests) < 200 {
		t.Errorf("the page names only %d tests: is the form right?", len(tests))
	}
	for _, m := range tests {
		if !declared(t, m[1], m[2]) {
			t.Errorf("there is no %s in %s", m[2], m[1])
		}
	}
	used := map[string]bool{}
	for _, m := range regexp.MustCompile("`hostile: ([^`]*)`").FindAllStringSubmatch(text, -1) {
		used[m[1]] = true
		if m[1] != "row" && !slices.Contains(attack.Rows(), m[1]) {
			t.Errorf("the suite has no row %q", m[1])
		}
	}
	for _, row := range attack.Rows() {
		if !used[row] {
			t.Errorf("the page does not say what row %q shows", row)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)[^)]*\)`).FindAllStringSubmatch(text, -1) {
		if m[1] == "https" {
			continue
		}
		if _, err := os.Stat(filepath.Join(filepath.Dir(securityPage), m[1])); err != nil {
			t.Errorf("link to %s: %v", m[1], err)
		}
	}
}

// declared reports whether a package's tests have a function.
func declared(t *testing.T, pkg, name string) bool {
	files, err := filepath.Glob(filepath.Join("../..", pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if strings.Contains(string(readFile(t, f)), "\nfunc "+name+"(") {
			return true
		}
	}
	return false
}

// TestSecurityPageSettings: the settings of the table of threats exist.
func TestSecurityPageSettings(t *testing.T) {
	known := map[string]bool{}
	for _, v := range config.Default().Values() {
		known[v.Name] = true
	}
	_, table, _ := strings.Cut(string(readFile(t, securityPage)), "## Threats")
	table, _, _ = strings.Cut(table, "\n## ")
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) != 7 {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[4], -1) {
			if !known[m[1]] {
				t.Errorf("%q is no setting", m[1])
			}
		}
	}
}

// asvs has, by section of ASVS 5.0.0, how many requirements of levels 1 and 2 it
// has: they come first in each, and are numbered from 1.
const asvs = `1.1:2 1.2:9 1.3:11 1.4:3 1.5:2 2.1:3 2.2:3 2.3:4 2.4:1 3.2:2 3.3:4 3.4:6 3.5:5 3.7:2 4.1:3 4.2:1 4.3:2 4.4:4
5.1:1 5.2:3 5.3:2 5.4:3 6.1:3 6.2:12 6.3:4 6.4:4 6.5:5 6.6:3 6.8:4 7.1:3 7.2:4 7.3:2 7.4:5 7.5:2 7.6:2 8.1:2 8.2:3 8.3:1 8.4:1 9.1:3 9.2:4
10.1:2 10.2:2 10.3:4 10.4:11 10.5:5 10.6:2 10.7:3 11.1:2 11.2:3 11.3:3 11.4:4 11.5:1 11.6:1 12.1:3 12.2:2 12.3:4 13.1:1 13.2:5 13.3:2 13.4:5
14.1:2 14.2:4 14.3:3 15.1:3 15.2:3 15.3:7 16.1:1 16.2:5 16.3:4 16.4:3 16.5:3 17.1:1 17.2:4 17.3:2`

// TestASVSIsComplete: every requirement of levels 1 and 2 is in the table once, with an answer.
func TestASVSIsComplete(t *testing.T) {
	want := map[string]bool{}
	for _, s := range strings.Fields(asvs) {
		section, n, _ := strings.Cut(s, ":")
		last, err := strconv.Atoi(n)
		if err != nil {
			t.Fatal(err)
		}
		for i := 1; i <= last; i++ {
			want[fmt.Sprintf("%s.%d", section, i)] = true
		}
	}
	if len(want) != 253 {
		t.Fatalf("%d requirements, level 2 has 253", len(want))
	}
	_, table, _ := strings.Cut(string(readFile(t, securityPage)), "## OWASP ASVS")
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^\| ([0-9]+\.[0-9]+)\.([0-9]+)(?:-([0-9]+\.[0-9]+)\.([0-9]+))? \| (.*) \|$`).FindAllStringSubmatch(table, -1) {
		from, _ := strconv.Atoi(m[2])
		to := from
		if m[3] != "" {
			if to, _ = strconv.Atoi(m[4]); m[3] != m[1] || to <= from {
				t.Errorf("%q is no range", m[0])
			}
		}
		if len(m[5]) < 6 {
			t.Errorf("%q answers nothing", m[0])
		}
		for i := from; i <= to; i++ {
			id := fmt.Sprintf("%s.%d", m[1], i)
			if seen[id] || !want[id] {
				t.Errorf("%s is in the table twice, or no requirement of level 2", id)
			}
			seen[id] = true
		}
	}
	for id := range want {
		if !seen[id] {
			t.Errorf("%s is not in the table", id)
		}
	}
}
