package wheel

import (
	"math/rand/v2"
	"runtime"
	"syscall"
	"testing"
	"time"
)

const (
	million   = 1 << 20
	timeoutMS = 400_000
	budget    = 4096
)

// shuffled returns a million ids in random order: neighbours in time are not
// neighbours in memory.
func shuffled() []uint32 {
	ids := make([]uint32, million)
	for i, j := range rand.New(rand.NewPCG(1, 2)).Perm(million) {
		ids[i] = uint32(j)
	}
	return ids
}

// full returns a wheel with a million timers spread over the time-out.
func full(b *testing.B, ids []uint32) *Wheel {
	w := newWheel(b, Options{}, million, 0)
	for i, id := range ids {
		w.Schedule(id, int64(i)*timeoutMS/million+1)
	}
	return w
}

func BenchmarkSchedule(b *testing.B) {
	ids := shuffled()
	w := newWheel(b, Options{}, million, 0)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i%million == 0 && i > 0 {
			b.StopTimer()
			for _, id := range ids {
				w.Cancel(id)
			}
			b.StartTimer()
		}
		w.Schedule(ids[i%million], int64(i*7919)%timeoutMS)
		i++
	}
}

// BenchmarkRefresh moves timers eagerly. A heartbeat that only stores when it
// came costs the wheel nothing.
func BenchmarkRefresh(b *testing.B) {
	ids := shuffled()
	w := full(b, ids)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		w.Schedule(ids[i%million], timeoutMS+int64(i%timeoutMS))
		i++
	}
}

func BenchmarkCancel(b *testing.B) {
	ids := shuffled()
	w := full(b, ids)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if i%million == 0 && i > 0 {
			b.StopTimer()
			for k, id := range ids {
				w.Schedule(id, int64(k)*timeoutMS/million+1)
			}
			b.StartTimer()
		}
		w.Cancel(ids[i%million])
		i++
	}
}

// cpuTime is the CPU time of the process in nanoseconds: on a machine that
// others use too, it says more than the time that passes.
func cpuTime() int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// BenchmarkSteadyState is one tick of a million links that all live: each that
// comes due was heard within the last two minutes and is put off.
func BenchmarkSteadyState(b *testing.B) {
	w := full(b, shuffled())
	now, visits, heard := int64(0), 0, uint32(0)
	rearm := func(uint32) int64 {
		heard = heard*1664525 + 1013904223
		return now + timeoutMS - int64(heard>>8)%120_000
	}
	b.ReportAllocs()
	from := cpuTime()
	for b.Loop() {
		now += DefaultTickMS
		n, _ := w.Advance(now, budget, rearm)
		visits += n
	}
	b.ReportMetric(float64(visits)/float64(b.N), "visits/op")
	cpu := float64(cpuTime() - from)
	b.ReportMetric(cpu/float64(max(visits, 1)), "cpu-ns/visit")
	b.ReportMetric(cpu/float64(b.N)/(DefaultTickMS*1e6)*100, "%core")
}

// BenchmarkMassExpiry is a million links that fall silent together, in budgeted steps.
func BenchmarkMassExpiry(b *testing.B) {
	ids := shuffled()
	w := newWheel(b, Options{}, million, 0)
	now := int64(0)
	var worst time.Duration
	steps := 0
	b.ReportAllocs()
	for b.Loop() {
		b.StopTimer()
		for _, id := range ids {
			w.Schedule(id, now+timeoutMS)
		}
		now += timeoutMS
		b.StartTimer()
		for more := true; more; steps++ {
			from := time.Now()
			_, more = w.Advance(now, budget, func(uint32) int64 { return 0 })
			worst = max(worst, time.Since(from))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/timer")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(steps)/1e3, "us/step")
	b.ReportMetric(float64(worst.Nanoseconds())/1e3, "us/worst-step")
}

// BenchmarkJump is the clock leaping over an empty hour.
func BenchmarkJump(b *testing.B) {
	w := newWheel(b, Options{}, 1, 0)
	now := int64(0)
	for b.Loop() {
		now += 3_600_000
		w.Advance(now, budget, func(uint32) int64 { return 0 })
	}
}

// BenchmarkMemory reports the bytes per timer of a million.
func BenchmarkMemory(b *testing.B) {
	for b.Loop() {
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		w := New(Options{})
		w.Grow(million)
		w.Start(0)
		for id := range uint32(million) {
			w.Schedule(id, timeoutMS)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/million, "B/timer")
		runtime.KeepAlive(w)
	}
}
