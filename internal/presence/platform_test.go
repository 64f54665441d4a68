package presence

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// TestPlatformTable holds every cell of presence.md section 2 but the time-outs,
// which are app settings by class.
func TestPlatformTable(t *testing.T) {
	table := []struct {
		p                      Platform
		number                 uint8
		name                   string
		class                  Class
		className              string
		push                   bool
		silence                Reason
		slot                   Platform
		query, webhook, kicked string
	}{
		{Android, 1, "Android", Mobile, "mobile", true, ReasonTimeOut, Android, "Android", "Android", "Android"},
		{IPhone, 2, "iPhone", Mobile, "mobile", true, ReasonTimeOut, IPhone, "iPhone", "IOS", "iOS"},
		{IPad, 3, "iPad", Mobile, "mobile", true, ReasonTimeOut, IPad, "iPad", "iPad", "iPad"},
		{HarmonyOS, 4, "HarmonyOS", Mobile, "mobile", true, ReasonTimeOut, HarmonyOS, "HarmonyOS", "HarmonyOS", "HarmonyOS"},
		{Windows, 5, "Windows", Desktop, "desktop", false, ReasonTimeOut, Windows, "PC", "Windows", "Windows"},
		{Mac, 6, "Mac", Desktop, "desktop", false, ReasonTimeOut, Mac, "Mac", "Mac", "Mac"},
		{Linux, 7, "Linux", Desktop, "desktop", false, ReasonTimeOut, Linux, "Linux", "Linux", "Linux"},
		{Web, 8, "Web", WebClass, "web", false, ReasonLinkClose, Web, "Web", "Web", "Web"},
		{MiniProgram, 9, "MiniProgram", WebClass, "web", false, ReasonLinkClose, Web, "Web", "Web", "Web"},
	}
	if len(table) != NumPlatforms {
		t.Fatalf("table has %d rows, want %d", len(table), NumPlatforms)
	}
	settings := Settings{PushRetentionMS: 1}
	for _, row := range table {
		p := row.p
		if uint8(p) != row.number {
			t.Errorf("%s: number %d, want %d", row.name, p, row.number)
		}
		for _, cell := range []struct{ column, got, want string }{
			{"name", p.String(), row.name},
			{"class", p.Class().String(), row.className},
			{"query", p.QueryName(), row.query},
			{"webhook", p.WebhookName(), row.webhook},
			{"kicked", p.KickedName(), row.kicked},
			{"slot", p.Slot().String(), row.slot.String()},
			{"silence", p.SilenceReason().String(), row.silence.String()},
		} {
			if cell.got != cell.want {
				t.Errorf("%s: %s is %q, want %q", row.name, cell.column, cell.got, cell.want)
			}
		}
		if p.Class() != row.class || settings.keepsPush(p) != row.push {
			t.Errorf("%s: class %d push %v, want %d %v", row.name, p.Class(), settings.keepsPush(p), row.class, row.push)
		}
		if got, ok := ParsePlatform(row.name); !ok || got != p {
			t.Errorf("ParsePlatform(%q) = %v, %v", row.name, got, ok)
		}
	}
}

func TestMacPushOnline(t *testing.T) {
	s := Settings{PushRetentionMS: 1, MacPushOnline: true}
	for p := Platform(1); p < platformEnd; p++ {
		if want := p.Class() == Mobile || p == Mac; s.keepsPush(p) != want {
			t.Errorf("%s keeps PushOnline: %v, want %v", p, !want, want)
		}
	}
}

func TestUnknownPlatform(t *testing.T) {
	for _, p := range []Platform{0, platformEnd, 255} {
		if p.Valid() || p.String() != "unknown" || p.Class() != 0 || p.Slot() != 0 || p.QueryName() != "" {
			t.Errorf("platform %d: valid %v, %q, class %d, slot %d", p, p.Valid(), p, p.Class(), p.Slot())
		}
	}
	for _, name := range []string{"", "android", "IPhone", "unknown", "PC"} {
		if p, ok := ParsePlatform(name); ok {
			t.Errorf("ParsePlatform(%q) = %v", name, p)
		}
	}
}

func TestValidUserID(t *testing.T) {
	const longest = "0123456789abcdef0123456789abcdef"
	for id, want := range map[string]bool{
		"": false, " ": true, "~": true, "a/%..": true, "\x1f": false, "\x7f": false, "é": false, "a\x00": false,
		longest[:MaxUserID-1]: true, longest: true, longest + "x": false,
	} {
		if ValidUserID(id) != want || ValidUserID([]byte(id)) != want {
			t.Errorf("ValidUserID(%q) = %v", id, !want)
		}
	}
}

// TestNamesDocumented holds the table of names in docs/webhook.md to the platform table, row by row.
func TestNamesDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/webhook.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := ""
	for p := Platform(1); p < platformEnd; p++ {
		rows += fmt.Sprintf("| %s | `%s` | `%s` | `%s` | `%s` |\n", p, p.WebhookName(), p, p.KickedName(), p.QueryName())
	}
	if !strings.Contains(string(page), "| --- | --- | --- | --- | --- |\n"+rows+"\n") {
		t.Errorf("docs/webhook.md has not exactly these rows:\n%s", rows)
	}
}
