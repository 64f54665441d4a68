package config

import (
	_ "embed"
	"fmt"
	"regexp"
	"strings"
)

// Usage returns the help text of the command that takes the settings.
func Usage(command string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "usage: rollcall %s [--name value ...]\n\nEach setting can also be given as environment variable ROLLCALL_NAME or in the file of --config;\nflags count before the environment, and that before the file.\n\n", command)
	for i := range settings {
		s := &settings[i]
		fmt.Fprintf(&b, "  --%s %s", s.name, s.kind)
		if s.def != "" {
			fmt.Fprintf(&b, " (default %s)", s.def)
		}
		fmt.Fprintf(&b, "\n        %s\n", plain(s.doc))
	}
	return b.String()
}

// plain is a text of the page for a terminal.
func plain(doc string) string {
	return strings.ReplaceAll(pageLink.ReplaceAllString(doc, "docs/$1"), "`", "")
}

// pageLink is a link to another page, by its name.
var pageLink = regexp.MustCompile(`\[([a-z]+\.md)\]\([a-z]+\.md\)`)

// Markdown returns docs/configuration.md.
func Markdown() string {
	var b strings.Builder
	b.WriteString(docsHead)
	b.WriteString("| setting | environment | value | default | with `dev` | meaning |\n| --- | --- | --- | --- | --- | --- |\n")
	for i := range settings {
		s := &settings[i]
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s | %s | %s |\n", s.name, Env(s.name), s.kind, code(s.def), code(s.dev), s.doc)
	}
	b.WriteString(docsTail)
	return b.String()
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + s + "`"
}

// docsHead and docsTail are the page around the table.
var (
	//go:embed docs_head.md
	docsHead string
	//go:embed docs_tail.md
	docsTail string
)
