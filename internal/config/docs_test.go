package config

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md")

func TestDocsMatchTable(t *testing.T) {
	const name = "../../docs/configuration.md"
	if *update {
		if err := os.WriteFile(name, []byte(Markdown()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != Markdown() {
		t.Errorf("%s is not what the table says; rewrite it with: go test ./internal/config -update", name)
	}
}

// credentials is where systemd puts what the unit loads.
const credentials = "/run/credentials/rollcall.service/"

// Every secret of the example is one that the systemd unit can load.
func TestUnitLoadsSecrets(t *testing.T) {
	unit, err := os.ReadFile("../../deploy/rollcall.service")
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile(regexp.QuoteMeta(credentials)+`([a-z.-]+)`).FindAllStringSubmatch(Markdown(), -1)
	if len(found) != 2 {
		t.Errorf("the example names %d secrets, want a key and a token", len(found))
	}
	for _, m := range append(found, []string{"", "admin-token"}) {
		if line := "LoadCredential=" + m[1] + ":/etc/rollcall/" + m[1] + "\n"; !strings.Contains(string(unit), line) {
			t.Errorf("the unit has no line %q", line)
		}
	}
}

// The page shows the public key of the demo app as it is.
func TestDocsShowDevKey(t *testing.T) {
	for _, want := range []string{DevKey, DevToken, fmt.Sprint(DevAppID)} {
		if !strings.Contains(docsTail, "`"+want+"`") {
			t.Errorf("the page does not show %s", want)
		}
	}
	for _, name := range ClientVariables {
		if !strings.Contains(docsHead, "`"+name+"`") {
			t.Errorf("the page does not tell of %s", name)
		}
	}
}

// The example of the page is a file that Load takes.
func TestDocsExampleLoads(t *testing.T) {
	_, rest, _ := strings.Cut(Markdown(), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the page has no YAML example")
	}
	c, err := Load(Inputs{
		Args: []string{"--config", "f", "--admin-token-file", "token"},
		ReadFile: files(map[string]string{
			"f": example, "token": token, credentials + "shop.key": DevKey, credentials + "shop-webhook.token": "t",
		}),
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Apps) != 1 || c.Apps[0].Policy.Preset != "custom" || c.Apps[0].WebhookToken != "t" {
		t.Errorf("apps %+v", c.Apps)
	}
}

func TestTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for i := range settings {
		s := &settings[i]
		if seen[s.name] {
			t.Errorf("%s stands there twice", s.name)
		}
		seen[s.name] = true
		if s.doc == "" || !strings.HasSuffix(s.doc, ".") || strings.Contains(s.doc, "|") {
			t.Errorf("%s: doc %q is no sentence of a table", s.name, s.doc)
		}
		if !strings.Contains(Usage("serve"), "--"+s.name+" ") {
			t.Errorf("Usage does not tell of %s", s.name)
		}
		c := &Config{}
		if err := s.set(c, s.def); err != nil {
			t.Errorf("%s: default %q: %v", s.name, s.def, err)
		}
		if s.dev != "" {
			if err := s.set(c, s.dev); err != nil {
				t.Errorf("%s: dev default %q: %v", s.name, s.dev, err)
			}
		}
		if again := s.get(c); s.set(c, again) != nil || s.get(c) != again {
			t.Errorf("%s: %q is not read back", s.name, again)
		}
	}
}
