package config

import (
	"fmt"
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
		fmt.Fprintf(&b, "\n        %s\n", strings.ReplaceAll(s.doc, "`", ""))
	}
	return b.String()
}

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

const docsHead = `# Configuration

<!-- Written from the table in internal/config/settings.go: go test ./internal/config -update -->

Every setting of ` + "`rollcall serve`" + ` can be given as a flag (` + "`--listen-api :7780`" + `), as an environment
variable (` + "`ROLLCALL_LISTEN_API=:7780`" + `; an empty one counts as not set) and as a key of the YAML file
that ` + "`config`" + ` names (` + "`listen-api: :7780`" + `). What is given more than once counts in this order:
**flag, environment, file, default**. A flag may be given once only.

Unknown flags, unknown or repeated keys of the file and values out of bounds are errors; those of the
file have the line. ` + "`rollcall check-config`" + ` takes the same settings, checks them and prints each with the
place it came from. A fault of the command line ends with exit code 2, any other with 1.

Durations have a unit: ` + "`500ms`, `10s`, `24h`" + `.

## Settings

`

const docsTail = `
## The development profile

` + "`--dev`" + ` is for trying things out on one machine. Every listener must be on a loopback address; an address
without a host is 127.0.0.1. It brings the demo app, SDKAppID ` + "`1400000000`" + ` with key
` + "`" + DevKey + "`" + ` and administrator ` + "`administrator`" + `,
unless the file defines that app itself, the admin token ` + "`" + DevToken + "`" + ` unless ` + "`admin-token-file`" + ` names another, and the
defaults of the table's fifth column. Without ` + "`dev`" + ` there is no default key, token or password.

## Apps in the file

Apps, policies and keys live in memory in this release, so those that must be there after a restart
stand in the file. What is changed over the console is lost at a restart.

` + "```yaml" + `
listen-native: 0.0.0.0:7700
admin-token-file: /etc/rollcall/admin-token
apps:
  - SDKAppID: 1400000001         # needed, 1 to 4294967295
    Name: shop                   # up to 64 bytes
    KeyFile: /etc/rollcall/shop.key   # or Key: 16 to 256 characters; without a key nobody can log in
    Administrators: [administrator]   # 1 to 10, the default is administrator
    Policy:                      # the default is single
      Preset: custom             # single, dual, triple, multi or custom
      Groups:                    # for custom only: each platform in exactly one group
        - [Android, iPhone, iPad, HarmonyOS]
        - [Windows, Mac, Linux]
        - [Web]
      Limits: {Web: 3}           # instances per platform, the default is 1
    Webhook:                     # the default is none
      URL: https://backend.example/rollcall
      TokenFile: /etc/rollcall/shop-webhook.token   # or Token; the default is unsigned
` + "```" + `

Files with a key or a token hold it alone; one line break at the end is dropped. Names of files are
taken from the working directory. The file has at most 1 MiB and at most 10000 apps.
`
