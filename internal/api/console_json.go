package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
)

// decode reads the body, one JSON object, into v, a pointer to a struct. An
// operator's typing mistake must not pass for a setting left alone, so it is
// stricter than encoding/json: unknown members, members in other letters,
// repeated members and null are errors.
func (c *consoleCall) decode(v any) error {
	dec := json.NewDecoder(bytes.NewReader(c.body))
	dec.UseNumber()
	if err := checkValue(dec, reflect.TypeOf(v).Elem(), "the body"); err != nil {
		return err
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return badRequest("the body goes on after its JSON object")
	}
	return typeFault(json.Unmarshal(c.body, v))
}

// typeFault words an error of encoding/json.
func typeFault(err error) error {
	var t *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &t):
		return badRequest("%s: got %s, want %s", t.Field, t.Value, typeName(t.Type))
	}
	return badRequest("the body is not JSON: %s", err)
}

// typeName is the JSON word, with bounds where a number has them.
func typeName(t reflect.Type) string {
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Bool:
		return "true or false"
	case reflect.Slice:
		return "an array"
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Uint32:
		return "a whole number from 0 to 4294967295"
	case reflect.Float64:
		return "a number"
	}
	return "a whole number"
}

// checkValue reads the next value and holds the members of its objects to t. A
// value of another kind than t's is left to encoding/json, but the outermost.
// Its depth is bounded by that of t: what t does not describe is skipped flat.
func checkValue(dec *json.Decoder, t reflect.Type, where string) error {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	token, err := dec.Token()
	if err != nil {
		return badRequest("the body is not JSON: %s", err)
	}
	switch {
	case token == nil:
		return badRequest("%s must not be null", where)
	case token == json.Delim('{') && (t.Kind() == reflect.Struct || t.Kind() == reflect.Map):
		return checkMembers(dec, t, where)
	case where == "the body":
		return badRequest("the body must be a JSON object")
	case token == json.Delim('[') && t.Kind() == reflect.Slice:
		return checkElements(dec, t.Elem(), where)
	case token == json.Delim('{'), token == json.Delim('['):
		return skip(dec)
	}
	return nil
}

func checkMembers(dec *json.Decoder, t reflect.Type, where string) error {
	seen := map[string]bool{}
	for dec.More() {
		token, err := dec.Token()
		if err != nil {
			return badRequest("the body is not JSON: %s", err)
		}
		name, _ := token.(string) // the decoder lets nothing else pass here
		if seen[name] {
			return badRequest("member %q stands twice in %s", name, where)
		}
		seen[name] = true
		member, known := memberType(t, name)
		if !known {
			return badRequest("unknown member %q in %s, it may have %s", name, where, strings.Join(memberNames(t), ", "))
		}
		if err := checkValue(dec, member, name); err != nil {
			return err
		}
	}
	return closing(dec)
}

func checkElements(dec *json.Decoder, t reflect.Type, where string) error {
	for dec.More() {
		if err := checkValue(dec, t, "an element of "+where); err != nil {
			return err
		}
	}
	return closing(dec)
}

// skip reads to the end of an array or object that was begun.
func skip(dec *json.Decoder) error {
	for depth := 1; depth > 0; {
		token, err := dec.Token()
		if err != nil {
			return badRequest("the body is not JSON: %s", err)
		}
		switch token {
		case json.Delim('{'), json.Delim('['):
			depth++
		case json.Delim('}'), json.Delim(']'):
			depth--
		}
	}
	return nil
}

func closing(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return badRequest("the body is not JSON: %s", err)
	}
	return nil
}

// memberType returns the type of an object's member. Member names are those of
// the Go fields; a map takes every name.
func memberType(t reflect.Type, name string) (reflect.Type, bool) {
	if t.Kind() == reflect.Map {
		return t.Elem(), true
	}
	f, ok := t.FieldByName(name)
	return f.Type, ok
}

func memberNames(t reflect.Type) []string {
	var names []string
	for i := range t.NumField() {
		names = append(names, t.Field(i).Name)
	}
	return names
}

// assign sets a setting that the caller named; one that is absent stays.
func assign[T any](dst *T, given *T) {
	if given != nil {
		*dst = *given
	}
}

func contains(all []string, s string) bool { return slices.Contains(all, s) }
