package store

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/rollcall-im/rollcall/internal/clock"
)

// fault makes operations that change the disk fail by a rule while it is on.
type fault struct {
	on    atomic.Bool
	match atomic.Pointer[string] // of the path; nil = every
	err   error
	after atomic.Int64 // operations that still succeed
	hit   atomic.Int64
	only  func(errorfs.Op) bool
}

func (f *fault) MaybeError(op errorfs.Op) error {
	if !f.on.Load() || op.Kind.ReadOrWrite() != errorfs.OpIsWrite {
		return nil
	}
	if m := f.match.Load(); m != nil && !strings.Contains(op.Path, *m) {
		return nil
	}
	if f.only != nil && !f.only(op) {
		return nil
	}
	if f.after.Add(-1) >= 0 {
		return nil
	}
	f.hit.Add(1)
	return f.err
}

func (f *fault) String() string { return "fault" }

// tracker keeps its own truth of what was acknowledged.
type tracker struct {
	t    testing.TB
	s    *Store
	mu   sync.Mutex
	all  history // what was acknowledged, in that order
	open sync.WaitGroup
	fail int
}

func (tr *tracker) submit(c change) {
	tr.open.Add(1)
	tr.s.Commit(func(w Writer) {
		if c.del {
			w.Delete([]byte(c.key))
		} else {
			w.Set([]byte(c.key), []byte(c.value))
		}
	}, func(err error) {
		defer tr.open.Done()
		tr.mu.Lock()
		defer tr.mu.Unlock()
		if err == nil {
			tr.all = append(tr.all, c)
			return
		}
		tr.fail++
		if !errors.Is(err, ErrReadOnly) {
			tr.t.Errorf("a commit failed with %v, want ErrReadOnly", err)
		}
	})
}

func (tr *tracker) state() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	return tr.all.state(len(tr.all))
}

// TestDiskFaults lets the disk fail at a random operation, by random rules, and
// be well again: the store then holds what was acknowledged, no more and no less,
// now and after a restart.
func TestDiskFaults(t *testing.T) {
	first := *crashFirst
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	met := 0
	for seed := first; seed < first+uint64(*crashSeeds); seed++ {
		if diskFaults(t, seed) > 0 {
			met++
		}
		if t.Failed() {
			t.Fatalf("replay with -crash.first=%d -crash.seeds=1", seed)
		}
	}
	if met < *crashSeeds/10 {
		t.Errorf("of %d disks that should fail %d did", *crashSeeds, met)
	}
}

// diskFaults returns how many operations failed.
func diskFaults(t *testing.T, seed uint64) int64 {
	rng := rand.New(rand.NewPCG(seed, 3))
	mem := vfs.NewCrashableMem()
	f := &fault{err: syscall.EIO}
	if rng.IntN(3) == 0 {
		f.err = syscall.ENOSPC
	}
	interval := time.Duration(rng.IntN(2)) * time.Millisecond
	s, err := Open(small(Options{
		FS: errorfs.Wrap(mem, f), MemTable: 64 << 10, MaxGroup: 1 + rng.IntN(20), CheckEvery: time.Millisecond, Interval: interval,
	}))
	if err != nil {
		t.Fatal(err)
	}
	tr := &tracker{t: t, s: s}
	for range 1 + rng.IntN(3) {
		f.match.Store(&[]string{"", "", ".log", ".sst", "MANIFEST"}[rng.IntN(5)])
		f.after.Store(rng.Int64N(20))
		f.on.Store(true)
		for i := range 50 + rng.IntN(200) {
			tr.submit(randomChange(rng, i))
			if rng.IntN(20) == 0 {
				tr.open.Wait()
			}
		}
		f.on.Store(false)
		tr.open.Wait()
		await(t, "the store takes writes again", func() bool {
			done := make(chan error, 1)
			c := randomChange(rng, 0)
			s.Commit(func(w Writer) { w.Set([]byte(c.key), []byte(c.value)) }, func(err error) { done <- err })
			if err := wait(t, done); err != nil {
				return false
			}
			tr.mu.Lock()
			defer tr.mu.Unlock()
			tr.all = append(tr.all, change{key: c.key, value: c.value})
			return true
		})
		if got, want := content(t, s), tr.state(); got != want {
			t.Errorf("seed %d (%s on %q, interval %s, %d hits): the store holds\n%s\nacknowledged was\n%s", seed, f.err, *f.match.Load(), interval, f.hit.Load(), got, want)
		}
	}
	// An operation that was to fail may come to its end only now.
	late := s.Close()
	if late != nil && !errors.Is(late, f.err) {
		t.Errorf("seed %d: Close: %v", seed, late)
	}
	again, err := Open(small(Options{FS: mem.CrashClone(vfs.CrashCloneCfg{})}))
	if err != nil {
		t.Fatalf("seed %d: %v", seed, err)
	}
	defer again.Close()
	if got, want := content(t, again), tr.state(); got != want && (late == nil || interval == 0 || tr.all.find(got, 0, len(tr.all)) < 0) {
		t.Errorf("seed %d: after a restart the store holds\n%s\nacknowledged was\n%s", seed, got, want)
	}
	return f.hit.Load()
}

// A disk that fails at some step of the opening, with a log replayed and Pebble
// at work on what came of it, makes the opening fail; the process does not end, and
// the opening does.
func TestFaultWhileOpening(t *testing.T) {
	for _, match := range []string{".dbtmp", "OPTIONS", ".log", ".sst", "MANIFEST", "marker", ""} {
		for after := range int64(6) {
			for range 10 {
				mem := vfs.NewMem()
				s, err := Open(small(Options{FS: mem}))
				if err != nil {
					t.Fatal(err)
				}
				mustCommit(t, s, set("ua", "1"))
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				f := &fault{err: syscall.ENOSPC, only: func(op errorfs.Op) bool { return strings.Contains(op.Path, match) }}
				f.after.Store(after)
				f.on.Store(true)
				over := make(chan error, 1)
				go func() {
					s, err := Open(small(Options{FS: errorfs.Wrap(mem, f)}))
					if err == nil { // it was not met, or after the opening
						_ = s.Close()
					}
					over <- nil
				}()
				_ = wait(t, over) // whatever came of it
				f.on.Store(false)
				if got := content(t, open(t, Options{FS: mem})); got != "ua=1" {
					t.Errorf("%s after %d: the store holds %q", match, after, got)
				}
			}
		}
	}
}

// A crash in the middle of disk trouble loses nothing acknowledged either.
func TestPowerLossInDiskTrouble(t *testing.T) {
	first := uint64(time.Now().UnixNano())
	for seed := first; seed < first+uint64(*crashSeeds)/4+1; seed++ {
		rng := rand.New(rand.NewPCG(seed, 4))
		mem := vfs.NewCrashableMem()
		f := &fault{err: syscall.EIO}
		s, err := Open(small(Options{FS: errorfs.Wrap(mem, f), MemTable: 64 << 10, MaxGroup: 5, CheckEvery: time.Hour}))
		if err != nil {
			t.Fatal(err)
		}
		var acked atomic.Int64
		f.after.Store(rng.Int64N(40))
		f.on.Store(true)
		var told sync.WaitGroup
		for i := range 200 {
			told.Add(1)
			s.Commit(set(fmt.Sprintf("u%04d", i), strings.Repeat("v", rng.IntN(900))), func(err error) {
				if err == nil {
					acked.Add(1)
				}
				told.Done()
			})
		}
		told.Wait()
		n := acked.Load()
		clone := mem.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rng})
		s.Close()
		again, err := Open(small(Options{FS: clone}))
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		have := 0
		for i := range 200 {
			if _, ok, _ := again.Get(fmt.Appendf(nil, "u%04d", i)); ok && have == i {
				have++
			} else if ok {
				t.Errorf("seed %d: commit %d is there, %d is not", seed, i, have)
			}
		}
		if int64(have) < n {
			t.Errorf("seed %d: %d acknowledged, %d there", seed, n, have)
		}
		again.Close()
	}
}

// What a cut fence swallows is never acknowledged: the handle has failed by then.
func TestFailedBeforeCut(t *testing.T) {
	h := &handle{s: &Store{}, down: make(chan struct{})}
	h.fence = newFence(vfs.Default, vfs.Default, "store", h.fail)
	var failing sync.WaitGroup
	h.mu.Lock() // it cannot have failed yet
	failing.Go(func() { h.fail(syscall.EIO) })
	for range 10_000 {
		runtime.Gosched()
		if h.fence.check() != nil {
			t.Error("the fence was cut of a handle that had not failed")
			break
		}
	}
	h.mu.Unlock()
	failing.Wait()
	if h.fence.check() == nil {
		t.Error("the fence was not cut")
	}
}

// Everybody is told of a failure, also those who call while it happens: nobody
// waits until the disk is well.
func TestEverybodyIsToldOfAFailure(t *testing.T) {
	for round := range 200 {
		f := &fault{err: syscall.EIO}
		f.after.Store(int64(round % 7))
		s, err := Open(small(Options{FS: errorfs.Wrap(vfs.NewMem(), f), MaxGroup: 2, CheckEvery: time.Hour}))
		if err != nil {
			t.Fatal(err)
		}
		f.on.Store(true)
		var callers, told sync.WaitGroup
		for range 8 {
			callers.Go(func() {
				for refused := new(atomic.Bool); !refused.Load(); {
					told.Add(1)
					s.Commit(set("ua", "1"), func(err error) {
						if err != nil {
							refused.Store(true)
						}
						told.Done()
					})
				}
			})
		}
		callers.Wait()
		all := make(chan error)
		go func() { told.Wait(); close(all) }()
		_ = wait(t, all)
		s.Close()
	}
}

// While it is read-only the store refuses at once, says so, and can be read.
func TestReadOnlyUntilTheDiskIsWell(t *testing.T) {
	c := clock.NewManual(time.Unix(1_700_000_000, 0))
	f := &fault{err: syscall.EIO}
	logs := ".log"
	f.match.Store(&logs)
	s := open(t, Options{FS: errorfs.Wrap(vfs.NewMem(), f), Clock: c})
	mustCommit(t, s, set("ua", "1"))
	f.on.Store(true)
	if err := commit(t, s, set("ua", "2")); !errors.Is(err, ErrReadOnly) {
		t.Fatalf("a commit that could not be synced: %v", err)
	}
	if got := content(t, s); got != "ua=1" {
		t.Errorf("while read-only the store shows %q", got)
	}
	if err := commit(t, s, set("ub", "2")); !errors.Is(err, ErrReadOnly) || !strings.Contains(err.Error(), "input/output error") {
		t.Errorf("a commit while read-only: %v", err)
	}
	if h := s.Health(); !h.ReadOnly || !strings.Contains(h.Reason, "input/output error") {
		t.Errorf("health: %+v", h)
	}
	if _, ok, err := s.Get([]byte("ua")); !ok || err != nil {
		t.Errorf("Get while read-only: %t, %v", ok, err)
	}
	c.Advance(time.Minute) // the probe fails
	if !s.Health().ReadOnly {
		t.Error("it takes writes on a disk that does not")
	}
	f.on.Store(false)
	await(t, "it takes writes", func() bool { c.Advance(time.Minute); return !s.Health().ReadOnly })
	if got := content(t, s); got != "ua=1" {
		t.Errorf("the store holds %q, want what was acknowledged", got)
	}
	mustCommit(t, s, set("uc", "3"))
	if m := &s.meters; m.diskFailures.Get() != 1 || m.reopened.Get() != 1 || m.failed.Get() != 1 || m.readOnly.Get() != 1 {
		t.Errorf("counted: %d failures, %d reopens, %d failed, %d refused", m.diskFailures.Get(), m.reopened.Get(), m.failed.Get(), m.readOnly.Get())
	}
}

// usage is a disk whose free space the test sets.
type usage struct {
	vfs.FS
	free atomic.Int64
}

func (u *usage) GetDiskUsage(string) (vfs.DiskUsage, error) {
	return vfs.DiskUsage{AvailBytes: uint64(u.free.Load())}, nil
}

func TestSizesForPeople(t *testing.T) {
	for bytes, want := range map[int64]string{0: "0 bytes", 1<<20 - 1: "1048575 bytes", 67108864: "64.0 MiB", 9 << 30: "9.0 GiB", 1 << 40: "1024.0 GiB"} {
		if got := size(bytes); got != want {
			t.Errorf("size(%d) = %q, want %q", bytes, got, want)
		}
	}
}

// The store stops before the disk is full, and goes on with some room to spare.
func TestLowSpace(t *testing.T) {
	const least = 1000
	c := clock.NewManual(time.Unix(1_700_000_000, 0))
	fs := &usage{FS: vfs.NewMem()}
	fs.free.Store(least)
	s := open(t, Options{FS: fs, Clock: c, MinFree: least, Ballast: 100})
	for _, step := range []struct {
		free int64
		ok   bool
	}{{least, true}, {least - 1, false}, {least, false}, {least + least/4 - 1, false}, {least + least/4, true}, {least, true}, {0, false}, {1 << 40, true}} {
		fs.free.Store(step.free)
		c.Advance(time.Second)
		err := commit(t, s, set("ua", fmt.Sprint(step.free)))
		if step.ok != (err == nil) || err != nil && !errors.Is(err, ErrReadOnly) {
			t.Errorf("with %d bytes free: %v", step.free, err)
		}
		if h := s.Health(); h.ReadOnly == step.ok || h.Free != step.free {
			t.Errorf("with %d bytes free: %+v", step.free, h)
		}
	}
	if got := s.meters.diskFailures.Get(); got != 0 {
		t.Errorf("%d disk failures counted: none was met", got)
	}
}

// A store that starts on a full disk is read-only until there is space.
func TestStartOnAFullDisk(t *testing.T) {
	c := clock.NewManual(time.Unix(1_700_000_000, 0))
	fs := &usage{FS: vfs.NewMem()}
	fs.free.Store(3 << 20)
	s := open(t, Options{FS: fs, Clock: c, MinFree: 3 << 29})
	if h := s.Health(); h.Reason != "the disk has 3.0 MiB free, less than store-min-free, which is 1.5 GiB" {
		t.Errorf("the reason is %q", h.Reason)
	}
	if err := commit(t, s, set("ua", "")); !errors.Is(err, ErrReadOnly) {
		t.Errorf("a commit: %v", err)
	}
	fs.free.Store(1 << 31)
	c.Advance(time.Second)
	mustCommit(t, s, set("ua", ""))
}

// A write that meets a full disk succeeds: the ballast makes room for it. The
// store is read-only from then on, until a probe can be written.
func TestBallast(t *testing.T) {
	c := clock.NewManual(time.Unix(1_700_000_000, 0))
	mem := vfs.NewMem()
	f := &fault{err: syscall.ENOSPC}
	f.only = func(op errorfs.Op) bool { // full as long as the ballast is there
		_, err := mem.Stat("store/" + ballastFile)
		return err == nil && !strings.Contains(op.Path, ballastFile)
	}
	s := open(t, Options{FS: errorfs.Wrap(mem, f), Clock: c, Ballast: 4096})
	f.on.Store(true)
	mustCommit(t, s, set("ua", "1"))
	if _, err := mem.Stat("store/" + ballastFile); err == nil {
		t.Error("the ballast is there still")
	}
	if err := commit(t, s, set("ub", "1")); !errors.Is(err, ErrReadOnly) {
		t.Errorf("the next commit: %v", err)
	}
	if s.meters.diskFull.Get() == 0 || s.meters.diskFailures.Get() != 0 {
		t.Errorf("%d full, %d failures", s.meters.diskFull.Get(), s.meters.diskFailures.Get())
	}
	f.on.Store(false)
	c.Advance(time.Second)
	mustCommit(t, s, set("ub", "2"))
	if _, err := mem.Stat("store/" + ballastFile); err != nil {
		t.Errorf("the ballast was not laid again: %v", err)
	}
	if got := content(t, s); got != "ua=1 ub=2" {
		t.Errorf("the store holds %q", got)
	}
}

// A ballast that could not save the handle is laid again when another one is open.
func TestBallastAfterAFailure(t *testing.T) {
	c := clock.NewManual(time.Unix(1_700_000_000, 0))
	mem := vfs.NewMem()
	f := &fault{err: syscall.ENOSPC, only: func(op errorfs.Op) bool { return strings.HasSuffix(op.Path, ".log") }}
	s := open(t, Options{FS: errorfs.Wrap(mem, f), Clock: c, Ballast: 4096})
	there := func() bool { _, err := mem.Stat("store/" + ballastFile); return err == nil }
	f.on.Store(true)
	if err := commit(t, s, set("ua", "1")); !errors.Is(err, ErrReadOnly) || there() {
		t.Fatalf("a commit on a full disk: %v; the ballast is there: %t", err, there())
	}
	f.on.Store(false)
	await(t, "it takes writes again", func() bool {
		c.Advance(time.Second)
		return commit(t, s, set("ua", "2")) == nil
	})
	await(t, "the ballast is laid again", there)
}

// The ballast of an earlier run makes room for a start on a full disk too.
func TestBallastAtStart(t *testing.T) {
	mem := vfs.NewMem()
	s, err := Open(small(Options{FS: mem, Ballast: 4096}))
	if err != nil {
		t.Fatal(err)
	}
	mustCommit(t, s, set("ua", "1"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	f := &fault{err: syscall.ENOSPC}
	f.only = func(op errorfs.Op) bool { // full as long as the ballast is there
		_, err := mem.Stat("store/" + ballastFile)
		return err == nil && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite) && !strings.Contains(op.Path, ballastFile)
	}
	f.on.Store(true)
	s = open(t, Options{FS: errorfs.Wrap(mem, f), Ballast: 4096})
	if got := content(t, s); got != "ua=1" {
		t.Errorf("the store holds %q", got)
	}
	if _, err := mem.Stat("store/" + ballastFile); err != nil {
		t.Errorf("the ballast is not laid again: %v", err)
	}
}

// A handle that fails while the store is being closed tells everybody, and is
// not taken away from under those who see to what has failed.
func TestFailureWhileClosing(t *testing.T) {
	for round := range 300 {
		f := &fault{err: syscall.EIO}
		f.after.Store(int64(round % 5))
		interval := time.Duration(round%2) * time.Hour
		s, err := Open(small(Options{FS: errorfs.Wrap(vfs.NewMem(), f), MaxGroup: 2, CheckEvery: time.Hour, Interval: interval}))
		if err != nil {
			t.Fatal(err)
		}
		var told sync.WaitGroup
		f.on.Store(true)
		for i := range 20 {
			told.Add(1)
			s.Commit(set(fmt.Sprint("u", i), "1"), func(error) { told.Done() })
		}
		_ = s.Close()
		all := make(chan error)
		go func() { told.Wait(); close(all) }()
		_ = wait(t, all)
	}
}

// TestRealFullDisk fills a real file system of 8 MiB, with and without a margin.
func TestRealFullDisk(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("mounting a tmpfs wants root")
	}
	for name, o := range map[string]Options{
		"margin":  {MinFree: 1 << 20, Ballast: 512 << 10},
		"ballast": {MinFree: -1, Ballast: 1 << 20},
		"nothing": {MinFree: -1, Ballast: -1},
	} {
		t.Run(name, func(t *testing.T) { realFullDisk(t, o) })
	}
}

func realFullDisk(t *testing.T, o Options) {
	dir := t.TempDir()
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", dir).CombinedOutput(); err != nil {
		t.Skipf("no tmpfs: %s", out)
	}
	defer func() {
		if out, err := exec.Command("umount", dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %s", out)
		}
	}()
	o.Dir, o.FS, o.MemTable, o.CheckEvery = dir+"/store", vfs.Default, 256<<10, time.Millisecond
	s, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1)) // what cannot be compressed
	value := func() []byte {
		b := make([]byte, 4096)
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return b
	}
	acked := 0
	for ; acked < 10_000; acked++ {
		v := value()
		if err := commit(t, s, func(w Writer) { w.Set(fmt.Appendf(nil, "u%05d", acked), v) }); err != nil {
			if !errors.Is(err, ErrReadOnly) {
				t.Fatalf("commit %d: %v", acked, err)
			}
			break
		}
	}
	if acked == 10_000 || acked < 100 {
		t.Fatalf("%d commits of 4 KiB fit on 8 MiB", acked)
	}
	t.Logf("full after %d commits of 4 KiB: %s", acked, s.Health().Reason)
	if out, err := exec.Command("mount", "-o", "remount,size=64m", dir).CombinedOutput(); err != nil {
		t.Fatalf("remount: %s", out)
	}
	await(t, "it takes writes again", func() bool { return commit(t, s, set("v", "1")) == nil })
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	again, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	n := 0
	lower, upper := Bounds(PrefixUsers)
	if err := again.Scan(lower, upper, func(k, _ []byte) bool {
		if string(k) != fmt.Sprintf("u%05d", n) {
			t.Errorf("key %q at %d", k, n)
		}
		n++
		return true
	}); err != nil || n != acked {
		t.Errorf("%d keys after a restart (%v), %d were acknowledged", n, err, acked)
	}
}
