package metrics

import (
	_ "embed"
	"strings"
)

// helpText has a line for each metric: its name and its meaning, as in docs/metrics.md.
//
//go:embed help.txt
var helpText string

var helps = parseHelp(helpText)

func parseHelp(text string) map[string]string {
	m := map[string]string{}
	for line := range strings.Lines(text) {
		name, meaning, _ := strings.Cut(strings.TrimSpace(line), " ")
		m[name] = meaning
	}
	return m
}

// help is the text of a metric's HELP line.
func help(name string) string {
	if h, ok := helps[name]; ok {
		return h
	}
	return "See docs/metrics.md."
}
