package store

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/batchrepr"

	"github.com/rollcall-im/rollcall/internal/metrics"
)

// handle is one opening of the store's directory, with the goroutines that
// commit through it. When the disk fails a handle fails for good and another is
// opened in its place; the links of the node do not notice.
//
// A handle learns of a failure from the sync of its log, from Pebble's logger (an
// error that Pebble calls fatal), from a panic of the commit, and from an error of
// a flush or compaction. Whichever is first cuts its fence before Pebble goes on,
// so that nothing it does afterwards can reach a file.
//
// To undo what failed, a handle keeps a snapshot after each group: that of the
// last acknowledged group has the values that the keys of later ones had.
type handle struct {
	// Immutable after openHandle.
	s     *Store
	db    *pebble.DB
	fence *fence

	readers tally       // who must not find it closed
	written chan *group // in order, for the acknowledger

	committerDone, ackerDone, syncerDone chan struct{}

	down chan struct{} // closed when it has failed

	telling sync.Mutex // held while a group is taken out of flight and told

	// Guarded by mu.
	mu       sync.Mutex
	failed   error
	inFlight []*group // written or being written, not acknowledged
	unsynced []*group // acknowledged, with Options.Interval, and not yet synced
	acked    *pebble.Snapshot
	dirty    chan struct{} // there is something to sync
	stuck    bool          // a commit panicked inside Pebble, which holds its locks now
}

// group is what is committed together.
type group struct {
	subs  []submission
	batch *pebble.Batch
	keys  batchrepr.Reader // what it writes
	after *pebble.Snapshot // the state with it
	began time.Time
}

// pebbleFormat pins the format of Pebble's files, so that a newer Pebble does
// not make a store unreadable for the release before.
const pebbleFormat = pebble.FormatValueSeparation

// openHandle opens the directory. The handle does nothing before start.
func (s *Store) openHandle() (*handle, error) {
	h := &handle{
		s:             s,
		written:       make(chan *group, maxInFlight),
		committerDone: make(chan struct{}), ackerDone: make(chan struct{}), syncerDone: make(chan struct{}),
		dirty: make(chan struct{}, 1), down: make(chan struct{}),
	}
	h.fence = newFence(s.fs, s.opts.FS, s.opts.Dir, h.fail)
	if err := s.noteOpening(); err != nil {
		return nil, err
	}
	h.fence.opening.Store(true)
	db, err := pebble.Open(s.opts.Dir, h.options())
	h.fence.opening.Store(false)
	if err != nil {
		return nil, describe(err)
	}
	h.db = db
	if err := h.isFailed(); err != nil { // its log's errors do not show otherwise
		return nil, errors.Join(err, h.discard())
	}
	if err := noteOpened(s.fs, s.opts.Dir); err != nil {
		return nil, errors.Join(err, h.discard())
	}
	s.fresh = false
	return h, nil
}

func (h *handle) options() *pebble.Options {
	o := &h.s.opts
	p := &pebble.Options{
		FS: h.fence, Cache: h.s.cache, FormatMajorVersion: pebbleFormat,
		ErrorIfNotExists: !h.s.fresh, // somebody removed it
		MemTableSize:     o.MemTable, MemTableStopWritesThreshold: 4, MaxOpenFiles: o.OpenFiles,
		Logger: pebbleLog{h},
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) { h.fail(fmt.Errorf("in the background: %w", err)) },
			DataCorruption:  func(i pebble.DataCorruptionInfo) { h.fail(corrupt(i)) },
		},
	}
	return p
}

// checkFormat refuses a store of a later format, and says whether it has none
// because it is empty.
func checkFormat(r pebble.Reader) (empty bool, err error) {
	v, ok, err := get(r, keyFormat)
	if err != nil {
		return false, describe(err)
	}
	if !ok {
		empty = true
		err := scan(r, nil, nil, func(_, _ []byte) bool { empty = false; return false })
		if err == nil && !empty {
			err = fmt.Errorf("%w: it has keys and no format", ErrCorrupt)
		}
		return empty, describe(err)
	}
	n, err := parseFormat(v)
	if err == nil && n > Format {
		err = fmt.Errorf("%w: its format is %d and this version knows formats up to %d", ErrTooNew, n, Format)
	}
	return false, err
}

// setFormat checks the format, and writes ours into a new store.
func (h *handle) setFormat() error {
	empty, err := checkFormat(h.db)
	if err != nil || !empty {
		return err
	}
	if err := h.db.Set(keyFormat, []byte(strconv.Itoa(Format)), pebble.Sync); err != nil {
		return err
	}
	// The first log of a new Pebble is of its oldest format, in which a damaged
	// middle passes for the end. A flush begins another one.
	return h.db.Flush()
}

// start begins to commit.
func (h *handle) start() {
	now := h.db.NewSnapshot()
	h.mu.Lock()
	h.acked = now
	h.mu.Unlock()
	h.s.queue.serve(h)
	go h.commitLoop()
	go h.ackLoop()
	go h.syncLoop()
}

// writer is the Writer of a batch. A batch in memory cannot fail.
type writer struct{ b *pebble.Batch }

func (w writer) Set(key, value []byte) { _ = w.b.Set(key, value, nil) }

func (w writer) Delete(key []byte) { _ = w.b.Delete(key, nil) }

// commitLoop is the committer: it writes one group after the other to the log.
func (h *handle) commitLoop() {
	defer close(h.committerDone)
	defer close(h.written)
	for subs := h.s.queue.next(h); subs != nil; subs = h.s.queue.next(h) {
		g := &group{subs: subs, batch: h.db.NewBatch(), began: time.Now()}
		for i := range subs {
			subs[i].write(writer{g.batch})
		}
		g.keys = g.batch.Reader()
		if err := h.take(g); err != nil {
			h.s.tell(subs, h.s.readOnly(), h.s.meters.readOnly)
			return
		}
		if err := h.write(g); err != nil {
			h.fail(err)
			return
		}
		h.written <- g
	}
}

// take puts the group in flight: from now on it fails with the handle.
func (h *handle) take(g *group) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed == nil {
		h.inFlight = append(h.inFlight, g)
	}
	return h.failed
}

// write writes the group to the log and the memtable. Pebble panics if it
// cannot begin a new log.
func (h *handle) write(g *group) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the commit panicked: %v", p)
			h.mu.Lock()
			h.stuck = true
			h.mu.Unlock()
		}
	}()
	if h.s.opts.Interval > 0 {
		err = h.db.Apply(g.batch, pebble.NoSync)
	} else {
		err = h.db.ApplyNoSyncWait(g.batch, pebble.Sync)
	}
	if err == nil {
		g.after = h.db.NewSnapshot()
	}
	return err
}

// ackLoop acknowledges the groups in order.
func (h *handle) ackLoop() {
	defer close(h.ackerDone)
	for g := range h.written {
		if h.s.opts.Interval == 0 {
			if err := g.batch.SyncWait(); err != nil {
				h.fail(fmt.Errorf("cannot write the log: %w", err))
				return
			}
		}
		if !h.land(g) {
			return
		}
	}
}

// land takes the oldest group out of flight: it is acknowledged. Not so if the
// handle failed: then it may be durable, and nobody must rely on it.
func (h *handle) land(g *group) bool {
	h.telling.Lock()
	defer h.telling.Unlock()
	before, ok := h.advance(g)
	if !ok {
		return false
	}
	h.s.queue.landed(h)
	h.s.meters.seconds.Update(time.Since(g.began).Seconds())
	h.s.meters.groups.Inc()
	h.s.tell(g.subs, nil, h.s.meters.commits)
	before.Close()
	if h.s.opts.Interval == 0 {
		g.batch.Close()
		return true
	}
	select {
	case h.dirty <- struct{}{}:
	default:
	}
	return true
}

// tell ends submissions in their order.
func (s *Store) tell(subs []submission, err error, counter *metrics.Counter) {
	counter.Add(len(subs))
	for i := range subs {
		subs[i].done(err)
	}
}

// advance makes g the last acknowledged group. Nothing of Pebble is called with
// mu held: Pebble calls fail with its own locks held.
func (h *handle) advance(g *group) (before *pebble.Snapshot, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return nil, false
	}
	h.inFlight[0] = nil
	h.inFlight = h.inFlight[1:]
	before, h.acked = h.acked, g.after
	if h.s.opts.Interval > 0 {
		h.unsynced = append(h.unsynced, g)
	}
	return before, true
}

// syncLoop syncs what Interval acknowledged before.
func (h *handle) syncLoop() {
	defer close(h.syncerDone)
	for range h.dirty {
		h.s.pause(h.s.opts.Interval)
		if err := h.sync(); err != nil {
			h.fail(err)
			return
		}
	}
}

func (h *handle) sync() (err error) {
	h.mu.Lock()
	n, failed := len(h.unsynced), h.failed
	h.mu.Unlock()
	if failed != nil {
		return failed
	}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the sync panicked: %v", p)
		}
	}()
	if err := h.db.LogData(nil, pebble.Sync); err != nil {
		return fmt.Errorf("cannot sync the log: %w", err)
	}
	synced, err := h.takeSynced(n)
	for _, g := range synced {
		g.batch.Close()
	}
	return err
}

// takeSynced forgets the n oldest groups that waited for a sync.
func (h *handle) takeSynced(n int) ([]*group, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil {
		return nil, h.failed
	}
	synced := h.unsynced[:n]
	h.unsynced = append([]*group(nil), h.unsynced[n:]...)
	return synced, nil
}

// fail ends the handle, once. It may be called with Pebble's locks held, so it
// does no more than to see that nothing is acknowledged or written from now on.
//
// The order is what counts: a write that the cut fence swallows must find the
// handle failed when it is to be acknowledged.
func (h *handle) fail(err error) {
	h.mu.Lock()
	first := h.failed == nil
	if first {
		h.failed = err
	}
	h.mu.Unlock()
	h.fence.cut()
	if first {
		h.s.failed(h, err)
		close(h.down)
	}
}

func (h *handle) release() { h.readers.done() }

// reader is what a reader of the handle is to see: of a failed one what was
// acknowledged, not what is about to be undone.
func (h *handle) reader() pebble.Reader {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.failed != nil && h.acked != nil {
		return h.acked
	}
	return h.db
}

func (h *handle) isFailed() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.failed
}

// end stops the goroutines, when they have committed what the queue holds, and
// closes the handle. The queue is closed.
func (h *handle) end() error {
	close(h.fence.gone)
	if !h.rest() {
		h.s.meters.abandoned.Inc()
		return h.isFailed()
	}
	if h.s.opts.Interval > 0 && h.isFailed() == nil {
		if err := h.sync(); err != nil {
			h.fail(err)
		}
	}
	h.readers.wait()
	return errors.Join(h.isFailed(), h.closeDB())
}

// rest waits until the handle's goroutines have ended. It is false if they will
// not: after a failure a commit may wait inside Pebble for a flush that cannot
// come, or have left Pebble's locks taken.
func (h *handle) rest() bool {
	select {
	case <-h.committerDone:
	case <-h.down:
		select {
		case <-h.committerDone:
		case <-time.After(restLimit):
			return false
		}
	}
	<-h.ackerDone
	close(h.dirty)
	h.mu.Lock()
	stuck := h.stuck
	h.mu.Unlock()
	if !stuck {
		<-h.syncerDone
	}
	return !stuck
}

// restLimit is how long a failed handle may take to come to rest.
const restLimit = 5 * time.Second

// closeDB closes Pebble. Nobody uses it any more.
func (h *handle) closeDB() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("closing the store panicked: %v", p)
		}
	}()
	h.mu.Lock()
	snaps := []*pebble.Snapshot{h.acked}
	for _, g := range h.inFlight {
		snaps = append(snaps, g.after)
	}
	h.mu.Unlock()
	for _, snap := range snaps {
		if snap != nil {
			snap.Close()
		}
	}
	return h.db.Close()
}

// pebbleLog is the logger of one handle's Pebble.
type pebbleLog struct{ h *handle }

// Infof implements pebble.Logger.
func (l pebbleLog) Infof(format string, args ...any) {
	l.h.s.opts.Logger.Debug("pebble: " + fmt.Sprintf(format, args...))
}

// Errorf implements pebble.Logger.
func (l pebbleLog) Errorf(format string, args ...any) {
	l.h.s.opts.Logger.Warn("pebble: " + fmt.Sprintf(format, args...))
}

// Fatalf implements pebble.Logger. Pebble takes it that this does not return,
// and goes on as if nothing had happened: the fence is cut before it does.
func (l pebbleLog) Fatalf(format string, args ...any) {
	l.h.fail(fmt.Errorf(format, args...))
}
