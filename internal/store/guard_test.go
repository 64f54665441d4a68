package store

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// files is what the store's directory holds, but for the lock.
func files(t testing.TB, fs vfs.FS) map[string]string {
	t.Helper()
	names, err := fs.List("store")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for _, name := range names {
		if name == "LOCK" {
			continue
		}
		f, err := fs.Open("store/" + name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err := errors.Join(err, f.Close()); err != nil {
			t.Fatal(err)
		}
		all[name] = string(b)
	}
	return all
}

func writeFile(t testing.TB, fs vfs.FS, name, content string) {
	t.Helper()
	f, err := fs.Create("store/"+name, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.Write([]byte(content))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// disk is a disk with these files of a store.
func disk(t testing.TB, all map[string]string) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("store", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range all {
		writeFile(t, fs, name, content)
	}
	return fs
}

func flip(s string, at int) string {
	b := []byte(s)
	b[at] ^= 0x40
	return string(b)
}

// read opens a store and returns what it holds.
func read(t testing.TB, fs vfs.FS) (string, error) {
	t.Helper()
	s, err := Open(small(Options{FS: fs, Ballast: -1}))
	if err != nil {
		return "", err
	}
	var all []string
	err = s.Scan([]byte{PrefixUsers}, nil, func(k, v []byte) bool {
		all = append(all, string(k)+"="+string(v))
		return true
	})
	if cerr := s.Close(); err == nil && cerr != nil {
		t.Errorf("Close: %v", cerr)
	}
	return strings.Join(all, " "), err
}

// TestEveryFile removes, cuts short and alters each file of a store in turn. The
// store then gives all back, or is refused in one line that says what to do, and
// is whole again when the file is put back.
func TestEveryFile(t *testing.T) {
	for name, whole := range map[string]map[string]string{"running": files(t, filled(t, 400)), "copy": files(t, copied(t, filled(t, 300)))} {
		want, err := read(t, disk(t, whole))
		if err != nil || strings.Count(want, "=") != 400 {
			t.Fatalf("%d users, %v", strings.Count(want, "="), err)
		}
		for file, content := range whole {
			for what, damaged := range damages(whole, file) {
				t.Run(name+"/"+file+"/"+what, func(t *testing.T) {
					// What ends early looks like a write that a crash cut off.
					mayEndEarly := isLog(file) && strings.HasPrefix(what, "cut")
					spoilt(t, disk(t, damaged), file, content, want, mayEndEarly)
				})
			}
		}
	}
}

// damages are the files of a store with one of them damaged, by what was done to it.
func damages(whole map[string]string, file string) map[string]map[string]string {
	all := map[string]map[string]string{}
	with := func(what, content string) {
		all[what] = maps.Clone(whole)
		all[what][file] = content
	}
	with("removed", "")
	delete(all["removed"], file)
	content := whole[file]
	for cut := range 8 {
		if len(content) > 0 {
			with(fmt.Sprintf("cut to %d of 8", cut), content[:len(content)*cut/8])
			with(fmt.Sprintf("altered at %d of 8", cut), flip(content, len(content)*cut/8))
		}
	}
	return all
}

// TestRepairEveryFile: what is refused can be repaired, or nothing is changed and a
// backup is asked for. A repair says that something is lost if that is so.
func TestRepairEveryFile(t *testing.T) {
	whole := files(t, filled(t, 400))
	for file := range whole {
		for what, damaged := range damages(whole, file) {
			if !strings.ContainsAny(strings.TrimSuffix(what, " of 8"), "v047") { // removed, and some of the others
				continue
			}
			t.Run(file+"/"+what, func(t *testing.T) {
				fs := disk(t, damaged)
				got, err := Repair(fs, "store", "aside", sound)
				if err != nil {
					if !strings.Contains(err.Error(), "restore a backup") || !reflect.DeepEqual(files(t, fs), damaged) {
						t.Errorf("a repair that failed: %v", err)
					}
					if strings.HasSuffix(file, ".sst") || isLog(file) || strings.HasPrefix(file, "OPTIONS") || file == noteFile {
						t.Errorf("%s is not beyond repair: %v", file, err)
					}
					return
				}
				text, err := read(t, fs)
				left := strings.Count(text, "=")
				if err != nil {
					t.Errorf("what was repaired: %v", err)
				}
				ended := isLog(file) && strings.HasPrefix(what, "cut")
				if left < 400 && len(got.Lost) == 0 && !ended {
					t.Errorf("%d of 400 users are left, and nothing is said to be lost", left)
				}
				// A table has 100 users; a damaged block costs the users in it.
				least := 300
				if strings.HasSuffix(file, ".sst") && strings.HasPrefix(what, "altered") && !strings.HasSuffix(what, "7 of 8") {
					least = 370
				}
				if left < least && !strings.HasPrefix(file, "MANIFEST") {
					t.Errorf("%d of 400 users are left: %+v", left, got.Lost)
				}
			})
		}
	}
}

// copied is a disk with a copy of a store in its place.
func copied(t *testing.T, fs vfs.FS) vfs.FS {
	s, err := Open(small(Options{FS: fs, Ballast: -1}))
	if err != nil {
		t.Fatal(err)
	}
	for i := 300; i < 400; i++ { // so that there is something in its log
		mustCommit(t, s, set(fmt.Sprintf("u%04d", i), "v"))
	}
	err = s.Checkpoint("copy")
	if err := errors.Join(err, s.Close(), fs.Rename("store", "before"), fs.Rename("copy", "store")); err != nil {
		t.Fatal(err)
	}
	return fs
}

func spoilt(t *testing.T, fs vfs.FS, file, content, want string, mayEndEarly bool) {
	before := files(t, fs)
	s, err := Open(small(Options{FS: fs, Ballast: -1}))
	if err != nil {
		// A block of a table may be read in the background only, when the log is flushed.
		if after := files(t, fs); !reflect.DeepEqual(before, after) && !(strings.HasSuffix(file, ".sst") && len(before[file]) == len(content)) {
			t.Error("what was refused was changed")
		}
	} else {
		if err := s.Close(); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("Close: %v", err)
		}
		var got string
		if got, err = read(t, fs); err == nil {
			if got != want && !(mayEndEarly && strings.HasPrefix(want, got)) {
				t.Errorf("%d of 400 users are there, and nobody said a word", strings.Count(got, "="))
			}
			return
		}
	}
	if text := err.Error(); !strings.Contains(text, "restore a backup") || !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrTooNew) || strings.Contains(text, "\n") || strings.Contains(text, "carrier") || len(text) > 450 {
		t.Errorf("the error is %d bytes long: %v", len(text), err)
	}
	writeFile(t, fs, file, content)
	if got, err := read(t, fs); got != want {
		t.Errorf("with the file put back %d of 400 users are there, %v", strings.Count(got, "="), err)
	}
}

// A folder with anything in it that is not a store is left alone.
func TestNoStoreInAFolderInUse(t *testing.T) {
	for _, there := range []map[string]string{{"letters.txt": "dear"}, {"000022.sst": "", "LOCK": ""}} {
		fs := disk(t, there)
		before := files(t, fs)
		_, err := Open(small(Options{FS: fs}))
		if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), "move the folder away") {
			t.Errorf("Open: %v", err)
		}
		if !reflect.DeepEqual(before, files(t, fs)) {
			t.Error("it was changed")
		}
	}
	open(t, Options{FS: disk(t, map[string]string{"LOCK": "", ballastFile: "", probeFile: ""})})
}

// crasher takes a copy of the disk, as a power loss leaves it, before the n-th write.
type crasher struct {
	n     atomic.Int64
	clone func()
}

func (c *crasher) MaybeError(op errorfs.Op) error {
	if op.Kind.ReadOrWrite() == errorfs.OpIsWrite && c.n.Add(-1) == 0 {
		c.clone()
	}
	return nil
}

func (c *crasher) String() string { return "crasher" }

// A power loss at any moment of an opening, the first included, does not make the
// store one that is refused.
func TestPowerLossWhileOpening(t *testing.T) {
	for _, keys := range []int{0, 40} {
		for at := int64(1); ; at++ {
			mem := vfs.NewCrashableMem()
			if keys > 0 {
				s, err := Open(small(Options{FS: mem}))
				if err != nil {
					t.Fatal(err)
				}
				for i := range keys {
					mustCommit(t, s, set(fmt.Sprintf("u%04d", i), "v"))
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
			}
			seed := rand.Uint64()
			rng := rand.New(rand.NewPCG(seed, uint64(at)))
			var clone vfs.FS
			c := &crasher{clone: func() { clone = mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng}) }}
			c.n.Store(at)
			s, err := Open(small(Options{FS: errorfs.Wrap(mem, c)}))
			if err != nil {
				t.Fatal(err)
			}
			left := c.n.Load()
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if left > 0 {
				if at < 10 {
					t.Fatalf("an opening has only %d writes", at)
				}
				break
			}
			if got, err := read(t, clone); err != nil || strings.Count(got, "=") != keys {
				t.Errorf("cut off before write %d (seed %d): %d of %d users, %v", at, seed, strings.Count(got, "="), keys, err)
			}
		}
	}
}
