package store

import (
	"errors"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// errCut is what a handle gets for each write after it was given up.
var errCut = errors.New("the handle was given up")

// fence is the file system of one handle. Once cut, it lets the handle read but
// change nothing any more: Pebble goes on after an error that it calls fatal, and
// a handle that failed may neither delete a log whose flush did not become
// durable, nor write beside the handle that takes its place. Files that are being
// written fail too.
type fence struct {
	vfs.FS
	isCut atomic.Bool
	gone  chan struct{} // closed when the handle is closed, or being closed
}

func newFence(fs vfs.FS) *fence { return &fence{FS: fs, gone: make(chan struct{})} }

func (f *fence) cut() { f.isCut.Store(true) }

func (f *fence) check() error {
	if f.isCut.Load() {
		return errCut
	}
	return nil
}

// retryPause slows down a handle that goes on trying to flush behind the fence:
// Pebble tries again at once.
const retryPause = time.Second

// Create implements vfs.FS.
func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.check(); err != nil {
		select {
		case <-f.gone:
		case <-time.After(retryPause):
		}
		return nil, err
	}
	return f.wrap(f.FS.Create(name, c))
}

func (f *fence) wrap(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return &fencedFile{file, f}, nil
}

// Link implements vfs.FS.
func (f *fence) Link(from, to string) error {
	if err := f.check(); err != nil {
		return err
	}
	return f.FS.Link(from, to)
}

// OpenReadWrite implements vfs.FS.
func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.wrap(f.FS.OpenReadWrite(name, c, o...))
}

// OpenDir implements vfs.FS. Directories are opened to be synced.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	return f.wrap(f.FS.OpenDir(name))
}

// Remove implements vfs.FS.
func (f *fence) Remove(name string) error {
	if err := f.check(); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// RemoveAll implements vfs.FS.
func (f *fence) RemoveAll(name string) error {
	if err := f.check(); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

// Rename implements vfs.FS.
func (f *fence) Rename(from, to string) error {
	if err := f.check(); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// ReuseForWrite implements vfs.FS.
func (f *fence) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if err := f.check(); err != nil {
		return nil, err
	}
	return f.wrap(f.FS.ReuseForWrite(from, to, c))
}

// MkdirAll implements vfs.FS.
func (f *fence) MkdirAll(dir string, perm os.FileMode) error {
	if err := f.check(); err != nil {
		return err
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

// fencedFile is a file that a handle writes.
type fencedFile struct {
	vfs.File
	fence *fence
}

// Write implements vfs.File.
func (f *fencedFile) Write(p []byte) (int, error) {
	if err := f.fence.check(); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

// WriteAt implements vfs.File.
func (f *fencedFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.fence.check(); err != nil {
		return 0, err
	}
	return f.File.WriteAt(p, off)
}

// Preallocate implements vfs.File.
func (f *fencedFile) Preallocate(off, n int64) error {
	if err := f.fence.check(); err != nil {
		return err
	}
	return f.File.Preallocate(off, n)
}

// Sync implements vfs.File.
func (f *fencedFile) Sync() error {
	if err := f.fence.check(); err != nil {
		return err
	}
	return f.File.Sync()
}

// SyncData implements vfs.File.
func (f *fencedFile) SyncData() error {
	if err := f.fence.check(); err != nil {
		return err
	}
	return f.File.SyncData()
}

// SyncTo implements vfs.File.
func (f *fencedFile) SyncTo(n int64) (bool, error) {
	if err := f.fence.check(); err != nil {
		return false, err
	}
	return f.File.SyncTo(n)
}
