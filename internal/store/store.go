// Package store keeps keys and bytes on one disk so that what it acknowledged
// survives SIGKILL and power loss. It wraps Pebble and knows nothing of presence.
//
//	Commit -> queue -> committer: one batch of up to 256 -> log, synced -> done, in order
//
// # Why not db.Apply
//
// The obvious way, a synced Apply per caller, waits once per caller for the disk
// and blocks event loops. One committer that syncs a group at a time waits once
// per group, and the next group fills meanwhile.
//
// Pebble 2.1.7 calls an error of its log or manifest fatal: its own logger ends
// the process, and one that returns lets Apply return nil, which would be a
// false acknowledgement. See handle for what is done instead.
//
// # Invariants
//
//   - done(nil) is called after the sync of the group and of all groups before it
//     (with Options.Interval: after it was written; a sync follows in time).
//   - Once a handle failed, nothing that it holds is acknowledged, and it cannot
//     change a file any more.
//   - What failed is undone before anything new is committed: the caller goes on
//     from what was acknowledged, and so must the store.
//   - The order of Commit calls is the order in the log and of the dones.
//   - Commit never waits, and calls done before it returns only to refuse.
//
// Metrics, for docs/metrics.md:
//
//	rollcall_store_commits_total                   counter    submissions acknowledged
//	rollcall_store_groups_total                    counter    groups acknowledged: commits per group are commits_total / groups_total
//	rollcall_store_commit_seconds                  histogram  from a group's write to its acknowledgement
//	rollcall_store_commit_failures_total{reason}   counter    submissions not acknowledged. reason: read_only, failed (in flight when the disk failed), busy (the queue was full), closed
//	rollcall_store_disk_failures_total             counter    times the disk failed and the store turned read-only. Alarm on it
//	rollcall_store_disk_full_total                 counter    times a write found the disk full. Alarm on it
//	rollcall_store_reopens_total{result}           counter    attempts to reopen the store after a failure. result: ok, failed
//	rollcall_store_abandoned_total                 counter    handles that could not be closed after a failure
//	rollcall_store_read_only                       gauge      1 while nothing can be committed. Alarm on it
//	rollcall_store_queued                          gauge      submissions that wait for their group
//	rollcall_store_free_bytes                      gauge      free space where the store lies; -1 = unknown
//	rollcall_store_size_bytes                      gauge      disk space that the store takes
package store

import (
	"errors"
	"fmt"
	"io"
	iofs "io/fs"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/rollcall-im/rollcall/internal/clock"
	"github.com/rollcall-im/rollcall/internal/metrics"
)

// Options of a Store. The zero value of each field but Dir is its default.
type Options struct {
	Dir     string       // made if it does not exist. Required
	FS      vfs.FS       // default: the machine's
	Clock   clock.Clock  // default: the system's
	Logger  *slog.Logger // default: discards
	Metrics *metrics.Set // default: a set of its own

	// Interval, if not 0, acknowledges what is written but not yet synced, and
	// syncs that often: a crash loses up to the last Interval. Default 0: sync
	// before each acknowledgement.
	Interval time.Duration

	MaxGroup   int           // submissions per group, default 256
	GroupDelay time.Duration // longest wait for a group to fill while another is being synced, default 2 ms
	MaxQueued  int           // submissions that wait, default 65,536; those above get ErrBusy

	// MinFree is the free space below which nothing is committed, so that a full
	// disk is not met in the middle of a write. Default 64 MiB; negative: not watched.
	MinFree int64
	// Ballast is the size of a file that is removed when a write finds the disk
	// full all the same. Default 16 MiB; negative: none.
	Ballast int64
	// CheckEvery is how often free space is looked at, and a failed disk is tried. Default 1 s.
	CheckEvery time.Duration

	MemTable  uint64 // bytes of a memtable, default 16 MiB
	Cache     int64  // bytes of the block cache, default 16 MiB
	OpenFiles int    // default 128
}

func (o *Options) validate() error {
	if o.Dir == "" {
		return errors.New("store: Options.Dir is required")
	}
	setDefault(&o.MaxGroup, 256)
	setDefault(&o.GroupDelay, 2*time.Millisecond)
	setDefault(&o.MaxQueued, 65_536)
	setDefault(&o.MinFree, 64<<20)
	setDefault(&o.Ballast, 16<<20)
	setDefault(&o.CheckEvery, time.Second)
	setDefault(&o.MemTable, 16<<20)
	setDefault(&o.Cache, 16<<20)
	setDefault(&o.OpenFiles, 128)
	if o.MaxGroup < 1 || o.MaxQueued < 1 || o.OpenFiles < 16 {
		return fmt.Errorf("store: MaxGroup and MaxQueued must be at least 1 and OpenFiles 16, got %d, %d and %d", o.MaxGroup, o.MaxQueued, o.OpenFiles)
	}
	if o.Interval < 0 || o.GroupDelay < 0 || o.CheckEvery < 0 {
		return fmt.Errorf("store: times must not be negative, got Interval %s, GroupDelay %s, CheckEvery %s", o.Interval, o.GroupDelay, o.CheckEvery)
	}
	if o.FS == nil {
		o.FS = vfs.Default
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	return nil
}

func setDefault[T int | int64 | uint64 | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

// Errors. What done gets wraps one of them.
var (
	ErrReadOnly = errors.New("the store is read-only")
	ErrBusy     = errors.New("the store's queue is full")
	ErrClosed   = errors.New("the store is closed")
	// ErrCorrupt is what Open says of a store that is damaged.
	ErrCorrupt = errors.New("the store is damaged")
	// ErrLocked is what Open says of a store that somebody has open.
	ErrLocked = errors.New("another process has it open")
	// ErrTooNew is what Open says of a store that a later version has written.
	ErrTooNew = errors.New("a later version has written it")
)

// Writer takes what a submission writes. Keys and values are copied.
type Writer interface {
	Set(key, value []byte)
	Delete(key []byte)
}

// Store is an open store. Its methods may be called on any goroutine.
type Store struct {
	// Immutable after Open.
	opts   Options
	cache  *pebble.Cache
	lock   io.Closer
	fs     vfs.FS // Options.FS, which reports a full disk
	fresh  bool   // it is being made; only while opening
	meters meters

	queue queue
	space space

	// Guarded by mu.
	mu     sync.RWMutex
	handle *handle // the present one; a failed one is read until another takes its place
	state  state
	reason error // why it is read-only
	closed bool

	closing chan struct{}
	jobs    tally // goroutines that heal or retire a handle

	// Atomic.
	refuse atomic.Bool // state is not ok: Commit looks here
}

// Open opens the store in o.Dir, or makes one.
func Open(o Options) (*Store, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Store{opts: o, closing: make(chan struct{})}
	if err := s.open(); err != nil {
		return nil, fmt.Errorf("cannot open the store in %q: %w", o.Dir, advice(err))
	}
	return s, nil
}

func (s *Store) open() (err error) {
	if err := s.opts.FS.MkdirAll(s.opts.Dir, 0o700); err != nil {
		return err
	}
	if s.lock, err = lockDir(s.opts.FS, s.opts.Dir); err != nil {
		return err
	}
	if err := s.examine(); err != nil {
		return errors.Join(err, s.lock.Close())
	}
	s.cache = pebble.NewCache(s.opts.Cache)
	s.meters = newMeters(s)
	s.queue.init(s)
	s.space.init(s)
	s.fs = vfs.OnDiskFull(s.opts.FS, s.space.full)
	h, err := s.openFirst()
	if err != nil {
		s.cache.Unref()
		return errors.Join(err, s.lock.Close())
	}
	s.space.start()
	h.start()
	if err := h.isFailed(); err != nil { // by now, in the background: nobody will have s to close it
		_ = s.Close()
		return err
	}
	return nil
}

// openFirst opens the store's first handle. Pebble reads tables in the background
// from the first moment, so it may have failed before it is installed.
func (s *Store) openFirst() (*handle, error) {
	h, err := s.openHandle()
	if err != nil {
		return nil, err
	}
	if err = h.setFormat(); err == nil {
		err = s.take(h)
	}
	if err != nil {
		_ = h.discard() // err says why
		return nil, err
	}
	return h, nil
}

// examine refuses a store that is damaged before anything in it is changed.
func (s *Store) examine() (err error) {
	fs, dir := s.opts.FS, s.opts.Dir
	if s.fresh, err = isFresh(fs, dir); err != nil || s.fresh {
		return err
	}
	r, err := openReader(fs, dir)
	if err != nil {
		return err
	}
	_, err = checkFormat(r.db)
	return errors.Join(err, r.Close())
}

// lockDir takes the lock that keeps other processes out.
func lockDir(fs vfs.FS, dir string) (io.Closer, error) {
	l, err := fs.Lock(fs.PathJoin(dir, "LOCK"))
	var file *os.PathError
	switch {
	case errors.As(err, &file), errors.Is(err, iofs.ErrPermission), errors.Is(err, iofs.ErrNotExist):
		return nil, err // it could not even be made: a read-only disk, somebody else's directory
	case err != nil:
		return nil, fmt.Errorf("%w: a running server? stop it first", ErrLocked)
	}
	return l, nil
}

// Close takes no more submissions, ends those that it has and closes the store.
// It is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.closing)
	s.mu.Unlock()
	s.space.stop()
	s.queue.close()
	s.jobs.wait()
	err := s.handle.end()
	s.jobs.wait() // it may have failed at the last
	s.queue.fail(ErrClosed, s.meters.closed)
	s.cache.Unref()
	return errors.Join(err, s.lock.Close())
}

// Get returns a copy of the value of key; false if there is none.
func (s *Store) Get(key []byte) (value []byte, ok bool, err error) {
	h, err := s.acquire()
	if err != nil {
		return nil, false, err
	}
	defer h.release()
	value, ok, err = get(h.reader(), key)
	return value, ok, advice(describe(err))
}

func get(r pebble.Reader, key []byte) ([]byte, bool, error) {
	v, closer, err := r.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("cannot read key %q: %w", key, err)
	}
	value := append([]byte(nil), v...)
	return value, true, closer.Close()
}

// Scan visits the keys from lower on, before upper (nil: to the end), in order,
// as they are when it begins, until visit returns false. Key and value are valid
// during the visit only. Submissions not yet acknowledged may be seen.
func (s *Store) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	h, err := s.acquire()
	if err != nil {
		return err
	}
	defer h.release()
	return advice(describe(scan(h.reader(), lower, upper, visit)))
}

func scan(r pebble.Reader, lower, upper []byte, visit func(key, value []byte) bool) error {
	it, err := r.NewIter(&pebble.IterOptions{LowerBound: lower, UpperBound: upper})
	if err != nil {
		return err
	}
	for ok := it.First(); ok; ok = it.Next() {
		if !visit(it.Key(), it.Value()) {
			break
		}
	}
	return errors.Join(it.Error(), it.Close())
}

// Checkpoint makes a copy of the store, as it is at one moment, in a directory
// that must not exist. On the same file system it shares the files that do not change.
func (s *Store) Checkpoint(dir string) error {
	h, err := s.acquire()
	if err != nil {
		return err
	}
	defer h.release()
	if err := h.isFailed(); err != nil { // Pebble might wait for ever
		return fmt.Errorf("cannot copy the store, its disk fails: %w", err)
	}
	if err := h.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return fmt.Errorf("cannot copy the store to %q: %w", dir, err)
	}
	if err := h.isFailed(); err != nil { // then the log that was copied may have holes
		return errors.Join(fmt.Errorf("cannot copy the store to %q, its disk fails: %w", dir, err), s.opts.FS.RemoveAll(dir))
	}
	if err := noteOpened(s.opts.FS, dir); err != nil { // by which a part that gets lost is missed
		return errors.Join(fmt.Errorf("cannot copy the store to %q: %w", dir, err), s.opts.FS.RemoveAll(dir))
	}
	return nil
}

// acquire returns the handle to read from, which stays open until released.
func (s *Store) acquire() (*handle, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.closed || s.handle == nil { // it is being opened
		return nil, ErrClosed
	}
	s.handle.readers.add()
	return s.handle, nil
}

// state is what a store can do.
type state uint8

const (
	stateOK     state = iota
	stateFull         // too little free space; becomes ok when there is enough
	stateFailed       // the disk failed; becomes ok when the store could be reopened
	stateDead         // read-only until the process is started again
)

// Health says how the store is.
type Health struct {
	ReadOnly bool
	Reason   string // why, "" if it is not
	Free     int64  // bytes; -1 = unknown
	Queued   int
}

// Health returns how the store is.
func (s *Store) Health() Health {
	s.mu.RLock()
	defer s.mu.RUnlock()
	h := Health{ReadOnly: s.state != stateOK, Free: s.space.free.Load(), Queued: s.queue.len()}
	if s.reason != nil {
		h.Reason = s.reason.Error()
	}
	return h
}

// turn changes the state; reason says why it is not ok.
func (s *Store) turn(to state, reason error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turnLocked(to, reason)
}

func (s *Store) turnLocked(to state, reason error) {
	was := s.state
	s.state, s.reason = to, reason
	s.refuse.Store(to != stateOK)
	switch {
	case was == to:
	case to == stateOK:
		s.opts.Logger.Info("the store takes writes again")
	default:
		s.opts.Logger.Error("the store is read-only: logins and changes are refused, links and queries go on", "reason", reason)
	}
}

// parseFormat reads what checkFormat wrote.
func parseFormat(v []byte) (int, error) {
	n, err := strconv.Atoi(string(v))
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%w: its format is %q", ErrCorrupt, v)
	}
	return n, nil
}

// meters are the store's metrics; the package comment lists them.
type meters struct {
	commits, groups                *metrics.Counter
	seconds                        *metrics.Histogram
	readOnly, failed, busy, closed *metrics.Counter
	diskFailures, diskFull         *metrics.Counter
	reopened, notReopened          *metrics.Counter
	abandoned                      *metrics.Counter
}

func newMeters(s *Store) meters {
	set := s.opts.Metrics
	failures := func(reason string) *metrics.Counter {
		return set.Counter(`rollcall_store_commit_failures_total{reason="` + reason + `"}`)
	}
	set.Gauge("rollcall_store_read_only", func() float64 {
		if s.refuse.Load() {
			return 1
		}
		return 0
	})
	set.Gauge("rollcall_store_queued", func() float64 { return float64(s.queue.len()) })
	set.Gauge("rollcall_store_free_bytes", func() float64 { return float64(s.space.free.Load()) })
	set.Gauge("rollcall_store_size_bytes", s.size)
	return meters{
		commits: set.Counter("rollcall_store_commits_total"), groups: set.Counter("rollcall_store_groups_total"),
		seconds:  set.Histogram("rollcall_store_commit_seconds"),
		readOnly: failures("read_only"), failed: failures("failed"), busy: failures("busy"), closed: failures("closed"),
		diskFailures: set.Counter("rollcall_store_disk_failures_total"), diskFull: set.Counter("rollcall_store_disk_full_total"),
		reopened:    set.Counter(`rollcall_store_reopens_total{result="ok"}`),
		notReopened: set.Counter(`rollcall_store_reopens_total{result="failed"}`),
		abandoned:   set.Counter("rollcall_store_abandoned_total"),
	}
}

// size is the disk space that the store takes.
func (s *Store) size() float64 {
	h, err := s.acquire()
	if err != nil {
		return 0
	}
	defer h.release()
	return float64(h.db.Metrics().DiskSpaceUsage())
}
