package store

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/cockroachdb/pebble/v2/record"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// openDamaged opens for reading what can be read of a store, damaged or not.
func openDamaged(fs vfs.FS, dir string) (*Reader, error) {
	r, err := openReader(fs, dir)
	if err == nil || !errors.Is(err, ErrCorrupt) {
		return r, err
	}
	part := &undamaged{FS: fs, ends: map[string]int64{}}
	fault, lerr := part.cutLogs(dir)
	if lerr != nil {
		return nil, errors.Join(err, lerr)
	}
	r, rerr := openFiles(part, dir, true)
	if rerr != nil {
		return nil, err
	}
	r.Fault = err
	if examined := examine(fs, dir); fault == "" && examined != nil {
		fault = why(examined)
	}
	if fault != "" {
		r.Faults = append(r.Faults, Loss{Newest: true, Why: fault})
	}
	return r, nil
}

// why is an error without the words that all of them have.
func why(err error) string { return strings.TrimPrefix(brief(err), ErrCorrupt.Error()+": ") }

// undamaged is a file system that shows of a store what Pebble can open: not the
// options, which hold nothing of it, and of the logs what is before the first fault.
type undamaged struct {
	vfs.FS
	ends map[string]int64 // sizes that files are shown with, by name
	last uint64           // no log behind this one is shown
}

// cutLogs finds the first fault in the logs, and says what it is; "" if there is none.
func (p *undamaged) cutLogs(dir string) (fault string, err error) {
	p.last = 1<<64 - 1
	logs, err := logsIn(p.FS, dir)
	if err != nil {
		return "", err
	}
	oldest, err := oldestLog(p.FS, dir)
	if err != nil {
		return "", err
	}
	for i, n := range logs {
		if n < oldest {
			continue
		}
		end, err := soundPart(p.FS, p.FS.PathJoin(dir, logName(n)), n, i == len(logs)-1)
		if err == nil {
			continue
		}
		p.ends[logName(n)], p.last = end, n
		fault = fmt.Sprintf("%s is damaged from byte %d on: %s", logName(n), end, brief(err))
		if i < len(logs)-1 {
			fault += fmt.Sprintf("; the %d logs that follow it are left out", len(logs)-1-i)
		}
		return fault, nil
	}
	return "", nil
}

// soundPart reads a log to its end, or to a fault and returns where that begins. The
// last log may end in a write that a crash cut off.
func soundPart(fs vfs.FS, path string, n uint64, last bool) (end int64, err error) {
	f, err := fs.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := newLogReader(record.NewReader, f, n)
	for {
		end = r.Offset()
		entry, err := r.Next()
		if err == nil {
			_, err = io.Copy(io.Discard, entry)
		}
		switch {
		case err == nil:
		case err == io.EOF:
			return end, nil
		case errors.Is(err, record.ErrUnexpectedEOF) && last:
			whole, perr := promised(f, n, end)
			if whole {
				perr = errMiddle
			}
			return end, perr
		default:
			return end, err
		}
	}
}

var errMiddle = errors.New("invalid, and it was durable once")

// newLogReader calls record.NewReader, whose number has a type that cannot be named here.
func newLogReader[N ~uint64](open func(io.Reader, N) *record.Reader, r io.Reader, n uint64) *record.Reader {
	return open(r, N(n))
}

// List implements vfs.FS.
func (p *undamaged) List(dir string) ([]string, error) {
	all, err := p.FS.List(dir)
	var shown []string
	for _, name := range all {
		if n, ok := logNumber(name); isOptions(p.FS, name) || ok && n > p.last {
			continue
		}
		shown = append(shown, name)
	}
	return shown, err
}

// Open implements vfs.FS.
func (p *undamaged) Open(name string, o ...vfs.OpenOption) (vfs.File, error) {
	f, err := p.FS.Open(name, o...)
	if end, ok := p.ends[p.PathBase(name)]; ok && err == nil {
		return &soundFile{File: f, left: end}, nil
	}
	return f, err
}

// Unwrap implements vfs.FS.
func (p *undamaged) Unwrap() vfs.FS { return p.FS }

// soundFile is the beginning of a log.
type soundFile struct {
	vfs.File
	left int64
}

// Read implements vfs.File. Logs are read from the beginning on.
func (f *soundFile) Read(p []byte) (int, error) {
	if f.left == 0 {
		return 0, io.EOF
	}
	n, err := f.File.Read(p[:min(int64(len(p)), f.left)])
	f.left -= int64(n)
	return n, err
}
