package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/rollcall-im/rollcall/internal/embedded"
	"github.com/rollcall-im/rollcall/internal/store"
	"github.com/rollcall-im/rollcall/internal/webhook"
)

func cmdStore(e env, args []string) error {
	return runAction(e, "store", []action{
		{"backup", "--to DIR [--data-dir DIR] [FLAGS]", "Copies the store of a running server to a directory that must not exist, on the server's machine. With --data-dir copies the store of a server that is stopped.\nTo restore, stop the server, move its store aside and put the copy in its place: docs/durability.md.", storeBackup},
		{"check", "[--data-dir DIR]", "Reads a store in full, checks sums and records, and changes nothing. The server must be stopped. Exits 1 if anything is wrong.", storeCheck},
		{"dump", "[--data-dir DIR] [--only NAME]", "Prints a store's records as lines of JSON, secrets left out. The server must be stopped.", storeDump},
		{"repair", "[--data-dir DIR]", "Makes a new store of all that can be read of a damaged one, which is kept beside it, and says what is lost. The server must be stopped. Restoring a backup may lose less.", storeRepair},
	}, args)
}

// dataDir registers --data-dir for the commands that work on a store without a server.
func dataDir(e env, fs *flag.FlagSet) *string {
	def := "/var/lib/rollcall"
	if d, ok := e.getenv("ROLLCALL_DATA_DIR"); ok && d != "" {
		def = d
	}
	return fs.String("data-dir", def, "`directory` that the server was given (environment ROLLCALL_DATA_DIR; serve --dev uses ./data)")
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
	if _, err := os.Stat(storeDir(dataDir)); err != nil {
		return fmt.Errorf("there is no store: %w", err)
	}
	restore := keepOwner(storeDir(dataDir))
	defer func() { err = errors.Join(err, restore()) }()
	s, err := store.Open(store.Options{Dir: storeDir(dataDir), MinFree: -1, Ballast: -1})
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

// openReader opens the store of a server that is stopped. That makes a lock.
func openReader(dataDir string) (*store.Reader, error) {
	restore := keepOwner(storeDir(dataDir))
	r, err := store.OpenReader(nil, storeDir(dataDir))
	return r, errors.Join(err, restore())
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
	format, err := r.Format()
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "format: %d\n", format)
	if err := r.Verify(); err != nil {
		return err
	}
	counts, bad := storeCounts{}, 0
	err = r.Scan(nil, nil, func(k, v []byte) bool {
		counts[k[0]]++
		if err := checkRecord(k, v); err != nil {
			bad++
			fmt.Fprintf(e.stderr, "bad: %v\n", err)
		}
		return true
	})
	if err != nil {
		return err
	}
	counts.print(e)
	if bad > 0 {
		return fmt.Errorf("%d records are damaged; \"rollcall store repair\" leaves them out", bad)
	}
	fmt.Fprintln(e.stdout, "the store is sound")
	return nil
}

// describeRecord is what a record says, as a value for JSON; nil if it has no words for it.
func describeRecord(k, v []byte) (any, error) {
	record, err := embedded.DescribeRecord(k, v)
	if record == nil && err == nil {
		record, err = webhook.DescribeRecord(k, v)
	}
	return record, err
}

// checkRecord reports what is wrong with a record: a server would refuse the store for it.
func checkRecord(k, v []byte) error {
	_, err := describeRecord(k, v)
	return err
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
	at := storeDir(*dir)
	if _, err := os.Stat(at); err != nil {
		return fmt.Errorf("there is no store: %w", err)
	}
	restore := keepOwner(at)
	s, err := store.Repair(nil, at, at+".damaged-"+time.Now().UTC().Format("20060102T150405Z"), checkRecord)
	err = errors.Join(err, restore())
	for _, lost := range s.Lost {
		fmt.Fprintln(e.stderr, "lost:", lost)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(e.stdout, "kept %d records, lost %d parts; the damaged store is %s\n", s.Keys, len(s.Lost), s.Backup)
	return nil
}
