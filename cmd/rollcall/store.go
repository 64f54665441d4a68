package main

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/store"
	"github.com/rollcall-im/rollcall/internal/webhook"
)

func cmdStore(e env, args []string) error {
	return runAction(e, "store", []action{
		{"backup", "--to DIR [--data-dir DIR] [FLAGS]", "Copies the store of a running server to a directory that must not exist, on the server's machine. With --data-dir copies the store of a server that is stopped.\nTo restore, stop the server, move its store aside and put the copy in its place: docs/durability.md.", storeBackup},
		{"check", "[--data-dir DIR]", "Reads a store in full, checks sums and records, says what of it is lost, and changes nothing. The server must be stopped. A backup may be named with --data-dir where it lies. Exits 1 if anything is wrong.", storeCheck},
		{"dump", "[--data-dir DIR] [--only NAME]", "Prints a store's records as lines of JSON, secrets left out. The server must be stopped.", storeDump},
		{"repair", "[--data-dir DIR]", "Makes a new store of all that can be read of a damaged one, which is kept beside it, and says what is lost. The server must be stopped. Exits 1 if anything is lost. Restoring a backup may lose less.", storeRepair},
	}, args)
}

// dataDir registers --data-dir for the commands that work on a store without a server.
func dataDir(e env, fs *flag.FlagSet) *string {
	def := "/var/lib/rollcall"
	if d, ok := e.getenv("ROLLCALL_DATA_DIR"); ok && d != "" {
		def = d
	}
	return fs.String("data-dir", def, "`directory` that the server was given, or a store itself: a backup (environment ROLLCALL_DATA_DIR; serve --dev uses ./data)")
}

func storeBackup(e env, fs *flag.FlagSet, args []string) error {
	var c consoleClient
	c.register(fs)
	to := fs.String("to", "", "`directory` to make; on the server's file system the copy shares files that do not change")
	dir := fs.String("data-dir", "", "data `directory` of a server that is stopped; without it a running server is asked")
	if err := noArgs(fs, args); err != nil {
		return err
	}
	if *to == "" {
		return usagef("--to is needed: the directory to make")
	}
	abs, err := filepath.Abs(*to)
	if err != nil {
		return err
	}
	if *dir == "" {
		c.http.patient = true // to another file system all files are copied
		_, err = c.call(e, "POST", "store/backup", map[string]any{"Dir": abs})
	} else {
		err = backupStopped(*dir, abs)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "copied the store to %s\n", abs)
	return nil
}

// keepOwner returns what gives the files of a store to the store's owner: those
// that a command of root makes in it are else in the way of the server's user.
func keepOwner(dir string) (restore func() error) {
	info, err := os.Stat(dir)
	if err != nil || os.Geteuid() != 0 {
		return func() error { return nil }
	}
	was := info.Sys().(*syscall.Stat_t)
	uid, gid := int(was.Uid), int(was.Gid)
	return func() error {
		return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				err = os.Lchown(path, uid, gid)
			}
			if errors.Is(err, fs.ErrNotExist) { // a server has it open, and removes what is obsolete
				return nil
			}
			return err
		})
	}
}

func backupStopped(dataDir, to string) (err error) {
	at, err := existingStore(dataDir)
	if err != nil {
		return err
	}
	restore := keepOwner(at)
	defer func() { err = errors.Join(err, restore()) }()
	s, err := store.Open(store.Options{Dir: at, MinFree: -1, Ballast: -1})
	if errors.Is(err, store.ErrLocked) {
		return fmt.Errorf("%w, or leave --data-dir out to ask it for the copy", err)
	}
	if err != nil {
		return err
	}
	return errors.Join(backup(s, to), s.Close())
}

// backup copies a store. Its keys are for nobody else's eyes.
func backup(s *store.Store, to string) error {
	if err := s.Checkpoint(to); err != nil {
		return err
	}
	return os.Chmod(to, 0o700)
}

// storeCounts counts records by the prefix of their keys.
type storeCounts map[byte]int

func (c storeCounts) print(e env) {
	for _, p := range store.Prefixes {
		fmt.Fprintf(e.stdout, "%s: %d\n", p.Name, c[p.Prefix])
	}
}

// existingStore finds the store of a data directory, or that which the directory
// itself is.
func existingStore(dir string) (string, error) {
	at := storeDir(dir)
	if !store.Is(nil, at) && store.Is(nil, dir) {
		return dir, nil
	}
	if _, err := os.Stat(at); err != nil {
		return "", fmt.Errorf("there is no store: %w", err)
	}
	return at, nil
}

// openReader opens the store of a server that is stopped. That makes a lock.
func openReader(dir string) (*store.Reader, error) {
	at, err := existingStore(dir)
	if err != nil {
		return nil, err
	}
	restore := keepOwner(at)
	r, err := store.OpenReader(nil, at)
	return r, errors.Join(err, restore())
}

// survey is what a reading of a whole store finds.
type survey struct {
	counts storeCounts
	alive  time.Time // the last sign of life of a node
	bad    int       // records
}

// see counts a record, and reports what is wrong with it.
func (s *survey) see(key, value []byte) error {
	_, err := describeRecord(key, value)
	if err != nil {
		s.bad++
		return err
	}
	s.counts[key[0]]++
	if at, ok := embedded.SignOfLife(key, value); ok && at.After(s.alive) {
		s.alive = at
	}
	return nil
}

// describeRecord is what a record says, as a value for JSON; nil if nobody has words for it.
func describeRecord(key, value []byte) (any, error) {
	if record, err := embedded.DescribeRecord(key, value); record != nil || err != nil {
		return record, err
	}
	return webhook.DescribeRecord(key, value)
}

// lost says what a loss means for those who look at what is left.
func (s *survey) lost(l store.Loss) string {
	if l.Newest {
		if s.alive.IsZero() {
			return "all that was written last: " + l.Why
		}
		return fmt.Sprintf("all that was written after %s (the last sign of life that is left): %s", s.alive.UTC().Format(time.RFC3339), l.Why)
	}
	var all, some []string
	for _, p := range store.Prefixes {
		if p.Prefix == store.PrefixMeta {
			continue // a repair gives it a format, and a start its facts
		}
		lower, upper := store.Bounds(p.Prefix)
		switch {
		case l.Upper != nil && bytes.Compare(l.Upper, lower) <= 0 || bytes.Compare(l.Lower, upper) >= 0:
		case s.counts[p.Prefix] == 0:
			all = append(all, p.Name)
		default:
			some = append(some, p.Name)
		}
	}
	text := "facts about the node's runs"
	switch {
	case len(all) > 0 && len(some) > 0:
		text = "all there was of " + strings.Join(all, ", ") + "; some of " + strings.Join(some, ", ")
	case len(all) > 0:
		text = "all there was of " + strings.Join(all, ", ")
	case len(some) > 0:
		text = "some of " + strings.Join(some, ", ")
	}
	return text + ": " + l.Why
}

func storeCheck(e env, fs *flag.FlagSet, args []string) (err error) {
	dir := dataDir(e, fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	r, err := openReader(*dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	switch format, err := r.Format(); {
	case errors.Is(err, store.ErrTooNew):
		return err
	case err == nil:
		fmt.Fprintf(e.stdout, "format: %d\n", format)
	}
	found := survey{counts: storeCounts{}}
	lost := append(r.Faults, r.Walk(func(k, v []byte) {
		if err := found.see(k, v); err != nil {
			fmt.Fprintf(e.stderr, "bad: %v\n", err)
		}
	})...)
	found.counts.print(e)
	fault := r.Fault
	if fault == nil && len(lost) == 0 {
		fault = r.CheckLevels()
	}
	if fault != nil {
		fmt.Fprintln(e.stderr, "damaged:", strings.TrimPrefix(fault.Error(), store.ErrCorrupt.Error()+": "))
	}
	for _, l := range lost {
		fmt.Fprintln(e.stderr, "lost:", found.lost(l))
	}
	if fault != nil || len(lost) > 0 || found.bad > 0 {
		return fmt.Errorf("the store is damaged (bad records: %d, lost parts: %d); \"rollcall store repair\" keeps what can be read, restoring a backup may lose less", found.bad, len(lost))
	}
	fmt.Fprintln(e.stdout, "the store is sound")
	return nil
}

// dumped is a line of a dump.
type dumped struct {
	Kind   string
	Key    string `json:",omitempty"` // quoted as Go does, where Record is not given
	Bytes  int    // of the value
	Record any    `json:",omitempty"`
	Fault  string `json:",omitempty"`
}

func storeDump(e env, fs *flag.FlagSet, args []string) (err error) {
	dir := dataDir(e, fs)
	only := fs.String("only", "", "only the records of this `kind`: meta, users, apps, outbox, dead letters, event log")
	if err := noArgs(fs, args); err != nil {
		return err
	}
	r, err := openReader(*dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	out := bufio.NewWriter(e.stdout)
	lines, found := json.NewEncoder(out), *only == ""
	for _, p := range store.Prefixes {
		if *only != "" && *only != p.Name {
			continue
		}
		found = true
		lower, upper := store.Bounds(p.Prefix)
		var failed error
		err := r.Scan(lower, upper, func(k, v []byte) bool {
			failed = lines.Encode(dumpRecord(p.Name, k, v))
			return failed == nil
		})
		if err := cmp.Or(failed, err); err != nil {
			return errors.Join(err, out.Flush())
		}
	}
	if !found {
		return usagef("--only %q: want meta, users, apps, outbox, dead letters or event log", *only)
	}
	return out.Flush()
}

func dumpRecord(kind string, k, v []byte) dumped {
	d := dumped{Kind: kind, Bytes: len(v)}
	record, err := describeRecord(k, v)
	switch {
	case err != nil:
		d.Key, d.Fault = fmt.Sprintf("%q", k), err.Error()
	case record == nil:
		d.Key = fmt.Sprintf("%q", k)
	default:
		d.Record = record
	}
	return d
}

func storeRepair(e env, fs *flag.FlagSet, args []string) error {
	dir := dataDir(e, fs)
	if err := noArgs(fs, args); err != nil {
		return err
	}
	at, err := existingStore(*dir)
	if err != nil {
		return err
	}
	found := survey{counts: storeCounts{}}
	restore := keepOwner(at)
	s, err := store.Repair(nil, at, at+".damaged-"+time.Now().UTC().Format("20060102T150405Z"), found.see)
	if err = errors.Join(err, restore()); err != nil {
		return err
	}
	if s.Backup == "" {
		fmt.Fprintf(e.stdout, "nothing is damaged, nothing was changed\n")
		return nil
	}
	for _, l := range s.Lost {
		fmt.Fprintln(e.stderr, "lost:", found.lost(l))
	}
	fmt.Fprintln(e.stdout, "the new store holds:")
	found.counts.print(e)
	fmt.Fprintf(e.stdout, "the damaged store is %s\n", s.Backup)
	if len(s.Lost) > 0 {
		return fmt.Errorf("the store is repaired, and not all of it could be kept (lost parts: %d)", len(s.Lost))
	}
	return nil
}
