package store

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
)

var crashSeeds = flag.Int("crash.seeds", 100, "power losses that TestPowerLoss tries")
var crashFirst = flag.Uint64("crash.first", 0, "the first seed; 0 = by chance")

// history is what was submitted, so that the store can be compared with the
// state after any number of submissions.
type history []change

type change struct {
	key, value string
	del        bool
}

func (h history) state(n int) string {
	m := map[string]string{}
	for _, c := range h[:n] {
		if c.del {
			delete(m, c.key)
		} else {
			m[c.key] = c.value
		}
	}
	var all []string
	for i := range crashKeys {
		if v, ok := m[crashKey(i)]; ok {
			all = append(all, crashKey(i)+"="+v)
		}
	}
	return strings.Join(all, " ")
}

// find returns a number of submissions from low to high whose state is got; -1 if there is none.
func (h history) find(got string, low, high int) int {
	for n := high; n >= low; n-- {
		if h.state(n) == got {
			return n
		}
	}
	return -1
}

const crashKeys = 24

func crashKey(i int) string { return fmt.Sprintf("u%02d", i) }

func randomChange(rng *rand.Rand, n int) change {
	c := change{key: crashKey(rng.IntN(crashKeys)), del: rng.IntN(5) == 0}
	c.value = fmt.Sprintf("%d:%s", n, strings.Repeat("v", rng.IntN(400)))
	return c
}

// TestPowerLoss cuts the power at random moments. What is there afterwards must
// be the state after some number of submissions: at least all that were
// acknowledged, and nothing out of the middle.
func TestPowerLoss(t *testing.T) {
	first := *crashFirst
	if first == 0 {
		first = uint64(time.Now().UnixNano())
	}
	for seed := first; seed < first+uint64(*crashSeeds); seed++ {
		powerLoss(t, seed, 0)
		if t.Failed() {
			t.Fatalf("replay with -crash.first=%d -crash.seeds=1", seed)
		}
	}
}

// With an interval what was acknowledged last may be lost, but nothing out of the middle.
func TestPowerLossWithInterval(t *testing.T) {
	first := uint64(time.Now().UnixNano())
	for seed := first; seed < first+uint64(*crashSeeds)/4; seed++ {
		powerLoss(t, seed, time.Millisecond)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func powerLoss(t *testing.T, seed uint64, interval time.Duration) {
	rng := rand.New(rand.NewPCG(seed, 1))
	fs := vfs.NewCrashableMem()
	var h history
	for round := range 3 {
		s, err := Open(small(Options{FS: fs, MemTable: 64 << 10, MaxGroup: 1 + rng.IntN(20), Interval: interval}))
		if err != nil {
			t.Fatalf("seed %d, round %d: %v", seed, round, err)
		}
		got := content(t, s)
		acked := 0
		if round > 0 {
			acked = int(ackedAtCrash.Load())
		}
		low := acked
		if interval > 0 {
			low = 0
		}
		n := h.find(got, low, len(h))
		if n < 0 {
			t.Errorf("seed %d, round %d: %d of %d submissions were acknowledged, and the store holds the state after none of %d to %d:\n%s", seed, round, acked, len(h), low, len(h), got)
		}
		h = h[:max(n, 0)]
		fs = s.runUntilCrash(t, rng, fs, &h)
	}
}

// ackedAtCrash is how much was acknowledged before the last crash.
var ackedAtCrash atomic.Int64

// runUntilCrash submits until the power is cut and returns what the disk has then.
func (s *Store) runUntilCrash(t *testing.T, rng *rand.Rand, fs *vfs.MemFS, h *history) *vfs.MemFS {
	var acked atomic.Int64
	acked.Store(int64(len(*h)))
	turns := 20 + rng.IntN(300)
	var crashed *vfs.MemFS
	cut := make(chan struct{})
	at := rng.IntN(turns)
	cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: rng.IntN(101), RNG: rand.New(rand.NewPCG(rng.Uint64(), 2))}
	for i := range turns {
		c := randomChange(rng, len(*h))
		*h = append(*h, c)
		n := int64(len(*h))
		told := make(chan error, 1)
		s.Commit(func(w Writer) {
			if c.del {
				w.Delete([]byte(c.key))
			} else {
				w.Set([]byte(c.key), []byte(c.value))
			}
		}, func(err error) {
			if err != nil {
				t.Errorf("commit %d: %v", n, err)
			}
			if acked.Swap(n) != n-1 {
				t.Errorf("commit %d was told out of order", n)
			}
			told <- err
		})
		if rng.IntN(4) == 0 { // let it be acknowledged
			wait(t, told)
		}
		if i == at { // while it goes on
			go func() {
				ackedAtCrash.Store(acked.Load())
				crashed = fs.CrashClone(cfg)
				close(cut)
			}()
		}
	}
	<-cut
	if err := s.Close(); err != nil {
		t.Errorf("Close: %v", err)
	}
	return crashed
}
