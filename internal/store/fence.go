package store

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// errCut is what a handle gets for each write after it was given up.
var errCut = errors.New("the handle was given up")

// fence is the file system of one handle. Once cut, it lets the handle read but
// change nothing any more: Pebble goes on after an error that it calls fatal, and
// a handle that failed may neither delete a log whose flush did not become
// durable, nor write beside the handle that takes its place.
//
// Errors of the log and of a directory's sync are not passed on. Pebble panics
// when it cannot end or begin a log, and does so with a mutex unlocked that a
// deferred call unlocks again, which no recover can stop: a full disk would end the
// process. Such an error fails the handle, and then Pebble is told that all went
// well. Nothing can come of that: from before the lie on nothing is acknowledged,
// and nothing is written or removed.
//
// The errors of the options, which are what Pebble writes last when it opens, are
// not passed on either: it would take apart what its background goroutines, at
// work on what it has replayed, still use, and they would panic. So it opens, as
// a handle that has failed, and is closed in order.
//
// While Pebble opens, no error of a file is passed on, and a cut fence says yes to
// everything, and does nothing: Pebble tries to flush what it has replayed until
// that succeeds, and would never return.
//
// All that is of the handle's own directory. What it writes elsewhere is a copy
// for somebody (Checkpoint): its errors are the copy's, and told as they are.
type fence struct {
	vfs.FS
	elsewhere vfs.FS // FS without what watches the store's disk
	dir       string
	fail      func(error)
	isCut     atomic.Bool
	opening   atomic.Bool   // Pebble has not returned from Open
	gone      chan struct{} // closed when the handle is being closed
}

func newFence(fs, elsewhere vfs.FS, dir string, fail func(error)) *fence {
	return &fence{FS: fs, elsewhere: elsewhere, dir: clean(fs, dir), fail: fail, gone: make(chan struct{})}
}

// clean is a directory as PathDir returns it.
func clean(fs vfs.FS, dir string) string { return fs.PathDir(fs.PathJoin(dir, "x")) }

// owns reports whether name is the handle's directory or a file in it.
func (f *fence) owns(name string) bool {
	return f.FS.PathDir(name) == f.dir || clean(f.FS, name) == f.dir
}

func (f *fence) cut() { f.isCut.Store(true) }

func (f *fence) check() error {
	if f.isCut.Load() {
		return errCut
	}
	return nil
}

// swallows reports whether all that is still to be written is to vanish.
func (f *fence) swallows() bool { return f.isCut.Load() && f.opening.Load() }

// unless returns the error of a cut fence, unless that swallows everything.
func (f *fence) unless(err error) error {
	if f.swallows() {
		return nil
	}
	return err
}

// nowhere is a file that swallows what is written to it.
func (f *fence) nowhere() vfs.File { return &mutedFile{deadFile{}, f} }

func isLog(name string) bool { return strings.HasSuffix(name, ".log") }

// isOptions reports whether name is of the options that Pebble writes when it
// opens: to a temporary file, which it renames.
func isOptions(fs vfs.FS, name string) bool {
	return strings.HasSuffix(name, ".dbtmp") || strings.HasPrefix(fs.PathBase(name), "OPTIONS-")
}

// retryPause slows down a handle that goes on trying to flush behind the fence:
// Pebble tries again at once.
const retryPause = time.Second

// Create implements vfs.FS.
func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !f.owns(name) {
		return f.elsewhere.Create(name, c)
	}
	if isLog(name) || isOptions(f.FS, name) || f.opening.Load() {
		return f.log(name, func() (vfs.File, error) { return f.create(name, c) })
	}
	if err := f.check(); err != nil {
		select {
		case <-f.gone:
		case <-time.After(retryPause):
		}
		return nil, err
	}
	return f.wrap(f.create(name, c))
}

func (f *fence) create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if isMarker(f.FS.PathBase(name)) {
		// Pebble syncs the directory once, with the manifest and its marker new: a power
		// loss may leave the marker of a manifest that is not there.
		if err := syncDir(f.FS, f.dir); err != nil {
			return nil, err
		}
	}
	return f.FS.Create(name, c)
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if !f.owns(to) {
		return f.elsewhere.ReuseForWrite(from, to, c)
	}
	if isLog(to) || f.opening.Load() {
		return f.log(to, func() (vfs.File, error) { return f.FS.ReuseForWrite(from, to, c) })
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.wrap(f.FS.ReuseForWrite(from, to, c))
}

// log begins a log, or the options, or a file that swallows all if that cannot be.
func (f *fence) log(name string, begin func() (vfs.File, error)) (vfs.File, error) {
	if f.check() == nil {
		file, err := begin()
		if err == nil {
			return &mutedFile{file, f}, nil
		}
		f.fail(fmt.Errorf("cannot begin %s: %w", name, err))
	}
	return f.nowhere(), nil
}

func (f *fence) wrap(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &fencedFile{file, f}, nil
}

// Link implements vfs.FS.
func (f *fence) Link(from, to string) error {
	if !f.owns(to) {
		return f.elsewhere.Link(from, to)
	}
	if err := f.check(); err != nil {
		return f.unless(err)
	}
	return f.FS.Link(from, to)
}

// OpenReadWrite implements vfs.FS.
func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	if !f.owns(name) {
		return f.elsewhere.OpenReadWrite(name, c, o...)
	}
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.wrap(f.FS.OpenReadWrite(name, c, o...))
}

// OpenDir implements vfs.FS. Directories are opened to be synced.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	if !f.owns(name) && clean(f.FS, name) != f.FS.PathDir(f.dir) {
		return f.elsewhere.OpenDir(name)
	}
	dir, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &mutedFile{dir, f}, nil
}

// Remove implements vfs.FS.
func (f *fence) Remove(name string) error {
	if !f.owns(name) {
		return f.elsewhere.Remove(name)
	}
	if err := f.check(); err != nil {
		return f.unless(err)
	}
	return f.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (f *fence) RemoveAll(name string) error {
	if !f.owns(name) {
		return f.elsewhere.RemoveAll(name)
	}
	if err := f.check(); err != nil {
		return f.unless(err)
	}
	return f.FS.RemoveAll(name)
}

// Rename implements vfs.FS.
func (f *fence) Rename(from, to string) error {
	if !f.owns(to) {
		return f.elsewhere.Rename(from, to)
	}
	err := f.check()
	if err == nil {
		err = f.FS.Rename(from, to)
	}
	if err != nil && isOptions(f.FS, to) {
		f.fail(fmt.Errorf("cannot write the options: %w", err))
		return nil
	}
	if errors.Is(err, errCut) {
		return f.unless(err)
	}
	return err
}

// MkdirAll implements vfs.FS.
func (f *fence) MkdirAll(dir string, perm os.FileMode) error {
	if !f.owns(dir) {
		return f.elsewhere.MkdirAll(dir, perm&0o700) // a copy holds keys and tokens
	}
	if err := f.check(); err != nil {
		return f.unless(err)
	}
	return f.FS.MkdirAll(dir, perm)
}

// Lock implements vfs.FS. The store holds the lock of the directory itself,
// over all its handles.
func (f *fence) Lock(string) (io.Closer, error) { return nothing{}, nil }

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }

type nothing struct{}

func (nothing) Close() error { return nil }

// fencedFile is a table or manifest that a handle writes.
type fencedFile struct {
	vfs.File
	fence *fence
}

// Write implements vfs.File.
func (f *fencedFile) Write(p []byte) (int, error) {
	if err := f.fence.check(); err != nil {
		return len(p), f.fence.unless(err)
	}
	return f.File.Write(p)
}

// WriteAt implements vfs.File.
func (f *fencedFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fence.check(); err != nil {
		return len(p), f.fence.unless(err)
	}
	return f.File.WriteAt(p, off)
}

// Preallocate implements vfs.File.
func (f *fencedFile) Preallocate(off, n int64) error {
	if err := f.fence.check(); err != nil {
		return f.fence.unless(err)
	}
	return f.File.Preallocate(off, n)
}

// Sync implements vfs.File.
func (f *fencedFile) Sync() error {
	if err := f.fence.check(); err != nil {
		return f.fence.unless(err)
	}
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f *fencedFile) SyncData() error {
	if err := f.fence.check(); err != nil {
		return f.fence.unless(err)
	}
	return f.File.SyncData()
}

// SyncTo implements vfs.File.
func (f *fencedFile) SyncTo(n int64) (bool, error) {
	if err := f.fence.check(); err != nil {
		return false, f.fence.unless(err)
	}
	return f.File.SyncTo(n)
}

// mutedFile is a log, the options, or a directory: its errors fail the handle and are not told.
type mutedFile struct {
	vfs.File
	fence *fence
}

// mute runs an operation unless the fence is cut. Who sees it return knows that
// it was done, or that the handle has failed.
func (f *mutedFile) mute(what string, op func() error) {
	if f.fence.check() != nil {
		return
	}
	if err := op(); err != nil {
		f.fence.fail(fmt.Errorf("cannot %s the log or the directory: %w", what, err))
	}
}

// Write implements vfs.File.
func (f *mutedFile) Write(p []byte) (int, error) {
	f.mute("write", func() error { _, err := f.File.Write(p); return err })
	return len(p), nil
}

// Preallocate implements vfs.File.
func (f *mutedFile) Preallocate(off, n int64) error {
	f.mute("make room for", func() error { return f.File.Preallocate(off, n) })
	return nil
}

// Sync implements vfs.File.
func (f *mutedFile) Sync() error {
	f.mute("sync", f.File.Sync)
	return nil
}

// SyncData implements vfs.File.
func (f *mutedFile) SyncData() error {
	f.mute("sync", f.File.SyncData)
	return nil
}

// SyncTo implements vfs.File.
func (f *mutedFile) SyncTo(n int64) (full bool, _ error) {
	f.mute("sync", func() (err error) { full, err = f.File.SyncTo(n); return err })
	return full, nil
}

// Close implements vfs.File.
func (f *mutedFile) Close() error {
	if err := f.File.Close(); err != nil {
		f.fence.fail(fmt.Errorf("cannot close the log: %w", err))
	}
	return nil
}

// deadFile is a log that could not be begun.
type deadFile struct{ vfs.File }

func (deadFile) Close() error { return nil }

func (deadFile) Fd() uintptr { return vfs.InvalidFd }

// Stat implements vfs.File: Pebble asks for the size of a log that it uses again.
func (deadFile) Stat() (vfs.FileInfo, error) { return emptyFile{}, nil }

type emptyFile struct{}

func (emptyFile) Name() string           { return "" }
func (emptyFile) Size() int64            { return 0 }
func (emptyFile) Mode() os.FileMode      { return 0 }
func (emptyFile) ModTime() (t time.Time) { return t }
func (emptyFile) IsDir() bool            { return false }
func (emptyFile) Sys() any               { return nil }

// DeviceID implements vfs.FileInfo.
func (emptyFile) DeviceID() (id vfs.DeviceID) { return id }
