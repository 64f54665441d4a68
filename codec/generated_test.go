package codec

import (
	"fmt"
	"os"
	"regexp"
	"sort"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/rollcall-im/rollcall/codec/rollcallpb"
)

// The generated code says what rollcall.proto says, line by line, without protoc.
func TestGeneratedMatchesProto(t *testing.T) {
	src, err := os.ReadFile("rollcall.proto")
	if err != nil {
		t.Fatal(err)
	}
	got, want := describe(rollcallpb.File_rollcall_proto), statements(string(src))
	sort.Strings(got)
	sort.Strings(want)
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("the generated code has\n%s\n\nrollcall.proto has\n%s\n\nrun: go generate ./codec", g, w)
	}
}

// statements are the statements of a .proto file, each with the name of the
// block it stands in before it.
func statements(src string) []string {
	src = regexp.MustCompile(`//[^\n]*`).ReplaceAllString(src, "")
	var all []string
	block := ""
	for _, s := range regexp.MustCompile(`[^;{}]+[;{]|\}`).FindAllString(src, -1) {
		words := strings.Join(strings.Fields(strings.TrimRight(s, ";{")), " ")
		switch {
		case s == "}":
			block = ""
		case strings.HasSuffix(s, "{"):
			block = words
			all = append(all, words)
		case block == "":
			all = append(all, words)
		default:
			all = append(all, block+": "+words)
		}
	}
	return all
}

// describe writes down the same statements from the generated descriptor.
func describe(f protoreflect.FileDescriptor) []string {
	all := []string{
		fmt.Sprintf("syntax = %q", f.Syntax()),
		fmt.Sprintf("package %s", f.Package()),
		`option go_package = "github.com/rollcall-im/rollcall/codec/rollcallpb"`,
	}
	for i := range f.Enums().Len() {
		e := f.Enums().Get(i)
		all = append(all, fmt.Sprintf("enum %s", e.Name()))
		for j := range e.Values().Len() {
			v := e.Values().Get(j)
			all = append(all, fmt.Sprintf("enum %s: %s = %d", e.Name(), v.Name(), v.Number()))
		}
	}
	for i := range f.Messages().Len() {
		m := f.Messages().Get(i)
		all = append(all, fmt.Sprintf("message %s", m.Name()))
		for j := range m.Fields().Len() {
			fd := m.Fields().Get(j)
			all = append(all, fmt.Sprintf("message %s: %s%s %s = %d", m.Name(), repeated(fd), kind(fd), fd.Name(), fd.Number()))
		}
	}
	return all
}

func repeated(fd protoreflect.FieldDescriptor) string {
	if fd.IsList() {
		return "repeated "
	}
	return ""
}

func kind(fd protoreflect.FieldDescriptor) string {
	switch {
	case fd.Message() != nil:
		return string(fd.Message().Name())
	case fd.Enum() != nil:
		return string(fd.Enum().Name())
	}
	return fd.Kind().String()
}

// Our platforms are those of the enum, under the same numbers and names.
func TestPlatformsMatchEnum(t *testing.T) {
	values := rollcallpb.File_rollcall_proto.Enums().ByName("Platform").Values()
	if values.Len() != len(platformNames) {
		t.Fatalf("the enum has %d values, the table %d", values.Len(), len(platformNames))
	}
	for _, p := range Platforms() {
		v := values.ByNumber(protoreflect.EnumNumber(p))
		if v == nil {
			t.Errorf("platform %v: number %d is not in the enum", p, p)
			continue
		}
		if got := strings.ReplaceAll(string(v.Name()), "_", ""); !strings.EqualFold(got, p.String()) {
			t.Errorf("platform %d: the enum says %s, the table %v", p, v.Name(), p)
		}
	}
}

// Every frame with a body has a message of its name, and the other way round.
func TestFramesMatchMessages(t *testing.T) {
	messages := rollcallpb.File_rollcall_proto.Messages()
	bodies := map[protoreflect.Name]bool{"KickedInstance": true} // a part of LoginOK
	for _, info := range Frames {
		if info.Body && messages.ByName(protoreflect.Name(info.Name)) == nil {
			t.Errorf("frame %s has no message", info.Name)
		}
		bodies[protoreflect.Name(info.Name)] = info.Body
	}
	for i := range messages.Len() {
		if name := messages.Get(i).Name(); !bodies[name] {
			t.Errorf("message %s is no frame's body", name)
		}
	}
}
