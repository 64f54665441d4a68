package enginetest

import "github.com/rollcall-im/rollcall/internal/embedded"

// Journal is a memory journal that can hold commits back: decisions are taken,
// nobody is told yet.
type Journal struct {
	holding bool
	held    []func(error)
}

var _ embedded.Journal = (*Journal)(nil)

// Commit implements embedded.Journal.
func (j *Journal) Commit(_ *embedded.Batch, done func(error)) {
	if j.holding {
		j.held = append(j.held, done)
		return
	}
	done(nil)
}

// Hold holds back commits from now on.
func (j *Journal) Hold() { j.holding = true }

// release answers what was held back and holds back no more.
func (j *Journal) release(err error) {
	j.holding = false
	held := j.held
	j.held = nil
	for _, done := range held {
		done(err)
	}
}
