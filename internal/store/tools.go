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
	// Fault is why Open would refuse the store; nil if it would not. A damaged block of
	// a table shows when it is read.
	Fault error
	// Faults is what that loses, as far as opening shows it.
	Faults []Loss

	db   *pebble.DB
	lock io.Closer
}

// Loss is what cannot be read of a store.
type Loss struct {
	// The range of keys; nil is the beginning and the end. What it held is not known.
	Lower, Upper []byte
	// Newest says that it is what was written last, of any key.
	Newest bool
	Why    string
}

// OpenReader opens the store in dir for reading, as much of it as can be read.
// Nobody else may have it open.
func OpenReader(fs vfs.FS, dir string) (*Reader, error) {
	if fs == nil {
		fs = vfs.Default
	}
	// Not made if it is not there, unlike the store of a server, and not even locked.
	if names, err := fs.List(dir); err != nil || len(names) == 0 {
		return nil, errors.Join(fmt.Errorf("there is no store in %q", dir), err)
	}
	if !Is(fs, dir) {
		return nil, fmt.Errorf("cannot open the store in %q: %w", dir, advice(errNoMarker))
	}
	lock, err := lockDir(fs, dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the store in %q: %w", dir, err)
	}
	r, err := openDamaged(fs, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the store in %q: %w", dir, err), lock.Close())
	}
	r.lock = lock
	if _, err := checkFormat(r.db); r.Fault == nil && errors.Is(err, ErrCorrupt) {
		r.Fault = err
	}
	return r, nil
}

// openReader opens a store that shows no damage.
func openReader(fs vfs.FS, dir string) (*Reader, error) {
	if err := examine(fs, dir); err != nil {
		return nil, err
	}
	return openFiles(fs, dir, false)
}

// openFiles opens what is there.
func openFiles(fs vfs.FS, dir string, damaged bool) (*Reader, error) {
	quiet := slog.New(slog.DiscardHandler)
	h := &handle{s: &Store{opts: Options{Logger: quiet}}, down: make(chan struct{})}
	h.fence = newFence(fs, fs, dir, h.fail)
	db, err := pebble.Open(dir, &pebble.Options{
		FS: h.fence, ReadOnly: true, ErrorIfNotExists: true, FormatMajorVersion: pebbleFormat, Logger: pebbleLog{h},
		DisableConsistencyCheck: damaged, DisableTableStats: true,
		EventListener: &pebble.EventListener{DataCorruption: func(pebble.DataCorruptionInfo) {}, BackgroundError: func(error) {}},
	})
	if err != nil {
		return nil, describeOpen(err)
	}
	return &Reader{db: db, lock: nothing{}}, nil
}

// Close closes the reader.
func (r *Reader) Close() error { return errors.Join(r.db.Close(), r.lock.Close()) }

// Scan is that of a Store.
func (r *Reader) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	return describe(scan(r.db, lower, upper, visit))
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

// Walk visits all keys that can be read, in order, and returns what cannot.
func (r *Reader) Walk(visit func(key, value []byte)) (lost []Loss) {
	for lower := []byte(nil); ; {
		last := lower
		err := r.Scan(lower, nil, func(k, v []byte) bool {
			last = append(append(last[:0:0], k...), 0) // the next one
			visit(k, v)
			return true
		})
		if err == nil {
			return lost
		}
		next := r.resume(last)
		if n := len(lost); n > 0 && bytes.Equal(lost[n-1].Upper, last) {
			lost[n-1].Upper = next
		} else {
			lost = append(lost, Loss{Lower: last, Upper: next, Why: why(err)})
		}
		if next == nil {
			return lost
		}
		lower = next
	}
}

// resume returns where reading goes on behind key, which is the first key in a
// damaged part or before it; nil if nothing can be read behind it. Nobody can ask for the
// keys of what cannot be read, so it feels its way: byte by byte it looks for the
// least that can be read from, and goes on below it.
func (r *Reader) resume(key []byte) []byte {
	best := []byte(nil)
	for step := []byte(nil); len(step) < maxKey; {
		n := len(step)
		b := 0
		if n < len(key) && bytes.HasPrefix(key, step) {
			b = int(key[n]) + 1 // up to there it is key's turn, or before it
		}
		step = append(step, 0)
		for ; b < 256; b++ {
			step[n] = byte(b)
			if best != nil && bytes.Compare(step, best) >= 0 {
				break
			}
			if r.readable(step) {
				best = append([]byte(nil), step...)
				break
			}
		}
		if b == 0 { // nothing lies between the step before and this one
			break
		}
		step[n] = byte(b - 1)
	}
	if best == nil || best[0] > lastPrefix {
		return nil
	}
	return best
}

// maxKey is more than the bytes of a key that tell one from the next.
const maxKey = 80

// readable reports whether the first key from lower on can be read.
func (r *Reader) readable(lower []byte) bool {
	return scan(r.db, lower, nil, func(_, _ []byte) bool { return false }) == nil
}

// CheckLevels reports whether the levels of the tree fit together.
func (r *Reader) CheckLevels() error { return describe(r.db.CheckLevels(nil)) }

// Salvage is what Repair could keep.
type Salvage struct {
	Keys   int    // copied
	Lost   []Loss // what could not be read, or was not sound
	Backup string // where the damaged store is now; "" if nothing was damaged, and nothing changed
}

// Repair makes a new store in dir of all that can be read of the one that is
// there, which is moved aside, not changed. keep says of each key whether it is sound.
//
// A log that is damaged is read up to the fault, and no later one: what follows a
// hole must not count. Tables are read key by key; from a damaged block on, the
// next that can be read.
func Repair(fs vfs.FS, dir, aside string, keep func(key, value []byte) error) (s Salvage, err error) {
	if fs == nil {
		fs = vfs.Default
	}
	r, err := OpenReader(fs, dir)
	if err != nil {
		if errors.Is(err, ErrCorrupt) && !errors.Is(err, errNoMarker) {
			err = fmt.Errorf("%w; it is beyond repair: restore a backup", err)
		}
		return s, err
	}
	lock := r.lock
	r.lock = nothing{}
	defer func() { err = errors.Join(err, lock.Close()) }()
	s.Lost = r.Faults
	format, err := r.Format()
	switch {
	case errors.Is(err, ErrTooNew):
		return s, errors.Join(err, r.Close())
	case err != nil:
		format = Format
		s.Lost = append(s.Lost, Loss{Lower: keyFormat, Upper: append(keyFormat[:len(keyFormat):len(keyFormat)], 0), Why: fmt.Sprintf("the format, taken to be %d: %v", Format, brief(err))})
	}
	work := dir + ".repairing"
	if err := fs.RemoveAll(work); err != nil {
		return s, errors.Join(err, r.Close())
	}
	err = s.copy(fs, work, r, format, keep)
	if err = errors.Join(err, r.Close()); err != nil {
		return s, errors.Join(fmt.Errorf("cannot write the repaired store: %w", err), fs.RemoveAll(work))
	}
	if len(s.Lost) == 0 && r.Fault == nil {
		return s, fs.RemoveAll(work)
	}
	s.Backup = unused(fs, aside)
	if err := fs.Rename(dir, s.Backup); err != nil {
		return s, fmt.Errorf("cannot move the damaged store aside: %w", err)
	}
	return s, fs.Rename(work, dir)
}

// unused returns path, with a number if there is something of that name.
func unused(fs vfs.FS, path string) string {
	name := path
	for n := 2; ; n++ {
		if _, err := fs.Stat(name); err != nil {
			return name
		}
		name = fmt.Sprintf("%s-%d", path, n)
	}
}

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
	lost := r.Walk(func(k, v []byte) {
		if bytes.Equal(k, keyFormat) {
			return
		}
		if err := keep(k, v); err != nil {
			key := append([]byte(nil), k...)
			s.Lost = append(s.Lost, Loss{Lower: key, Upper: append(key[:len(key):len(key)], 0), Why: fmt.Sprintf("key %q: %v", k, err)})
			return
		}
		s.Keys++
		if err := to.Set(k, v, pebble.NoSync); failed == nil {
			failed = err
		}
	})
	s.Lost = append(s.Lost, lost...)
	return errors.Join(failed, to.LogData(nil, pebble.Sync), to.Flush(), to.Close())
}

// quietLog drops what the Pebble of a tool says: its errors are returned.
type quietLog struct{}

func (quietLog) Infof(string, ...any)  {}
func (quietLog) Errorf(string, ...any) {}

// Fatalf implements pebble.Logger. A tool has nothing to keep alive.
func (quietLog) Fatalf(format string, args ...any) { panic(fmt.Sprintf(format, args...)) }
