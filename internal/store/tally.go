package store

import "sync"

// tally counts those who are at something, and lets others wait until nobody is.
// Unlike a sync.WaitGroup it may be added to while somebody waits: a handle may
// fail, which sets people to work, at any moment until it is closed.
type tally struct {
	// Guarded by mu.
	mu   sync.Mutex
	n    int
	none chan struct{} // closed when n is 0 again; nil if nobody waits
}

func (t *tally) add() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.n++
}

func (t *tally) done() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.n--; t.n == 0 && t.none != nil {
		close(t.none)
		t.none = nil
	}
}

// wait returns at a moment at which nobody is counted.
func (t *tally) wait() {
	t.mu.Lock()
	if t.n == 0 {
		t.mu.Unlock()
		return
	}
	if t.none == nil {
		t.none = make(chan struct{})
	}
	none := t.none
	t.mu.Unlock()
	<-none
}
