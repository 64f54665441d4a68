package engine

import (
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/rollcall-im/rollcall/internal/presence"
)

// dueLinks is the number of links of the time-out benchmarks.
const dueLinks = 1 << 20

// onlineRig is a loop with dueLinks links that are logged in, whose heartbeats
// came at random times within the last two minutes; their conns are one.
func onlineRig(b *testing.B) *rig {
	r := quietRig(b)
	r.core.o.MaxLinks = dueLinks // more than files may be open: these have none
	r.fill(&quietConn{})
	return r
}

// fill opens links until there are dueLinks, in random order of their slots in time.
func (r *rig) fill(c Conn) {
	rng := rand.New(rand.NewPCG(1, 2))
	now := r.core.Now()
	first := r.core.Links() == 0
	for range dueLinks - r.core.Links() {
		s, _ := r.loop.Open(c, 0, now)
		r.loop.authenticated(s)
		s.state, s.until = stateOnline, 400_000
		s.user, s.platform, s.app = "user-00000000000", presence.Android, testApp
	}
	for _, slot := range rng.Perm(dueLinks) {
		if s := r.loop.slab.at(uint32(slot)); first || s.seen == moment(now.MonoMS) {
			s.seen = moment(now.MonoMS - rng.Int64N(120_000))
			r.loop.wheel.Schedule(s.id.Slot(), r.loop.nextVisit(s))
		}
	}
}

// threadCPU is the CPU time of the thread, in ns. The caller has locked itself to it.
func threadCPU(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

// BenchmarkDueAlive is a tick of a million links that beat every two minutes:
// the timers of some thousand a second come due and are put off.
func BenchmarkDueAlive(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := onlineRig(b)
	order := rand.New(rand.NewPCG(3, 4)).Perm(dueLinks)
	beat := 0
	now := r.core.Now()
	tick := func() int64 {
		now.MonoMS += 128
		for range dueLinks*128/120_000 + 1 { // each link every 120 s
			r.loop.slab.at(uint32(order[beat%dueLinks])).seen = moment(now.MonoMS)
			beat++
		}
		from := threadCPU(b)
		for r.loop.Run(now) {
		}
		return threadCPU(b) - from
	}
	for range 401_000 / 128 { // until then timers stand where fill put them
		tick()
	}
	b.ReportAllocs()
	var cpu, worst int64
	for b.Loop() {
		took := tick()
		cpu += took
		worst = max(worst, took)
	}
	if n := r.core.Links(); n != dueLinks {
		b.Fatalf("%d links of %d are left", n, dueLinks)
	}
	b.ReportMetric(float64(worst)/1e3, "cpu-us/worst-tick")
	b.ReportMetric(float64(cpu)/float64(b.N)/128e6*100, "%core")
}

// BenchmarkDueSilent is a million links that fall silent together.
func BenchmarkDueSilent(b *testing.B) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := onlineRig(b)
	b.ReportAllocs()
	var cpu, worst, steps int64
	for b.Loop() {
		r.clk.Advance(401 * time.Second)
		now := r.core.Now()
		for more := true; more; steps++ {
			from := threadCPU(b)
			more = r.loop.Run(now)
			took := threadCPU(b) - from
			cpu += took
			worst = max(worst, took)
		}
		if n := r.core.Links(); n != 0 {
			b.Fatalf("%d links are left", n)
		}
		b.StopTimer()
		r.fill(&quietConn{})
		b.StartTimer()
	}
	b.ReportMetric(float64(cpu)/float64(b.N*dueLinks), "cpu-ns/link")
	b.ReportMetric(float64(cpu)/float64(steps)/1e3, "cpu-us/step")
	b.ReportMetric(float64(worst)/1e3, "cpu-us/worst-step")
}
