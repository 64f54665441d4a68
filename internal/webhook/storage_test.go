package webhook

import (
	"bytes"
	"errors"
	"maps"
	"slices"
	"sync"
)

// memStorage is a Storage in memory. What is committed while it holds becomes
// durable at the next release; a crash loses it.
type memStorage struct {
	mu      sync.Mutex
	visible map[string]string // what Scan shows: committed, perhaps not yet durable
	durable map[string]string
	holds   bool
	waiting []func(error) // commits that are not durable yet
	fail    error         // of every commit
	unread  error         // of every scan
	commits int
	sorted  []string // keys of visible, nil if they changed
}

func newMemStorage() *memStorage {
	return &memStorage{visible: map[string]string{}, durable: map[string]string{}}
}

// memBatch collects the changes of a commit.
type memBatch []change

func (b *memBatch) Set(key, value []byte) {
	*b = append(*b, change{bytes.Clone(key), append([]byte{}, value...)})
}
func (b *memBatch) Delete(key []byte) { *b = append(*b, change{bytes.Clone(key), nil}) }

// Commit implements Storage.
func (s *memStorage) Commit(write func(Writer), done func(error)) {
	s.mu.Lock()
	s.commits++
	if err := s.fail; err != nil {
		s.mu.Unlock()
		done(err)
		return
	}
	var b memBatch
	write(&b)
	s.applyLocked(b)
	if s.holds {
		s.waiting = append(s.waiting, done)
		s.mu.Unlock()
		return
	}
	s.durable = nil // the same as visible
	s.mu.Unlock()
	done(nil)
}

func (s *memStorage) applyLocked(b memBatch) {
	if s.holds && s.durable == nil {
		s.durable = maps.Clone(s.visible)
	}
	for _, c := range b {
		if c.value == nil {
			delete(s.visible, string(c.key))
		} else {
			s.visible[string(c.key)] = string(c.value)
		}
	}
	s.sorted = nil
}

// hold makes commits wait.
func (s *memStorage) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.holds = true
	s.durable = maps.Clone(s.visible)
}

// release makes durable what waits.
func (s *memStorage) release() {
	s.mu.Lock()
	waiting := s.waiting
	s.waiting, s.holds, s.durable = nil, false, nil
	s.mu.Unlock()
	for _, done := range waiting {
		done(nil)
	}
}

func (s *memStorage) setFail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = err
}

// crash returns what the next life finds.
func (s *memStorage) crash() *memStorage {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := newMemStorage()
	if s.durable == nil {
		next.visible = maps.Clone(s.visible)
	} else {
		next.visible = maps.Clone(s.durable)
	}
	s.fail = errors.New("this life is over")
	return next
}

// Scan implements Storage.
func (s *memStorage) Scan(lower, upper []byte, visit func(key, value []byte) bool) error {
	s.mu.Lock()
	if s.unread != nil {
		defer s.mu.Unlock()
		return s.unread
	}
	if s.sorted == nil {
		s.sorted = slices.Sorted(maps.Keys(s.visible))
	}
	from, _ := slices.BinarySearch(s.sorted, string(lower))
	to, _ := slices.BinarySearch(s.sorted, string(upper))
	type pair struct{ key, value string }
	var found []pair
	for _, k := range s.sorted[from:max(from, to)] {
		found = append(found, pair{k, s.visible[k]})
	}
	s.mu.Unlock()
	for _, p := range found {
		if !visit([]byte(p.key), []byte(p.value)) {
			break
		}
	}
	return nil
}

// made counts the commits.
func (s *memStorage) made() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commits
}

// keys counts the keys of a kind.
func (s *memStorage) keys(kind byte) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for k := range s.visible {
		if k[0] == kind {
			n++
		}
	}
	return n
}
