package config

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxFaults is how many faults of a file's shape are told at once.
const maxFaults = 20

// shapeFaults explains in the words of the file why a document does not decode;
// the decoder's own errors speak of Go types. It is asked only about documents
// that the decoder has gone through, which refuses those whose aliases multiply.
type shapeFaults struct {
	file   string
	faults []error
}

func (s *shapeFaults) add(n *yaml.Node, format string, args ...any) {
	if len(s.faults) < maxFaults {
		s.faults = append(s.faults, fmt.Errorf("%s:%d: %w", s.file, n.Line, fmt.Errorf(format, args...)))
	}
}

// document looks at the whole file.
func (s *shapeFaults) document(root *yaml.Node) {
	if root.Kind != yaml.MappingNode {
		s.add(root, "want settings, one `name: value` a line")
		return
	}
	for key, value := range s.members("", root) {
		if key.Value == "apps" {
			s.value("apps", value, reflect.TypeFor[[]appEntry]())
			continue
		}
		if _, err := settingOf(fmt.Sprintf("%s:%d", s.file, key.Line), key, value); err != nil && len(s.faults) < maxFaults {
			s.faults = append(s.faults, err)
		}
	}
}

// members yields the keys and values of a mapping, and tells of repeated keys.
func (s *shapeFaults) members(where string, n *yaml.Node) func(func(key, value *yaml.Node) bool) {
	return func(yield func(key, value *yaml.Node) bool) {
		first := map[string]int{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			key := n.Content[i]
			if line, twice := first[key.Value]; twice {
				s.add(key, "%s%q is already given at line %d", where, key.Value, line)
				continue
			}
			first[key.Value] = key.Line
			if !yield(key, n.Content[i+1]) {
				return
			}
		}
	}
}

// value holds n to the Go type it is decoded into. The recursion is as deep as the type.
func (s *shapeFaults) value(where string, n *yaml.Node, t reflect.Type) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Tag == "!!null" {
		return // is the zero value
	}
	switch t.Kind() {
	case reflect.Slice:
		if n.Kind != yaml.SequenceNode {
			s.add(n, "%s: want a list", where)
			return
		}
		for _, item := range n.Content {
			s.value(where, item, t.Elem())
		}
	case reflect.Map:
		if n.Kind != yaml.MappingNode {
			s.add(n, "%s: want members, like {Web: 3}", where)
			return
		}
		for key, item := range s.members(where+": ", n) {
			s.value(where+": "+key.Value, item, t.Elem())
		}
	case reflect.Struct:
		s.structure(where, n, t)
	default:
		s.scalar(where, n, t)
	}
}

func (s *shapeFaults) structure(where string, n *yaml.Node, t reflect.Type) {
	fields, names := fieldsOf(t)
	if n.Kind != yaml.MappingNode {
		s.add(n, "%s: want members: %s", where, strings.Join(names, ", "))
		return
	}
	for key, value := range s.members(where+": ", n) {
		field, ok := fields[key.Value]
		if !ok {
			s.add(key, "%s: unknown member %q, want one of %s", where, key.Value, strings.Join(names, ", "))
			continue
		}
		s.value(where+": "+key.Value, value, field)
	}
}

// fieldsOf returns the members of a struct by their names in the file, and the names in order.
func fieldsOf(t reflect.Type) (map[string]reflect.Type, []string) {
	fields := map[string]reflect.Type{}
	var names []string
	for i := range t.NumField() {
		if name := t.Field(i).Tag.Get("yaml"); name != "" {
			fields[name] = t.Field(i).Type
			names = append(names, name)
		}
	}
	return fields, names
}

// scalar shows the value only where a number is wanted: others may be secrets.
func (s *shapeFaults) scalar(where string, n *yaml.Node, t reflect.Type) {
	if n.Kind != yaml.ScalarNode {
		s.add(n, "%s: want a single value", where)
		return
	}
	var err error
	var want string
	switch t.Kind() {
	case reflect.Uint32:
		_, err = strconv.ParseUint(n.Value, 0, 32)
		want = "0 to 4294967295"
	case reflect.Int:
		_, err = strconv.Atoi(n.Value)
		want = "whole"
	}
	if err != nil {
		s.add(n, "%s %q: want a number, %s", where, n.Value, want)
	}
}

// explain returns what is wrong with a file that the decoder refused for its shape.
func explain(file string, data []byte, decode *yaml.TypeError) error {
	var root yaml.Node
	s := &shapeFaults{file: file}
	if yaml.Unmarshal(data, &root) == nil && len(root.Content) > 0 {
		s.document(root.Content[0])
	}
	if len(s.faults) == 0 { // the decoder is stricter than we are: its words are better than none
		return fmt.Errorf("%s: %s", file, strings.Join(decode.Errors, "; "))
	}
	return errors.Join(s.faults...)
}
