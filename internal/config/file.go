package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// maxFile is the largest YAML file, in bytes.
const maxFile = 1 << 20

// document is the YAML file as far as its shape is fixed; KnownFields holds the
// apps to it, the other keys are held to the table.
type document struct {
	Apps []appEntry           `yaml:"apps"`
	Rest map[string]yaml.Node `yaml:",inline"`
}

// parseFile returns the settings and apps of a YAML file. Unknown and repeated
// keys are errors; every error has its line.
func parseFile(name string, data []byte) (map[string]given, []appEntry, error) {
	if len(data) > maxFile {
		return nil, nil, fmt.Errorf("%s: the config file has %d bytes, at most %d are allowed", name, len(data), maxFile)
	}
	var doc document
	err := decodeStrict(data, &doc)
	var shape *yaml.TypeError
	if errors.As(err, &shape) {
		return nil, nil, explain(name, data, shape)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", name, err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(data, &root); err != nil || len(root.Content) == 0 {
		return nil, nil, err // an empty file; a faulty one did not get here
	}
	out := map[string]given{}
	var faults []error
	pairs := root.Content[0].Content
	for i := 0; i+1 < len(pairs); i += 2 {
		key, value := pairs[i], pairs[i+1]
		where := fmt.Sprintf("%s:%d", name, key.Line)
		if key.Value == "apps" {
			placeApps(where, name, doc.Apps, value)
			continue
		}
		g, err := settingOf(where, key, value)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		out[key.Value] = g
	}
	return out, doc.Apps, errors.Join(faults...)
}

func decodeStrict(data []byte, doc *document) error {
	dec := yaml.NewDecoder(bytes.NewReader(data))
	dec.KnownFields(true)
	if err := dec.Decode(doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return errors.New("the config file holds more than one YAML document")
	}
	return nil
}

func settingOf(where string, key, value *yaml.Node) (given, error) {
	s := findSetting(key.Value)
	switch {
	case s == nil:
		return given{}, fmt.Errorf("%s: unknown setting %q", where, key.Value)
	case s.name == "config":
		return given{}, fmt.Errorf("%s: config cannot be set in the config file", where)
	case value.Kind == yaml.AliasNode:
		value = value.Alias
	}
	if value.Kind != yaml.ScalarNode || value.Tag == "!!null" {
		return given{}, fmt.Errorf("%s: %s: want a single value", where, s.name)
	}
	return given{text: value.Value, source: where, where: where + ": " + s.name}, nil
}

// placeApps tells each app where it stands in the file.
func placeApps(where, name string, apps []appEntry, list *yaml.Node) {
	if list.Kind == yaml.AliasNode {
		list = list.Alias
	}
	for i := range apps {
		apps[i].where = where
		if i < len(list.Content) {
			apps[i].where = fmt.Sprintf("%s:%d", name, list.Content[i].Line)
		}
	}
}
