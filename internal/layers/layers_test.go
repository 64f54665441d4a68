// Package layers holds the import graph: packages import downwards only.
package layers

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/rollcall-im/rollcall/"

// layer is the level of each package; a package imports packages of lower levels only.
var layer = map[string]int{
	"codec": 0, "codec/mqtt": 0, "codec/rollcallpb": 0, "codec/ws": 0, "codec/jsonmsg": 0, "shard": 0, "internal/presence": 0, "internal/wheel": 0,
	"internal/admission": 0, "internal/usersig": 0, "internal/ticket": 0, "internal/clock": 0, "internal/buildinfo": 0, "internal/layers": 0,
	"codec/proxy": 0, "internal/storm": 0,

	"bench/ledger": 1, "bench/attack": 1,
	"internal/directory": 1, "internal/directory/directorytest": 1, "internal/config": 1,
	"internal/metrics": 1, "internal/store": 1, "sdk/go": 1, "bench": 1,
	"internal/tlslink": 1, "internal/certs": 1,

	"engine": 2, "internal/embedded": 2, "internal/webhook": 2,

	"internal/api": 3, "engine/enginetest": 3,

	"cmd/rollcall": 4, "cmd/rollcall-bench": 4,
}

// sideways lists the imports within a layer that are allowed.
var sideways = map[string][]string{
	"codec/mqtt":                       {"codec"}, // the messages that its packets carry
	"shard":                            {"internal/presence"},
	"codec/jsonmsg":                    {"codec"}, // the same messages in another form
	"internal/store":                   {"internal/metrics"},
	"internal/tlslink":                 {"internal/metrics"},
	"internal/certs":                   {"internal/metrics"},
	"internal/config":                  {"internal/directory"}, // the bounds of an app's settings
	"internal/directory/directorytest": {"internal/directory"},
	"bench/attack":                     {"bench"},
	"bench/ledger":                     {"bench"}, // a scenario with a package of its own: it gives a bench.Result
}

// only lists, for packages that must stay strangers to the rest, all they may import of ours.
var only = map[string][]string{
	"sdk/go":       {"codec"},
	"bench":        {"codec", "codec/ws", "codec/jsonmsg", "codec/mqtt", "internal/usersig"},
	"bench/ledger": {"codec", "internal/usersig", "bench"},
	"bench/attack": {"codec", "internal/usersig", "bench"},
}

// homes lists the packages that may name a library.
var homes = map[string][]string{
	"github.com/mochi-mqtt":         {"codec/mqtt"},
	"github.com/panjf2000/gnet/v2":  {"engine"},
	"github.com/valyala/fasthttp":   {"internal/api", "internal/webhook", "bench"},
	"github.com/cespare/xxhash/v2":  {"shard", "internal/embedded"},
	"github.com/prometheus":         {"internal/metrics"},
	"github.com/cockroachdb/pebble": {"internal/store"},
	"github.com/gobwas/ws":          {"codec/ws"},
}

// source is one Go file of the module.
type source struct {
	file, pkg string
	test      bool
	imports   []string
}

func TestImportsPointDown(t *testing.T) {
	for _, s := range sources(t) {
		level, known := layer[s.pkg]
		if !known {
			t.Errorf("%s: package %q has no layer; give it one in this test and in docs/ARCHITECTURE.md", s.file, s.pkg)
			continue
		}
		for _, path := range s.imports {
			if own, ok := strings.CutPrefix(path, module); ok {
				checkOwn(t, s, level, own)
			} else if !s.test {
				checkLibrary(t, s, path)
			}
		}
	}
}

// checkOwn judges an import of one of our packages. Tests may look sideways, never up, and
// a package's own external test may import it.
func checkOwn(t *testing.T, s source, level int, own string) {
	t.Helper()
	to, known := layer[own]
	switch {
	case own == s.pkg && s.test:
	case !known:
		t.Errorf("%s imports %q, which has no layer", s.file, own)
	case only[s.pkg] != nil && !s.test && !slices.Contains(only[s.pkg], own):
		t.Errorf("%s imports %q; %s may import only %v of ours", s.file, own, s.pkg, only[s.pkg])
	case to > level:
		t.Errorf("%s (layer %d) imports %q (layer %d): imports point down", s.file, level, own, to)
	case to == level && !s.test && !slices.Contains(sideways[s.pkg], own):
		t.Errorf("%s imports %q of its own layer %d", s.file, own, level)
	}
}

func checkLibrary(t *testing.T, s source, path string) {
	t.Helper()
	for lib, pkgs := range homes {
		if (path == lib || strings.HasPrefix(path, lib+"/")) && !slices.Contains(pkgs, s.pkg) {
			t.Errorf("%s imports %s, which belongs in %v only", s.file, path, pkgs)
		}
	}
}

// TestOneFileNamesGnet keeps the reactor replaceable.
func TestOneFileNamesGnet(t *testing.T) {
	var files []string
	for _, s := range sources(t) {
		if slices.ContainsFunc(s.imports, func(p string) bool { return strings.HasPrefix(p, "github.com/panjf2000/gnet") }) && !s.test {
			files = append(files, s.file)
		}
	}
	if len(files) != 1 {
		t.Errorf("files that import gnet: %v, want exactly one", files)
	}
}

// TestTopLevel keeps the layout of folders.
func TestTopLevel(t *testing.T) {
	for pkg := range layer {
		top, _, _ := strings.Cut(pkg, "/")
		if !slices.Contains([]string{"cmd", "engine", "codec", "shard", "bench", "internal", "sdk"}, top) {
			t.Errorf("package %q stands outside the layout", pkg)
		}
	}
}

// sources parses the imports of every Go file below the module's root. Nested modules are left out.
func sources(t *testing.T) []source {
	t.Helper()
	const root = "../.."
	var all []source
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipDir(root, path, d)
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		s, err := parse(root, path)
		all = append(all, s)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 30 {
		t.Fatalf("found only %d Go files: is the root right?", len(all))
	}
	return all
}

func skipDir(root, path string, d fs.DirEntry) error {
	name := d.Name()
	if path == root {
		return nil
	}
	if name == "testdata" || name == "node_modules" || name[0] == '.' {
		return fs.SkipDir
	}
	if m, _ := filepath.Glob(filepath.Join(path, "go.mod")); len(m) > 0 {
		return fs.SkipDir
	}
	return nil
}

func parse(root, path string) (source, error) {
	f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
	if err != nil {
		return source{}, err
	}
	rel, err := filepath.Rel(root, path)
	s := source{file: rel, pkg: filepath.ToSlash(filepath.Dir(rel)), test: strings.HasSuffix(path, "_test.go")}
	for _, imp := range f.Imports {
		p, _ := strconv.Unquote(imp.Path.Value)
		s.imports = append(s.imports, p)
	}
	return s, err
}
