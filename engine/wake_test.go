package engine

import (
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// wakeDriver runs its loop on a goroutine, only when woken: as the reactor does
// but for the ticks, which would hide a wake that got lost.
type wakeDriver struct {
	fakeDriver
	woken chan struct{}
}

func (d *wakeDriver) Wake() {
	select {
	case d.woken <- struct{}{}:
	default:
	}
}

// Whatever is posted while a loop falls asleep is worked off without another post.
func TestNoWakeIsLost(t *testing.T) {
	const rounds, posters = 5_000, 3
	r := newRig(t)
	d := &wakeDriver{woken: make(chan struct{}, 1)}
	r.loop.Attach(d)
	now := r.core.Now()
	var ran sync.WaitGroup
	ran.Go(func() {
		for range d.woken {
			if r.loop.Run(now) {
				d.Wake()
			}
		}
	})
	defer ran.Wait()
	defer close(d.woken)
	stale := []directory.Notice{{}} // link 0: counted, nothing else
	deadline := time.Now().Add(patience)
	for round := range uint64(rounds) {
		var posted sync.WaitGroup
		for range posters {
			posted.Go(func() { r.core.ForcedOffline(stale) })
		}
		posted.Wait()
		for want := (round + 1) * posters; r.core.m.noticesStale.Get() != want; {
			runtime.Gosched()
			if time.Now().After(deadline) {
				t.Fatalf("round %d: %d items worked off, %d posted", round, r.core.m.noticesStale.Get(), want)
			}
		}
	}
}
