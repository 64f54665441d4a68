package config

import (
	"flag"
	"os"
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

// The example of the page is a file that Load takes.
func TestDocsExampleLoads(t *testing.T) {
	_, rest, _ := strings.Cut(Markdown(), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("the page has no YAML example")
	}
	c, err := Load(Inputs{
		Args: []string{"--config", "f"},
		ReadFile: files(map[string]string{
			"f": example, "/etc/rollcall/admin-token": token, "/etc/rollcall/shop.key": DevKey, "/etc/rollcall/shop-webhook.token": "t",
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
