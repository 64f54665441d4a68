package store

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Pebble takes some damage for something harmless, and what is left is lost for
// good as soon as it has opened the directory:
//
//   - Without the marker that names the manifest there is no store for it: it
//     makes a new one, and removes the tables and logs that it does not know.
//   - A log that is gone was not there.
//   - A fault in the last block of the last log is its end (see promised).
//   - A manifest that ends early is one whose last writes a crash cut off: the
//     tables that it does not name are removed.
//
// So a directory is looked at before Pebble may write in it, and what Pebble
// cannot know is in a note beside its files: that the store was being made, or
// what its manifest and logs were after the last opening. A store without a note
// (a crash in the middle of an opening leaves it so) is looked at less closely.
const noteFile = "OPENED"

// note is what the note says.
type note struct {
	phase string
	// With phase noteOpen: the oldest log that the manifest wanted, and the log
	// that was begun. A manifest that wants the same needs that log; one that wants
	// a later one needs that one; one that wants an earlier one has lost its end.
	oldest, log uint64
}

const (
	noteMaking = "making" // nothing was ever acknowledged: it may be begun anew
	noteOpens  = "opening"
	noteOpen   = "opened"
)

func writeNote(fs vfs.FS, dir string, n note) error {
	text := fmt.Sprintf("%s %d %d", n.phase, n.oldest, n.log)
	text += fmt.Sprintf(" %08x\n", crc32.ChecksumIEEE([]byte(text)))
	path := fs.PathJoin(dir, noteFile)
	f, err := fs.Create(path+".tmp", vfs.WriteCategoryUnspecified)
	if err != nil {
		return err
	}
	if _, err = f.Write([]byte(text)); err == nil {
		err = f.Sync()
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := fs.Rename(path+".tmp", path); err != nil {
		return err
	}
	return syncDir(fs, dir)
}

func syncDir(fs vfs.FS, dir string) error {
	d, err := fs.OpenDir(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// readNote returns the zero note if there is none that can be understood.
func readNote(fs vfs.FS, dir string) (n note) {
	f, err := fs.Open(fs.PathJoin(dir, noteFile))
	if err != nil {
		return note{}
	}
	defer f.Close()
	text, _ := io.ReadAll(io.LimitReader(f, 100))
	var sum uint32
	if got, err := fmt.Sscanf(string(text), "%s %d %d %08x\n", &n.phase, &n.oldest, &n.log, &sum); got != 4 || err != nil {
		return note{}
	}
	if crc32.ChecksumIEEE(text[:bytes.LastIndexByte(text, ' ')]) != sum {
		return note{}
	}
	return n
}

// noteOpening says that Pebble is about to open the directory.
func (s *Store) noteOpening() error {
	phase := noteOpens
	if s.fresh {
		phase = noteMaking
	}
	return writeNote(s.fs, s.opts.Dir, note{phase: phase})
}

// noteOpened says what is there now that Pebble has opened it.
func noteOpened(fs vfs.FS, dir string) error {
	oldest, err := oldestLog(fs, dir)
	if err != nil {
		return err
	}
	logs, err := logsIn(fs, dir)
	if err != nil || len(logs) == 0 {
		return err
	}
	return writeNote(fs, dir, note{noteOpen, oldest, logs[len(logs)-1]})
}

// logsIn returns the numbers of the logs, in order.
func logsIn(fs vfs.FS, dir string) (logs []uint64, err error) {
	names, err := fs.List(dir)
	for _, name := range names {
		if n, ok := logNumber(name); ok {
			logs = append(logs, n)
		}
	}
	slices.Sort(logs)
	return logs, err
}

func logNumber(name string) (uint64, bool) {
	digits, ok := strings.CutSuffix(name, ".log")
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, err == nil
}

func logName(n uint64) string { return fmt.Sprintf("%06d.log", n) }

// manifestMarker is how the file begins whose name names the manifest.
const manifestMarker = "marker.manifest."

// Is reports whether dir holds a store.
func Is(fs vfs.FS, dir string) bool {
	if fs == nil {
		fs = vfs.Default
	}
	names, err := fs.List(dir)
	return err == nil && slices.ContainsFunc(names, isMarker)
}

func isMarker(name string) bool { return strings.HasPrefix(name, manifestMarker) }

// isOurs reports whether a file is not of Pebble's.
func isOurs(name string) bool {
	switch name {
	case "LOCK", ballastFile, probeFile, noteFile, noteFile + ".tmp":
		return true
	}
	return false
}

// isFresh reports whether there is nothing in dir that a new store could take
// away. If there is, it is a store, or an error.
func isFresh(fs vfs.FS, dir string) (bool, error) {
	names, err := fs.List(dir)
	if err != nil {
		return false, err
	}
	if slices.ContainsFunc(names, isMarker) {
		return false, nil
	}
	foreign := func(name string) bool { return !isOurs(name) }
	if !slices.ContainsFunc(names, foreign) || readNote(fs, dir).phase == noteMaking {
		return true, nil
	}
	return false, errNoMarker
}

var errNoMarker = fmt.Errorf("%w: the folder holds files and no complete store (the manifest marker is missing)", ErrCorrupt)

// examine looks for the damage that Pebble does not notice.
func examine(fs vfs.FS, dir string) error {
	if !Is(fs, dir) {
		return errNoMarker
	}
	oldest, err := oldestLog(fs, dir)
	if err != nil {
		return err
	}
	logs, err := logsIn(fs, dir)
	if err != nil {
		return err
	}
	if i := len(logs) - 1; i >= 0 && logs[i] >= oldest {
		if end, err := soundPart(fs, fs.PathJoin(dir, logName(logs[i])), logs[i], true); err != nil && isDisk(err) {
			return err
		} else if err != nil {
			return fmt.Errorf("%w: %s from byte %d on: %s", ErrCorrupt, logName(logs[i]), end, brief(err))
		}
	}
	n := readNote(fs, dir)
	if n.phase != noteOpen {
		return nil
	}
	if oldest < n.oldest {
		return fmt.Errorf("%w: the manifest ends early: it wants the logs from %s on, and has wanted those from %s on", ErrCorrupt, logName(oldest), logName(n.oldest))
	}
	wanted := oldest
	if oldest == n.oldest {
		wanted = n.log
	}
	if !slices.Contains(logs, wanted) {
		return fmt.Errorf("%w: the log %s is missing", ErrCorrupt, logName(wanted))
	}
	return nil
}

// oldestLog returns the number of the oldest log that the manifest wants.
func oldestLog(fs vfs.FS, dir string) (oldest uint64, err error) {
	desc, err := pebble.Peek(dir, fs)
	if err != nil {
		return 0, describeOpen(err)
	}
	f, err := fs.Open(desc.ManifestFilename)
	if err != nil {
		return 0, describeOpen(err)
	}
	defer f.Close()
	for r := record.NewReader(f, 0); ; {
		edit, err := r.Next()
		if err != nil {
			return oldest, nil // the end, or a fault that counts as the end
		}
		if n := editLog(bufio.NewReader(edit)); n != 0 {
			oldest = n
		}
	}
}

// Tags of the fields that an edit in a manifest begins with, in this order.
const (
	tagComparer  = 1
	tagOldestLog = 2
)

// editLog returns the oldest log that an edit names, 0 if it names none.
func editLog(r *bufio.Reader) uint64 {
	tag, err := binary.ReadUvarint(r)
	if err == nil && tag == tagComparer {
		var size uint64
		if size, err = binary.ReadUvarint(r); err == nil {
			_, err = r.Discard(int(min(size, 1<<10)))
		}
		if err == nil {
			tag, err = binary.ReadUvarint(r)
		}
	}
	if err != nil || tag != tagOldestLog {
		return 0
	}
	n, err := binary.ReadUvarint(r)
	if err != nil {
		return 0
	}
	return n
}

// isDisk reports whether an error is of the disk or of rights rather than of what
// the files hold.
func isDisk(err error) bool {
	var errno syscall.Errno
	return !errors.Is(err, fs.ErrNotExist) && (errors.As(err, &errno) || errors.Is(err, fs.ErrPermission))
}

// advice is what to do about a store that does not open.
func advice(err error) error {
	switch {
	case errors.Is(err, errNoMarker):
		return fmt.Errorf("%w; nothing was changed: restore a backup, or move the folder away to begin anew", err)
	case errors.Is(err, ErrCorrupt):
		return fmt.Errorf("%w; see what is lost with \"rollcall store check\", then \"rollcall store repair\" or restore a backup", err)
	case errors.Is(err, ErrTooNew):
		return fmt.Errorf("%w; use that version, or restore a backup of this one", err)
	}
	return err
}

// describe gives Pebble's errors about the files the words of the store.
func describe(err error) error {
	switch {
	case err == nil, errors.Is(err, ErrCorrupt), errors.Is(err, ErrTooNew):
		return err
	case isTooNew(err):
		return fmt.Errorf("%w: %s", ErrTooNew, brief(err))
	case pebble.IsCorruptionError(err):
		return fmt.Errorf("%w: %s", ErrCorrupt, brief(err))
	}
	return err
}

// describeOpen is describe for what a store needs to be opened for reading, where
// all that is not the disk's fault is the files'.
func describeOpen(err error) error {
	if err = describe(err); err == nil || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrTooNew) || isDisk(err) {
		return err
	}
	return fmt.Errorf("%w: %s", ErrCorrupt, brief(err))
}

// isTooNew reports whether Pebble does not know its own format. It has no
// error of its own for that.
func isTooNew(err error) bool { return strings.Contains(err.Error(), "unknown format major version") }

// brief is an error of Pebble's in one line, without the name of the type that
// carries details.
func brief(err error) string {
	var said []string
	for _, line := range strings.Split(err.Error(), "\n") {
		line = strings.ReplaceAll(line, "<corruption detail carrier>", "")
		for _, part := range strings.Split(line, "; ") {
			part = strings.ReplaceAll(strings.Trim(part, " ;:"), "pebble: ", "")
			if part != "" && !slices.Contains(said, part) {
				said = append(said, part)
			}
		}
	}
	return strings.Join(said, "; ")
}

// corrupt is what Pebble finds damaged while it is open.
func corrupt(i pebble.DataCorruptionInfo) error {
	return fmt.Errorf("%w: %s: %s", ErrCorrupt, i.Path, brief(i.Details))
}
