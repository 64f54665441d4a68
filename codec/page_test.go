package codec

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rollcall-im/rollcall/codec/rollcallpb"
)

// docs/protocol.md is held to the code: its tables between marks are written
// from the tables here, its examples are decoded, encoded and explained again.

var update = flag.Bool("update", false, "write the tables and examples of docs/protocol.md anew")

const pagePath = "../docs/protocol.md"

// example is a frame that the page shows.
type example struct {
	name  string
	frame []byte
}

func examples() []example {
	login := Login{
		SDKAppID: 1400000000, UserID: []byte("alice"), UserSig: []byte("eJw-UserSig"), Platform: Android,
		DeviceID: []byte("7f9c2ba4"), SDKVersion: []byte("1.0.0"), DeviceModel: []byte("Pixel 9"),
	}
	resume := login
	resume.UserSig, resume.Resume, resume.Ticket = nil, true, []byte{0x01, 0xf0, 0x9f, 0x80}
	return []example{
		{"Login, active", AppendLogin(nil, &login)},
		{"LoginOK, an iPhone was pushed out", AppendLoginOK(nil, &LoginOK{
			InstID: 7, Ticket: resume.Ticket, ServerTimeMS: 1_800_000_000_123, HeartbeatIntervalMS: 120_000, SilenceTimeoutMS: 400_000,
			Kicked: []KickedInstance{{IPhone, 3}},
		})},
		{"Heartbeat", AppendEmpty(nil, TypeHeartbeat)},
		{"HeartbeatOK", AppendEmpty(nil, TypeHeartbeatOK)},
		{"Login, resume with a ticket", AppendLogin(nil, &resume)},
		{"LoginOK, taken back", AppendLoginOK(nil, &LoginOK{
			InstID: 7, Ticket: []byte{0x01, 0xf0, 0x9f, 0x81}, ServerTimeMS: 1_800_000_060_456, HeartbeatIntervalMS: 120_000, SilenceTimeoutMS: 400_000, TakenBack: true,
		})},
		{"LoginRefused, for good", AppendLoginRefused(nil, &LoginRefused{Code: CodeSigExpired, Text: "expired"})},
		{"LoginRefused, for now", AppendLoginRefused(nil, &LoginRefused{Code: CodeOverloaded, Text: "too many logins at once", RetryAfterMS: 5000, MayReconnect: true})},
		{"ForcedOffline, another login", AppendForcedOffline(nil, &ForcedOffline{
			Code: CodeAnotherLogin, Text: "another device logged in", ByPlatform: IPad, ByDeviceModel: "iPad Pro", TimeMS: 1_800_000_120_000,
		})},
		{"ForcedOffline, the server goes down", AppendForcedOffline(nil, &ForcedOffline{
			Code: CodeServerDraining, Text: "the server is going down", TimeMS: 1_800_000_120_000, MayReconnect: true, RetryAfterMS: 3210,
		})},
		{"Redirect", AppendRedirect(nil, &Redirect{Address: "10.0.0.2:7700", RetryAfterMS: 250})},
		{"Logout", AppendEmpty(nil, TypeLogout)},
		{"LogoutOK", AppendEmpty(nil, TypeLogoutOK)},
		{"a frame of a later version of the server, to be skipped", append(AppendHeader(nil, 99, FlagOptional, 3), 0x08, 0xac, 0x02)},
	}
}

func TestProtocolPage(t *testing.T) {
	src, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	want := rewrite(t, string(src))
	if *update {
		if err := os.WriteFile(pagePath, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, exp := strings.Split(string(src), "\n"), strings.Split(want, "\n")
	for i := range min(len(got), len(exp)) {
		if got[i] != exp[i] {
			t.Fatalf("%s line %d is\n%s\nwant\n%s\nrun: go test ./codec -run TestProtocolPage -update", pagePath, i+1, got[i], exp[i])
		}
	}
	if len(got) != len(exp) {
		t.Fatalf("%s has %d lines, want %d", pagePath, len(got), len(exp))
	}
}

// rewrite returns the page with its tables and examples from the code.
func rewrite(t *testing.T, page string) string {
	for name, text := range map[string]string{
		"frames": framesTable(), "limits": limitsTable(), "proto": protoText(t), "platforms": platformsTable(), "codes": codesTable(),
	} {
		mark := regexp.MustCompile(`(?s)<!-- ` + name + ` -->\n.*?<!-- end -->`)
		if n := len(mark.FindAllString(page, -1)); n != 1 {
			t.Fatalf("the page has %d places for %s, want 1", n, name)
		}
		page = mark.ReplaceAllLiteralString(page, "<!-- "+name+" -->\n"+text+"<!-- end -->")
	}
	head, _, ok := strings.Cut(page, "\n## Examples\n")
	if !ok {
		t.Fatal("the page has no section Examples")
	}
	intro, _, _ := strings.Cut(page[len(head):], "```")
	page = head + strings.TrimRight(intro, "\n") + "\n"
	for _, e := range examples() {
		page += "\n```hex " + e.name + "\n" + explain(t, e.frame) + "```\n"
	}
	return page
}

func framesTable() string {
	s := "| type | frame | from | bytes | body | the server closes after it |\n| --- | --- | --- | --- | --- | --- |\n"
	for _, f := range Frames {
		from, layout, body, last := "server", fmt.Sprintf("`%02x 10 00 00`", uint8(f.Type)), "none", ""
		if f.FromClient {
			from = "client"
		}
		if f.Body {
			layout, body = fmt.Sprintf("`%02x 10 LL LL` body", uint8(f.Type)), "`"+f.Name+"`"
		}
		if f.Last {
			last = "yes"
		}
		s += fmt.Sprintf("| %d | %s | %s | %s | %s | %s |\n", f.Type, f.Name, from, layout, body, last)
	}
	return s
}

func limitsTable() string {
	s := "| what | limit |\n| --- | --- |\n"
	for _, row := range []struct {
		what  string
		limit int
		unit  string
	}{
		{"frame from the client before it has LoginOK, with its header", MaxFrameBeforeLogin, "bytes"},
		{"any other frame, with its header", MaxFrame, "bytes"},
		{"`Login.user_id`, at least 1", MaxUserID, "bytes of 0x20 to 0x7e"},
		{"`Login.device_id`, at least 1", MaxDeviceID, "bytes"},
		{"`Login.sdk_version`", MaxSDKVersion, "bytes"},
		{"`Login.device_model`, `ForcedOffline.by_device_model`", MaxDeviceModel, "bytes"},
		{"`LoginOK.ticket`", MaxTicket, "bytes"},
		{"`LoginOK.kicked`", MaxKicked, "entries"},
		{"`LoginRefused.text`, `ForcedOffline.text`", MaxText, "bytes"},
		{"`Redirect.address`", MaxAddress, "bytes"},
	} {
		s += fmt.Sprintf("| %s | %d %s |\n", row.what, row.limit, row.unit)
	}
	return s
}

func protoText(t *testing.T) string {
	src, err := os.ReadFile("rollcall.proto")
	if err != nil {
		t.Fatal(err)
	}
	return "```proto\n" + string(src) + "```\n"
}

func platformsTable() string {
	s := "| number | name in the proto | platform | class | heartbeat | silence time-out | after a lost link |\n| --- | --- | --- | --- | --- | --- | --- |\n"
	values := rollcallpb.File_rollcall_proto.Enums().ByName("Platform").Values()
	for _, p := range Platforms() {
		class, times, lost := "mobile", "120 s | 400 s", "reachable by push"
		switch p {
		case Windows, Mac, Linux:
			class, lost = "desktop", "offline"
		case Web, MiniProgram:
			class, times, lost = "web", "20 s | 60 s", "offline"
		}
		if p == Mac {
			lost = "offline, or reachable by push (a setting of the app)"
		}
		s += fmt.Sprintf("| %d | `%s` | %v | %s | %s | %s |\n", p, values.ByNumber(protoreflect.EnumNumber(p)).Name(), p, class, times, lost)
	}
	return s
}

func codesTable() string {
	s := "| code | name | text | may reconnect | WebSocket close |\n| --- | --- | --- | --- | --- |\n"
	for _, info := range Codes {
		may := "no"
		if info.Reconnect {
			may = "yes"
		}
		s += fmt.Sprintf("| %d | %s | %s | %s | %d |\n", uint32(info.Code), info.Name, info.Text, may, info.WSClose)
	}
	return s
}

// explain writes a frame down as hex with the meaning of each part beside it.
func explain(t *testing.T, b []byte) string {
	f := mustNext(t, b)
	what := fmt.Sprintf("type %d", uint8(f.Type))
	if info, ok := f.Type.Info(); ok {
		what += " " + info.Name
	}
	var s strings.Builder
	writeHex(&s, "", b[:HeaderSize], fmt.Sprintf("%s, version %d, flags %d, body of %d bytes", what, b[1]>>4, f.Flags, len(f.Body)))
	if info, ok := f.Type.Info(); ok && info.Body {
		explainBody(t, &s, "", f.Body, rollcallpb.File_rollcall_proto.Messages().ByName(protoreflect.Name(info.Name)))
	} else if len(f.Body) > 0 {
		writeHex(&s, "", f.Body, "whatever it means")
	}
	return s.String()
}

func explainBody(t *testing.T, s *strings.Builder, indent string, body []byte, d protoreflect.MessageDescriptor) {
	for len(body) > 0 {
		num, wire, tag := protowire.ConsumeTag(body)
		n := protowire.ConsumeFieldValue(num, wire, body[tag:])
		fd := d.Fields().ByNumber(num)
		if tag < 0 || n < 0 || fd == nil {
			t.Fatalf("%s has a bad field in %x", d.Name(), body)
		}
		raw := body[:tag+n]
		label := fmt.Sprintf("%d %s", num, fd.Name())
		if fd.Message() != nil {
			inner, _ := protowire.ConsumeBytes(raw[tag:])
			writeHex(s, indent, raw[:len(raw)-len(inner)], label)
			explainBody(t, s, indent+"  ", inner, fd.Message())
		} else {
			writeHex(s, indent, raw, label+" = "+valueText(fd, raw[tag:]))
		}
		body = body[tag+n:]
	}
}

func valueText(fd protoreflect.FieldDescriptor, b []byte) string {
	if fd.Kind() == protoreflect.StringKind || fd.Kind() == protoreflect.BytesKind {
		v, _ := protowire.ConsumeBytes(b)
		if fd.Kind() == protoreflect.StringKind {
			return fmt.Sprintf("%q", v)
		}
		return fmt.Sprintf("%d bytes", len(v))
	}
	v, _ := protowire.ConsumeVarint(b)
	switch fd.Kind() {
	case protoreflect.BoolKind:
		return fmt.Sprint(v != 0)
	case protoreflect.EnumKind:
		return fmt.Sprintf("%d %s", v, fd.Enum().Values().ByNumber(protoreflect.EnumNumber(v)).Name())
	}
	return fmt.Sprint(v)
}

// writeHex writes bytes, 16 to a line, with the comment on the first.
func writeHex(s *strings.Builder, indent string, b []byte, comment string) {
	for i := 0; i < len(b); i += 16 {
		line := indent + fmt.Sprintf("% x", b[i:min(i+16, len(b))])
		if i == 0 {
			line = fmt.Sprintf("%-50s# %s", line, comment)
		}
		s.WriteString(line + "\n")
	}
}

// TestPageExamples takes the examples as a reader of the page does: the hex alone.
func TestPageExamples(t *testing.T) {
	src, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```hex ([^\n]+)\n(.*?)```").FindAllStringSubmatch(string(src), -1)
	seen := make(map[Type]bool)
	for _, block := range blocks {
		name := block[1]
		text := regexp.MustCompile(`#[^\n]*|\s`).ReplaceAllString(block[2], "")
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		f := mustNext(t, b)
		seen[f.Type] = true
		info, ok := f.Type.Info()
		if ok && !strings.HasPrefix(name, info.Name) {
			t.Errorf("%s is a %s", name, info.Name)
		}
		if again := encodeAgain(t, f); !bytes.Equal(again, b) {
			t.Errorf("%s: %x encodes again as %x", name, b, again)
		}
	}
	for _, info := range Frames {
		if !seen[info.Type] {
			t.Errorf("the page has no example of %s", info.Name)
		}
	}
}

// encodeAgain decodes a frame's body and encodes what came of it.
func encodeAgain(t *testing.T, f Frame) []byte {
	info, ok := f.Type.Info()
	if !ok || !info.Body {
		return append(AppendHeader(nil, f.Type, f.Flags, len(f.Body)), f.Body...)
	}
	for _, p := range pairs {
		if p.name == info.Name {
			m := p.ours()
			if err := m.Unmarshal(f.Body); err != nil {
				t.Fatalf("%s: %v", info.Name, err)
			}
			return p.frame(m)
		}
	}
	t.Fatalf("no message for %s", info.Name)
	return nil
}

// Each code has exactly one row that says what to do on it.
func TestPageSaysWhatToDo(t *testing.T) {
	src, err := os.ReadFile(pagePath)
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(src), "\n## What to do on each code\n")
	section, _, _ = strings.Cut(section, "\n## ")
	count := make(map[string]int)
	for _, row := range regexp.MustCompile(`(?m)^\| ([0-9 ]+) \|`).FindAllStringSubmatch(section, -1) {
		for _, code := range strings.Fields(row[1]) {
			count[code]++
		}
	}
	for _, info := range Codes {
		code := fmt.Sprint(uint32(info.Code))
		if count[code] != 1 {
			t.Errorf("%s %s stands in %d rows", code, info.Name, count[code])
		}
		delete(count, code)
	}
	for code := range count {
		t.Errorf("%s is no code", code)
	}
}
