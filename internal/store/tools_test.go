package store

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// filled is a disk with a store of n keys in several tables, and some more in its log.
func filled(t *testing.T, n int) vfs.FS {
	t.Helper()
	fs := vfs.NewMem()
	for part := range 4 { // each start writes a table of what was in the log
		s, err := Open(small(Options{FS: fs}))
		if err != nil {
			t.Fatal(err)
		}
		for i := part * n / 4; i < (part+1)*n/4; i++ {
			mustCommit(t, s, set(fmt.Sprintf("u%04d", i), strings.Repeat(fmt.Sprint(i), 100)))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// damage flips a byte in the middle of the largest file that ends like that.
func damage(t *testing.T, fs vfs.FS, suffix string) {
	t.Helper()
	names, err := fs.List("store")
	if err != nil {
		t.Fatal(err)
	}
	largest, size := "", int64(0)
	for _, name := range names {
		info, err := fs.Stat("store/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, suffix) && info.Size() > size {
			largest, size = "store/"+name, info.Size()
		}
	}
	f, err := fs.Open(largest)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(f)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	b[len(b)/4] ^= 0x40
	to, err := fs.Create(largest, vfs.WriteCategoryUnspecified)
	if err != nil {
		t.Fatal(err)
	}
	_, err = to.Write(b)
	if err := errors.Join(err, to.Sync(), to.Close()); err != nil {
		t.Fatal(err)
	}
}

func sound(_, _ []byte) error { return nil }

func count(t *testing.T, fs vfs.FS) int {
	t.Helper()
	n := 0
	lower, upper := Bounds(PrefixUsers)
	if err := open(t, Options{FS: fs}).Scan(lower, upper, func(_, _ []byte) bool { n++; return true }); err != nil {
		t.Fatal(err)
	}
	return n
}

func TestVerify(t *testing.T) {
	fs := filled(t, 400)
	r, err := OpenReader(fs, "store")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReader(fs, "store"); !errors.Is(err, ErrLocked) {
		t.Errorf("a second reader: %v", err)
	}
	if n, err := r.Format(); n != Format || err != nil {
		t.Errorf("format %d, %v", n, err)
	}
	read := func() (n int) {
		for _, lost := range r.Walk(func(k, _ []byte) { n++ }) {
			t.Errorf("a sound store: %+v", lost)
		}
		return n
	}
	if n := read(); n != 401 || r.Fault != nil {
		t.Errorf("%d keys, %v", n, r.Fault)
	}
	if err := errors.Join(r.CheckLevels(), r.Close()); err != nil {
		t.Errorf("a sound store: %v", err)
	}
	damage(t, fs, ".sst")
	r, err = OpenReader(fs, "store")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	lost := r.Walk(func(_, _ []byte) { n++ })
	if len(lost) != 1 || !strings.Contains(lost[0].Why, ".sst") && !strings.Contains(lost[0].Why, "checksum") || n < 350 || n > 400 {
		t.Errorf("of a damaged table %d keys were read, lost is %+v", n, lost)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := OpenReader(fs, "elsewhere"); err == nil {
		t.Error("a store that is not there was opened")
	}
	if _, err := fs.Stat("elsewhere"); err == nil {
		t.Error("looking made a store")
	}
}

// A store whose log is damaged does not start, and says what to do.
func TestDamagedLog(t *testing.T) {
	fs := vfs.NewCrashableMem()
	s, err := Open(small(Options{FS: fs, MemTable: 4 << 20}))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 200 {
		mustCommit(t, s, set(fmt.Sprintf("u%04d", i), strings.Repeat("v", 1000)))
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damage(t, crashed, ".log")
	_, err = Open(small(Options{FS: crashed}))
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "rollcall store repair") || !strings.Contains(err.Error(), "rollcall store check") {
		t.Fatalf("Open: %v", err)
	}
	got, err := Repair(crashed, "store", "aside", sound)
	if err != nil || len(got.Lost) != 1 || !got.Lost[0].Newest || !strings.Contains(got.Lost[0].Why, ".log is damaged from byte") || got.Backup != "aside" {
		t.Fatalf("Repair: %+v, %v", got, err)
	}
	kept := content(t, open(t, Options{FS: crashed}))
	n := strings.Count(kept, "=")
	if n < 40 || n > 60 || !strings.Contains(kept, fmt.Sprintf("u%04d=", n-1)) {
		t.Errorf("%d of 200 are left of a log that is damaged at a quarter: %.100s", n, kept)
	}
}

func TestRepair(t *testing.T) {
	const n = 400
	fs := filled(t, n)
	damage(t, fs, ".sst")
	got, err := Repair(fs, "store", "aside", sound)
	if err != nil || len(got.Lost) == 0 {
		t.Fatalf("%+v, %v", got, err)
	}
	if kept := count(t, fs); kept >= n || kept < n/2 || kept != got.Keys-1 {
		t.Errorf("%d of %d users are left, %d keys were said to be kept", kept, n, got.Keys)
	}
	if _, err := fs.Stat("aside"); err != nil {
		t.Errorf("the damaged store is gone: %v", err)
	}
}

// A sound store loses nothing by a repair but the records that are not.
func TestRepairLeavesOutBadRecords(t *testing.T) {
	fs := filled(t, 40)
	got, err := Repair(fs, "store", "aside", func(key, _ []byte) error {
		if string(key) == "u0007" {
			return errors.New("it is odd")
		}
		return nil
	})
	if err != nil || len(got.Lost) != 1 || got.Lost[0].Why != `key "u0007": it is odd` {
		t.Errorf("%+v, %v", got, err)
	}
	if left := count(t, fs); left != 39 {
		t.Errorf("%d users are left", left)
	}
}

// A repair of a sound store changes nothing, and a second one in the same second has another name.
func TestRepairOfASoundStore(t *testing.T) {
	fs := filled(t, 40)
	before := files(t, fs)
	got, err := Repair(fs, "store", "aside", sound)
	if err != nil || len(got.Lost) != 0 || got.Backup != "" || got.Keys != 41 {
		t.Errorf("%+v, %v", got, err)
	}
	if !reflect.DeepEqual(files(t, fs), before) {
		t.Error("a sound store was changed")
	}
	for _, want := range []string{"aside", "aside-2"} {
		s, err := Open(small(Options{FS: fs}))
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, s, set("ua", "1"))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := Repair(fs, "store", "aside", func(k, _ []byte) error { return errors.New("it is odd") })
		if err != nil || got.Backup != want {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// A store that has lost its format, or has an odd one, can be opened after a repair.
func TestRepairOfTheFormat(t *testing.T) {
	for name, write := range map[string]func(Writer){
		"lost": func(w Writer) { w.Delete(keyFormat) },
		"odd":  func(w Writer) { w.Set(keyFormat, []byte("one")) },
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			s, err := Open(small(Options{FS: fs}))
			if err != nil {
				t.Fatal(err)
			}
			mustCommit(t, s, set("ua", "1"))
			mustCommit(t, s, write)
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			got, err := Repair(fs, "store", "aside", sound)
			if err != nil || got.Keys != 2 || len(got.Lost) != 1 || !strings.Contains(got.Lost[0].Why, "format") {
				t.Errorf("%+v, %v", got, err)
			}
			if got := content(t, open(t, Options{FS: fs})); got != "ua=1" {
				t.Errorf("the store holds %q", got)
			}
		})
	}
}
