package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// open opens a store in memory that is closed at the end of the test.
func open(t testing.TB, o Options) *Store {
	t.Helper()
	s, err := Open(small(o))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return s
}

// small fills in what most tests want: a store in memory with small memtables.
func small(o Options) Options {
	if o.Dir == "" {
		o.Dir = "store"
	}
	if o.FS == nil {
		o.FS = vfs.NewMem()
	}
	setDefault(&o.MemTable, 128<<10)
	setDefault(&o.Cache, 1<<20)
	return o
}

// commit commits and waits.
func commit(t testing.TB, s *Store, write func(Writer)) error {
	t.Helper()
	done := make(chan error, 1)
	s.Commit(write, func(err error) { done <- err })
	return wait(t, done)
}

func wait(t testing.TB, done <-chan error) error {
	t.Helper()
	select {
	case err := <-done:
		return err
	case <-time.After(30 * time.Second):
		t.Fatal("no done after 30 s")
		return nil
	}
}

func set(key, value string) func(Writer) {
	return func(w Writer) { w.Set([]byte(key), []byte(value)) }
}

func mustCommit(t testing.TB, s *Store, write func(Writer)) {
	t.Helper()
	if err := commit(t, s, write); err != nil {
		t.Fatalf("commit: %v", err)
	}
}

// await waits for a condition.
func await(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(30 * time.Second); !cond(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}

// content is all of the store but what is its own, as "key=value" in order.
func content(t testing.TB, s *Store) string {
	t.Helper()
	var all []string
	err := s.Scan(nil, nil, func(k, v []byte) bool {
		if k[0] != PrefixMeta {
			all = append(all, string(k)+"="+string(v))
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(all, " ")
}

func TestWhatIsCommittedStays(t *testing.T) {
	fs := vfs.NewMem()
	s, err := Open(small(Options{FS: fs}))
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, func(w Writer) {
		w.Set([]byte("ub"), []byte("1"))
		w.Set([]byte("ua"), []byte("2"))
		w.Set([]byte("uc"), nil)
	})
	mustCommit(t, s, func(w Writer) { w.Delete([]byte("ub")) })
	if v, ok, err := s.Get([]byte("ua")); string(v) != "2" || !ok || err != nil {
		t.Errorf("Get: %q %t %v", v, ok, err)
	}
	if _, ok, err := s.Get([]byte("ub")); ok || err != nil {
		t.Errorf("Get of a deleted key: %t %v", ok, err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	again := open(t, Options{FS: fs})
	if got := content(t, again); got != "ua=2 uc=" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestScanBounds(t *testing.T) {
	s := open(t, Options{})
	mustCommit(t, s, func(w Writer) {
		for _, k := range []string{"a1", "u", "u1", "u2", "u\xff", "v"} {
			w.Set([]byte(k), nil)
		}
	})
	for _, c := range []struct {
		prefix, want string
		stop         int
	}{{"u", "u u1 u2 u\xff", 9}, {"u\xff", "u\xff", 9}, {"b", "", 9}, {"u", "u u1", 2}} {
		var got []string
		lower, upper := Bounds([]byte(c.prefix)...)
		err := s.Scan(lower, upper, func(k, _ []byte) bool {
			got = append(got, string(k))
			return len(got) < c.stop
		})
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("prefix %q: %q, %v; want %q", c.prefix, got, err, c.want)
		}
	}
	if _, upper := Bounds(0xff, 0xff); upper != nil {
		t.Errorf("upper bound of the highest prefix: %q", upper)
	}
}

// The dones come in the order of the Commits, whoever the group they went into.
func TestOrder(t *testing.T) {
	s := open(t, Options{MaxGroup: 7})
	var mu sync.Mutex
	var told []int
	const n = 1000
	all := make(chan error, 1)
	for i := range n {
		s.Commit(set(fmt.Sprintf("u%04d", i), ""), func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if told = append(told, i); err != nil || len(told) == n {
				all <- err
			}
		})
	}
	if err := wait(t, all); err != nil {
		t.Fatal(err)
	}
	for i := range told {
		if told[i] != i {
			t.Fatalf("done number %d is that of commit %d", i, told[i])
		}
	}
	if got := s.meters.commits.Get(); got != n {
		t.Errorf("%d commits counted", got)
	}
	if got := s.meters.groups.Get(); got < n/7 || got > n {
		t.Errorf("%d groups of at most 7", got)
	}
}

// A done may commit, and Commit from many goroutines is as good as from one.
func TestCommitFromDone(t *testing.T) {
	s := open(t, Options{})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Add(1)
		var next func(left int)
		next = func(left int) {
			if left == 0 {
				wg.Done()
				return
			}
			s.Commit(set(fmt.Sprintf("u%d", i), fmt.Sprint(left)), func(err error) {
				if err != nil {
					t.Error(err)
				}
				next(left - 1)
			})
		}
		next(100)
	}
	wg.Wait()
	if got, want := content(t, s), "u0=1 u1=1 u2=1 u3=1 u4=1 u5=1 u6=1 u7=1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// blocked is a store whose committer waits in the write of a submission.
func blocked(t *testing.T, o Options) (s *Store, release func()) {
	s = open(t, o)
	inside, gate := make(chan struct{}), make(chan struct{})
	s.Commit(func(Writer) { close(inside); <-gate }, func(error) {})
	<-inside
	return s, sync.OnceFunc(func() { close(gate) })
}

func TestFullQueueRefuses(t *testing.T) {
	const most = 3
	s, release := blocked(t, Options{MaxQueued: most})
	defer release()
	var told []error
	for range most {
		s.Commit(set("ua", ""), func(err error) { told = append(told, err) })
	}
	if len(told) != 0 || s.Health().Queued != most {
		t.Fatalf("told %v, %d queued", told, s.Health().Queued)
	}
	busy := make(chan error, 1)
	s.Commit(set("ub", ""), func(err error) { busy <- err })
	if err := wait(t, busy); !errors.Is(err, ErrBusy) {
		t.Errorf("one above the bound: %v", err)
	}
	if got := s.meters.busy.Get(); got != 1 {
		t.Errorf("%d counted", got)
	}
	release()
	await(t, "the queue is empty", func() bool { return s.Health().Queued == 0 })
	mustCommit(t, s, set("uc", ""))
	if got := content(t, s); got != "ua= uc=" {
		t.Errorf("the store holds %q", got)
	}
}

// Close ends what was submitted before it; what comes later is refused.
func TestCloseCommitsTheRest(t *testing.T) {
	fs := vfs.NewMem()
	s, err := Open(small(Options{FS: fs}))
	if err != nil {
		t.Fatal(err)
	}
	inside, gate := make(chan struct{}), make(chan struct{})
	s.Commit(func(Writer) { close(inside); <-gate }, func(error) {})
	<-inside
	told := make(chan error, 1)
	s.Commit(set("ua", "1"), func(err error) { told <- err })
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	await(t, "the queue is closed", func() bool {
		s.queue.mu.Lock()
		defer s.queue.mu.Unlock()
		return s.queue.closed
	})
	late := make(chan error, 1)
	s.Commit(set("ub", "1"), func(err error) { late <- err })
	if err := wait(t, late); !errors.Is(err, ErrClosed) {
		t.Errorf("a late commit: %v", err)
	}
	close(gate)
	if err := wait(t, told); err != nil {
		t.Errorf("an early commit: %v", err)
	}
	if err := wait(t, closed); err != nil {
		t.Errorf("Close: %v", err)
	}
	if _, _, err := s.Get([]byte("ua")); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v", err)
	}
	if got := content(t, open(t, Options{FS: fs})); got != "ua=1" {
		t.Errorf("after a restart: %q", got)
	}
}

func TestTwoOpenersAreKeptApart(t *testing.T) {
	for name, o := range map[string]Options{"memory": {FS: vfs.NewMem()}, "disk": {FS: vfs.Default, Dir: t.TempDir(), MinFree: -1, Ballast: -1}} {
		t.Run(name, func(t *testing.T) {
			open(t, o)
			if _, err := Open(small(o)); !errors.Is(err, ErrLocked) {
				t.Errorf("a second Open: %v", err)
			}
		})
	}
}

func TestFormats(t *testing.T) {
	write := func(fs vfs.FS, key, value string) {
		s, err := Open(small(Options{FS: fs}))
		if err != nil {
			t.Fatal(err)
		}
		mustCommit(t, s, set(key, value))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		value string
		want  error
		text  string
	}{
		"present": {fmt.Sprint(Format), nil, ""},
		"later":   {fmt.Sprint(Format + 1), ErrTooNew, "its format is 2 and this version knows formats up to 1"},
		"odd":     {"one", ErrCorrupt, `its format is "one"`},
		"zero":    {"0", ErrCorrupt, `its format is "0"`},
	} {
		t.Run(name, func(t *testing.T) {
			fs := vfs.NewMem()
			write(fs, string(keyFormat), c.value)
			s, err := Open(small(Options{FS: fs}))
			if err == nil {
				err = s.Close()
			}
			if !errors.Is(err, c.want) || c.text != "" && !strings.Contains(err.Error(), c.text) {
				t.Errorf("%v, want %v %s", err, c.want, c.text)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		fs := vfs.NewMem()
		db, err := pebble.Open("store", &pebble.Options{FS: fs, FormatMajorVersion: pebbleFormat, Logger: silent{}})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(db.Set([]byte("ua"), nil, pebble.Sync), db.Close()); err != nil {
			t.Fatal(err)
		}
		if _, err := Open(small(Options{FS: fs})); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a store with keys and no format: %v", err)
		}
	})
	t.Run("of Pebble", func(t *testing.T) {
		fs := vfs.NewMem()
		write(fs, "ua", "")
		names, err := fs.List("store")
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasPrefix(name, "marker.format-version.") {
				head := name[:strings.LastIndex(name, ".")]
				if err := fs.Rename("store/"+name, "store/"+head+".999"); err != nil {
					t.Fatal(err)
				}
			}
		}
		if _, err := Open(small(Options{FS: fs})); !errors.Is(err, ErrTooNew) {
			t.Errorf("files of a later Pebble: %v", err)
		}
	})
}

type silent struct{}

func (silent) Infof(string, ...any)  {}
func (silent) Errorf(string, ...any) {}
func (silent) Fatalf(string, ...any) {}

func TestOptions(t *testing.T) {
	for _, o := range []Options{
		{}, {Dir: "d", MaxGroup: -1}, {Dir: "d", MaxQueued: -1}, {Dir: "d", OpenFiles: 15},
		{Dir: "d", Interval: -1}, {Dir: "d", GroupDelay: -1}, {Dir: "d", CheckEvery: -1},
	} {
		o.FS = vfs.NewMem()
		if s, err := Open(o); err == nil {
			t.Errorf("%+v was accepted", o)
			s.Close()
		}
	}
}

// A checkpoint has what was acknowledged before it, and is a store itself.
func TestCheckpoint(t *testing.T) {
	fs := vfs.NewMem()
	s := open(t, Options{FS: fs})
	for i := range 500 {
		mustCommit(t, s, set(fmt.Sprintf("u%03d", i), strings.Repeat("x", 1000)))
	}
	before := content(t, s)
	if err := s.Checkpoint("copy"); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, set("v", "later"))
	if err := s.Checkpoint("copy"); err == nil {
		t.Error("a directory that exists was taken")
	}
	if got := content(t, open(t, Options{FS: fs, Dir: "copy"})); got != before {
		t.Errorf("the copy holds %d bytes, want %d", len(got), len(before))
	}
}

// A backup that finds its own disk full or broken fails, and is nobody else's
// trouble: the store goes on, and does not call its own disk full.
func TestCheckpointOnABadDisk(t *testing.T) {
	for _, failing := range []error{syscall.ENOSPC, syscall.EIO} {
		for _, suffix := range []string{".log", ".sst", "MANIFEST", "OPTIONS", "marker", "copy"} {
			t.Run(suffix+" "+failing.Error(), func(t *testing.T) {
				mem := vfs.NewMem()
				f := &fault{err: failing}
				f.only = func(op errorfs.Op) bool {
					if op.Kind == errorfs.OpLink { // as between file systems: then files are copied
						return true
					}
					return strings.HasPrefix(op.Path, "elsewhere/copy") && strings.Contains(op.Path[len("elsewhere/"):], suffix) && op.Kind != errorfs.OpRemove
				}
				if err := mem.MkdirAll("elsewhere", 0o700); err != nil {
					t.Fatal(err)
				}
				s := open(t, Options{FS: errorfs.Wrap(mem, f)})
				for i := range 300 {
					mustCommit(t, s, set(fmt.Sprintf("u%03d", i), strings.Repeat("x", 1000)))
				}
				f.on.Store(true)
				if err := s.Checkpoint("elsewhere/copy"); err == nil {
					t.Error("it says that the copy is complete")
				}
				f.on.Store(false)
				if h := s.Health(); h.ReadOnly || s.meters.diskFull.Get() > 0 || s.meters.diskFailures.Get() > 0 {
					t.Errorf("the store suffers: %+v", h)
				}
				mustCommit(t, s, set("v", "later"))
				if err := s.Checkpoint("elsewhere/again"); err != nil {
					t.Errorf("another copy: %v", err)
				}
			})
		}
	}
}

// A directory that cannot be written is not called somebody else's.
func TestUnwritableDirectory(t *testing.T) {
	f := &fault{err: &os.PathError{Op: "open", Path: "store/LOCK", Err: syscall.EROFS}, only: func(op errorfs.Op) bool { return op.Kind == errorfs.OpLock }}
	f.on.Store(true)
	if _, err := Open(small(Options{FS: errorfs.Wrap(vfs.NewMem(), f)})); !errors.Is(err, syscall.EROFS) || errors.Is(err, ErrLocked) {
		t.Errorf("Open: %v", err)
	}
}

// What holds keys and tokens is for its owner alone: the store, its copies, and
// what a repair makes of it.
func TestNobodyElseMayLook(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o022))
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	private := func(name string) {
		t.Helper()
		info, err := os.Stat(at(name))
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o700 {
			t.Errorf("the mode of the %s is %v", name, info.Mode())
		}
	}
	s, err := Open(Options{Dir: at("store"), MinFree: -1, Ballast: -1})
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, set("ua", "1"))
	private("store")
	if err := s.Checkpoint(at("copy")); err != nil {
		t.Fatal(err)
	}
	private("copy")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := Repair(vfs.Default, at("store"), at("aside"), sound); err != nil {
		t.Fatal(err)
	}
	private("store")
}
