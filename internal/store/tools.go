package store

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strconv"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Reader is a store that is looked at and not changed: for check, dump and repair.
type Reader struct {
	db   *pebble.DB
	lock io.Closer
}

// OpenReader opens the store in dir for reading. Nobody else may have it open.
func OpenReader(fs vfs.FS, dir string) (*Reader, error) {
	if fs == nil {
		fs = vfs.Default
	}
	// Not made if it is not there, unlike the store of a server.
	if _, err := fs.Stat(dir); err != nil {
		return nil, fmt.Errorf("there is no store in %q: %w", dir, err)
	}
	lock, err := lockDir(fs, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the store in %q: %w", dir, err)
	}
	r, err := openReader(fs, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the store in %q: %w", dir, err), lock.Close())
	}
	r.lock = lock
	return r, nil
}

func openReader(fs vfs.FS, dir string) (*Reader, error) {
	quiet := slog.New(slog.DiscardHandler)
	h := &handle{s: &Store{opts: Options{Logger: quiet}}, down: make(chan struct{})}
	h.fence = newFence(fs, fs, dir, h.fail)
	db, err := pebble.Open(dir, &pebble.Options{
		FS: h.fence, ReadOnly: true, ErrorIfNotExists: true, FormatMajorVersion: pebbleFormat, Logger: pebbleLog{h},
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}, BackgroundError: func(error) {}},
	})
	if err != nil {
		return nil, describe(err)
	}
	return &Reader{db: db, lock: nothing{}}, nil
}

// Close closes the reader.
func (r *Reader) Close() error { return errors.Join(r.db.Close(), r.lock.Close()) }

// Scan is that of a Store.
func (r *Reader) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	return scan(r.db, lower, upper, visit)
}

// Format returns the store's format, and an error if this version does not know it.
func (r *Reader) Format() (int, error) {
	v, ok, err := get(r.db, keyFormat)
	if err != nil {
		return 0, err
	}
	if !ok {
		return 0, fmt.Errorf("%w: it has no format", ErrCorrupt)
	}
	n, err := parseFormat(v)
	if err == nil && n > Format {
		err = fmt.Errorf("%w: its format is %d and this version knows formats up to %d", ErrTooNew, n, Format)
	}
	return n, err
}

// Verify reads every table in full, checks its sums, and that the levels of
// the tree fit together.
func (r *Reader) Verify() error {
	if err := r.Scan(nil, nil, func(_, _ []byte) bool { return true }); err != nil {
		return describe(err)
	}
	if err := r.db.CheckLevels(nil); err != nil {
		return describe(err)
	}
	return nil
}

// Salvage is what Repair could keep.
type Salvage struct {
	Keys   int      // copied
	Lost   []string // what could not be read, in words
	Backup string   // where the damaged store is now
}

// Repair makes a new store in dir of all that can be read of the one that is
// there, which is moved aside, not changed. keep says of each key whether it is sound.
//
// A log that is damaged is left out with all later ones: what follows a hole
// must not count. Tables are read key by key; from a damaged one on, the next
// that can be read.
func Repair(fs vfs.FS, dir, aside string, keep func(key, value []byte) error) (s Salvage, err error) {
	if fs == nil {
		fs = vfs.Default
	}
	lock, err := lockDir(fs, dir)
	if err != nil {
		return s, fmt.Errorf("cannot repair the store in %q: %w", dir, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	work := dir + ".repairing"
	if err := fs.RemoveAll(work); err != nil {
		return s, err
	}
	r, err := s.open(fs, dir)
	if err != nil {
		return s, fmt.Errorf("cannot read the store in %q, restore a backup: %w", dir, err)
	}
	format, err := r.Format()
	switch {
	case errors.Is(err, ErrTooNew):
		return s, errors.Join(err, r.Close())
	case err != nil:
		format = Format
		s.Lost = append(s.Lost, fmt.Sprintf("the format, taken to be %d: %v", Format, err))
	}
	err = s.copy(fs, work, r, format, keep)
	if err = errors.Join(err, r.Close()); err != nil {
		return s, errors.Join(fmt.Errorf("cannot write the repaired store: %w", err), fs.RemoveAll(work))
	}
	s.Backup = aside
	if err := fs.Rename(dir, aside); err != nil {
		return s, fmt.Errorf("cannot move the damaged store aside: %w", err)
	}
	return s, fs.Rename(work, dir)
}

// open opens the store without the logs that are damaged, if any are.
func (s *Salvage) open(fs vfs.FS, dir string) (*Reader, error) {
	r, err := openReader(fs, dir)
	if err == nil || !errors.Is(err, ErrCorrupt) {
		return r, err
	}
	without := &withoutLogs{FS: fs}
	r, werr := openReader(without, dir)
	if werr != nil {
		return nil, err
	}
	s.Lost = append(s.Lost, fmt.Sprintf("the changes in the logs, which are the newest: %v", err))
	return r, nil
}

// withoutLogs is a file system that shows no logs.
type withoutLogs struct{ vfs.FS }

// List implements vfs.FS.
func (w *withoutLogs) List(dir string) ([]string, error) {
	all, err := w.FS.List(dir)
	var kept []string
	for _, name := range all {
		if !isLog(name) {
			kept = append(kept, name)
		}
	}
	return kept, err
}

// Unwrap implements vfs.FS.
func (w *withoutLogs) Unwrap() vfs.FS { return w.FS }

// copy writes all that can be read to a new store, and the format anew: without
// it nobody would open the store.
func (s *Salvage) copy(fs vfs.FS, work string, r *Reader, format int, keep func(key, value []byte) error) error {
	if err := fs.MkdirAll(work, 0o700); err != nil { // Pebble would let others look
		return err
	}
	to, err := pebble.Open(work, &pebble.Options{FS: fs, FormatMajorVersion: pebbleFormat, Logger: quietLog{}})
	if err != nil {
		return err
	}
	failed := to.Set(keyFormat, []byte(strconv.Itoa(format)), pebble.NoSync)
	s.Keys++
	for lower := []byte(nil); ; {
		last := lower
		err := r.Scan(lower, nil, func(k, v []byte) bool {
			last = append(append([]byte(nil), k...), 0) // the next one
			if bytes.Equal(k, keyFormat) {
				return true
			}
			if err := keep(k, v); err != nil {
				s.Lost = append(s.Lost, fmt.Sprintf("key %q: %v", k, err))
				return true
			}
			s.Keys++
			failed = to.Set(k, v, pebble.NoSync)
			return failed == nil
		})
		if failed != nil {
			return errors.Join(failed, to.Close())
		}
		if err == nil {
			break
		}
		next := r.behind(last)
		s.Lost = append(s.Lost, fmt.Sprintf("keys from %q to %q: %v", last, next, err))
		if next == nil {
			break
		}
		lower = next
	}
	return errors.Join(to.LogData(nil, pebble.Sync), to.Flush(), to.Close())
}

// behind returns a key behind the first table that ends at or behind key; nil if
// there is none.
func (r *Reader) behind(key []byte) (next []byte) {
	levels, err := r.db.SSTables()
	if err != nil {
		return nil
	}
	for _, level := range levels {
		for _, t := range level {
			end := append(append([]byte(nil), t.Largest.UserKey...), 0)
			if string(end) > string(key) && (next == nil || string(end) < string(next)) {
				next = end
			}
		}
	}
	return next
}

// quietLog drops what the Pebble of a tool says: its errors are returned.
type quietLog struct{}

func (quietLog) Infof(string, ...any)  {}
func (quietLog) Errorf(string, ...any) {}

// Fatalf implements pebble.Logger. A tool has nothing to keep alive.
func (quietLog) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
