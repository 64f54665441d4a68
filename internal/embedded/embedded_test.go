package embedded

import (
	"fmt"
	"testing"

	"github.com/rollcall-im/rollcall/internal/directory"
	"github.com/rollcall-im/rollcall/internal/directory/directorytest"
)

// open returns a directory that is checked and closed at the end of the test.
func open(t testing.TB, o Options) *Directory {
	t.Helper()
	d, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := d.Check(); err != nil {
			t.Errorf("Check: %v", err)
		}
		if err := d.checkRest(); err != nil {
			t.Errorf("at rest: %v", err)
		}
	})
	return d
}

// checkRest proves that nothing pends anywhere.
func (d *Directory) checkRest() error {
	for i := range d.lanes {
		l := &d.lanes[i]
		if !l.atRest() || len(l.overlay) > 0 || l.pending.Load() != 0 || len(l.notices) > 0 {
			return fmt.Errorf("lane %d: at rest %t, %d users pending, %d decisions pending", i, l.atRest(), len(l.overlay), l.pending.Load())
		}
	}
	return nil
}

func TestConformance(t *testing.T) {
	for _, o := range []Options{{Shards: 1}, {Shards: 1, Step: 1}, {Shards: 64}, {}} {
		t.Run(fmt.Sprintf("shards=%d,step=%d", o.Shards, o.Step), func(t *testing.T) {
			directorytest.Run(t, func(t *testing.T, of directorytest.Options) directory.Directory {
				o := o
				o.Clock, o.Sink = of.Clock, of.Sink
				return open(t, o)
			})
		})
	}
}
