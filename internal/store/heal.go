package store

import (
	"errors"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

// failed turns the store read-only because its handle failed, and sets about
// opening another one. A handle that fails while it is being opened is not the
// store's yet: whoever opens it sees to that.
func (s *Store) failed(h *handle, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handle != h {
		return
	}
	s.meters.diskFailures.Inc()
	s.turnLocked(stateFailed, err)
	s.jobs.add()
	h.readers.add()
	go s.heal(h)
}

// readOnly is what a refused submission is told.
func (s *Store) readOnly() error {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if s.reason == nil {
		return ErrReadOnly
	}
	return fmt.Errorf("%w: %w", ErrReadOnly, s.reason)
}

// heal tells what failed with the handle, then tries until another handle is
// open and holds exactly what was acknowledged.
func (s *Store) heal(h *handle) {
	defer s.jobs.done()
	s.queue.serve(nil) // h's committer takes nothing more
	h.telling.Lock()   // what is being told is told; nothing is acknowledged after it
	//lint:ignore SA2001 an empty section is what is meant
	h.telling.Unlock()
	restore, err := h.restoration()
	switch failed := h.isFailed(); {
	case err != nil:
		s.turn(stateDead, fmt.Errorf("%w; what failed cannot be undone (%w): start the server again", failed, err))
	case pebble.IsCorruptionError(failed) || errors.Is(failed, ErrCorrupt):
		s.turn(stateDead, fmt.Errorf("%w; stop the server and see \"rollcall store check\"", failed))
		err = failed
	}
	h.tellFailed()
	h.release() // Close may have waited for it
	s.queue.fail(s.readOnly(), s.meters.readOnly)
	if err != nil {
		return
	}
	for wait := s.opts.CheckEvery; s.pause(wait); {
		if s.space.check(); s.space.short() {
			continue
		}
		err := s.reopen(h, restore)
		if err == nil {
			return
		}
		s.meters.notReopened.Inc()
		s.opts.Logger.Warn("the store cannot be opened again yet", "error", err)
		wait = min(2*wait, maxHealWait)
	}
}

// maxHealWait is the longest wait between two attempts to reopen.
const maxHealWait = 30 * time.Second

// pause waits; false if the store is being closed.
func (s *Store) pause(d time.Duration) bool {
	over := make(chan struct{})
	timer := s.opts.Clock.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	select {
	case <-over:
		return true
	case <-s.closing:
		return false
	}
}

// keyValue is a key with the value that it is to have, if it is to have one.
type keyValue struct {
	key, value []byte
	has        bool
}

// restoration is what the keys of groups that failed, or were acknowledged and
// may not be on the disk, had after the last acknowledged group.
func (h *handle) restoration() (restore []keyValue, err error) {
	h.mu.Lock()
	groups := append(append([]*group(nil), h.unsynced...), h.inFlight...)
	acked := h.acked
	h.mu.Unlock()
	seen := map[string]struct{}{}
	for _, g := range groups {
		for keys := g.keys; ; {
			_, key, _, more, err := keys.Next()
			if err != nil {
				return nil, err
			}
			if !more {
				break
			}
			if _, twice := seen[string(key)]; twice {
				continue
			}
			seen[string(key)] = struct{}{}
			kv := keyValue{key: append([]byte(nil), key...)}
			if kv.value, kv.has, err = get(acked, key); err != nil {
				return nil, err
			}
			restore = append(restore, kv)
		}
	}
	return restore, nil
}

// tellFailed tells the submissions in flight that they failed.
func (h *handle) tellFailed() {
	err := h.s.readOnly()
	h.mu.Lock()
	groups := append([]*group(nil), h.inFlight...)
	h.mu.Unlock()
	for _, g := range groups {
		h.s.tell(g.subs, err, h.s.meters.failed)
	}
}

// reopen opens another handle in the place of the failed one, if the disk is
// well.
func (s *Store) reopen(old *handle, restore []keyValue) error {
	if err := s.space.probe(); err != nil {
		return fmt.Errorf("the disk does not take writes: %w", err)
	}
	h, err := s.openHandle()
	if err != nil {
		return err
	}
	if err := h.restore(restore); err != nil {
		return errors.Join(err, h.discard())
	}
	if err := s.install(h); err != nil {
		return errors.Join(err, h.discard())
	}
	s.meters.reopened.Inc()
	h.start()
	s.space.layBallast() // the disk was full perhaps
	s.jobs.add()
	go s.retire(old)
	return nil
}

// take makes h the store's handle, unless it has failed already.
func (s *Store) take(h *handle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.takeLocked(h)
}

func (s *Store) takeLocked(h *handle) error {
	if err := h.isFailed(); err != nil {
		return err
	}
	s.handle = h
	return nil
}

// install takes h, and the store takes writes again.
func (s *Store) install(h *handle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.takeLocked(h); err != nil {
		return err
	}
	s.turnLocked(stateOK, nil)
	return nil
}

// discard closes a handle that was never started.
func (h *handle) discard() error {
	h.fence.cut()
	close(h.fence.gone)
	if h.stuck {
		h.s.meters.abandoned.Inc()
		return nil
	}
	return h.closeDB()
}

// restore writes what the failed handle had acknowledged over what it had not,
// and waits until that is durable.
func (h *handle) restore(list []keyValue) (err error) {
	defer func() {
		if p := recover(); p != nil {
			h.stuck = true
			err = fmt.Errorf("the restoring commit panicked: %v", p)
		}
	}()
	b := h.db.NewBatch()
	for _, kv := range list {
		if kv.has {
			writer{b}.Set(kv.key, kv.value)
		} else {
			writer{b}.Delete(kv.key)
		}
	}
	if err := h.db.ApplyNoSyncWait(b, pebble.Sync); err != nil {
		return err
	}
	if err := b.SyncWait(); err != nil {
		return err
	}
	return errors.Join(h.isFailed(), b.Close())
}

// retire closes a failed handle when nobody reads from it any more.
func (s *Store) retire(h *handle) {
	defer s.jobs.done()
	err := h.end()
	s.opts.Logger.Debug("the failed handle was closed", "error", err)
}
