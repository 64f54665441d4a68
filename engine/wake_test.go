package engine

import (
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollcall-im/rollcall/internal/directory"
)

// wakeDriver runs its loop on a goroutine, only when woken: as the reactor does
// but for the ticks, which would hide a wake that got lost.
type wakeDriver struct {
	fakeDriver
	woken atomic.Bool
}

func (d *wakeDriver) Wake() { d.woken.Store(true) }

// Whatever is posted while a loop falls asleep is worked off without another
// post. The second of two posts is sent at a random moment behind the first, so
// that some fall between the loop's last look at its queue and its sleep.
func TestNoWakeIsLost(t *testing.T) {
	const rounds, enough = 500_000, 2 * time.Second // the race detector does fewer
	r := newRig(t)
	d := &wakeDriver{}
	r.loop.Attach(d)
	now := r.core.Now()
	var ran sync.WaitGroup
	var stop atomic.Bool
	ran.Go(func() {
		for !stop.Load() {
			if d.woken.Swap(false) && r.loop.Run(now) {
				d.Wake()
			}
			runtime.Gosched()
		}
	})
	defer ran.Wait()
	defer stop.Store(true)
	stale := []directory.Notice{{}} // link 0: counted, nothing else
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	start := time.Now()
	for round := range uint64(rounds) {
		if time.Since(start) > enough {
			break
		}
		r.core.ForcedOffline(stale)
		for range rng.Uint32N(400) {
			_ = stop.Load()
		}
		r.core.ForcedOffline(stale)
		for r.core.m.noticesStale.Get() != 2*(round+1) {
			if time.Since(start) > patience {
				t.Fatalf("seed %d, round %d: %d items worked off, %d posted", seed, round, r.core.m.noticesStale.Get(), 2*(round+1))
			}
			runtime.Gosched()
		}
	}
}
